"""What an alignment's columns and pairs of columns say: frequencies, and scores made of them."""

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float, Integer
from torch import Tensor

from archbook.autocast import exact
from archbook.checks import require_between, require_positive_int, require_tensor
from archbook.dca.scores import apc, contact_scores

CHUNK = 1024  # rows at a time against all others


@exact
def sequence_weights(
    alignment: Integer[Tensor, "rows columns"], states: int, identity: float = 0.8
) -> Float[Tensor, " rows"]:
    """One over the number of rows, itself included, that agree in more than `identity` of columns.

    More than, as the code of mean-field DCA has it (Morcos et al. 2011: distances < 0.2); others,
    plmDCA and CCMpred among them, also count rows that agree in exactly so many. Gaps that face
    gaps agree. Cost: O(rows^2 columns states) time, O(rows) memory; float64.

    >>> alignment = torch.tensor([[0, 0, 0, 0, 0]] * 3 + [[1, 1, 1, 1, 1]])
    >>> sequence_weights(alignment, states=2)  # three copies count as one
    tensor([0.3333, 0.3333, 0.3333, 1.0000], dtype=torch.float64)
    """
    if not 0 <= identity < 1:
        raise ValueError(f"wanted identity to lie in [0, 1), given {identity}")
    x = one_hot_rows(alignment, states, torch.float32)  # counts up to 2^24 are exact
    least = identity * alignment.shape[1] + 1e-6  # 0.8 * columns may come out a little low
    near = [(part @ x.mT > least).sum(1) for part in x.split(CHUNK)]
    return 1 / torch.cat(near).double()


@exact
def frequencies(
    alignment: Integer[Tensor, "rows columns"],
    states: int,
    weights: Float[Tensor, " rows"],
    *,
    pseudocount: float = 0.0,
) -> tuple[Float[Tensor, "columns states"], Float[Tensor, "columns columns states states"]]:
    """(f_i(a), f_ij(a, b)) of weighted rows, mixed with a share `pseudocount` of the uniform.

    f_i = (1 - s) f_i + s / q and f_ij = (1 - s) f_ij + s / q^2; f_ii is diagonal, of f_i.

    >>> alignment = torch.tensor([[0, 0], [0, 1], [1, 1], [0, 1]])
    >>> single, pair = frequencies(alignment, states=2, weights=torch.ones(4))
    >>> single, pair[0, 1]
    (tensor([[0.7500, 0.2500],
            [0.2500, 0.7500]]), tensor([[0.2500, 0.5000],
            [0.0000, 0.2500]]))
    """
    if not 0 <= pseudocount <= 1:
        raise ValueError(f"wanted pseudocount to lie in [0, 1], given {pseudocount}")
    require_tensor("weights", weights, (len(alignment),))
    x = one_hot_rows(alignment, states, weights.dtype)
    share = weights / weights.sum()
    columns = alignment.shape[1]
    single = (share @ x).view(columns, states)
    pair = rearrange((x * share[:, None]).mT @ x, "(i a) (j b) -> i j a b", a=states, b=states)
    single = (1 - pseudocount) * single + pseudocount / states
    pair = (1 - pseudocount) * pair + pseudocount / states**2
    i = torch.arange(columns, device=x.device)
    pair[i, i] = torch.diag_embed(single)
    return single, pair


@exact
def mean_field_couplings(
    alignment: Integer[Tensor, "rows columns"],
    states: int,
    pseudocount: float = 0.5,
    *,
    identity: float | None = 0.8,
) -> Float[Tensor, "columns columns states states"]:
    """J = -C^-1, C = f_ij(a, b) - f_i(a) f_j(b), in float64; J_ii is no coupling.

    C leaves out every column's last state, which the others determine, and J is 0 there; in the
    zero-sum gauge it does not matter which state that was. Rows count by `sequence_weights` at
    `identity`, None: equally. Cost: O(rows (columns states)^2 + (columns states)^3).

    >>> alignment = torch.tensor([[0, 0, 1], [1, 1, 1], [0, 0, 0], [1, 1, 0]])
    >>> J = mean_field_couplings(alignment, states=2, identity=None)
    >>> J.shape, bool(zero_sum_gauge(J)[0, 1, 0, 0] > 0)  # equal letters attract
    (torch.Size([3, 3, 2, 2]), True)
    """
    if not 0 < pseudocount <= 1:  # without one, C is singular
        raise ValueError(f"wanted pseudocount to lie in (0, 1], given {pseudocount}")
    weights = row_weights(alignment, states, identity)
    single, pair = frequencies(alignment, states, weights, pseudocount=pseudocount)
    covariance = pair - einsum(single, single, "i a, j b -> i j a b")
    kept = rearrange(covariance[:, :, :-1, :-1], "i j a b -> (i a) (j b)")
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(kept))
    couplings = torch.zeros_like(pair)
    couplings[:, :, :-1, :-1] = -rearrange(
        inverse, "(i a) (j b) -> i j a b", a=states - 1, b=states - 1
    )
    return couplings


def mean_field(
    alignment: Integer[Tensor, "rows columns"],
    states: int,
    pseudocount: float = 0.5,
    *,
    identity: float | None = 0.8,
    gap: int | None = None,
) -> Float[Tensor, "columns columns"]:
    """Mean-field DCA: the `contact_scores` of `mean_field_couplings`.

    >>> alignment = torch.tensor([[0, 0, 1], [1, 1, 1], [0, 0, 0], [1, 1, 0]])
    >>> top_pairs(mean_field(alignment, states=2, identity=None), k=1)
    tensor([[0, 1]])
    """
    return contact_scores(
        mean_field_couplings(alignment, states, pseudocount, identity=identity), gap
    )


def mutual_information(
    alignment: Integer[Tensor, "rows columns"],
    states: int,
    pseudocount: float = 0.0,
    *,
    identity: float | None = 0.8,
    corrected: bool = True,
) -> Float[Tensor, "columns columns"]:
    """sum_ab f_ij(a, b) log(f_ij(a, b) / (f_i(a) f_j(b))) in nats, by default with APC; float64.

    >>> alignment = torch.tensor([[0, 0, 1], [1, 1, 1], [0, 0, 0], [1, 1, 0]])
    >>> mutual_information(alignment, states=2, identity=None, corrected=False)  # ln 2
    tensor([[0.0000, 0.6931, 0.0000],
            [0.6931, 0.0000, 0.0000],
            [0.0000, 0.0000, 0.0000]], dtype=torch.float64)
    """
    weights = row_weights(alignment, states, identity)
    single, pair = frequencies(alignment, states, weights, pseudocount=pseudocount)
    negative_entropy = torch.xlogy(single, single).sum(-1)
    information = torch.xlogy(pair, pair).sum((2, 3))
    information = information - negative_entropy[:, None] - negative_entropy
    information.fill_diagonal_(0)
    return apc(information, diagonal=False) if corrected else information


def row_weights(alignment: Tensor, states: int, identity: float | None) -> Tensor:
    """The rows' weights, float64; one each without an `identity`."""
    if identity is not None:
        return sequence_weights(alignment, states, identity)
    return torch.ones(len(alignment), dtype=torch.float64, device=alignment.device)


def one_hot_rows(alignment: Tensor, states: int, dtype: torch.dtype) -> Tensor:
    """(rows, columns * states), the states of a column side by side."""
    require_positive_int("states", states)
    require_tensor("alignment", alignment, ("rows", "columns"))
    if states < 2 or alignment.shape[1] < 2:
        raise ValueError(
            f"wanted at least 2 states and 2 columns, given {states} and {alignment.shape[1]}"
        )
    if alignment.is_floating_point() or alignment.dtype == torch.bool:
        raise TypeError(f"wanted alignment to hold integers, given {alignment.dtype}")
    require_between("alignment", alignment, low=0, high=states - 1)
    return F.one_hot(alignment.long(), states).flatten(1).to(dtype)
