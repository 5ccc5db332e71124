"""Four functions with detail in one place: does a grid of small networks keep it?

Every model is trained alike: 20,000 points, Adam, a cosine, the last weights, no choice by any
held-out error. A grid of 4 x 4 networks of width 16 stands beside plain networks of its width, of
its multiply-adds (on 4 x 4 nearly its stored parameters), and of the 8 x 8 grid's stored
parameters; beside Fourier features with the grids' multiply-adds ("small") and with the 8 x 8
grid's stored parameters, PFNN (four nodes along u), and MANN of the same width and of the 8 x 8
grid's stored parameters. Variants with a suffix ask, for the ripple, what ends of the
axes, the first weights and the activation do, and where nodes should lie: the same 36 experts
spread evenly, put along one axis, gathered in the ripple's zone or kept out of it.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from archbook.checks import value_checks
from archbook.data.regressions import REGRESSIONS, RegressionSet, regression_set
from archbook.gfnn import (
    MLP,
    FourierMLP,
    GridFunctionedNetwork,
    ModeAdaptiveNetwork,
    PhaseFunctionedNetwork,
    multiply_adds,
)
from archbook.running import Run, cosine_adam, fit, main, share

MODELS = ("gfnn", "mlp", "fourier", "pfnn", "mann")
PICTURE = 32  # points a side of the map of the error that is kept


@dataclass(frozen=True)
class Config:
    function: str = "ripple"  # ripple, ridge, chirp or cycle
    model: str = "gfnn"  # gfnn, mlp, fourier, pfnn or mann
    hidden: int = 16  # width of the two hidden layers
    grid: tuple[int, ...] = (4, 4)  # nodes of u and v
    edges: str = "clamp"  # clamp or linear, at the ends of axes
    init: str = "independent"  # independent or tied experts
    activation: str = "elu"  # of the hidden layers
    gather: float = 0.0  # nodes drawn to (> 0) or from (< 0) the middle of both axes
    scale: float = 1.0  # of the Fourier features, in periods a unit of x
    steps: int = 2000  # of training
    batch: int = 256  # points a step
    points: int = 20_000  # to train on, and as many to test
    learning_rate: float = 3e-3  # of Adam, lowered to zero along a cosine


GRID_4 = Config()
MATCHED = {
    "gfnn_2x2": replace(GRID_4, grid=(2, 2)),
    "gfnn_4x4": GRID_4,
    "gfnn_8x8": replace(GRID_4, grid=(8, 8)),
    "mlp_hidden": replace(GRID_4, model="mlp"),
    "mlp_4x4": replace(GRID_4, model="mlp", hidden=74),
    "mlp_8x8": replace(GRID_4, model="mlp", hidden=144),
    "fourier_1": replace(GRID_4, model="fourier", hidden=92, scale=1.0),
    "fourier_3": replace(GRID_4, model="fourier", hidden=92, scale=3.0),
    "fourier_1_small": replace(GRID_4, model="fourier", hidden=34, scale=1.0),
    "fourier_3_small": replace(GRID_4, model="fourier", hidden=34, scale=3.0),
    "pfnn": replace(GRID_4, model="pfnn"),
    "mann": replace(GRID_4, model="mann"),
    "mann_8x8": replace(GRID_4, model="mann", hidden=49),
}
GRID_6 = replace(GRID_4, grid=(6, 6))
RIPPLE_ONLY = {
    "even_6x6": GRID_6,
    "along_u_12x3": replace(GRID_4, grid=(12, 3)),
    "along_v_3x12": replace(GRID_4, grid=(3, 12)),
    "gathered_6x6": replace(GRID_6, gather=4.0),
    "kept_out_6x6": replace(GRID_6, gather=-4.0),
    "linear_8x8": replace(GRID_4, grid=(8, 8), edges="linear"),
    "tied_8x8": replace(GRID_4, grid=(8, 8), init="tied"),
    "relu_8x8": replace(GRID_4, grid=(8, 8), activation="relu"),
}
FULL = {
    f"{function}-{name}": replace(config, function=function)
    for function in REGRESSIONS
    for name, config in MATCHED.items()
} | {f"ripple-{name}": config for name, config in RIPPLE_ONLY.items()}
SIZES = {
    "tiny": {
        name: replace(config, hidden=min(config.hidden, 6), steps=3, points=300)
        for name, config in FULL.items()
        if name.startswith(("ripple", "cycle-gfnn_4x4", "cycle-mlp_h", "cycle-p", "cycle-m"))
    },
    "full": FULL,
    "paper": {"ripple-gfnn_8x8": replace(MATCHED["gfnn_8x8"], steps=20_000)},
}


def warp(u: Tensor, gather: float) -> Tensor:
    """The unit interval onto itself, smooth: steep in the middle for gather > 0, flat for < 0."""
    if gather == 0:
        return u
    bent = math.tanh(abs(gather) / 2)
    if gather > 0:
        return 0.5 + 0.5 * (gather * (u - 0.5)).tanh() / bent
    return 0.5 + ((2 * u - 1) * bent).atanh() / -gather


class Model(nn.Module):
    """g (batch, 2) -> y (batch, 1); every model is told the same place in its own way."""

    def __init__(self, config: Config):
        super().__init__()
        self.config, self.cyclic = config, REGRESSIONS[config.function].cyclic
        hidden, act = config.hidden, config.activation
        inputs = 1 if self.cyclic else 2  # of models that have u as a coordinate of their experts
        told = 3 if self.cyclic else 2  # of models that have not
        bodies = {
            "gfnn": lambda: GridFunctionedNetwork(
                inputs,
                hidden,
                1,
                grid_shape=config.grid,
                cyclic=(self.cyclic, False),
                edges=config.edges,
                activation=act,
                init=config.init,
            ),
            "mlp": lambda: MLP(told, hidden, 1, activation=act),
            "fourier": lambda: FourierMLP(
                told, hidden, 1, frequencies=64, scale=config.scale, activation=act
            ),
            "pfnn": lambda: PhaseFunctionedNetwork(inputs, hidden, 1, activation=act),
            "mann": lambda: ModeAdaptiveNetwork(
                inputs, hidden, 1, gate_features=told, activation=act
            ),
        }
        if config.model not in bodies:
            raise ValueError(
                f"wanted model to be one of {', '.join(bodies)}, given {config.model!r}"
            )
        self.body = bodies[config.model]()

    def forward(self, g: Tensor) -> Tensor:
        u, v = g.unbind(1)
        x = 2 * g - 1
        turn = 2 * math.pi * u
        told = torch.stack([turn.cos(), turn.sin(), x[:, 1]], 1) if self.cyclic else x
        x = x[:, 1:] if self.cyclic else x
        if self.config.model in ("mlp", "fourier"):
            return self.body(told)
        if self.config.model == "mann":
            return self.body(x, told)
        if self.config.model == "pfnn":
            return self.body(x, u)
        gather = self.config.gather
        return self.body(
            x, torch.stack([u if self.cyclic else warp(u, gather), warp(v, gather)], 1)
        )


@torch.no_grad()
def predict(model: Model, g: Tensor) -> Tensor:
    return torch.cat([model(part) for part in g.split(4096)])


def measure(model: Model, test: RegressionSet) -> dict:
    square = (predict(model, test.g) - test.y).square()[:, 0]
    axis = (torch.arange(PICTURE) + 0.5) / PICTURE
    lattice = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).flatten(0, 1)
    cell = (test.g.cpu() * PICTURE).long().clamp(max=PICTURE - 1)
    cell = cell[:, 0] * PICTURE + cell[:, 1]
    total = torch.zeros(len(lattice)).index_add(0, cell, square.cpu())
    count = torch.zeros(len(lattice)).index_add(0, cell, torch.ones(len(cell)))
    picture = (total / count.clamp(min=1)).sqrt()
    return {
        "test_mse": square.mean().item(),
        "zone_mse": square[test.zone].mean().item(),
        "outside_mse": square[~test.zone].mean().item(),
        "picture_rms": [float(f"{value:.2g}") for value in picture.tolist()],
    }


def train(config: Config, run: Run) -> dict:
    shown, test = (
        RegressionSet(
            **{
                key: value.to(run.device)
                for key, value in vars(regression_set(config.function, part, config.points)).items()
            }
        )
        for part in ("train", "test")
    )
    model = Model(config).to(run.device)
    draw = torch.Generator().manual_seed(run.seed)

    def loss() -> Tensor:
        batch = share(torch.randint(config.points, (config.batch,), generator=draw))
        return mse_loss(model(shown.g[batch]), shown.y[batch])

    rule = cosine_adam(model, config.learning_rate, config.steps)
    with value_checks(False):
        fit(run, model, loss, steps=config.steps, rule=rule, draw=draw)
        found = measure(model, test)
    if run.seed or config.function != "ripple":
        del found["picture_rms"]
    weights = sum(p.numel() for p in model.parameters())
    return found | {"weights": weights, "multiply_adds": multiply_adds(model.body)}


if __name__ == "__main__":
    main(__file__, SIZES, train)
