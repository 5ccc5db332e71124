"""A Potts model fitted to an alignment, column by column."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Integer
from torch import Tensor

from archbook.autocast import exact
from archbook.dca.scores import contact_scores
from archbook.dca.statistics import one_hot_rows, row_weights

MEMORY = 10  # steps that L-BFGS remembers
L2 = 0.01  # of the fields; that of the couplings grows with their number


@dataclass(frozen=True)
class PseudoLikelihoodFit:
    """The columns' regressions as one Potts model, and how closely they minimise the loss.

    >>> alignment = torch.tensor([[0, 0, 1], [1, 1, 1], [0, 0, 0], [1, 1, 0]])
    >>> fit = fit_pseudo_likelihood(alignment, states=2, identity=None)
    >>> fit.fields.shape, fit.couplings.shape
    (torch.Size([3, 2]), torch.Size([3, 3, 2, 2]))
    """

    fields: Float[Tensor, "columns states"]
    couplings: Float[Tensor, "columns columns states states"]  # J_ij(a, b) = J_ji(b, a); J_ii = 0
    residual: float  # largest entry of the loss's gradient, over the sum of the weights
    evaluations: int  # of the gradient


def pseudo_likelihood(
    alignment: Integer[Tensor, "rows columns"],
    states: int,
    coupling_l2: float | None = None,
    *,
    identity: float | None = 0.8,
    gap: int | None = None,
    tolerance: float = 3e-3,
) -> Float[Tensor, "columns columns"]:
    """Pseudo-likelihood DCA: `contact_scores` of the couplings of `fit_pseudo_likelihood`.

    >>> alignment = torch.tensor([[0, 0, 1], [1, 1, 1], [0, 0, 0], [1, 1, 0]])
    >>> top_pairs(pseudo_likelihood(alignment, states=2, identity=None), k=1)
    tensor([[0, 1]])
    """
    fit = fit_pseudo_likelihood(
        alignment, states, coupling_l2=coupling_l2, identity=identity, tolerance=tolerance
    )
    return contact_scores(fit.couplings, gap)


@exact
def pseudo_likelihood_loss(
    h: Float[Tensor, " terms"],
    J: Float[Tensor, "terms terms"],
    x: Float[Tensor, "rows terms"],
    *,
    weights: Float[Tensor, " rows"],
    states: int,
    field_l2: float,
    coupling_l2: float,
) -> tuple[
    Float[Tensor, ""],
    Float[Tensor, " terms"],
    Float[Tensor, "terms terms"],
]:
    """The loss of `fit_pseudo_likelihood`, and its gradients to h and to J.

    J[(j, b), (i, a)] is what letter b of column j adds to letter a in i's regression; the blocks
    j = i must be zero, and their gradient is. x: one-hot rows; terms are columns * states.
    The loss is summed in float64.

    >>> x = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]])  # one-hot: 00 and 11
    >>> h, J = torch.zeros(4), torch.zeros(4, 4)
    >>> more = dict(weights=torch.ones(2), states=2, field_l2=0.01, coupling_l2=0.01)
    >>> loss, to_h, to_J = pseudo_likelihood_loss(h, J, x, **more)
    >>> round(float(loss), 4)  # 4 letters, each with chance 1/2: 4 ln 2
    2.7726
    """
    logits = torch.addmm(h, x, J)  # (rows, columns * states)
    log_p = rearrange(logits, "n (i a) -> n i a", a=states).log_softmax(-1).flatten(1)
    error = (log_p.exp() - x) * weights[:, None]
    loss = -((log_p * x).sum(1).double() @ weights.double())
    loss = loss + field_l2 * h.double().square().sum() + coupling_l2 * J.square().sum().double()
    to_J = torch.addmm(J, x.mT, error, beta=2 * coupling_l2)
    _own_blocks(to_J, states).zero_()
    return loss, error.sum(0) + 2 * field_l2 * h, to_J


@exact
def fit_pseudo_likelihood(
    alignment: Integer[Tensor, "rows columns"],
    states: int,
    field_l2: float = L2,
    *,
    coupling_l2: float | None = None,
    identity: float | None = 0.8,
    tolerance: float = 3e-3,
    max_evaluations: int = 1000,
    dtype: torch.dtype = torch.float32,
) -> PseudoLikelihoodFit:
    """Every column's multinomial regression on all the others, fitted at once by L-BFGS.

    Minimises, with the rows' weights w (`sequence_weights`; not divided by their sum),

        sum_i [ -sum_n w_n log p(x_ni | x_nj, j != i) + field_l2 sum_a h_i(a)^2
                + coupling_l2 sum_{j != i} sum_ab J_ij(a, b)^2 ]

    until no entry of the gradient exceeds `tolerance` times the sum of the weights: until no pair
    frequency is missed by more. Without a `coupling_l2` it is 0.01 (columns - 1) (states - 1) / 2,
    GREMLIN's: half of 0.01 (columns - 1) (states - 1), as each coupling is paid for twice, in i's
    regression and in j's. The two estimates are averaged. Cost of an evaluation:
    O(rows (columns states)^2). A RuntimeError tells of `max_evaluations` that did not suffice.

    >>> alignment = torch.tensor([[0, 0, 1], [1, 1, 1], [0, 0, 0], [1, 1, 0]])
    >>> fit = fit_pseudo_likelihood(alignment, states=2, identity=None)
    >>> J = fit.couplings
    >>> bool(J[0, 1, 0, 0] > 0 > J[0, 1, 0, 1]), fit.residual < 3e-3
    (True, True)
    """
    if coupling_l2 is None:
        coupling_l2 = L2 * max(alignment.shape[-1] - 1, 1) * max(states - 1, 1) / 2
    wanted = {"field_l2": field_l2, "coupling_l2": coupling_l2, "tolerance": tolerance}
    for name, value in wanted.items():
        if not value > 0:
            raise ValueError(f"wanted {name} to be positive, given {value}")
    weights = row_weights(alignment, states, identity).to(dtype)
    x = one_hot_rows(alignment, states, dtype)
    total = weights.sum()
    # Coordinates of about equal curvature (u, v): J acts on x minus its mean f, and every entry is
    # scaled by its diagonal of the Hessian. The loss stays as it is; L-BFGS needs half the steps.
    f = weights @ x / total
    spread = total * f * (1 - f)
    u_scale = (spread + 2 * field_l2).rsqrt()
    v_scale = (torch.outer(f, spread) + 2 * coupling_l2).rsqrt()
    _own_blocks(v_scale, states).zero_()  # no column is regressed on itself
    u = torch.log(f + 1 / total)
    u = (u - u.view(-1, states).mean(1).repeat_interleave(states)) / u_scale
    v = torch.zeros_like(v_scale)
    best = {}
    evaluations = 0

    def closure() -> Tensor:
        nonlocal evaluations
        evaluations += 1
        with torch.no_grad():
            J = v * v_scale
            h = u * u_scale - f @ J
            loss, to_h, to_J = pseudo_likelihood_loss(
                h, J, x, weights=weights, states=states, field_l2=field_l2, coupling_l2=coupling_l2
            )
            residual = (torch.maximum(to_h.abs().max(), to_J.abs().max()) / total).item()
            if not best or residual < best["residual"]:
                best.update(residual=residual, h=h, J=J)
            if residual <= tolerance:
                raise _Converged
            u.grad = to_h * u_scale
            v.grad = to_J.addr_(f, to_h, alpha=-1).mul_(v_scale)
        return loss

    optimiser = torch.optim.LBFGS(
        [u.requires_grad_(), v.requires_grad_()],
        max_iter=max_evaluations,
        max_eval=max_evaluations,
        tolerance_grad=0,
        tolerance_change=0,
        history_size=MEMORY,
        line_search_fn="strong_wolfe",
    )
    try:
        optimiser.step(closure)
    except _Converged:
        pass
    else:
        raise RuntimeError(
            f"wanted a gradient of at most {tolerance:g} of the weights' sum, reached "
            f"{best['residual']:.2g} in {evaluations} evaluations"
        )
    couplings = rearrange(best["J"], "(j b) (i a) -> i j a b", a=states, b=states)
    return PseudoLikelihoodFit(
        fields=best["h"].view(-1, states),
        couplings=(couplings + rearrange(couplings, "i j a b -> j i b a")) / 2,
        residual=best["residual"],
        evaluations=evaluations,
    )


class _Converged(Exception):
    """Leaves torch's L-BFGS, which cannot be asked to stop, at the point it has just tried."""


def _own_blocks(J: Tensor, states: int) -> Tensor:
    """A view of the blocks of a column with itself, (states, states, columns)."""
    columns = len(J) // states
    return J.view(columns, states, columns, states).diagonal(dim1=0, dim2=2)
