"""Softmax attention over all keys, by torch's fused kernel."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from archbook.attention.interface import Attention, no_later
from archbook.checks import require_like, require_mask, require_positive_int, require_tensor


class KeyValueCache(NamedTuple):
    """All keys and values so far, and which of them are real."""

    k: Float[Tensor, "batch heads keys head_dim"]
    v: Float[Tensor, "batch heads keys head_dim"]
    real: Bool[Tensor, "batch keys"]


class FullAttention(Attention):
    """softmax(Q K^T / sqrt(d_h)) V.

    O(queries keys head_dim) time. The scores are never formed; with a group above 1, or a group and
    a mask, queries x keys booleans are, one set for all heads.
    """

    def attend(self, q, k, v, mask, group):
        if group == 1 and mask is None and q.shape == k.shape:
            return scaled_dot_product_attention(q, k, v, is_causal=True)
        allowed = None if mask is None else mask[:, None, None]  # (batch, 1, 1, keys)
        if group is not None:
            past = no_later(q.shape[2], k.shape[2], group, q.device)
            allowed = past if allowed is None else past & allowed
        return fused_attention(q, k, v, allowed)

    def prefill(
        self, q: Tensor, k: Tensor, v: Tensor, group: int, mask: Tensor | None = None
    ) -> tuple[Tensor, KeyValueCache]:
        """The causal `forward`, and the cache with which `step` goes on."""
        require_positive_int("group", group)
        k, v = self.checked(q, k, v, mask, group)
        real = k.new_ones((k.shape[0], k.shape[2]), dtype=torch.bool) if mask is None else mask
        return self.attend(q, k, v, mask, group), KeyValueCache(k, v, real)

    def step(
        self, q: Tensor, k: Tensor, v: Tensor, cache: KeyValueCache
    ) -> tuple[Tensor, KeyValueCache]:
        """The next position: its tokens read each other and all before. O(keys) time."""
        self.checked(q, k, v, None, None)
        batch, heads, new, head_dim = k.shape
        require_tensor("cache.k", cache.k, (batch, heads, "keys", head_dim))
        require_tensor("cache.v", cache.v, tuple(cache.k.shape))
        require_like("cache.k", cache.k, "k", k)
        require_like("cache.v", cache.v, "k", k)
        require_mask("cache.real", cache.real, (batch, cache.k.shape[2]), k.device)
        real = torch.cat([cache.real, cache.real.new_ones(batch, new)], 1)
        cache = KeyValueCache(torch.cat([cache.k, k], 2), torch.cat([cache.v, v], 2), real)
        return fused_attention(q, cache.k, cache.v, real[:, None, None]), cache


def fused_attention(
    q: Float[Tensor, "batch heads queries head_dim"],
    k: Float[Tensor, "batch heads keys head_dim"],
    v: Float[Tensor, "batch heads keys head_dim"],
    allowed: Bool[Tensor, "..."] | None = None,
) -> Float[Tensor, "batch heads queries head_dim"]:
    """Attention to the allowed keys (broadcast over batch, heads and queries), zero if none is."""
    if allowed is None:
        return scaled_dot_product_attention(q, k, v)
    blind = ~allowed.any(-1, keepdim=True)  # a softmax over nothing is NaN in some kernels
    return scaled_dot_product_attention(q, k, v, allowed | blind).masked_fill(blind, 0)
