"""Structures of RNA in WUSS notation: their pairs, and what is left of them in some columns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import each_raises

from archbook.data.wuss import wuss_on, wuss_pairs


@pytest.mark.parametrize(
    ("structure", "pairs"),
    [
        ("<<..>>", [(0, 5), (1, 4)]),
        ("([.])", [(0, 4), (1, 3)]),
        ("<.(.>.)", [(0, 4), (2, 6)]),  # kinds of brackets do not close each other
        ("<A.>.a", [(0, 3), (1, 5)]),
        ("AB..ab", [(0, 4), (1, 5)]),
        (",:_-~.", []),
    ],
)
def test_a_structure_is_its_pairs(structure, pairs):
    assert wuss_pairs(structure) == pairs


@pytest.mark.parametrize(
    ("structure", "columns", "left"),
    [
        ("<<..>>", [0, 1, 2, 3, 4, 5], "<<..>>"),
        ("<<..>>", [0, 2, 5], "<.>"),
        ("<<..>>", [1, 2, 3], "..."),
        ("<<>>", [1, 3], ".."),  # and not <>, a pair that never was
        ("<A.>.a", [0, 3, 5], "<>."),
        (",:_-~.", [5, 0, 0], ".,,"),  # nothing is paired: any order will do
        ("HHT-EEE", [0, 3, 4], "H-E"),  # a protein's
        ("<<.>", [0, 2, 3], "<.>"),  # no WUSS
    ],
)
def test_in_some_columns_a_pair_stays_whole_or_goes(structure, columns, left):
    assert wuss_on(structure, columns) == left


@given(
    order=st.permutations(range(12)),
    count=st.integers(0, 6),
    kept=st.sets(st.integers(0, 11), min_size=1),
)
def test_the_pairs_left_are_those_of_which_both_columns_are(order, count, kept):
    """Each pair with a sign of its own, so that they may cross."""
    signs = ["."] * 12
    wanted = []
    for n in range(count):
        i, j = sorted(order[2 * n : 2 * n + 2])
        signs[i], signs[j] = "<([{AB"[n], ">)]}ab"[n]
        wanted.append((i, j))
    columns = sorted(kept)
    found = wuss_pairs(wuss_on("".join(signs), columns))
    assert [(columns[i], columns[j]) for i, j in found] == sorted(
        pair for pair in wanted if kept >= set(pair)
    )


test_what_cannot_be_told_is_refused = each_raises(
    [
        (lambda: wuss_pairs("<.>>"), ValueError, "an opening sign before '>' in column 3"),
        (lambda: wuss_pairs("<<.>"), ValueError, "every pair closed, given '<' in column 0"),
        (lambda: wuss_pairs("<.1>"), ValueError, "a sign of WUSS, given '1' in column 2"),
        (lambda: wuss_on("<<>>", [3, 0]), ValueError, r"ascending columns.* given \[3, 0\]"),
        (lambda: wuss_on("<<>>", [0, 0, 3]), ValueError, r"ascending columns.* given \[0, 0, 3\]"),
    ]
)
