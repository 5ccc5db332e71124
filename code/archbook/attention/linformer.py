"""Linformer: attention to a few learned mixtures of all keys."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from archbook.attention.full import fused_attention
from archbook.attention.interface import Attention, Kind
from archbook.checks import as_size, require_input


@dataclass(frozen=True)
class Linformer(Kind):
    """Attention to `rank` mixtures of all keys; made for one length, without a causal form.

    >>> layer = Linformer(rank=4).build(head_dim=8, length=32)
    >>> layer.E.shape
    torch.Size([4, 32])
    """

    rank: int = 16
    causal = False

    def __post_init__(self):
        object.__setattr__(self, "rank", as_size("rank", self.rank))

    def build(self, head_dim, group=1, length=None):
        return LinformerAttention(as_size("length", length) * group, self.rank)

    def flops(self, length, hidden, heads, *, group, asking):
        return 4 * self.rank * length * (group + asking) * hidden


class LinformerAttention(Attention):
    """softmax(Q (E K)^T / sqrt(d_h)) E V with a learned E (rank, keys), shared by K, V and heads.

    The number of keys is fixed; that of queries is free. There is no causal form, since each row of
    E mixes keys of all positions: a group is refused. A padded key has weight zero in the mixtures.
    O(keys rank head_dim) time.

    >>> layer = LinformerAttention(keys=32, rank=4)
    >>> k = v = torch.randn(1, 2, 32, 8)
    >>> layer(torch.randn(1, 2, 5, 8), k, v).shape  # any number of queries
    torch.Size([1, 2, 5, 8])
    """

    def __init__(self, keys: int, rank: int = Linformer.rank):
        super().__init__()
        keys, rank = as_size("keys", keys), Linformer(rank).rank
        self.E = nn.Parameter(torch.randn(rank, keys) / keys**0.5)

    def check_home(self, q):
        require_input("q", q, tuple(q.shape), self.E)

    def check_length(self, length, group=1):
        wanted = self.E.shape[1] // group
        if length != wanted:
            raise ValueError(f"wanted the {wanted} tokens that E mixes, given {length}")

    def checked(self, q, k, v, *, mask, group):
        if group is not None:
            raise ValueError(
                f"a mixture of all keys cannot be causal: wanted group=None, given {group}"
            )
        return super().checked(q, k, v, mask=mask, group=group)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, mask, group):
        return fused_attention(q, self.E @ k, self.E @ v)
