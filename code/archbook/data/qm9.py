"""QM9: small molecules with their shapes and quantum-chemical properties, and a split of our own.

Beside the readers stands what every model of these molecules needs: the parts to train, validate
and test, the atoms' contribution to the energies, and the paper's features of an atom.
"""

import csv
import hashlib
import re
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from archbook.data.fetching import DataSet, fetch
from archbook.data.manifest import shipped
from archbook.data.sources import PythonWheel

QM9PACK = DataSet(
    name="qm9pack",
    files={
        "qm9_part1.csv": "19f0a5d595462d52cd82eef3370f3e9eb55a1f52cb14985657200349568deff3",
        "qm9_part2.csv": "2bca113fdc0b28a13563c80ed9b240e934f3da6c64c64fe74ddb4f0f36036e61",
        "qm9_part3.csv": "9c5efb5733d2af149db8d95d36ff198b4ffed12d9f7b344220a1e5877d5c6a43",
    },
    sources=(PythonWheel("qm9pack==1.0.3", "qm9pack/data/"),),
)
ELEMENTS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}  # all that occur, with their numbers
PROPERTIES = {  # name -> (the source's name, unit)
    "mu": ("Dipole_debye", "debye"),
    "alpha": ("Polarizability_bohr3", "bohr^3"),
    "homo": ("HOMO_au", "hartree"),
    "lumo": ("LUMO_au", "hartree"),
    "gap": ("HOMO_LUMO_gap_au", "hartree"),
    "R2": ("R2_bohr2", "bohr^2"),
    "zpve": ("ZPVE_au", "hartree"),
    "U0": ("InternalEnergy_0K_au", "hartree"),
    "U": ("InternalEnergy_298K_au", "hartree"),
    "H": ("Enthalphy_298K_au", "hartree"),  # spelt so there
    "G": ("GibbsFreeEnergy_298K_au", "hartree"),
    "Cv": ("Heatcapacity_Cv_cal_mol_K", "cal/(mol K)"),
}
HARTREE_IN_MEV = 27211.386
PARTS = {20_000: (16_000, 2_000, 2_000), 130_831: (100_000, 17_748, 13_083)}
POWERS = 3  # of Z / Z_max in an atom's features


@dataclass(frozen=True)
class Molecules:
    """Molecules one after another: the atoms of molecule m follow those of molecule m - 1."""

    index: Int64[Tensor, " molecules"]  # the molecule's number in QM9, from 1
    sizes: Int64[Tensor, " molecules"]  # its number of atoms
    z: Int64[Tensor, " atoms"]  # atomic numbers
    positions: Float32[Tensor, "atoms 3"]  # angstrom
    properties: Float64[Tensor, "molecules 12"]  # columns and units: PROPERTIES

    def __len__(self) -> int:
        return len(self.index)

    def of(self, name: str) -> Float64[Tensor, " molecules"]:
        """One property, in the unit that PROPERTIES gives."""
        if name not in PROPERTIES:
            raise ValueError(f"wanted a property out of {', '.join(PROPERTIES)}, given {name!r}")
        return self.properties[:, list(PROPERTIES).index(name)]

    def take(self, which: Int64[Tensor, " taken"]) -> "Molecules":
        """Those at the places `which`, 0 .. len - 1, in that order."""
        atoms = self.atoms_of(which)
        return Molecules(
            index=self.index[which],
            sizes=self.sizes[which],
            z=self.z[atoms],
            positions=self.positions[atoms],
            properties=self.properties[which],
        )

    def atoms_of(self, which: Int64[Tensor, " taken"]) -> Int64[Tensor, " atoms"]:
        """The places of the atoms of the molecules at the places `which`."""
        end, size = self.sizes.cumsum(0)[which], self.sizes[which]
        shift = end - size.cumsum(0)  # from an atom's place in the result to its place here
        return torch.arange(int(size.sum())) + shift.repeat_interleave(size)

    def molecule_of_atom(self) -> Int64[Tensor, " atoms"]:
        """For every atom the place of its molecule."""
        return torch.arange(len(self)).repeat_interleave(self.sizes)


def qm9_20k() -> Molecules:
    """The 20,000 shipped molecules, drawn at random from those of `qm9_full`, in QM9's order.

    >>> molecules = qm9_20k()
    >>> len(molecules), molecules.positions.shape
    (20000, torch.Size([359848, 3]))
    >>> molecules.z[: molecules.sizes[0]]  # the elements of the first
    tensor([7, 1, 1, 1])
    """
    with np.load(shipped("molecules/qm9_20k.npz")) as arrays:
        names = arrays["prop_names"].tolist()
        columns = [names.index(source) for source, _ in PROPERTIES.values()]
        return Molecules(
            index=torch.from_numpy(arrays["index"].astype(np.int64)),
            sizes=torch.from_numpy(arrays["num_atoms"].astype(np.int64)),
            z=torch.from_numpy(arrays["z"].astype(np.int64)),
            positions=torch.from_numpy(arrays["pos"].astype(np.float32)),
            properties=torch.from_numpy(arrays["props"][:, columns].astype(np.float64)),
        )


def qm9_full() -> Molecules:
    """The 130,831 molecules (Ramakrishnan et al., 2014) that pass QM9's consistency check.

    3,054 of the 133,885 do not. Fetched once (104 MB) into `cache_dir()`, verified at each load;
    reading takes half a minute. The package states the MIT licence, QM9 itself is under CC0.

    >>> from archbook.data.qm9 import QM9PACK  # what is fetched, and from where
    >>> QM9PACK.name, len(QM9PACK.files)
    ('qm9pack', 3)
    """
    folder = fetch(QM9PACK)
    index, sizes, properties, z, positions = [], [], [], [], []
    for name in QM9PACK.files:
        with (folder / name).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                symbols = re.findall("[A-Z][a-z]?", row["Elements"])
                place = row["XYZ_Ang"].replace("[", "").replace("]", "").split(",")
                index.append(int(row["Index"]))
                sizes.append(len(symbols))
                z += [ELEMENTS[symbol] for symbol in symbols]
                positions.append(np.array(place, np.float64).astype(np.float32))
                properties.append([float(row[source]) for source, _ in PROPERTIES.values()])
    return Molecules(
        index=torch.tensor(index),
        sizes=torch.tensor(sizes),
        z=torch.tensor(z),
        positions=torch.from_numpy(np.concatenate(positions).reshape(-1, 3)),
        properties=torch.tensor(properties, dtype=torch.float64),
    )


def split(molecules: Molecules, sizes: tuple[int, int, int] | None = None) -> dict[str, Molecules]:
    """The parts "train", "valid" and "test", disjoint, of the `sizes` that PARTS gives the set.

    The SHA-256 of a molecule's QM9 index sets its place in line: test takes the first, valid the
    next, train the rest. So each part comes in mixed order and the first n to train are a fair
    sample. Test is the first tenth of the line for either set: what the shipped set tests, the full
    one does not train on, nor the other way round. The sizes of the full set are the paper's, its
    molecules are not.
    """
    if sizes is None:
        if len(molecules) not in PARTS:
            raise ValueError(
                f"wanted sizes for a set of other than {' or '.join(f'{n:,}' for n in PARTS)} "
                f"molecules, given {len(molecules):,} molecules and no sizes"
            )
        sizes = PARTS[len(molecules)]
    train, valid, test = sizes
    if min(sizes) < 1 or sum(sizes) > len(molecules):
        raise ValueError(
            f"wanted sizes of at least 1 that add up to at most {len(molecules):,}, given {sizes}"
        )
    digests = [hashlib.sha256(str(number).encode()).digest() for number in molecules.index.tolist()]
    line = torch.tensor(sorted(range(len(digests)), key=digests.__getitem__))
    parts = line[: train + valid + test].split([test, valid, train])
    return {name: molecules.take(parts[i]) for name, i in (("train", 2), ("valid", 1), ("test", 0))}


def element_counts(molecules: Molecules) -> Float64[Tensor, "molecules 5"]:
    """How many atoms of each of the ELEMENTS a molecule has."""
    one_hot = _one_hot(molecules.z).double()
    counts = one_hot.new_zeros(len(molecules), len(ELEMENTS))
    return counts.index_add(0, molecules.molecule_of_atom(), one_hot)


def atom_energies(molecules: Molecules, name: str = "U0") -> Float64[Tensor, "5"]:
    """The energy of an atom of each element, in hartree, that fits a property as a sum over atoms.

    Least squares over `molecules`, which should be those to train on; no constant. An element
    that does not occur gets zero.
    """
    energies = molecules.of(name)[:, None]
    return torch.linalg.lstsq(element_counts(molecules), energies, driver="gelsd").solution[:, 0]


def energies_without_atoms(
    molecules: Molecules, atoms: Float64[Tensor, "5"], name: str = "U0"
) -> Float64[Tensor, " molecules"]:
    """What a property has beyond the sum of its atoms' energies (`atom_energies`), in meV."""
    return HARTREE_IN_MEV * (molecules.of(name) - element_counts(molecules) @ atoms)


def atom_features(z: Int64[Tensor, " atoms"]) -> Float32[Tensor, "atoms 15"]:
    """The paper's features of an atom: its one-hot element times (Z / Z_max)^p for p = 0, 1, 2.

    Column 3 k + p belongs to element k of ELEMENTS and power p; Z_max = 9, fluorine.
    """
    charge = z.float() / max(ELEMENTS.values())
    powers = charge[:, None] ** torch.arange(POWERS, device=z.device)  # (atoms, 3)
    return (_one_hot(z).float()[:, :, None] * powers[:, None]).flatten(1)


def _one_hot(z: Tensor) -> Tensor:
    known = torch.tensor(list(ELEMENTS.values()), device=z.device)
    one_hot = z[:, None] == known
    if not bool(one_hot.any(1).all()):
        strange = sorted(set(z.tolist()) - set(ELEMENTS.values()))
        raise ValueError(f"wanted atomic numbers out of {known.tolist()}, given {strange}")
    return one_hot
