"""Four functions on the unit square, each with detail in a small part of it.

Ours: those of the paper are not known to us. A gross feature sets the scale of the error, a minor
one is what a network drops first; `zone` says where the minor one lies.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from archbook.checks import as_size

SEEDS = {"train": 0, "test": 1}
STREAM = 8  # so that other experiments' points are others


@dataclass(frozen=True)
class Regression:
    """A function of (u, v) in [0, 1]^2."""

    title: str
    value: Callable[[Tensor, Tensor], Tensor]
    zone: Callable[[Tensor, Tensor], Tensor]  # True where the minor feature lies
    cyclic: bool = False  # u = 0 and u = 1 are one place, and u is no part of x


def _ripple(u: Tensor, v: Tensor) -> Tensor:
    near = torch.exp(-((u - 0.5).square() + (v - 0.5).square()) / 0.02)
    swell = 3 * (math.pi * u).sin() * (math.pi * v).cos()
    return swell + 0.3 * (12 * math.pi * u).sin() * near


def _past_ridge(u: Tensor, v: Tensor) -> Tensor:
    return u - 0.5 - 0.2 * (2 * math.pi * v).sin()


REGRESSIONS = {
    "ripple": Regression(
        "a ripple under a swell",
        _ripple,
        lambda u, v: (u - 0.5).square() + (v - 0.5).square() < 0.03,
    ),
    "ridge": Regression(
        "a steep ridge",
        lambda u, v: (40 * _past_ridge(u, v)).tanh(),
        lambda u, v: _past_ridge(u, v).abs() < 0.05,
    ),
    "chirp": Regression(
        "a wave that shortens",
        lambda u, v: (2 * math.pi * u * (1 + 6 * v)).sin(),
        lambda u, v: v > 0.75,
    ),
    "cycle": Regression(
        "a closed axis",
        lambda u, v: (
            (2 * math.pi * u).sin() * (4 * math.pi * v).cos() + 0.1 * (14 * math.pi * u).sin()
        ),
        lambda u, v: (4 * math.pi * v).cos().abs() < 0.1,
        cyclic=True,
    ),
}


@dataclass(frozen=True)
class RegressionSet:
    """Points drawn evenly from the unit square, and the function there, float32."""

    g: Float[Tensor, "points 2"]  # u and v
    y: Float[Tensor, "points 1"]  # of mean 0 and variance 1 over the square
    zone: Bool[Tensor, " points"]  # where the minor feature lies


def regression_set(name: str, part: str, points: int = 20_000) -> RegressionSet:
    """The same points for every function; "train" and "test" are drawn apart.

    >>> points = regression_set("ripple", "train", points=1000)
    >>> points.g.shape, points.y.shape, points.zone.dtype
    (torch.Size([1000, 2]), torch.Size([1000, 1]), torch.bool)
    """
    if name not in REGRESSIONS:
        raise ValueError(f"wanted a function out of {', '.join(REGRESSIONS)}, given {name!r}")
    if part not in SEEDS:
        raise ValueError(f"wanted a part out of {', '.join(SEEDS)}, given {part!r}")
    draw = torch.Generator().manual_seed(STREAM * 2 + SEEDS[part])
    g = torch.rand(as_size("points", points), 2, generator=draw)
    u, v = g.double().unbind(1)
    function = REGRESSIONS[name]
    mean, deviation = _moments(function)
    y = (function.value(u, v) - mean) / deviation
    return RegressionSet(g, y.float()[:, None], function.zone(u, v))


def _moments(function: Regression) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the square, by the midpoints of a fine lattice."""
    axis = (torch.arange(512, dtype=torch.float64) + 0.5) / 512
    values = function.value(*torch.meshgrid(axis, axis, indexing="ij"))
    return values.mean(), values.std(correction=0)
