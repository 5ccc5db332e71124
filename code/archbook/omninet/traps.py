"""Seven ways to make omnidirectional attention causal that do not, each beside a form that does.

A form takes the layers' outputs (batch, seq, depth, dim), uses them as queries, keys and values of
one head, and returns what each layer's token finds. Three questions are put to it: do the outputs
before a cut move when the tokens from there on change (a leak); do they move when another example
of the batch changes; does a token of the first layer read the last layer at its own place, as the
rule allows (the entry of position i may read all depths of positions j <= i).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from archbook.attention import (
    BigBirdAttention,
    FullAttention,
    LinformerAttention,
    PerformerAttention,
)
from archbook.attention.features import softmax_exponents
from archbook.attention.interface import no_later

Depths = Float[Tensor, "batch seq depth dim"]
Form = Callable[[Depths], Depths]

SEQ, DEPTH, DIM, FEATURES, CUT = 32, 2, 8, 32, 20
EPS = 1e-4  # as in public packages
MOVED = 1e-6  # a larger change is a change; forms that hold stay below 1e-12


@dataclass(frozen=True)
class Trap:
    """A broken form beside one that holds; `wrong` says what the tests must find."""

    name: str
    broken: Form
    right: Form
    wrong: str  # "leaks", "leaks and mixes the batch" or "reads too little"


@dataclass(frozen=True)
class Outcome:
    """The largest change of an output, in each question."""

    later: float  # by tokens from the cut on, before the cut
    mate: float  # by another example
    deeper: float  # of the first layer's output, by the last layer at the same place

    @property
    def verdict(self) -> str:
        if self.later > MOVED:
            return "leaks and mixes the batch" if self.mate > MOVED else "leaks"
        return "holds" if self.deeper > MOVED else "reads too little"


def stacked(x: Depths) -> Tensor:
    """Position-major, one head: (batch, 1, seq depth, dim)."""
    return x.flatten(1, 2)[:, None]


def unstacked(y: Tensor, depth: int) -> Depths:
    return y[:, 0].unflatten(1, (-1, depth))


def attended(attention, x: Depths, group: int | None) -> Depths:
    t = stacked(x)
    return unstacked(attention(t, t, t, group=group), x.shape[2])


def full(x: Depths) -> Depths:
    return attended(FullAttention(), x, x.shape[2])


def triangle(x: Depths) -> Depths:
    """Tokens before it in the stack, whatever their position: too strict."""
    return attended(FullAttention(), x, 1)


def layer_major_triangle(x: Depths) -> Depths:
    """The same on layer after layer: the second layer reads all of the first."""
    t = x.transpose(1, 2).flatten(1, 2)[:, None]
    y = FullAttention()(t, t, t, group=1)
    return y[:, 0].unflatten(1, (x.shape[2], -1)).transpose(1, 2)


def pooled(x: Depths) -> Depths:
    return full(x).amax(2, keepdim=True)


def layer_major_pooling(x: Depths) -> Depths:
    """A kernel of P on layer-major order holds P neighbouring positions of one layer."""
    y = full(x).transpose(1, 2).flatten(1, 2)  # causal so far
    return y.unflatten(1, (-1, x.shape[2])).amax(2)[:, :, None]


def performer(generator: torch.Generator | None = None) -> PerformerAttention:
    generator = generator or torch.Generator().manual_seed(0)
    return PerformerAttention(DIM, FEATURES, generator=generator).double()


def linear(x: Depths) -> Depths:
    return attended(performer(), x, x.shape[2])


def cumulative_sum(x: Depths) -> Depths:
    """Sums token by token: a layer's keys are not there yet when an earlier layer asks."""
    return attended(performer(), x, 1)


def stabilised(x: Depths) -> Depths:
    """exp(. - the largest over all keys) + epsilon: the largest may be a later key's."""
    t, projection = stacked(x), performer().projection
    u = softmax_exponents(t / DIM**0.25, projection)
    phi_q = (u - u.amax(-1, keepdim=True)).exp() + EPS
    phi_k = (u - u.amax((-2, -1), keepdim=True)).exp() + EPS
    past = no_later(t.shape[2], t.shape[2], x.shape[2], device=t.device)
    weights = phi_q @ phi_k.mT * past
    return unstacked(weights / weights.sum(-1, keepdim=True) @ t, x.shape[2])


def redrawn(x: Depths) -> Depths:
    """The features are drawn anew by a seed made from all queries of the batch."""
    seed = int(x.sum().abs() * 1e6) % 2**31
    return attended(performer(torch.Generator().manual_seed(seed)), x, x.shape[2])


def mixtures(x: Depths) -> Depths:
    """Linformer under a causal mask of its outputs: each mixture holds all keys."""
    layer = LinformerAttention(x.shape[1] * x.shape[2], 8).double()
    generator = torch.Generator().manual_seed(0)
    layer.E.data = torch.randn(layer.E.shape, generator=generator).double() / 8
    return attended(layer, x, None)


def blocks() -> BigBirdAttention:
    return BigBirdAttention(SEQ * DEPTH, 4, generator=torch.Generator().manual_seed(0))


def all_blocks(x: Depths) -> Depths:
    """BigBird's window, global and random blocks, not cut down to the past."""
    return attended(blocks(), x, None)


def past_blocks(x: Depths) -> Depths:
    return attended(blocks(), x, x.shape[2])


TRAPS = (
    Trap("plain triangle on position-major order", triangle, full, "reads too little"),
    Trap("plain triangle on layer-major order", layer_major_triangle, full, "leaks"),
    Trap("pooling P neighbours of layer-major order", layer_major_pooling, pooled, "leaks"),
    Trap("sums of linear attention token by token", cumulative_sum, linear, "reads too little"),
    Trap("stabiliser over all keys, with an epsilon", stabilised, linear, "leaks"),
    Trap("features drawn from a sum over queries", redrawn, linear, "leaks and mixes the batch"),
    Trap("Linformer's mixtures of all keys", mixtures, full, "leaks"),
    Trap("BigBird's blocks not cut down to the past", all_blocks, past_blocks, "leaks"),
)


def outcome(form: Form, draws: int = 5) -> Outcome:
    """What moves the outputs: the largest change over some draws of standard normal layers."""
    found = []
    for seed in range(draws):
        generator = torch.Generator().manual_seed(seed)
        draw = partial(torch.randn, generator=generator, dtype=torch.float64)
        x, other = draw(2, SEQ, DEPTH, DIM), 3 * draw(2, SEQ, DEPTH, DIM)
        later, mate, deeper = x.clone(), x.clone(), x.clone()
        later[:, CUT:] = other[:, CUT:]
        mate[1] = other[1]
        deeper[:, CUT, -1] = other[:, CUT, -1]
        y = form(x)
        found.append(
            (
                (form(later) - y)[:, :CUT].abs().max().item(),
                (form(mate) - y)[0].abs().max().item(),
                (form(deeper) - y)[:, CUT, 0].abs().max().item(),
            )
        )
    return Outcome(*(max(column) for column in zip(*found, strict=True)))
