"""Forty Pfam families with the crystal structure of one member each, and a split by fold.

The source is the benchmark of Ollikainen and Kortemme (2013): sets/msa/pfam40/README.md.
"""

import hashlib
from dataclasses import dataclass
from functools import cache

from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from archbook.data.alignments import Alignment, read_fasta
from archbook.data.kept import kept
from archbook.data.manifest import shipped, shipped_names
from archbook.data.structures import read_pdb

FOLDER = "msa/pfam40"
PARTS = {"train": 24, "valid": 6, "test": 10}  # families
# Families that share a fold and so stay in one part; the others stand alone. Two are put together
# where SCOP (1.75) gives them one fold (b.1) or CATH one topology (2.60.40), both as the authors of
# this book know them (no copy is shipped), and a few more where that left a doubt.
FOLDS = {
    # SCOP b.1: fibronectin III, I-set, V-set, and TIG (an E set). C2 is b.7, but CATH 2.60.40, too.
    "immunoglobulin-like sandwich": ("PF00041", "PF00168", "PF01833", "PF07679", "PF07686"),
    # SCOP a.4 and CATH 1.10.10: Myb, the effector domain, alkyltransferase's C-terminal domain.
    # HTH_19 is a.35 (repressor of phage lambda): a doubt, for the motif itself is the same.
    "helix-turn-helix": ("PF00249", "PF00486", "PF01035", "PF12844"),
    # CATH 3.40.50: CheY (SCOP c.23), universal stress protein (c.26), small phosphatase (c.44).
    "Rossmann and flavodoxin-like": ("PF00072", "PF00582", "PF01451"),
    # SCOP d.58: RRM, acylphosphatase. L30 (d.59) is alike, a doubt; CATH 3.30.1390 joins L7/L12.
    "ferredoxin-like": ("PF00076", "PF00327", "PF00542", "PF00708"),
    # SCOP d.15 and CATH 3.10.20: plant ferredoxin, ubiquitin.
    "beta-grasp": ("PF00111", "PF00240"),
    # CATH 2.40.50: cold shock (SCOP b.40), biotinyl or lipoyl domain (b.84).
    "OB fold": ("PF00313", "PF00364"),
    # SCOP a.29, a.28 and a.24, all four helices up and down: a doubt. Bromodomain, ACP, Hpt.
    "four-helix bundle": ("PF00439", "PF00550", "PF01627"),
}


@dataclass(frozen=True)
class Family:
    """A family's alignment in the columns of one member whose structure is known.

    Column c is the c-th residue of that member's domain, in all five tensors. Every entry of
    `contacts`, `distances` and `positions` that involves a residue with `valid` False is False
    and NaN.
    """

    name: str  # Pfam's, such as PF00013
    pdb: str  # code and chain, such as 1WVN_A
    tokens: Int64[Tensor, "rows columns"]  # row 0 is the member; `archbook.data.alphabet`
    contacts: Bool[Tensor, "columns columns"]  # distance < 8 angstrom, so True on the diagonal
    distances: Float32[Tensor, "columns columns"]  # C-beta to C-beta (glycine: C-alpha), angstrom
    positions: Float64[Tensor, "columns 3"]  # of these atoms, angstrom
    valid: Bool[Tensor, " columns"]  # True where the structure has that atom

    @property
    def depth(self) -> int:
        return self.tokens.shape[0]

    @property
    def columns(self) -> int:
        return self.tokens.shape[1]


def families() -> list[str]:
    """The forty names, sorted."""
    return list(_structures())


@kept(most=40)  # all of them
def family(name: str) -> Family:
    """A family by its Pfam name; kept in memory for the next call, which gets a copy.

    Row 0 is the sequence of the PDB chain. The rows of the file follow in their order (no two more
    than 80 % identical there, before the columns were cut), less those equal to row 0 and those
    that have gaps only in its columns: the first are in the file of 17 of the families, once each,
    the second in none. A tenth of a second, the largest family (15,260 rows) half a second.

    >>> kh = family("PF00013")
    >>> kh.tokens.shape, int(kh.contacts.triu(6).sum())  # pairs at least 6 apart
    (torch.Size([1013, 63]), 99)
    """
    if name not in _structures():
        raise ValueError(f"wanted a family out of {', '.join(families())}, given {name!r}")
    path = _structures()[name]
    pdb = path.removesuffix(".pdb").partition(f"{name}_")[2]
    tag, query = _queries()[name]
    if tag != pdb:
        raise ValueError(f"wanted the query row of {pdb}, given that of {tag} for {name}")
    rows = read_fasta(shipped(f"{FOLDER}/alignments/{name}.align.80.gz"))
    cut = on_member(rows, tag, query)
    chain = read_pdb(shipped(path), pdb[-1]).part(cut.rows[0])
    return Family(
        name=name,
        pdb=pdb,
        tokens=cut.tokens(),
        contacts=chain.contacts(),
        distances=chain.distances().float(),
        positions=chain.positions,
        valid=chain.valid(),
    )


def on_member(alignment: Alignment, name: str, row: str) -> Alignment:
    """`row` (aligned, named `name`) before the others, all in the columns of its residues.

    Left out: rows equal to it there, and rows of gaps only. The others keep their order.
    """
    names, rows = (name, *alignment.names), (row, *alignment.rows)
    whole = Alignment(names, rows, alignment.column_annotations).on_query()
    query = whole.rows[0]
    kept = [
        (n, r)
        for n, r in zip(whole.names[1:], whole.rows[1:], strict=True)
        if r != query and r.strip("-")
    ]
    names, rows = (name, *(n for n, _ in kept)), (query, *(r for _, r in kept))
    return Alignment(names, rows, whole.column_annotations)


def split_families(seed: int = 0) -> dict[str, tuple[str, ...]]:
    """The forty names in parts "train", "valid" and "test" of 24, 6 and 10, each part sorted.

    Families of one of the FOLDS are in one part. The folds, and the families alone, stand in a line
    by the SHA-256 of seed and first name; each goes to test if there is room, then to valid, else
    to train. A fold that would be more than a third of a part has no room there, lest its score
    hang on one fold: so the three folds of four and five families are always to train on.

    >>> {part: len(names) for part, names in split_families().items()}
    {'train': 24, 'valid': 6, 'test': 10}
    """
    together = {name: group for group in FOLDS.values() for name in group}
    groups = {together.get(name, (name,)) for name in families()}
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for group in sorted(groups, key=lambda names: _digest(seed, names[0])):
        room = {p: min(PARTS[p] - len(parts[p]), PARTS[p] // 3) for p in ("test", "valid")}
        fits = [part for part in room if len(group) <= room[part]]
        parts[[*fits, "train"][0]] += group
    return {part: tuple(sorted(names)) for part, names in parts.items()}


def _digest(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode()).digest()


@cache
def _structures() -> dict[str, str]:
    """Family -> shipped PDB file, sorted."""
    start = f"{FOLDER}/structures/"
    paths = sorted(path for path in shipped_names() if path.startswith(start))
    return {path.removeprefix(start).partition("_")[0]: path for path in paths}


@cache
def _queries() -> dict[str, tuple[str, str]]:
    """Family -> (PDB code and chain, its row in the alignment's columns)."""
    text = shipped(f"{FOLDER}/domain_sequences.txt").read_text(encoding="utf-8")
    rows = [line.split() for line in text.splitlines() if line.strip()]
    return {name: (pdb, row.replace(".", "-")) for name, pdb, row in rows}
