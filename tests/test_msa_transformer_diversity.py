"""Which rows the model is shown."""

import pytest
import torch
from drawing import seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_msa_transformer import letters, slow_subsample

from archbook.data.alignments import Alignment
from archbook.msa_transformer import diverse_rows, diversity_subsample


@pytest.mark.shapes
@settings(max_examples=80)
@given(
    depth=st.integers(1, 9),
    columns=st.integers(1, 6),
    letters=st.integers(1, 4),
    rows=st.integers(1, 10),
    seed=st.integers(0, 10**6),
    farthest=...,
)
def test_the_rows_are_those_of_the_brute_force(depth, columns, letters, rows, seed, farthest: bool):
    """Few letters and columns, so that ties are many: they go to the earlier row."""
    msa = torch.randint(letters, (depth, columns), generator=seeded(seed))
    wanted = slow_subsample(msa, rows, farthest)
    assert diverse_rows(msa, rows, farthest) == wanted
    assert torch.equal(diversity_subsample(msa, rows, farthest), msa[wanted])


NUMBERED = torch.cat([torch.arange(40)[:, None], letters(40, 12)], 1)  # no two rows are alike


@pytest.mark.parametrize("farthest", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 17, 39])
def test_the_query_comes_first_and_the_order_stays(rows, farthest):
    found = diversity_subsample(NUMBERED, rows, farthest)[:, 0].tolist()
    assert len(found) == rows
    assert found[0] == 0
    assert found == sorted(set(found))


def test_an_alignment_that_is_small_enough_comes_back_whole():
    for rows in (40, 41, 1000):
        assert torch.equal(diversity_subsample(NUMBERED, rows), NUMBERED)


def test_the_farthest_rows_lie_far_apart_and_the_nearest_close():
    """Two clans of twenty: the farthest come from both, the nearest from the query's own."""
    clan = (torch.arange(40) >= 20).long()[:, None].expand(-1, 30) * 5
    noise = torch.rand(40, 30, generator=seeded(3)) < 0.05
    msa = torch.where(noise, 9, clan)
    far, near = (diversity_subsample(msa, 10, farthest) for farthest in (True, False))
    assert (far == 5).any(1).sum() == 5
    assert not (near == 5).any()


def test_the_nearest_are_the_farthest_of_the_mirror():
    """With two letters and one other row chosen, what is near in one is far in its complement."""
    msa = torch.randint(2, (9, 8), generator=seeded(4))
    mirrored = torch.cat([msa[:1], 1 - msa[1:]])
    near = diversity_subsample(msa, 2, farthest=False)[1]
    far = diversity_subsample(mirrored, 2)[1]
    assert torch.equal(near, 1 - far)


@pytest.mark.parametrize("columns", [255, 256, 600])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_distances_beyond_what_a_byte_holds_are_counted(dtype, columns):
    msa = torch.randint(4, (12, columns), generator=seeded(5)).to(dtype)
    msa[7] = 9  # unlike the others in every column
    assert diverse_rows(msa, 5) == slow_subsample(msa, 5)


@pytest.mark.parametrize("shift", [-3, 254, 10**6])
def test_integers_that_fit_in_no_byte_are_told_apart(shift):
    """Cut down to bytes, 256 would be 0."""
    msa = torch.randint(4, (12, 9), generator=seeded(6)) + shift
    msa[:, :4] += 256 * torch.randint(2, (12, 4), generator=seeded(7))
    assert diverse_rows(msa, 5) == slow_subsample(msa, 5)


def test_of_an_alignment_the_names_stay_with_their_rows():
    """J, * and ?, which have no token, are letters like others."""
    rows = ("ACDE", "ACDE", "ACJE", "A*DE", "WWJ?", "-CDE")
    whole = Alignment(tuple("qabcde"), rows, {"SS_cons": "<..>"})
    found = diversity_subsample(whole, 3)
    numbers = torch.tensor([[*row.encode()] for row in rows])
    assert diverse_rows(whole, 3) == slow_subsample(numbers, 3) == [0, 3, 4]
    assert found == Alignment(("q", "c", "d"), (rows[0], rows[3], rows[4]), {"SS_cons": "<..>"})
    assert diversity_subsample(whole, 6) is whole


def test_the_alignment_is_not_modified():
    before = NUMBERED.clone()
    diversity_subsample(NUMBERED, 5)
    assert torch.equal(NUMBERED, before)
