"""What folding costs in accuracy: folds 1 to 4, other ways to save, and what the recipe is for.

Fashion-MNIST and MNIST (grey, three times the same channel) go through the game net at 28 x 28,
drawn crops with 100 numbers through it at 22 x 52, photographs of hands through a NoScope net. All
candidates of one data set see the same images, equally many in a step and in an epoch; Adam's rate
falls to zero along a cosine. The epoch is chosen on validation images, under a curriculum only
after all classes are in; the test images are read once, after the last epoch. The full size takes
a part of the training images, and `f1_more` and `f4_more` all of them. `--size tiny` needs no
network: shipped 8 x 8 digits, doubled.
"""

import copy
import math
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from archbook.checks import value_checks
from archbook.data import digits, fashion_mnist, mnist, sign_digits, two_digit_crops
from archbook.folded_cnn import (
    FoldedNet,
    GameCNN,
    NoScopeCNN,
    answers,
    cost,
    curriculum_classes,
    fold_images,
    folded_cross_entropy,
    regrouping_report,
)
from archbook.running import Run, held_once, main, mean_over_processes, processes, share

Part = tuple[Tensor, Tensor]  # images as bytes, labels

ALL = 58_000  # images of Fashion-MNIST beside those held out
PAPER_EPOCHS, PAPER_GAP = 1_500, 60  # of which so many bring the next classes in
GAP = 2  # epochs between them at least: with a short gap nothing is learned before the next come


@dataclass(frozen=True)
class Config:
    data: str = "fashion"  # fashion, mnist, signs, numbers or digits
    fold: int = 1  # images in a pass
    filters: int = 32  # of the game net at fold 1
    convs: int = 3  # of the game net, in its unit
    resolution: int = 28  # to which fashion is resized
    images: int = 10_000  # to train on
    held_out: int = 2_000  # to validate, and where there is no official test set, to test
    epochs: int = 12  # times that many images are seen
    batch: int = 24  # images a step
    learning_rate: float = 1e-3  # of Adam
    cosine: bool = True  # lower the rate to zero along a cosine
    weight_decay: float = 0.0  # added to the gradient, as Adam's own
    start: str = "authors"  # how weights are drawn: as the authors do, or by torch's default
    grouping: str = "anew"  # neighbours drawn anew in each epoch, or fixed ones
    curriculum: bool = False  # begin with few classes


FASHION = Config()
FOLD_4 = replace(FASHION, fold=4)
MNIST = Config("mnist", epochs=6)
SIGNS = Config("signs", images=1_238, held_out=412, epochs=60)
NUMBERS = Config("numbers", held_out=1_000, epochs=24)
TINY = Config("digits", images=960, held_out=192, epochs=2)
PAPER: dict[str, Any] = dict(
    images=ALL,
    epochs=PAPER_EPOCHS,
    batch=32,
    learning_rate=1e-4,
    cosine=False,
    weight_decay=1e-5,
)
SIZES = {
    "tiny": {
        "f1": TINY,
        "f3": replace(TINY, fold=3, grouping="fixed"),
        "signs_f2": replace(TINY, data="signs", fold=2, images=240, epochs=1, start="torch"),
        "numbers_f4_curriculum": replace(
            TINY, data="numbers", fold=4, images=240, held_out=48, epochs=20, curriculum=True
        ),
    },
    "full": {
        "f1": FASHION,
        "f4": FOLD_4,
        "f2": replace(FASHION, fold=2),
        "f3": replace(FASHION, fold=3),
        # is the price of folding one of little training?
        "f1_more": replace(FASHION, images=ALL),
        "f4_more": replace(FOLD_4, images=ALL),
        "f4_slow": replace(FOLD_4, learning_rate=3e-4),  # or of Adam's rate?
        "f4_fast": replace(FOLD_4, learning_rate=3e-3),
        "numbers_f1": NUMBERS,
        "numbers_f4": replace(NUMBERS, fold=4),
        "numbers_f4_curriculum": replace(NUMBERS, fold=4, curriculum=True),
        "signs_f1": SIGNS,
        "signs_f4": replace(SIGNS, fold=4),
        "signs_f4_torch": replace(SIGNS, fold=4, start="torch"),
        "mnist_f1": MNIST,
        "mnist_f4": replace(MNIST, fold=4),
        # the sceptic's: depth / 1.2, width / 1.1, resolution / 1.15; equal FLOPs; the folded width
        "scaled_down": replace(FASHION, filters=29, convs=2, resolution=24),
        "narrow": replace(FASHION, filters=20),
        "wide": replace(FASHION, filters=64, epochs=4),
        # what the recipe is for
        "f4_same_width": replace(FOLD_4, filters=16),
        "f4_fixed_groups": replace(FOLD_4, grouping="fixed"),
        "f4_torch": replace(FOLD_4, start="torch"),
    },
    "paper": {
        f"{data}_f{fold}": Config(data, fold, curriculum=fold > 1, **PAPER)
        for data in ("fashion", "numbers")
        for fold in (1, 2, 4)
    },
}


def load(config: Config) -> dict[str, Part]:
    """Images (n, 3, height, width) as bytes and labels of the parts train, valid and test."""
    if config.data in ("fashion", "mnist"):
        found = fashion_mnist() if config.data == "fashion" else mnist()
        x, y = _coloured(found.train_images), found.train_labels
        test = _coloured(found.test_images), found.test_labels
    elif config.data == "numbers":
        x, y = two_digit_crops(config.images + config.held_out, seed=0)
        test = two_digit_crops(4 * config.held_out, seed=1)
    elif config.data in ("signs", "digits"):
        x, y = sign_digits() if config.data == "signs" else _doubled(*digits())
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
        x, y = x[order], y[order]
        test = x[: config.held_out], y[: config.held_out]
        x, y = x[config.held_out :], y[config.held_out :]
    else:
        raise ValueError(
            f"wanted data to be fashion, mnist, signs, numbers or digits, given {config.data}"
        )
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    if config.images + config.held_out > len(y):
        raise ValueError(f"wanted at most {len(y)} images, given {config}")
    valid, fit = order[-config.held_out :], order[: config.images]
    parts = {"train": (x[fit], y[fit]), "valid": (x[valid], y[valid]), "test": test}
    if config.data == "fashion" and config.resolution != x.shape[-1]:
        return {name: (_resized(x, config.resolution), y) for name, (x, y) in parts.items()}
    return parts


def _coloured(grey: Tensor) -> Tensor:
    return grey[:, None].expand(-1, 3, -1, -1)


def _doubled(x: Tensor, y: Tensor) -> Part:
    x = (x * 15).repeat_interleave(2, 1).repeat_interleave(2, 2)  # 0 .. 16 becomes 0 .. 240
    return _coloured(x), y


def _resized(x: Tensor, size: int) -> Tensor:
    small = interpolate(x.float(), (size, size), mode="bilinear", antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8)


def build(config: Config, height: int, width: int, *, classes: int) -> FoldedNet:
    if config.data == "signs":
        net = NoScopeCNN(height, width, classes, filters=16, dense=128, fold=config.fold)
    else:
        shape = dict(filters=config.filters, convs=config.convs)
        net = GameCNN(height, width, classes, units=1, fold=config.fold, **shape)
    if config.start == "torch":
        for part in net.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                part.reset_parameters()
    return net


class Order:
    """Which images an epoch sees, in which order: neighbours in it are neighbours in a group."""

    def __init__(self, config: Config, labels: Tensor, classes: int, *, generator: torch.Generator):
        self.config, self.labels, self.generator = config, labels, generator
        # drawn once, from a seed of their own: a resumed run finds the same ones
        own = torch.Generator().manual_seed(generator.initial_seed())
        self.rank = torch.randperm(classes, generator=own)  # when a class comes in
        self.fixed = torch.randperm(len(labels), generator=own)

    def all_in(self, epoch: int) -> bool:
        return self.classes(epoch) == len(self.rank)

    def classes(self, epoch: int) -> int:
        """How many classes are in: the paper's curriculum, with its part of the epochs as gap."""
        config = self.config
        if not config.curriculum:
            return len(self.rank)
        gap = max(GAP, PAPER_GAP * config.epochs // PAPER_EPOCHS)
        return curriculum_classes(epoch, len(self.rank), config.fold, gap=gap)

    def __call__(self, epoch: int) -> Tensor:
        count, fold = len(self.labels), self.config.fold
        if self.config.grouping == "fixed":
            groups = self.fixed[: count - count % fold].view(-1, fold)
            return groups[torch.randperm(len(groups), generator=self.generator)].flatten()
        seen = (self.rank[self.labels] < self.classes(epoch)).nonzero()[:, 0]
        rounds = -(-count // len(seen))
        orders = [torch.randperm(len(seen), generator=self.generator) for _ in range(rounds)]
        return seen[torch.cat(orders)[:count]]


def as_floats(x: Tensor) -> Tensor:
    """0 to 1, channels innermost: on a processor the faster of the two layouts."""
    return (x.float() / 255).contiguous(memory_format=torch.channels_last)


def train(config: Config, run: Run) -> dict:
    if config.batch % (config.fold * processes()):
        each = f" in each of {processes()} processes" if processes() > 1 else ""
        raise ValueError(
            f"wanted batch to be divisible by fold = {config.fold}{each}, given {config.batch}"
        )
    loaded = held_once(lambda: {name: (as_floats(x), y) for name, (x, y) in load(config).items()})
    parts = {name: (x.to(run.device), y.to(run.device)) for name, (x, y) in loaded.items()}
    x, y = parts["train"]
    classes = 1 + int(y.max())
    height, width = x.shape[2:]
    model: Any = build(config, height, width, classes=classes)
    model = model.to(run.device, memory_format=torch.channels_last)
    network = run.data_parallel(model)
    optimizer = torch.optim.Adam(
        model.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    steps = config.images // config.batch
    total_steps = config.epochs * steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (1 + math.cos(math.pi * step / total_steps)) / 2 if config.cosine else 1.0,
    )
    shuffle = torch.Generator().manual_seed(run.seed)
    order_of = Order(config, y.cpu(), classes, generator=shuffle)
    chosen = copy.deepcopy(model)  # the weights of the best epoch
    best = {"valid_accuracy": -1.0, "epoch": 0, "cpu_seconds": 0.0}
    curve = {"curve_epoch": [], "curve_classes": [], "curve_loss": [], "curve_valid_accuracy": []}
    state = dict(
        model=model, chosen=chosen, optimizer=optimizer, schedule=schedule, shuffle=shuffle
    )
    with value_checks(False):
        # Not `running.fit`: it counts epochs, each with an order and classes of its own.
        for epoch in run.steps(config.epochs, best=best, curve=curve, **state):
            before, total = time.process_time(), torch.zeros((), device=run.device)
            for batch in order_of(epoch)[: steps * config.batch].split(config.batch):
                batch = share(batch, config.fold)
                logits = network(fold_images(x[batch], config.fold))
                loss = folded_cross_entropy(logits, y[batch], config.fold)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.detach()
            best["cpu_seconds"] += time.process_time() - before
            images, labels = parts["valid"]
            found = answers(model, images, torch.arange(len(labels)))
            right = 100 * float((found == labels).double().mean())
            curve["curve_epoch"].append(epoch + 1)
            curve["curve_classes"].append(order_of.classes(epoch))
            curve["curve_loss"].append(mean_over_processes(total) / steps)
            curve["curve_valid_accuracy"].append(right)
            if order_of.all_in(epoch) and right > best["valid_accuracy"]:
                best.update(valid_accuracy=right, epoch=epoch + 1)
                chosen.load_state_dict(model.state_dict())
        report = regrouping_report(chosen, *parts["test"])
    per_image = cost(model, config.fold).flops / config.fold
    weights = sum(p.numel() for p in model.parameters())
    return report | best | {"flops_per_image": per_image, "weights": weights} | curve


if __name__ == "__main__":
    main(__file__, SIZES, train)
