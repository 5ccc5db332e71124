"""From attention maps to contacts: symmetrise, remove the background, 1 + heads numbers."""

from warnings import warn

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from archbook.autocast import without_autocast
from archbook.checks import (
    require_false,
    require_finite,
    require_mask,
    require_positive_int,
    require_tensor,
)
from archbook.dca import apc


def contact_features(
    attentions: Float[Tensor, "batch layers heads columns columns"],
    columns: Bool[Tensor, "batch columns"] | None = None,
) -> Float[Tensor, "batch columns columns features"]:
    """a + a^T of every map, less its rank-one background; features = layers x heads.

    Padded columns (False) are left out *before* the background is taken, and come out as zero. The
    published code takes it over them, so that there a batch changes its answers.

    >>> attentions = torch.rand(1, 3, 2, 5, 5).softmax(-1)
    >>> features = contact_features(attentions)
    >>> features.shape, bool(features.sum(1).abs().max() < 1e-4)  # no background is left
    (torch.Size([1, 5, 5, 6]), True)
    """
    s = attentions.flatten(1, 2)
    s = s + s.mT
    if columns is not None:
        real = columns[:, None, :, None] & columns[:, None, None]
        s = s.masked_fill(~real, 0.0)  # zeros add nothing to the sums over rows and columns
    # A background of one column is the column itself.
    return (apc(s) if s.shape[-1] > 1 else torch.zeros_like(s)).permute(0, 2, 3, 1)


class ContactHead(nn.Module):
    """p_ij = sigmoid(b + sum_h w_h s_ij^h) on `contact_features`: a logistic regression.

    The transformer below stays as it is; `fit` finds these numbers from a few structures. Until
    then, or until they are loaded, w is NaN, and the head refuses to answer: so copies, pickles and
    state dicts of an unfitted head are unfitted, and where no values are read (`value_checks`,
    torch.compile) its answer is NaN.

    >>> head, maps = ContactHead(features=6), torch.rand(1, 3, 2, 5, 5).softmax(-1)
    >>> head(maps)  # 3 layers of 2 heads, 5 columns
    Traceback (most recent call last):
        ...
    ValueError: wanted a contact head that knows contacts, ... given one that was never fitted
    >>> head.fit(torch.rand(10, 6), torch.arange(10) < 4)
    >>> head(maps).shape, torch.allclose(head(maps), head(maps).mT)
    (torch.Size([1, 5, 5]), True)
    """

    def __init__(self, features: int):
        super().__init__()
        require_positive_int("features", features)
        self.features, self.regression = features, nn.Linear(features, 1)
        self.forget()

    def forget(self) -> None:
        """As if never fitted."""
        nn.init.constant_(self.regression.weight, torch.nan)
        nn.init.zeros_(self.regression.bias)

    def forward(
        self,
        attentions: Float[Tensor, "batch layers heads columns columns"],
        columns: Bool[Tensor, "batch columns"] | None = None,
    ) -> Float[Tensor, "batch columns columns"]:
        """Probabilities, symmetric; zero at padding. Under autocast, too, in the weights' dtype.

        Errors: ValueError for maps of another shape and for a head that was never fitted.
        """
        require_tensor("attentions", attentions, ("batch", "layers", "heads", "columns", "columns"))
        batch, layers, heads, _, size = attentions.shape
        require_tensor("attentions", attentions, (batch, layers, heads, size, size))
        if layers * heads != self.features:
            raise ValueError(
                f"wanted layers x heads = {self.features} maps, given {(layers, heads)}"
            )
        if columns is not None:
            require_mask("columns", columns, (batch, size), attentions.device)
        weights = [*self.parameters()]  # the regression's own, whatever is attached to it
        require_false(
            "wanted a contact head that knows contacts, from `ContactHead.fit` or a file",
            torch.stack([weight.isnan().any() for weight in weights]),
            given="one that was never fitted",
        )
        # half precision would give many pairs one probability
        maps = attentions.to(torch.promote_types(attentions.dtype, weights[0].dtype))
        with without_autocast(maps):
            p = self.regression(contact_features(maps, columns))[..., 0].sigmoid()
        if columns is not None:
            p = p * (columns[:, :, None] & columns[:, None])
        return p

    @torch.no_grad()
    def fit(
        self,
        features: Float[Tensor, "pairs features"],
        contacts: Bool[Tensor, " pairs"],
        penalty: float = 1 / 0.15,
        *,
        steps: int = 2000,
        tolerance: float = 1e-7,
    ) -> None:
        """Minimise the sum of logistic losses + penalty sum_h sigma_h |w_h|; b is free of it.

        The paper's read-out: penalty = 1 / C with C = 0.15. Accelerated proximal gradient (FISTA),
        in float64. Deviates from the paper: each weight counts times its feature's standard
        deviation sigma_h, so that the scale of a head's map does not matter. Without it a network
        of even maps, such as an untied one, would keep no head at all.

        Warns where the steps do not bring the weights to the tolerance. Errors: ValueError for
        wrong shapes, numbers that are not finite, and pairs of one kind only.
        """
        require_tensor("features", features, ("pairs", self.features))
        require_mask("contacts", contacts, (len(features),), features.device)
        require_finite("features", features)
        require_positive_int("steps", steps)
        if penalty < 0:
            raise ValueError(f"wanted penalty >= 0, given {penalty}")
        if not 0 < (count := int(contacts.sum())) < len(contacts):
            raise ValueError(
                f"wanted contacts and others among the {len(contacts)} pairs, "
                f"given {count} contacts"
            )
        sigma, mean = torch.std_mean(features.double(), 0, correction=0)
        sigma = torch.where(sigma > 0, sigma, 1.0)
        units = (features - mean) / sigma  # centred, which b makes up for: the fit then is fast
        A = torch.cat([units, units.new_ones(len(units), 1)], 1)
        y = contacts.double()
        size = torch.full((A.shape[1],), penalty, dtype=A.dtype, device=A.device)
        size[-1] = 0.0
        rate = 4 / torch.linalg.matrix_norm(A, 2).square()  # of the logistic loss's curvature
        w = torch.zeros(A.shape[1], dtype=A.dtype, device=A.device)
        ahead, t, change = w, 1.0, torch.inf
        for _ in range(steps):
            moved = ahead - rate * (A.mT @ ((A @ ahead).sigmoid() - y))
            new = moved.sign() * (moved.abs() - rate * size).clamp(min=0)
            if (new - ahead) @ (new - w) < 0:  # overshot: drop the momentum
                t = 1.0
            t_new = (1 + (1 + 4 * t * t) ** 0.5) / 2
            ahead = new + (t - 1) / t_new * (new - w)
            change, w, t = (new - w).abs().max(), new, t_new
            if change <= tolerance * w.abs().max():
                break
        else:
            moved = f"the last of {steps} steps still moved a weight by {change:.2g}"
            warn(f"not converged: {moved}", stacklevel=2)
        self.regression.weight.copy_(w[None, :-1] / sigma)
        self.regression.bias.copy_(w[-1:] - (w[:-1] / sigma) @ mean)
