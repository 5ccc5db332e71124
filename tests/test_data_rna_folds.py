"""Families that may be related, and folds that do not part them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawing import seeded

from archbook.data.rna import GAP, UNSURE, RNAFamily, rna_families
from archbook.data.rna_folds import WORD, folds, name_stem, related, rna_groups, words

NONE = torch.empty(0, 2, dtype=torch.int64)


def family(name: str, rows: torch.Tensor, clan: str = "") -> RNAFamily:
    return RNAFamily("RF", name, "Gene;", clan, False, rows.to(torch.uint8), NONE, NONE)


def random_rows(seed: int, columns: int = 60) -> torch.Tensor:
    return torch.randint(4, (2, columns), generator=seeded(seed))


ALONE = [family(name, random_rows(seed)) for seed, name in enumerate(("alpha", "beta", "gamma"))]


@pytest.mark.parametrize(
    ("name", "stem"),
    [("mir-10", "mir"), ("MIR1122", "mir"), ("SNORD113", "snord"), ("5S_rRNA", "5s_rrna")],
)
def test_the_stem_of_a_name_is_its_first_letters(name, stem):
    assert name_stem(name) == stem


def test_a_single_letter_is_no_stem():
    assert name_stem("U1") != name_stem("U2")


def test_strangers_stand_alone():
    assert related(ALONE) == [0, 1, 2]


@pytest.mark.parametrize(
    "relative",
    [
        replace(ALONE[1], name="alpha-2"),
        replace(ALONE[1], clan="CL1"),
        replace(
            ALONE[1], rows=torch.cat([ALONE[1].rows[:, :40], ALONE[0].rows[:, 7 : 7 + WORD]], 1)
        ),
    ],
    ids=["name", "clan", "word"],
)
def test_one_tie_is_enough(relative):
    first = replace(ALONE[0], clan="CL1")
    assert related([first, relative, ALONE[2]]) == [0, 0, 2]


def test_ties_lead_on():
    rows = torch.cat([ALONE[0].rows, ALONE[2].rows], 1)
    assert related([ALONE[0], ALONE[2], ALONE[1], replace(ALONE[1], name="d", rows=rows)]) == [
        0,
        0,
        2,
        0,
    ]


def test_a_word_one_base_too_short_is_no_tie():
    shared = ALONE[0].rows[:1, 7 : 7 + WORD - 1]
    other = family("delta", torch.cat([random_rows(5)[:1], shared], 1))
    assert related([ALONE[0], other]) == [0, 1]


def test_words_skip_gaps_and_stop_at_unsure_letters():
    row = random_rows(1, WORD)[:1].numpy().astype(np.uint8)
    gapped = np.insert(row, 5, GAP, 1)
    unsure = np.insert(row, 5, UNSURE, 1)
    assert words(gapped).tolist() == words(row).tolist() != []
    assert not words(unsure).size


def test_a_simple_repeat_is_no_word():
    assert not words(np.array([[0, 3] * WORD], np.uint8)).size


def test_folds_keep_groups_whole_and_test_as_many_each():
    groups = [0] * 5 + list(range(5, 60))
    tested = [True] * 50 + [False] * 10
    found = folds(groups, tested)
    assert set(found[:5]) == {found[0]}
    counts = np.bincount(np.array(found)[np.array(tested)])
    assert counts.max() - counts.min() <= 1


@pytest.mark.slow
def test_no_clan_and_no_stem_is_in_two_groups():
    kinds: dict = {}
    for one, group in zip(rna_families(), rna_groups(), strict=True):
        kinds.setdefault(("stem", name_stem(one.name)), set()).add(group)
        if one.clan:
            kinds.setdefault(("clan", one.clan), set()).add(group)
    assert [kind for kind, found in kinds.items() if len(found) > 1] == []


@pytest.mark.slow
def test_the_kept_groups_are_those_that_are_found_anew():
    """Of every tenth family; their words are in one group with all families that share them."""
    some = range(0, len(rna_families()), 10)
    chosen = [rna_families()[i] for i in some]
    kept = [rna_groups()[i] for i in some]
    found = related(chosen)
    for a in range(len(chosen)):
        assert kept[a] == kept[found[a]]
