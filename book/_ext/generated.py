"""What the directives share that write Markdown and let Sphinx read it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


def markdown_table(titles: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table, cell for cell; a bar inside a cell is escaped."""
    lines = ["| " + " | ".join(titles) + " |", "|" + " --- |" * len(titles)]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return lines + ["| " + " | ".join(row) + " |" for row in escaped]


def sections(directive: SphinxDirective, lines: Sequence[str], source: str) -> list[nodes.Node]:
    """The nodes of Markdown lines with headings; `source` names them in warnings."""
    box = nodes.section()
    box.document = directive.state.document
    directive.state.nested_parse(
        StringList(list(lines), source), directive.content_offset, box, match_titles=True
    )
    return box.children


def in_order_of_chapters(paths: Iterable[Path], root: Path) -> list[Path]:
    """Files whose folder has a chapter's stem for a name, as _toc.yml orders the chapters."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    pages = [page["file"] for part in toc["parts"] for page in part["chapters"]]
    return sorted(paths, key=lambda path: (pages.index(f"book/{path.parent.name}"), path))
