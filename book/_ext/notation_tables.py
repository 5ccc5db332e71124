"""The directive `notation-table`: rows of book/notation.csv that belong to one chapter, each with
the equation that has its symbol first; and from that equation the way back to the row.
"""

import csv
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from first_uses import row_label, uses
from generated import markdown_table
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

COLUMNS = ["symbol", "meaning", "code", "axis"]
TITLES = ["Symbol", "Meaning", "In code", "Axis", "First used"]
EQUATION = '<div class="math notranslate nohighlight" id="equation-{label}">\n<span class="eqno">'


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
        first = uses(Path(self.env.srcdir), rows, wanted)
        titles = TITLES if first else TITLES[:-1]
        cells = []
        for number, row in enumerate(rows):
            symbol, *others = (row[name] for name in COLUMNS)
            used = [f"{{eq}}`{first[number]}`" if number in first else "–"] if first else []
            cells.append([f"[{symbol}]{{#{row_label(wanted, number)}}}", *others, *used])
        box = nodes.container(ids=[f"notation-{wanted.replace('_', '-')}"])
        lines = markdown_table(titles, cells)
        self.state.nested_parse(StringList(lines, str(path)), self.content_offset, box)
        return [box]


def add_ways_back(app: Sphinx, pagename, templatename, context, doctree) -> None:
    """At the number of an equation that has symbols first: a link to their rows."""
    chapter = pagename.rpartition("/")[2]
    root = Path(app.srcdir)
    rows = read_notation(root / "book" / "notation.csv")
    mine = [row for row in rows if row["chapter"] == chapter]
    linked = set()
    for number, label in uses(root, mine, chapter).items():
        start = EQUATION.format(label=label)
        if label not in linked and start in context.get("body", ""):
            target = f"{context['pathto']('book/notation')}#{row_label(chapter, number)}"
            back = f'<a class="headerlink to-notation" href="{target}" title="Its symbols">≡</a>'
            context["body"] = context["body"].replace(start, start + back)
            linked.add(label)


def setup(app: Sphinx) -> dict:
    app.add_directive("notation-table", NotationTable)
    app.connect("html-page-context", add_ways_back, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
