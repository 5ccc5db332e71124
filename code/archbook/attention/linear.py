"""Linear attention: sums over keys are kept in place of a map of queries x keys.

y_t = sum_j (phi(q_t) . phi(k_j)) v_j / sum_j phi(q_t) . phi(k_j), by associativity: phi(q_t) times
one matrix, sum_j phi(k_j) [v_j, 1].
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from archbook.attention.interface import no_later, positions

CHUNK = 64  # keys whose products with their queries are formed at a time
SPAN = 64  # chunks whose running sums are formed at a time, as one product


class Scaled(NamedTuple):
    """Features exp(log_scale) phi: each token is divided by its own largest, and by no other's.

    A maximum over several tokens would carry later ones into earlier ones: it cancels in exact
    arithmetic only, and only without an epsilon.
    """

    phi: Float[Tensor, "*batch seq features"]
    log_scale: Float[Tensor, "*batch seq 1"]  # carries no gradient; minus infinity for padding


class LinearState(NamedTuple):
    """exp(scale) sums = sum_j phi(k_j) [v_j, 1]; scale is the largest log_scale so far.

    >>> q = k = v = torch.randn(1, 2, 6, 4)
    >>> _, state = PerformerAttention(4, features=16).prefill(q, k, v, group=1)
    >>> state.sums.shape  # whatever the number of keys
    torch.Size([1, 2, 16, 5])
    """

    sums: Float[Tensor, "batch heads features values"]
    scale: Float[Tensor, "batch heads 1 1"]


def empty_state(k: Scaled, values: Tensor) -> LinearState:
    """The sums over no key. Their scale is finite: infinity minus infinity would be NaN."""
    sums = k.phi.new_zeros((*k.phi.shape[:-2], k.phi.shape[-1], values.shape[-1]))
    return LinearState(sums, torch.full_like(sums[..., :1, :1], torch.finfo(sums.dtype).min))


def absorb(state: LinearState, k: Scaled, values: Tensor) -> LinearState:
    """The sums with more keys."""
    scale = torch.maximum(state.scale, k.log_scale.amax(-2, keepdim=True))
    new = (k.phi * (k.log_scale - scale).exp()).mT @ values
    return LinearState(state.sums * (state.scale - scale).exp() + new, scale)


def read(q: Scaled, state: LinearState) -> Tensor:
    """(.., queries, values): numerators, and in the last column the denominator."""
    return q.phi @ state.sums


def normalized(y: Tensor) -> Tensor:
    """Numerators by denominator; zero where that is zero: there is no key, or none is seen."""
    total = y[..., -1:]
    return y[..., :-1] / torch.where(total > torch.finfo(y.dtype).tiny, total, torch.inf)


def causal_read(
    q: Scaled, k: Scaled, values: Tensor, *, group: int, chunk: int = CHUNK
) -> tuple[Tensor, LinearState]:
    """`read` where a query of position i sees positions j <= i, and the sums over all keys.

    Whole positions make a chunk of about `chunk` keys. Between chunks the sums run; inside of one,
    products of queries and keys are formed. O(keys (chunk + SPAN features / chunk + features)
    head_dim) time, memory linear in the number of keys.
    """
    queries = q.phi.shape[-2]
    count = positions(queries, k.phi.shape[-2], group)
    size = min(count, max(1, chunk // group))  # positions in a chunk

    def chunks(x: Tensor, per_position: int, fill: float = 0.0) -> Tensor:
        """(.., seq, n) -> (.., chunks, tokens of a chunk, n)"""
        x = pad(x, (0, 0, 0, -count % size * per_position), value=fill)
        return x.unflatten(-2, (-1, size * per_position))

    phi_q = chunks(q.phi, queries // count)
    phi_k, values = chunks(k.phi, group), chunks(values, group)
    log_scale = chunks(k.log_scale, group, -torch.inf)

    sums, start, state = sums_before(phi_k, log_scale, values)

    # the largest scale that each query may see: no key of a later position enters
    seen = log_scale.unflatten(-2, (size, group)).amax(-2).cummax(-2).values  # (.., size, 1)
    seen = torch.maximum(start, seen).repeat_interleave(queries // count, -2)
    past = no_later(phi_q.shape[-2], phi_k.shape[-2], group, device=phi_q.device)
    weights = (log_scale.mT - seen).masked_fill(~past, -torch.inf).exp()
    inside = (phi_q @ phi_k.mT * weights) @ values
    y = inside + (phi_q * (start - seen).exp()) @ sums
    return y.flatten(2, 3)[:, :, :queries], state


def sums_before(
    phi: Float[Tensor, "batch heads chunks keys features"],
    log_scale: Float[Tensor, "batch heads chunks keys 1"],
    values: Float[Tensor, "batch heads chunks keys values"],
) -> tuple[Tensor, Tensor, LinearState]:
    """For each chunk the sums over all earlier ones and their scale; the sums over all chunks.

    The chunks of a span are summed by one product with a triangle of factors. A loop runs over
    spans alone, so that the triangles' size stays out of the costs.
    """
    lowest, largest = torch.finfo(phi.dtype).min, torch.finfo(phi.dtype).max
    # finite both: infinity minus infinity, and zero times a later chunk's infinity, would be NaN
    top = log_scale.amax(-2).clamp(min=lowest)  # (.., chunks, 1)
    own = ((phi * (log_scale - top[..., None]).exp()).mT @ values).clamp(lowest, largest)
    shape = own.shape[3:]
    sums, scale = torch.zeros_like(own[:, :, :1]), torch.full_like(top[:, :, :1], lowest)
    before = []
    for new, tops in zip(own.split(SPAN, 2), top.split(SPAN, 2), strict=True):
        tops = torch.cat([scale, tops], 2)  # what came before the span is its first part
        parts = torch.cat([sums, new], 2).flatten(3)
        reached = tops.cummax(2).values
        factors = (tops.mT - reached).exp().tril()  # at most 1
        totals = (factors @ parts).unflatten(3, shape)
        before.append((totals[:, :, :-1], reached[:, :, :-1]))
        sums, scale = totals[:, :, -1:], reached[:, :, -1:]
    found, start = (torch.cat(spans, 2) for spans in zip(*before, strict=True))
    return found, start[..., None], LinearState(sums[:, :, 0], scale)
