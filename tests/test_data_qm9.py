"""QM9: what the readers return, the split, the atoms' energies and the atoms' features."""

import csv
import hashlib
import shutil
import zipfile
from dataclasses import replace

import pytest
import torch
from drawing import seeded

from archbook.data import qm9 as qm9_module
from archbook.data import sources as sources_module
from archbook.data.qm9 import (
    HARTREE_IN_MEV,
    PROPERTIES,
    Molecules,
    atom_energies,
    atom_features,
    element_counts,
    energies_without_atoms,
    qm9_20k,
    qm9_full,
    split,
)

SYMBOLS = {1: "H", 6: "C", 7: "N", 8: "O", 9: "F"}


@pytest.fixture(scope="module")
def shipped_set() -> Molecules:
    return qm9_20k()


def toy(count: int, seed: int = 0, elements=(1, 6, 7, 8, 9)) -> Molecules:
    """Molecules of 1 to 6 random atoms, numbered 1, 3, 5, ..."""
    generator = seeded(seed)
    sizes = torch.randint(1, 7, (count,), generator=generator)
    atoms = int(sizes.sum())
    return Molecules(
        index=1 + 2 * torch.arange(count),
        sizes=sizes,
        z=torch.tensor(elements)[torch.randint(len(elements), (atoms,), generator=generator)],
        positions=torch.randn(atoms, 3, generator=generator),
        properties=torch.randn(count, 12, generator=generator).double(),
    )


def same(found: Molecules, wanted: Molecules) -> bool:
    return all(torch.equal(getattr(found, key), value) for key, value in vars(wanted).items())


# ---- the shipped set ----


@pytest.mark.shapes
def test_the_shipped_set_has_20000_molecules_of_3_to_29_atoms():
    molecules = qm9_20k()
    assert len(molecules) == 20_000
    assert molecules.sizes.aminmax() == (3, 29)
    assert int(molecules.sizes.sum()) == len(molecules.z) == len(molecules.positions) == 359_848
    assert set(molecules.z.tolist()) == set(SYMBOLS)


def test_counts_are_int64_positions_float32_and_properties_float64(shipped_set):
    dtypes = {key: value.dtype for key, value in vars(shipped_set).items()}
    assert dtypes == {
        "index": torch.int64,
        "sizes": torch.int64,
        "z": torch.int64,
        "positions": torch.float32,
        "properties": torch.float64,
    }


def test_every_molecule_comes_once_in_the_order_of_qm9(shipped_set):
    assert (shipped_set.index.diff() > 0).all()
    assert shipped_set.index.aminmax() == (2, 133_883)


def test_the_first_molecule_is_ammonia(shipped_set):
    ammonia = shipped_set.take(torch.tensor([0]))
    assert (ammonia.index.tolist(), ammonia.z.tolist()) == ([2], [7, 1, 1, 1])
    bonds = (ammonia.positions[1:] - ammonia.positions[0]).norm(dim=1)
    assert bonds.tolist() == pytest.approx([1.017] * 3, abs=1e-3)  # angstrom


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mu", 1.6256),
        ("alpha", 9.46),
        ("homo", -0.257),
        ("lumo", 0.0829),
        ("gap", 0.3399),
        ("R2", 26.1563),
        ("zpve", 0.034358),
        ("U0", -56.525887),
        ("U", -56.523026),
        ("H", -56.522082),
        ("G", -56.544961),
        ("Cv", 6.316),
    ],
)
def test_the_properties_of_ammonia_are_those_that_qm9_prints(shipped_set, name, value):
    assert shipped_set.of(name)[0].item() == value


def test_properties_have_the_units_that_they_say(shipped_set):
    of = shipped_set.of
    torch.testing.assert_close(of("gap"), of("lumo") - of("homo"), atol=2e-4, rtol=0)
    kT = 0.000944  # hartree at 298.15 K
    torch.testing.assert_close(
        of("H") - of("U"), torch.full((20_000,), kT).double(), atol=3e-6, rtol=0
    )


def test_no_two_atoms_lie_closer_than_a_bond_of_hydrogen(shipped_set):
    few = shipped_set.take(torch.arange(300))
    for x in few.positions.split(few.sizes.tolist()):
        assert torch.pdist(x).min() > 0.9


def test_an_unknown_property_is_refused():
    with pytest.raises(ValueError, match=r"wanted a property out of mu, .*Cv, given 'dipole'"):
        toy(2).of("dipole")


# ---- choosing molecules ----


@pytest.mark.shapes
def test_taken_molecules_keep_their_atoms_in_any_order():
    molecules = toy(9)
    start = molecules.sizes.cumsum(0) - molecules.sizes
    taken = molecules.take(torch.tensor([7, 2, 2]))
    rows = [slice(int(start[m]), int(start[m] + molecules.sizes[m])) for m in (7, 2, 2)]
    wanted = Molecules(
        index=torch.tensor([15, 5, 5]),
        sizes=molecules.sizes[[7, 2, 2]],
        z=torch.cat([molecules.z[r] for r in rows]),
        positions=torch.cat([molecules.positions[r] for r in rows]),
        properties=molecules.properties[[7, 2, 2]],
    )
    assert same(taken, wanted)


def test_no_molecules_may_be_taken():
    assert len(toy(3).take(torch.tensor([], dtype=torch.int64)).z) == 0


def test_every_atom_knows_its_molecule():
    molecules = replace(toy(3), sizes=torch.tensor([2, 1, 3]))
    assert molecules.molecule_of_atom().tolist() == [0, 0, 1, 2, 2, 2]


# ---- the full set ----


def written(molecules: Molecules, path) -> None:
    """A table in the columns of the package (some left out), numbers as it writes them."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, quoting=csv.QUOTE_ALL)
        columns = ["Index", "SMILES", "Elements", "XYZ_Ang"]
        table.writerow(columns + [source for source, _ in reversed(PROPERTIES.values())])
        for m in range(len(molecules)):
            one = molecules.take(torch.tensor([m]))
            symbols = ",".join(repr(SYMBOLS[z]) for z in one.z.tolist())
            place = str(one.positions.tolist()).replace(" ", "")
            values = one.properties[0].flip(0).tolist()
            table.writerow([int(one.index), "C,N", f"[{symbols}]", place, *values])


@pytest.fixture
def qm9pack(tmp_path, monkeypatch) -> Molecules:
    """A wheel of twelve molecules in place of the package, brought by a played pip."""
    molecules = toy(12)
    parts = torch.tensor_split(torch.arange(12), 3)
    files = {}
    wheel = tmp_path / "qm9pack-1.0.3-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, part in zip(qm9_module.QM9PACK.files, parts, strict=True):
            written(molecules.take(part), tmp_path / name)
            files[name] = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
            archive.write(tmp_path / name, f"qm9pack/data/{name}")

    def pip(command, folder):
        assert command[-1] == "qm9pack==1.0.3"
        shutil.copy(wheel, folder)

    monkeypatch.setattr(sources_module, "run_client", pip)
    monkeypatch.setenv("ARCHBOOK_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(qm9_module, "QM9PACK", replace(qm9_module.QM9PACK, files=files))
    return molecules


@pytest.mark.shapes
def test_the_full_set_holds_the_package_s_molecules_in_order(qm9pack):
    assert same(qm9_full(), qm9pack)


def test_the_full_set_is_fetched_once(qm9pack, monkeypatch):
    qm9_full()
    monkeypatch.setattr(sources_module, "run_client", None)
    assert len(qm9_full()) == 12


# ---- the split ----


def test_the_parts_have_the_sizes_of_the_set_and_share_nothing(shipped_set):
    parts = split(shipped_set)
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 16_000,
        "valid": 2_000,
        "test": 2_000,
    }
    assert len({n for part in parts.values() for n in part.index.tolist()}) == 20_000


def test_the_split_never_changes(shipped_set):
    parts = split(shipped_set)
    first = {name: part.index[:3].tolist() for name, part in parts.items()}
    assert first == {
        "train": [39422, 68122, 1080],
        "valid": [52829, 12221, 98212],
        "test": [53278, 86423, 65565],
    }


def test_the_split_of_the_full_set_has_the_paper_s_sizes():
    hydrogen = Molecules(
        index=torch.arange(1, 130_832),
        sizes=torch.ones(130_831, dtype=torch.int64),
        z=torch.ones(130_831, dtype=torch.int64),
        positions=torch.zeros(130_831, 3),
        properties=torch.zeros(130_831, 12).double(),
    )
    parts = split(hydrogen)
    assert [len(parts[k]) for k in ("train", "valid", "test")] == [100_000, 17_748, 13_083]


def test_the_hash_of_the_index_alone_sets_the_line():
    parts = split(toy(50), (30, 12, 8))
    line = [n for part in ("test", "valid", "train") for n in parts[part].index.tolist()]
    digests = [hashlib.sha256(str(n).encode()).hexdigest() for n in line]
    assert digests == sorted(digests)
    assert sorted(line) == list(range(1, 100, 2))


def test_a_set_in_another_order_has_the_same_parts():
    molecules = toy(50)
    turned = molecules.take(torch.arange(50).flip(0))
    parts, again = split(molecules, (30, 12, 8)), split(turned, (30, 12, 8))
    assert all(same(again[name], parts[name]) for name in parts)


def test_parts_may_leave_molecules_out():
    parts = split(toy(50), (3, 2, 1))
    whole = split(toy(50), (47, 2, 1))
    assert parts["train"].index.tolist() == whole["train"].index[:3].tolist()


def test_another_number_of_molecules_needs_sizes():
    with pytest.raises(ValueError, match=r"wanted sizes .*given 50 molecules and no sizes"):
        split(toy(50))


@pytest.mark.parametrize("sizes", [(30, 12, 9), (50, 0, 0), (-1, 5, 5)])
def test_parts_that_do_not_fit_are_refused(sizes):
    with pytest.raises(ValueError, match=r"add up to at most 50, given"):
        split(toy(50), sizes)


# ---- the atoms' energies ----


@pytest.mark.shapes
def test_elements_are_counted():
    molecules = replace(toy(2), sizes=torch.tensor([4, 3]), z=torch.tensor([7, 1, 1, 1, 9, 8, 6]))
    assert element_counts(molecules).tolist() == [[3, 0, 1, 0, 0], [0, 1, 0, 1, 1]]


def with_energies(molecules: Molecules, energies) -> Molecules:
    """U0 in place of the toy's, as a sum over the atoms."""
    properties = molecules.properties.clone()
    properties[:, 7] = element_counts(molecules) @ torch.tensor(energies, dtype=torch.float64)
    return replace(molecules, properties=properties)


@pytest.mark.shapes
def test_atom_energies_recover_a_sum_over_atoms():
    energies = [-0.6, -38.1, -54.7, -75.2, -99.8]
    molecules = with_energies(toy(40), energies)
    found = atom_energies(molecules)
    assert found.tolist() == pytest.approx(energies, abs=1e-9)
    assert energies_without_atoms(molecules, found).abs().max() < 1e-6


def test_atom_energies_are_least_squares_without_a_constant():
    molecules = with_energies(toy(40), [0.0] * 5)
    molecules.properties[:, 7] += 1
    counts = element_counts(molecules)
    left = 1 - counts @ atom_energies(molecules)
    assert (counts.mT @ left).abs().max() < 1e-9  # a fitted constant would leave nothing to fit


def test_an_element_that_does_not_occur_gets_no_energy():
    molecules = with_energies(toy(40, elements=(1, 6)), [-0.5, -38.0, 0.0, 0.0, 0.0])
    assert atom_energies(molecules).tolist() == pytest.approx([-0.5, -38, 0, 0, 0], abs=1e-9)


def test_what_atoms_do_not_explain_is_left_in_mev():
    molecules = with_energies(toy(40), [0.0] * 5)
    molecules.properties[:, 7] += 0.001
    left = energies_without_atoms(molecules, torch.zeros(5).double())
    torch.testing.assert_close(left, torch.full((40,), 27.211386).double())


def test_atoms_explain_all_but_a_few_parts_in_ten_thousand_of_the_energy(shipped_set):
    parts = split(shipped_set)
    atoms = atom_energies(parts["train"])
    left = energies_without_atoms(parts["test"], atoms).abs().mean()
    whole = HARTREE_IN_MEV * parts["test"].of("U0").abs().mean()
    assert 5e-5 < left / whole < 2e-4
    assert (atoms.diff() < 0).all()  # more electrons, more energy


def test_other_energies_are_fitted_by_name(shipped_set):
    assert not torch.equal(atom_energies(shipped_set, "G"), atom_energies(shipped_set))


# ---- the atoms' features ----


@pytest.mark.shapes
def test_features_are_the_element_times_powers_of_the_charge():
    found = atom_features(torch.tensor([8, 1]))
    wanted = torch.zeros(2, 15)
    wanted[0, 9:12] = torch.tensor([1.0, 8 / 9, 64 / 81])
    wanted[1, 0:3] = torch.tensor([1.0, 1 / 9, 1 / 81])
    torch.testing.assert_close(found, wanted)


def test_another_element_is_refused():
    with pytest.raises(ValueError, match=r"wanted atomic numbers out of .*, given \[0, 17\]"):
        atom_features(torch.tensor([1, 17, 0, 6]))
