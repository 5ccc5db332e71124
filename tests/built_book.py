"""Where the built pages are, and what they are called; for the tests that read them."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HTML = ROOT / "_build" / "html"


def require_built() -> None:
    if not (HTML / ".built").exists():
        pytest.fail("the pages are not built: run `make book` first", pytrace=False)
