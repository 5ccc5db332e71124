"""Which RNA families may be related, and three folds in which no related ones are parted.

Two families are put together if they share Rfam's clan, the stem of their names, or a word of WORD
bases that is no simple repeat, between any of their rows; and so are those related to either.
"""

import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from string import ascii_lowercase

import numpy as np

from archbook.data.manifest import shipped
from archbook.data.rna import BASES, RNAFamily, rna_families

WORD = 20  # bases in a row that two families share by relation rather than by chance
FEWEST_PAIRS = 10  # different neighbouring pairs of bases in a word; fewer: a simple repeat
FOLDS = 3


@cache
def rna_groups() -> tuple[int, ...]:
    """`related` of `rna_families`, as kept in a file: finding it anew takes half a minute.

    The file has the groups of more than one family.
    """
    place = {family.accession: i for i, family in enumerate(rna_families())}
    found = list(place.values())
    for group in json.loads(shipped("rna/groups.json").read_text(encoding="utf-8")):
        for name in group:
            found[place[name]] = place[group[0]]
    return tuple(found)


def name_stem(name: str) -> str:
    """The letters before the first digit or sign, in lower case: mir-10 and MIR1122 are mir.

    A name that begins otherwise, or whose stem is a single letter, stands for itself.
    """
    name = name.lower()
    stem = name[: len(name) - len(name.lstrip(ascii_lowercase))]
    return stem if len(stem) > 1 else name


def words(rows: np.ndarray, length: int = WORD, fewest_pairs: int = FEWEST_PAIRS) -> np.ndarray:
    """The different words of all rows, gaps left out, as numbers in base 4; sorted."""
    found = []
    for row in rows:
        bases = row[row != BASES].astype(np.int64)  # gaps go, other letters than bases stay
        if len(bases) < length:
            continue
        windows = np.lib.stride_tricks.sliding_window_view(bases, length)
        windows = windows[(windows < BASES).all(1)]
        pairs = windows[:, :-1] * BASES + windows[:, 1:]
        seen = np.zeros((len(windows), BASES**2), bool)
        np.put_along_axis(seen, pairs, True, 1)
        windows = windows[seen.sum(1) >= fewest_pairs]
        found.append(windows @ BASES ** np.arange(length))
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)


def related(families: Sequence[RNAFamily], length: int = WORD) -> list[int]:
    """A number for each family, equal for those that belong together: the place of the first."""
    parent = list(range(len(families)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict = {}
    for i, family in enumerate(families):
        marks = [("clan", family.clan)] if family.clan else []
        marks += [("name", name_stem(family.name))]
        marks += words(family.rows.numpy(), length).tolist()
        for mark in marks:
            j = first.setdefault(mark, i)
            a, b = sorted((root(i), root(j)))
            parent[b] = a
    return [root(i) for i in range(len(families))]


def folds(groups: Sequence[int], tested: Sequence[bool], count: int = FOLDS) -> list[int]:
    """A fold for each family: whole groups, the largest first, each to the fold that tests least.

    A group's size is the number of its tested families, then of all; the first group wins a tie.
    """
    members = Counter(groups)
    wanted = Counter(group for group, counts in zip(groups, tested, strict=True) if counts)
    load = [(0, 0)] * count
    place = {}
    for group in sorted(members, key=lambda g: (-wanted[g], -members[g], g)):
        place[group] = fold = load.index(min(load))
        load[fold] = (load[fold][0] + wanted[group], load[fold][1] + members[group])
    return [place[group] for group in groups]
