"""Faults planted on purpose: the files that list them, and the replacement of one piece of text."""

import tomllib
from pathlib import Path
from typing import Any


def entries(path: Path) -> list[dict[str, Any]]:
    """The entries of the one list that a TOML file holds."""
    ((_, listed),) = tomllib.loads(path.read_text(encoding="utf-8")).items()
    return listed


def replaced_once(texts: list[str], old: str, new: str) -> tuple[int, str]:
    """Which of the texts holds `old`, and that text with `new` in its place.

    Line breaks around both do not count. ValueError: `old` is wanted once in all texts together.
    """
    old, new = old.strip("\n"), new.strip("\n")
    found = sum(text.count(old) for text in texts)
    if found != 1:
        raise ValueError(f"wanted once, found {found} times:\n{old}")
    (which,) = [number for number, text in enumerate(texts) if old in text]
    return which, texts[which].replace(old, new)
