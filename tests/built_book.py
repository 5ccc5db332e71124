"""Where the built pages are, and what they are called; for the tests that read them."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
HTML = ROOT / "_build" / "html"


def documents_in_toc() -> list[str]:
    """`book/intro` and every other page that _toc.yml names."""
    found: list[str] = []

    def walk(node) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("file", "root"):
                    found.append(value)
                else:
                    walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
    return found


def require_built() -> None:
    if not (HTML / ".built").exists():
        pytest.fail("the pages are not built: run `make book` first", pytrace=False)
