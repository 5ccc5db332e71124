"""What every attention shares: its inputs, their checks, and what it means to be causal."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from archbook.checks import (
    as_size,
    require_false,
    require_finite,
    require_like,
    require_mask,
    require_tensor,
)
from archbook.shaped import Shaped

S = TypeVar("S")


class Attention(Shaped):
    """Queries read keys and values; heads are given, projections are the caller's.

    mask: True = real key; a padded key changes neither values nor gradients. group: None lets every
    query read every key. A number P makes it causal: keys lie position after position, P of them to
    a position (the P depths of a token), and a query of position i reads all keys of positions
    j <= i. Queries lie likewise; there may be another number of them to a position, for example
    one. group=1 is ordinary causal attention. A query that may read no real key gets zero.
    Errors: ValueError or TypeError for a wrong shape, dtype, device or group, for NaN, for an
    example without a real key.

    >>> class Mean(Attention):
    ...     def attend(self, q, k, v, *, mask, group):
    ...         return v.mean(2, keepdim=True).expand_as(q)
    >>> q = k = v = torch.randn(1, 2, 6, 4)  # batch, heads, sequence, head width
    >>> Mean()(q, k, v).shape
    torch.Size([1, 2, 6, 4])
    """

    def forward(
        self,
        q: Float[Tensor, "batch heads queries head_dim"],
        k: Float[Tensor, "batch heads keys head_dim"],
        v: Float[Tensor, "batch heads keys head_dim"],
        *,
        mask: Bool[Tensor, "batch keys"] | None = None,
        group: int | None = None,
    ) -> Float[Tensor, "batch heads queries head_dim"]:
        k, v = self.checked(q, k, v, mask=mask, group=group)
        return self.attend(q, k, v, mask=mask, group=group)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, group: int | None
    ) -> Tensor:
        """Override this: `forward` without checks; padded keys and values are zero."""
        raise NotImplementedError

    def check_home(self, q: Tensor) -> None:
        """Override this to refuse queries of another dtype or device than the layer's own."""
        if not q.is_floating_point():
            raise TypeError(f"wanted floating q, given {q.dtype}")

    def check_length(self, length: int, group: int = 1) -> None:
        """Override this to refuse a number of positions, `group` keys each, it was not made for."""

    def checked(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, group: int | None
    ) -> tuple[Tensor, Tensor]:
        """Refuse what does not fit; else the keys and values, with zero for the padded ones.

        Override this to refuse more.
        """
        require_tensor("q", q, ("batch", "heads", "queries", "head_dim"))
        self.check_home(q)
        batch, heads, queries, head_dim = q.shape
        require_tensor("k", k, (batch, heads, "keys", head_dim))
        require_tensor("v", v, tuple(k.shape))
        for name, value in {"q": q, "k": k, "v": v}.items():
            require_like(name, value, "q", q)
            require_finite(name, value)
        self.check_length(k.shape[2])
        if group is not None:
            positions(queries, k.shape[2], group)
        if mask is None:
            return k, v
        check_mask(mask, (batch, k.shape[2]), q.device, what="key")
        padded = ~mask[:, None, :, None]  # huge numbers there would become infinity times zero
        return k.masked_fill(padded, 0), v.masked_fill(padded, 0)


class SteppedAttention(Attention, Generic[S]):
    """Attention that decodes position by position; S is what it remembers.

    >>> layer, (q, k, v) = PerformerAttention(4), torch.randn(3, 1, 2, 6, 4)
    >>> whole = layer(q, k, v, group=1)
    >>> y, state = layer.prefill(q[:, :, :5], k[:, :, :5], v[:, :, :5], group=1)
    >>> y, state = layer.step(q[:, :, 5:], k[:, :, 5:], v[:, :, 5:], state=state)
    >>> torch.allclose(y, whole[:, :, 5:], atol=1e-5)
    True
    """

    def prefill(
        self, q: Tensor, k: Tensor, v: Tensor, *, group: int, mask: Tensor | None = None
    ) -> tuple[Tensor, S]:
        """Override this: the causal `forward`, and the state with which `step` goes on."""
        raise NotImplementedError

    def step(self, q: Tensor, k: Tensor, v: Tensor, *, state: S) -> tuple[Tensor, S]:
        """Override this: the next position, whose tokens read each other and all before.

        The state that was given stays as it is.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Kind(ABC):
    """A kind of attention and its options, checked when it is made; `build` makes layers of it.

    Sizes are counted in positions, which hold `group` keys each (the depths of a token), so that
    one object serves every depth. Override `build` and `flops` to add a kind.

    >>> sizes = dict(length=4096, hidden=64, heads=4, group=1, asking=1)
    >>> {str(kind): kind.flops(**sizes) // 10**6 for kind in (Full(), Performer())}
    {'Full()': 4294, "Performer(features=64, kernel='softmax')": 138}
    """

    causal: ClassVar[bool] = True  # there is a causal form
    free_queries: ClassVar[bool] = True  # there may be another number of queries than of keys

    @abstractmethod
    def build(self, head_dim: int, group: int = 1, length: int | None = None) -> Attention:
        """The layer for at most `length` positions; ValueError where it needs to know and is None.

        Override this.
        """

    @abstractmethod
    def flops(self, length: int, hidden: int, heads: int, *, group: int, asking: int) -> int:
        """Operations of products, forward, with `asking` queries to a position. Override this."""


def check_mask(
    mask: Tensor | None, shape: tuple[int, ...], device: torch.device, *, what: str = "token"
) -> None:
    """Refuse a mask that is not (batch, seq) = `shape`, or an example without a real token."""
    if mask is not None:
        require_mask("mask", mask, shape, device)
        require_false(f"wanted a real {what} in every example; examples without one", ~mask.any(1))


def positions(queries: int, keys: int, group: int) -> int:
    """The number of positions that keys and queries share."""
    group = as_size("group", group)
    if keys % group:
        raise ValueError(f"wanted a group that divides the number of keys, {keys}, given {group}")
    if queries % (keys // group):
        raise ValueError(
            f"wanted as many queries for each of {keys // group} positions, given {queries}"
        )
    return keys // group


def no_later(
    queries: int, keys: int, group: int, *, device: torch.device
) -> Bool[Tensor, "queries keys"]:
    """True where the key's position is not after the query's."""
    per_position = queries // positions(queries, keys, group)
    of_query = torch.arange(queries, device=device) // per_position
    return of_query[:, None] >= torch.arange(keys, device=device) // group
