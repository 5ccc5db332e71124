"""All readers of files: the same file in other dress, what is no such file, and broken ones.

Whatever bytes a reader meets, it gives a value or a ValueError that names file and reason (and the
line, where a file has lines): never another exception. That the value is right is asked of
independent readers in tests/test_data_readers_parity.py.
"""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from broken_files import READERS, broken, plain, sample
from hypothesis import given, settings
from hypothesis import strategies as st

from archbook.data.alignments import read_a3m, read_fasta, read_stockholm
from archbook.data.images import read_idx
from archbook.data.motion import read_bvh
from archbook.data.structures import read_pdb

OF_TEXT = [name for name in READERS if name != "idx"]
BOM = b"\xef\xbb\xbf"
each_reader = pytest.mark.parametrize("name", READERS)
DRESS = {
    "byte order mark": lambda data: BOM + data,
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "CR": lambda data: data.replace(b"\n", b"\r"),
    "blanks at the ends of lines": lambda data: data.replace(b"\n", b" \n"),
    "blank lines at the end": lambda data: data + b"\n\n",
}


@pytest.mark.parametrize("dress", DRESS)
@pytest.mark.parametrize("name", OF_TEXT)
def test_a_file_is_read_as_the_same_file_without_its_dress(name, dress, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DRESS[dress](sample(name)))
    bare = tmp_path / "bare"
    bare.write_bytes(sample(name))
    assert plain(READERS[name](path)) == plain(READERS[name](bare))


@each_reader
def test_a_packed_file_is_read_as_it_was(name, tmp_path):
    (tmp_path / "bare").write_bytes(sample(name))
    (tmp_path / "file.gz").write_bytes(gzip.compress(sample(name)))
    found = READERS[name](tmp_path / "file.gz")
    assert plain(found) == plain(READERS[name](tmp_path / "bare"))


@pytest.mark.parametrize(
    "data",
    [b"ATOM", gzip.compress(b"a" * 99, mtime=0)[:-9], b"\x1f\x8b\x08\xff" * 9],
    ids=["text", "cut", "nonsense"],
)
@each_reader
def test_what_is_not_packed_as_its_name_says_is_refused(name, data, tmp_path):
    (tmp_path / "file.gz").write_bytes(data)
    with pytest.raises(ValueError, match="^file.gz: wanted a whole gzip file, given another"):
        READERS[name](tmp_path / "file.gz")


@pytest.mark.parametrize("name", [name for name in OF_TEXT if name != "pdb"])
def test_another_encoding_is_named_with_its_line(name, tmp_path):
    first, rest = sample(name).split(b"\n", 1)
    (tmp_path / "file").write_bytes(first + b"\r" + "é".encode("latin-1") + rest)
    with pytest.raises(
        ValueError, match="^file, line 2: wanted text in UTF-8, given the byte 0xe9"
    ):
        READERS[name](tmp_path / "file")


@pytest.mark.parametrize("name", [name for name in OF_TEXT if name != "pdb"])
def test_a_null_byte_is_named_with_its_line(name, tmp_path):
    first, rest = sample(name).split(b"\n", 1)
    (tmp_path / "file").write_bytes(first + b"\n\0" + rest)
    with pytest.raises(ValueError, match="^file, line 2: wanted text, given a NUL byte"):
        READERS[name](tmp_path / "file")


@pytest.mark.parametrize("sign", "\x0b\x1c\u00a0\u200bé１%")
@pytest.mark.parametrize("name", ["a3m", "fasta", "stockholm"])
def test_a_sign_out_of_place_is_no_letter(name, sign, tmp_path):
    text = sample(name).decode()
    place = text.rindex("D")
    (tmp_path / "file").write_text(text[:place] + sign + text[place:], encoding="utf-8")
    wanted = "(letters and gaps|a name and its letters)"
    with pytest.raises(ValueError, match=rf"^file, line [0-9]+: wanted {wanted}, given"):
        READERS[name](tmp_path / "file")


@pytest.mark.parametrize("read", [read_pdb, read_bvh, read_idx])
def test_a_path_may_be_a_string(read, tmp_path):
    name = read.__name__.removeprefix("read_")
    path = tmp_path / "file"
    path.write_bytes(sample(name))
    chain = ("A",) if read is read_pdb else ()
    assert plain(read(str(path), *chain)) == plain(READERS[name](path))


@pytest.mark.parametrize("read", [read_a3m, read_fasta, read_stockholm])
def test_a_string_is_the_text_and_a_path_given_as_one_is_refused_in_words(read):
    with pytest.raises(ValueError, match=r"^the text, line 1: .*a file is given as a pathlib.Path"):
        read("family.txt")


@each_reader
def test_an_open_file_and_bytes_are_refused_in_words(name, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(sample(name))
    with path.open("rb") as file:
        for wrong, kind in [(file, "BufferedReader"), (sample(name), "bytes")]:
            with pytest.raises(TypeError, match=f"^wanted .*, given {kind}$"):
                READERS[name](wrong)


@each_reader
def test_a_file_that_is_not_there_is_python_s_error(name, tmp_path):
    with pytest.raises(FileNotFoundError):
        READERS[name](tmp_path / "file")


# ---- broken files ----


def outcome(name: str, path: Path) -> str:
    """What becomes of a file; a refusal names it, and the line where it has lines."""
    try:
        READERS[name](path)
    except ValueError as error:
        line = "" if name == "idx" else r"(, line [1-9]\d*)?"
        said = re.match(rf"{re.escape(path.name)}{line}: wanted .*given ", str(error))
        return "refused" if said else f"refused without words: {error}"
    return "read"


@each_reader
def test_a_whole_file_is_read(name, tmp_path):
    (tmp_path / "file").write_bytes(sample(name))
    assert outcome(name, tmp_path / "file") == "read"


@pytest.mark.slow
@each_reader
def test_a_broken_file_is_read_or_refused_in_words(name, tmp_path):
    path = tmp_path / "file"
    outcomes = set()
    for data in broken(sample(name), 250):
        path.write_bytes(data)
        outcomes.add(outcome(name, path))
    assert outcomes == {"read", "refused"}


@each_reader
@settings(max_examples=60)
@given(data=st.data())
def test_any_bytes_are_read_or_refused_in_words(name, tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any"
    words = st.sampled_from(re.split(rb"(\W)", sample(name)))
    lines = st.lists(st.lists(words | st.binary(max_size=3)).map(b"".join)).map(b"\n".join)
    path.write_bytes(data.draw(st.binary() | lines))
    assert outcome(name, path) in ("read", "refused")


letters = st.text("ACDEFGHIKLMNPQRSTVWYXBUZO-", min_size=1, max_size=9)


@settings(max_examples=60)
@given(rows=letters.flatmap(lambda row: st.lists(st.permutations(row).map("".join), min_size=1)))
def test_every_alignment_is_read_as_it_was_written(rows):
    rows = ["A" + row for row in rows]
    names = [f"row{r}" for r in range(len(rows))]
    fasta = "".join(f">{name}\n{row}\n" for name, row in zip(names, rows, strict=True))
    pairs = "".join(f"{name} {row}\n" for name, row in zip(names, rows, strict=True))
    for found in (
        read_a3m(fasta),
        read_fasta(fasta),
        read_stockholm(f"# STOCKHOLM 1.0\n{pairs}//"),
    ):
        assert (list(found.names), list(found.rows)) == (names, rows)


@settings(max_examples=60)
@given(shape=st.lists(st.integers(0, 4), min_size=1, max_size=8))
def test_every_array_of_bytes_is_read_as_it_was_written(tmp_path_factory, shape):
    path = tmp_path_factory.getbasetemp() / "array"
    values = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    sizes = b"".join(size.to_bytes(4, "big") for size in shape)
    path.write_bytes(bytes([0, 0, 8, len(shape)]) + sizes + values.tobytes())
    assert torch.equal(read_idx(path), torch.from_numpy(values))


def test_values_that_differ_are_told_apart():
    """So that the comparisons above mean something."""
    nan = float("nan")
    assert plain(torch.tensor([1.0, nan])) == plain(torch.tensor([1.0, nan]))
    assert plain(torch.tensor([1.0, nan])) != plain(torch.tensor([nan, 1.0]))
    assert plain(torch.zeros(2)) != plain(torch.zeros(2, 1))
