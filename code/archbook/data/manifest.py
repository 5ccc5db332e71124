"""The small data sets that travel inside the package, each checked against one manifest."""

from difflib import get_close_matches
from pathlib import Path

from archbook.data.checksums import sha256_of
from archbook.data.fetching import DataError

SETS = Path(__file__).parent / "sets"


def shipped_names() -> dict[str, str]:
    """Every shipped file, as path inside `sets/` -> SHA-256, in the manifest's order.

    >>> [name for name in shipped_names() if name.startswith("molecules/")]
    ['molecules/README.md', 'molecules/qm9_20k.npz']
    """
    lines = (SETS / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def shipped(name: str) -> Path:
    """The path of a shipped file such as `"text/tinyshakespeare.txt"`, its SHA-256 verified.

    >>> shipped("text/tinyshakespeare.txt").name
    'tinyshakespeare.txt'
    """
    known = shipped_names()
    if name not in known:
        by_base = [path for path in known if Path(path).name == Path(name).name]
        close = by_base or get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"close matches: {', '.join(close)}" if close else "shipped_names() lists them"
        raise ValueError(f"wanted the name of a shipped file, given {name!r}; {hint}")
    path = SETS / name
    if not path.is_file():
        raise DataError(f"the shipped file {name} is missing from {SETS}; install archbook again")
    if (found := sha256_of(path)) != known[name]:
        raise DataError(
            f"the shipped file {name} was changed: wanted sha256 {known[name]}, given {found}; "
            "restore it from the repository or install archbook again"
        )
    return path
