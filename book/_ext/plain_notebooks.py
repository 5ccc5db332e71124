"""Writes beside the pages each chapter's notebook for JupyterLab and Colab: the same cells, and in
its text no word that only this build can read.

The text is taken from the document as it goes onto the page, all numbers and links in it. Code
cells stay as they are, but for the records that the text took its numbers from.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import nbformat
from docutils import nodes
from markdown_it import MarkdownIt
from mdit_py_plugins.myst_role import myst_role_plugin
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from plain_markdown import PlainMarkdown, UnsaidError
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinxcontrib.bibtex.domain import BibtexDomain
from tools.address import package_version, public_address
from tools.first_cell import first_cell

logger = logging.getLogger(__name__)

FOLDER = "_static/notebooks"
RECORD = "application/papermill.record/"
# Where the fields of an entry lead, the best first.
HOMES = {"doi": "https://doi.org/", "eprint": "https://arxiv.org/abs/", "url": ""}
LINES_PER_CELL = 10_000  # myst-nb counts a notebook's lines so
READ = MarkdownIt().use(myst_role_plugin)


class PlainNotebookError(ValueError):
    """Says which cell of which notebook would not be read everywhere."""


def left_over(text: str) -> list[str]:
    """The roles and directives in a Markdown text, which no reader of notebooks knows."""
    found = []
    for token in READ.parse(text):
        if token.type == "fence" and token.info.startswith("{"):
            found.append(token.info)
        for child in token.children or []:
            if child.type == "myst_role":
                found.append(f"{{{child.meta['name']}}}")
            elif child.content.lstrip().startswith(":::"):
                found.append(child.content)
    return found


def cited_sources(app: Sphinx) -> dict[str, str]:
    """From the anchor of each entry on the bibliography's page to what it cites."""
    found = {}
    for citation in cast(BibtexDomain, app.env.get_domain("cite")).citations:
        fields = citation.entry.fields or {}
        home = next((name for name in HOMES if name in fields), None)
        if home is not None:
            found[citation.citation_id] = HOMES[home] + fields[home]
    return found


def laid_out(parent: nodes.Element, level: int = 0) -> Iterator[tuple[int, nodes.Node]]:
    """What lies in the sections below, each with the level of its heading."""
    for node in parent.children:
        if isinstance(node, nodes.section):
            yield from laid_out(node, level + 1)
        else:
            yield level, node


def line_of(node: nodes.Node) -> int | None:
    return next((one.line for one in node.findall() if one.line), None)


def said_by_cell(
    doctree: nodes.document, speaker: PlainMarkdown, name: str
) -> dict[int, list[str]]:
    """The Markdown of each cell: its own text, or the caption of the figure that it shows."""
    said: dict[int, list[str]] = defaultdict(list)
    here = 0
    for level, node in laid_out(doctree):
        cells = [one for one in node.findall(nodes.Element) if "cell_index" in one.attributes]
        for cell in cells:
            here = cell["cell_index"]
            said[here] += [speaker.caption(figure) for figure in cell.findall(nodes.figure)]
        if cells:
            continue
        here = (line_of(node) or (here + 1) * LINES_PER_CELL) // LINES_PER_CELL - 1
        speaker.level = level
        try:
            said[here].append(speaker.say("block", node))
        except UnsaidError as error:
            raise PlainNotebookError(f"{name}, cell {here}: {error}") from error
    return said


def plain(source: NotebookNode, said: dict[int, list[str]], first: str) -> NotebookNode:
    """The same notebook with its text as it is said, and its first cell."""
    cells = []
    for index, cell in enumerate(source.cells):
        text = "\n\n".join(filter(None, said[index]))
        if cell.cell_type == "markdown":
            cell.source = text
            cells += [cell] if text else []  # a figure to change says nothing here
            continue
        cells.append(cell)
        cell.outputs = [without_drawing(one) for one in cell.outputs if not is_record(one)]
        if text:
            cells.append(new_markdown_cell(text, id=f"{cell.id}-caption"))
    cells[0].source = first
    return NotebookNode({**source, "cells": cells})


def is_record(output: NotebookNode) -> bool:
    """True for what `glue` keeps for the text: nothing that a notebook shows."""
    return any(mime.startswith(RECORD) for mime in output.get("data", {}))


def without_drawing(output: NotebookNode) -> NotebookNode:
    """JupyterLab shows no SVG of a notebook that it does not trust yet, only what stands around it:
    then the words are shown that the cell has for this, until the reader runs it."""
    data = output.get("data", {})
    if "<svg" in data.get("text/html", ""):
        del data["text/html"]
    return output


def markdown_of(cell: NotebookNode) -> Iterator[str]:
    if cell.cell_type == "markdown":
        yield cell.source
    for output in cell.get("outputs", []):
        if "text/markdown" in output.get("data", {}):
            yield output.data["text/markdown"]


def check(notebook: NotebookNode, name: str) -> None:
    nbformat.validate(notebook)
    for index, cell in enumerate(notebook.cells):
        if left := [one for text in markdown_of(cell) for one in left_over(text)]:
            raise PlainNotebookError(
                f"{name}, cell {index}: wanted text that every Jupyter reads, given {left[0]}"
            )


def write(app: Sphinx, doctree: nodes.document, document: str) -> None:
    path = Path(app.env.doc2path(document))
    if app.builder.format != "html" or path.suffix != ".ipynb":
        return
    root = Path(app.srcdir)
    address = public_address(root)
    pages = address and address.pages
    speaker = PlainMarkdown(app, document, doctree, pages, cited_sources(app))
    first = first_cell(package_version(root), address)
    try:
        said = said_by_cell(doctree, speaker, path.name)
        notebook = plain(nbformat.read(path, as_version=4), said, first)
        check(notebook, path.name)
    except PlainNotebookError as error:
        logger.warning("%s", error)
        return
    folder = Path(app.outdir) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / path.name).write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def setup(app: Sphinx) -> dict:
    # After every extension that changes a document on its way to the page.
    app.connect("doctree-resolved", write, priority=950)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
