"""What the readers of files share: bytes and lines, numbers in them, and errors that say where.

Every error of a reader is a ValueError such as "clip.bvh, line 7: wanted .., given ..". What is no
file at all is left to Python (FileNotFoundError and its kin).
"""

import codecs
import gzip
import math
import os
import re
import zlib
from pathlib import Path

# Python's float also takes "nan", "1_000" and the digits of other scripts.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def fault(name: str, reason: str, line: int | None = None) -> ValueError:
    """The error to raise for a file: its name, its line counted from 1, and what is wrong."""
    return ValueError(f"{name}: {reason}" if line is None else f"{name}, line {line}: {reason}")


def as_path(path: Path | str) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"wanted the path of a file, given {type(path).__name__}")
    return Path(path)


def read_bytes(path: Path) -> bytes:
    """What the file holds, unpacked where its name ends in .gz."""
    data = path.read_bytes()
    if path.suffix != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise fault(path.name, f"wanted a whole gzip file, given another ({error})") from None


def read_text(path: Path) -> str:
    """The file as UTF-8, a byte order mark left out, with "\\n" between lines."""
    data = read_bytes(path).removeprefix(codecs.BOM_UTF8)
    try:
        return with_plain_ends(data.decode())
    except UnicodeDecodeError as error:
        line = with_plain_ends(data[: error.start].decode()).count("\n") + 1
        byte = data[error.start]
        raise fault(path.name, f"wanted text in UTF-8, given the byte 0x{byte:02x}", line) from None


def with_plain_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def lines_of(name: str, text: str) -> list[str]:
    """The lines of a text in which no NUL may stand."""
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise fault(name, "wanted text, given a NUL byte", number)
    return lines


def number(text: str) -> float:
    """A finite decimal number; a bare ValueError, for the reader to say where."""
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"wanted a number, given {text!r}")
    return value
