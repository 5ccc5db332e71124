"""Alignments of protein sequences, and their three file formats.

Every reader takes a `pathlib.Path` (unpacked where it ends in .gz) or a string, the text itself.
In what it returns letters are upper-case and a gap is "-", which may also be written "_" or "~". In
a3m, lower-case letters and "." stand beside the columns, so `read_a3m` deletes them. In aligned
FASTA and Stockholm every row has every column, and they only say that a column is an insertion:
`read_fasta` and `read_stockholm` keep all columns and turn "." into a gap; `Alignment.on_query`
then leaves those where row 0 has a residue. Rows hold letters, "*" and "?" beside gaps: any other
sign is a ValueError that names file, line and sign, as is all that is no such file.
"""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from archbook.data.alphabet import encode
from archbook.data.manifest import shipped
from archbook.data.reading import fault, lines_of, read_text, with_plain_ends
from archbook.data.wuss import wuss_on, wuss_pairs

ESM_EXAMPLES = ("1a3a", "1xcr", "5ahw")
_GAPS = str.maketrans("._~", "---")
_COLUMNS_OF_A3M = str.maketrans("_~", "--", "abcdefghijklmnopqrstuvwxyz.*")
_STOCKHOLM = "# STOCKHOLM 1.0"
_LEFT_OUT = ("#=GF", "#=GS", "#=GR")  # what Stockholm says of a file, a sequence, a residue
_NO_SIGN_OF_A_ROW = re.compile(r"[^A-Za-z._~*?-]")
# rows that the tools of HH-suite put beside the sequences: states, confidences, accessibilities
_NO_SEQUENCES = {"ss_pred", "ss_conf", "ss_dssp", "sa_pred", "sa_conf", "sa_dssp"}


@dataclass(frozen=True)
class Alignment:
    """Rows of one length, row 0 the query where there is one.

    A name is the whole header line. It is a label only: it may be empty, as in ESM's examples, and
    may come twice. Errors: ValueError without rows or columns, if rows differ in length (the row is
    named) and if row 0 has gaps only. One row is an alignment.
    """

    names: tuple[str, ...]
    rows: tuple[str, ...]
    # a sign for each column, such as "SS_cons" and "RF" of a Stockholm file
    column_annotations: dict[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self):
        if len(self.names) != len(self.rows):
            raise ValueError(
                f"wanted a name for each of the {len(self.rows)} rows, given {len(self.names)}"
            )
        for reason, _ in _faults(self.names, self.rows):
            raise ValueError(reason)
        for name, signs in self.column_annotations.items():
            if len(signs) != self.columns:
                raise ValueError(
                    f"wanted {self.columns} signs of {name}, as many as columns, given {len(signs)}"
                )

    @property
    def depth(self) -> int:
        return len(self.rows)

    @property
    def columns(self) -> int:
        return len(self.rows[0])

    def tokens(self, unknown: str | None = None) -> Int64[Tensor, "rows columns"]:
        """`archbook.data.alphabet.encode` of the rows; unknown="X" reads J, "*" and "?" as X."""
        return encode(self.rows, unknown)

    def on_query(self) -> "Alignment":
        """The columns in which row 0 has a residue; the other rows keep their gaps there."""
        return self.on([c for c, letter in enumerate(self.rows[0]) if letter not in "-."])

    def take(self, rows: Sequence[int]) -> "Alignment":
        """These rows with their names, in this order: the first becomes row 0."""
        if not rows or not 0 <= min(rows) <= max(rows) < self.depth:
            raise ValueError(
                f"wanted at least one row, each out of 0 to {self.depth - 1}, given {list(rows)}"
            )
        names, letters = ([of[r] for r in rows] for of in (self.names, self.rows))
        return Alignment(tuple(names), tuple(letters), self.column_annotations)

    def base_pairs(self) -> Int64[Tensor, "pairs 2"]:
        """Columns i < j that are paired in SS_cons, in reading order, pseudoknots like others.

        Of an RNA, where SS_cons is WUSS notation; after `on` and `on_query` too, those pairs whose
        columns both are there. Errors: ValueError without SS_cons and for what is no WUSS.
        """
        if "SS_cons" not in self.column_annotations:
            given = ", ".join(self.column_annotations) or "no annotation"
            raise ValueError(f"wanted an alignment with SS_cons, given {given}")
        pairs = wuss_pairs(self.column_annotations["SS_cons"])
        return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)

    def on(self, columns: list[int]) -> "Alignment":
        """These columns, in this order. A base pair in SS_cons that loses one is no pair."""
        if not columns or not 0 <= min(columns) <= max(columns) < self.columns:
            raise ValueError(
                f"wanted at least one column, each out of 0 to {self.columns - 1}, given {columns}"
            )
        letters = itemgetter(*columns)

        def cut(row: str) -> str:
            return "".join(letters(row))

        kept = {
            name: wuss_on(signs, columns) if name.startswith("SS_cons") else cut(signs)
            for name, signs in self.column_annotations.items()
        }
        return Alignment(self.names, tuple(map(cut, self.rows)), kept)


def read_a3m(source: Path | str) -> Alignment:
    """An a3m file: lower-case letters, "." and "*" are deleted, row 0 is the query.

    HH-suite's rows of secondary structure (ss_pred, ...) are left out, and lines that start with #
    before the first row. A NUL byte at the end, as ColabFold's server writes it, ends the file;
    elsewhere it parts alignments of several queries, which is refused.
    """
    name, text = _named_text(source)
    lines = lines_of(name, text.rstrip("\n\0"))
    records = _records(name, lines, beside=_NO_SEQUENCES)
    return _alignment(name, [record.translated(_COLUMNS_OF_A3M) for record in records])


def read_fasta(source: Path | str) -> Alignment:
    """Aligned FASTA, as Pfam gives it: all columns stay, "." is a gap, lower case a residue.

    Insertions of an a3m file would make the rows ragged, which is refused: use `read_a3m`.
    """
    name, text = _named_text(source)
    records = _records(name, lines_of(name, text))
    return _alignment(name, [record.translated(_GAPS) for record in records])


def read_stockholm(source: Path | str) -> Alignment:
    """The first alignment of a Stockholm file: all columns stay, "." is a gap.

    Sequences may run over blocks, with a blank line between two blocks. Here the name identifies
    the sequence: a block has each name once, and the names of the first block in their order.
    Of the markup "#=GC" is kept, as `column_annotations`; what is said of the file, of a sequence
    and of single residues ("#=GF", "#=GS", "#=GR") is left out.
    """
    name, text = _named_text(source)
    header, *lines = lines_of(name, text)
    if header.strip() != _STOCKHOLM:
        raise fault(name, f"wanted '{_STOCKHOLM}', given {header[:40]!r}{_hint(name)}", 1)
    blocks: list[dict[str, _Record]] = [{}]
    annotations: dict[str, str] = {}
    for number, line in enumerate(lines, start=2):
        if line.startswith("//"):
            break
        if line.strip() == _STOCKHOLM:
            raise fault(name, f"wanted '//' before the next alignment, given {line!r}", number)
        words = line.split()
        if not words:
            blocks += [{}] if blocks[-1] else []
        elif words[0] == "#=GC":
            if len(words) != 3:
                reason = f"wanted '#=GC', a name and a sign for each column, given {line[:40]!r}"
                raise fault(name, reason, number)
            annotations[words[1]] = annotations.get(words[1], "") + words[2]
        elif line.startswith("#=") and words[0] not in _LEFT_OUT:
            wanted = f"wanted '#=GC' or one of {', '.join(_LEFT_OUT)}"
            raise fault(name, f"{wanted}, given {words[0][:40]!r}", number)
        elif not line.startswith("#"):
            if len(words) != 2:
                raise fault(name, f"wanted a name and its letters, given {line[:40]!r}", number)
            if words[0] in blocks[-1]:
                reason = f"wanted every name once in a block, given {words[0]!r} again"
                raise fault(name, reason, number)
            blocks[-1][words[0]] = _Record(words[0], _signs(name, words[1], number), number)
    else:
        raise fault(
            name, "wanted a line '//' at the end of the alignment, given none", len(lines) + 1
        )
    first, *others = blocks if blocks[-1] else blocks[:-1] or [{}]
    for b, block in enumerate(others, start=1):
        if list(block) != list(first):
            strange = [name for name in {**first, **block} if (name in first) != (name in block)]
            reason = (
                "wanted the names of the first block in their order, "
                f"given {strange or 'another order'} in block {b}"
            )
            raise fault(name, reason, next(iter(block.values())).line)
    rows = [
        _Record(row, "".join(block[row].letters for block in [first, *others]), first[row].line)
        for row in first
    ]
    return _alignment(name, [row.translated(_GAPS) for row in rows], annotations)


def esm_example(code: str) -> Alignment:
    """The alignment of 1a3a, 1xcr or 5ahw from ESM's contact notebook; its rows have no names.

    Depths 1,024, 588 and 1,024 (Rao et al., 2021; made with trRosetta's pipeline). No structures.

    >>> alignment = esm_example("5ahw")
    >>> alignment.depth, alignment.columns, alignment.tokens().shape
    (1024, 125, torch.Size([1024, 125]))
    """
    if code not in ESM_EXAMPLES:
        raise ValueError(f"wanted a code out of {', '.join(ESM_EXAMPLES)}, given {code!r}")
    return read_a3m(shipped(f"msa/esm_examples/{code}_1_A.a3m"))


class _Record(NamedTuple):
    name: str
    letters: str
    line: int  # where it begins

    def translated(self, signs: Mapping[int, int | None]) -> "_Record":
        return self._replace(letters=self.letters.translate(signs).upper())


def _named_text(source: Path | str) -> tuple[str, str]:
    """What errors call it, and the text."""
    if isinstance(source, str):
        return "the text", with_plain_ends(source.removeprefix("\ufeff"))
    if not isinstance(source, os.PathLike):
        given = type(source).__name__
        raise TypeError(f"wanted a pathlib.Path, or the text itself as a str, given {given}")
    path = Path(source)
    return path.name, read_text(path)


def _hint(name: str) -> str:
    return "; a file is given as a pathlib.Path" if name == "the text" else ""


def _records(name: str, lines: list[str], beside: Collection[str] = ()) -> list[_Record]:
    """The records of a FASTA-like text, without those whose first word is one of `beside`."""
    found: list[tuple[str, list[str], int]] = []
    for number, line in enumerate(lines, start=1):
        if line.startswith(">"):
            found.append((line[1:].strip(), [], number))
        elif found:
            left_out = found[-1][0].split(" ")[0] in beside
            signs = line.strip().replace(" ", "")
            found[-1][1].append("" if left_out else _signs(name, signs, number))
        elif line.strip() and not line.startswith("#"):
            reason = "wanted a line that starts with '>' before the first letters"
            raise fault(name, f"{reason}, given {line[:40]!r}{_hint(name)}", number)
    return [
        _Record(header, "".join(parts), number)
        for header, parts, number in found
        if header.split(" ")[0] not in beside
    ]


def _signs(name: str, text: str, line: int) -> str:
    if wrong := _NO_SIGN_OF_A_ROW.search(text):
        raise fault(name, f"wanted letters and gaps, given {wrong[0]!r}", line)
    return text


def _faults(names: Sequence[str], rows: Sequence[str]) -> list[tuple[str, int | None]]:
    """What makes the rows no alignment, and in which row."""
    if not rows:
        return [("wanted at least one row, given none", None)]

    def label(r: int) -> str:
        return f"row {r} ({names[r]!r})"

    if not rows[0]:
        return [(f"wanted at least one column, given none in {label(0)}", 0)]
    wanted = f"wanted rows of {len(rows[0])} columns, as row 0 has"
    found: list[tuple[str, int | None]] = [
        (f"{wanted}, given {len(row)} in {label(r)}", r)
        for r, row in enumerate(rows)
        if len(row) != len(rows[0])
    ]
    if not rows[0].strip("-."):
        found.append((f"wanted a residue in {label(0)}, given gaps only", 0))
    return found


def _alignment(
    name: str, records: list[_Record], annotations: dict[str, str] | None = None
) -> Alignment:
    names = tuple(record.name for record in records)
    rows = tuple(record.letters for record in records)
    for reason, row in _faults(names, rows):
        raise fault(name, reason, None if row is None else records[row].line)
    try:
        return Alignment(names, rows, annotations or {})
    except ValueError as error:
        raise fault(name, str(error)) from None
