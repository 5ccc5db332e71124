"""What pairs of columns say about base pairs: against counting by hand."""

import math

import pytest
import torch
from drawing import seeded

from archbook.dca import (
    BASE_PAIRS,
    frequencies,
    mutual_information,
    pair_table,
    pairing_covariance,
    pairing_share,
    stem_neighbours,
    sums_along_stems,
)
from archbook.dca.base_pairs import PLAIN, RARE

ROWS = torch.randint(5, (12, 7), generator=seeded(0))
A, C, G, U, GAP = range(5)


def share(i: int, j: int, *pairs: tuple[int, int]) -> float:
    """Of the rows that hold one of these in columns i and j."""
    return sum((int(r[i]), int(r[j])) in pairs for r in ROWS) / len(ROWS)


def alone(i: int, a: int) -> float:
    return float((ROWS[:, i] == a).double().mean())


def test_the_covariance_of_pairs_is_what_columns_hold_beyond_chance():
    both_ways = [*BASE_PAIRS, *((b, a) for a, b in BASE_PAIRS)]
    wanted = share(2, 5, *both_ways) - sum(alone(2, a) * alone(5, b) for a, b in both_ways)
    found = pairing_covariance(ROWS, identity=None)
    torch.testing.assert_close(found[2, 5].item(), wanted)
    torch.testing.assert_close(found, found.T)


def test_the_share_of_pairs_is_that_of_the_rows():
    both_ways = [*BASE_PAIRS, *((b, a) for a, b in BASE_PAIRS)]
    found = pairing_share(ROWS, identity=None)
    assert found[2, 5].item() == pytest.approx(share(2, 5, *both_ways))


def test_columns_that_pair_in_every_row_in_different_ways_score_highest():
    left = torch.randint(4, (30,), generator=seeded(1))
    partner = torch.tensor([U, G, C, A])[left]
    rows = torch.cat([torch.randint(4, (30, 5), generator=seeded(2)), left[:, None]], 1)
    rows = torch.cat([rows, partner[:, None]], 1)
    found = pairing_covariance(rows).fill_diagonal_(0)
    assert found.argmax() in (5 * 7 + 6, 6 * 7 + 5)


def test_a_shuffled_column_loses_its_covariance():
    left = torch.tensor([A, C, G, U] * 25)
    rows = torch.stack([left, torch.tensor([U, G, C, A] * 25)], 1)
    apart = torch.stack([left, rows[torch.randperm(100, generator=seeded(0)), 1]], 1)
    true, none = (pairing_covariance(x, identity=None)[0, 1].item() for x in (rows, apart))
    assert true == pytest.approx(1 - 6 / 16)
    assert abs(none) < 0.15


def test_the_table_has_shares_covariances_and_information():
    table = pair_table(ROWS, identity=None)
    assert table.shape == (7, 7, 47)
    kinds = [(a, b) for a in range(5) for b in range(a, 5)]
    n = kinds.index((A, U))
    assert table[1, 4, n].item() == pytest.approx(share(1, 4, (A, U), (U, A)))
    chance = alone(1, A) * alone(4, U) + alone(1, U) * alone(4, A)
    wanted = share(1, 4, (A, U), (U, A)) - chance
    assert table[1, 4, 15 + n].item() == pytest.approx(wanted, abs=1e-6)
    wanted = math.log(share(1, 4, (A, U), (U, A)) + RARE)
    assert table[1, 4, PLAIN + n].item() == pytest.approx(wanted)
    same = kinds.index((G, G))
    assert table[1, 4, same].item() == pytest.approx(share(1, 4, (G, G)))
    information = mutual_information(ROWS, 5, identity=None, corrected=False)
    torch.testing.assert_close(table[..., 30], information.float())


def test_the_shares_of_a_pair_sum_to_one_and_its_covariances_to_zero():
    table = pair_table(ROWS)
    torch.testing.assert_close(table[..., :15].sum(-1), torch.ones(7, 7))
    off = ~torch.eye(7, dtype=torch.bool)
    torch.testing.assert_close(table[..., 15:30].sum(-1)[off], torch.zeros(42), atol=1e-6, rtol=0)


def test_the_table_is_blind_to_the_order_of_the_two_columns_and_of_the_rows():
    table = pair_table(ROWS)
    torch.testing.assert_close(table, table.transpose(0, 1))
    torch.testing.assert_close(table, pair_table(ROWS.flip(0)))


def test_the_table_weighs_rows_as_the_other_methods_do():
    doubled = torch.cat([ROWS, ROWS[:1].expand(20, -1)])
    torch.testing.assert_close(pair_table(doubled), pair_table(ROWS))
    assert not torch.allclose(pair_table(doubled, identity=None), pair_table(ROWS))
    assert frequencies(ROWS, 5, torch.ones(12).double())[0].shape == (7, 5)


@pytest.mark.parametrize("features", [(), (2,)])
def test_the_neighbours_in_a_stem_lie_inside_and_around(features):
    scores = torch.randn(6, 6, *features, generator=seeded(3))
    inside, around = stem_neighbours(scores)
    torch.testing.assert_close(inside[1, 4], scores[2, 3])
    torch.testing.assert_close(around[1, 4], scores[0, 5])
    assert not around[0, 5].any()  # nothing lies around the whole


def test_the_neighbours_of_a_symmetric_map_are_each_others_mirror():
    scores = torch.randn(6, 6, generator=seeded(4))
    inside, around = stem_neighbours(scores + scores.T)
    torch.testing.assert_close(inside, around.T)


@pytest.mark.parametrize("pairs", [1, 3, 7])
def test_a_sum_along_a_stem_is_that_of_each_pair(pairs):
    scores = torch.randn(7, 7, 2, generator=seeded(5))
    found = sums_along_stems(scores, pairs)
    for i in range(7):
        for j in range(7):
            steps = range(-(pairs // 2), pairs // 2 + 1)
            inside = [(i + k, j - k) for k in steps if 0 <= i + k < 7 and 0 <= j - k < 7]
            torch.testing.assert_close(found[i, j], sum(scores[at] for at in inside))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (4, "wanted an odd number of pairs, given 4"),
        (0, "wanted pairs to be at least 1, given 0"),
        (1.5, "wanted pairs .*, given 1.5"),
    ],
)
def test_a_stem_of_no_middle_is_refused(pairs, message):
    with pytest.raises((ValueError, TypeError), match=message):
        sums_along_stems(torch.zeros(4, 4), pairs)
