"""BigBird's pattern: which blocks are drawn, how many pairs there are, what a shorter input keeps.

The pattern itself, pair by pair, is in test_attention.py.
"""

import pytest
import torch
from drawing import gap, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_attention import bigbird, qkv, reads, slow

from archbook.attention import BigBirdAttention


def pairs_read(layer: BigBirdAttention, seq: int) -> int:
    """How many keys all queries together read, counted by what their values move."""
    q, k, _ = qkv(1, 1, seq, seq)
    return int((layer(q, k, torch.eye(seq).double()[None, None]) > 0).sum())


@pytest.mark.parametrize(
    ("window", "wide", "drawn"), [(3, 1, 1), (3, 2, 0), (5, 2, 2), (1, 0, 3), (3, 3, 2)]
)
def test_the_number_of_pairs_is_its_formula(window, wide, drawn):
    """g n blocks for the global rows, w + g + r for every other, less what falls together.

    Where the window leaves the sequence, or meets a global block, h = (w - 1) / 2 blocks, then
    h - 1, .. are lost: h (h + 1) / 2 at the end, and as many at the start.
    """
    blocks, block, half = 12, 2, window // 2
    layer = bigbird(blocks * block, block, window=window, global_blocks=wide, random_blocks=drawn)
    wanted = wide * blocks + (blocks - wide) * (window + wide + drawn) - half * (half + 1)
    assert pairs_read(layer, blocks * block) == wanted * block**2


@settings(max_examples=40)
@given(
    seq=st.integers(1, 14),
    more=st.integers(0, 5),
    block=st.integers(1, 5),
    window=st.sampled_from([1, 3, 5]),
    wide=st.integers(0, 3),
    drawn=st.integers(0, 3),
    group=st.sampled_from([None, 1, 2]),
)
@pytest.mark.shapes
def test_the_pattern_is_that_of_the_double_loop_at_any_size(
    seq, more, block, window, wide, drawn, group
):
    seq *= group or 1
    layer = bigbird(
        seq + more, block, window=window, global_blocks=wide, random_blocks=drawn
    ).double()
    q, k, _ = qkv(1, 1, seq, seq)
    found = layer(q, k, torch.eye(seq).double()[None, None], group=group)[0, 0] > 0
    wanted = [
        [
            reads(layer, t, j, seq, group is not None)
            and (group is None or j // group <= t // group)
            for j in range(seq)
        ]
        for t in range(seq)
    ]
    assert torch.equal(found, torch.tensor(wanted))


def test_random_blocks_differ_and_lie_outside_of_window_and_global_blocks():
    layer = bigbird(40, 2, window=3, global_blocks=2, random_blocks=4)
    assert layer.random.shape == (20, 4)
    for row, drawn in enumerate(layer.random.tolist()):
        assert len(set(drawn)) == 4
        assert all(2 <= column < 20 and abs(column - row) > 1 for column in drawn)


def test_every_other_block_is_drawn_as_often():
    drawn = torch.stack(
        [BigBirdAttention(8, 1, 1, generator=seeded(s)).random[4, 0] for s in range(2000)]
    )
    counts = torch.bincount(drawn, minlength=8)
    assert counts[0] == counts[4] == 0
    others = counts[[1, 2, 3, 5, 6, 7]]
    assert (others - 2000 / 6).abs().max() < 5 * (2000 / 6) ** 0.5


def test_a_generator_fixes_the_blocks_and_none_takes_the_global_one():
    first, again = (BigBirdAttention(40, 2, generator=seeded(1)).random for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, BigBirdAttention(40, 2, generator=seeded(2)).random)
    torch.manual_seed(1)
    assert torch.equal(first, BigBirdAttention(40, 2).random)


@pytest.mark.parametrize("block", [3, 5, 7, 50])
def test_a_length_that_blocks_do_not_divide_is_padded(block):
    layer, case = bigbird(13, block), qkv(1, 2, 13)
    found = layer(*case)
    assert gap(found, slow(layer, *case)) < 1e-12
    assert found.shape == case[0].shape
