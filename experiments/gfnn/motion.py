"""Captured walking and running: the next frame, and what becomes of three hundred next frames.

Every model sees the same numbers: pose, velocities, contacts, trajectory, phase and speed. A grid
of phase by speed (4 x 4 networks) stands beside plain networks of its width and of its stored
parameters (and 6 % fewer multiply-adds), Fourier features, PFNN and MANN. Trained alike, on
one-step pairs with noise on the state; steps and noise are the same for all, and were set after one
look at the validation stretch with seed 0. Held out are stretches of the walk and of the run.
Roll-outs are commanded by a speed alone, straight ahead, for ten seconds.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from archbook.checks import value_checks
from archbook.data.locomotion import (
    FEET,
    FPS,
    HELD_OUT,
    INPUTS,
    OUTPUTS,
    POSE,
    SECONDS,
    STATE,
    FramePairs,
    Gait,
    frame_pairs,
    gaits,
    grid_input,
    humanoid,
    network_input,
    pose_positions,
    states,
)
from archbook.data.motion import rotation_from_6d, rotation_to_6d
from archbook.gfnn import (
    MLP,
    FourierMLP,
    GridFunctionedNetwork,
    ModeAdaptiveNetwork,
    PhaseFunctionedNetwork,
    multiply_adds,
)
from archbook.running import Run, cosine_adam, fit, main, share

COMMANDS = tuple(round(0.8 + 0.2 * k, 1) for k in range(15))  # m/s
UNSEEN = (1.8, 2.6)  # m/s: no clip moves at a speed between these
ROLLOUT, SETTLE = 300, 120  # frames of a roll-out, and those before its speed is measured
FOLLOW = 15  # frames of a held-out stretch that a roll-out is compared with
SLIDING_HEIGHT = 0.025  # m: a foot above it does not slide
LEAVES_AT = 0.15  # m from every pose of training: the motion has broken down
CHANGES = ((0, 1.0), (90, 3.4), (210, 1.0))  # frame, commanded speed from there on
KEPT = 120  # frames of the changing roll-out whose joints are kept, from the 60th on
PART = {"pose": POSE, "height": 1, "velocity": 3, "contacts": 2}  # groups of a state's numbers


@dataclass(frozen=True)
class Config:
    model: str = "gfnn"  # gfnn, mlp, fourier, pfnn, mann or copy (the next frame is this one)
    hidden: int = 32  # width of the two hidden layers
    grid: tuple[int, ...] = (4, 4)  # nodes of phase (cyclic) and speed
    init: str = "independent"  # independent or tied experts
    noise: float = 0.1  # on the state in training, in standard deviations
    steps: int = 2000  # of training
    batch: int = 64  # pairs a step
    learning_rate: float = 1e-3  # of Adam, lowered to zero along a cosine


GRID = Config()
FULL = {
    "gfnn": GRID,
    "mlp_hidden": replace(GRID, model="mlp"),
    "mlp_matched": replace(GRID, model="mlp", hidden=255),
    "pfnn": replace(GRID, model="pfnn"),
    "mann": replace(GRID, model="mann"),
    "fourier": replace(GRID, model="fourier", hidden=243),
    "copy": replace(GRID, model="copy", steps=0),
    "gfnn_8x4": replace(GRID, grid=(8, 4)),
    "gfnn_1x4": replace(GRID, grid=(1, 4)),
    "gfnn_tied": replace(GRID, init="tied"),
    "gfnn_no_noise": replace(GRID, noise=0.0),
    "mlp_matched_no_noise": replace(GRID, model="mlp", hidden=255, noise=0.0),
}
SIZES = {
    "tiny": {
        name: replace(config, hidden=min(config.hidden, 6), steps=min(config.steps, 2), batch=16)
        for name, config in FULL.items()
    },
    "full": FULL,
    "paper": {"gfnn": replace(GRID, hidden=512, steps=20_000)},
}
SEEDS = {"copy": (0,)}


class Character(nn.Module):
    """(x, g) -> the next state and the phase's advance, in their own units."""

    def __init__(self, config: Config, pairs: FramePairs):
        super().__init__()
        self.config = config
        for name, values, extra in (("x", pairs.x, [8, 2, 1]), ("y", pairs.y, [1])):
            self.register_buffer(f"{name}_mean", values.mean(0))
            self.register_buffer(f"{name}_std", _group_deviation(values, extra))
        hidden = config.hidden
        bodies = {
            "gfnn": lambda: GridFunctionedNetwork(
                INPUTS,
                hidden,
                OUTPUTS,
                grid_shape=config.grid,
                cyclic=(True, False),
                init=config.init,
            ),
            "mlp": lambda: MLP(INPUTS, hidden, OUTPUTS),
            "fourier": lambda: FourierMLP(INPUTS, hidden, OUTPUTS, frequencies=64, scale=0.02),
            "pfnn": lambda: PhaseFunctionedNetwork(INPUTS, hidden, OUTPUTS),
            "mann": lambda: ModeAdaptiveNetwork(INPUTS, hidden, OUTPUTS, gate_features=5),
            "copy": lambda: nn.Identity(),
        }
        if config.model not in bodies:
            raise ValueError(
                f"wanted model to be one of {', '.join(bodies)}, given {config.model!r}"
            )
        self.body = bodies[config.model]()

    x_mean: Tensor
    x_std: Tensor
    y_mean: Tensor
    y_std: Tensor

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        return self.standard(self.scaled(x), g) * self.y_std + self.y_mean

    def scaled(self, x: Tensor) -> Tensor:
        return (x - self.x_mean) / self.x_std

    def standard(self, x: Tensor, g: Tensor) -> Tensor:
        """The same, from scaled inputs, in standard deviations."""
        kind = self.config.model
        if kind == "copy":  # the state stays, the phase moves on as it does on average
            here = x[:, :STATE] * self.x_std[:STATE] + self.x_mean[:STATE] - self.y_mean[:STATE]
            return torch.cat([here / self.y_std[:STATE], torch.zeros_like(x[:, :1])], 1)
        if kind == "gfnn":
            return self.body(x, g)
        if kind == "pfnn":
            return self.body(x, g[:, 0])
        if kind == "mann":  # its gate sees the feet's contacts, the phase and the speed
            return self.body(x, torch.cat([x[:, STATE - 2 : STATE], x[:, -3:]], 1))
        return self.body(x)


def _group_deviation(values: Tensor, extra: list[int]) -> Tensor:
    """One deviation for a whole pose, as in PFNN, and for each other group of numbers."""
    parts = values.std(0).split([*PART.values(), *extra])
    return torch.cat([part.square().mean().sqrt().expand(len(part)) for part in parts])


# ---- roll-outs ----


@dataclass
class Rollout:
    """Several characters, frame by frame; the world's axes, metres."""

    joints: Tensor  # (frames, characters, 15, 3)
    poses: Tensor  # (frames, characters, 15, 3), the pelvis above the origin, heading x
    heading: Tensor  # (frames, characters)
    phase: Tensor  # (frames, characters)


@torch.no_grad()
def roll_out(
    model: Callable[[Tensor, Tensor], Tensor],
    state: Tensor,
    phase: Tensor,
    *,
    speed_before: Tensor,
    command: Callable[[int], Tensor],
    frames: int,
) -> Rollout:
    """From a state of each character: its own output is the next input, `command` tells a speed.

    Before the start everyone came straight along x, and straight along x is where they shall go.
    """
    batch, device = len(state), state.device
    reach = round(-SECONDS[0] * FPS)
    back = torch.arange(-reach, 1, device=device)[:, None] / FPS * speed_before
    path = [torch.stack([x, torch.zeros_like(x)], 1) for x in back]
    yaw = torch.zeros(batch, device=device)
    kept = {"states": [], "heading": [], "phase": []}
    for frame in range(frames):
        speed = command(frame)
        here, ahead = path[-1], torch.stack([speed, torch.zeros_like(speed)], 1)
        points = []
        for seconds in SECONDS:
            there = path[-1 + round(seconds * FPS)] if seconds < 0 else here + seconds * ahead
            points.append(turned(there - here, -yaw))
        x = network_input(state, torch.stack(points, 1), phase, speed=speed)
        y = model(x, grid_input(phase, speed))
        moved = y[:, POSE + 1 : POSE + 4] / FPS
        path.append(here + turned(moved[:, :2], yaw))
        yaw = yaw + moved[:, 2]
        phase = phase + y[:, STATE].clamp(min=0)
        state = y[:, :STATE].clone()
        pose = rotation_to_6d(rotation_from_6d(state[:, :POSE].unflatten(1, (-1, 6))))
        state[:, :POSE] = pose.flatten(1)
        state[:, -2:] = state[:, -2:].clamp(0, 1)
        kept["states"].append(state)
        kept["heading"].append(yaw)
        kept["phase"].append(phase)
    found = {name: torch.stack(values) for name, values in kept.items()}
    poses, ground = pose_positions(found.pop("states")), torch.stack(path[-frames:])
    flat = turned(poses[..., :2], found["heading"][..., None].expand(poses.shape[:3]))
    joints = torch.cat([flat + ground[:, :, None], poses[..., 2:]], -1)
    return Rollout(joints, poses, **found)


def turned(vector: Tensor, yaw: Tensor) -> Tensor:
    x, y = vector.unbind(-1)
    cos, sin = yaw.cos(), yaw.sin()
    return torch.stack([cos * x - sin * y, sin * x + cos * y], -1)


def sliding(joints: Tensor) -> Tensor:
    """Centimetres a frame that feet near the ground move along it (as in Zhang et al. 2018).

    The way of a foot, times 2 - 2^(h / H) of its height h: all of it on the ground, none above H.
    Mean over both feet and all frames; (frames, characters, joints, 3) -> (characters).
    """
    feet = joints[:, :, humanoid().place(*FEET)]
    way = 100 * (feet[1:] - feet[:-1])[..., :2].norm(dim=-1)
    height = (feet[1:, ..., 2] / SLIDING_HEIGHT).clamp(0, 1)
    return (way * (2 - 2**height)).mean((0, 2))


def strangeness(poses: Tensor, known: Tensor) -> Tensor:
    """Root mean square distance (m) of a pose's joints from those of the nearest known pose."""
    apart = torch.cdist(poses.flatten(0, -3).flatten(1), known.flatten(1))
    return apart.amin(1).unflatten(0, poses.shape[:-2]) / math.sqrt(poses.shape[-2])


# ---- what is measured ----


def joint_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean distance of joints, in cm, of each state."""
    apart = pose_positions(found[:, :STATE]) - pose_positions(wanted[:, :STATE])
    return 100 * apart.norm(dim=-1).mean(-1)


@torch.no_grad()
def one_step(model: Character, pairs: FramePairs, part: str) -> dict:
    found = model(pairs.x, pairs.g)
    error = (found - pairs.y) / model.y_std
    return {
        f"{part}_mse": error.square().mean().item(),
        f"{part}_joint_cm": joint_error(found, pairs.y).mean().item(),
        f"{part}_speed_error": (found - pairs.y)[:, POSE + 1].abs().mean().item(),
    }


def start_of(name: str, device: torch.device, frame: int | None = None) -> tuple[Tensor, ...]:
    """State, phase and speed of a clip and of its mirror image, at a frame (its own first)."""
    chosen = [gait for gait in gaits() if gait.name == name]
    at = [gait.inside[0] if frame is None else frame for gait in chosen]
    return tuple(
        torch.stack([values(gait)[t] for gait, t in zip(chosen, at, strict=True)])
        .float()
        .to(device)
        for values in (states, lambda gait: gait.phase, lambda gait: gait.speed)
    )


def follow(model: Character, device: torch.device) -> dict:
    """Held-out stretches, rolled out from their first frame at their speed: joints' error, cm."""
    errors = []
    for name, parts in HELD_OUT.items():
        first = parts["test"][0]
        state, phase, speed = start_of(name, device, first)
        there = roll_out(
            model,
            state,
            phase,
            speed_before=speed,
            command=lambda _, speed=speed: speed,
            frames=FOLLOW,
        )
        own = [gait for gait in gaits() if gait.name == name]
        wanted = torch.stack([stretch(gait, first + 1, FOLLOW) for gait in own], 1).to(device)
        errors.append(100 * (there.poses - wanted).norm(dim=-1).mean((1, 2)))
    error = torch.stack(errors).mean(0)
    return {"follow_5_cm": error[4].item(), "follow_15_cm": error[14].item()}


def stretch(gait: Gait, first: int, frames: int) -> Tensor:
    return pose_positions(states(gait)[first : first + frames].float())


def commanded(model: Character, known: Tensor, device: torch.device) -> dict:
    """Ten seconds at each speed, from a frame of the slow walk: control, drift, sliding."""
    state, phase, speed = (part[:1] for part in start_of("slow_walk", device))
    wanted = torch.tensor(COMMANDS, device=device)
    count = len(COMMANDS)
    out = roll_out(
        model,
        state.expand(count, -1),
        phase.expand(count),
        speed_before=speed.expand(count),
        command=lambda _: wanted,
        frames=ROLLOUT,
    )
    pelvis = out.joints[:, :, 0]
    seconds = (ROLLOUT - 1 - SETTLE) / FPS
    found = (pelvis[-1, :, 0] - pelvis[SETTLE, :, 0]) / seconds
    error = (found - wanted).abs()
    between = (wanted >= UNSEEN[0]) & (wanted <= UNSEEN[1])
    strange = strangeness(out.poses[-60:], known).mean(0)
    cadence = (out.phase[-1] - out.phase[SETTLE]) / seconds
    return {
        "control_error": error.mean().item(),
        "control_error_seen": error[~between].mean().item(),
        "control_error_unseen": error[between].mean().item(),
        "sliding_cm": sliding(out.joints[SETTLE:]).mean().item(),
        "strangeness_cm": 100 * strange.mean().item(),
        "broken": int((strange > LEAVES_AT).sum()),
        "lateral_m": pelvis[-1, :, 1].abs().mean().item(),
        "heading_deg": out.heading[-1].abs().mean().item() * 180 / math.pi,
        "curve_speed": rounded(found),
        "curve_sliding": rounded(sliding(out.joints[SETTLE:])),
        "curve_cadence": rounded(cadence),
    }


def changing(model: Character, device: torch.device, keep: bool) -> dict:
    """Walk, run, walk: the speed of the pelvis, averaged over half a second; and the joints."""
    state, phase, speed = (part[:1] for part in start_of("slow_walk", device))

    def command(frame: int) -> Tensor:
        return torch.full_like(speed, [v for start, v in CHANGES if start <= frame][-1])

    out = roll_out(model, state, phase, speed_before=speed, command=command, frames=ROLLOUT)
    x = out.joints[:, 0, 0, 0]
    width = 15
    found: dict[str, list] = {"curve_change": rounded((x[width:] - x[:-width]) * FPS / width)[::3]}
    if keep:
        joints = out.joints[60 : 60 + KEPT, 0].clone()
        found["joints"] = [[rounded(joint) for joint in frame] for frame in joints]
    return found


def rounded(values: Tensor) -> list[float]:
    return [round(value, 3) for value in values.tolist()]


def of_the_clips() -> dict:
    """What the captured clips themselves do: the sliding of their feet, cm a frame."""
    found = []
    for gait in gaits():
        first, last = gait.inside
        found.append(sliding(gait.motion.positions()[first:last, None].float()).item())
    return {"clips_sliding_cm": sum(found) / len(found)}


def train(config: Config, run: Run) -> dict:
    parts = {}
    for name in ("train", "valid", "test"):
        pairs = frame_pairs(name)
        parts[name] = FramePairs(**{k: v.to(run.device) for k, v in vars(pairs).items()})
    shown = parts["train"]
    model = Character(config, shown).to(run.device)
    if config.steps:
        draw = torch.Generator().manual_seed(run.seed)
        x, y = model.scaled(shown.x), (shown.y - model.y_mean) / model.y_std

        def loss() -> Tensor:
            batch = share(torch.randint(len(shown), (config.batch,), generator=draw))
            given = x[batch].clone()
            noise = share(torch.randn(config.batch, STATE, generator=draw))
            given[:, :STATE] += config.noise * noise.to(run.device)
            return mse_loss(model.standard(given, shown.g[batch]), y[batch])

        rule = cosine_adam(model, config.learning_rate, config.steps)
        with value_checks(False):
            fit(run, model, loss, steps=config.steps, rule=rule, draw=draw)
    copies = config.model == "copy"
    metrics = {"multiply_adds": 0 if copies else multiply_adds(model.body)}
    metrics["weights"] = sum(p.numel() for p in model.parameters())
    with value_checks(False):
        for name, pairs in parts.items():
            metrics |= one_step(model, pairs, name)
        metrics |= follow(model, run.device)
        if not copies:
            known = pose_positions(shown.y[:, :STATE])
            metrics |= commanded(model, known, run.device)
            metrics |= changing(model, run.device, config == GRID and run.seed == 0)
    return metrics | of_the_clips()


if __name__ == "__main__":
    main(__file__, SIZES, train, seeds=SEEDS)
