"""The directive `claim-tables`: what each chapter's table of claims says, chapter by chapter."""

import json
from pathlib import Path

from docutils import nodes
from generated import sections
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

HEADING = "## Claimed and seen"


def cells_of(notebook: Path) -> list[dict]:
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def title_of(notebook: Path) -> str:
    """The chapter's title, as far as its colon."""
    first = "".join(cells_of(notebook)[1]["source"]).splitlines()[0]
    return first.removeprefix("# ").partition(":")[0]


def claims_of(notebook: Path) -> list[str]:
    """The lines of the table that the chapter shows under that heading, as its cell stored it."""
    cells = cells_of(notebook)
    sources = ["".join(cell["source"]) for cell in cells]
    start = next((i for i, text in enumerate(sources) if HEADING in text.splitlines()), None)
    if start is None:
        raise ValueError(f"wanted a section {HEADING!r} in {notebook.name}, found none")
    for cell in cells[start + 1 :]:
        for output in cell.get("outputs", []):
            lines = "".join(output.get("data", {}).get("text/markdown", "")).splitlines()
            if lines and lines[0].startswith("| claim"):
                return lines
    raise ValueError(f"wanted a table of claims under {HEADING!r} in {notebook.name}, found none")


class ClaimTables(SphinxDirective):
    """Takes the chapters' names, one a line, in the order of the book."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        folder = Path(self.env.srcdir) / "book"
        lines: list[str] = []
        for stem in self.content:
            path = folder / f"{stem}.ipynb"
            self.env.note_dependency(str(path))
            lines += [f"## {title_of(path)}", "", *claims_of(path), ""]
            lines += [f"From the chapter {{doc}}`{stem}`.", ""]
        return sections(self, lines, "claims")


def setup(app: Sphinx) -> dict:
    app.add_directive("claim-tables", ClaimTables)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
