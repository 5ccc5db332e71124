"""Alphabet and readers: the tokens of fair-esm, three file formats, and what is refused."""

import gzip
from pathlib import Path

import pytest
import torch

from archbook import vocabulary
from archbook.data import alphabet
from archbook.data.alignments import (
    ESM_EXAMPLES,
    Alignment,
    esm_example,
    read_a3m,
    read_fasta,
    read_stockholm,
)
from archbook.data.alphabet import decode, encode, with_start

# the 33 symbols of fair-esm 2.0.0's alphabet "msa_transformer", in their order
FAIR_ESM = (
    "<cls> <pad> <eos> <unk> L A G V S E R T I D P K Q N F Y M H W C X B U Z O . - <null_1> <mask>"
).split()

STOCKHOLM = """# STOCKHOLM 1.0
#=GF ID toy

first/1-6        AC.DE
#=GR first/1-6 SS CCHHH
second           -CkD.
#=GC RF          xx.xx

first/1-6        F-G
second           F.g
#=GC RF          x.x
//
ignored          AAA
"""


def lines(*rows: str) -> str:
    return "\n".join(rows) + "\n"


# ---- the alphabet ----


@pytest.mark.shapes
def test_the_tokens_are_those_of_fair_esm():
    letters = [symbol for symbol in FAIR_ESM if len(symbol) == 1]
    assert encode(["".join(letters)]).tolist() == [[FAIR_ESM.index(s) for s in letters]]
    assert alphabet.GAP == FAIR_ESM.index("-") == 30


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("START", "<cls>"),
        ("PADDING", "<pad>"),
        ("END", "<eos>"),
        ("UNKNOWN", "<unk>"),
        ("NULL", "<null_1>"),
        ("MASK", "<mask>"),
    ],
)
def test_a_token_without_a_letter_has_the_number_of_fair_esm(name, symbol):
    assert getattr(vocabulary, name) == FAIR_ESM.index(symbol)


def test_there_are_33_tokens_and_the_first_letters_are_the_amino_acids():
    assert len(FAIR_ESM) == vocabulary.VOCABULARY == 33
    assert sorted(alphabet.LETTERS[: vocabulary.AMINO_ACIDS]) == sorted("ACDEFGHIKLMNPQRSTVWY")


@pytest.mark.parity
def test_the_alphabet_equals_the_package_s():
    esm = pytest.importorskip("esm")
    theirs = esm.data.Alphabet.from_architecture("msa_transformer")
    assert theirs.all_toks == FAIR_ESM


@pytest.mark.shapes
def test_rows_are_int64_tokens_of_their_shape():
    tokens = encode(["AC-", "GGG"])
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == [[5, 23, 30], [6, 6, 6]]


@pytest.mark.shapes
def test_decoding_brings_the_rows_back():
    rows = ("MK-V.", "XBUZO")
    assert decode(encode(rows)) == rows


@pytest.mark.shapes
@pytest.mark.parametrize("batch", [(), (2,), (3, 2)])
def test_the_start_token_comes_before_every_row(batch):
    tokens = torch.randint(4, 31, (*batch, 7))
    started = with_start(tokens)
    assert started.shape == (*batch, 8)
    assert (started[..., 0] == vocabulary.START).all()
    assert torch.equal(started[..., 1:], tokens)


@pytest.mark.parametrize("unknown", ["X", "-"])
def test_letters_without_a_token_are_read_as_the_unknown_one_that_is_named(unknown):
    wanted = encode([unknown * 3 + "L"])
    assert torch.equal(encode(["J*?L"], unknown), wanted)
    assert torch.equal(Alignment(("a",), ("J*?L",)).tokens(unknown=unknown), wanted)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encode(["ACD", "AJD"]), "wanted letters out of LAG.*, given 'J' in row 1, column"),
        (
            lambda: encode(["ACD", "ACJ"]),
            "given 'J' in row 1, column 2; unknown=\"X\" reads it as X$",
        ),
        (lambda: encode(["AéD"]), "given 'é' in row 0, column 1"),
        (lambda: encode(["AéD"], "X"), "given 'é' in row 0, column 1"),
        (lambda: encode(["AaD"], "X"), "given 'a' in row 0, column 1; lower case"),
        (lambda: encode(["AC?"]), "given '\\?' in row 0, column 2"),
        (lambda: encode(["AC?"], "J"), "wanted unknown to be one letter out of LAG.*, given 'J'"),
        (lambda: encode(["AC?"], ""), "wanted unknown to be one letter out of LAG.*, given ''"),
        (lambda: encode(["A C"]), "given ' ' in row 0, column 1"),
        (lambda: encode(["AaC"]), "given 'a' in row 0, column 1; lower case is an insertion"),
        (lambda: encode(["ACD", "AC"]), "wanted rows of 3 columns.*given 2 in row 1"),
        (lambda: encode([]), r"at least one row and one column, given shape \(0,\)"),
        (lambda: encode(["", ""]), r"at least one row and one column, given shape \(2, 0\)"),
        (lambda: encode("ACD"), "wanted a sequence of rows, given one string"),
        (lambda: decode(torch.tensor([[4, 5], [4, 32]])), "wanted tokens 4 to 30.*given 32 in row"),
        (lambda: decode(torch.tensor([[4, 5], [0, 5]])), "given 0 in row 1, column 0"),
        (lambda: decode(torch.tensor([4, 5])), r"wanted tokens of shape .*given \(2,\)"),
        (lambda: with_start(torch.tensor([[0, 5]])), "wanted tokens without the start token 0"),
    ],
)
def test_what_has_no_token_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- alignments ----


@pytest.mark.shapes
def test_an_alignment_knows_its_depth_columns_and_tokens():
    alignment = Alignment(("a", "b"), ("AC-", "GGG"))
    assert (alignment.depth, alignment.columns) == (2, 3)
    assert torch.equal(alignment.tokens(), encode(["AC-", "GGG"]))


def test_one_row_is_an_alignment():
    assert read_fasta(">only\nACD").rows == ("ACD",)


@pytest.mark.shapes
def test_on_the_query_only_its_residues_have_columns():
    alignment = Alignment(("query", "other"), ("-A.CD-", "GGG-FF"))
    assert alignment.on_query() == Alignment(("query", "other"), ("ACD", "G-F"))


def test_columns_are_taken_in_the_order_asked_for():
    assert Alignment(("a", "b"), ("ACD", "EFG")).on([2, 0]).rows == ("DA", "GE")


def test_rows_are_taken_with_their_names_in_the_order_asked_for():
    whole = Alignment(("q", "a", "b"), ("ACD", "-CD", "AC-"), {"RF": "x.x"})
    assert whole.take([2, 0]) == Alignment(("b", "q"), ("AC-", "ACD"), {"RF": "x.x"})
    assert whole.take(range(3)) == whole


RIBOSWITCH = Alignment(
    ("q", "a"), ("GGUA-ACC", "GCUANAGC"), {"SS_cons": "<<A..a>>", "RF": "GGUAaACC"}
)


def test_base_pairs_are_those_of_the_consensus_structure():
    assert RIBOSWITCH.base_pairs().tolist() == [[0, 7], [1, 6], [2, 5]]
    assert Alignment(("q",), ("GC",), {"SS_cons": "::"}).base_pairs().shape == (0, 2)


def test_in_some_columns_the_pairs_are_those_of_which_both_columns_are_left():
    assert RIBOSWITCH.on_query().base_pairs().tolist() == [[0, 6], [1, 5], [2, 4]]
    some = RIBOSWITCH.on([1, 2, 6, 7])
    assert some.base_pairs().tolist() == [[0, 2]]
    assert some.column_annotations == {"SS_cons": "<.>.", "RF": "GUCC"}


def test_one_column_may_be_taken():
    assert Alignment(("a", "b"), ("ACD", "EFG")).on([1]).rows == ("C", "F")


def test_a_name_may_be_empty_or_come_twice():
    assert read_a3m(lines(">", "AC", ">b", "AC", ">b", "AC")).names == ("", "b", "b")


@pytest.mark.parametrize("read", [read_a3m, read_fasta])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "wanted at least one row, given none"),
        ("\n\n", "wanted at least one row, given none"),
        ("family.a3m", r"^the text, line 1: .* '>' .*given 'family.a3m'; .*pathlib.Path"),
        ("\nACD\n>a\nACD", "^the text, line 2: .* before the first letters, given 'ACD'"),
        (">a\n\n>b\nACD", r"^the text, line 1: wanted at least one column, .* in row 0 \('a'\)"),
        (">a\nACD\n>b\nAC", r"line 3: wanted rows of 3 columns, .*, given 2 in row 1 \('b'\)"),
        (">a\nACD\n>b\nA\nC1\n", "line 5: wanted letters and gaps, given '1'"),
        (">a\nACD\n>b\nAéD\n", "line 4: wanted letters and gaps, given 'é'"),
        (">a\nACD\n>b\nAC\tD\n", r"line 4: wanted letters and gaps, given '\\t'"),
        (">a\nACD\n# b\nACD\n", "line 3: wanted letters and gaps, given '#'"),
        (">a\nACD\n>\nACDE", r"given 4 in row 1 \(''\)"),
        (">a\nACD\n>b\n", r"given 0 in row 1 \('b'\)"),
        (">a\n---\n>b\nACD", r"wanted a residue in row 0 \('a'\), given gaps only"),
    ],
)
def test_what_is_no_alignment_is_refused(read, text, message):
    with pytest.raises(ValueError, match=message):
        read(text)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Alignment(("a",), ("AC", "AC")), "a name for each of the 2 rows, given 1"),
        (lambda: Alignment(("a",), ("AC",), {"RF": "x"}), "2 signs of RF, .* columns, given 1"),
        (lambda: Alignment(("a",), ("AC",)).on([]), r"each out of 0 to 1, given \[\]"),
        (lambda: Alignment(("a",), ("AC",)).on([0, 2]), r"each out of 0 to 1, given \[0, 2\]"),
        (lambda: Alignment(("a",), ("AC",)).on([-1]), r"each out of 0 to 1, given \[-1\]"),
        (lambda: Alignment(("a",), ("AC",)).take([]), r"each out of 0 to 0, given \[\]"),
        (lambda: Alignment(("a",), ("AC",)).take([1]), r"each out of 0 to 0, given \[1\]"),
        (lambda: Alignment(("a",), ("AC",)).take([-1]), r"each out of 0 to 0, given \[-1\]"),
        (lambda: Alignment(("a", "b"), ("AC", "--")).take([1]), "a residue in row 0 .*gaps only"),
        (lambda: Alignment(("a",), ("AC",)).base_pairs(), "SS_cons, given no annotation"),
        (lambda: Alignment(("a",), ("AC",), {"RF": "xx"}).base_pairs(), "SS_cons, given RF"),
        (
            lambda: Alignment(("a",), ("AC",), {"SS_cons": "<."}).base_pairs(),
            "every pair closed, given '<' in column 0",
        ),
        (
            lambda: Alignment(("a",), ("AC",), {"SS_cons": "<>"}).on([1, 0]),
            r"ascending columns, since some are paired, given \[1, 0\]",
        ),
    ],
)
def test_rows_and_columns_that_are_not_there_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- a3m ----


def test_a3m_loses_its_insertions():
    text = lines(">query", "ACD", ">long one", "aA.cC*-f", ">none", "A-D")
    assert read_a3m(text) == Alignment(("query", "long one", "none"), ("ACD", "AC-", "A-D"))


def test_rows_of_secondary_structure_are_no_sequences():
    text = lines("#A3M#", ">ss_pred PSIPRED", "CHH", ">ss_conf", "998", ">query", "ACD")
    assert read_a3m(text) == Alignment(("query",), ("ACD",))


def test_a_null_byte_ends_an_a3m_file_as_colabfold_s_server_writes_it():
    assert read_a3m(">101\nACD\n>h1\nA-D\n\0").rows == ("ACD", "A-D")


def test_a_second_alignment_behind_a_null_byte_is_refused():
    with pytest.raises(ValueError, match="the text, line 3: wanted text, given a NUL byte"):
        read_a3m(">101\nACD\n\0>102\nEFG\n\0")


def test_a_query_whose_letters_are_all_insertions_is_refused():
    with pytest.raises(
        ValueError, match=r"wanted at least one column, given none in row 0 \('a'\)"
    ):
        read_a3m(">a\nacd\n>b\nacd")


# ---- aligned FASTA ----


def test_in_aligned_fasta_every_column_stays_and_a_dot_is_a_gap():
    text = lines(">first", "AC.D", ">second", "A-kD")
    assert read_fasta(text) == Alignment(("first", "second"), ("AC-D", "A-KD"))


@pytest.mark.parametrize("read", [read_a3m, read_fasta])
def test_a_row_may_run_over_lines(read):
    assert read("\n>a b\r\nAC\r\n\r\nD E\n>c\nACDE").rows == ("ACDE", "ACDE")


@pytest.mark.parametrize("read", [read_a3m, read_fasta])
def test_a_row_of_gaps_below_the_first_is_kept(read):
    assert read(">a\nACD\n>b\n---").rows == ("ACD", "---")


# ---- Stockholm ----


def test_blocks_of_a_stockholm_file_are_joined():
    found = read_stockholm(STOCKHOLM)
    assert found.names == ("first/1-6", "second")
    assert found.rows == ("AC-DEF-G", "-CKD-F-G")


def test_what_a_stockholm_file_says_of_its_columns_is_kept_and_cut_with_them():
    found = read_stockholm(STOCKHOLM)
    assert found.column_annotations == {"RF": "xx.xxx.x"}
    assert found.on_query().column_annotations == {"RF": "xxxxxx"}
    assert found.on([2, 3]).column_annotations == {"RF": ".x"}


@pytest.mark.parametrize(
    "read", [read_a3m, read_fasta, lambda text: read_stockholm(stockholm_of(text))]
)
def test_other_signs_for_a_gap_are_gaps(read):
    assert read(">q\nACDE\n>b\n~_DE\n").rows == ("ACDE", "--DE")


def stockholm_of(fasta: str) -> str:
    """The same alignment, each row on one line."""
    rows = [record.split("\n") for record in fasta.split(">")[1:]]
    return "\n".join(["# STOCKHOLM 1.0", *(f"{name} {row}" for name, row, *_ in rows), "//\n"])


def test_a_stockholm_file_may_have_one_block_and_tabs():
    found = read_stockholm("# STOCKHOLM 1.0\na\tAC\nb \t GG\n\n//\n")
    assert found == Alignment(("a", "b"), ("AC", "GG"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "# STOCKHOLM 1.0",
            "> first",
            "line 1: wanted '# STOCKHOLM 1.0', given '> first'; a file is given as a pathlib.Path",
        ),
        ("//", "", "wanted a line '//' at the end"),
        ("//", "# STOCKHOLM 1.0", "line 12: wanted '//' before the next alignment, given '# STO"),
        ("# STOCKHOLM 1.0", "# STOCKHOLM 1.0#", "line 1: wanted '# STOCKHOLM 1.0', given"),
        ("second           F.g", "", r"wanted the names of the first block.*given \['second'\]"),
        ("second           F.g", "third  F.g", r"given \['second', 'third'\] in block 1"),
        ("second           F.g", "second  F.gg", r"of 8 columns.*given 9 in row 1 \('second'\)"),
        ("second           F.g", "second", "line 10: wanted a name and its letters, "),
        ("second           F.g", "second F .g", "line 10: wanted a name and its letters, "),
        ("second           F.g", "first/1-6 F.g", "every name once in a block, given 'first/1-6'"),
        ("F-G\nsecond           F.g", "F.g\n", r"line 9: .* given \['second'\] in block 1"),
        ("second           F.g", "second F%g", "line 10: wanted letters and gaps, given '%'"),
        ("RF          x.x", "RF          x", "wanted 8 signs of RF, .* columns, given 6"),
        ("#=GC RF          x.x", "#=GD RF x.x", "line 11: wanted '#=GC' or .*, given '#=GD'"),
        ("RF          x.x", "RF", "line 11: wanted '#=GC', a name and a sign for each column"),
    ],
)
def test_what_is_no_stockholm_file_is_refused(old, new, message):
    assert old in STOCKHOLM
    with pytest.raises(ValueError, match=message):
        read_stockholm(STOCKHOLM.replace(old, new))


def test_names_in_another_order_are_refused():
    text = "# STOCKHOLM 1.0\na AC\nb GG\n\nb AC\na GG\n//"
    with pytest.raises(ValueError, match="given another order in block 1"):
        read_stockholm(text)


def test_a_stockholm_file_without_rows_is_refused():
    with pytest.raises(ValueError, match="wanted at least one row, given none"):
        read_stockholm("# STOCKHOLM 1.0\n\n//\n")


# ---- files ----


@pytest.mark.parametrize(
    ("read", "text"), [(read_a3m, ">q\nAcD"), (read_fasta, ">q\nA.D"), (read_stockholm, STOCKHOLM)]
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_read_as_its_text(read, text, packed, tmp_path: Path):
    path = tmp_path / ("family.txt" + ".gz" * packed)
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert read(path) == read(text)


@pytest.mark.parametrize(
    ("code", "depth", "columns"), [("1a3a", 1024, 145), ("1xcr", 588, 313), ("5ahw", 1024, 125)]
)
def test_the_alignments_of_esm_s_notebook_have_their_depth(code, depth, columns):
    alignment = esm_example(code)
    assert (alignment.depth, alignment.columns) == (depth, columns)
    assert set(alignment.names) == {""}


@pytest.mark.shapes
@pytest.mark.parametrize("code", ESM_EXAMPLES)
def test_the_queries_of_esm_s_notebook_have_no_gap(code):
    tokens = esm_example(code).tokens()
    assert not (tokens[0] == alphabet.GAP).any()
    assert (tokens[1:] == alphabet.GAP).any()


def test_the_first_letters_of_1a3a_are_those_of_the_file():
    assert esm_example("1a3a").rows[0].startswith("LFKLGAENIFLGRKAATKEEAIRFAGEQLVKGGYVEPEYVQAMLD")


def test_another_example_is_refused():
    with pytest.raises(ValueError, match="wanted a code out of 1a3a, 1xcr, 5ahw, given '1A3A'"):
        esm_example("1A3A")
