"""Which of the libraries that a benchmark compares with are installed here."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

Needs = Mapping[str, tuple[str, ...]]  # the libraries that a candidate needs


def installed(needs: Needs) -> dict[str, str]:
    """The libraries that are here, and their versions.

    >>> list(installed({"ours": ("torch",), "theirs": ("no-such-library",)}))
    ['torch']
    """
    found = {}
    for library in sorted({library for libraries in needs.values() for library in libraries}):
        with suppress(PackageNotFoundError):
            found[library] = version(library)
    return found


def missing(libraries: Iterable[str], here: Mapping[str, str]) -> str | None:
    """Which library a candidate lacks here, in words, or None."""
    absent = next((library for library in libraries if library not in here), None)
    return f"{absent} is not installed" if absent else None
