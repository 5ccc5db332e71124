"""The directive `notation-table`: rows of book/notation.csv that belong to one chapter."""

import csv
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from generated import markdown_table
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

COLUMNS = ["symbol", "meaning", "code", "axis"]
TITLES = ["Symbol", "Meaning", "In code", "Axis"]


def read_notation(path: Path) -> list[dict[str, str]]:
    """The rows of the table, in its own order."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class NotationTable(SphinxDirective):
    """Argument: the chapter's stem, or `all` for the symbols that every chapter shares."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir) / "book" / "notation.csv"
        self.env.note_dependency(str(path))
        wanted = self.arguments[0]
        rows = [row for row in read_notation(path) if row["chapter"] == wanted]
        if not rows:
            raise self.error(f"book/notation.csv has no row for the chapter {wanted!r}")
        lines = markdown_table(TITLES, [[row[name] for name in COLUMNS] for row in rows])
        box = nodes.container()
        self.state.nested_parse(StringList(lines, str(path)), self.content_offset, box)
        return box.children


def setup(app: Sphinx) -> dict:
    app.add_directive("notation-table", NotationTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
