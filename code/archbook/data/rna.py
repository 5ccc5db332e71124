"""2,983 RNA families of Rfam 14.2: seed alignments, their base pairs, and what R-scape found.

The source is sets/rna/README.md. A family's structure is its consensus: pairs of columns. Where
that was inferred from the alignment itself (`published` is False), covariation is partly in it.
"""

import json
import lzma
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from archbook.data.manifest import shipped
from archbook.data.wuss import wuss_pairs
from archbook.vocabulary import FIRST_LETTER

LETTERS = "ACGU-N"  # the states of a row; N: every letter that names no single base
BASES, GAP, UNSURE = 4, 4, 5
UNSURE_LETTERS = "NRYSWKMBDHVX"
MOST_GAPS = 0.5  # of a column that `core` keeps

_NO_LETTER = 255
_STATE = np.full(256, _NO_LETTER, np.uint8)
for _state, _letters in enumerate(("Aa", "Cc", "Gg", "UuTt", "-.~", UNSURE_LETTERS)):
    _STATE[list((_letters + _letters.lower()).encode())] = _state


@dataclass(frozen=True)
class RNAFamily:
    """One family. Columns are counted from 0, in all tensors."""

    accession: str  # RF00001
    name: str  # 5S_rRNA
    kind: str  # Rfam's type, "Gene; rRNA;"
    clan: str  # CL00113, or nothing
    published: bool  # the structure comes from a publication, not from a prediction
    rows: UInt8[Tensor, "rows columns"]  # states, places in LETTERS
    pairs: Int64[Tensor, "pairs 2"]  # i < j, in reading order; pseudoknots are pairs like others
    calls: Int64[Tensor, "calls 2"]  # R-scape's significant pairs at full depth, surest first

    @property
    def depth(self) -> int:
        return self.rows.shape[0]

    @property
    def columns(self) -> int:
        return self.rows.shape[1]

    def core(self, most_gaps: float = MOST_GAPS) -> "RNAFamily":
        """The columns of at most so many gaps, and every row once that differs there.

        Pairs and calls that lose a column are left out. Rows keep their order.
        """
        kept = (self.rows == GAP).double().mean(0) <= most_gaps
        place = torch.where(kept, kept.cumsum(0) - 1, -1)
        rows = self.rows[:, kept]
        seen = {row.tobytes(): r for r, row in reversed([*enumerate(rows.numpy())])}
        moved = {name: place[getattr(self, name)] for name in ("pairs", "calls")}
        moved = {name: pairs[(pairs >= 0).all(1)] for name, pairs in moved.items()}
        return replace(self, rows=rows[sorted(seen.values())], **moved)


@cache
def rna_families() -> tuple[RNAFamily, ...]:
    """All families, by accession; kept in memory for the next call, so do not write into them.

    >>> families = rna_families()
    >>> trna = next(family for family in families if family.name == "tRNA")
    >>> trna.rows.shape, trna.pairs.shape
    (torch.Size([954, 118]), torch.Size([21, 2]))
    """
    calls = read_calls(shipped("rna/rscape.json.xz"))
    return read_families(shipped("rna/seed.sto.xz"), calls)


def rna_stockholm(accession: str) -> str:
    """One family of the shipped file as it stands there: the text of a Stockholm file.

    Errors: ValueError for an accession that is not there.

    >>> from archbook.data.alignments import read_stockholm
    >>> thf = read_stockholm(rna_stockholm("RF01831"))  # the THF riboswitch
    >>> thf.depth, thf.base_pairs().shape
    (97, torch.Size([36, 2]))
    """
    path = shipped("rna/seed.sto.xz")
    for block in _text(path).split("# STOCKHOLM")[1:]:
        if re.search(rf"^#=GF AC +{re.escape(accession)}$", block, re.MULTILINE):
            return "# STOCKHOLM" + block
    raise ValueError(f"wanted the accession of a family in {path.name}, given {accession!r}")


def read_families(path: Path, calls: dict[str, list] | None = None) -> tuple[RNAFamily, ...]:
    """The alignments of a Stockholm file (.xz or plain), one after the other.

    Each wants AC, ID, TP, SS_cons and rows in one block; lower case, "." and T are A C G U and gap.
    Errors: ValueError with file, line and reason.
    """
    return tuple(_family(path, block, calls or {}) for block in _blocks(path))


def read_calls(path: Path) -> dict[str, list]:
    """Accession -> R-scape's significant pairs [flag, left, right, E-value], from 1."""
    try:
        table = json.loads(_text(path))
        return {name: entry["significant"] for name, entry in table.items()}
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path.name}: wanted a family's significant pairs, given {error}"
        ) from None


def rna_tokens(rows: Sequence[str]) -> Int64[Tensor, "rows columns"]:
    """Aligned rows as a network of RNA reads them: FIRST_LETTER + a letter's place in LETTERS.

        predict_contacts(network, rna_tokens(read_stockholm(Path("mine.sto")).rows))

    U, T and lower case, gaps and UNSURE_LETTERS as in `read_families`. Errors: ValueError without
    rows and columns, for rows of several lengths, and for other letters, with row and column.
    """
    columns = len(rows[0]) if rows else 0
    if not columns or isinstance(rows, str):
        raise ValueError(f"wanted a sequence of rows with at least one column, given {rows!r}")
    for r, row in enumerate(rows):
        if len(row) != columns:
            raise ValueError(
                f"wanted rows of {columns} columns, as row 0 has, given {len(row)} in row {r}"
            )
    states = _states("".join(rows)).reshape(-1, columns)
    if (wrong := np.argwhere(states == _NO_LETTER)).size:
        r, c = map(int, wrong[0])
        given = f"{rows[r][c]!r} in row {r}, column {c}"
        raise ValueError(f"wanted A C G U, {UNSURE_LETTERS} or a gap, given {given}")
    return torch.from_numpy(states.astype(np.int64)) + FIRST_LETTER


@dataclass
class _Block:
    """What one alignment of the file says; `line` is its first."""

    line: int
    said: dict[str, str]  # AC, ID, ... and SS_cons
    rows: dict[str, tuple[int, str]]  # name -> line, letters


def _states(letters: str) -> np.ndarray:
    """A state for each letter, _NO_LETTER where it is none."""
    return _STATE[np.frombuffer(letters.encode("ascii", "replace"), np.uint8)]


def _text(path: Path) -> str:
    data = path.read_bytes()
    if path.suffix == ".xz":
        try:
            data = lzma.decompress(data)
        except lzma.LZMAError as error:
            raise ValueError(f"{path.name}: wanted a file packed by xz, given {error}") from None
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}: wanted text in UTF-8, given {error}") from None


def _blocks(path: Path) -> Iterator[_Block]:
    block = None
    for number, line in enumerate(_text(path).split("\n"), start=1):
        where = f"{path.name}, line {number}"
        if line.startswith("# STOCKHOLM"):
            if block is not None:
                raise ValueError(f"{where}: wanted '//' before the next alignment, given none")
            block = _Block(number, {}, {})
        elif block is None:
            if line.strip():
                raise ValueError(f"{where}: wanted '# STOCKHOLM 1.0', given {line[:40]!r}")
        elif line.startswith("//"):
            yield block
            block = None
        elif match := re.match(r"#=G[FC]\s+(\S+)\s+(.*\S)", line):
            block.said.setdefault(match[1], match[2])
        elif line.strip() and not line.startswith("#"):
            name, *letters = line.split()
            if len(letters) != 1:
                raise ValueError(f"{where}: wanted a name and its letters, given {line[:40]!r}")
            if name in block.rows:
                raise ValueError(f"{where}: wanted every name once, given {name!r} again")
            block.rows[name] = (number, letters[0])
    if block is not None:
        raise ValueError(f"{path.name}, line {block.line}: wanted '//' at the end, given none")


def _family(path: Path, block: _Block, calls: dict[str, list]) -> RNAFamily:
    where, said = f"{path.name}, line {block.line}", block.said
    if lacking := {"AC", "ID", "TP", "SS_cons"} - said.keys():
        raise ValueError(f"{where}: wanted AC, ID, TP and SS_cons, missing {sorted(lacking)}")
    if not block.rows:
        raise ValueError(f"{where}: wanted at least one row, given none")
    columns = len(said["SS_cons"])
    for line, letters in block.rows.values():
        if len(letters) != columns:
            raise ValueError(
                f"{path.name}, line {line}: wanted {columns} columns as SS_cons has, "
                f"given {len(letters)}"
            )
    rows = _states("".join(letters for _, letters in block.rows.values())).reshape(-1, columns)
    if (wrong := np.argwhere(rows == _NO_LETTER)).size:
        line, letters = [*block.rows.values()][wrong[0, 0]]
        raise ValueError(
            f"{path.name}, line {line}: wanted A C G U, {UNSURE_LETTERS} or a gap, "
            f"given {letters[wrong[0, 1]]!r}"
        )
    try:
        pairs = wuss_pairs(said["SS_cons"])
    except ValueError as error:
        raise ValueError(f"{where}, SS_cons: {error}") from None
    found = calls.get(said["AC"], [])
    called = [(left - 1, right - 1) for _, left, right, _ in sorted(found, key=lambda c: c[3])]
    if outside := [pair for pair in called if not 0 <= pair[0] < pair[1] < columns]:
        raise ValueError(f"{where}: wanted calls in {columns} columns, given {outside[0]}")
    return RNAFamily(
        accession=said["AC"],
        name=said["ID"],
        kind=said["TP"],
        clan=said.get("CL", ""),
        published=said.get("SS", "").startswith("Published"),
        rows=torch.from_numpy(rows),
        pairs=torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
        calls=torch.tensor(called, dtype=torch.int64).reshape(-1, 2),
    )
