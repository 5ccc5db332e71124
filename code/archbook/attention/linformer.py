"""Linformer: attention to a few learned mixtures of all keys."""

import torch
from torch import Tensor, nn

from archbook.attention.full import fused_attention
from archbook.attention.interface import Attention
from archbook.checks import require_input, require_positive_int


class LinformerAttention(Attention):
    """softmax(Q (E K)^T / sqrt(d_h)) E V with a learned E (rank, keys), shared by K, V and heads.

    The number of keys is fixed; that of queries is free. There is no causal form, since each row of
    E mixes keys of all positions: a group is refused. A padded key has weight zero in the mixtures.
    O(keys rank head_dim) time.
    """

    def __init__(self, keys: int, rank: int = 8):
        super().__init__()
        require_positive_int("keys", keys)
        require_positive_int("rank", rank)
        self.E = nn.Parameter(torch.randn(rank, keys) / keys**0.5)

    def check_home(self, q):
        require_input("q", q, tuple(q.shape), self.E)

    def checked(self, q, k, v, mask, group):
        if group is not None:
            raise ValueError(
                f"a mixture of all keys cannot be causal: wanted group=None, given {group}"
            )
        k, v = super().checked(q, k, v, mask, group)
        if k.shape[2] != self.E.shape[1]:
            raise ValueError(f"wanted the {self.E.shape[1]} keys of E, given {k.shape[2]}")
        return k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask, group):
        return fused_attention(q, self.E @ k, self.E @ v)
