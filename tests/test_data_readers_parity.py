"""Parity of the readers with independent ones of the field: Biopython, gemmi, bvhio, idx2numpy.

It runs in an environment of its own: `make parity`. On whole files and on broken ones our reader
gives what theirs gives or a ValueError; so nothing that they find in a file is dropped or changed.
What theirs refuses and ours reads is of the kinds that STRICTER names. All signs for gaps count as
one, and of a Stockholm file the markup that we leave out is left out.
"""

import gzip
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from broken_files import READERS, broken, sample

from archbook.data import shipped, shipped_names
from archbook.data.alignments import ESM_EXAMPLES
from archbook.data.structures import AMINO_ACIDS, read_pdb

# A warning of their import would be an error in our test run.
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

GAPS = str.maketrans("._~", "---")


def peer(library: str):
    return pytest.importorskip(library, reason=f"{library} is not installed: see `make parity`")


def text_of(path: Path) -> io.StringIO:
    return io.StringIO(path.read_bytes().decode(), newline=None)


def by_biopython_fasta(path: Path) -> list[tuple[str, str]]:
    peer("Bio")
    from Bio.SeqIO.FastaIO import SimpleFastaParser

    return [
        (name.strip(), row.translate(GAPS).upper())
        for name, row in SimpleFastaParser(text_of(path))
    ]


def by_biopython_a3m(path: Path) -> list[tuple[str, str]]:
    """Rows as in FASTA; insertions deleted as fair-esm's notebook does it."""
    peer("Bio")
    from Bio.SeqIO.FastaIO import SimpleFastaParser

    insertions = str.maketrans("_~", "--", "abcdefghijklmnopqrstuvwxyz.*")
    return [
        (name.strip(), row.translate(insertions)) for name, row in SimpleFastaParser(text_of(path))
    ]


def by_biopython_stockholm(path: Path) -> tuple:
    peer("Bio")
    from Bio.AlignIO.StockholmIO import StockholmIterator

    left_out = ("#=GF", "#=GS", "#=GR")
    lines = [line for line in text_of(path) if not line.startswith(left_out)]
    found = next(StockholmIterator(io.StringIO("".join(lines))))
    rows = [(row.id, str(row.seq).translate(GAPS).upper()) for row in found]
    return rows, sorted(found.column_annotations.values())


def by_gemmi(path: Path, name: str = "A") -> tuple[str, list]:
    """Sequence and places of a chain, from gemmi's atoms by the rules of `read_pdb`."""
    gemmi = peer("gemmi")
    residues: dict[str, list] = {}  # -> (name of the residue, atom)
    for chain in gemmi.read_pdb(str(path))[0]:
        for residue in chain if chain.name == name else ():
            if residue.het_flag == "A" or residue.name == "MSE":
                atoms = residues.setdefault(str(residue.seqid), [])
                atoms += [(residue.name, atom) for atom in residue]
    sequence, places = "", []
    for atoms in residues.values():
        kind, _ = max(atoms, key=lambda named: named[1].occ)
        sequence += AMINO_ACIDS.get(kind, "X")
        wanted = "CA" if kind == "GLY" else "CB"
        found = [atom for of, atom in atoms if (of, atom.name) == (kind, wanted)]
        best = max(found, key=lambda atom: atom.occ, default=None)
        places.append([math.nan] * 3 if best is None else best.pos.tolist())
    return sequence, places


def by_bvhio(path: Path) -> tuple:
    """Names, frames and offsets, and the places of all joints in each frame, in float32."""
    clip = peer("bvhio").readAsBvh(str(path))
    joints = [joint for joint, _, _ in clip.Root.layout()]
    hierarchy = peer("bvhio").convertBvhToHierarchy(clip.Root)
    places = []
    for frame in range(clip.FrameCount):
        hierarchy.loadPose(frame)
        places.append([list(joint.PositionWorld) for joint, _, _ in hierarchy.layout()])
    offsets = [list(joint.Offset) for joint in joints]
    return [joint.Name for joint in joints], clip.FrameTime, offsets, places


def by_idx2numpy(path: Path) -> np.ndarray:
    data = path.read_bytes()
    found = peer("idx2numpy").convert_from_string(data)
    if found.size + 4 + 4 * found.ndim != len(data):  # it leaves what comes after the values
        raise ValueError("wanted no more bytes than values")
    return found


def same(name: str, ours, theirs) -> bool:
    if name in ("a3m", "fasta"):
        return list(zip(ours.names, ours.rows, strict=True)) == theirs
    if name == "stockholm":
        rows = list(zip(ours.names, ours.rows, strict=True))
        return (rows, sorted(ours.column_annotations.values())) == theirs
    if name == "pdb":
        sequence, places = theirs
        given = torch.tensor(places, dtype=torch.float64).reshape(-1, 3)
        return ours.sequence == sequence and torch.equal(
            ours.positions.nan_to_num(1e9), given.nan_to_num(1e9)
        )
    if name == "idx":
        return ours.tolist() == theirs.tolist()
    names, seconds, offsets, places = theirs
    return (
        [joint.split()[0] for joint in ours.skeleton.names] == names  # theirs: the first word
        and math.isclose(1 / ours.fps, seconds)
        and np.allclose(ours.skeleton.offsets, offsets, rtol=1e-5, atol=1e-6)
        and np.allclose(
            ours.positions(), np.reshape(places, ours.positions().shape), rtol=1e-4, atol=1e-3
        )
    )


THEIRS = {
    "a3m": by_biopython_a3m,
    "fasta": by_biopython_fasta,
    "stockholm": by_biopython_stockholm,
    "pdb": by_gemmi,
    "bvh": by_bvhio,
    "idx": by_idx2numpy,
}
STRICTER = {
    "stockholm": "refuses: $",  # what stands behind the end of the first alignment
    "pdb": "The line is too short",  # without occupancy
    "bvh": "Joint definition must|Offset must|Channel",  # braces on lines of their own
}
each_reader = pytest.mark.parametrize("name", READERS)


@each_reader
def test_a_whole_file_is_read_as_by_an_independent_reader(name, tmp_path):
    (tmp_path / "file").write_bytes(sample(name))
    assert same(name, READERS[name](tmp_path / "file"), THEIRS[name](tmp_path / "file"))


@each_reader
def test_a_broken_file_is_read_as_by_an_independent_reader_or_refused(name, tmp_path):
    path = tmp_path / "file"
    seen = {"same": 0, "refused": 0}
    for data in broken(sample(name), 400, seed=1):
        path.write_bytes(data)
        try:
            ours = READERS[name](path)
        except ValueError:
            seen["refused"] += 1
            continue
        try:
            theirs = THEIRS[name](path)
        except Exception as error:
            seen[f"theirs refuses: {error}"] = 1
            continue
        assert same(name, ours, theirs), data
        seen["same"] += 1
    assert seen.pop("same") > 20
    assert seen.pop("refused") > 20
    assert not [said for said in seen if not re.search(STRICTER.get(name, "^$"), said)]


@pytest.mark.parametrize("path", sorted(n for n in shipped_names() if n.endswith(".pdb")))
def test_every_shipped_structure_is_gemmi_s(path):
    chain = Path(path).stem[-1]
    assert same("pdb", read_pdb(shipped(path), chain), by_gemmi(shipped(path), chain))


@pytest.mark.parametrize("name", ["PF00041", "PF00327", "PF12844"])
def test_shipped_alignments_in_fasta_are_biopython_s(name, tmp_path):
    packed = shipped(f"msa/pfam40/alignments/{name}.align.80.gz")
    (tmp_path / "bare").write_bytes(gzip.decompress(packed.read_bytes()))
    assert same("fasta", READERS["fasta"](packed), by_biopython_fasta(tmp_path / "bare"))


@pytest.mark.parametrize("code", ESM_EXAMPLES)
def test_shipped_alignments_in_a3m_are_biopython_s(code):
    path = shipped(f"msa/esm_examples/{code}_1_A.a3m")
    assert same("a3m", READERS["a3m"](path), by_biopython_a3m(path))


def test_six_channels_at_every_joint_move_it_as_in_bvhio(tmp_path):
    """As Bandai-Namco's files and exports of Blender have them."""
    head, _, _ = sample("bvh").decode().partition("Frames:")
    positions = "Xposition Yposition Zposition"
    head = head.replace("CHANNELS 3", f"CHANNELS 6 {positions}")
    rows = np.random.default_rng(0).normal(0, 30, (3, 6 * head.count("CHANNELS")))
    lines = [" ".join(f"{number:.4f}" for number in row) for row in rows]
    (tmp_path / "six.bvh").write_text(f"{head}Frames: 3\nFrame Time: 0.01\n" + "\n".join(lines))
    assert same("bvh", READERS["bvh"](tmp_path / "six.bvh"), by_bvhio(tmp_path / "six.bvh"))
