"""The printed edition: the document that the pages are joined into, and the PDF that is made of it.

The tests of the joined document run anywhere; those of the PDF where Chromium is, in `make pages`.
"""

import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from built_book import require_built
from chromium import CHROMIUM, PATIENCE
from pypdf import PageObject, PdfReader
from pypdf.generic import DictionaryObject
from tools.address import package_version
from tools.chapters import chapters
from tools.printed import DOCUMENT, HTML, PDF
from tools.printed.join import (
    Page,
    contents,
    entries,
    join,
    name_of,
    printed_pages,
    solutions,
)

COLUMN = {"width": 643, "height": 900}  # A4 without its margins, in CSS pixels

# ---- the document ----

CHAPTER = """<article class="bd-article"><section id="a-title">
<h1>1. A title<a class="headerlink" href="#a-title">#</a></h1>
<p class="chapter-line"><a href="https://arxiv.org/abs/1">Paper</a> · <a
href="api/lmu.html">API</a> · <a href="costs/lmu.html">Results</a> · <a
href="../_static/assignments/lmu.ipynb">Assignment</a></p>
<details class="hide"><summary>Code of Fig. 1.1</summary><pre>hidden</pre></details>
<p>Let <span class="math">x</span>, then <span class="math">y</span> holds.</p>
<figure><a href="../_images/one.png"><picture><source srcset="narrow.png">
<img src="../_images/one.png" loading="lazy" alt="One"></picture></a>
<div class="live">what a script draws</div></figure>
<section id="law"><h2>1.0. The law</h2><span id="named"></span>
<section id="one"><span id="called"></span><h3>1.0.1. One</h3></section></section>
<section id="exercises"><h2>1.1. Exercises</h2>
<div class="exercise admonition" id="ex-one"><p class="admonition-title">Exercise 1.1</p></div>
<div class="solution dropdown admonition" id="book/lmu-solution-1">
<p class="admonition-title">Solution to<a href="#ex-one"> Exercise 1.1</a></p><p>Two.</p></div>
</section></section></article>"""
COSTS = """<article class="bd-article"><section id="costs"><h1>What it costs</h1>
<div class="cost-answer"><table><tr><td>1.2</td></tr></table></div>
<section><h2>All measurements</h2><p>File: bench.json.</p>
<section id="lengths"><h3>Against the length</h3>
<details><div class="bench-table"><table><tr><td>3.4</td></tr></table></div></details>
</section></section></section></article>"""
PAGES = {"book/lmu": CHAPTER, "book/costs/lmu": COSTS}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for name, text in PAGES.items():
        path = tmp_path / f"{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def chapter(site: Path) -> Page:
    return Page(site, "book/lmu", PAGES)


def test_names_and_links_are_of_the_whole_document(chapter: Page):
    names = {one["id"] for one in chapter.article.select("[id]")}
    assert {name_of("book/lmu", "a-title"), "book-lmu--exercises", "book-lmu--ex-one"} <= names
    assert chapter.article["id"] == "book-lmu"
    leads = [link["href"] for link in chapter.article.select("a")]
    assert leads == ["https://arxiv.org/abs/1", "#book-costs-lmu", "#book-lmu--ex-one"]


def test_a_link_to_another_page_says_on_which_page(chapter: Page):
    (reference,) = chapter.article.select(".on-page")
    assert reference.get_text() == " (p. 000)"
    assert reference.select("[data-page]")[0]["data-page"] == "book-costs-lmu"


def test_a_download_has_no_link_while_there_is_no_address(chapter: Page):
    line = chapter.article.select(".chapter-line")[0].get_text()
    assert line.endswith("Results (p. 000)")


def test_a_page_that_is_not_printed_has_no_link_while_there_is_no_address(chapter: Page):
    line = chapter.article.select(".chapter-line")[0].get_text()
    assert re.sub(r"\s+", " ", line).startswith("Paper · Results")


def test_a_download_has_its_public_address(site: Path):
    page = Page(site, "book/lmu", PAGES, "https://a.org/")
    found = {one.get_text(): one["href"] for one in page.article.select("a")}
    assert found["Assignment"] == "https://a.org/_static/assignments/lmu.ipynb"
    assert found["API"] == "https://a.org/book/api/lmu.html"


def test_what_only_a_screen_can_use_goes_and_the_picture_stays(chapter: Page):
    text = str(chapter.article)
    assert not re.search("hidden|a script draws|narrow.png|headerlink|lazy", text)
    assert [one["src"] for one in chapter.article.select("img")] == ["../html/_images/one.png"]


def test_two_headings_stand_side_by_side_so_that_no_page_ends_between_them(chapter: Page):
    (law,) = chapter.article.select("#book-lmu--law")
    assert [(one.name, one.get("id")) for one in law.find_all(recursive=False)] == [
        ("h2", None),
        ("h3", "book-lmu--one"),
    ]
    assert [one["id"][10:] for one in law.select("h3 > span")] == ["named", "called"]


def test_a_mark_stays_with_the_formula_before_it(chapter: Page):
    assert [one.get_text() for one in chapter.article.select(".together")] == ["x,"]
    assert "Let x, then y holds." in chapter.article.get_text()


def test_solutions_leave_the_page_and_both_ends_know_the_other(chapter: Page):
    whole = solutions([chapter])
    assert "Two." not in chapter.article.get_text()
    (exercise,) = chapter.article.select(".exercise")
    (solution,) = whole.select(".solution")
    assert [one["href"] for one in exercise.select("a")] == [f"#{solution['id']}"]
    assert [one["data-page"] for one in solution.select("[data-page]")] == [exercise["id"]]


def test_a_solution_without_its_exercise_is_refused(site: Path):
    path = site / "book" / "lmu.html"
    path.write_text(CHAPTER.replace('id="ex-one"', 'id="ex-two"'), encoding="utf-8")
    page = Page(site, "book/lmu", PAGES)
    with pytest.raises(ValueError, match="wanted the exercise of book-lmu--book-lmu-solution-1"):
        page.take_solutions()


def test_a_page_without_text_is_refused(site: Path):
    (site / "book" / "lmu.html").write_text("<p>Nothing.</p>", encoding="utf-8")
    with pytest.raises(ValueError, match=r"wanted an article in book/lmu\.html, found none"):
        Page(site, "book/lmu", PAGES)


def test_measurements_are_left_out_and_their_names_stay(site: Path):
    page = Page(site, "book/costs/lmu", PAGES).article
    assert "1.2" in page.get_text()
    assert "3.4" not in page.get_text()
    assert "File: bench.json. Its tables are not printed here." in page.get_text()
    assert page.select("#book-costs-lmu--lengths")


def test_the_contents_list_titles_and_named_sections(site: Path):
    listed = entries([Page(site, name, PAGES).article for name in PAGES])
    assert [(one.level, one.title) for one in listed] == [
        (1, "1. A title"),
        (2, "1.0. The law"),
        (2, "1.1. Exercises"),
        (1, "What it costs"),
    ]
    text = BeautifulSoup(contents(listed), "html.parser")
    assert [one["href"] for one in text.select("a")] == [f"#{one.name}" for one in listed]


@pytest.fixture(scope="module")
def document() -> BeautifulSoup:
    require_built()
    return BeautifulSoup(join(HTML, DOCUMENT.parents[2])[0], "html.parser")


@pytest.mark.book
def test_every_page_stands_in_the_document_with_the_solutions_behind_the_chapters(
    document: BeautifulSoup,
):
    order = [one["id"] for one in document.select("section.page")]
    wanted = [name_of(page) for page in printed_pages()]
    wanted.insert(wanted.index(name_of(f"book/{chapters()[-1]}")) + 1, "solutions")
    assert order == ["cover", "contents", *wanted]


@pytest.mark.book
def test_no_link_of_the_document_leads_nowhere(document: BeautifulSoup):
    names = {one["id"] for one in document.select("[id]")}
    leads = [str(link["href"]) for link in document.select("a[href]")]
    assert len(leads) > 500
    assert [one for one in leads if not one.startswith("http") and one[1:] not in names] == []


@pytest.mark.book
def test_every_exercise_has_its_solution_at_the_end(document: BeautifulSoup):
    exercises = document.select(".exercise")
    assert len(exercises) >= 6 * len(chapters())
    assert len(document.select("#solutions .solution")) == len(exercises)
    assert len(document.select(".solution")) == len(exercises)


@pytest.mark.book
def test_figures_and_equations_have_numbers_and_folded_code_is_not_there(document: BeautifulSoup):
    assert len(document.select("figcaption .caption-number")) >= 5 * len(chapters())
    assert len(document.select("div.math .eqno")) > 40
    assert document.select("details.hide, .live, .headerlink, button") == []


# ---- the PDF ----


@pytest.fixture(scope="module")
def pdf() -> PdfReader:
    if CHROMIUM is None:
        pytest.skip("NO PDF WAS TESTED: no chromium here, which prints it")
    if not PDF.exists():
        pytest.fail("the book is not printed: run `make pdf` first", pytrace=False)
    return PdfReader(PDF)


@pytest.fixture(scope="module")
def streams(pdf: PdfReader) -> list[bytes]:
    """What draws each page."""
    return [stream_of(page) for page in pdf.pages]


def stream_of(page: PageObject) -> bytes:
    stream = page.get_contents()
    return b"" if stream is None else stream.get_data()


def glyphs(stream: bytes) -> int:
    return stream.count(b" Tj")


def outline(pdf: PdfReader) -> list[tuple[int, str, int]]:
    """Level, title and page of each line."""

    def walk(lines: list, level: int) -> Iterator[tuple[int, str, int]]:
        for one in lines:
            if isinstance(one, list):
                yield from walk(one, level + 1)
                continue
            number = pdf.get_destination_page_number(one)
            assert number is not None
            yield level, str(one.title), number + 1

    return list(walk(pdf.outline, 1))


def flat(text: str) -> str:
    """Without spaces, and ligatures as their letters: what a PDF says for certain."""
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text))


@pytest.mark.browser
def test_the_cover_names_book_authors_version_and_licence(pdf: PdfReader):
    text = flat(pdf.pages[0].extract_text())
    for part in ("SixArchitectures,Derived", "Thearchbookauthors", "CCBY4.0"):
        assert part in text
    assert f"Version{package_version()}," in text
    about = pdf.metadata
    assert about is not None
    assert (about.title, about.author) == ("Six Architectures, Derived", "The archbook authors")


@pytest.mark.browser
def test_the_outline_has_every_title_and_leads_to_it(pdf: PdfReader, document: BeautifulSoup):
    titles = {title: number for level, title, number in outline(pdf) if level == 1}
    parts = document.select("section.page:not(#cover, #contents)")
    assert list(titles) == [part.select("h1")[0].get_text().strip() for part in parts]
    for title, number in titles.items():
        text = flat(pdf.pages[number - 1].extract_text())
        assert text.count(flat(title)) >= 2, title  # above the page, and as its title


@pytest.mark.browser
def test_the_contents_are_the_outline_with_its_page_numbers(pdf: PdfReader):
    listed = outline(pdf)
    first = listed[0][2]
    pages = [flat(page.extract_text()) for page in pdf.pages[1 : first - 1]]
    said = "".join(text.removeprefix(str(number)) for number, text in enumerate(pages, 2))
    assert said == "Contents" + "".join(f"{flat(title)}{number}" for _, title, number in listed)


@pytest.mark.browser
def test_page_numbers_in_the_text_are_those_of_the_pages(pdf: PdfReader):
    exercise = pdf.named_destinations["/book-lmu--ex-lmu-hand"]
    number = pdf.get_destination_page_number(exercise)
    assert number is not None
    (solved,) = (at for level, title, at in outline(pdf) if title == "Solutions")
    text = flat(pdf.pages[solved - 1].extract_text())
    assert f"Exercise1.1(Byhand)(p.{number + 1})" in text


def bounds(document: BeautifulSoup) -> tuple[int, int]:
    """Fewest and most pages: the lines that all parts fill; page ends cost up to half of them."""
    code, letters = 0, 0
    for text in document.find_all(string=True):
        around = text.find_parent(["pre", "table", "script", "style"])
        code += text.count("\n") if around is not None and around.name == "pre" else 0
        letters += len(text) if around is None else 0
    lines = {  # of each, and how many lines it takes
        "tr": 1.3,
        "figure": 18,
        "div.math": 3,
        "h1, h2, h3": 2.5,
    }
    whole = code + letters / 95 + sum(n * len(document.select(one)) for one, n in lines.items())
    return round(whole / 60), round(1.5 * whole / 60)


@pytest.mark.browser
def test_the_book_has_as_many_pages_as_its_text_fills(pdf: PdfReader, document: BeautifulSoup):
    fewest, most = bounds(document)
    assert 100 < fewest <= len(pdf.pages) <= most
    assert PDF.stat().st_size < 25e6


@pytest.mark.browser
def test_no_page_is_empty(pdf: PdfReader, streams: list[bytes]):
    head = 100  # letters that the running title has at most
    empty = [
        number
        for number, (page, stream) in enumerate(zip(pdf.pages, streams, strict=True), 1)
        if glyphs(stream) < head and not page["/Resources"].get("/XObject")
    ]
    assert empty == []


def missing_glyphs(page: PageObject) -> int:
    """How often a page draws glyph 0, the box of a letter that no font has."""
    fonts = page["/Resources"].get("/Font", {})
    wide = {
        name.encode() for name, font in fonts.items() if font.get_object()["/Subtype"] == "/Type0"
    }
    found, current = 0, b""
    for font, letters in re.findall(rb"(/F\d+) [\d.]+ Tf|<([0-9A-F]+)> Tj", stream_of(page)):
        current = font or current
        if current in wide:
            found += len(re.findall(rb"^(?:.{4})*?0000", letters))
    return found


@pytest.mark.browser
def test_no_letter_is_missing(pdf: PdfReader):
    assert {
        n: found for n, page in enumerate(pdf.pages, 1) if (found := missing_glyphs(page))
    } == {}


@pytest.mark.browser
def test_a_missing_letter_would_be_seen(browser):
    page = browser.new_page()
    page.set_content("<p>There, and not there: \U0010fffd</p>")
    (printed,) = PdfReader(io.BytesIO(page.pdf())).pages
    page.close()
    assert missing_glyphs(printed) == 1


def fonts(pdf: PdfReader) -> Iterator[DictionaryObject]:
    seen = set()
    for page in pdf.pages:
        for font in page["/Resources"].get("/Font", {}).values():
            if font.idnum not in seen:
                seen.add(font.idnum)
                yield font.get_object()


@pytest.mark.browser
def test_every_font_is_in_the_file(pdf: PdfReader):
    kinds = Counter()
    for font in fonts(pdf):
        kinds[font["/Subtype"]] += 1
        if font["/Subtype"] == "/Type0":
            (below,) = font["/DescendantFonts"]
            held = below.get_object()["/FontDescriptor"].get_object()
            assert "/FontFile2" in held or "/FontFile3" in held, font["/BaseFont"]
    assert set(kinds) <= {"/Type0", "/Type3"}  # the latter is drawn within the file
    assert kinds["/Type0"] >= 6


@pytest.mark.browser
def test_links_lead_to_places_of_the_file_or_to_the_web(pdf: PdfReader):
    places, within, outside = pdf.named_destinations, 0, set()
    for page in pdf.pages:
        for link in page.get("/Annots", ()):
            link = link.get_object()
            if "/Dest" in link:
                within += 1
                assert str(link["/Dest"]) in places or f"/{link['/Dest']}" in places
            elif "/A" in link:
                outside.add(str(link["/A"]["/URI"]))
    assert within > 500
    assert {one for one in outside if not one.startswith(("https://", "http://"))} == set()


OVERFULL = """() => {
  const edge = document.body.getBoundingClientRect().right + 1;
  return [...document.querySelectorAll(".page:not(#cover) *")]
    .filter((one) => one.tagName === "MJX-MATH" || !one.closest("mjx-container"))
    .filter((one) => one.getBoundingClientRect().right > edge)
    .map((one) => `${one.closest(".page").id}: ${one.textContent.slice(0, 60)}`);
}"""


@pytest.fixture
def column(browser, pdf: PdfReader):
    """The document as it is laid out for paper."""
    page = browser.new_page(viewport=COLUMN)
    page.set_default_timeout(PATIENCE)
    page.emulate_media(media="print")
    page.goto(DOCUMENT.as_uri())
    page.evaluate("MathJax.startup.promise.then(() => null)")
    yield page
    page.close()


@pytest.mark.browser
def test_no_table_no_code_and_no_formula_is_wider_than_the_page(column):
    assert column.evaluate(OVERFULL) == []
    column.evaluate("document.querySelector('td').style.minWidth = '700px'")
    assert column.evaluate(OVERFULL) != []
