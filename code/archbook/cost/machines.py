"""Machines as a handful of rates: what they are, and how measured times tell them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares

from archbook.cost.counting import Count

GB, TERA = 1e9, 1e12
FRESH = 32 * 2**20  # bytes of an operation from which on its memory is new pages of the system


@dataclass(frozen=True)
class Machine:
    """One card, or the cores of one processor. All rates a second."""

    name: str
    products: float  # FLOPs of matrix products, convolutions and attention
    bandwidth: float  # bytes of all other operations
    call: float  # seconds that the processor spends on one operation of torch
    packed: float | None = None  # bytes of a product's operands, which are rearranged; None: same
    fresh: float | None = None  # bytes of an operation that moves more than FRESH; None: same
    memory: float = float("inf")  # bytes
    runs_ahead: bool = False  # a card computes while its processor starts what comes next

    def seconds(self, count: Count) -> float:
        """Every operation waits for the slower of its products and its bytes."""
        flops, moved = (
            np.array([getattr(part, name) for part in count.parts], dtype=float)
            for name in ("flops", "bytes")
        )
        plain = np.where(moved > FRESH, self.fresh or self.bandwidth, self.bandwidth)
        rate = np.where(flops > 0, self.packed or self.bandwidth, plain)
        busy = float(np.maximum(flops / self.products, moved / rate).sum())
        called = self.call * count.calls
        return max(busy, called) if self.runs_ahead else busy + called


@dataclass(frozen=True)
class Card:
    """A card as its maker describes it, and how cards of its kind are joined."""

    name: str
    products: float  # FLOPs a second in float32, without tensor cores
    bandwidth: float  # bytes a second
    memory: float  # bytes
    inside: float  # bytes a second to the other cards of the machine, one way
    outside: float  # bytes a second to other machines, a card
    source: str

    def machine(self, call: float, reached: float = 1.0) -> Machine:
        """With the share of its two rates that work reaches."""
        rates = (reached * self.products, reached * self.bandwidth)
        return Machine(self.name, *rates, call, memory=self.memory, runs_ahead=True)


A_MACHINE = 8  # cards of a machine, each with a network adapter of its own
CARDS = {
    "A100": Card(
        "NVIDIA A100 80GB SXM",
        19.5 * TERA,
        2039 * GB,
        80 * GB,
        300 * GB,
        25 * GB,
        "NVIDIA A100 Tensor Core GPU data sheet (2021); DGX A100 data sheet: 200 Gb/s a card",
    ),
    "H100": Card(
        "NVIDIA H100 SXM",
        67 * TERA,
        3350 * GB,
        80 * GB,
        450 * GB,
        50 * GB,
        "NVIDIA H100 Tensor Core GPU data sheet; DGX H100 data sheet: 400 Gb/s a card",
    ),
    "H200": Card(
        "NVIDIA H200 SXM",
        67 * TERA,
        4800 * GB,
        141 * GB,
        450 * GB,
        50 * GB,
        "NVIDIA H200 Tensor Core GPU data sheet; DGX H200 data sheet: 400 Gb/s a card",
    ),
}


def calibrated(
    start: Machine, counts: Sequence[Count], seconds: Sequence[float], rates: Sequence[str]
) -> Machine:
    """The machine whose named rates explain measured times best, all rows alike.

    Of the logarithms of predicted over measured; a soft loss, so that a few rows that the model
    does not understand do not bend the rates for all others.
    """
    if not counts or len(counts) != len(seconds):
        raise ValueError(
            f"wanted as many times as counts, and some, given {len(seconds)} and {len(counts)}"
        )

    def machine(logs: np.ndarray) -> Machine:
        return replace(start, **dict(zip(rates, np.exp(logs).tolist(), strict=True)))

    def misses(logs: np.ndarray) -> np.ndarray:
        found = machine(logs)
        return np.log([found.seconds(one) for one in counts]) - np.log(seconds)

    first = np.log([getattr(start, rate) for rate in rates])
    return machine(least_squares(misses, first, loss="soft_l1", f_scale=0.15).x)
