"""Does accuracy stay close when a folded network is trained until it is done?

The paper says "in most cases" and trains long. What decides is the gap in test accuracy to the
unfolded network of the same task, with a 95 % interval that holds seeds and test images, at the end
of training; and how many images it takes to get there. Tasks: the shipped digits, all ten and "is
it a 3?"; drawn crops of a game's screen with 2, 11 and 100 answers, through the game net that the
authors train, at the rates that they use and at larger ones. Rivals of f = 4: an unfolded net of
half the operations, and folding without the wider layers (alpha = 0).

Each candidate's rate is chosen on validation images. Test images are read once, by the weights of
the best look. The share of units of the last ReLU that any validation image turns on is kept beside
each curve: a network of dead units has no gradient and answers nothing, which is no price of
folding. `trained` says whether the loss ever left that of a guess.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from archbook.checks import value_checks
from archbook.data import digits, two_digit_crops
from archbook.folded_cnn import (
    FoldedNet,
    GameCNN,
    NoScopeCNN,
    answers,
    cost,
    fold_images,
    folded_cross_entropy,
    regrouping_report,
)
from archbook.running import Run, Search, cosine_adam, fit_best, grid, main, share

TRAINED = 0.9  # of the loss of a guess


@dataclass(frozen=True)
class Config:
    task: str = "digits"  # digits, three; crops_2, crops_11, crops_100
    fold: int = 1  # images in a pass
    width: float = 1.0  # times the filters and dense units that fold 1 has
    images: int = 1_176  # to train on, all different
    held_out: int = 300  # to validate, and as many to test
    passes: int = 400  # times that all of them are seen
    batch: int = 24  # images a step
    learning_rate: float = 1e-3  # of Adam, lowered to zero along a cosine


DIGITS = Config()
CROPS = Config("crops_100", images=12_000, held_out=2_000, passes=20)
GRID = {
    **{f"digits_f{f}": replace(DIGITS, fold=f) for f in (1, 2, 3, 4)},
    "digits_f4_same_width": replace(DIGITS, fold=4, width=0.5),
    "digits_narrow": replace(DIGITS, width=0.7),
    **{f"three_f{f}": replace(DIGITS, task="three", fold=f) for f in (1, 2, 4)},
    **{
        f"crops_{k}_f{f}": replace(CROPS, task=f"crops_{k}", fold=f)
        for k in (2, 11, 100)
        for f in (1, 4)
    },
}
TINY = dict(images=72, held_out=24, passes=4)
SIZES = {"tiny": {name: replace(config, **TINY) for name, config in GRID.items()}, "full": GRID}
SEARCHED = ("digits_f1", "digits_f4", "crops_100_f1", "crops_100_f4")  # at full length
SEARCH = Search(
    "valid_accuracy",
    "highest",
    trials=dict.fromkeys(SEARCHED, grid(learning_rate=(1e-4, 3e-4, 1e-3))),
    like={
        name: ("crops_100" if "crops" in name else "digits") + ("_f1" if one.fold == 1 else "_f4")
        for name, one in GRID.items()
        if name not in SEARCHED
    },
)
SEEDS = {name: (0, 1, 2, 3, 4) for name in GRID if not name.startswith("crops")}


def load(config: Config) -> dict[str, tuple[Tensor, Tensor]]:
    """Images (n, channels, height, width) from 0 to 1, and labels, of train, valid and test."""
    count = config.images + 2 * config.held_out
    if config.task in ("digits", "three"):
        x, y = digits()
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
        x, y = x[order, None] / 16, y[order]
        y = (y == 3).long() if config.task == "three" else y
    elif config.task.startswith("crops_"):
        classes = int(config.task.removeprefix("crops_"))
        x, y = two_digit_crops(count, seed=0)
        x, y = x / 255, y * classes // 100  # as even as they can be
    else:
        raise ValueError(
            f"wanted task to be digits, three, crops_2, crops_11 or crops_100, given {config.task}"
        )
    if count > len(y):
        raise ValueError(f"wanted at most {len(y)} images, given {config}")
    x = x.float().contiguous(memory_format=torch.channels_last)
    sizes = (config.held_out, config.held_out, config.images)
    parts = zip(x[:count].split(sizes), y[:count].split(sizes), strict=True)
    return dict(zip(("test", "valid", "train"), parts, strict=True))


def build(config: Config, images: Tensor, classes: int) -> FoldedNet:
    """The authors' nets and their start."""
    channels, height, width = images.shape[1:]
    if channels == 1:
        sizes = dict(filters=round(16 * config.width), dense=round(32 * config.width))
        return NoScopeCNN(height, width, classes, **sizes, channels=1, fold=config.fold)
    filters = round(32 * config.width)
    return GameCNN(height, width, classes, units=1, fold=config.fold, filters=filters)


def living(model: nn.Module, images: Tensor, fold: int) -> float:
    """Percent of the units of the last ReLU that any of these images turns on."""
    seen: list[Tensor] = []
    last = [part for part in model.modules() if isinstance(part, nn.ReLU)][-1]
    handle = last.register_forward_hook(lambda _, __, found: seen.append((found > 0).any(0)))
    model(fold_images(images[: len(images) // fold * fold], fold))
    handle.remove()
    return 100 * seen[0].double().mean().item()


def train(config: Config, run: Run) -> dict:
    if config.images % config.batch or config.batch % config.fold:
        raise ValueError(f"wanted fold to divide batch, and batch to divide images, given {config}")
    parts = {name: (x.to(run.device), y.to(run.device)) for name, (x, y) in load(config).items()}
    (x, y), (seen, labels) = parts["train"], parts["valid"]
    torch.manual_seed(run.seed)
    classes = 1 + int(y.max())
    model: Any = build(config, x, classes)
    model = model.to(run.device, memory_format=torch.channels_last)
    draw = torch.Generator().manual_seed(run.seed)
    order = torch.arange(len(labels))
    alive: list[float] = []
    waiting: list[Tensor] = []  # the rest of the pass: a resumed run goes on in its middle

    def loss() -> Tensor:
        if not waiting:
            waiting.extend(torch.randperm(len(y), generator=draw).split(config.batch))
        batch = share(waiting.pop(), config.fold)
        return folded_cross_entropy(
            model(fold_images(x[batch], config.fold)), y[batch], config.fold
        )

    def accuracy() -> float:
        alive.append(round(living(model, seen, config.fold), 2))
        return 100 * float((answers(model, seen, order) == labels).double().mean())

    steps = config.passes * config.images // config.batch
    with value_checks(False):
        chosen, found = fit_best(
            run,
            model,
            loss,
            accuracy,
            steps=steps,
            rule=cosine_adam(model, config.learning_rate, steps),
            metric="valid_accuracy",
            best="highest",
            looks=40,
            draw=draw,
            alive=alive,
            waiting=waiting,
        )
    report = regrouping_report(chosen, *parts["test"])
    found["trained"] = int(min(found["curve_loss"]) < TRAINED * math.log(classes))
    per_image = cost(chosen, config.fold).flops / config.fold
    return report | found | {"curve_living": alive, "flops_per_image": per_image}


if __name__ == "__main__":
    main(__file__, SIZES, train, search=SEARCH, seeds=SEEDS)
