"""Charged particles that attract and repel each other: the paper's first experiment, simulated.

The scheme is that of the authors' files, down to its quirks: a full kick before the first step,
forces clipped component by component, no wall during the run.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from archbook.checks import as_size
from archbook.data.kept import kept

SEED = 43  # of the paper's small set
FRAMES = 49  # that the authors store of a system
PARTS = {"train": (0, 10_000), "valid": (10_000, 2_000), "test": (12_000, 2_000)}  # first, number
BOX = 5.0  # the start is reflected into [-5, 5]^3
SPEED = 0.5  # of every particle at the start
CHUNK = 500  # systems at a time: what a step touches stays in the processor's cache
INPUT_FRAME = 30  # step 3,100
TO_TARGET = 10  # frames from input to target: one unit of time


@dataclass(frozen=True)
class NBodySet:
    """Pairs of states one unit of time (1,000 steps) apart, float32."""

    x: Float[Tensor, "systems particles 3"]  # positions at step 3,100 (along_x: at step 100)
    v: Float[Tensor, "systems particles 3"]  # velocities there
    charges: Float[Tensor, "systems particles"]  # -1 or 1
    target: Float[Tensor, "systems particles 3"]  # positions 1,000 steps later

    def take(self, which: Int64[Tensor, " taken"]) -> "NBodySet":
        return NBodySet(**{name: value[which] for name, value in vars(self).items()})

    def to(self, device: torch.device | str) -> "NBodySet":
        return NBodySet(**{name: value.to(device) for name, value in vars(self).items()})


def draw_systems(
    systems: int,
    particles: int = 5,
    *,
    seed: int = SEED,
    first: int = 0,
    along_x: bool = False,
) -> tuple[
    Float[Tensor, "systems particles 3"],
    Float[Tensor, "systems particles 3"],
    Float[Tensor, "systems particles"],
]:
    """Starts of systems `first`, `first` + 1, ...: (positions, velocities, charges), float64.

    Charges are -1 or 1 with equal chance. Positions are normal with standard deviation
    (particles / 5)^(1/3), reflected into the box, and with them the velocities, which have length
    0.5 and a random direction, or with `along_x` that of the first axis. The numbers are those that
    the authors' files draw from this seed, in their order, the unused ones included: so the sets
    are the paper's own, as far as a seed can tell.
    """
    systems, particles = as_size("systems", systems), as_size("particles", particles)
    first = as_size("first", first, least=0)
    rng = np.random.RandomState(seed)  # their generator, stable by numpy's promise
    coordinates = 3 * particles
    normal = np.empty((first + systems, 2 * coordinates))
    uniform = np.empty((first + systems, particles))
    for k in range(first + systems):
        uniform[k] = rng.random_sample(particles)
        # their noise of variance zero comes last, and moves the stream on
        normal[k] = rng.standard_normal(2 * coordinates * (1 + FRAMES))[: 2 * coordinates]
    charges = np.where(uniform[first:] < 0.5, -1.0, 1.0)
    drawn = normal[first:].reshape(systems, 2, 3, particles).swapaxes(2, 3)
    positions, velocities = np.ascontiguousarray(drawn).swapaxes(0, 1)
    positions *= (particles / 5) ** (1 / 3)
    outside = np.abs(positions) > BOX
    velocities[outside] = -np.sign(positions[outside]) * np.abs(velocities[outside])
    positions[outside] = np.sign(positions[outside]) * 2 * BOX - positions[outside]
    if along_x:
        velocities[:] = (1.0, 0.0, 0.0)
    velocities *= SPEED / np.linalg.norm(velocities, axis=-1, keepdims=True)
    return torch.from_numpy(positions), torch.from_numpy(velocities), torch.from_numpy(charges)


def simulate(
    positions: Float[Tensor, "systems particles 3"],
    velocities: Float[Tensor, "systems particles 3"],
    charges: Float[Tensor, "systems particles"],
    *,
    steps: int,
    dt: float = 0.001,
    sample_every: int = 100,
) -> tuple[
    Float[Tensor, "systems frames particles 3"], Float[Tensor, "systems frames particles 3"]
]:
    """Positions and velocities at steps sample_every, 2 sample_every, ...: frames k = 0, 1, ...

    Coulomb's law with unit strength and mass, F_i = sum_j q_i q_j (x_i - x_j) / |x_i - x_j|^3,
    each component clipped to 0.1 / dt. Semi-implicit Euler in float64: a kick v += dt F; then for
    i = 1 .. steps - 1: x += dt v, the sample if i divides, a kick. (steps - 1) // sample_every
    frames, frame k at step sample_every (k + 1). The inputs are not modified. Particles in one
    place have no direction of force: their system becomes NaN.
    """
    x0, v0, q = (np.asarray(value, np.float64) for value in (positions, velocities, charges))
    if x0.ndim != 3 or x0.shape[2] != 3 or v0.shape != x0.shape or q.shape != x0.shape[:2]:
        raise ValueError(
            "wanted positions and velocities of shape (systems, particles, 3) and charges of "
            f"(systems, particles), given {x0.shape}, {v0.shape} and {q.shape}"
        )
    steps, sample_every = as_size("steps", steps), as_size("sample_every", sample_every)
    if len(x0) < 1 or x0.shape[1] < 2 or not dt > 0:
        raise ValueError(
            "wanted at least 1 system, 2 particles and dt > 0, "
            f"given {len(x0)}, {x0.shape[1]} and {dt}"
        )
    if not all(np.isfinite(value).all() for value in (x0, v0, q)):
        raise ValueError("wanted finite positions, velocities and charges, given NaN or infinity")
    chunks = [slice(first, first + CHUNK) for first in range(0, len(x0), CHUNK)]
    runs = [
        _simulate(x0[c], v0[c], q[c], steps=steps, dt=dt, sample_every=sample_every) for c in chunks
    ]
    x, v = (torch.from_numpy(np.concatenate(part)) for part in zip(*runs, strict=True))
    return x, v


def _simulate(x, v, q, *, steps: int, dt: float, sample_every: int):
    """One chunk, in arrays (particle, axis, system), over the pairs a < b (opposite forces)."""
    _, particles, _ = x.shape
    # copies: the loop works in place, and one system is contiguous in either order
    x, v, q = (np.array(np.moveaxis(value, 0, -1), order="C") for value in (x, v, q))
    a, b = np.triu_indices(particles, 1)
    to_particles = np.zeros((particles, len(a)))  # sums the pairs' forces
    to_particles[a, np.arange(len(a))], to_particles[b, np.arange(len(a))] = 1.0, -1.0
    product = (q[a] * q[b])[:, None]

    def kick() -> None:
        difference = x[a] - x[b]  # (pairs, 3, systems)
        square = np.einsum("pis,pis->ps", difference, difference)[:, None]
        difference *= product / (square * np.sqrt(square))
        force = to_particles @ difference.reshape(len(a), -1)
        np.clip(force, -0.1 / dt, 0.1 / dt, out=force)
        force *= dt
        np.add(v, force.reshape(v.shape), out=v)

    frames = np.empty((2, (steps - 1) // sample_every, *x.shape))
    kick()
    for i in range(1, steps):
        x += dt * v
        if i % sample_every == 0:
            frames[:, i // sample_every - 1] = x, v
        kick()
    return np.moveaxis(frames, -1, 1)  # (2, systems, frames, particles, 3)


@kept(most=8)
def nbody_set(part: str, systems: int, along_x: bool = False) -> NBodySet:
    """The first `systems` pairs of a part of the paper's small set: five particles, 3-D.

    The paper trains on 3,000 of its 10,000 systems, validates on 2,000 and tests on 2,000. With
    `along_x` all systems start along the first axis and are seen right after: by the paper's step
    3,100 encounters have turned the velocities every way. A few seconds of work; kept in memory
    for the next call, which gets a copy.

    >>> pairs = nbody_set("train", 2)
    >>> pairs.x.shape, pairs.charges
    (torch.Size([2, 5, 3]), tensor([[-1.,  1., -1., -1., -1.],
            [ 1., -1.,  1.,  1.,  1.]]))
    """
    if part not in PARTS:
        raise ValueError(f"wanted a part out of {', '.join(PARTS)}, given {part!r}")
    first, number = PARTS[part]
    if not as_size("systems", systems) <= number:
        raise ValueError(f"wanted 1 to {number} systems of {part}, given {systems}")
    start = draw_systems(systems, first=first, along_x=along_x)
    frame = 0 if along_x else INPUT_FRAME
    x, v = simulate(*start, steps=100 * (frame + TO_TARGET + 1) + 1)
    return NBodySet(
        x=x[:, frame].float(),
        v=v[:, frame].float(),
        charges=start[2].float(),
        target=x[:, frame + TO_TARGET].float(),
    )
