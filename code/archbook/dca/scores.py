"""From couplings, or maps of any kind, to a ranking of the pairs of columns."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from archbook.checks import require_finite, require_positive_int, require_tensor


def zero_sum_gauge(
    couplings: Float[Tensor, "columns columns states states"],
) -> Float[Tensor, "columns columns states states"]:
    """The same model with couplings as small as fields can make them: rows and columns sum to 0.

    >>> zero_sum_gauge(torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]))
    tensor([[[[ 0.2500, -0.2500],
              [-0.2500,  0.2500]]]])
    """
    means = (couplings.mean(d, keepdim=True) for d in (2, 3, (2, 3)))
    over_a, over_b, over_both = means
    return couplings - over_a - over_b + over_both


def contact_scores(
    couplings: Float[Tensor, "columns columns states states"], gap: int | None = None
) -> Float[Tensor, "columns columns"]:
    """Frobenius norms of the couplings in the zero-sum gauge, with APC.

    A state `gap` takes part in the gauge and is left out of the norms, as in plmDCA.

    >>> J = torch.zeros(3, 3, 2, 2)
    >>> J[0, 1] = J[1, 0] = torch.eye(2)  # columns 0 and 1 like equal letters
    >>> contact_scores(J)
    tensor([[0.0000, 0.2500, 0.0000],
            [0.2500, 0.0000, 0.0000],
            [0.0000, 0.0000, 0.0000]])
    """
    _, _, states, _ = couplings.shape
    if gap is not None and not 0 <= gap < states:
        raise ValueError(f"wanted gap to lie in [0, {states - 1}], given {gap}")
    kept = [a for a in range(states) if a != gap]
    norms = zero_sum_gauge(couplings)[:, :, kept][..., kept].norm(dim=(2, 3))
    norms.fill_diagonal_(0)
    return apc(norms, diagonal=False)


def apc(
    scores: Float[Tensor, "*maps columns columns"], diagonal: bool = True
) -> Float[Tensor, "*maps columns columns"]:
    """Average product correction: s_ij - (sum_k s_ik) (sum_k s_kj) / sum_kl s_kl, for each map.

    With `diagonal` sums run over everything, as in the MSA Transformer's contact head: a map of
    rank one becomes 0, and all rows and columns sum to 0. Without, means are of the entries off
    the diagonal, as usual in DCA: a map that is constant off its diagonal becomes 0, and the
    result's diagonal is 0. A map that sums to 0 has nothing to correct.

    >>> apc(torch.ones(3, 3) - torch.eye(3), diagonal=False)  # all background
    tensor([[0., 0., 0.],
            [0., 0., 0.],
            [0., 0., 0.]])
    """
    if scores.ndim < 2 or scores.shape[-1] != scores.shape[-2] or scores.shape[-1] < 2:
        raise ValueError(
            f"wanted scores to have shape (.., columns, columns) with at least 2 columns, "
            f"given {tuple(scores.shape)}"
        )
    columns = scores.shape[-1]
    own = torch.eye(columns, dtype=torch.bool, device=scores.device)
    if not diagonal:
        scores = scores.masked_fill(own, 0)
    product = scores.sum(-1, keepdim=True) * scores.sum(-2, keepdim=True)
    total = scores.sum((-2, -1), keepdim=True)
    background = product / torch.where(total == 0, 1, total)
    if diagonal:
        return scores - background
    return (scores - background * (columns / (columns - 1))).masked_fill(own, 0)


def top_pairs(
    scores: Float[Tensor, "columns columns"],
    k: int,
    min_separation: int = 1,
    *,
    valid: Bool[Tensor, "columns columns"] | None = None,
) -> Int64[Tensor, "pairs 2"]:
    """The k pairs i < j of the highest scores, best first; as many as there are, if fewer.

    Eligible are pairs with j - i >= `min_separation` and `valid` True. Score is the mean of s_ij
    and s_ji; equal ones keep reading order.

    >>> scores = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]])
    >>> top_pairs(scores, k=2)
    tensor([[1, 2],
            [0, 2]])
    """
    require_tensor("scores", scores, ("columns", "columns"))
    ranked, i, j, allowed = _ranking(scores, k, min_separation, valid=valid)
    ranked = ranked[: min(k, int(allowed.sum()))]
    return torch.stack([i[ranked], j[ranked]], -1)


def precision_at(
    scores: Float[Tensor, "*maps columns columns"],
    contacts: Bool[Tensor, "*#maps columns columns"],
    k: int,
    *,
    min_separation: int = 1,
    valid: Bool[Tensor, "*#maps columns columns"] | None = None,
) -> Float[Tensor, "*maps"]:
    """The share of contacts among the k pairs that `top_pairs` ranks first, for each map.

    `contacts` and `valid` are symmetric, of one map or of all. If fewer than k pairs are eligible
    the missing ones count as wrong, as in the published evaluation: see `precision_ceiling`.

    >>> scores = torch.tensor([[0.0, 3.0, 2.0], [3.0, 0.0, 1.0], [2.0, 1.0, 0.0]])
    >>> contacts = scores == 3
    >>> precision_at(scores, contacts, k=1), precision_at(scores, contacts, k=2)
    (tensor(1.), tensor(0.5000))
    """
    ranked, i, j, allowed = _ranking(scores, k, min_separation, valid=valid)
    _require_map("contacts", contacts, scores.shape[-1])
    hits = (contacts[..., i, j] & allowed).expand(ranked.shape)
    return hits.gather(-1, ranked[..., :k]).sum(-1) / k


def precision_ceiling(
    contacts: Bool[Tensor, "*maps columns columns"],
    k: int,
    min_separation: int = 1,
    *,
    valid: Bool[Tensor, "*#maps columns columns"] | None = None,
) -> Float[Tensor, "*maps"]:
    """The best `precision_at` that any scores can reach: below 1 with fewer than k contacts.

    >>> contacts = torch.zeros(3, 3, dtype=torch.bool)
    >>> contacts[0, 1] = contacts[1, 0] = True
    >>> precision_ceiling(contacts, k=2)  # one contact for two places
    tensor(0.5000)
    """
    return precision_at(contacts.float(), contacts, k, min_separation=min_separation, valid=valid)


def _ranking(
    scores: Tensor, k: int, min_separation: int, *, valid: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(order of the pairs i < j, best first; i; j; which are valid). Invalid ones come last."""
    require_positive_int("k", k)
    require_positive_int("min_separation", min_separation)
    require_finite("scores", scores)
    columns = scores.shape[-1]
    _require_map("scores", scores, columns)
    i, j = torch.triu_indices(columns, columns, min_separation, device=scores.device)
    if valid is None:
        valid = torch.ones(columns, columns, dtype=torch.bool, device=scores.device)
    _require_map("valid", valid, columns)
    allowed = valid[..., i, j]
    mean = (scores[..., i, j] + scores[..., j, i]) / 2
    mean = mean.masked_fill(~allowed, -torch.inf)
    return mean.argsort(dim=-1, descending=True, stable=True), i, j, allowed


def _require_map(name: str, value: Tensor, columns: int) -> None:
    """Raise unless the last two axes have `columns` entries each."""
    if value.ndim < 2 or value.shape[-2:] != (columns, columns):
        raise ValueError(
            f"wanted {name} to have shape (.., {columns}, {columns}), given {tuple(value.shape)}"
        )
