"""Alignments of protein sequences, and their three file formats.

Every reader takes a `pathlib.Path` (unpacked where it ends in .gz) or a string, the text itself.
In what it returns letters are upper-case and a gap is "-". In a3m, lower-case letters and "." stand
beside the columns, so `read_a3m` deletes them. In aligned FASTA and Stockholm every row has every
column, and they only say that a column is an insertion: `read_fasta` and `read_stockholm` keep all
columns and turn "." into a gap; `Alignment.on_query` then leaves those where row 0 has a residue.
"""

import gzip
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from jaxtyping import Int64
from torch import Tensor

from archbook.data.alphabet import encode
from archbook.data.manifest import shipped

ESM_EXAMPLES = ("1a3a", "1xcr", "5ahw")
_INSERTIONS = str.maketrans("", "", "abcdefghijklmnopqrstuvwxyz.*")
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

    def __post_init__(self):
        if len(self.names) != len(self.rows):
            raise ValueError(
                f"wanted a name for each of the {len(self.rows)} rows, given {len(self.names)}"
            )
        if not self.rows:
            raise ValueError("wanted at least one row, given none")
        if not self.rows[0]:
            raise ValueError(f"wanted at least one column, given none in {self._label(0)}")
        for r, row in enumerate(self.rows):
            if len(row) != self.columns:
                raise ValueError(
                    f"wanted rows of {self.columns} columns, as row 0 has, "
                    f"given {len(row)} in {self._label(r)}"
                )
        if not self.rows[0].strip("-."):
            raise ValueError(f"wanted a residue in {self._label(0)}, given gaps only")

    @property
    def depth(self) -> int:
        return len(self.rows)

    @property
    def columns(self) -> int:
        return len(self.rows[0])

    def tokens(self) -> Int64[Tensor, "rows columns"]:
        """`archbook.data.alphabet.encode` of the rows."""
        return encode(self.rows)

    def on_query(self) -> "Alignment":
        """The columns in which row 0 has a residue; the other rows keep their gaps there."""
        return self.on([c for c, letter in enumerate(self.rows[0]) if letter not in "-."])

    def on(self, columns: list[int]) -> "Alignment":
        """These columns, in this order."""
        if not columns or not 0 <= min(columns) <= max(columns) < self.columns:
            raise ValueError(
                f"wanted at least one column, each out of 0 to {self.columns - 1}, given {columns}"
            )
        letters = itemgetter(*columns)
        return Alignment(self.names, tuple("".join(letters(row)) for row in self.rows))

    def _label(self, r: int) -> str:
        return f"row {r} ({self.names[r]!r})"


def read_a3m(source: Path | str) -> Alignment:
    """An a3m file: lower-case letters, "." and "*" are deleted, row 0 is the query.

    HH-suite's rows of secondary structure (ss_pred, ...) are left out, and lines that start with #.
    """
    named = [(n, s) for n, s in _records(source) if n.split(" ")[0] not in _NO_SEQUENCES]
    return _alignment([(name, sequence.translate(_INSERTIONS)) for name, sequence in named])


def read_fasta(source: Path | str) -> Alignment:
    """Aligned FASTA, as Pfam gives it: all columns stay, "." is a gap, lower case a residue.

    Insertions of an a3m file would make the rows ragged, which is refused: use `read_a3m`.
    """
    return _alignment([(name, _plain(sequence)) for name, sequence in _records(source)])


def read_stockholm(source: Path | str) -> Alignment:
    """The first alignment of a Stockholm file: all columns stay, "." is a gap.

    Sequences may run over blocks, with a blank line between two blocks. Here the name identifies
    the sequence: a block has each name once, and the names of the first block in their order.
    Markup ("#=GC" and others) is skipped. ValueError if the closing "//" is missing.
    """
    header, *lines = _text(source).split("\n")
    if not header.startswith("# STOCKHOLM"):
        raise ValueError(f"wanted '# STOCKHOLM 1.0' in the first line, given {header[:40]!r}")
    blocks: list[dict[str, str]] = [{}]
    for number, line in enumerate(lines, start=2):
        if line.startswith("//"):
            break
        if not line.strip():
            blocks += [{}] if blocks[-1] else []
        elif not line.startswith("#"):
            name, _, sequence = line.strip().replace("\t", " ").partition(" ")
            if not sequence.strip() or " " in sequence.strip():
                raise ValueError(f"wanted a name and its letters, given {line!r} in line {number}")
            if name in blocks[-1]:
                raise ValueError(
                    f"wanted every name once in a block, given {name!r} again in line {number}"
                )
            blocks[-1][name] = _plain(sequence.strip())
    else:
        raise ValueError("wanted a line '//' at the end of the alignment, given none")
    first, *others = blocks if blocks[-1] else blocks[:-1] or [{}]
    for b, block in enumerate(others, start=1):
        if list(block) != list(first):
            strange = [name for name in {**first, **block} if (name in first) != (name in block)]
            raise ValueError(
                "wanted the names of the first block in their order, "
                f"given {strange or 'another order'} in block {b}"
            )
    rows = [(name, "".join(block[name] for block in [first, *others])) for name in first]
    return _alignment(rows)


def esm_example(code: str) -> Alignment:
    """The alignment of 1a3a, 1xcr or 5ahw from ESM's contact notebook; its rows have no names.

    Depths 1,024, 588 and 1,024 (Rao et al., 2021; made with trRosetta's pipeline). No structures.
    """
    if code not in ESM_EXAMPLES:
        raise ValueError(f"wanted a code out of {', '.join(ESM_EXAMPLES)}, given {code!r}")
    return read_a3m(shipped(f"msa/esm_examples/{code}_1_A.a3m"))


def _text(source: Path | str) -> str:
    """The text, with "\\n" between lines."""
    if isinstance(source, Path):
        data = source.read_bytes()
        packed = source.suffix == ".gz"
        source = (gzip.decompress(data) if packed else data).decode("utf-8", "replace")
    return source.replace("\r\n", "\n").replace("\r", "\n")


def _records(source: Path | str) -> list[tuple[str, str]]:
    """(header without ">", letters) of a FASTA-like text."""
    records: list[tuple[str, list[str]]] = []
    for number, line in enumerate(_text(source).split("\n"), start=1):
        if line.startswith(">"):
            records.append((line[1:].strip(), []))
        elif records and not line.startswith("#"):
            records[-1][1].append("".join(line.split()))
        elif line.strip() and not line.startswith("#"):
            raise ValueError(
                f"wanted a line that starts with '>' before the first letters, given {line[:40]!r} "
                f"in line {number}; a file is given as a pathlib.Path"
            )
    return [(name, "".join(parts)) for name, parts in records]


def _plain(sequence: str) -> str:
    return sequence.upper().replace(".", "-")


def _alignment(rows: list[tuple[str, str]]) -> Alignment:
    return Alignment(tuple(name for name, _ in rows), tuple(row for _, row in rows))
