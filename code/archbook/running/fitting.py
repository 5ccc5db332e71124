"""One training loop for all experiments that count steps; who counts epochs says why beside it."""

import copy
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from archbook.running import parallel
from archbook.running.run import Run
from archbook.running.search import Best

POINTS = 50  # of the curve

Model = TypeVar("Model", bound=nn.Module)
Rule = tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]


def warmed_cosine(steps: int) -> Callable[[int], float]:
    """Factor of the learning rate at a step: up over a twentieth of them, down along a cosine."""
    warm = max(1, steps // 20)

    def rate(step: int) -> float:
        return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / steps)))

    return rate


def warmed_adamw(
    model: nn.Module,
    learning_rate: float,
    steps: int,
    *,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
) -> Rule:
    """AdamW under `warmed_cosine`.

    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer, schedule = warmed_adamw(model, learning_rate=1e-3, steps=100)
    >>> round(schedule.get_last_lr()[0], 6)  # a fifth at first, all of it after 5 steps
    0.0002
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), learning_rate, betas=betas, weight_decay=weight_decay
    )
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, warmed_cosine(steps))


def cosine_adam(model: nn.Module, learning_rate: float, steps: int) -> Rule:
    """Adam, its rate lowered to zero along a cosine.

    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer, schedule = cosine_adam(model, learning_rate=1e-3, steps=100)
    >>> schedule.get_last_lr()
    [0.001]
    """
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, fused=True)
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)


def fit(
    run: Run,
    model: nn.Module,
    loss: Callable[[], Tensor],
    *,
    steps: int,
    rule: Rule,
    clip: float | None = None,
    look: Callable[[int, list[float]], None] | None = None,
    every: int = 1,
    **state: Any,
) -> dict[str, list[float]]:
    """Lower `loss()` so many steps; return the curve of its mean between POINTS points.

    The gradient is cut to norm `clip` where given. `look(step, losses)` is called after every so
    many steps with the losses since the last look; with it the curve is the caller's own, and the
    one returned is empty. `state` is what `loss` draws from and `look` changes, such as a
    torch.Generator or a dict: a killed run goes on from its checkpoint with the same numbers. The
    model is left in training mode.

    In several processes `loss()` is this one's part: the loss of the batch is the parts' mean.

    >>> model, x = torch.nn.Linear(1, 1), torch.rand(50, 1)
    >>> rule = cosine_adam(model, learning_rate=0.1, steps=200)
    >>> loss = lambda: (model(x) - 2 * x - 1).square().mean()
    >>> curve = fit(Run(quiet=True), model, loss, steps=200, rule=rule)
    >>> round(model.weight.item()), round(model.bias.item()), len(curve["curve_loss"])
    (2, 1, 50)
    """
    optimizer, schedule = rule
    curve: dict[str, list[float]] = {}
    recent: list[float] = []

    def draw_curve(step: int, losses: list[float]) -> None:
        curve.setdefault("curve_step", []).append(step)
        curve.setdefault("curve_loss", []).append(sum(losses) / len(losses))

    if look is None:
        look, every = draw_curve, max(1, steps // POINTS)
    state |= dict(model=model, optimizer=optimizer, schedule=schedule)
    state |= dict(mean_curve=curve, recent=recent)
    sharded = parallel.is_sharded(model)
    if sharded:
        whole = parallel.WholeOptimizer(optimizer)
        state |= dict(model=parallel.Whole(model), optimizer=whole)
    model.train()
    objective = run.data_parallel(parallel.Objective(model, loss))
    for step in run.steps(steps, **state):
        value = objective()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        schedule.step()
        recent.append(
            parallel.mean_over_processes(value) if parallel.processes() > 1 else value.item()
        )
        if (step + 1) % every == 0:
            look(step + 1, recent)
            recent.clear()
    if sharded:
        parallel.gather(model)
    return curve


def fit_best(
    run: Run,
    model: Model,
    loss: Callable[[], Tensor],
    score: Callable[[], float],
    *,
    steps: int,
    rule: Rule,
    metric: str = "valid_loss",
    best: Best = "lowest",
    looks: int = 20,
    clip: float | None = None,
    **state: Any,
) -> tuple[Model, dict[str, Any]]:
    """`fit`, of whose moments the best is kept: so many times `score()` measures validation data.

    Returns a copy of the model, in evaluation mode, with the weights of that moment, and what a
    results file holds: METRIC, `step`, and over the looks `curve_step`, `curve_loss` (the mean
    since the last look) and `curve_METRIC`. `score` is called in evaluation mode and makes no
    gradients. Not for sharded models, of which no process can keep a copy.

    >>> model, x = torch.nn.Linear(1, 1), torch.rand(50, 1)
    >>> loss = lambda: (model(x) - 2 * x - 1).square().mean()
    >>> rule = cosine_adam(model, learning_rate=0.1, steps=200)
    >>> more = dict(steps=200, rule=rule, looks=10)
    >>> chosen, found = fit_best(Run(quiet=True), model, loss, lambda: loss().item(), **more)
    >>> chosen.training, len(found["curve_valid_loss"]), found["valid_loss"] < 0.01
    (False, 10, True)
    """
    chosen = copy.deepcopy(model)
    sign = 1 if best == "lowest" else -1
    found: dict[str, Any] = {metric: math.inf * sign, "step": 0}
    curve: dict[str, list[float]] = {"curve_step": [], "curve_loss": [], f"curve_{metric}": []}

    def look(step: int, losses: list[float]) -> None:
        model.eval()
        with torch.no_grad():
            value = score()
        model.train()
        curve["curve_step"].append(step)
        curve["curve_loss"].append(round(sum(losses) / len(losses), 5))
        curve[f"curve_{metric}"].append(round(value, 5))
        if sign * value < sign * found[metric]:
            found.update({metric: value, "step": step})
            chosen.load_state_dict(model.state_dict())

    fit(
        run,
        model,
        loss,
        steps=steps,
        rule=rule,
        clip=clip,
        look=look,
        every=max(1, steps // looks),
        best=found,
        curve=curve,
        chosen=chosen,
        **state,
    )
    return chosen.eval(), found | curve
