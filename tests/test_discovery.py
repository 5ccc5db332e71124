"""What links, search engines and previews find: descriptions, pictures, the line under a title."""

import re
import types
from html.parser import HTMLParser
from pathlib import Path

import pytest
from built_book import HTML, ROOT, require_built
from PIL import Image
from scripts import script
from tools.address import public_address
from tools.chapters import chapters
from tools.notebooks import pages_in_toc

every_page = pytest.mark.parametrize("document", pages_in_toc())
every_chapter = pytest.mark.parametrize("stem", chapters())


class Head(HTMLParser):
    def __init__(self, path: Path):
        super().__init__()
        require_built()
        self.meta: dict[str, str] = {}
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "meta" and values.get("content"):
            self.meta[values.get("name") or values.get("property") or ""] = values["content"]
        if tag == "link" and values.get("rel") == "canonical":
            self.links.append(values["href"])


def text_of(name: str) -> str:
    require_built()
    return (HTML / name).read_text(encoding="utf-8")


@pytest.mark.book
@every_page
def test_a_page_is_described(document: str):
    head = Head(HTML / f"{document}.html")
    assert 40 < len(head.meta["description"]) <= 200
    assert head.meta["og:title"]


@pytest.mark.book
def test_no_two_chapters_have_one_description():
    found = {Head(HTML / "book" / f"{stem}.html").meta["description"] for stem in chapters()}
    assert len(found) == len(chapters())


@pytest.mark.parametrize("name", [*chapters(), "intro"])
def test_a_preview_has_the_size_that_networks_ask_for(name: str):
    path = ROOT / "book" / "_static" / "previews" / f"{name}.png"
    assert Image.open(path).size == (1200, 630)
    assert path.stat().st_size < 100_000


@pytest.mark.book
def test_no_title_has_the_name_of_the_book_twice():
    for path in HTML.rglob("book/**/*.html"):
        (title,) = re.findall(r"<title>(.*?)</title>", path.read_text(encoding="utf-8"))
        assert title.count("Six Architectures, Derived") == 1, path.name


@pytest.mark.book
@pytest.mark.parametrize("name", ["index.html", "404.html"])
def test_pages_outside_the_book_are_whole(name: str):
    text = text_of(name)
    assert text.startswith("<!DOCTYPE html>")
    assert '<html lang="en">' in text
    assert "<title>Six Architectures, Derived</title>" in text
    assert 'href="' in text


@pytest.mark.book
def test_a_page_names_its_address_where_there_is_one():
    address = public_address()
    home = address and address.pages
    wanted = [f"{home}book/lmu.html"] if home else []
    assert Head(HTML / "book" / "lmu.html").links == wanted
    assert (HTML / "sitemap.xml").exists() == bool(home)
    assert text_of("robots.txt").startswith("User-agent: *\nAllow: /\n")


@pytest.fixture
def discovery(monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    return script("book/_ext/discovery.py")


def app_at(base: str, out: Path) -> types.SimpleNamespace:
    config = types.SimpleNamespace(
        html_baseurl=base, root_doc="book/intro", html_title="A book", language="en", author="us"
    )
    return types.SimpleNamespace(
        config=config,
        outdir=out,
        srcdir=ROOT,
        builder=types.SimpleNamespace(format="html"),
        env=types.SimpleNamespace(found_docs={"book/lmu", "book/intro"}),
    )


def test_with_an_address_there_is_a_map_and_robots_know_it(discovery, tmp_path: Path):
    discovery.finish(app_at("https://example.org/book/", tmp_path), None)
    places = re.findall(r"<loc>(.*?)</loc>", (tmp_path / "sitemap.xml").read_text())
    home = "https://example.org/book/"
    assert places == [f"{home}book/intro.html", f"{home}book/lmu.html"]
    assert f"Sitemap: {home}sitemap.xml" in (tmp_path / "robots.txt").read_text()
    assert f'href="{home}book/intro.html"' in (tmp_path / "404.html").read_text()


@pytest.mark.parametrize(
    ("page", "picture"), [("book/lmu", "lmu"), ("book/costs/lmu", "lmu"), ("book/claims", "intro")]
)
def test_with_an_address_a_page_has_a_picture(discovery, tmp_path: Path, page: str, picture: str):
    assert discovery.preview(app_at("", tmp_path), page) == f"_static/previews/{picture}.png"


@pytest.mark.book
@every_chapter
def test_under_a_title_stand_paper_code_api_results_notation_and_assignment(stem: str):
    text = text_of(f"book/{stem}.html")
    (line,) = re.findall(r'</h1>\s*<p class="chapter-line">(.*?)</p>', text)
    words = re.sub(r"<[^>]+>", "", line).split(" · ")
    assert [word.partition(":")[0] for word in words] == [
        "Paper",
        "Code",
        "API",
        "Results",
        "Notation",
        "Assignment",
    ]
    assert re.search(r'href="https://[^"]+">Paper', line)
    assert f'href="costs/{stem}.html"' in line
    assert f'href="api/{stem}.html"' in line
    anchor = f"notation-{stem.replace('_', '-')}"
    assert f'href="notation.html#{anchor}"' in line
    assert f'id="{anchor}"' in text_of("book/notation.html")


@pytest.mark.book
@every_chapter
def test_a_symbol_leads_to_its_first_equation_and_back(stem: str):
    notation, chapter = text_of("book/notation.html"), text_of(f"book/{stem}.html")
    rows = re.findall(rf'id="notation-{stem.replace("_", "-")}-\d+"', notation)
    labels = re.findall(rf'href="{stem}.html#(equation-[\w-]+)"', notation)
    assert len(labels) >= len(rows) / 2
    for label in set(labels):
        (number,) = re.findall(
            rf'id="{label}">\s*<span class="eqno">(.*?)</span>', chapter, re.DOTALL
        )
        (back,) = re.findall(r'href="notation.html#(notation-[\w-]+)"', number)
        assert f'id="{back}"' in notation


@pytest.mark.book
def test_every_page_says_version_licence_citation_and_changes():
    for document in pages_in_toc():
        (footer,) = re.findall(r'<p class="book-footer">(.*?)</p>', text_of(f"{document}.html"))
        targets = re.findall(r'href="[^"#]*#(\w+)"', footer)
        assert targets == ["licence", "cite", "changelog"]
        assert re.search(r"v\d+\.\d+\.\d+", footer)
