"""The meta-learner: attention over all tokens of all layers of a partition, pooled over depth."""

import math
from functools import partial
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from archbook.attention import (
    Full,
    KeyValueCache,
    Kind,
    LinearState,
    Performer,
    SteppedAttention,
)
from archbook.attention.interface import check_mask, no_later
from archbook.checks import as_size, require_choice, require_finite, require_input
from archbook.omninet.block import Heads, repeated, stateless
from archbook.omninet.stacking import POOLS
from archbook.shaped import Shaped

QUERIES = ("all", "top")
AUTO_TOKENS = 2048  # stacked tokens up to which `choose_meta` takes full attention
Cache = KeyValueCache | LinearState


def choose_meta(tokens: int) -> Kind:
    """`Full()` up to AUTO_TOKENS stacked tokens, then `Performer()`.

    Full attention is exact; the Performer is another function, so it is taken only where it saves
    much. On a CPU they cost the same at several hundred tokens, at more where causal (see the
    benchmark); on a GPU fused attention stays ahead longer.

    >>> choose_meta(2048), choose_meta(2049)
    (Full(), Performer(features=64, kernel='softmax'))
    """
    return Full() if as_size("tokens", tokens) <= AUTO_TOKENS else Performer()


class MetaLearner(Shaped):
    """Pool over depth of W_o Attn(LN T), T all tokens of `depth` layers, position after position.

    No residual of its own and no bias, so that W_o = 0 gives zero. pool: "max" (by feature),
    "mean", "last" (the deepest layer's query alone) or "learned" (a softmax over depths by
    feature). query: "all" lets every layer's tokens ask; "top" only the last layer's, which gives
    what "last" gives without computing the rest, so `pool` has no part in it.
    causal: a token of position i reads positions j <= i at every depth.
    meta: the kind of attention, one of `archbook.attention`'s `Full`, `Performer`, `Linformer` and
    `BigBird` or your own. length: positions of the longest sequence, which Linformer (that takes no
    other) and BigBird are made for; the others need none.
    depth_vectors: add a learned vector for each depth before the norm; zero at the start.

    >>> meta = MetaLearner(16, 2, depth=3)
    >>> meta(torch.randn(1, 6, 3, 16)).shape  # 6 positions, 3 layers of each
    torch.Size([1, 6, 16])
    """

    shaped_by = {name: name for name in ("meta", "depth", "pool", "query", "causal")}

    def __init__(
        self,
        hidden: int,
        heads: int,
        depth: int,
        *,
        meta: Kind = Full(),
        pool: str = "max",
        causal: bool = False,
        query: str = "all",
        depth_vectors: bool = False,
        length: int | None = None,
    ):
        super().__init__()
        depth = as_size("depth", depth)
        if not isinstance(meta, Kind):
            raise TypeError(f"wanted Full(), Performer() or another Kind as meta, given {meta!r}")
        require_choice("pool", pool, POOLS)
        require_choice("query", query, QUERIES)
        if causal and not meta.causal:
            raise ValueError(f"wanted a kind of attention that can be causal, given {meta}")
        if query == "top" and not meta.free_queries:
            raise ValueError(
                "wanted query='all' with pool='last' where queries are paired with keys, given "
                f"query='top' for {meta}"
            )
        self.heads = Heads(hidden, heads, bias=False)
        self.hidden, self.depth, self.pool, self.query = hidden, depth, pool, query
        self.causal = causal
        self.group = depth if causal else None
        self.meta = meta
        self.norm = nn.LayerNorm(hidden)
        self.attention = meta.build(hidden // heads, depth, length)
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
        return self.pooled(self._found(depths, mask))

    def read(
        self,
        depths: Float[Tensor, "batch seq depth hidden"],
        mask: Bool[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq queries hidden"]:
        """What is pooled: the output at each depth (one with query="top")."""
        self.check(depths, mask)
        return self._found(depths, mask).unflatten(1, (depths.shape[1], -1))

    def depth_weights(
        self,
        depths: Float[Tensor, "batch seq depth hidden"],
        mask: Bool[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch heads seq queries depth"]:
        """The share of full attention that each query gives to each depth, over all positions.

        For pictures: forms the whole map. Errors: ValueError for any other meta-learner.
        """
        self.check(depths, mask)
        if not isinstance(self.meta, Full):
            raise ValueError(f"wanted full attention, which has weights, given {self.meta}")
        q, k, _ = self.projected(depths, mask)
        allowed = torch.ones_like(q[:, :1, :, :1], dtype=torch.bool)
        if self.group is not None:
            allowed = allowed & no_later(q.shape[2], k.shape[2], self.group, device=q.device)
        if mask is not None:
            allowed = allowed & mask.repeat_interleave(self.depth, 1)[:, None, None]
        scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~allowed, -torch.inf)
        weights = scores.softmax(-1).unflatten(-1, (-1, self.depth)).sum(-2)
        return weights.unflatten(2, (depths.shape[1], -1))

    def prefill(self, depths: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Cache]:
        """The causal `forward`, and the state with which `step` goes on."""
        q, k, v = self.projected(depths, mask)
        wide = repeated(mask, self.depth)
        attend = partial(self._stepped().prefill, group=self.depth, mask=wide)
        y, state = self.heads(q, k, v, attend)
        return self.pooled(y), state

    def step(self, depths: Tensor, state: Cache) -> tuple[Tensor, Cache]:
        """The next position, (batch, 1, depth, hidden)."""
        q, k, v = self.projected(depths, None)
        y, state = self.heads(q, k, v, partial(self._stepped().step, state=state))
        return self.pooled(y), state

    def check(self, depths: Tensor, mask: Tensor | None) -> None:
        shape = ("batch", "seq", self.depth, self.hidden)
        require_input("depths", depths, shape, self.norm.weight)
        require_finite("depths", depths)
        check_mask(mask, depths.shape[:2], depths.device)
        self.attention.check_length(depths.shape[1], self.depth)

    def _stepped(self) -> SteppedAttention[Cache]:
        if self.group is None:
            raise ValueError("wanted causal=True to decode step by step, given causal=False")
        return cast("SteppedAttention[Cache]", self.attention)

    def _found(self, depths: Tensor, mask: Tensor | None) -> Tensor:
        """What all queries find, (batch, seq x queries, hidden)."""
        q, k, v = self.projected(depths, mask)
        wide = repeated(mask, self.depth)
        return self.heads(q, k, v, stateless(self.attention, mask=wide, group=self.group))[0]

    def projected(self, depths: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of each head; override this to read the layers in another way.

        (batch, heads, seq x queries, d), and twice (batch, heads, seq x depth, d).
        """
        if self.depth_vectors is not None:
            depths = depths + self.depth_vectors
        x = self.norm(depths)
        asking = x[:, :, -1:] if self.query == "top" else x
        k, v = self.heads.keys_values(x.flatten(1, 2), repeated(mask, self.depth))
        return self.heads.queries(asking.flatten(1, 2)), k, v

    def pooled(self, y: Tensor) -> Tensor:
        """(batch, seq x queries, hidden) to (batch, seq, hidden); override this to pool anew."""
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
