"""Softmax attention over all keys, by torch's fused kernel."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from archbook.attention.interface import Kind, SteppedAttention, no_later, positions
from archbook.checks import as_size, require_like, require_mask, require_tensor

CHUNK = 256  # queries whose causal attention is computed at a time


class KeyValueCache(NamedTuple):
    """All keys and values so far, and which of them are real.

    >>> q = k = v = torch.randn(1, 2, 6, 4)
    >>> _, cache = FullAttention().prefill(q, k, v, group=1)
    >>> cache.k.shape, cache.real.shape
    (torch.Size([1, 2, 6, 4]), torch.Size([1, 6]))
    """

    k: Float[Tensor, "batch heads keys head_dim"]
    v: Float[Tensor, "batch heads keys head_dim"]
    real: Bool[Tensor, "batch keys"]


class CachedAttention(SteppedAttention[KeyValueCache]):
    """Attention that decodes from all keys and values so far.

    >>> q = k = v = torch.randn(1, 2, 6, 4)
    >>> y, cache = FullAttention().prefill(q, k, v, group=1)
    >>> new = torch.randn(1, 2, 1, 4)
    >>> y, cache = FullAttention().step(new, new, new, state=cache)
    >>> y.shape, cache.k.shape
    (torch.Size([1, 2, 1, 4]), torch.Size([1, 2, 7, 4]))
    """

    def prefill(self, q, k, v, *, group: int, mask: Tensor | None = None):
        group = as_size("group", group)
        k, v = self.checked(q, k, v, mask=mask, group=group)
        real = k.new_ones((k.shape[0], k.shape[2]), dtype=torch.bool) if mask is None else mask
        return self.attend(q, k, v, mask=mask, group=group), KeyValueCache(k, v, real)

    def step(self, q, k, v, *, state: KeyValueCache):
        self.checked(q, k, v, mask=None, group=None)
        batch, heads, new, head_dim = k.shape
        require_tensor("state.k", state.k, (batch, heads, "keys", head_dim))
        require_tensor("state.v", state.v, tuple(state.k.shape))
        require_like("state.k", state.k, "k", k)
        require_like("state.v", state.v, "k", k)
        require_mask("state.real", state.real, (batch, state.k.shape[2]), k.device)
        real = torch.cat([state.real, state.real.new_ones(batch, new)], 1)
        state = KeyValueCache(torch.cat([state.k, k], 2), torch.cat([state.v, v], 2), real)
        return self.attend_cache(q, state), state

    def attend_cache(self, q: Tensor, cache: KeyValueCache) -> Tensor:
        """Override this: the last queries, to which all that is in the cache is past."""
        raise NotImplementedError


@dataclass(frozen=True)
class Full(Kind):
    """Softmax attention over all keys: exact, and quadratic in their number.

    >>> layer = Full().build(head_dim=4)
    >>> q = k = v = torch.randn(1, 2, 6, 4)
    >>> layer(q, k, v).shape
    torch.Size([1, 2, 6, 4])
    >>> Full().flops(1024, 64, 4, group=1, asking=1)  # 4 x 1024^2 x 64
    268435456
    """

    def build(self, head_dim, group=1, length=None):
        return FullAttention()

    def flops(self, length, hidden, heads, *, group, asking):
        return 4 * length * asking * length * group * hidden


class FullAttention(CachedAttention):
    """softmax(Q K^T / sqrt(d_h)) V.

    O(queries keys head_dim) time. The scores are never formed. With a group above 1, or a group and
    a mask, queries go in chunks: each reads the keys up to its own last position, which saves
    almost half of the time, and chunk x keys booleans, one set for all heads, keep out the rest.
    Fused attention has no second derivatives: a penalty on gradients runs inside
    `torch.nn.attention.sdpa_kernel(SDPBackend.MATH)`.

    >>> q = k = v = torch.randn(1, 2, 6, 4)
    >>> y = FullAttention()(q, k, v, group=1)  # causal
    >>> torch.allclose(y[:, :, 0], v[:, :, 0])  # the first token reads itself alone
    True
    """

    def attend(self, q, k, v, *, mask, group):
        if group == 1 and mask is None and q.shape == k.shape:
            return scaled_dot_product_attention(q, k, v, is_causal=True)
        if group is not None:
            return self._causal(q, k, v, mask=mask, group=group)
        return fused_attention(q, k, v, allowed=None if mask is None else mask[:, None, None])

    def _causal(self, q, k, v, *, mask: Tensor | None, group: int) -> Tensor:
        """Chunk by chunk of positions."""
        count = positions(q.shape[2], k.shape[2], group)
        per_position = q.shape[2] // count
        size = min(count, max(1, CHUNK // max(group, per_position)))
        parts = []
        for number, asking in enumerate(q.split(size * per_position, 2)):
            first = number * size
            last = min(first + size, count)
            keys = last * group
            past = no_later(asking.shape[2], (last - first) * group, group, device=q.device)
            allowed = pad(past, (first * group, 0), value=True)  # earlier chunks are all past
            if mask is not None:
                allowed = allowed & mask[:, None, None, :keys]
            parts.append(fused_attention(asking, k[:, :, :keys], v[:, :, :keys], allowed=allowed))
        return torch.cat(parts, 2) if len(parts) > 1 else parts[0]

    def attend_cache(self, q, cache):
        """O(keys head_dim) time."""
        return fused_attention(q, cache.k, cache.v, allowed=cache.real[:, None, None])


def fused_attention(
    q: Float[Tensor, "batch heads queries head_dim"],
    k: Float[Tensor, "batch heads keys head_dim"],
    v: Float[Tensor, "batch heads keys head_dim"],
    *,
    allowed: Bool[Tensor, "..."] | None = None,
) -> Float[Tensor, "batch heads queries head_dim"]:
    """Attention to the allowed keys (broadcast over batch, heads and queries), zero if none is."""
    if allowed is None:
        return scaled_dot_product_attention(q, k, v)
    blind = ~allowed.any(-1, keepdim=True)  # a softmax over nothing is NaN in some kernels
    return scaled_dot_product_attention(q, k, v, allowed | blind).masked_fill(blind, 0)
