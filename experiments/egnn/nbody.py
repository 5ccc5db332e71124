"""Five charged particles: where are they one unit of time later?

The paper's setting: 3,000 systems to train, 4 layers of 64, Adam at a constant rate, batches of
100, the epoch chosen on 2,000 validation systems, the error on 2,000 test systems. Variants ask
how the error falls with the number of systems, what the design choices are worth (at 1,000
systems), and what happens when all training velocities point along one axis.
"""

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from archbook.checks import value_checks
from archbook.data.nbody import NBodySet, nbody_set
from archbook.egnn import GNN, NBodyEGNN, RadialField
from archbook.egnn.nbody import every_pair
from archbook.running import Run, Ship, main, share, share_weight


@dataclass(frozen=True)
class Config:
    model: str = "egnn"  # egnn, egnn_angles, gnn, radial_field or linear
    systems: int = 3000  # to train on
    epochs: int = 3000  # passes over them
    learning_rate: float = 5e-4  # of Adam, constant
    hidden: int = 64  # width
    layers: int = 4  # depth
    batch: int = 100  # systems a step
    held_out: int = 2000  # systems to validate, and as many to test
    check_every: int = 5  # epochs between two looks at the validation systems
    curve_points: int = 100  # of the validation curve that is kept
    aggregation: str = "mean"  # of the EGNN's position update
    attention: bool = False  # the EGNN's edge inference
    edge_distance: bool = True  # edges carry the input's squared distance (equivariant models)
    rotated: bool = False  # every training batch is turned at random
    along_x: bool = False  # all systems are seen just after a start along the first axis


EGNN_ = Config()
GNN_ = replace(EGNN_, model="gnn", learning_rate=1e-3)
RADIAL = replace(EGNN_, model="radial_field", learning_rate=2e-4)
LINEAR = replace(EGNN_, model="linear", epochs=0)
ROTATED = replace(GNN_, rotated=True)
ANGLES = replace(EGNN_, model="egnn_angles")
MODELS = {"egnn": EGNN_, "gnn": GNN_, "radial_field": RADIAL}
EPOCHS = {100: 3000, 300: 1500, 1000: 600}


def with_systems(config: Config, systems: int, **more) -> Config:
    return replace(config, systems=systems, epochs=EPOCHS[systems], **more)


SIZES = {
    "tiny": {
        name: replace(config, systems=60, held_out=40, batch=20, hidden=8, layers=2, epochs=4)
        for name, config in (MODELS | {"gnn_rotated": ROTATED, "egnn_angles": ANGLES}).items()
    }
    | {"linear": replace(LINEAR, systems=60, held_out=40)},
    "full": {
        **MODELS,
        "linear": LINEAR,
        **{
            f"{name}_{systems}": with_systems(config, systems)
            for systems in EPOCHS
            for name, config in MODELS.items()
        },
        "gnn_rotated_1000": with_systems(ROTATED, 1000),
        "egnn_sum_1000": with_systems(EGNN_, 1000, aggregation="sum"),
        "egnn_attention_1000": with_systems(EGNN_, 1000, attention=True),
        "egnn_no_distance_1000": with_systems(EGNN_, 1000, edge_distance=False),
        "egnn_angles_1000": with_systems(ANGLES, 1000),
        **{
            f"{name}_along_x": with_systems(config, 1000, along_x=True)
            for name, config in (MODELS | {"gnn_rotated": ROTATED}).items()
        },
    },
    "paper": {"egnn": replace(EGNN_, epochs=10_000)},
}
SEEDS = {"linear": (0,)}


def arguments(config: Config) -> dict[str, Any]:
    """What the EGNN is built with."""
    return dict(
        hidden=config.hidden,
        layers=config.layers,
        edge_distance=config.edge_distance,
        edge_angles=config.model == "egnn_angles",
        aggregation=config.aggregation,
        attention=config.attention,
    )


def build(config: Config) -> nn.Module:
    """(x, v, charges), each (systems, particles, ..) -> positions a unit of time later."""
    hidden, layers = config.hidden, config.layers
    builders = {
        "egnn": lambda: NBodyEGNN(**arguments(config)),
        "egnn_angles": lambda: NBodyEGNN(**arguments(config)),
        "gnn": lambda: Plain(GNN(6, hidden, layers, out_features=3, edge_features=1)),
        "radial_field": lambda: Radial(
            # the stored runs have no tanh; the authors have one, and with it they must be repeated
            RadialField(hidden, layers, 1 + config.edge_distance, velocity=True, tanh=False),
            config.edge_distance,
        ),
        "linear": Linear,
    }
    if config.model not in builders:
        raise ValueError(f"wanted model to be one of {', '.join(builders)}, given {config.model!r}")
    return builders[config.model]()


class Plain(nn.Module):
    """A graph network that reads positions and velocities as numbers."""

    def __init__(self, body: GNN):
        super().__init__()
        self.body = body

    def forward(self, x: Tensor, v: Tensor, charges: Tensor) -> Tensor:
        send, receive = edges = every_pair(x.shape[0], x.shape[1], x.device)
        q = charges.flatten()[:, None]
        h = torch.cat([x, v], -1).flatten(0, 1)
        return self.body(h, edges, q[receive] * q[send]).reshape(x.shape)


class Radial(nn.Module):
    """The radial field, its edges with what the EGNN's know."""

    def __init__(self, body: RadialField, edge_distance: bool):
        super().__init__()
        self.body, self.edge_distance = body, edge_distance

    def forward(self, x: Tensor, v: Tensor, charges: Tensor) -> Tensor:
        shape = x.shape
        send, receive = edges = every_pair(shape[0], shape[1], x.device)
        x, v, q = x.flatten(0, 1), v.flatten(0, 1), charges.flatten()[:, None]
        known = [q[receive] * q[send]]
        if self.edge_distance:
            known.append((x[receive] - x[send]).square().sum(-1, keepdim=True))
        return self.body(x, edges, torch.cat(known, -1), v=v).reshape(shape)


class Linear(nn.Module):
    """The sceptic's physics: x + t v, one weight t, fitted by least squares."""

    def __init__(self):
        super().__init__()
        self.t = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: Tensor, v: Tensor, charges: Tensor) -> Tensor:
        return x + self.t * v

    @torch.no_grad()
    def fit(self, data: NBodySet) -> None:
        self.t.copy_((data.v * (data.target - data.x)).sum() / data.v.square().sum())


def rotation(generator: torch.Generator) -> Tensor:
    """A random orthogonal matrix, reflections included (uniform: signs of R are fixed)."""
    Q, R = torch.linalg.qr(torch.randn(3, 3, generator=generator))
    return Q * R.diagonal().sign()


@torch.no_grad()
def predict(model: nn.Module, data: NBodySet, Q: Tensor | None = None, *, shift: float = 0.0):
    """Predictions for the systems turned by Q and moved by `shift` along every axis."""
    Q = torch.eye(3, device=data.x.device) if Q is None else Q.to(data.x.device)
    parts = zip(data.x.split(500), data.v.split(500), data.charges.split(500), strict=True)
    return torch.cat([model(x @ Q.T + shift, v @ Q.T, q) for x, v, q in parts])


def measure(model: nn.Module, test: NBodySet) -> dict:
    """The test error: as it is, turned, moved; and how far f(Qx) is from Q f(x)."""
    Q = rotation(torch.Generator().manual_seed(0)).to(test.x.device)
    plain, turned = predict(model, test), predict(model, test, Q)
    moved = predict(model, test, shift=5.0)
    return {
        "test_mse": mse_loss(plain, test.target).item(),
        "test_mse_rotated": mse_loss(turned, test.target @ Q.T).item(),
        "test_mse_shifted": mse_loss(moved - 5.0, test.target).item(),
        "equivariance_rms": math.sqrt(mse_loss(turned, plain @ Q.T).item()),
    }


def train(config: Config, run: Run) -> dict:
    sizes = {"train": config.systems, "valid": config.held_out, "test": config.held_out}
    fit, valid, test = (
        nbody_set(part, size, config.along_x).to(run.device) for part, size in sizes.items()
    )
    model = build(config).to(run.device)
    network = run.data_parallel(model)
    if isinstance(model, Linear):
        model.fit(fit)
    chosen = copy.deepcopy(model)  # the weights of the epoch with the lowest validation error
    best = {"valid_mse": mse_loss(predict(model, valid), valid.target).item(), "epoch": 0}
    curve = {"curve_epoch": [], "curve_valid_mse": []}
    optimizer = torch.optim.Adam(
        model.parameters(), config.learning_rate, weight_decay=1e-12, fused=True
    )
    shuffle = torch.Generator().manual_seed(run.seed)
    state = dict(model=model, chosen=chosen, optimizer=optimizer, shuffle=shuffle)
    with value_checks(False):
        # Not `running.fit`: it counts epochs, and validates after some of them.
        for epoch in run.steps(config.epochs, best=best, curve=curve, **state):
            for batch in torch.randperm(config.systems, generator=shuffle).split(config.batch):
                data = fit.take(share(batch))
                x, v, target = data.x, data.v, data.target
                if config.rotated:
                    Q = rotation(shuffle).to(run.device)
                    x, v, target = x @ Q.T, v @ Q.T, target @ Q.T
                loss = share_weight(batch) * mse_loss(network(x, v, data.charges), target)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
            if (epoch + 1) % config.check_every == 0 or epoch + 1 == config.epochs:
                mse = mse_loss(predict(model, valid), valid.target).item()
                if len(curve["curve_epoch"]) * config.epochs < (epoch + 1) * config.curve_points:
                    curve["curve_epoch"].append(epoch + 1)
                    curve["curve_valid_mse"].append(mse)
                if mse < best["valid_mse"]:
                    best.update(valid_mse=mse, epoch=epoch + 1)
                    chosen.load_state_dict(model.state_dict())
    if isinstance(chosen, NBodyEGNN):
        run.offer(chosen, **arguments(config))
    weights = sum(p.numel() for p in model.parameters())
    return measure(chosen, test) | best | {"weights": weights} | curve


def test_mse(model: nn.Module) -> float:
    """On the 2,000 test systems."""
    return measure(model, nbody_set("test", EGNN_.held_out))["test_mse"]


SHIP = Ship("egnn", 0, "test_mse", test_mse, digits=5)

if __name__ == "__main__":
    main(__file__, SIZES, train, seeds=SEEDS, ship=SHIP)
