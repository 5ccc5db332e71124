"""Several cards: what they tell each other, and what each holds (DDP and FSDP2)."""

import math
from dataclasses import dataclass

from archbook.cost.counting import Count
from archbook.cost.machines import A_MACHINE, Card, Machine

FLOAT = 4  # bytes: the experiments train in float32
BUCKET = 25 * 2**20  # bytes of gradients that DDP sends at once, PyTorch's default
ADAM = 7 * FLOAT  # bytes a weight that Adam reads and writes: weight, gradient, two moments
MOMENTS = 2 * FLOAT


@dataclass(frozen=True)
class Step:
    """One training step of all cards together."""

    working: float  # seconds of the pass and of Adam
    talking: float  # seconds of the collectives, as if none ran beside the pass
    memory: float  # bytes on each card

    @property
    def seconds(self) -> float:
        return self.working + self.talking

    @property
    def share(self) -> float:
        """Of the step that is talk: at most, since DDP and FSDP2 hide what they can."""
        return self.talking / self.seconds


def link(card: Card, cards: int) -> float:
    """Bytes a second that a ring over so many cards moves through each of them.

    A ring that leaves the machine crosses all of its network adapters side by side.
    """
    return card.inside if cards <= A_MACHINE else min(card.inside, A_MACHINE * card.outside)


def all_reduce(size: float, cards: int) -> float:
    """Bytes through each card of a ring: to sum up, then to hand round."""
    return 2 * (cards - 1) / cards * size


def all_gather(size: float, cards: int) -> float:
    """Half of an all-reduce, as a reduce-scatter is."""
    return (cards - 1) / cards * size


def step(count: Count, card: Card, machine: Machine, cards: int, *, blocks: int = 0) -> Step:
    """Of `cards` processes with `count` each; with `blocks`, FSDP2 shares the weights out.

    FSDP2 gathers the weights of each block before its forward and before its backward pass, and
    holds two blocks whole; then the gradients are summed to where they belong.
    """
    if isinstance(cards, bool) or not isinstance(cards, int) or cards < 1:
        raise ValueError(f"wanted cards to be a whole number of at least 1, given {cards}")
    weights = count.weights * FLOAT
    if blocks:
        moved, calls = 3 * all_gather(weights, cards), 3 * blocks
        # the pass's peak holds whole gradients; kept are a share of weights, gradients, moments
        held = (2 * weights + count.weights * MOMENTS) / cards - weights + 2 * weights / blocks
        own = count.weights / cards
    else:
        moved, calls = all_reduce(weights, cards), math.ceil(weights / BUCKET)
        held = weights + count.weights * MOMENTS + (weights if cards > 1 else 0)  # DDP's buckets
        own = count.weights
    talking = 0.0 if cards == 1 else moved / link(card, cards) + calls * machine.call
    working = machine.seconds(count) + own * ADAM / machine.bandwidth
    return Step(working, talking, held + count.peak)


def largest_batch(memory: float, one: Step, two: Step, most: int) -> int:
    """Examples that fit on a card, `most` at most, from what one and two of them take."""
    if one.memory > memory:
        return 0
    return min(most, 1 + int((memory - one.memory) // (two.memory - one.memory)))
