"""Where each symbol of book/notation.csv is met first: the first numbered equation of its chapter
that has it, and, for the equation, the way back to the symbol's row.
"""

import json
import re
from pathlib import Path

NUMBERED = re.compile(r"\$\$\s*\n?(.*?)\$\$ \(([\w-]+)\)", re.DOTALL)
# Letters that stand around a symbol and make another of it: `d` is not met in `dr`.
BEFORE, AFTER = r"(?<![A-Za-z\\])", r"(?![A-Za-z])"
LOOSE = re.compile(r"[{}\s]|\\[,;!]|\\left|\\right|\\boldsymbol")
COMMAND = re.compile(r"(\\[A-Za-z]+)[\s{]*(?=[A-Za-z])")
ACCENT = re.compile(r"(\\(?:bar|hat|tilde|dot|vec|mathrm|mathbf|mathcal))~")


def bare(tex: str) -> str:
    """TeX in which two ways to write one symbol are one: `\\bar{A}` and `\\bar A`."""
    return ACCENT.sub(r"\1", LOOSE.sub("", COMMAND.sub(r"\1~", tex)))


def equations(notebook: Path) -> list[tuple[str, str]]:
    """Label and TeX of each numbered equation, from top to bottom."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return [(label, tex) for tex, label in NUMBERED.findall(text)]


def symbols(cell: str) -> list[str]:
    """The formulas of a cell of the table: `$m_t$, $m$` has two."""
    return re.findall(r"\$([^$]+)\$", cell)


def first_use(symbol: str, found: list[tuple[str, str]]) -> str | None:
    """The label of the first equation with this symbol."""
    wanted = re.compile(BEFORE + re.escape(bare(symbol)) + AFTER)
    return next((label for label, tex in found if wanted.search(bare(tex))), None)


def row_label(chapter: str, number: int) -> str:
    return f"notation-{chapter.replace('_', '-')}-{number}"


def uses(root: Path, rows: list[dict[str, str]], chapter: str) -> dict[int, str]:
    """From the place of a row in its chapter's table to the equation that has its symbol first."""
    notebook = root / "book" / f"{chapter}.ipynb"
    if not notebook.exists():
        return {}
    there = equations(notebook)
    found = {}
    for number, row in enumerate(rows):
        labels = [first_use(symbol, there) for symbol in symbols(row["symbol"])]
        first = [label for label, _ in there if label in labels]
        if first:
            found[number] = first[0]
    return found
