"""The directives `claim-tables`, every chapter's claims, and `tally`, how many of them held."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from docutils import nodes
from generated import markdown_table, sections
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from tools.chapters import chapters

OURS = "(ours)"
FIRST = "| claim | verdict | what was found | where |"


def cells_of(notebook: Path) -> list[dict]:
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def title_of(notebook: Path) -> str:
    """The chapter's title, as far as its colon."""
    first = "".join(cells_of(notebook)[1]["source"]).splitlines()[0]
    return first.removeprefix("# ").partition(":")[0]


def claims_of(notebook: Path) -> list[str]:
    """The lines of the table that `show_claims` displayed, as the cell stored it."""
    found = [
        lines
        for cell in cells_of(notebook)
        for output in cell.get("outputs", [])
        if (lines := "".join(output.get("data", {}).get("text/markdown", "")).splitlines())
        and lines[0] == FIRST
    ]
    if len(found) != 1:
        raise ExtensionError(f"wanted one table of claims in {notebook.name}, found {len(found)}")
    return found[0]


def rows_of(notebook: Path) -> list[list[str]]:
    """Claim, verdict with its sign, finding, link."""
    return [line.strip("| ").split(" | ") for line in claims_of(notebook)[2:]]


def words(root: Path) -> list[str]:
    """The four, best first, as the package names them."""
    text = (root / "code" / "archbook" / "verdicts.py").read_text(encoding="utf-8")
    return re.findall(r'^[A-Z_]+ = "([a-z ]+)"$', text, re.MULTILINE)


def tally(root: Path, stems: Sequence[str]) -> dict[str, int]:
    """How often each verdict was given on a paper's claim; the keys have its sign: `✓ reproduced`.

    What a chapter asked by itself, marked (ours), is not counted.
    """
    rows = [row for stem in stems for row in rows_of(root / "book" / f"{stem}.ipynb")]
    counted = Counter(verdict for claim, verdict, _, _ in rows if not claim.startswith(OURS))
    order = words(root)
    return dict(sorted(counted.items(), key=lambda one: order.index(one[0].partition(" ")[2])))


class Claims(SphinxDirective):
    """Reads every chapter, in the order of the book."""

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        stems = chapters(root)
        for stem in stems:
            self.env.note_dependency(str(root / "book" / f"{stem}.ipynb"))
        return sections(self, self.lines(root, stems), "claims")

    def lines(self, root: Path, stems: Sequence[str]) -> list[str]:
        lines: list[str] = []
        for stem in stems:
            path = root / "book" / f"{stem}.ipynb"
            lines += [f"(claims-{stem.replace('_', '-')})=", f"## {title_of(path)}", ""]
            lines += ["::::{div} claims", *claims_of(path), "::::", ""]
            lines += [f"From the chapter {{doc}}`{stem}`.", ""]
        return lines


class Tally(Claims):
    """A row for each chapter and one for all."""

    def lines(self, root: Path, stems: Sequence[str]) -> list[str]:
        every = tally(root, stems)
        rows = []
        for stem in stems:
            one = tally(root, [stem])
            link = (
                f"[{title_of(root / 'book' / f'{stem}.ipynb')}](#claims-{stem.replace('_', '-')})"
            )
            rows.append([link, *(str(one.get(word, 0)) for word in every)])
        rows.append(["**All six**", *(f"**{count}**" for count in every.values())])
        return markdown_table(["Chapter", *every], rows)


def setup(app: Sphinx) -> dict:
    app.add_directive("claim-tables", Claims)
    app.add_directive("tally", Tally)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
