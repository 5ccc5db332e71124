"""Structures and families: against the table of the data's description, and against toy files."""

from itertools import combinations

import pytest
import torch

from archbook.data import families as families_module
from archbook.data.alignments import Alignment, read_fasta
from archbook.data.alphabet import GAP, decode, encode
from archbook.data.families import FOLDS, PARTS, families, family, on_member, split_families
from archbook.data.manifest import shipped
from archbook.data.structures import Chain, read_pdb

# PDB, rows of the file, residues, contacts (|i - j| >= 6): counted when the set was chosen
TABLE = {
    "PF00013": ("1WVN_A", 1013, 63, 99),
    "PF00018": ("2O9S_A", 919, 48, 94),
    "PF00041": ("1TEN_A", 1825, 81, 174),
    "PF00072": ("1MVO_A", 15260, 111, 223),
    "PF00076": ("2X1B_A", 3658, 71, 132),
    "PF00085": ("1FB0_A", 1169, 104, 204),
    "PF00111": ("1CZP_A", 1363, 76, 118),
    "PF00168": ("3F04_A", 1117, 87, 171),
    "PF00169": ("1UNQ_A", 760, 103, 212),
    "PF00179": ("1Z2U_A", 338, 138, 260),
    "PF00226": ("2O37_A", 2635, 60, 73),
    "PF00240": ("2BWF_A", 483, 69, 116),
    "PF00249": ("1GUU_A", 1762, 47, 45),
    "PF00254": ("2PPN_A", 930, 95, 205),
    "PF00313": ("3I2Z_A", 806, 67, 163),
    "PF00327": ("1BXY_A", 538, 52, 82),
    "PF00355": ("1FQT_A", 929, 95, 212),
    "PF00364": ("2EVB_A", 2492, 68, 183),
    "PF00381": ("1PTF_A", 626, 84, 167),
    "PF00439": ("3JVL_A", 568, 89, 89),
    "PF00486": ("2ZXJ_A", 5396, 77, 96),
    "PF00498": ("3GQS_A", 1321, 67, 150),
    "PF00542": ("1CTF_A", 373, 68, 126),
    "PF00550": ("1T8K_A", 6130, 68, 93),
    "PF00581": ("1GN0_A", 2139, 92, 164),
    "PF00582": ("2Z3V_A", 1443, 137, 304),
    "PF00595": ("2H3L_A", 1333, 87, 194),
    "PF00691": ("1OAP_A", 2130, 96, 164),
    "PF00708": ("3BR8_A", 559, 89, 206),
    "PF01029": ("1TZV_A", 754, 127, 168),
    "PF01035": ("3GVA_A", 586, 87, 106),
    "PF01451": ("1JL3_A", 535, 130, 266),
    "PF01627": ("2A0B_A", 1324, 88, 106),
    "PF01833": ("3MQI_A", 760, 83, 199),
    "PF02823": ("1AQT_A", 537, 80, 206),
    "PF04002": ("2QLC_A", 614, 123, 262),
    "PF07679": ("1U2H_A", 917, 91, 225),
    "PF07686": ("2PND_A", 615, 116, 275),
    "PF08666": ("1UCS_A", 763, 60, 130),
    "PF12844": ("3FYM_A", 1513, 70, 78),
}
# The table puts C-alpha in place of the C-beta that arginine 78 of 3BR8 lacks; we leave it out.
OF_ANOTHER_ATOM = {"PF00708": 3}
MEMBER_IN_THE_FILE = set(
    "PF00013 PF00018 PF00085 PF00168 PF00240 PF00327 PF00355 PF00364 PF00498 PF00582 PF00691 "
    "PF00708 PF01035 PF04002 PF07679 PF07686 PF12844".split()
)
# the split of seed 0
VALID = ("PF00111", "PF00240", "PF00254", "PF00313", "PF00364", "PF01029")
TEST = tuple(
    "PF00013 PF00072 PF00085 PF00226 PF00581 PF00582 PF00595 PF01451 PF02823 PF08666".split()
)
EACH = pytest.mark.parametrize("name", TABLE)


def distant(contacts: torch.Tensor, separation: int = 6) -> int:
    """Contacts i < j at least so far apart along the chain."""
    return int(contacts.triu(separation).sum())


def atom(
    name: str = "CB",
    residue: str = "ALA",
    number: int | str = 1,
    x: float = 0.0,
    *,
    place: str = " ",
    chain: str = "A",
    code: str = " ",
    occupancy: str = "1.00",
    record: str = "ATOM",
) -> str:
    """One line of a PDB file, at (x, 0, 0)."""
    left = f"{record:<6}{1:>5}  {name:<3}{place}{residue} {chain}{number:>4}{code}   "
    return f"{left}{x:8.3f}{0:8.3f}{0:8.3f}{occupancy:>6}{20:6.2f}"


@pytest.fixture
def pdb(tmp_path):
    """Reads a chain of a PDB file that holds the given lines."""

    def read(*lines: str, chain: str = "A") -> Chain:
        path = tmp_path / "toy.pdb"
        path.write_text("\n".join(["HEADER    TOY", *lines, "END", ""]), encoding="latin-1")
        return read_pdb(path, chain)

    return read


# ---- structures ----


@pytest.mark.shapes
def test_a_residue_stands_where_its_c_beta_is_and_glycine_where_its_c_alpha_is(pdb):
    chain = pdb(
        atom("CA", "ALA", 1, 1.0),
        atom("CB", "ALA", 1, 2.0),
        atom("CA", "GLY", 2, 3.0),
        atom("C", "GLY", 2, 4.0),
    )
    assert chain.sequence == "AG"
    assert chain.positions.dtype == torch.float64
    assert chain.positions.tolist() == [[2, 0, 0], [3, 0, 0]]


@pytest.mark.shapes
def test_a_residue_without_its_atom_stays_without_a_place(pdb):
    chain = pdb(atom("CA", "ALA", 1), atom("CB", "LYS", 2, 5.0), atom("CB", "TRP", 3, 8.0))
    assert chain.sequence == "AKW"
    assert chain.valid().tolist() == [False, True, True]
    assert chain.distances()[1:, 1:].tolist() == [[0, 3], [3, 0]]
    assert chain.distances()[0].isnan().all()


@pytest.mark.shapes
def test_residues_touch_that_are_nearer_than_eight_angstrom_and_not_at_eight(pdb):
    places = [0.0, 8.0, 15.999]
    chain = pdb(atom("CA", x=5.0), *(atom(number=n, x=x) for n, x in enumerate(places, start=2)))
    none, first, second, third = chain.contacts().tolist()
    assert none == [False, False, False, False]
    assert first == [False, True, False, False]
    assert second == [False, False, True, True]
    assert third == [False, False, True, True]


@pytest.mark.parametrize(
    ("first", "second", "x"), [("0.60", "0.40", 1), ("0.40", "0.60", 2), ("0.50", "0.50", 1)]
)
def test_of_alternative_places_the_fuller_one_counts(pdb, first, second, x):
    chain = pdb(atom(x=1.0, place="A", occupancy=first), atom(x=2.0, place="B", occupancy=second))
    assert chain.positions[:, 0].tolist() == [x]


def test_an_insertion_code_makes_another_residue(pdb):
    chain = pdb(atom(number=7, x=1.0), atom(residue="SER", number=7, code="A", x=2.0))
    assert (chain.sequence, chain.positions[:, 0].tolist()) == ("AS", [1, 2])


def test_selenomethionine_is_methionine_and_other_heteroatoms_are_none(pdb):
    chain = pdb(
        atom(residue="MSE", record="HETATM"),
        atom(residue="HOH", number=2, record="HETATM"),
        atom(residue="UNK", number=3),
    )
    assert chain.sequence == "MX"


def test_only_the_chain_and_the_first_model_are_read(pdb):
    chain = pdb(
        atom(residue="LYS", chain="B"),
        atom(residue="TRP", chain="A"),
        "ENDMDL",
        atom(residue="ALA", number=2),
    )
    assert chain.sequence == "W"


def test_an_empty_occupancy_is_one(pdb):
    chain = pdb(atom(x=1.0, place="A", occupancy=""), atom(x=2.0, place="B", occupancy="0.50"))
    assert chain.positions[0, 0] == 1


@pytest.mark.shapes
def test_a_row_is_found_in_its_chain():
    chain = Chain("MKVLAK", torch.arange(18.0).double().reshape(6, 3))
    part = chain.part("VLA")
    assert part.sequence == "VLA"
    assert torch.equal(part.positions, chain.positions[2:5])


@pytest.mark.parametrize("row", ["MKVLAK", "M", "AK"])
def test_a_row_may_reach_either_end_of_the_chain(row):
    assert Chain("MKVLAK", torch.zeros(6, 3).double()).part(row).sequence == row


@pytest.mark.parametrize(
    ("row", "places"), [("MKA", 0), ("K", 2), ("", 0), ("MKVLAKK", 0), ("KV-L", 0)]
)
def test_a_row_that_does_not_fit_once_is_refused(row, places):
    chain = Chain("MKVLAK", torch.zeros(6, 3).double())
    with pytest.raises(ValueError, match=f"wanted a row .* MKVLAK .*'{row}', .* in {places}"):
        chain.part(row)


CHAIN = Chain("MKVLAKWDEF", torch.arange(30.0).double().reshape(10, 3))


@pytest.mark.shapes
@pytest.mark.parametrize(
    ("row", "places"),  # in the chain, None: no residue of it
    [
        ("MKVLAKWDEF", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("VLAKW", [2, 3, 4, 5, 6]),
        ("MKVLGKWCEF", [0, 1, 2, 3, None, 5, 6, None, 8, 9]),  # two mutations
        ("MKVLAKPGWDEF", [0, 1, 2, 3, 4, 5, None, None, 6, 7, 8, 9]),  # a loop that is not seen
        ("VL--AKWDEF-", [2, 3, None, None, 4, 5, 6, 7, 8, 9, None]),  # gaps
        ("GHMKVLAKWDEF", [None, None, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),  # a tail
    ],
)
def test_a_chain_stands_in_the_columns_of_a_row(row, places):
    found = CHAIN.on_query(row)
    assert found.sequence == row
    wanted = [[torch.nan] * 3 if place is None else CHAIN.positions[place] for place in places]
    wanted = torch.stack([torch.as_tensor(w, dtype=torch.float64) for w in wanted])
    torch.testing.assert_close(found.positions, wanted, rtol=0, atol=0, equal_nan=True)
    assert found.valid().tolist() == [place is not None for place in places]


def test_where_a_row_fits_whole_both_ways_agree():
    one = family("PF00708")
    chain = read_pdb(shipped("msa/pfam40/structures/PF00708_3BR8_A.pdb"), "A")
    row = decode(one.tokens[:1])[0]
    found = chain.on_query(row)
    torch.testing.assert_close(found.positions, chain.part(row).positions, equal_nan=True)
    assert torch.equal(found.contacts(), one.contacts)


@pytest.mark.parametrize("row", ["WWWWW", "----", "", "MKVGGG"])
def test_another_protein_is_refused(row):
    with pytest.raises(ValueError, match=f"a chain with 80% of the residues of {row}, given"):
        CHAIN.on_query(row)


def test_fits_that_overlap_are_two():
    with pytest.raises(ValueError, match="fits in 2"):
        Chain("AAA", torch.zeros(3, 3).double()).part("AA")


def test_a_chain_that_is_not_there_is_refused(pdb):
    with pytest.raises(ValueError, match="toy.pdb: wanted atoms of chain 'B', given none"):
        pdb(atom(), chain="B")


@pytest.mark.parametrize("chain", ["", "AB", None, 0])
def test_what_is_no_chain_s_letter_is_refused(pdb, chain):
    with pytest.raises(ValueError, match="wanted chain to be one character, given"):
        pdb(atom(), chain=chain)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ATOM    123", "^toy.pdb, line 3: wanted an atom in at least 54 .*given 'ATOM    123'"),
        (atom(number=2)[:53], "line 3: wanted an atom in at least 54 plain characters"),
        (atom(number=2).replace("ALA", "AL\0"), "line 3: wanted an atom .* plain characters"),
        (atom(number=2).replace("ALA", "ALÄ"), "line 3: wanted an atom .* plain characters"),
        (atom(number=2).replace("   0.000", " 0.000", 1), "wanted coordinates in columns 31 to 54"),
        (atom(number=2).replace("   0.000", "     nan", 1), "wanted coordinates in columns"),
        (atom(number=2).replace("   0.000", "   0_000", 1), "wanted coordinates in columns"),
        (atom(number=2, occupancy="inf"), "wanted coordinates .* and occupancy in 55 to 60"),
        (atom(number="2x"), "line 3: wanted a residue's number in columns 23 to 26, given '  2x "),
        (atom(), "line 3: wanted every atom of a residue once, given ' CB  ALA A   1 ' again"),
        (atom("CA", "SER"), "line 3: wanted every atom of a residue once, given ' CA  SER A   1 '"),
    ],
)
def test_an_atom_that_cannot_be_read_is_refused(pdb, line, message):
    with pytest.raises(ValueError, match=message):
        pdb(atom(), line)


@pytest.mark.parametrize(
    ("first", "second", "kind"), [("0.60", "0.40", "A"), ("0.40", "0.60", "S")]
)
def test_of_alternative_residues_the_fuller_one_counts(pdb, first, second, kind):
    one = [atom(name, "ALA", x=1.0, place="A", occupancy=first) for name in ("CA", "CB")]
    other = [atom(name, "SER", x=2.0, place="B", occupancy=second) for name in ("CA", "CB")]
    chain = pdb(*one, *other)
    assert chain.sequence == kind
    assert chain.positions[0, 0] == (1 if kind == "A" else 2)


def test_what_stands_behind_the_end_is_another_model(pdb):
    assert pdb(atom(), "END", atom()).sequence == "A"


def test_signs_in_remarks_do_not_matter(pdb):
    assert pdb("AUTHOR    J.MÜLLER\0", atom()).sequence == "A"


# ---- the table ----


def test_there_are_forty_families():
    assert families() == list(TABLE)
    assert len(TABLE) == 40


@EACH
def test_a_family_has_the_residues_and_contacts_of_the_table(name):
    pdb, _, residues, contacts = TABLE[name]
    found = family(name)
    assert (found.name, found.pdb, found.columns) == (name, pdb, residues)
    assert distant(found.contacts) == contacts - OF_ANOTHER_ATOM.get(name, 0)


@EACH
def test_a_family_has_the_rows_of_the_table_and_its_member_once(name):
    assert family(name).depth == TABLE[name][1] + 1 - (name in MEMBER_IN_THE_FILE)


@pytest.mark.shapes
@EACH
def test_the_tensors_of_a_family_fit_together(name):
    found = family(name)
    assert found.tokens.dtype == torch.int64
    assert found.distances.dtype == torch.float32
    assert found.contacts.dtype == found.valid.dtype == torch.bool
    assert found.contacts.shape == found.distances.shape == (found.columns, found.columns)
    assert found.valid.shape == (found.columns,)
    assert torch.equal(found.contacts, found.distances < 8)
    apart = (found.positions[:, None] - found.positions).norm(dim=-1)
    torch.testing.assert_close(apart.float(), found.distances, equal_nan=True)
    pairs = found.valid[:, None] & found.valid
    assert torch.equal(found.distances.isnan(), ~pairs)
    assert torch.equal(found.distances[pairs], found.distances.mT[pairs])


@EACH
def test_the_member_has_no_gap_and_no_other_row_is_equal_to_it(name):
    tokens = family(name).tokens
    assert not (tokens[0] == GAP).any()
    assert not (tokens[1:] == tokens[0]).all(1).any()
    assert (tokens != GAP).any(1).all()


@EACH
def test_neighbours_along_the_chain_are_as_near_as_the_peptide_bond_holds_them(name):
    steps = family(name).distances.diagonal(1)
    steps = steps[~steps.isnan()]
    assert 3.4 < steps.min() < steps.max() < 7.2
    assert 4.8 < steps.mean() < 6.0


def test_one_residue_of_all_has_no_c_beta():
    lacking = {name: (~family(name).valid).nonzero()[:, 0].tolist() for name in families()}
    assert {name: columns for name, columns in lacking.items() if columns} == {"PF00708": [77]}
    assert decode(family("PF00708").tokens[:1])[0][77] == "R"


def test_with_its_c_alpha_in_place_the_table_is_met(tmp_path):
    text = shipped("msa/pfam40/structures/PF00708_3BR8_A.pdb").read_text()
    assert text.count("CA  ARG A  78") == 1
    path = tmp_path / "3BR8.pdb"
    path.write_text(text.replace("CA  ARG A  78", "CB  ARG A  78"))
    chain = read_pdb(path, "A").part(decode(family("PF00708").tokens[:1])[0])
    assert distant(chain.distances() < 8) == TABLE["PF00708"][3]


def test_a_family_is_read_once(monkeypatch):
    family("PF00327")
    monkeypatch.setattr(families_module, "read_fasta", None)
    assert family("PF00327").name == "PF00327"


# ---- the rows ----


@pytest.mark.shapes
def test_the_other_rows_follow_in_the_member_s_columns():
    name = "PF00327"
    file = read_fasta(shipped(f"msa/pfam40/alignments/{name}.align.80.gz"))
    row = families_module._queries()[name][1]
    columns = [c for c, letter in enumerate(row) if letter != "-"]
    wanted = ["".join(r[c] for c in columns) for r in file.rows]
    query = row.replace("-", "")
    wanted = [query, *(r for r in wanted if r != query)]
    assert torch.equal(family(name).tokens, encode(wanted))


def test_columns_of_the_member_s_gaps_are_left_out():
    found = on_member(Alignment(("a", "b"), ("AC-DE", "G-KLM")), "pdb", "-CF-D")
    assert found == Alignment(("pdb", "a", "b"), ("CFD", "C-E", "-KM"))


def test_copies_of_the_query_and_rows_without_residues_go():
    rows = Alignment(("a", "b", "c", "d"), ("A-CD", "AGCD", "-K--", "E-EE"))
    assert on_member(rows, "pdb", "A-CD") == Alignment(("pdb", "d"), ("ACD", "EEE"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("----", r"wanted a residue in row 0 \('pdb'\), given gaps only"),
        ("ACD", r"wanted rows of 3 columns, .*given 4 in row 1 \('a'\)"),
        ("", r"wanted at least one column, given none in row 0 \('pdb'\)"),
    ],
)
def test_a_member_that_does_not_fit_the_rows_is_refused(row, message):
    with pytest.raises(ValueError, match=message):
        on_member(Alignment(("a",), ("A-CD",)), "pdb", row)


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match=r"wanted a family out of PF00013, .*, given 'PF00034'"):
        family("PF00034")


def test_a_query_row_of_another_chain_is_refused(monkeypatch):
    monkeypatch.setattr(families_module, "_queries", lambda: {"PF00013": ("2ABC_B", "ACD")})
    with pytest.raises(ValueError, match="wanted the query row of 1WVN_A, given that of 2ABC_B"):
        family.__wrapped__("PF00013")


# ---- the split ----


def test_every_family_is_in_one_part_and_the_parts_have_their_sizes():
    parts = split_families()
    assert {name: len(part) for name, part in parts.items()} == PARTS
    assert sorted(name for part in parts.values() for name in part) == families()


def test_the_split_never_changes():
    parts = split_families()
    assert parts["valid"] == VALID
    assert parts["test"] == TEST


def test_another_seed_gives_another_split():
    assert len({split_families(seed)["test"] for seed in range(10)}) == 10


@pytest.mark.parametrize("fold", FOLDS)
def test_a_fold_stays_in_one_part(fold):
    for seed in range(50):
        parts = split_families(seed)
        assert sum(bool(set(FOLDS[fold]) & set(part)) for part in parts.values()) == 1


def test_no_fold_is_more_than_a_third_of_the_parts_held_out():
    for seed in range(50):
        parts = split_families(seed)
        for part, fold in [(p, f) for p in ("valid", "test") for f in FOLDS.values()]:
            assert 3 * len(set(fold) & set(parts[part])) <= PARTS[part]


def test_the_parts_have_their_sizes_for_every_seed():
    for seed in range(200):
        assert {name: len(part) for name, part in split_families(seed).items()} == PARTS


def test_folds_share_no_family_and_name_known_ones():
    assert all(not set(a) & set(b) for a, b in combinations(FOLDS.values(), 2))
    assert {name for fold in FOLDS.values() for name in fold} < set(families())


def test_the_folds_that_the_data_s_description_names_are_kept_together():
    together = [set(fold) for fold in FOLDS.values()]
    assert any({"PF00041", "PF07679", "PF07686"} <= fold for fold in together)
    assert not any({"PF00111", "PF00355"} <= fold for fold in together)
    assert not any("PF00498" in fold for fold in together)
