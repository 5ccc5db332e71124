"""The Performer: attention by random features, linear in the number of tokens."""

from dataclasses import dataclass

import torch
from torch import Tensor

from archbook.attention.features import gaussian_projection, relu_features, softmax_exponents
from archbook.attention.interface import Kind, SteppedAttention
from archbook.attention.linear import (
    LinearState,
    Scaled,
    absorb,
    causal_read,
    empty_state,
    normalized,
    read,
)
from archbook.autocast import without_autocast
from archbook.checks import as_size, require_choice, require_input, require_like, require_tensor

KERNELS = ("softmax", "relu")


@dataclass(frozen=True)
class Performer(Kind):
    """Attention by random features of each head; another function than full attention.

    >>> layer = Performer(features=16).build(head_dim=8)
    >>> layer.projection.shape
    torch.Size([16, 8])
    """

    features: int = 64
    kernel: str = "softmax"  # or "relu"

    def __post_init__(self):
        object.__setattr__(self, "features", as_size("features", self.features))
        require_choice("kernel", self.kernel, KERNELS)

    def build(self, head_dim, group=1, length=None):
        return PerformerAttention(head_dim, self.features, self.kernel)

    def flops(self, length, hidden, heads, *, group, asking):
        """Features, then sums over keys and their reading."""
        return 2 * self.features * length * (asking + group) * (2 * hidden + heads)


class PerformerAttention(SteppedAttention[LinearState]):
    """FAVOR+: D^-1 phi(Q) (phi(K)^T V), D = diag(phi(Q) (phi(K)^T 1)), on x = q / d_h^(1/4).

    kernel: "softmax" estimates full attention (`softmax_features`), "relu" is a kernel of its own
    (`relu_features`). The projection, a buffer, is drawn once: an output depends on no other
    example and on no later token.
    Stable without an epsilon: each token's features are divided by their largest, and the sums keep
    the scale, as online softmax does. A query whose products with all keys underflow gets zero; in
    float32 that takes opposite q and k of length about 14 d_h^(1/4).
    Half precision is computed in float32: an exponent rounded to 8 bits would be off by percents,
    and so would long sums.
    Cost: O(keys features head_dim) time; the memory of features and, if causal, of sums for each
    chunk is linear in keys. No map of queries x keys is formed.

    >>> q, k, v = torch.randn(3, 1, 2, 32, 8) / 2
    >>> layer = PerformerAttention(8, features=4096)
    >>> error = layer(q, k, v) - FullAttention()(q, k, v)  # an estimate of full attention
    >>> bool(error.abs().max() < 0.1)
    True
    """

    shaped_by = {"kernel": "kernel"}

    projection: Tensor

    def __init__(
        self,
        head_dim: int,
        features: int = Performer.features,
        kernel: str = Performer.kernel,
        *,
        orthogonal: bool = True,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        kind, head_dim = Performer(features, kernel), as_size("head_dim", head_dim)
        self.kernel = kind.kernel
        projection = gaussian_projection(
            kind.features, head_dim, orthogonal=orthogonal, generator=generator
        )
        self.register_buffer("projection", projection)

    def check_home(self, q):
        head_dim = self.projection.shape[1]
        require_input("q", q, (*q.shape[:-1], head_dim), self.projection)

    def attend(self, q, k, v, *, mask, group):
        if group is not None:
            return self._causal(q, k, v, mask=mask, group=group)[0]
        with without_autocast(q):
            queries, keys, values = self._parts(q, k, v, mask=mask)
            state = absorb(empty_state(keys, values), keys, values)
            return normalized(read(queries, state)).to(v.dtype)

    def prefill(self, q, k, v, *, group: int, mask: Tensor | None = None):
        group = as_size("group", group)
        k, v = self.checked(q, k, v, mask=mask, group=group)
        return self._causal(q, k, v, mask=mask, group=group)

    def step(self, q, k, v, *, state: LinearState):
        """Time as for the first position."""
        self.checked(q, k, v, mask=None, group=None)
        with without_autocast(q):
            queries, keys, values = self._parts(q, k, v, mask=None)
            blank = empty_state(keys, values)
            for name, given, like in zip(LinearState._fields, state, blank, strict=True):
                require_tensor(f"state.{name}", given, tuple(like.shape))
                require_like(f"state.{name}", given, "the features", like)
            state = absorb(state, keys, values)
            return normalized(read(queries, state)).to(v.dtype), state

    def _causal(self, q, k, v, *, mask: Tensor | None, group: int) -> tuple[Tensor, LinearState]:
        with without_autocast(q):
            y, state = causal_read(*self._parts(q, k, v, mask=mask), group=group)
            return normalized(y).to(v.dtype), state

    def _parts(self, q, k, v, *, mask: Tensor | None) -> tuple[Scaled, Scaled, Tensor]:
        """Features of queries and keys, and [v, 1], in float32 or better."""
        wide = torch.promote_types(q.dtype, torch.float32)
        q, k, v = (x.to(wide) for x in (q, k, v))
        keys = self._features(k)
        if mask is not None:
            log_scale = keys.log_scale.masked_fill(~mask[:, None, :, None], -torch.inf)
            keys = Scaled(keys.phi, log_scale)
        return self._features(q), keys, torch.cat([v, torch.ones_like(v[..., :1])], -1)

    def _features(self, x: Tensor) -> Scaled:
        x, projection = x / x.shape[-1] ** 0.25, self.projection.to(x.dtype)
        if self.kernel == "relu":
            phi = relu_features(x, projection)
            largest = phi.detach().amax(-1, keepdim=True)
            return Scaled(phi / largest, largest.log())
        u = softmax_exponents(x, projection)  # without 1 / sqrt(m), which cancels
        largest = u.detach().amax(-1, keepdim=True)
        return Scaled((u - largest).exp(), largest)
