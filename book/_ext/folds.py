"""Says on each folded code cell what is in it: the figure or table that it makes, or its names."""

import html
import re
from pathlib import Path

from pages import mend_pages
from sphinx.application import Sphinx

CELL = re.compile(r'(?=<div class="cell [^"]*container">)')
PROMPT = re.compile(r">(?:Show|Hide) code cell source<")
FIGURE = re.compile(r'<span class="caption-number">Fig\. ([\d.]+)')
INPUT = re.compile(r"<pre>(.*?)</pre>", re.DOTALL)
NAMES = re.compile(r"^(?:def|class) (\w+)|^([A-Za-z]\w*)(?:, \w+)* = ", re.MULTILINE)
MOST_NAMES = 3


def content_of(cell: str) -> str:
    """`Code of Fig. 1.2`, `Code of the table below`, or the first names that the cell defines."""
    figure = FIGURE.search(cell)
    if figure:
        return f"Code of Fig. {figure[1]}"
    source, rest = INPUT.search(cell), cell.partition("</details>")[2]
    if '<table class="table' in rest.partition('<div class="cell_output')[2]:
        return "Code of the table below"
    text = html.unescape(re.sub(r"<[^>]+>", "", source[1])) if source else ""
    settings = text.startswith(("import ", "from "))
    if settings and not re.search(r"^(?:def|class) ", text, re.MULTILINE):
        return "Code: imports and settings"
    names = list(dict.fromkeys(a or b for a, b in NAMES.findall(text)))
    more = ", …" if len(names) > MOST_NAMES else ""
    return f"Code: {', '.join(names[:MOST_NAMES])}{more}"


def name_folds(text: str, page: Path) -> str:
    cells = CELL.split(text)
    for at, cell in enumerate(cells):
        if PROMPT.search(cell):
            cells[at] = PROMPT.sub(f">{html.escape(content_of(cell))}<", cell)
    return "".join(cells)


def setup(app: Sphinx) -> dict:
    mend_pages(app, name_folds)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
