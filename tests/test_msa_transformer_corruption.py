"""What is hidden from the model in training."""

import math

import pytest
import torch
from drawing import seeded
from plain_msa_transformer import GAP, PADDING, START, letters
from torch import Tensor

from archbook.msa_transformer import Masked, mask_tokens

MASK, RESIDUES = 32, range(4, 24)
ROWS, COLUMNS = 300, 200


def share_error(hits: Tensor, share: float) -> float:
    """How many standard deviations a share is from the wanted one."""
    n = hits.numel()
    return abs(float(hits.double().mean()) - share) / math.sqrt(share * (1 - share) / n)


TOKENS = letters(ROWS, COLUMNS)


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
    tokens, _ = mask_tokens(TOKENS, seeded(), 1.0, masked=0.0, swapped=1.0, letters=(4, 6))
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
