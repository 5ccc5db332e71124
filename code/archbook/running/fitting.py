"""One training loop for many experiments: AdamW, a warm-up, a cosine down to zero, clipping."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from archbook.running.run import Run

POINTS = 50  # of the curve


def warmed_cosine(steps: int) -> Callable[[int], float]:
    """Factor of the learning rate at a step: up over a twentieth of them, down along a cosine."""
    warm = max(1, steps // 20)

    def rate(step: int) -> float:
        return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / steps)))

    return rate


def fit(
    run: Run,
    model: nn.Module,
    loss: Callable[[], Tensor],
    steps: int,
    learning_rate: float,
    weight_decay: float = 0.01,
    **state: Any,
) -> dict[str, list[float]]:
    """Lower `loss()` so many steps; return the curve of its mean between points.

    `state` is what `loss` draws from, such as a torch.Generator: a killed run goes on from its
    checkpoint with the same numbers. The model is left in training mode.
    """
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmed_cosine(steps))
    curve: dict[str, list[float]] = {"curve_step": [], "curve_loss": []}
    recent: list[float] = []
    every = max(1, steps // POINTS)
    state |= dict(model=model, optimizer=optimizer, schedule=schedule, curve=curve, recent=recent)
    model.train()
    for step in run.steps(steps, **state):
        value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent.append(value.item())
        if (step + 1) % every == 0:
            curve["curve_step"].append(step + 1)
            curve["curve_loss"].append(sum(recent) / len(recent))
            recent.clear()
    return curve
