"""Direct coupling analysis: against loops, systems solved by hand, and known contacts."""

import itertools
import math
from functools import cache

import pytest
import torch
from drawing import seeded
from torch import Tensor

from archbook import dca
from archbook.data.potts import PottsDesign, PottsFamilies, potts_families, shuffle_within_columns
from archbook.dca import (
    apc,
    contact_scores,
    fit_pseudo_likelihood,
    frequencies,
    mean_field,
    mean_field_couplings,
    mutual_information,
    precision_at,
    precision_ceiling,
    pseudo_likelihood,
    pseudo_likelihood_loss,
    sequence_weights,
    statistics,
    top_pairs,
    zero_sum_gauge,
)

NAN = float("nan")
METHODS = pytest.mark.parametrize("method", [mean_field, pseudo_likelihood, mutual_information])


@cache
def known_families() -> PottsFamilies:
    return potts_families(40, PottsDesign(), rows=48)


def draw(rows: int = 12, columns: int = 4, states: int = 3, seed: int = 0) -> Tensor:
    generator = seeded(seed)
    return torch.randint(states, (rows, columns), generator=generator)


def repeat_rows(counts: dict[tuple[int, ...], int]) -> Tensor:
    """An alignment that holds each row so many times."""
    return torch.tensor([row for row, times in counts.items() for _ in range(times)])


def one_hot(alignment: Tensor, states: int) -> Tensor:
    return torch.nn.functional.one_hot(alignment, states).flatten(1).double()


def mean_precision(method, rows: int, families: PottsFamilies, count: int = 40) -> float:
    """Precision at K of the first rows of each of these families, on average."""
    found = [
        precision_at(method(s[:rows], 6), c, k=18, min_separation=3)
        for s, c in zip(families.sequences[:count], families.contacts[:count], strict=True)
    ]
    return torch.stack(found).mean().item()


# ---- weights and frequencies ----


@pytest.mark.shapes
@pytest.mark.parametrize("identity", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("chunk", [5, 1000])
def test_weights_equal_a_slow_loop(identity, chunk, monkeypatch):
    monkeypatch.setattr(statistics, "CHUNK", chunk)
    alignment = torch.cat([draw(12, 10, 2), draw(3, 10, 2), draw(1, 10, 2)])  # some rows twice
    wanted = []
    for row in alignment.tolist():
        near = 0
        for other in alignment.tolist():
            same = sum(a == b for a, b in zip(row, other, strict=True))
            near += same / len(row) > identity
        wanted.append(1 / near)
    weights = sequence_weights(alignment, 2, identity)
    assert weights.dtype == torch.float64
    assert weights.tolist() == pytest.approx(wanted)
    assert 0 < min(wanted) < max(wanted)


@pytest.mark.parametrize("columns", [5, 10, 15, 35, 45, 95])
def test_rows_as_alike_as_the_threshold_are_not_near(columns):
    alignment = torch.zeros(2, columns, dtype=torch.long)
    alignment[1, : columns // 5] = 1  # four of five columns agree
    assert sequence_weights(alignment, 2, 0.8).tolist() == [1, 1]
    alignment[1, 0] = 0
    assert sequence_weights(alignment, 2, 0.8).tolist() == [0.5, 0.5]


@pytest.mark.shapes
@pytest.mark.parametrize("pseudocount", [0.0, 0.5])
def test_frequencies_equal_a_slow_loop(pseudocount):
    alignment, weights = draw(), torch.rand(12).double()
    single, pair = frequencies(alignment, 3, weights, pseudocount=pseudocount)
    total, kept = weights.sum().item(), 1 - pseudocount
    for i, j in itertools.product(range(4), repeat=2):
        for a, b in itertools.product(range(3), repeat=2):
            f_i = f_ij = 0.0
            for row, w in zip(alignment.tolist(), weights.tolist(), strict=True):
                f_i += w * (row[i] == a) / total
                f_ij += w * (row[i] == a and row[j] == b) / total
            f_i = kept * f_i + pseudocount / 3
            f_ij = kept * f_ij + pseudocount / 9 if i != j else f_i * (a == b)
            assert single[i, a].item() == pytest.approx(f_i)
            assert pair[i, j, a, b].item() == pytest.approx(f_ij)


@METHODS
def test_rows_of_weight_one_half_count_like_one_row(method):
    alignment = draw(30, 6, 4)
    doubled = torch.cat([alignment, alignment])
    torch.testing.assert_close(method(doubled, 4), method(alignment, 4), atol=1e-4, rtol=1e-3)


# ---- mean field and mutual information ----


@pytest.mark.parametrize("pseudocount", [0.1, 0.5])
def test_mean_field_of_two_columns_is_the_formula(pseudocount):
    counts = {(0, 0): 40, (0, 1): 10, (1, 0): 20, (1, 1): 30}
    found = mean_field_couplings(repeat_rows(counts), 2, pseudocount, identity=None)
    s = pseudocount
    p, r, both = (1 - s) * 0.5 + s / 2, (1 - s) * 0.6 + s / 2, (1 - s) * 0.4 + s / 4
    c = both - p * r
    J = c / (p * (1 - p) * r * (1 - r) - c**2)  # minus the inverse of [[p(1-p), c], [c, r(1-r)]]
    gauged = zero_sum_gauge(found)[0, 1]
    wanted = J / 4 * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double()
    torch.testing.assert_close(gauged, wanted)


def test_the_state_left_out_does_not_matter():
    alignment = draw(40, 6, 4)
    renamed = (alignment + 1) % 4  # another state comes last
    torch.testing.assert_close(mean_field(renamed, 4), mean_field(alignment, 4))
    torch.testing.assert_close(mean_field(renamed, 4, gap=0), mean_field(alignment, 4, gap=3))


def test_mutual_information_of_two_columns_is_the_sum():
    counts = {(0, 0): 40, (0, 1): 10, (1, 0): 20, (1, 1): 30}
    found = mutual_information(repeat_rows(counts), 2, identity=None, corrected=False)
    wanted = sum(
        f * math.log(f / (p * r))
        for f, p, r in [(0.4, 0.5, 0.6), (0.1, 0.5, 0.4), (0.2, 0.5, 0.6), (0.3, 0.5, 0.4)]
    )
    torch.testing.assert_close(found, torch.tensor([[0, wanted], [wanted, 0]]).double())


def test_columns_alike_share_all_and_independent_ones_share_no_information():
    rows = list(itertools.product(range(3), repeat=2))
    alignment = torch.tensor([(a, a, b) for a, b in rows])
    found = mutual_information(alignment, 3, identity=None, corrected=False)
    assert found[0, 1].item() == pytest.approx(math.log(3))
    assert found[0, 2].item() == pytest.approx(0, abs=1e-12)


@METHODS
def test_scores_are_symmetric_without_a_diagonal_and_corrected(method):
    scores = method(draw(40, 6, 4), 4)
    assert scores.shape == (6, 6)
    torch.testing.assert_close(scores, scores.mT)
    assert scores.diagonal().tolist() == [0] * 6
    assert scores.min() < 0  # what APC left
    assert scores.abs().max() > 1e-3


@METHODS
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_integers_of_any_kind_are_read_alike(method, dtype):
    alignment = draw(20, 5, 4)
    assert torch.equal(method(alignment.to(dtype), 4), method(alignment, 4))


@METHODS
def test_autocast_changes_no_digit(method):
    """1,000 columns counted in bfloat16 come out as another number of near rows."""
    alignment = draw(40, 5, 2).repeat(1, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = method(alignment, 2)
    assert torch.equal(found, method(alignment, 2))


def test_autocast_weighs_no_row_otherwise():
    alignment = draw(40, 1000, 2)
    with torch.autocast("cpu", torch.bfloat16):
        found = sequence_weights(alignment, 2, 0.5)
    assert torch.equal(found, sequence_weights(alignment, 2, 0.5))


@METHODS
def test_the_identity_at_which_rows_are_alike_reaches_the_scores(method):
    alignment = torch.cat([draw(12, 5, 3), draw(4, 5, 3).repeat_interleave(5, 0)])
    alike, equal = (method(alignment, 3, identity=identity) for identity in (0.5, None))
    assert (alike - equal).abs().max() > 1e-3


# ---- gauge, norms, APC ----


def symmetric_couplings(columns: int = 4, states: int = 3) -> Tensor:
    J = torch.randn(columns, columns, states, states).double()
    return J + J.permute(1, 0, 3, 2)


@pytest.mark.shapes
def test_the_zero_sum_gauge_leaves_nothing_to_the_fields():
    J = symmetric_couplings()
    gauged = zero_sum_gauge(J)
    assert gauged.sum(2).abs().max() < 1e-12
    assert gauged.sum(3).abs().max() < 1e-12
    # the same model: what a letter prefers over another differs by a number for each column only
    for one in (J, gauged):
        one -= one[:, :, :1] + one[:, :, :, :1] - one[:, :, :1, :1]
    torch.testing.assert_close(gauged, J)


@pytest.mark.parametrize("gap", [None, 0, 2])
def test_scores_equal_a_slow_loop(gap):
    J = symmetric_couplings()
    norms = torch.zeros(4, 4).double()
    for i, j in itertools.permutations(range(4), 2):
        square = 0.0
        for a, b in itertools.product(range(3), repeat=2):
            if gap not in (a, b):
                block = J[i, j]
                square += (block[a, b] - block[a].mean() - block[:, b].mean() + block.mean()) ** 2
        norms[i, j] = square**0.5
    found = contact_scores(J, gap)
    torch.testing.assert_close(found, slow_apc(norms, diagonal=False))


def slow_apc(s: Tensor, diagonal: bool) -> Tensor:
    """Dunn's product of means over the mean, one pair at a time."""
    n = len(s)
    out = torch.zeros_like(s)
    for i, j in itertools.product(range(n), repeat=2):
        if i != j or diagonal:
            row = [s[i, k] for k in range(n) if k != i or diagonal]
            column = [s[k, j] for k in range(n) if k != j or diagonal]
            every = [s[k, m] for k in range(n) for m in range(n) if k != m or diagonal]
            mean_i, mean_j, mean = (sum(part) / len(part) for part in (row, column, every))
            out[i, j] = s[i, j] - mean_i * mean_j / mean
    return out


@pytest.mark.shapes
@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("shape", [(5, 5), (3, 5, 5), (2, 3, 5, 5)])
def test_apc_equals_a_slow_loop(diagonal, shape):
    scores = torch.rand(shape).double()  # neither symmetric nor of one total
    found = apc(scores, diagonal)
    assert found.shape == shape
    for one, s in zip(found.view(-1, 5, 5), scores.view(-1, 5, 5), strict=True):
        torch.testing.assert_close(one, slow_apc(s, diagonal))


def test_apc_of_a_map_of_rank_one_is_zero():
    u, v = torch.rand(6).double(), torch.rand(6).double()
    assert apc(torch.outer(u, v)).abs().max() < 1e-14
    assert apc(torch.outer(u, v), diagonal=False).abs().max() > 1e-3


def test_rows_and_columns_of_a_corrected_map_sum_to_zero():
    corrected = apc(torch.rand(2, 6, 6).double())
    assert corrected.sum(-1).abs().max() < 1e-14
    assert corrected.sum(-2).abs().max() < 1e-14
    assert corrected.abs().max() > 0.1


def test_apc_without_the_diagonal_is_zero_where_all_pairs_score_alike():
    same = torch.full((6, 6), 0.3).double().fill_diagonal_(7.0)
    assert apc(same, diagonal=False).abs().max() < 1e-14


@pytest.mark.parametrize("diagonal", [True, False])
def test_a_map_of_zeros_stays(diagonal):
    assert torch.equal(apc(torch.zeros(2, 4, 4), diagonal), torch.zeros(2, 4, 4))


# ---- pseudo-likelihood ----


def slow_loss(h: Tensor, J: Tensor, alignment: Tensor, weights: Tensor, l2: tuple) -> Tensor:
    """h: (columns, states). J[j, b, i, a] acts on letter a of column i. One letter at a time."""
    columns, states = h.shape
    loss = l2[0] * h.square().sum()
    for i in range(columns):
        for j in range(columns):
            if j != i:
                loss = loss + l2[1] * J[j, :, i].square().sum()
        for row, w in zip(alignment.tolist(), weights, strict=True):
            logits = []
            for a in range(states):
                others = [J[j, row[j], i, a] for j in range(columns) if j != i]
                logits.append(h[i, a] + sum(others))
            loss = loss - w * torch.stack(logits).log_softmax(0)[row[i]]
    return loss


@pytest.fixture
def point():
    """An alignment of 4 columns and 3 states, and parameters to try on it."""
    h, J = torch.randn(4, 3).double(), torch.randn(4, 3, 4, 3).double()
    J.diagonal(dim1=0, dim2=2).zero_()
    return draw(), torch.rand(12).double(), h, J


def evaluate(point, l2: tuple):
    alignment, weights, h, J = point
    x = one_hot(alignment, 3)
    return pseudo_likelihood_loss(
        h.flatten(),
        J.reshape(12, 12),
        x,
        weights=weights,
        states=3,
        field_l2=l2[0],
        coupling_l2=l2[1],
    )


@pytest.mark.shapes
@pytest.mark.parametrize("l2", [(0.0, 0.0), (0.3, 0.0), (0.0, 0.7), (0.3, 0.7)])
def test_the_loss_equals_a_slow_loop(point, l2):
    alignment, weights, h, J = point
    loss, _, _ = evaluate(point, l2)
    torch.testing.assert_close(loss, slow_loss(h, J, alignment, weights, l2))


@pytest.mark.parametrize("l2", [(0.0, 0.0), (0.3, 0.7)])
def test_the_gradients_are_those_of_autograd(point, l2):
    alignment, weights, h, J = point
    h.requires_grad_()
    J.requires_grad_()
    slow_loss(h, J, alignment, weights, l2).backward()
    with torch.no_grad():
        _, to_h, to_J = evaluate(point, l2)
    torch.testing.assert_close(to_h, h.grad.flatten())
    torch.testing.assert_close(to_J, J.grad.reshape(12, 12))
    assert J.grad.diagonal(dim1=0, dim2=2).abs().max() == 0


def test_two_columns_are_fitted_exactly():
    """Without a penalty J is log p(a, b) in the zero-sum gauge."""
    table = torch.tensor([[40, 5, 10], [20, 30, 15], [8, 9, 63]])
    counts = {(a, b): int(table[a, b]) for a in range(3) for b in range(3)}
    fit = fit_pseudo_likelihood(
        repeat_rows(counts),
        3,
        field_l2=1e-9,
        coupling_l2=1e-9,
        identity=None,
        tolerance=1e-7,
        dtype=torch.float64,
    )
    log_p = table.double().log()
    wanted = log_p - log_p.mean(0) - log_p.mean(1, keepdim=True) + log_p.mean()
    found = zero_sum_gauge(fit.couplings)
    torch.testing.assert_close(found[0, 1], wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1, 0], wanted.mT, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_the_fit_is_the_minimum_that_a_plain_optimiser_finds():
    alignment = draw(25, 3, 3)
    weights = sequence_weights(alignment, 3)
    h = torch.zeros(3, 3).double().requires_grad_()
    J = torch.zeros(3, 3, 3, 3).double().requires_grad_()
    optimiser = torch.optim.LBFGS([h, J], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = slow_loss(h, J, alignment, weights, (0.01, 0.02))
        loss.backward()
        return loss

    optimiser.step(closure)
    fit = fit_pseudo_likelihood(alignment, 3, coupling_l2=0.02, tolerance=1e-7, dtype=torch.float64)
    wanted = J.detach().permute(0, 2, 1, 3)  # (j, i, b, a)
    wanted = (wanted + wanted.permute(1, 0, 3, 2)) / 2
    torch.testing.assert_close(fit.fields, h.detach(), atol=2e-3, rtol=0)
    torch.testing.assert_close(fit.couplings, wanted, atol=2e-3, rtol=0)
    assert wanted.abs().max() > 0.1


@pytest.mark.shapes
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_the_fit_says_how_close_it_came(tolerance):
    fit = fit_pseudo_likelihood(known_families().sequences[0], 6, tolerance=tolerance)
    assert 0 < fit.residual <= tolerance
    assert fit.fields.shape == (24, 6)
    assert fit.couplings.shape == (24, 24, 6, 6)
    assert fit.couplings.diagonal().abs().max() == 0
    assert torch.equal(fit.couplings, fit.couplings.permute(1, 0, 3, 2))


def test_a_closer_fit_takes_more_work_and_hardly_changes_the_scores():
    close, rough = (
        fit_pseudo_likelihood(known_families().sequences[0], 6, tolerance=t) for t in (1e-4, 3e-3)
    )
    assert close.evaluations > rough.evaluations
    one, two = contact_scores(close.couplings), contact_scores(rough.couplings)
    assert torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1] > 0.98


def test_without_a_penalty_for_couplings_it_is_the_published_one():
    alignment = known_families().sequences[0]
    default, told = (
        fit_pseudo_likelihood(alignment, 6, coupling_l2=l2).couplings
        for l2 in (None, 0.01 * (24 - 1) * (6 - 1) / 2)
    )
    assert torch.equal(default, told)


def test_a_stronger_penalty_gives_smaller_couplings():
    sizes = [
        fit_pseudo_likelihood(known_families().sequences[0], 6, coupling_l2=l2).couplings.norm()
        for l2 in (0.1, 1.0, 10.0)
    ]
    assert sizes[0] > 1.5 * sizes[1] > 1.5**2 * sizes[2]


def test_a_fit_that_runs_out_of_steps_says_so():
    with pytest.raises(RuntimeError, match="wanted a gradient of at most 1e-09 .* reached"):
        fit_pseudo_likelihood(known_families().sequences[0], 6, tolerance=1e-9, max_evaluations=5)


# ---- rankings ----

SCORES = torch.tensor(
    [
        [9.0, 0.9, 0.5, 0.1],
        [0.9, 9.0, 0.8, 0.5],
        [0.5, 0.8, 9.0, 0.7],
        [0.1, 0.5, 0.7, 9.0],
    ]
)
CONTACTS = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0]]).bool()
VALID = torch.tensor([[1, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]).bool()


@pytest.mark.shapes
@pytest.mark.parametrize(
    ("k", "separation", "valid", "wanted"),
    [
        (2, 1, None, [[0, 1], [1, 2]]),
        (5, 1, None, [[0, 1], [1, 2], [2, 3], [0, 2], [1, 3]]),  # of equals the first in order
        (2, 2, None, [[0, 2], [1, 3]]),
        (9, 2, None, [[0, 2], [1, 3], [0, 3]]),  # no more than there are
        (9, 3, None, [[0, 3]]),
        (2, 1, VALID, [[1, 2], [2, 3]]),
        (9, 1, VALID, [[1, 2], [2, 3], [0, 2], [1, 3], [0, 3]]),
    ],
)
def test_pairs_are_ranked_by_score(k, separation, valid, wanted):
    assert top_pairs(SCORES, k, separation, valid=valid).tolist() == wanted


@pytest.mark.parametrize(
    ("k", "separation", "valid", "wanted"),
    [
        (1, 1, None, 1.0),
        (2, 1, None, 1 / 2),
        (4, 1, None, 3 / 4),
        (2, 2, None, 1 / 2),
        (9, 2, None, 1 / 9),  # three pairs; six missing ones are wrong
        (1, 3, None, 0.0),
        (2, 1, VALID, 1 / 2),
        (6, 1, VALID, 2 / 6),  # the third contact is not valid
    ],
)
def test_precision_is_the_share_of_contacts_among_the_first(k, separation, valid, wanted):
    found = precision_at(SCORES, CONTACTS, k, min_separation=separation, valid=valid)
    assert found.item() == pytest.approx(wanted)


def test_both_triangles_of_the_scores_count():
    scores = torch.zeros(4, 4)
    scores[0, 1], scores[3, 0] = 1.0, 1.5
    assert top_pairs(scores, 2).tolist() == [[0, 3], [0, 1]]


@pytest.mark.parametrize(("k", "wanted"), [(2, 1.0), (3, 1.0), (6, 0.5), (9, 1 / 3)])
def test_the_ceiling_is_what_the_contacts_allow(k, wanted):
    assert precision_ceiling(CONTACTS, k).item() == pytest.approx(wanted)
    assert precision_ceiling(CONTACTS, 2, min_separation=2).item() == 0.5
    assert precision_ceiling(CONTACTS, 3, valid=VALID).item() == pytest.approx(2 / 3)


@pytest.mark.shapes
def test_maps_are_judged_together_as_one_by_one():
    scores = torch.rand(5, 2, 8, 8)
    contacts = torch.rand(5, 1, 8, 8) < 0.3
    contacts = contacts | contacts.mT
    valid = torch.rand(5, 1, 8, 8) < 0.8
    valid = valid & valid.mT
    found = precision_at(scores, contacts, 6, min_separation=2, valid=valid)
    assert found.shape == (5, 2)
    for f, m in itertools.product(range(5), range(2)):
        one = precision_at(scores[f, m], contacts[f, 0], 6, min_separation=2, valid=valid[f, 0])
        assert found[f, m] == one
        pairs = top_pairs(scores[f, m], 6, 2, valid=valid[f, 0])
        assert one.item() == pytest.approx(contacts[f, 0][tuple(pairs.T)].sum().item() / 6)


# ---- known contacts ----


@pytest.mark.parametrize(("rows", "wanted"), [(16, 0.59), (32, 0.84), (48, 0.94)])
def test_mean_field_finds_the_contacts_of_known_families(rows, wanted):
    assert mean_precision(mean_field, rows, known_families()) == pytest.approx(wanted, abs=0.04)


@pytest.mark.parametrize(("method", "least"), [(pseudo_likelihood, 0.8), (mutual_information, 0.8)])
def test_the_other_methods_find_them_too(method, least):
    assert mean_precision(method, 32, known_families(), count=12) > least


@METHODS
def test_shuffled_columns_leave_no_contacts_to_find(method):
    shuffled = shuffle_within_columns(known_families().sequences, seeded(0))
    families = PottsFamilies(shuffled, known_families().contacts)
    chance = 18 / 231
    assert mean_precision(method, 48, families, count=20) == pytest.approx(chance, abs=0.05)


def test_dca_tells_contacts_from_chains_of_contacts():
    """Ends of a strong chain 0-1-2 share information; only neighbours are coupled."""
    rows = []
    flip = torch.rand(4000, 2, generator=seeded(0)) < 0.1
    for k, (one, two) in enumerate(flip.int().tolist()):
        start = k % 2
        rows.append((start, start ^ one, start ^ one ^ two))
    alignment = torch.tensor(rows)
    J = zero_sum_gauge(mean_field_couplings(alignment, 2, 0.01, identity=None)).norm(dim=(2, 3))
    information = mutual_information(alignment, 2, identity=None, corrected=False)
    assert information[0, 2] > 0.4 * information[0, 1]
    assert J[0, 2] < 0.15 * J[0, 1]


@pytest.mark.gpu
@METHODS
def test_scores_stay_on_the_gpu(method):
    alignment = known_families().sequences[0]
    scores = method(alignment.cuda(), 6)
    assert scores.is_cuda
    torch.testing.assert_close(scores.cpu(), method(alignment, 6), atol=1e-2, rtol=1e-2)


# ---- refusals ----

GOOD = draw()


@pytest.mark.parametrize("method", [*METHODS.args[1], fit_pseudo_likelihood, sequence_weights])
@pytest.mark.parametrize(
    ("alignment", "states", "error", "message"),
    [
        (GOOD[0], 3, ValueError, r"alignment to have shape \(rows, columns\), given \(4,\)"),
        (GOOD[:0], 3, ValueError, r"alignment to have shape .*, given \(0, 4\)"),
        (GOOD[:, :1], 3, ValueError, "wanted at least 2 states and 2 columns, given 3 and 1"),
        (GOOD, 1, ValueError, "wanted at least 2 states and 2 columns, given 1 and 4"),
        (GOOD, 2, ValueError, r"alignment to lie in \[0, 1\], given 0 to 2"),
        (GOOD - 1, 3, ValueError, r"alignment to lie in \[0, 2\], given -1 to 1"),
        (GOOD.float(), 3, TypeError, "alignment to hold integers, given torch.float32"),
        (GOOD, 3.0, TypeError, "states to be an int, given 3.0"),
    ],
)
def test_what_is_no_alignment_is_refused(method, alignment, states, error, message):
    with pytest.raises(error, match=message):
        method(alignment, states)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sequence_weights(GOOD, 3, 1.0), r"identity to lie in \[0, 1\), given 1.0"),
        (lambda: sequence_weights(GOOD, 3, -0.1), r"identity to lie in \[0, 1\), given -0.1"),
        (lambda: mean_field(GOOD, 3, pseudocount=0.0), r"to lie in \(0, 1\], given 0.0"),
        (lambda: mean_field(GOOD, 3, pseudocount=NAN), r"to lie in \(0, 1\], given nan"),
        (lambda: mean_field(GOOD, 3, gap=3), r"gap to lie in \[0, 2\], given 3"),
        (lambda: mutual_information(GOOD, 3, pseudocount=1.5), r"in \[0, 1\], given 1.5"),
        (lambda: frequencies(GOOD, 3, torch.ones(5)), r"weights to have shape \(12\)"),
        (lambda: fit_pseudo_likelihood(GOOD, 3, field_l2=0.0), "field_l2 to be positive, given 0"),
        (lambda: pseudo_likelihood(GOOD, 3, coupling_l2=-1), "coupling_l2 to be positive"),
        (lambda: pseudo_likelihood(GOOD, 3, tolerance=0.0), "tolerance to be positive, given 0"),
        (lambda: pseudo_likelihood(GOOD, 3, gap=-1), r"gap to lie in \[0, 2\], given -1"),
        (lambda: apc(torch.rand(4)), r"scores to have shape \(.., columns.*given \(4,\)"),
        (lambda: apc(torch.rand(4, 5)), r"given \(4, 5\)"),
        (lambda: apc(torch.rand(3, 1, 1)), r"at least 2 columns, given \(3, 1, 1\)"),
        (lambda: precision_at(SCORES, CONTACTS, 0), "k to be at least 1, given 0"),
        (lambda: top_pairs(SCORES, 2, 0), "min_separation to be at least 1, given 0"),
        (lambda: top_pairs(SCORES / 0, 2), "scores to be finite, given 16"),
        (lambda: precision_at(SCORES, CONTACTS[:3], 2), r"contacts to have .*\(3, 4\)"),
        (
            lambda: precision_at(SCORES, CONTACTS, 2, min_separation=1, valid=VALID[:, :3]),
            r"valid to .*\(4, 3\)",
        ),
        (lambda: top_pairs(torch.rand(4, 5), 2), r"scores to have .*\(4, 5\)"),
        (lambda: top_pairs(torch.rand(2, 4, 4), 2), r"scores to have .*\(2, 4, 4\)"),
    ],
)
def test_wrong_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_all_names_are_exported():
    assert sorted(dca.__all__) == list(dca.__all__)
    assert all(hasattr(dca, name) for name in dca.__all__)
