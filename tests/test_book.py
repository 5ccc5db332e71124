"""The built pages: all there, described, asking nothing of another host. Run by `make pages`."""

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from built_book import HTML, ROOT, require_built
from scripts import script
from tools.address import PLACEHOLDER, public_address
from tools.chapters import chapters
from tools.notebooks import pages_in_toc

pytestmark = pytest.mark.book


@pytest.fixture(autouse=True)
def _built():
    require_built()


@pytest.fixture(scope="module")
def offline() -> ModuleType:
    """The extension's own reading of what a browser fetches."""
    pytest.importorskip("sphinx")
    return script("book/_ext/offline.py")


class Page(HTMLParser):
    """The parts of a page that the tests ask about."""

    def __init__(self, path: Path):
        super().__init__()
        self.images: list[dict] = []
        self.links: list[str] = []
        self.identifiers: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if values.get("id"):
            self.identifiers.add(values["id"])
        if tag == "img":
            self.images.append(values)
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])


def pages() -> list[Path]:
    return sorted(HTML.rglob("*.html"))


@pytest.mark.parametrize("document", pages_in_toc())
def test_every_page_of_the_table_of_contents_is_built(document: str):
    assert (HTML / f"{document}.html").exists()


@pytest.mark.parametrize("stem", chapters())
def test_every_figure_of_a_chapter_stands_on_its_page(stem: str):
    """Not in a cell that the page leaves out."""
    cells = nbformat.read(ROOT / "book" / f"{stem}.ipynb", as_version=4).cells
    figures = [cell.metadata.get("mystnb", {}).get("figure") for cell in cells]
    names = {figure["name"] for figure in figures if figure}
    html = (HTML / "book" / f"{stem}.html").read_text(encoding="utf-8")
    assert len(names) >= 3
    assert not [name for name in names if f'id="{name}"' not in html]


def test_no_page_loads_anything_from_another_host(offline):
    found = {
        f"{path.relative_to(HTML)}: {url}"
        for path in pages()
        for url in offline.foreign_requests(path.read_text(encoding="utf-8"))
    }
    assert not found


def test_no_style_sheet_loads_anything_from_another_host(offline):
    found = {
        f"{path.relative_to(HTML)}: {url}"
        for path in sorted(HTML.rglob("*.css"))
        for url in offline.foreign_requests_of_css(path.read_text(encoding="utf-8"))
    }
    assert not found


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example.org/a.js"></script>',
        "<script async\n src=//cdn.example.org/a.js></script>",
        "<link href='http://fonts.example.org/f.css' rel='stylesheet'>",
        '<img alt="" src="https://example.org/a.png">',
        '<link rel="preconnect" href="https://example.org">',
        '<iframe src="https://example.org"></iframe>',
        '<p style="background: url(https://example.org/a.png)">',
        '<style>@import "https://example.org/a.css";</style>',
        "<style>@font-face { src: url('//example.org/f.woff2') }</style>",
    ],
)
def test_the_reading_of_a_page_notices_every_way_to_load(html: str, offline):
    assert len(offline.foreign_requests(html)) == 1


@pytest.mark.parametrize(
    "html",
    [
        '<a href="https://example.org">a link that a reader clicks</a>',
        '<link rel="canonical" href="https://example.org">',
        '<script src="../_static/a.js?v=1"></script>',
        '<img alt="" src="data:image/png;base64,AAAA">',
    ],
)
def test_the_reading_of_a_page_lets_the_rest_pass(html: str, offline):
    assert offline.foreign_requests(html) == []


def test_every_image_has_alternative_text():
    bare = [
        f"{path.relative_to(HTML)}: {image.get('src')}"
        for path in pages()
        for image in Page(path).images
        if not (image.get("alt") or "").strip() and "_static/images/logo_" not in image["src"]
    ]
    assert not bare


def test_alternative_text_is_no_file_name():
    named = [
        image["alt"]
        for path in pages()
        for image in Page(path).images
        if re.search(r"\.(png|svg|jpe?g)$|^_images", image.get("alt") or "")
    ]
    assert not named


def test_links_between_pages_lead_somewhere():
    known = {path.relative_to(HTML).as_posix(): Page(path) for path in pages()}
    broken = []
    for name, page in known.items():
        for link in page.links:
            target, _, fragment = link.partition("#")
            target = target.partition("?")[0]
            if re.match(r"[a-z]+:", link) or link == "#":
                continue
            path = (HTML / name).parent / target if target else HTML / name
            if not path.exists():
                broken.append(f"{name} -> {link}")
                continue
            there = known.get(path.resolve().relative_to(HTML.resolve()).as_posix())
            if fragment and there and fragment not in there.identifiers:
                broken.append(f"{name} -> {link}")
    assert not broken


def test_mathematics_is_served_from_the_book_itself():
    mathjax = HTML / "_static" / "mathjax"
    assert (mathjax / "startup.js").exists()
    assert list((mathjax / "output" / "chtml" / "fonts").rglob("MathJax_Main-Regular.woff"))
    assert (mathjax / "input" / "tex" / "extensions" / "boldsymbol.js").exists()


def test_live_cells_are_not_offered():
    for path in pages():
        assert "thebe" not in path.read_text(encoding="utf-8").lower(), path.name


def shown_on(page: str) -> str:
    text = (HTML / "book" / page).read_text(encoding="utf-8")
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text)))


def typeset(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("'", "’"))


def test_every_claim_of_every_chapter_is_on_the_page_of_claims(claim_tables):
    page = shown_on("claims.html")
    for stem in chapters():
        for claim, verdict, found, _ in claim_tables.rows_of(ROOT / "book" / f"{stem}.ipynb"):
            for part in (claim, verdict, found):
                assert typeset(part) in page, stem


def test_the_first_page_counts_the_verdicts_of_all_chapters(claim_tables):
    counted = claim_tables.tally(ROOT, list(chapters()))
    assert [word.partition(" ")[2] for word in counted] == claim_tables.words(ROOT)
    page = shown_on("intro.html")
    assert f"Of the {sum(counted.values())} claims" in page
    for verdict, count in counted.items():
        sign, _, word = verdict.partition(" ")
        assert f"{sign} {count} {word}" in page


def test_each_link_of_a_claim_leads_to_a_section():
    page = Page(HTML / "book" / "claims.html")
    for stem in chapters():
        links = [one for one in page.links if one.startswith(f"{stem}.html#")]
        assert len(links) >= 4, stem


@pytest.fixture
def claim_tables(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    return script("book/_ext/claim_tables.py")


def test_no_page_leads_to_an_address_that_is_not_there_yet():
    kinds = (".html", ".js", ".ipynb", ".md", ".svg", ".txt")
    deployed = [path for path in HTML.rglob("*") if path.suffix in kinds]
    assert [path for path in deployed if PLACEHOLDER in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("stem", chapters())
def test_a_chapter_is_run_and_downloaded_as_its_plain_notebook(stem: str):
    page = Page(HTML / "book" / f"{stem}.html")
    notebooks = [link for link in page.links if link.endswith(".ipynb")]
    wanted = {f"../_static/{folder}/{stem}.ipynb" for folder in ("notebooks", "assignments")}
    wanted.add(f"http://localhost:8888/lab/tree/{stem}.ipynb")
    address = public_address()
    if address and (colab := address.colab(f"{stem}.ipynb")):
        wanted.add(colab)
    assert set(notebooks) == wanted


def test_citations_are_resolved():
    for path in pages():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\[\?\]|\{cite", text), path.name


def test_no_page_promises_a_result_of_a_gpu():
    for path in pages():
        assert "no GPU result yet" not in path.read_text(encoding="utf-8"), path.name


def test_the_chapters_stand_in_one_order_everywhere():
    def linked(page: str, start: str = "bd-article", end: str = "</article>") -> list[str]:
        text = (HTML / "book" / f"{page}.html").read_text(encoding="utf-8")
        part = text[text.index(start) :].partition(end)[0]
        found = re.findall(r'href="(?:costs/)?(\w+)\.html"', part)
        return [stem for stem in dict.fromkeys(found) if stem in chapters()]

    notation = (ROOT / "book" / "notation.md").read_text(encoding="utf-8")
    orders = {
        "cards": linked("intro", end='id="what-the-papers-claim"'),
        "claims in a line": linked("intro", start='id="what-the-papers-claim"', end="</table>"),
        "claims": linked("claims"),
        "costs": linked("costs"),
        "assignments": linked("teaching", start='id="the-assignments"', end="</table>"),
        "notation": [s for s in re.findall(r"{notation-table} (\w+)", notation) if s in chapters()],
    }
    assert {name: tuple(order) for name, order in orders.items()} == dict.fromkeys(
        orders, chapters()
    )
