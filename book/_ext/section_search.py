"""Search that lands on a section: its index, and the script in the place of Sphinx's own.

Sphinx finds pages, and a chapter is a page as long as thirty screens. Here each section is a
document. The index is a script, not a request, so that the search also works from a file; pagefind
does not, since a browser lets no page on disk load its modules. Code and formulas are left out:
whoever types `cite` does not look for a variable of that name.
"""

import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from tools.chapters import chapters

HERE = Path(__file__).parent
SKIPPED = (
    nodes.literal_block,
    nodes.math,
    nodes.math_block,
    nodes.raw,
    nodes.comment,
    nodes.system_message,
)
# Who asks for a chapter's subject wants the chapter, not a row about it in a table of all chapters,
# nor the class of that name.
CHAPTER, ITS_SECTIONS, OF_TABLES, OF_API = 2.0, 1.5, 0.5, 0.2
TABLES = ("book/notation", "book/claims", "book/costs/")
API = "book/api/"
# Numbers that nobody searches for, and names that have sections of their own.
UNSEARCHED = {"bench-table", "api-names"}
SPHINX = re.compile(
    r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^>]*></script>'
)


def said(node: nodes.Node) -> Iterator[str]:
    """The words of a node without its subsections, code and formulas."""
    for child in node.children:
        if isinstance(child, nodes.Text):
            yield child.astext()
        elif isinstance(child, (*SKIPPED, nodes.section, nodes.title)):
            continue
        elif isinstance(child, pending_xref) and child["reftype"] == "eq":
            continue  # the label of an equation
        elif isinstance(child, nodes.Element) and not UNSEARCHED & set(child.get("classes", [])):
            yield from said(child)
            if not isinstance(child, nodes.Inline):
                yield " "


def weight(document: str, is_chapter: bool, top: bool) -> float:
    if is_chapter:
        return CHAPTER if top else ITS_SECTIONS
    if document.startswith(API):
        return OF_API
    whole = top and not document.startswith(TABLES[-1])
    return OF_TABLES if document.startswith(TABLES) and not whole else 1


def sections(env: BuildEnvironment, document: str) -> Iterator[dict]:
    """One entry a section: where, what it is called, on which page, and what it says."""
    page = ""
    for section in env.get_doctree(document).findall(nodes.section):
        title = next((child for child in section if isinstance(child, nodes.title)), None)
        if title is None:
            continue
        anchor = section["ids"][0]
        top = not page
        page = page or title.astext()
        numbers = env.toc_secnumbers.get(document, {}).get("" if top else f"#{anchor}", ())
        number = ".".join(map(str, numbers))
        yield {
            "at": f"{document}.html" if top else f"{document}.html#{anchor}",
            "title": f"{number} {title.astext()}".strip(),
            "weight": weight(document, document.partition("/")[2] in chapters(), top),
            "page": "" if top else page.partition(":")[0],
            "text": re.sub(r"\s+", " ", "".join(said(section))).strip(),
        }


def index(env: BuildEnvironment, root: Path) -> str:
    """The script: every section, and the synonyms."""
    found = [one for document in sorted(env.found_docs) for one in sections(env, document)]
    synonyms = tomllib.loads((root / "book" / "search.toml").read_text(encoding="utf-8"))
    data = {"sections": found, "synonyms": synonyms["synonyms"]}
    return f"window.bookIndex = {json.dumps(data, ensure_ascii=False, separators=(',', ':'))};\n"


def finish(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    (out / "_static" / "sections.js").write_text(index(app.env, Path(app.srcdir)), encoding="utf-8")
    shutil.copyfile(HERE / "find.js", out / "_static" / "find.js")
    page = out / "search.html"
    text = SPHINX.sub("", page.read_text(encoding="utf-8"))
    ours = '<script src="_static/sections.js"></script><script src="_static/find.js"></script>'
    page.write_text(text.replace("</body>", f"{ours}\n</body>"), encoding="utf-8")
    for name in ("searchindex.js", "_static/searchtools.js", "_static/language_data.js"):
        (out / name).unlink(missing_ok=True)


def setup(app: Sphinx) -> dict:
    app.connect("build-finished", finish, priority=400)  # before what mends finished pages
    return {"parallel_read_safe": True, "parallel_write_safe": True}
