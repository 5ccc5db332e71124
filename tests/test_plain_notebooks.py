"""The notebooks that Colab and JupyterLab open: the page's text in plain Markdown, the same cells.

They are built with the pages, so most of this runs in `make pages`.
"""

import re
from collections.abc import Iterator
from html import unescape
from types import ModuleType, SimpleNamespace

import nbformat
import pytest
from built_book import HTML, require_built
from markdown_it import MarkdownIt
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from scripts import script
from tools.address import ROOT, package_version, public_address
from tools.chapters import chapters
from tools.first_cell import first_cell
from tools.notebooks import notebooks_in_toc

PLAIN = HTML / "_static" / "notebooks"

# The page's outputs have straight quotes, its text round ones.
PLAIN_QUOTES = str.maketrans("“”‘’", "\"\"''")

every_chapter = pytest.mark.parametrize("stem", chapters())
book = pytest.mark.book


def plain(stem: str) -> NotebookNode:
    require_built()
    return nbformat.read(PLAIN / f"{stem}.ipynb", as_version=4)


def text(stem: str) -> str:
    return "\n\n".join(c.source for c in plain(stem).cells if c.cell_type == "markdown")


def article(stem: str) -> str:
    require_built()
    page = (HTML / "book" / f"{stem}.html").read_text(encoding="utf-8")
    text = page.partition('<article class="bd-article"')[2].partition("</article>")[0]
    return re.sub(r'<div class="live".*?</div>', "", text, flags=re.DOTALL)  # asks for a script


@book
def test_every_notebook_of_the_book_has_one_and_nothing_else_does():
    require_built()
    wanted = {path.stem for path in notebooks_in_toc()}
    assert {path.stem for path in PLAIN.iterdir()} == wanted > set(chapters())


@book
@every_chapter
def test_no_role_and_no_directive_is_left(stem: str):
    shown = [text(stem)]
    for cell in plain(stem).cells:
        shown += [o.data.get("text/markdown", "") for o in cell.get("outputs", []) if "data" in o]
    for one in shown:
        assert not re.search(r"\{[a-z:]+\}`", one)
        assert not re.search(r"^[>\s]*(?:`{3,}|:{3,})\{", one, re.MULTILINE)
        assert not re.search(r"^\([\w-]+\)=$|^\$\$ \(", one, re.MULTILINE)


@book
@every_chapter
def test_code_cells_are_those_of_the_source(stem: str):
    def code(notebook: NotebookNode) -> list[tuple]:
        return [
            (cell.id, cell.source, cell.metadata, cell.execution_count, shown(cell))
            for cell in notebook.cells
            if cell.cell_type == "code"
        ]

    def shown(cell: NotebookNode) -> list[NotebookNode]:
        kept = [o for o in cell.outputs if "scrapbook" not in o.get("metadata", {})]
        for data in (output.get("data", {}) for output in kept):
            if "<svg" in data.get("text/html", ""):  # which JupyterLab would not draw
                del data["text/html"]
                assert data["text/plain"]
        return kept

    source = nbformat.read(ROOT / "book" / f"{stem}.ipynb", as_version=4)
    source.cells[0].source = first_cell(package_version(), public_address())
    built = plain(stem)
    drawn = [cell for cell in built.cells if "<svg" in str(cell.get("outputs", ""))]
    assert drawn == []
    assert code(built) == code(source)
    assert all(shown(cell) == cell.outputs for cell in built.cells if cell.cell_type == "code")


@book
@every_chapter
def test_text_cells_keep_their_names_and_their_order(stem: str):
    source = nbformat.read(ROOT / "book" / f"{stem}.ipynb", as_version=4)
    built = [cell.id for cell in plain(stem).cells if not cell.id.endswith("-caption")]
    assert built == [cell.id for cell in source.cells]


# What is numbered on the page, and the same in the notebook.
NUMBERED = {
    "equations": (r'class="eqno">(?:<a[^>]+>[^<]*</a>)?\(([\d.]+)\)', r"\\tag\{([\d.]+)\}"),
    "theorems": (
        r'caption-number">Proposition ([\d.]+) ',
        r"> (?:<a[^>]+></a>)?\*\*Prop\w+ ([\d.]+)",
    ),
    "exercises": (r'caption-number">Exercise ([\d.]+) ', r"\*\*Exercise ([\d.]+)"),
    "figures": (r'caption-number">Fig. ([\d.]+) ', r"^(?:<a[^>]+></a>)?\*Fig\. ([\d.]+)\*"),
    "sections": (r'section-number">([\d.]+)\. <', r"^#+ (?:<a[^>]+></a>)*([\d.]+)\. "),
}


@book
@every_chapter
@pytest.mark.parametrize("kind", NUMBERED)
def test_numbers_are_those_of_the_page(stem: str, kind: str):
    on_page, in_notebook = NUMBERED[kind]
    wanted = re.findall(on_page, article(stem))
    assert re.findall(in_notebook, text(stem), re.MULTILINE) == wanted
    assert wanted


def letters(html: str) -> str:
    """What is read between the tags, without formulas and spaces."""
    html = re.sub(r'<a class="headerlink".*?</a>', "", html)
    for formula in (r"\\\(.*?\\\)", r"\\\[.*?\\\]"):
        html = re.sub(formula, "", html, flags=re.DOTALL)
    return re.sub(r"\s", "", unescape(re.sub(r"<[^>]+>", "", html)))


@book
@every_chapter
def test_every_paragraph_of_the_page_is_in_the_notebook(stem: str):
    shown = [cell.source for cell in plain(stem).cells if cell.cell_type == "markdown"]
    for cell in plain(stem).cells:
        shown += [o.data.get("text/markdown", "") for o in cell.get("outputs", []) if "data" in o]
    without = re.sub(r"(?<!\\)(\${1,2}).+?\1", "", "\n\n".join(shown), flags=re.DOTALL)
    given = letters(MarkdownIt().enable(["table"]).render(without))
    given = given.translate(PLAIN_QUOTES)
    paragraphs = re.findall(r"<p>(.*?)</p>", article(stem), re.DOTALL)
    wanted = [letters(paragraph).translate(PLAIN_QUOTES) for paragraph in paragraphs]
    assert len(wanted) > 100
    assert [one for one in wanted if one not in given] == []


@book
@every_chapter
def test_links_within_a_notebook_lead_somewhere(stem: str):
    links = re.findall(r"\]\(#([^)]+)\)", text(stem))
    assert set(links) <= set(re.findall(r'<a id="([^"]+)"></a>', text(stem)))
    assert links


# ---- what is refused ----


@pytest.fixture(scope="module")
def writer() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "book" / "_ext")
        yield script("book/_ext/plain_notebooks.py")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("left", "found"),
    [
        ("errs by {glue:text}`error` %", "{glue:text}"),
        ("> as {cite}`rao2021msa` says", "{cite}"),
        ("```{note}\nA box.\n```", "{note}"),
        ("- a list\n\n  ````{prf:proof}\n  So.\n  ````", "{prf:proof}"),
        (":::{dropdown} More\nHidden.\n:::", ":::{dropdown} More"),
    ],
)
def test_a_role_or_directive_that_is_left_names_its_notebook_and_cell(
    writer: ModuleType, left: str, found: str
):
    cells = [new_markdown_cell("# A title"), new_markdown_cell(f"Some text.\n\n{left}\n\nMore.")]
    with pytest.raises(writer.PlainNotebookError) as raised:
        writer.check(new_notebook(cells=cells), "lmu.ipynb")
    wanted = "lmu.ipynb, cell 1: wanted text that every Jupyter reads, given "
    assert str(raised.value) == wanted + found


@pytest.mark.slow
def test_a_role_in_a_table_that_a_cell_shows_is_found_too(writer: ModuleType):
    shown = new_output("display_data", {"text/markdown": "| a |\n| --- |\n| {eq}`x` |"})
    with pytest.raises(writer.PlainNotebookError, match=r"lmu\.ipynb, cell 0: .* given \{eq\}"):
        writer.check(new_notebook(cells=[new_code_cell("show()", outputs=[shown])]), "lmu.ipynb")


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["`{eq}` is a role", "a set $\\{a\\}$`x`", "```python\n{a}\n```", "\\{eq}`x`"]
)
def test_braces_that_are_no_role_pass(writer: ModuleType, text: str):
    writer.check(new_notebook(cells=[new_markdown_cell(text)]), "lmu.ipynb")


def speaking(writer: ModuleType, section, pages: str | None = None, sources: dict | None = None):
    """What says a document that Sphinx has just resolved."""
    environment = SimpleNamespace(
        toc_fignumbers={"book/lmu": {}},
        toc_secnumbers={"book/lmu": {}},
        config=SimpleNamespace(numfig_format={}),
    )
    builder = SimpleNamespace(env=environment, get_target_uri=lambda name: f"{name}.html")
    app = SimpleNamespace(builder=builder)
    return writer.PlainMarkdown(app, "book/lmu", section, pages, sources or {})


@pytest.mark.slow
def test_a_node_without_a_rule_names_its_notebook_and_cell(writer: ModuleType):
    nodes = pytest.importorskip("docutils.nodes")
    said, unsaid = nodes.paragraph("", "", nodes.Text("Said.")), nodes.sidebar()
    said.line, unsaid.line = 30_002, 40_001  # as myst-nb counts: cells 2 and 3
    section = nodes.section("", said, unsaid)
    speaker = speaking(writer, section)
    wanted = "lmu.ipynb, cell 3: wanted a node with a rule in plain_markdown.py, given sidebar"
    with pytest.raises(writer.PlainNotebookError, match=re.escape(wanted)):
        writer.said_by_cell(nodes.section("", section), speaker, "lmu.ipynb")
    section.remove(unsaid)
    assert writer.said_by_cell(nodes.section("", section), speaker, "") == {2: ["Said."]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pages", "reference", "wanted"),
    [
        (None, {"refid": "eq-1"}, "[it](#eq-1)"),
        (None, {"refuri": "#eq-1", "internal": True}, "[it](#eq-1)"),
        (
            None,
            {"refuri": "https://example.org/a", "internal": False},
            "[it](https://example.org/a)",
        ),
        (
            None,
            {"refuri": "bibliography.html#id7", "internal": True},
            "[it](https://doi.org/10.1/a)",
        ),
        (None, {"refuri": "costs.html", "internal": True}, "*it*"),
        (
            "https://ada.github.io/archbook/",
            {"refuri": "costs.html#lmu", "internal": True},
            "[it](https://ada.github.io/archbook/book/costs.html#lmu)",
        ),
    ],
)
def test_a_link_leads_where_it_can_from_a_notebook_that_stands_alone(
    writer: ModuleType, pages: str | None, reference: dict, wanted: str
):
    nodes = pytest.importorskip("docutils.nodes")
    speaker = speaking(writer, nodes.section(), pages, {"id7": "https://doi.org/10.1/a"})
    assert speaker.say("inline", nodes.reference("", "it", **reference)) == wanted
