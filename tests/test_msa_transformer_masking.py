"""What is hidden from the model in training, and which rows it is shown."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_msa_transformer import FIRST_LETTER, GAP, PADDING, START, slow_subsample
from torch import Tensor

from archbook.data import alphabet
from archbook.msa_transformer import Masked, diversity_subsample, mask_tokens, masking

MASK, RESIDUES = 32, range(4, 24)
ROWS, COLUMNS = 300, 200


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def letters(*shape: int, seed: int = 0) -> Tensor:
    """Residues and gaps, without start tokens."""
    tokens = torch.randint(FIRST_LETTER, 25, shape, generator=seeded(seed))
    return torch.where(tokens == 24, GAP, tokens)


def share_error(hits: Tensor, share: float) -> float:
    """How many standard deviations a share is from the wanted one."""
    n = hits.numel()
    return abs(float(hits.double().mean()) - share) / math.sqrt(share * (1 - share) / n)


TOKENS = letters(ROWS, COLUMNS)


# ---- masking ----


@pytest.mark.shapes
def test_fifteen_in_a_hundred_are_chosen():
    result = mask_tokens(TOKENS, seeded())
    assert isinstance(result, Masked)
    assert share_error(result.chosen, 0.15) < 4


@pytest.mark.parametrize("rate", [0.01, 0.5])
def test_as_many_are_chosen_as_asked_for(rate):
    assert share_error(mask_tokens(TOKENS, seeded(), rate).chosen, rate) < 4


def test_a_rate_of_one_chooses_all():
    assert mask_tokens(TOKENS, seeded(), 1.0).chosen.all()


def test_places_are_chosen_one_by_one_over_rows_and_columns():
    """The number in a row and in a column spreads as coins do, so neither is chosen as a whole."""
    chosen = mask_tokens(TOKENS, seeded()).chosen.double()
    for axis, n in ((0, ROWS), (1, COLUMNS)):
        variance = chosen.sum(axis).var() / (n * 0.15 * 0.85)
        assert abs(float(variance) - 1) < 0.4


@pytest.mark.shapes
def test_of_the_chosen_eight_tenths_are_masked_one_swapped_one_left():
    tokens, chosen = mask_tokens(TOKENS, seeded(), rate=1.0)
    assert share_error(tokens[chosen] == MASK, 0.8) < 4
    # a swapped letter is by chance the one that stood there: of 20, among 21 that are alike likely
    kept = (tokens == TOKENS)[chosen]
    assert share_error(kept, 0.1 + 0.1 / 21) < 4


def test_swapped_letters_are_all_residues_alike():
    tokens, _ = mask_tokens(TOKENS, seeded(), rate=1.0, masked=0.0, swapped=1.0)
    counts = torch.bincount(tokens.flatten(), minlength=33)
    assert set(counts.nonzero().flatten().tolist()) == set(RESIDUES)
    assert all(share_error(tokens == letter, 1 / 20) < 4 for letter in RESIDUES)


def test_letters_of_another_alphabet_can_be_asked_for():
    tokens, _ = mask_tokens(TOKENS, seeded(), 1.0, 0.0, 1.0, letters=(4, 6))
    assert set(tokens.unique().tolist()) == {4, 5}


def test_masked_and_swapped_shares_can_be_asked_for():
    tokens, chosen = mask_tokens(TOKENS, seeded(), masked=1.0, swapped=0.0)
    assert (tokens[chosen] == MASK).all()
    tokens, chosen = mask_tokens(TOKENS, seeded(), masked=0.0, swapped=0.0)
    assert chosen.any()
    assert torch.equal(tokens, TOKENS)


def test_what_is_not_chosen_stays():
    tokens, chosen = mask_tokens(TOKENS, seeded())
    assert torch.equal(tokens[~chosen], TOKENS[~chosen])
    assert not torch.equal(tokens[chosen], TOKENS[chosen])


def test_start_and_padding_are_never_chosen():
    tokens = letters(4, 50, 20)
    tokens[..., 0] = START
    tokens[1:, 30:] = PADDING
    tokens[2:, :, 15:] = PADDING
    changed, chosen = mask_tokens(tokens, seeded(), rate=1.0)
    special = (tokens == START) | (tokens == PADDING)
    assert torch.equal(chosen, ~special)
    assert torch.equal(changed[special], tokens[special])


def test_gaps_are_chosen_and_never_swapped_in():
    gaps = torch.full((ROWS, COLUMNS), GAP)
    tokens, chosen = mask_tokens(gaps, seeded())
    assert share_error(chosen, 0.15) < 4
    assert share_error(tokens[chosen] == MASK, 0.8) < 4
    assert share_error(tokens[chosen] == GAP, 0.1) < 4


def test_a_generator_decides_everything():
    one, again = mask_tokens(TOKENS, seeded(1)), mask_tokens(TOKENS, seeded(1))
    other = mask_tokens(TOKENS, seeded(2))
    assert torch.equal(one.tokens, again.tokens)
    assert torch.equal(one.chosen, again.chosen)
    assert not torch.equal(one.chosen, other.chosen)


def test_without_a_generator_the_global_seed_decides():
    torch.manual_seed(5)
    one, other = mask_tokens(TOKENS), mask_tokens(TOKENS)
    torch.manual_seed(5)
    assert torch.equal(mask_tokens(TOKENS).tokens, one.tokens)
    assert not torch.equal(other.chosen, one.chosen)


def test_the_input_stays_and_any_shape_will_do():
    for shape in [(7,), (2, 3, 5, 4)]:
        tokens = letters(*shape)
        before = tokens.clone()
        changed, chosen = mask_tokens(tokens, seeded(), rate=1.0)
        assert torch.equal(tokens, before)
        assert changed.shape == chosen.shape == torch.Size(shape)
        assert changed.dtype == torch.int64


# ---- rows ----


@pytest.mark.shapes
@settings(deadline=None, max_examples=80, derandomize=True)
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
    wanted = msa[slow_subsample(msa, rows, farthest)]
    assert torch.equal(diversity_subsample(msa, rows, farthest), wanted)


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


def test_the_alignment_is_not_modified():
    before = NUMBERED.clone()
    diversity_subsample(NUMBERED, 5)
    assert torch.equal(NUMBERED, before)


def test_the_model_and_the_alphabet_agree_on_the_tokens():
    assert (masking.START, masking.PADDING, masking.MASK) == (
        alphabet.START,
        alphabet.PADDING,
        alphabet.MASK,
    )
    first, end = masking.RESIDUES
    assert (first, end - first) == (alphabet.FIRST_LETTER, alphabet.RESIDUES)
