"""Permuted sequential MNIST: the parallel LMU, its ablations, and what a sceptic would try first.

Hyperparameters were chosen on 10,000 of the 60,000 training images; the test images are read
once, after the last epoch. `--size tiny` runs on the shipped 8 x 8 digits, without a network.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from archbook.checks import value_checks
from archbook.data import digits, mnist, permuted
from archbook.lmu import LMUCell, LMUClassifier
from archbook.running import Run, Ship, held_once, main, share

CLASSES = 10


@dataclass(frozen=True)
class Config:
    model: str = "lmu"  # lmu, lmu2019, random, lstm, mlp or softmax
    order: int = 468  # Legendre coefficients (or rows of the random projection)
    theta: float = 784.0  # window, in steps
    hidden: int = 346  # units that read the memory
    input_dropout: float = 0.2  # on the pixels
    dropout: float = 0.3  # before the classifier
    epochs: int = 50  # passes over the training images
    batch: int = 100  # images a step
    learning_rate: float = 1e-3  # of Adam, lowered to zero along a cosine
    seconds: float | None = None  # stop after so many training seconds, whatever the epoch
    data: str = "mnist"  # mnist (784 steps) or digits (64 steps)


FULL = Config()
SIZES = {
    "tiny": {
        name: Config(name, 32, 64.0, 32, epochs=epochs, data="digits")
        for name, epochs in [
            ("lmu", 10),
            ("lmu2019", 1),
            ("random", 1),
            ("lstm", 1),
            ("mlp", 1),
            ("softmax", 1),
        ]
    },
    "full": {
        "lmu": FULL,
        "mlp": replace(FULL, model="mlp", hidden=208),
        "softmax": replace(FULL, model="softmax", input_dropout=0.0, dropout=0.0),
        "random": replace(FULL, model="random"),
        "half_window": replace(FULL, theta=392.0),
        "order_128": replace(FULL, order=128),
        "lstm": replace(FULL, model="lstm", hidden=202, seconds=335.0),
        "lmu2019": replace(FULL, model="lmu2019", order=256, hidden=212, seconds=335.0),
    },
    "paper": {"lmu": FULL},
}
SEEDS = {"lstm": (0,), "lmu2019": (0,)}


class LastHidden(nn.Module):
    """A step-by-step network, cut down to its last output."""

    def __init__(self, cell: nn.Module):
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.cell.unroll(x) if isinstance(self.cell, LMUCell) else self.cell(x)[0]
        return hidden[:, -1]


class RandomProjection(nn.Module):
    """The sceptic's memory: a fixed Gaussian matrix in place of H, read by the same units."""

    projection: Tensor

    def __init__(self, steps: int, order: int, hidden: int):
        super().__init__()
        self.register_buffer("projection", torch.randn(steps, order) / steps**0.5)
        self.read = nn.Linear(order + 1, hidden)  # the last pixel too, as W_x x_t has it

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.read(torch.cat([x[..., 0] @ self.projection, x[:, -1]], dim=-1)))


def arguments(config: Config) -> dict[str, Any]:
    """What the parallel LMU is built with."""
    return dict(
        input_size=1,
        hidden_size=config.hidden,
        classes=CLASSES,
        order=config.order,
        theta=config.theta,
        input_dropout=config.input_dropout,
        dropout=config.dropout,
    )


def build(config: Config, steps: int) -> nn.Module:
    """(batch, steps, 1) -> (batch, classes)."""
    hidden, features = config.hidden, config.hidden
    if config.model == "lmu":
        return LMUClassifier(**arguments(config))
    if config.model == "lmu2019":
        cell = LMUCell(1, hidden, config.order, theta=config.theta)
        nn.init.ones_(cell.e_x.weight)  # the published psMNIST start: only the pixel is written
        for kernel in (cell.e_h, cell.W_x, cell.W_h):
            nn.init.zeros_(kernel.weight)
        body = LastHidden(cell)
    elif config.model == "random":
        body = RandomProjection(steps, config.order, hidden)
    elif config.model == "lstm":
        body = LastHidden(nn.LSTM(1, hidden, batch_first=True))
    elif config.model == "mlp":
        body = nn.Sequential(nn.Flatten(), nn.Linear(steps, hidden), nn.ReLU())
    elif config.model == "softmax":
        body, features = nn.Flatten(), steps
    else:
        raise ValueError(
            "wanted model to be one of lmu, lmu2019, random, lstm, mlp, softmax, "
            f"given {config.model!r}"
        )
    return nn.Sequential(
        nn.Dropout(config.input_dropout),
        body,
        nn.Dropout(config.dropout),
        nn.Linear(features, CLASSES),
    )


def load(data: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Sequences (n, steps, 1) and labels (n,) of the parts train, valid and test."""
    if data == "mnist":
        images = mnist()
        x, y, held_out = images.train_images, images.train_labels, 10_000
        test = permuted(images.test_images)[..., None], images.test_labels
    else:
        x, y = digits()
        x = x * 15  # 0 .. 16 becomes 0 .. 240
        x, y, test_x, test_y = x[:1500], y[:1500], x[1500:], y[1500:]
        test, held_out = (permuted(test_x)[..., None], test_y), 300
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    x, y = permuted(x)[order, :, None], y[order]
    cut = len(y) - held_out
    return {"train": (x[:cut], y[:cut]), "valid": (x[cut:], y[cut:]), "test": test}


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Percent right, without dropout."""
    model.eval()
    right = [(model(part).argmax(-1) == y_part).sum() for part, y_part in _batches(x, y)]
    model.train()
    return 100 * float(torch.stack(right).sum()) / len(y)


def _batches(x: Tensor, y: Tensor, size: int = 1000):
    return zip(x.split(size), y.split(size), strict=True)


def train(config: Config, run: Run) -> dict:
    loaded = held_once(lambda: load(config.data))
    parts = {name: (x.to(run.device), y.to(run.device)) for name, (x, y) in loaded.items()}
    x, y = parts["train"]
    model = build(config, x.shape[1]).to(run.device)
    network = run.data_parallel(model)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    steps_per_epoch = len(y) // config.batch
    total = config.epochs * steps_per_epoch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    shuffle = torch.Generator().manual_seed(run.seed)
    order: list[int] = []  # of the epoch under way
    curve = {"curve_seconds": [], "curve_valid_accuracy": []}
    state = dict(model=model, optimizer=optimizer, schedule=schedule, shuffle=shuffle)
    steps = 0
    with value_checks(False):
        # Not `running.fit`: it may end when its time is up, in the middle of an epoch.
        for step in run.steps(total, order=order, curve=curve, **state):
            if step % steps_per_epoch == 0:
                order[:] = torch.randperm(len(y), generator=shuffle).tolist()
            at = step % steps_per_epoch * config.batch
            batch = share(torch.tensor(order[at : at + config.batch], device=run.device))
            loss = cross_entropy(network(x[batch]), y[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            steps = step + 1
            if steps % (2 * steps_per_epoch) == 0 and config.seconds is None:
                curve["curve_seconds"].append(run.seconds)
                curve["curve_valid_accuracy"].append(accuracy(model, *parts["valid"]))
            if run.is_over(config.seconds):
                break
        metrics = {f"{part}_accuracy": accuracy(model, *parts[part]) for part in ("valid", "test")}
    if config.model == "lmu":
        run.offer(model, **arguments(config))
    weights = sum(p.numel() for p in model.parameters())
    return metrics | {"weights": weights, "steps": steps} | curve


def test_accuracy(model: nn.Module) -> float:
    """Percent of the 10,000 test images."""
    return accuracy(model, *load("mnist")["test"])


SHIP = Ship("lmu", 0, "test_accuracy", test_accuracy, digits=2)

if __name__ == "__main__":
    main(__file__, SIZES, train, seeds=SEEDS, ship=SHIP)
