"""Attention along the two axes of an alignment: over columns, tied across rows, and over rows.

Hidden states are (batch, rows, columns, hidden) for the caller. Inside a network they lie columns
first in memory, (batch, columns, rows, hidden): the rows of one column are then neighbours, and
column attention needs no copy.
"""

import math
from collections.abc import Callable
from functools import reduce
from itertools import repeat

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import dropout, linear, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from archbook.attached import is_plain
from archbook.checks import (
    can_be_read,
    inside_torch_func,
    require_choice,
    require_finite,
    require_input,
    require_positive_int,
)
from archbook.msa_transformer.padding import AlignmentMask
from archbook.shaped import Shaped

TIES = ("sqrt", "mean", "none")


class AxialAttention(Shaped):
    """What both axes share: projections, heads, the two layouts.

    Fused attention has no second derivatives: a penalty on gradients runs inside
    `torch.nn.attention.sdpa_kernel(SDPBackend.MATH)`.
    """

    shaped_by = {"heads": "heads"}

    def __init__(self, hidden: int, heads: int, dropout: float = 0.0):
        super().__init__()
        require_positive_int("hidden", hidden)
        require_positive_int("heads", heads)
        if hidden % heads:
            raise ValueError(f"wanted heads that divide hidden = {hidden}, given {heads}")
        if not 0 <= dropout < 1:
            raise ValueError(f"wanted 0 <= dropout < 1, given {dropout}")
        self.hidden, self.heads, self.dropout = hidden, heads, dropout
        self.qkv = nn.Linear(hidden, 3 * hidden)  # queries, keys, values; heads are slices of each
        self.out = nn.Linear(hidden, hidden)

    def forward(
        self,
        x: Float[Tensor, "batch rows columns hidden"],
        mask: Bool[Tensor, "batch rows columns"] | AlignmentMask | None = None,
        need_weights: bool = False,
        *,
        chunk: int | None = None,
    ) -> tuple[Float[Tensor, "batch rows columns hidden"], Tensor | None]:
        """(Y, attention map or None). mask: True = real, an example's first rows and columns.

        chunk: work on about so many tokens of each example at a time and recompute them in the
        backward pass; None does all at once. What comes out at padding is finite and means nothing.
        """
        weight = next(self.parameters())
        require_input("x", x, ("batch", "rows", "columns", self.hidden), weight)
        require_finite("x", x)
        if chunk is not None:
            require_positive_int("chunk", chunk)
        real = AlignmentMask.of(mask, x)
        y, weights = self.attend(x.transpose(1, 2), real, need_weights, chunk=chunk)
        return y.transpose(1, 2), weights

    def attend(
        self,
        x: Float[Tensor, "batch columns rows hidden"],
        mask: AlignmentMask | None,
        need_weights: bool = False,
        *,
        chunk: int | None = None,
    ) -> tuple[Float[Tensor, "batch columns rows hidden"], Tensor | None]:
        """`forward` without checks, columns first: override this with the attention itself."""
        raise NotImplementedError

    def split(self, x: Tensor, first: int = 0, last: int = 3) -> tuple[Tensor, ...]:
        """Queries (0), keys (1), values (2): each (batch, columns, rows, heads, head width).

        For subclasses that write an `attend` of their own.
        """
        part = slice(first * self.hidden, last * self.hidden)
        if last - first < 3 and is_plain(self.qkv):
            y = linear(x, self.qkv.weight[part], self.qkv.bias[part])
        else:
            y = self.qkv(x)[..., part]
        return y.unflatten(-1, (last - first, self.heads, -1)).unbind(-3)

    def _drop(self, weights: Tensor) -> Tensor:
        return dropout(weights, self.dropout) if self.training and self.dropout else weights

    @property
    def _rate(self) -> float:
        return self.dropout if self.training else 0.0


class TiedRowAttention(AxialAttention):
    """One map over columns for all rows (the paper's Eq. 1).

    S = sum_m Q_m K_m^T / lambda, A = softmax(S), Y_m = A V_m, with lambda = sqrt(M d_h) ("sqrt",
    the paper's choice) or M sqrt(d_h) ("mean"), M the number of *real* rows of each example (the
    published code counts padded rows, too, so that padding changes its answers). "none" gives every
    row a map of its own, and returns their mean.

    Tied, it is scaled dot-product attention on features flattened to rows x head width: O(rows
    columns^2 hidden) time. The map, (batch, heads, columns, columns), is independent of the number
    of rows. It is formed where it is asked for, in chunks, and where it is no larger than the
    queries, columns <= rows x head width: there, keeping it is cheaper than what fused attention
    does, which is to compute it again in the backward pass. Its heads are rows x head width wide:
    beyond 256, FlashAttention does not take them.

    >>> layer = TiedRowAttention(16, 2)
    >>> y, weights = layer(torch.randn(1, 4, 6, 16), need_weights=True)
    >>> weights.shape, torch.allclose(weights.sum(-1), torch.ones(1, 2, 6))
    (torch.Size([1, 2, 6, 6]), True)
    """

    shaped_by = {"heads": "heads", "tie": "tie"}

    def __init__(self, hidden: int, heads: int, dropout: float = 0.0, *, tie: str = "sqrt"):
        super().__init__(hidden, heads, dropout)
        require_choice("tie", tie, TIES)
        self.tie = tie

    def attend(self, x, mask, need_weights=False, *, chunk=None):
        if self.tie == "none":
            return self._untied(x, mask, need_weights, chunk=chunk)
        scale = self.query_scale(x, mask)
        keys = None if mask is None else mask.columns[:, None, None]  # (batch, 1, 1, columns)
        if chunk is not None:
            return self._chunked(x, scale, keys, need_weights=need_weights, chunk=chunk)
        q, k, v = (self.flat(part) for part in self.split(x))
        q = self._scaled(q, scale)
        if need_weights or x.shape[1] <= q.shape[-1]:
            weights = _softmax(q @ k.mT, keys)
            y = self._drop(weights) @ v
        else:
            y = scaled_dot_product_attention(q, k, v, keys, self._rate, scale=1.0)
            weights = None
        return self.out(self.unflat(y, x.shape[2])), weights if need_weights else None

    def query_scale(self, x: Tensor, mask: AlignmentMask | None) -> float | Tensor:
        """1 / lambda, by example and row where there is padding: padded rows ask nothing.

        Override this to weigh the rows otherwise: a number, or (batch, rows).
        """
        width = self.hidden // self.heads
        power = 0.5 if self.tie == "sqrt" else 1.0
        if mask is None:
            return 1 / (x.shape[2] ** power * math.sqrt(width))
        depth = mask.rows.sum(1, keepdim=True).to(x.dtype)
        return mask.rows * depth**-power / math.sqrt(width)  # (batch, rows)

    def _scaled(self, q: Tensor, scale: float | Tensor) -> Tensor:
        if isinstance(scale, Tensor):  # to (batch, 1, 1, rows x head width)
            scale = scale.repeat_interleave(self.hidden // self.heads, 1)[:, None, None]
        return q * scale

    def flat(self, part: Tensor) -> Tensor:
        """(batch, columns, rows, heads, d) -> (batch, heads, columns, rows x d).

        Override this and `unflat` to tie the rows otherwise.
        """
        return part.permute(0, 3, 1, 2, 4).flatten(3)

    def unflat(self, y: Tensor, rows: int) -> Tensor:
        """(batch, heads, columns, rows x d) -> (batch, columns, rows, hidden)."""
        return y.unflatten(3, (rows, -1)).permute(0, 2, 3, 1, 4).flatten(3)

    def _chunked(self, x, scale, keys, *, need_weights, chunk):
        """The sum over rows in parts: no more than `chunk` tokens' projections exist at a time."""
        step = max(1, chunk // x.shape[1])
        parts = x.split(step, 2)
        scales = scale.split(step, 1) if isinstance(scale, Tensor) else [scale] * len(parts)

        def scores(part: Tensor, scale: "float | Tensor") -> Tensor:  # torch 2.6 traces no union
            q, k = (self.flat(p) for p in self.split(part, 0, 2))
            return self._scaled(q, scale) @ k.mT

        total = reduce(torch.add, map(recomputed, repeat(scores), parts, scales))
        weights = _softmax(total, keys)
        dropped = self._drop(weights)

        def values(part: Tensor) -> Tensor:
            (v,) = self.split(part, 2)
            return self.out(self.unflat(dropped @ self.flat(v), part.shape[2]))

        return in_parts(values, x, step, dim=2), weights if need_weights else None

    def _untied(self, x, mask, need_weights, *, chunk):
        keys = None if mask is None else mask.columns[:, None, None, None]
        rows = x.shape[2]
        step = rows if chunk is None else max(1, chunk // x.shape[1])

        def attend(part: Tensor) -> "tuple[Tensor, Tensor | None]":  # torch 2.6 traces no alias
            q, k, v = (p.permute(0, 2, 3, 1, 4) for p in self.split(part))  # b r h c d
            if need_weights:
                weights = _softmax(q @ k.mT / math.sqrt(q.shape[-1]), keys)
                y = self._drop(weights) @ v
            else:
                y = scaled_dot_product_attention(q, k, v, keys, self._rate)
                weights = None
            return self.out(y.permute(0, 3, 1, 2, 4).flatten(3)), weights

        if chunk is None:
            y, weights = attend(x)
        elif need_weights:
            ys, maps = zip(*(recomputed(attend, part) for part in x.split(step, 2)), strict=True)
            y, weights = torch.cat(ys, 2), torch.cat(maps, 1)
        else:
            y, weights = in_parts(lambda part: attend(part)[0], x, step, dim=2), None
        if weights is None:
            return y, None
        if mask is None:
            return y, weights.mean(1)
        real = mask.rows.to(weights.dtype)
        return y, torch.einsum("brhij,br->bhij", weights, real / real.sum(1, keepdim=True))


class ColumnAttention(AxialAttention):
    """Each column by itself: its rows attend to each other.

    O(columns rows^2 hidden) time; the map, (batch, heads, columns, rows, rows), is formed only
    where it is asked for.

    >>> layer = ColumnAttention(16, 2)
    >>> y, weights = layer(torch.randn(1, 4, 6, 16), need_weights=True)
    >>> y.shape, weights.shape
    (torch.Size([1, 4, 6, 16]), torch.Size([1, 2, 6, 4, 4]))
    """

    def attend(self, x, mask, need_weights=False, *, chunk=None):
        columns, rows = x.shape[1:3]
        step = columns if chunk is None else max(1, chunk // rows)
        keys = None if mask is None else mask.rows[:, None, None, None]  # (batch, 1, 1, 1, rows)

        def attend(part: Tensor) -> "tuple[Tensor, Tensor | None]":  # torch 2.6 traces no alias
            q, k, v = (p.transpose(2, 3) for p in self.split(part))  # (batch, columns, heads, ..)
            if need_weights:
                weights = _softmax(q @ k.mT / math.sqrt(q.shape[-1]), keys)
                y = self._drop(weights) @ v
            else:
                shape = q.shape
                q, k, v = (p.flatten(0, 1) for p in (q, k, v))
                rows_of = keys
                if rows_of is not None:  # (batch, columns, 1, 1, rows) as one batch
                    rows_of = rows_of.expand(-1, shape[1], -1, -1, -1).flatten(0, 1)
                y = scaled_dot_product_attention(q, k, v, rows_of, self._rate).view(shape)
                weights = None
            return self.out(y.transpose(2, 3).flatten(3)), weights

        if chunk is None:
            y, weights = attend(x)
        elif need_weights:
            ys, maps = zip(*(recomputed(attend, part) for part in x.split(step, 1)), strict=True)
            y, weights = torch.cat(ys, 1), torch.cat(maps, 1)
        else:
            y, weights = in_parts(lambda part: attend(part)[0], x, step, dim=1), None
        return y, None if weights is None else weights.transpose(1, 2)


def recomputed(f: Callable, *inputs):
    """f(*inputs), whose inner values the backward pass computes again instead of keeping them.

    In torch.func they are kept: it knows nothing of torch's checkpoints.
    """
    if inside_torch_func():
        return f(*inputs)
    return checkpoint(f, *inputs, use_reentrant=False)


def in_parts(f: Callable[[Tensor], Tensor], x: Tensor, step: int, *, dim: int) -> Tensor:
    """f of x, `step` places of an axis at a time; f leaves this axis as long as it is.

    Without gradients each part is written where it belongs, so that what comes out is held once;
    with them the parts are recomputed in the backward pass.
    """
    parts = x.split(step, dim)
    if torch.is_grad_enabled() or not can_be_read(x):
        return torch.cat([recomputed(f, part) for part in parts], dim)
    first = f(parts[0])
    shape = list(first.shape)
    shape[dim] = x.shape[dim]
    whole = first.new_empty(shape)
    for place, part in zip(whole.split(step, dim), parts, strict=True):
        place.copy_(first if part is parts[0] else f(part))
    return whole


def _softmax(scores: Tensor, keys: Tensor | None) -> Tensor:
    """Over the last axis, padded keys left out."""
    if keys is not None:
        scores = scores.masked_fill(~keys, -torch.inf)
    return scores.softmax(-1)
