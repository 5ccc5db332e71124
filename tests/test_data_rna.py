"""RNA families: the shipped ones against their description, and toy files read or refused."""

import lzma
from collections.abc import Callable

import pytest
import torch
from refusals import each_raises

from archbook.data import rna_families
from archbook.data.alignments import read_stockholm
from archbook.data.rna import (
    GAP,
    LETTERS,
    UNSURE,
    RNAFamily,
    read_calls,
    read_families,
    rna_stockholm,
    rna_tokens,
)
from archbook.vocabulary import FIRST_LETTER

TOY = """# STOCKHOLM 1.0
#=GF AC   RF90001
#=GF ID   toy
#=GF TP   Cis-reg; riboswitch;
#=GF CL   CL90001
#=GF SS   Published; PMID:1
one/1-8          GGuA.ACC
two/1-8          GCUANAGC
#=GC SS_cons     <<....>>
#=GC RF          GGUA.ACC
//
"""


def toy(text: str = TOY, calls: dict | None = None) -> RNAFamily:
    """The first family of a text, read as a file."""
    return read_text(text, calls)[0]


def read_text(text: str | bytes, calls: dict | None = None, name: str = "toy.sto"):
    data = text if isinstance(text, bytes) else text.encode()
    return read_families(InMemory(name, data), calls)


class InMemory:
    """What the readers ask of a path."""

    def __init__(self, name: str, data: bytes):
        self.name, self.data, self.suffix = name, data, name[name.rindex(".") :]

    def read_bytes(self) -> bytes:
        return self.data


def test_a_file_is_read_with_its_pairs_and_marks():
    family = toy()
    assert (family.accession, family.name, family.clan) == ("RF90001", "toy", "CL90001")
    assert (family.kind, family.published) == ("Cis-reg; riboswitch;", True)
    assert ["".join(LETTERS[s] for s in row) for row in family.rows] == ["GGUA-ACC", "GCUANAGC"]
    assert family.pairs.tolist() == [[0, 7], [1, 6]]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("GGuA.ACC", "ggta-acc"),
        lambda text: text + "\n",
        lambda text: text.replace("//", "#=GR one/1-8 SS <<....>>\n//"),
    ],
    ids=["BOM", "CRLF", "T and lower case", "blank line", "other markup"],
)
def test_other_spellings_read_alike(change: Callable):
    assert torch.equal(toy(change(TOY)).rows, toy().rows)


def test_a_packed_file_reads_as_the_plain_one():
    assert torch.equal(
        read_text(lzma.compress(TOY.encode()), name="toy.sto.xz")[0].rows, toy().rows
    )


@pytest.mark.parametrize("letter", "NRYSWKMBDHVX")
def test_an_unsure_letter_is_neither_base_nor_gap(letter):
    assert toy(TOY.replace("ANAG", f"A{letter}AG")).rows[1, 4] == UNSURE


def test_calls_count_columns_from_zero_and_stand_by_their_value():
    calls = {"RF90001": [["*", 2, 7, 1e-3], ["", 1, 8, 1e-9]]}
    assert toy(calls=calls).calls.tolist() == [[0, 7], [1, 6]]


@pytest.mark.shapes
def test_rows_are_tokens_of_an_rna_network():
    rows = ("GGuA.ACC", "GCTANAGC", "--~.WsAA")
    found = rna_tokens(rows)
    assert "".join(LETTERS[t - FIRST_LETTER] for t in found.flatten()) == "GGUA-ACCGCUANAGC----NNAA"
    assert found.dtype == torch.int64


def test_rows_of_a_family_are_the_same_tokens():
    assert torch.equal(rna_tokens(("GGuA.ACC", "GCUANAGC")), toy().rows.long() + FIRST_LETTER)


test_what_is_no_rna_is_refused = each_raises(
    [
        (lambda: rna_tokens(()), ValueError, r"at least one column, given \(\)"),
        (lambda: rna_tokens(("", "")), ValueError, "at least one column"),
        (lambda: rna_tokens("ACGU"), ValueError, "a sequence of rows .* given 'ACGU'"),
        (lambda: rna_tokens(("ACGU", "ACG")), ValueError, "rows of 4 columns.* given 3 in row 1"),
        (lambda: rna_tokens(("ACGU", "ACQU")), ValueError, "given 'Q' in row 1, column 2"),
        (lambda: rna_tokens(("ACGU", "ACGé")), ValueError, "given 'é' in row 1, column 3"),
    ]
)


@pytest.mark.parametrize("place", [0, 1, 999, -1])
def test_the_text_of_one_family_reads_as_that_family(place):
    wanted = rna_families()[place]
    found = read_stockholm(rna_stockholm(wanted.accession))
    assert torch.equal(rna_tokens(found.rows), wanted.rows.long() + FIRST_LETTER)
    assert torch.equal(found.base_pairs(), wanted.pairs)


@pytest.mark.parametrize("name", ["RF0000", "RF99999", "", ".*"])
def test_a_family_that_is_not_there_has_no_text(name):
    with pytest.raises(ValueError, match=r"wanted the accession of a family in seed.sto.xz, given"):
        rna_stockholm(name)


def test_the_core_leaves_out_columns_of_gaps_with_their_pairs_and_equal_rows():
    text = TOY.replace("GGuA.ACC", "GGUA.A.C").replace("GCUANAGC", "GGUAN..C")
    text = text.replace("#=GC SS", "three/1-8  GGUA-A.C\n#=GC SS")
    core = toy(text).core()
    assert ["".join(LETTERS[s] for s in row) for row in core.rows] == ["GGUAAC", "GGUA-C"]
    assert core.pairs.tolist() == [[0, 5]]


def test_a_column_of_just_so_many_gaps_stays():
    assert toy(TOY.replace("GGuA.ACC", "GGUA..CC")).core(0.5).columns == 8
    assert toy(TOY.replace("GGuA.ACC", "GGUA..CC")).core(0.4).columns == 6


def refused(old: str, new: str) -> Callable:
    assert old in TOY
    return lambda: toy(TOY.replace(old, new))


test_a_bad_file_is_refused_with_its_line = each_raises(
    [
        (lambda: read_text("hello"), ValueError, "toy.sto, line 1: wanted '# STOCKHOLM 1.0'"),
        (refused("//", ""), ValueError, "line 1: wanted '//' at the end, given none"),
        (lambda: read_text(TOY[:-3] + TOY), ValueError, "line 11: wanted '//' before the next"),
        (refused("#=GF TP   Cis-reg; riboswitch;\n", ""), ValueError, r"missing \['TP'\]"),
        (refused("#=GC SS_cons     <<....>>\n", ""), ValueError, r"missing \['SS_cons'\]"),
        (refused("GGuA.ACC\n", "GGuA.AC\n"), ValueError, "line 7: wanted 8 columns .* given 7"),
        (refused("GGuA.ACC\n", "GGuA.ACC C\n"), ValueError, "line 7: wanted a name and its"),
        (refused("GCUANAGC", "GCUAJAGC"), ValueError, "line 8: wanted A C G U, .* given 'J'"),
        (refused("GCUANAGC", "GCUA\0AGC"), ValueError, r"line 8: wanted A C G U, .*'\\x00'"),
        (refused("GCUANAGC", "GCUAéAGC"), ValueError, "line 8: wanted A C G U, .* given 'é'"),
        (refused("two/1-8", "one/1-8"), ValueError, "line 8: wanted every name once"),
        (refused("<<....>>", "<<....>."), ValueError, "SS_cons: wanted every pair closed"),
        (refused("<<....>>", "<.....>>"), ValueError, "wanted an opening sign before '>' in col"),
        (refused("<<....>>", "<<..!.>>"), ValueError, "wanted a sign of WUSS, given '!' in col"),
        (lambda: read_text(b"\xff\xfe"), ValueError, "toy.sto: wanted text in UTF-8"),
        (lambda: read_text(b"text", name="toy.sto.xz"), ValueError, "wanted a file packed by xz"),
        (
            lambda: toy(calls={"RF90001": [["*", 1, 9, 0.1]]}),
            ValueError,
            r"wanted calls in 8 columns, given \(0, 8\)",
        ),
        (
            lambda: read_calls(InMemory("calls.json", b"[1]")),
            ValueError,
            "calls.json: wanted a family's significant pairs",
        ),
    ]
)


def test_the_rows_of_a_family_without_rows_are_missed():
    bare = "\n".join(line for line in TOY.split("\n") if "/1-8" not in line)
    with pytest.raises(ValueError, match="line 1: wanted at least one row, given none"):
        toy(bare)


# ---- the shipped families ----


@pytest.mark.slow
class TestShipped:
    """Counted with awk, without this reader."""

    def test_there_are_2983_families_of_2_to_1542_rows(self):
        depths = [family.depth for family in rna_families()]
        assert (len(depths), min(depths), max(depths)) == (2983, 2, 1542)

    def test_340_families_are_in_113_clans(self):
        clans = [family.clan for family in rna_families() if family.clan]
        assert (len(clans), len(set(clans))) == (340, 113)

    def test_347_families_have_no_pair_and_none_has_more_than_210(self):
        pairs = [len(family.pairs) for family in rna_families()]
        assert (pairs.count(0), max(pairs)) == (347, 210)

    def test_the_first_one_is_5s_rrna(self):
        first = rna_families()[0]
        assert (first.accession, first.name, first.clan) == ("RF00001", "5S_rRNA", "CL00113")
        assert first.calls[0].tolist() == [27, 139]
        assert [27, 139] in first.pairs.tolist()

    def test_pairs_and_calls_are_of_two_columns_of_their_family(self):
        for family in rna_families():
            for pairs in (family.pairs, family.calls):
                assert (pairs[:, 0] < pairs[:, 1]).all(), family.accession
                assert not len(pairs) or 0 <= pairs.min() <= pairs.max() < family.columns

    def test_most_annotated_pairs_of_deep_families_are_base_pairs(self):
        """The structures lie on the rows that they belong to."""
        watson_crick = torch.zeros(6, 6, dtype=torch.bool)
        for a, b in ("AU", "GC", "GU"):
            watson_crick[LETTERS.index(a), LETTERS.index(b)] = True
        watson_crick = watson_crick | watson_crick.T
        deep = [f for f in rna_families() if f.depth >= 64 and len(f.pairs) >= 4]
        for family in deep:
            left, right = family.rows.long()[:, family.pairs.T].unbind(1)
            both = (left != GAP) & (right != GAP)
            share = watson_crick[left[both], right[both]].double().mean()
            assert share > 0.55, family.accession
