"""The meta-learner: attention over all tokens of all layers of a partition, pooled over depth."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from archbook.attention import (
    Attention,
    BigBirdAttention,
    FullAttention,
    LinformerAttention,
    PerformerAttention,
)
from archbook.attention.interface import no_later
from archbook.checks import (
    require_choice,
    require_false,
    require_finite,
    require_input,
    require_mask,
    require_positive_int,
)
from archbook.omninet.block import Heads, repeated
from archbook.omninet.stacking import POOLS

METAS = ("full", "performer", "linformer", "bigbird")
QUERIES = ("all", "top")
AUTO_TOKENS = 2048  # stacked tokens up to which meta="auto" takes full attention


@dataclass(frozen=True)
class MetaOptions:
    """What belongs to one kind of meta-learner; the others ignore it.

    length: tokens of the longest sequence, which Linformer and BigBird are made for (Linformer
    takes no other). Blocks are counted in positions: one holds block x P stacked tokens.
    """

    length: int | None = None
    features: int = 64  # Performer: random features of a head
    kernel: str = "softmax"  # Performer: softmax or relu
    rank: int = 32  # Linformer: mixtures of all keys
    block: int = 16  # BigBird: positions in a block
    window: int = 3  # BigBird: blocks around a block, itself included
    global_blocks: int = 1  # BigBird: first blocks, read by all
    random_blocks: int = 1  # BigBird: others for each block


def choose_meta(tokens: int) -> str:
    """What meta="auto" takes: "full" up to AUTO_TOKENS stacked tokens, then "performer".

    Full attention is exact; the Performer is another function, so it is taken only where it saves
    much. On a CPU they cost the same at several hundred tokens, at more where causal (see the
    benchmark); on a GPU fused attention stays ahead longer.
    """
    require_positive_int("tokens", tokens)
    return "full" if tokens <= AUTO_TOKENS else "performer"


class MetaLearner(nn.Module):
    """Pool over depth of W_o Attn(LN T), T all tokens of `depth` layers, position after position.

    No residual of its own and no bias, so that W_o = 0 gives zero. pool: "max" (by feature),
    "mean", "last" (the deepest layer's query alone) or "learned" (a softmax over depths by
    feature). query: "all" lets every layer's tokens ask; "top" only the last layer's, which gives
    what "last" gives without computing the rest, so `pool` has no part in it.
    causal: a token of position i reads positions j <= i at every depth.
    depth_vectors: add a learned vector for each depth before the norm; zero at the start.
    """

    def __init__(
        self,
        hidden: int,
        heads: int,
        depth: int,
        meta: str = "full",
        pool: str = "max",
        causal: bool = False,
        query: str = "all",
        depth_vectors: bool = False,
        options: MetaOptions | None = None,
    ):
        super().__init__()
        require_positive_int("depth", depth)
        require_choice("meta", meta, (*METAS, "auto"))
        require_choice("pool", pool, POOLS)
        require_choice("query", query, QUERIES)
        options = options or MetaOptions()
        self.heads = Heads(hidden, heads, bias=False)
        self.depth, self.pool, self.query = depth, pool, query
        self.group = depth if causal else None
        if meta == "auto":
            meta = choose_meta(_length("auto", options) * depth)
        if meta == "linformer" and causal:
            raise ValueError("a mixture of all keys cannot be causal: wanted another meta-learner")
        if meta == "bigbird" and query == "top":
            raise ValueError(
                "BigBird pairs blocks of queries and keys: wanted query='all' with pool='last', "
                "given query='top'"
            )
        self.meta = meta
        self.norm = nn.LayerNorm(hidden)
        self.attention = _attention(meta, hidden // heads, depth, options)
        self.depth_vectors = nn.Parameter(torch.zeros(depth, hidden)) if depth_vectors else None
        learned = pool == "learned" and query == "all"
        self.pool_logits = nn.Parameter(torch.zeros(depth, hidden)) if learned else None

    def forward(
        self,
        depths: Float[Tensor, "batch seq depth hidden"],
        mask: Bool[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq hidden"]:
        """mask: True = real. Errors: ValueError or TypeError for a wrong shape, dtype or device."""
        self.check(depths, mask)
        return self.attend(depths, mask)

    def attend(self, depths: Tensor, mask: Tensor | None) -> Tensor:
        """`forward` without checks."""
        q, k, v = self._projected(depths, mask)
        y = self.attention.attend(q, k, v, repeated(mask, self.depth), self.group)
        return self._pooled(self.heads.merge(y))

    def read(
        self,
        depths: Float[Tensor, "batch seq depth hidden"],
        mask: Bool[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq queries hidden"]:
        """What is pooled: the output at each depth (one with query="top")."""
        self.check(depths, mask)
        q, k, v = self._projected(depths, mask)
        y = self.attention.attend(q, k, v, repeated(mask, self.depth), self.group)
        return self.heads.merge(y).unflatten(1, (depths.shape[1], -1))

    def depth_weights(
        self,
        depths: Float[Tensor, "batch seq depth hidden"],
        mask: Bool[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch heads seq queries depth"]:
        """The share of full attention that each query gives to each depth, over all positions.

        For pictures: forms the whole map. Errors: ValueError for any other meta-learner.
        """
        self.check(depths, mask)
        if self.meta != "full":
            raise ValueError(f"wanted full attention, which has weights, given {self.meta!r}")
        q, k, _ = self._projected(depths, mask)
        allowed = torch.ones_like(q[:, :1, :, :1], dtype=torch.bool)
        if self.group is not None:
            allowed = allowed & no_later(q.shape[2], k.shape[2], self.group, q.device)
        if mask is not None:
            allowed = allowed & mask.repeat_interleave(self.depth, 1)[:, None, None]
        scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~allowed, -torch.inf)
        weights = scores.softmax(-1).unflatten(-1, (-1, self.depth)).sum(-2)
        return weights.unflatten(2, (depths.shape[1], -1))

    def prefill(self, depths: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Any]:
        """The causal `forward`, and the state with which `step` goes on."""
        q, k, v = self._projected(depths, mask)
        y, state = self._causal().prefill(q, k, v, self.depth, repeated(mask, self.depth))
        return self._pooled(self.heads.merge(y)), state

    def step(self, depths: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The next position, (batch, 1, depth, hidden)."""
        y, state = self._causal().step(*self._projected(depths, None), state)
        return self._pooled(self.heads.merge(y)), state

    def check(self, depths: Tensor, mask: Tensor | None) -> None:
        hidden = self.heads.out.weight.shape[0]
        require_input("depths", depths, ("batch", "seq", self.depth, hidden), self.norm.weight)
        require_finite("depths", depths)
        check_mask(mask, depths)
        self.check_length(depths.shape[1])

    def check_length(self, seq: int) -> None:
        """Refuse a sequence that the attention was not made for."""
        if isinstance(self.attention, LinformerAttention):
            wanted = self.attention.E.shape[1] // self.depth
            if seq != wanted:
                raise ValueError(f"Linformer: wanted the {wanted} tokens of E, given {seq}")
        if isinstance(self.attention, BigBirdAttention):
            wanted = self.attention.length // self.depth
            if seq > wanted:
                raise ValueError(f"BigBird: wanted at most length = {wanted} tokens, given {seq}")

    def _causal(self) -> Any:
        if self.group is None:
            raise ValueError("wanted causal=True to decode step by step, given causal=False")
        return self.attention

    def _projected(self, depths: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        if self.depth_vectors is not None:
            depths = depths + self.depth_vectors
        x = self.norm(depths)
        asking = x[:, :, -1:] if self.query == "top" else x
        k, v = self.heads.keys_values(x.flatten(1, 2), repeated(mask, self.depth))
        return self.heads.queries(asking.flatten(1, 2)), k, v

    def _pooled(self, y: Tensor) -> Tensor:
        """(batch, seq x queries, hidden) to (batch, seq, hidden)."""
        if self.query == "top":
            return y
        y = y.unflatten(1, (-1, self.depth))
        if self.pool == "max":
            return y.amax(2)
        if self.pool == "mean":
            return y.mean(2)
        if self.pool == "last":
            return y[:, :, -1]
        assert self.pool_logits is not None
        return (y * self.pool_logits.softmax(0)).sum(2)


def check_mask(mask: Tensor | None, x: Tensor) -> None:
    """Refuse a mask that does not fit (batch, seq, ...), or an example without a real token."""
    if mask is not None:
        require_mask("mask", mask, tuple(x.shape[:2]), x.device)
        require_false("wanted a real token in every example; examples without one", ~mask.any(1))


def _attention(meta: str, head_dim: int, depth: int, options: MetaOptions) -> Attention:
    if meta == "full":
        return FullAttention()
    if meta == "performer":
        return PerformerAttention(head_dim, options.features, options.kernel)
    length = _length(meta, options)
    if meta == "linformer":
        return LinformerAttention(length * depth, options.rank)
    require_positive_int("block", options.block)
    return BigBirdAttention(
        length * depth,
        options.block * depth,
        options.window,
        options.global_blocks,
        options.random_blocks,
    )


def _length(meta: str, options: MetaOptions) -> int:
    if options.length is None:
        raise ValueError(f"meta={meta!r} is made for one length: wanted MetaOptions(length=...)")
    require_positive_int("length", options.length)
    return options.length
