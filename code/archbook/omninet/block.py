"""The ordinary pre-LN block: self-attention, then a feed-forward, each with a skip."""

from collections.abc import Callable
from functools import partial
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from archbook.attention import FullAttention, KeyValueCache
from archbook.attention.interface import Attention
from archbook.checks import as_size, value_checks
from archbook.shaped import Shaped

Between = Callable[[Tensor], Tensor]


class Heads(Shaped):
    """W_q, W_k, W_v and W_o of one attention with d_h = hidden / heads."""

    shaped_by = {"heads": "heads"}

    def __init__(self, hidden: int, heads: int, *, bias: bool = True):
        super().__init__()
        hidden, heads = as_size("hidden", hidden), as_size("heads", heads)
        if hidden % heads:
            raise ValueError(f"wanted heads that divide hidden = {hidden}, given {heads}")
        self.heads = heads
        self.q = nn.Linear(hidden, hidden, bias)
        self.kv = nn.Linear(hidden, 2 * hidden, bias)
        self.out = nn.Linear(hidden, hidden, bias)

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, attend: Callable[..., tuple[Tensor, Any]]
    ) -> tuple[Float[Tensor, "batch seq hidden"], Any]:
        """W_o of what `attend` finds with these queries, keys and values; and its state."""
        y, state = attend(q, k, v)
        return self.merge(y), state

    def queries(self, x: Float[Tensor, "batch seq hidden"]) -> Float[Tensor, "batch heads seq d"]:
        return self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(
        self, x: Float[Tensor, "batch seq hidden"], mask: Bool[Tensor, "batch seq"] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Keys and values, (batch, heads, seq, d) each; zero where the mask is False."""
        kv = self.kv(x)
        if mask is not None:
            kv = kv.masked_fill(~mask[..., None], 0)
        k, v = kv.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return k, v

    def merge(self, y: Float[Tensor, "batch heads seq d"]) -> Float[Tensor, "batch seq hidden"]:
        return self.out(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """W_2 GELU(W_1 x), the same for every token."""

    def __init__(self, hidden: int, ffn: int, dropout: float):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(hidden, ffn), nn.Linear(ffn, hidden)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "*tokens hidden"]) -> Float[Tensor, "*tokens hidden"]:
        return self.fc2(self.drop(nn.functional.gelu(self.fc1(x))))


class Block(Shaped):
    """U = X + MHA(LN X); block(X) = U + FFN(LN U). causal: token i reads tokens j <= i alone.

    O(seq^2 hidden + seq hidden ffn) time; the map of scores is never formed. dropout acts on what
    joins the skip and inside the feed-forward, not on the attention's weights.
    Second derivatives by weights are right by jacfwd of grad, both of torch.func:
    torch.func.hessian loses what a LayerNorm's weight shares with its input, in torch 2.6 to 2.13.

    >>> block = Block(16, 2, 64, dropout=0.0, causal=True)
    >>> x = torch.randn(1, 6, 16)
    >>> torch.allclose(block(x)[:, :3], block(x[:, :3]), atol=1e-5)  # no look ahead
    True
    """

    shaped_by = {"causal": "causal"}

    def __init__(self, hidden: int, heads: int, ffn: int, *, dropout: float, causal: bool):
        super().__init__()
        ffn = as_size("ffn", ffn)
        self.norm, self.heads = nn.LayerNorm(hidden), Heads(hidden, heads)
        self.attention = FullAttention()
        self.causal = causal
        self.group = 1 if causal else None
        self.ffn_norm, self.ffn = nn.LayerNorm(hidden), FeedForward(hidden, ffn, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch seq hidden"],
        mask: Bool[Tensor, "batch seq"] | None = None,
        between: Between | None = None,
    ) -> Float[Tensor, "batch seq hidden"]:
        """between: what happens to the stream between the two halves, as in a decoder."""
        y = self.norm(x)
        k, v = self.heads.keys_values(y, mask)
        attend = stateless(self.attention, mask=mask, group=self.group)
        y, _ = self.heads(self.heads.queries(y), k, v, attend)
        return self._join(x, y, between)

    def prefill(
        self, x: Tensor, mask: Tensor | None = None, between: Between | None = None
    ) -> tuple[Tensor, KeyValueCache]:
        """`forward`, and the cache with which `step` goes on."""
        y = self.norm(x)
        k, v = self.heads.keys_values(y, mask)
        attend = partial(self.attention.prefill, group=1, mask=mask)
        y, cache = self.heads(self.heads.queries(y), k, v, attend)
        return self._join(x, y, between), cache

    def step(
        self, x: Tensor, cache: KeyValueCache, between: Between | None = None
    ) -> tuple[Tensor, KeyValueCache]:
        """The next token, (batch, 1, hidden)."""
        y = self.norm(x)
        k, v = self.heads.keys_values(y)
        attend = partial(self.attention.step, state=cache)
        y, cache = self.heads(self.heads.queries(y), k, v, attend)
        return self._join(x, y, between), cache

    def _join(self, x: Tensor, y: Tensor, between: Between | None) -> Tensor:
        x = x + self.drop(y)
        if between is not None:
            x = between(x)
        return x + self.drop(self.ffn(self.ffn_norm(x)))


def stateless(attention: Attention, **options: Any) -> Callable[..., tuple[Tensor, None]]:
    """The attention as `Heads` wants it: with a state, which is none.

    Its values are not checked again: they are a network's own.
    """

    def attend(*qkv: Tensor) -> "tuple[Tensor, None]":  # torch 2.6 traces no alias
        with value_checks(False):
            return attention(*qkv, **options), None

    return attend


def initialise(module: nn.Module) -> None:
    """Glorot weights and zero biases of all linear maps, normal embeddings of deviation 0.02."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=0.02)


def repeated(mask: Tensor | None, depth: int) -> Tensor | None:
    """The mask of the stacked tokens: each position's, `depth` times."""
    return None if mask is None else mask.repeat_interleave(depth, 1)
