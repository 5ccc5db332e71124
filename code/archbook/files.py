"""Files written whole or not at all, and JSON among them that refuses what JSON cannot hold.

Beside the rooms and without torch, because the runner and the tools both write through it. (The
data cache alone does not: it renames what it has streamed and verified, see `data/fetching.py`.)
"""

import json
import math
import os
import re
import tempfile
from pathlib import Path
from typing import Any


def as_json(value: Any, what: str = "value") -> Any:
    """The value as it comes back from a JSON file; refuses NaN, infinities and foreign types."""
    _refuse_unwritable(value, what)
    return json.loads(json.dumps(value, allow_nan=False))


def _refuse_unwritable(value: Any, what: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{what}: wanted text as key, given {key!r}")
            _refuse_unwritable(item, f"{what}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_unwritable(item, f"{what}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{what}: wanted a finite number, given {value}")
    elif not isinstance(value, str | int | float | bool | None):
        wanted = "a number, text, None, a list or a dict"
        raise TypeError(f"{what}: wanted {wanted}, given {type(value).__name__}")


def write_json(path: Path | str, obj: Any) -> None:
    """Write by renaming a finished file into place: a kill leaves the old file or the new one."""
    _refuse_unwritable(obj, Path(path).name)
    text = json.dumps(obj, indent=1, ensure_ascii=False, allow_nan=False)
    # A list of numbers takes one line: a curve of a thousand points is one line of a diff. (A
    # line break inside a text is written as backslash n, so nothing in a text can match.)
    text = re.sub(r"\[\n\s+([^\[\]{}\"]+?)\n\s*\]", _on_one_line, text)
    write_bytes(Path(path), f"{text}\n".encode())


def _on_one_line(numbers: re.Match) -> str:
    return f"[{' '.join(numbers[1].split())}]"


def write_bytes(path: Path, content: bytes) -> None:
    """Write-then-rename; the unfinished file lies in the same folder, under a name of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(unfinished).chmod(0o644)  # mkstemp keeps others out; a committed file is for all
        Path(unfinished).replace(path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
