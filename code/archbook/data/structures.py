"""A protein chain out of a PDB file: its sequence, one point a residue, and which points touch."""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from archbook.data.reading import as_path, fault, number, read_bytes, with_plain_ends

CONTACT = 8.0  # angstrom between the points of two residues in contact: less than this
COVERED = 0.8  # of a query's residues, at least, must be found in a chain
AMINO_ACIDS = {
    "ALA": "A", "ARG": "R", "ASN": "N", "ASP": "D", "CYS": "C", "GLN": "Q", "GLU": "E",
    "GLY": "G", "HIS": "H", "ILE": "I", "LEU": "L", "LYS": "K", "MET": "M", "PHE": "F",
    "PRO": "P", "SER": "S", "THR": "T", "TRP": "W", "TYR": "Y", "VAL": "V",
    "MSE": "M",  # selenomethionine, which crystallographers put in place of methionine
}  # fmt: skip


@dataclass(frozen=True)
class Chain:
    """The residues of a chain that a PDB file has atoms of, in the file's order."""

    sequence: str  # one letter each
    positions: Float64[Tensor, "residues 3"]  # of C-beta, in glycine of C-alpha; angstrom

    def part(self, row: str) -> "Chain":
        """The stretch of the chain whose residues are `row`, letter by letter, without gaps.

        ValueError unless there is exactly one: a mismatch, or a residue of the row that the
        structure lacks, is never skipped.
        """
        last = len(self.sequence) - len(row)
        starts = [s for s in range(last + 1) if row and self.sequence.startswith(row, s)]
        if len(starts) != 1:
            raise ValueError(
                f"wanted a row that fits the chain {self.sequence} in one place, "
                f"given {row!r}, which fits in {len(starts)}"
            )
        stretch = slice(starts[0], starts[0] + len(row))
        return Chain(self.sequence[stretch], self.positions[stretch])

    def on_query(self, row: str) -> "Chain":
        """The chain in the columns of an alignment's row: NaN at gaps, and where the structure has
        another residue or lacks it, as crystals lack loops, and tails, and have mutations.

            chain = read_pdb(Path("mine.pdb"), "A").on_query(alignment.rows[0])
            contacts, valid = chain.contacts(), chain.valid()  # of the alignment's columns

        Stretches of equal letters are set against each other, the longest first (`difflib`).
        Errors: ValueError where these are fewer than COVERED of the row's residues: it is another
        protein, or too far a relative for letters alone.
        """
        matcher = SequenceMatcher(None, self.sequence, row, autojunk=False)
        positions = torch.full((len(row), 3), torch.nan, dtype=torch.float64)
        found = 0
        for own, place, size in matcher.get_matching_blocks():
            positions[place : place + size] = self.positions[own : own + size]
            found += size
        residues = len(row.replace("-", ""))
        if not found or found < COVERED * residues:
            raise ValueError(
                f"wanted a chain with {COVERED:.0%} of the residues of {row}, "
                f"given {found} of {residues} in {self.sequence}"
            )
        return Chain(row, positions)

    def valid(self) -> Bool[Tensor, " residues"]:
        """True where the file has the atom."""
        return ~self.positions.isnan().any(1)

    def distances(self) -> Float64[Tensor, "residues residues"]:
        """Angstrom between the points; NaN in the row and the column of a residue without one."""
        return (self.positions[:, None] - self.positions).norm(dim=-1)

    def contacts(self) -> Bool[Tensor, "residues residues"]:
        """Nearer than CONTACT, so True on the diagonal; False where there is no distance."""
        return self.distances() < CONTACT


class _Atom(NamedTuple):
    residue: str  # number and insertion code, as written
    kind: str  # ALA, ...
    name: str  # CB, ...
    place: str  # the letter of an alternative place, blank where there is one place
    xyz: list[float]
    occupancy: float


def read_pdb(path: Path | str, chain: str) -> Chain:
    """A chain of the first model: the ATOM records, and HETATM ones of MSE, which is read as M.

    Residues are told apart by number and insertion code; other names than the twenty are X. Of the
    alternative places of an atom, and of alternative residues at one number, the one of highest
    occupancy counts, the first among equals. A residue whose C-beta (glycine: C-alpha) is missing
    stays in the sequence, its position is NaN. Errors: ValueError with the line of a record that is
    cut or has other things than numbers in the places of numbers, and of an atom that comes twice.
    """
    path = as_path(path)
    if not isinstance(chain, str) or len(chain) != 1:
        raise ValueError(f"wanted chain to be one character, given {chain!r}")
    residues: dict[str, dict[tuple[str, str], _Atom]] = {}  # -> (kind, atom) -> its best place
    seen: set[tuple[str, str, str, str]] = set()
    # columns are bytes: whatever stands in the remarks, they do not move
    text = read_bytes(path).removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    for line_number, line in enumerate(with_plain_ends(text).split("\n"), start=1):
        record = line[:6].rstrip().upper()
        if record in ("END", "ENDMDL"):
            break
        if not record.startswith(("ATOM", "HETATM")):
            continue
        if not (line.isascii() and line.isprintable() and len(line) >= 54):
            reason = f"wanted an atom in at least 54 plain characters, given {line!r}"
            raise fault(path.name, reason, line_number)
        if line[21] != chain or (record.startswith("HETATM") and line[17:20] != "MSE"):
            continue
        try:
            atom = _atom(line)
        except ValueError as error:
            raise fault(path.name, str(error), line_number) from None
        atoms = residues.setdefault(atom.residue, {})
        single = atom.place == " " and any(kind != atom.kind for kind, _ in atoms)
        if single or (atom.residue, atom.kind, atom.name, atom.place) in seen:
            reason = f"wanted every atom of a residue once, given {line[12:27]!r} again"
            raise fault(path.name, reason, line_number)
        seen.add((atom.residue, atom.kind, atom.name, atom.place))
        best = atoms.get((atom.kind, atom.name))
        if best is None or atom.occupancy > best.occupancy:
            atoms[atom.kind, atom.name] = atom
    if not residues:
        raise fault(path.name, f"wanted atoms of chain {chain!r}, given none")
    sequence, points = "", []
    for atoms in residues.values():
        kind = max(atoms.values(), key=lambda atom: atom.occupancy).kind
        sequence += AMINO_ACIDS.get(kind, "X")
        point = atoms.get((kind, "CA" if kind == "GLY" else "CB"))
        points.append([float("nan")] * 3 if point is None else point.xyz)
    return Chain(sequence, torch.tensor(points, dtype=torch.float64))


def _atom(line: str) -> _Atom:
    residue = line[22:27]
    if not re.fullmatch(r" *-?\d+[ A-Za-z]", residue):
        raise ValueError(f"wanted a residue's number in columns 23 to 26, given {residue!r}")
    try:
        xyz = [number(line[start : start + 8].strip()) for start in (30, 38, 46)]
        occupancy = number(line[54:60].strip() or "1")
    except ValueError:
        raise ValueError(
            "wanted coordinates in columns 31 to 54 and occupancy in 55 to 60, "
            f"given {line[30:60]!r}"
        ) from None
    return _Atom(residue, line[17:20], line[12:16].strip(), line[16], xyz, occupancy)
