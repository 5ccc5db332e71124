"""BigBird: attention between blocks: a window, some global blocks, some random ones."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor
from torch.nn.functional import pad

from archbook.attention.full import CachedAttention, KeyValueCache, fused_attention
from archbook.attention.interface import Kind
from archbook.checks import as_size, require_like, require_tensor


@dataclass(frozen=True)
class BigBird(Kind):
    """Attention between blocks of `block` positions; made for sequences up to one length.

    >>> layer = BigBird(block=4, window=3).build(head_dim=8, length=32)
    >>> q = k = v = torch.randn(1, 2, 32, 8)
    >>> layer(q, k, v, group=1).shape
    torch.Size([1, 2, 32, 8])
    """

    block: int = 8
    window: int = 3  # blocks around a block, itself included
    global_blocks: int = 1  # first blocks, read by all
    random_blocks: int = 1  # others for each block
    free_queries = False

    def __post_init__(self):
        least = {"block": 1, "window": 1, "global_blocks": 0, "random_blocks": 0}
        for name, lowest in least.items():
            object.__setattr__(self, name, as_size(name, getattr(self, name), lowest))
        if self.window % 2 == 0:
            raise ValueError(f"wanted an odd window, centred on a block, given {self.window}")

    def build(self, head_dim, group=1, length=None):
        return BigBirdAttention(
            as_size("length", length) * group,
            self.block * group,
            self.window,
            global_blocks=self.global_blocks,
            random_blocks=self.random_blocks,
        )

    def flops(self, length, hidden, heads, *, group, asking):
        """Pairs of a query and a key that are multiplied, whether they are used or not."""
        block, blocks = self.block * group, -(-length // self.block)
        whole = min(self.global_blocks, blocks)
        slots = self.window + self.global_blocks + self.random_blocks
        first = min(whole * block, length * group) * length * group
        return 4 * (first + (blocks - whole) * block * slots * block) * hidden


class BigBirdAttention(CachedAttention):
    """Queries of block i read the keys of a few blocks: (window + global + random) of them.

    The window is centred on block i (an odd number of blocks), the first `global_blocks` are read
    by all and, unless causal, read all themselves. The random blocks, none of the others, are drawn
    at construction for a sequence of `length` tokens and kept in a buffer; a shorter one drops
    those that it does not have. Causal: the same blocks, intersected with positions j <= i; a
    window of one block then wants whole positions in it. As many queries as keys.
    O(keys (window + global + random) block head_dim) time and memory; the selected keys are copied,
    a map of all pairs is never formed.

    >>> layer = BigBirdAttention(32, block=4)
    >>> q = k = v = torch.randn(1, 2, 30, 8)  # at most 32 tokens
    >>> layer(q, k, v).shape
    torch.Size([1, 2, 30, 8])
    """

    shaped_by = {"block": "block", "window": "window", "global_blocks": "global_blocks"}

    random: Tensor

    def __init__(
        self,
        length: int,
        block: int = BigBird.block,
        window: int = BigBird.window,
        *,
        global_blocks: int = BigBird.global_blocks,
        random_blocks: int = BigBird.random_blocks,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        kind = BigBird(block, window, global_blocks, random_blocks)
        self.length, self.block = as_size("length", length), kind.block
        self.window, self.global_blocks = kind.window, kind.global_blocks
        blocks = math.ceil(self.length / self.block)
        self.register_buffer("random", self._drawn(blocks, kind.random_blocks, generator))

    def _drawn(
        self, blocks: int, number: int, generator: torch.Generator | None
    ) -> Int64[Tensor, "blocks random"]:
        """For each block so many others, all different; -1 where there are no more."""
        device = generator.device if generator else None
        lot = torch.rand(blocks, blocks, generator=generator, device=device)
        there = torch.arange(blocks, device=lot.device)
        near = (there - there[:, None]).abs() <= self.window // 2
        lot = lot.masked_fill(near | (there < self.global_blocks), -1)
        best = lot.topk(min(number, blocks))
        return best.indices.masked_fill(best.values < 0, -1)

    def check_home(self, q):
        super().check_home(q)
        require_like("q", q, "the random blocks", self.random.new_empty(0, dtype=q.dtype))

    def check_length(self, length, group=1):
        wanted = self.length // group
        if length > wanted:
            raise ValueError(f"wanted at most length = {wanted} tokens, given {length}")

    def checked(self, q, k, v, *, mask, group):
        k, v = super().checked(q, k, v, mask=mask, group=group)
        require_tensor("q", q, tuple(k.shape))
        return k, v

    def attend(self, q, k, v, *, mask, group):
        length = q.shape[2]
        blocks = math.ceil(length / self.block)
        first = min(self.global_blocks, blocks) if group is None else 0
        if first == 0:
            return self._sparse(q, k, v, mask=mask, group=group, first=0)
        keys = None if mask is None else mask[:, None, None]
        y = fused_attention(q[:, :, : first * self.block], k, v, allowed=keys)
        if first == blocks:
            return y
        return torch.cat([y, self._sparse(q, k, v, mask=mask, group=group, first=first)], 2)

    def attend_cache(self, q: Tensor, cache: KeyValueCache) -> Tensor:
        """Each of the last tokens reads its block's table; O(blocks read) time."""
        batch, heads, new, _ = q.shape
        length = cache.k.shape[2]
        self.check_length(length)
        missing = -length % self.block
        k, v = (
            pad(x, (0, 0, 0, missing)).unflatten(2, (-1, self.block)) for x in (cache.k, cache.v)
        )
        real = pad(cache.real, (0, missing)).unflatten(1, (-1, self.block))
        of_query = torch.arange(length - new, length, device=q.device) // self.block
        table, exists = (x[of_query] for x in self._table(real.shape[1]))  # (new, slots)
        k, v = (x[:, :, table].flatten(3, 4).flatten(1, 2) for x in (k, v))  # b (h new) keys d
        allowed = (real[:, table] & exists[..., None]).flatten(2)[:, :, None]  # b new 1 keys
        allowed = allowed[:, None].expand(batch, heads, -1, -1, -1).flatten(1, 2)
        y = fused_attention(q.flatten(1, 2)[:, :, None], k, v, allowed=allowed)
        return y.unflatten(1, (heads, new))[:, :, :, 0]

    def _sparse(self, q, k, v, *, mask: Tensor | None, group: int | None, first: int) -> Tensor:
        """What the blocks from `first` on read."""
        batch, heads, length, _ = q.shape
        real = q.new_ones((1, length), dtype=torch.bool) if mask is None else mask
        missing = -length % self.block
        q, k, v = (pad(x, (0, 0, 0, missing)).unflatten(2, (-1, self.block)) for x in (q, k, v))
        real = pad(real, (0, missing)).unflatten(1, (-1, self.block))  # (batch, blocks, block)
        table, exists = self._table(real.shape[1])
        table, exists = table[first:], exists[first:]  # (blocks, slots)
        k, v = (x[:, :, table].flatten(3, 4).flatten(1, 2) for x in (k, v))  # b (h n) (s t) d
        allowed = (real[:, table] & exists[..., None]).flatten(2)[:, :, None]  # b n 1 (s t)
        if group is not None:
            allowed = allowed & self._past(table, group)
        allowed = allowed[:, None].expand(batch, heads, -1, -1, -1).flatten(1, 2)
        y = fused_attention(q[:, :, first:].flatten(1, 2), k, v, allowed=allowed)
        return y.unflatten(1, (heads, -1)).flatten(2, 3)[:, :, : length - first * self.block]

    def _table(self, blocks: int) -> tuple[Int64[Tensor, "n slots"], Bool[Tensor, "n slots"]]:
        """The key blocks of each query block, and which of them exist; none is there twice."""
        there = torch.arange(blocks, device=self.random.device)
        half = self.window // 2
        window = there[:, None] + torch.arange(-half, half + 1, device=there.device)
        wide = there[: self.global_blocks].expand(blocks, -1)
        outside = (wide - there[:, None]).abs() > half
        drawn = self.random[:blocks]
        table = torch.cat([window, wide.masked_fill(~outside, -1), drawn], 1)
        exists = (table >= 0) & (table < blocks)
        return table.clamp(0, blocks - 1), exists

    def _past(self, table: Tensor, group: int) -> Bool[Tensor, "n block keys"]:
        """Where the position of a selected key is not after the query's."""
        inside = torch.arange(self.block, device=table.device)
        of_query = torch.arange(len(table), device=table.device)[:, None] * self.block + inside
        of_key = (table[..., None] * self.block + inside).flatten(1)
        return of_query[:, :, None] // group >= of_key[:, None] // group
