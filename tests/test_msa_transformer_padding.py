"""Alignments of several sizes become one batch. What a padded one is given: the network's tests."""

import pytest
import torch
from plain_msa_transformer import PADDING, alignment

from archbook.msa_transformer import pad_alignments

EXAMPLES = [alignment(1, r, c, seed=r)[0] for r, c in [(2, 5), (4, 3), (1, 1)]]


@pytest.mark.shapes
@pytest.mark.parametrize(
    ("least", "size"), [((), (4, 5)), ((3, 4), (4, 5)), ((6,), (6, 5)), ((0, 8), (4, 8))]
)
def test_each_alignment_comes_first_and_padding_after_it(least, size):
    batch = pad_alignments(EXAMPLES, *least)
    assert batch.shape == (3, *size)
    assert batch.dtype == torch.int64
    for b, example in enumerate(EXAMPLES):
        rows, columns = example.shape
        assert torch.equal(batch[b, :rows, :columns], example)
        batch[b, :rows, :columns] = PADDING
    assert (batch == PADDING).all()


def test_of_one_size_they_are_stacked():
    both = [EXAMPLES[0], EXAMPLES[0] + 1]
    assert torch.equal(pad_alignments(both), torch.stack(both))
