"""Roll-outs of the five charged particles: 100 steps of the simulator in one, again and again.

Ours, not the paper's: its model predicts no velocity, so its answer cannot be its next question.
Here a small EGNN maps (x, v) to (x, v) a tenth of a unit of time later, trained on single steps.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from archbook.checks import value_checks
from archbook.data.nbody import draw_systems, simulate
from archbook.egnn import EGNN, complete_edges
from archbook.running import Run, cosine_adam, fit, main, share

SEEDS_OF = {"train": 50, "valid": 51, "test": 52}  # of the simulated systems
LEAP = 100  # simulator steps a model step
TIME = 0.1  # units of time a model step


@dataclass(frozen=True)
class Config:
    systems: int = 1000  # to train on; a fifth as many to validate, and to test
    frames: int = 41  # of each, LEAP steps apart
    train_steps: int = 6000  # of the optimiser
    batch: int = 100  # pairs of frames a step
    learning_rate: float = 1e-3  # of Adam, lowered to zero along a cosine
    hidden: int = 32  # width
    layers: int = 4  # depth
    start: int = 10  # frame from which the roll-out begins
    rollout: int = 20  # its length, in model steps
    check_every: int = 300  # training steps between two looks at the validation pairs


SIZES = {
    "tiny": {"egnn": Config(20, 12, 20, 20, hidden=8, layers=2, start=1, rollout=5)},
    "full": {"egnn": Config()},
    "paper": {"egnn": Config(systems=3000, train_steps=60_000, hidden=64)},
}


class Leap(nn.Module):
    """(x, v, charges), each (systems, particles, ..) -> (x, v) LEAP steps later.

    The last layer's velocity is a vector, so it may be added to v; the particles then move with
    the mean of the old and the new velocity. The network learns an acceleration.
    """

    def __init__(self, hidden: int, layers: int):
        super().__init__()
        self.body = EGNN(1, hidden, layers, edge_features=1, velocity=True)
        # Features of the last layer lead nowhere: said to torch, as in `NBodyEGNN`.
        self.body.layers[-1].phi_h.requires_grad_(False)

    def forward(self, x: Tensor, v: Tensor, charges: Tensor) -> tuple[Tensor, Tensor]:
        shape = x.shape
        edges = complete_edges([shape[1]] * shape[0], x.device)
        x, v, q = x.flatten(0, 1), v.flatten(0, 1), charges.flatten()[:, None]
        product = q[edges[0]] * q[edges[1]]
        speed = v.norm(dim=-1, keepdim=True)
        new = v + TIME * self.body(speed, x, edges, edge_attr=product, v=v)[2]
        x = x + TIME * (v + new) / 2
        return x.reshape(shape), new.reshape(shape)


def trajectories(part: str, systems: int, config: Config, *, device) -> tuple[Tensor, ...]:
    """x and v (systems, frames, particles, 3), charges (systems, particles), float32."""
    start = draw_systems(systems, seed=SEEDS_OF[part])
    x, v = simulate(*start, steps=LEAP * config.frames + 1, sample_every=LEAP)
    return x.float().to(device), v.float().to(device), start[2].float().to(device)


def loss_of(model: nn.Module, data: tuple[Tensor, ...], place: tuple[Tensor, Tensor]) -> Tensor:
    """Huber's loss: a close encounter throws a velocity far off, and must not rule the rest."""
    (x, v, charges), (system, frame) = data, place
    found_x, found_v = model(x[system, frame], v[system, frame], charges[system])
    wanted_x, wanted_v = x[system, frame + 1], v[system, frame + 1]
    return smooth_l1_loss(found_x, wanted_x, beta=0.1) + smooth_l1_loss(found_v, wanted_v, beta=0.1)


@torch.no_grad()
def rolled(model: nn.Module, x: Tensor, v: Tensor, *, charges: Tensor, length: int) -> Tensor:
    """Positions (systems, length, particles, 3) after 1, 2, .. model steps."""
    frames = []
    for _ in range(length):
        x, v = model(x, v, charges)
        frames.append(x)
    return torch.stack(frames, 1)


def measure(model: nn.Module, config: Config, data: tuple[Tensor, ...]) -> dict:
    """Median distance from the truth by frame; the first system's path; the law over a roll-out."""
    x, v, charges = data
    first, last = config.start, config.start + config.rollout
    truth = x[:, first + 1 : last + 1]
    x, v = x[:, first], v[:, first]
    found = rolled(model, x, v, charges=charges, length=config.rollout)
    time = TIME * torch.arange(1, config.rollout + 1, device=x.device)[:, None, None]
    straight = x[:, None] + time * v[:, None]
    Q = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0].to(x)
    turned = rolled(model, x @ Q.T, v @ Q.T, charges=charges, length=config.rollout)

    def by_frame(positions: Tensor) -> list[float]:
        distance = (positions - truth).norm(dim=-1)  # (systems, frames, particles)
        return distance.transpose(0, 1).flatten(1).median(dim=1).values.tolist()

    def path(positions: Tensor) -> list:
        return [[[round(c, 4) for c in p] for p in frame] for frame in positions[0].tolist()]

    return {
        "error_by_frame": by_frame(found),
        "straight_error_by_frame": by_frame(straight),
        "turned_gap": (turned - found @ Q.T).norm(dim=-1).median().item(),
        "path": path(found),
        "true_path": path(truth),
        "path_charges": charges[0].tolist(),
    }


def train(config: Config, run: Run) -> dict:
    sizes = {"train": config.systems, "valid": config.systems // 5, "test": config.systems // 5}
    data = {
        part: trajectories(part, size, config, device=run.device) for part, size in sizes.items()
    }
    model = Leap(config.hidden, config.layers).to(run.device)
    chosen = copy.deepcopy(model)
    draw = torch.Generator().manual_seed(run.seed)
    best = {"valid_loss": float("inf"), "step": 0}

    def pairs(part: str, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        systems, frames = data[part][0].shape[:2]
        system = torch.randint(systems, (count,), generator=generator)
        return system, torch.randint(frames - 1, (count,), generator=generator)

    held_out = pairs("valid", 2000, torch.Generator().manual_seed(0))

    def loss() -> Tensor:
        system, frame = pairs("train", config.batch, draw)
        return loss_of(model, data["train"], (share(system), share(frame)))

    def look(step: int, _: list[float]) -> None:
        if step % config.check_every and step < config.train_steps:
            return
        with torch.no_grad():
            valid = loss_of(model, data["valid"], held_out).item()
        if valid < best["valid_loss"]:
            best.update(valid_loss=valid, step=step)
            chosen.load_state_dict(model.state_dict())

    rule = cosine_adam(model, config.learning_rate, config.train_steps)
    with value_checks(False):
        fit(
            run,
            model,
            loss,
            steps=config.train_steps,
            rule=rule,
            look=look,
            draw=draw,
            best=best,
            chosen=chosen,
        )
    weights = sum(p.numel() for p in model.parameters())
    return measure(chosen, config, data["test"]) | best | {"weights": weights}


if __name__ == "__main__":
    main(__file__, SIZES, train)
