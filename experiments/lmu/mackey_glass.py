"""Mackey-Glass, 15 steps ahead: the parallel LMU against an LSTM and two windows of past inputs.

The protocol of 2019 with inputs and targets the right way round: 128 series of 5,000 steps, 32 to
train (cut to pieces of 1,000), 32 to choose the epoch, 64 to test; NRMSE over all test steps.
"""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from archbook.checks import value_checks
from archbook.data import mackey_glass, nrmse, prediction_pairs
from archbook.lmu import LMU
from archbook.running import Run, main, share, share_weight

AHEAD = 15


@dataclass(frozen=True)
class Config:
    model: str = "lmu"  # lmu, lstm, window_mlp, window_linear or persistence
    order: int = 40  # Legendre coefficients
    theta: float = 50.0  # window, in steps; the window models see as many past inputs
    hidden: int = 120  # units of each of the two dense layers; of each of the four LSTM layers
    epochs: int = 120  # passes over the training pieces
    batch: int = 16  # pieces a step
    piece: int = 1000  # length of a training piece, in steps
    learning_rate: float = 3e-3  # of Adam, lowered to zero along a cosine
    series: int = 128  # a quarter to train, a quarter to validate, half to test
    steps: int = 5000  # length of a series


FULL = Config()
SIZES = {
    "tiny": {
        name: Config(name, order=8, hidden=8, epochs=2, series=8, steps=400, piece=100)
        for name in ("lmu", "lstm", "window_mlp", "window_linear", "persistence")
    },
    "full": {
        "lmu": FULL,
        "order_4": replace(FULL, order=4),
        "theta_4": replace(FULL, order=4, theta=4.0),
        "lstm": replace(FULL, model="lstm", hidden=25),
        "window_mlp": replace(FULL, model="window_mlp", hidden=117),
        "window_linear": replace(FULL, model="window_linear", learning_rate=1e-2),
        "persistence": replace(FULL, model="persistence", epochs=0),
    },
    "paper": {"lmu": replace(FULL, epochs=500)},
}
SEEDS = {"persistence": (0,)}


class Window(nn.Module):
    """The sceptic's memory: the last `length` inputs, (batch, time, 1) -> (.., length)."""

    def __init__(self, length: int):
        super().__init__()
        self.length = length

    def forward(self, x: Tensor) -> Tensor:
        padded = nn.functional.pad(x[..., 0], (self.length - 1, 0))
        return padded.unfold(1, self.length, 1)


class LSTM(nn.Module):
    """Four LSTM layers, their last output sequence."""

    def __init__(self, hidden: int):
        super().__init__()
        self.layers = nn.LSTM(1, hidden, num_layers=4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)[0]


def build(config: Config) -> nn.Module:
    """(batch, time, 1) -> (batch, time, 1)."""
    hidden, window = config.hidden, int(config.theta)
    dense = [nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)]
    bodies = {
        "lmu": lambda: [
            LMU(
                1, hidden, 1, order=config.order, theta=config.theta, write_activation=nn.Identity()
            ),
            *dense,
        ],
        "lstm": lambda: [LSTM(hidden), nn.Linear(hidden, 1)],
        "window_mlp": lambda: [Window(window), nn.Linear(window, hidden), nn.ReLU(), *dense],
        "window_linear": lambda: [Window(window), nn.Linear(window, 1)],
        "persistence": lambda: [nn.Identity()],
    }
    if config.model not in bodies:
        raise ValueError(f"wanted model to be one of {', '.join(bodies)}, given {config.model!r}")
    return nn.Sequential(*bodies[config.model]())


def load(config: Config) -> dict[str, tuple[Tensor, Tensor]]:
    """Inputs x[t] and targets x[t + 15], (series, time, 1), of the parts train, valid and test."""
    signal = mackey_glass(config.series, config.steps, seed=0)
    x, y = (part.float()[..., None] for part in prediction_pairs(signal, AHEAD))
    quarter = config.series // 4
    parts = {
        "train": slice(quarter),
        "valid": slice(quarter, 2 * quarter),
        "test": slice(2 * quarter, None),
    }
    return {name: (x[part], y[part]) for name, part in parts.items()}


@torch.no_grad()
def error(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """NRMSE in percent."""
    return 100 * nrmse(torch.cat([model(part) for part in x.split(16)]), y)


def train(config: Config, run: Run) -> dict:
    parts = {name: (x.to(run.device), y.to(run.device)) for name, (x, y) in load(config).items()}
    x, y = (
        torch.cat(part[:, : part.shape[1] // config.piece * config.piece].split(config.piece, 1))
        for part in parts["train"]
    )
    model = build(config).to(run.device)
    weights = sum(p.numel() for p in model.parameters())
    chosen = copy.deepcopy(model)  # the weights of the epoch with the lowest validation error
    best = {"valid_nrmse": error(model, *parts["valid"]), "epoch": 0}
    curve = {"curve_seconds": [], "curve_valid_nrmse": []}
    if weights:
        network = run.data_parallel(model)
        optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
        shuffle = torch.Generator().manual_seed(run.seed)
        state = dict(model=model, chosen=chosen, optimizer=optimizer, schedule=schedule)
        with value_checks(False):
            # Not `running.fit`: it counts epochs, and lowers the rate after each.
            for epoch in run.steps(config.epochs, best=best, curve=curve, shuffle=shuffle, **state):
                for batch in torch.randperm(len(x), generator=shuffle).split(config.batch):
                    own = share(batch)
                    loss = share_weight(batch) * mse_loss(network(x[own]), y[own])
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
                schedule.step()
                valid = error(model, *parts["valid"])
                curve["curve_seconds"].append(run.seconds)
                curve["curve_valid_nrmse"].append(valid)
                if valid < best["valid_nrmse"]:
                    best.update(valid_nrmse=valid, epoch=epoch + 1)
                    chosen.load_state_dict(model.state_dict())
    best["test_nrmse"] = error(chosen, *parts["test"])
    return best | {"weights": weights} | curve


if __name__ == "__main__":
    main(__file__, SIZES, train, seeds=SEEDS)
