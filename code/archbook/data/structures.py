"""A protein chain out of a PDB file: its sequence, one point a residue, and which points touch."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

CONTACT = 8.0  # angstrom between the points of two residues in contact: less than this
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

    def valid(self) -> Bool[Tensor, " residues"]:
        """True where the file has the atom."""
        return ~self.positions.isnan().any(1)

    def distances(self) -> Float64[Tensor, "residues residues"]:
        """Angstrom between the points; NaN in the row and the column of a residue without one."""
        return (self.positions[:, None] - self.positions).norm(dim=-1)

    def contacts(self) -> Bool[Tensor, "residues residues"]:
        """Nearer than CONTACT, so True on the diagonal; False where there is no distance."""
        return self.distances() < CONTACT


def read_pdb(path: Path, chain: str) -> Chain:
    """A chain of the first model: the ATOM records, and HETATM ones of MSE, which is read as M.

    Residues are told apart by number and insertion code; other names than the twenty are X. Of the
    alternative places of an atom the one of highest occupancy counts, the first among equals. A
    residue whose C-beta (glycine: C-alpha) is missing stays in the sequence, its position is NaN.
    """
    names: dict[str, str] = {}  # (number and insertion code) -> residue
    atoms: dict[tuple[str, str], tuple[float, list[float]]] = {}  # -> occupancy, x y z
    with path.open(encoding="ascii", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if line.startswith("ENDMDL"):
                break
            hetero = line.startswith("HETATM") and line[17:20] == "MSE"
            if not (line.startswith("ATOM  ") or hetero) or line[21] != chain:
                continue
            residue, atom = line[22:27], line[12:16].strip()
            try:
                xyz = [float(line[start : start + 8]) for start in (30, 38, 46)]
                occupancy = float(line[54:60].strip() or 1)
            except ValueError:
                raise ValueError(
                    "wanted coordinates in columns 31 to 54 and occupancy in 55 to 60, "
                    f"given {line[30:60]!r} in line {number} of {path.name}"
                ) from None
            names.setdefault(residue, line[17:20])
            if (residue, atom) not in atoms or occupancy > atoms[residue, atom][0]:
                atoms[residue, atom] = occupancy, xyz
    if not names:
        raise ValueError(f"wanted atoms of chain {chain!r}, given none in {path.name}")
    missing = 1.0, [float("nan")] * 3
    points = [
        atoms.get((residue, "CA" if name == "GLY" else "CB"), missing)[1]
        for residue, name in names.items()
    ]
    sequence = "".join(AMINO_ACIDS.get(name, "X") for name in names.values())
    return Chain(sequence, torch.tensor(points, dtype=torch.float64))
