"""Joins the built pages into one document to print: cover, contents, pages, solutions at the end.

The pages are taken as readers see them, so every number, formula and figure is theirs. What only a
screen can use goes: buttons, folded code, what moves. Every name in a page gets the page's name
before it, so that links between pages become links within the document.
"""

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import matplotlib
import yaml
from bs4 import BeautifulSoup, Tag
from bs4.element import NavigableString
from tools.address import ROOT, package_version, public_address
from tools.chapters import chapters
from tools.notebooks import pages_in_toc

HERE = Path(__file__).parent
# Not on paper: links to themselves, folded code, what a script draws or moves.
ON_SCREEN_ONLY = (
    ".headerlink, details.hide, .live, .doors, .toctree-wrapper, source, script, style, "
    "figure.gfnn, .sd-summary-state-marker, .sd-stretched-link"
)
# Pages to look things up in, beside the code: a search finds them, no reader turns them.
REFERENCE = "book/api"
# The tables behind the costs' answers: they would fill a hundred pages.
MEASUREMENTS = "details .bench-table"
NOT_PRINTED = " Its tables are not printed here."
SHORT_TABLE = 16  # rows, and
SHORT_CODE = 14  # lines, that stay on one page
PUNCTUATION = tuple(".,;:)")
NOTHING_YET = "000"  # where a page number will stand


def name_of(page: str, anchor: str = "") -> str:
    """The one name in the whole document of an anchor in a page, or of the page."""
    whole = page.replace("/", "-")
    return f"{whole}--{anchor.replace('/', '-')}" if anchor else whole


# ---- one page ----


class Page:
    """A built page, ready to stand among the others."""

    def __init__(
        self, html: Path, name: str, all_pages: Iterable[str], pages_address: str | None = None
    ):
        text = (html / f"{name}.html").read_text(encoding="utf-8")
        article = BeautifulSoup(text, "html.parser").select_one("article.bd-article > section")
        if article is None:
            raise ValueError(f"wanted an article in {name}.html, found none")
        self.name, self.article, self.all_pages = name, article, set(all_pages)
        self.pages_address = pages_address
        self.folder = posixpath.dirname(name)
        for useless in article.select(ON_SCREEN_ONLY):
            useless.decompose()
        self.leave_out_measurements()
        for fold in article.select("details"):
            fold["open"] = ""
        self.join_headings()
        self.mark_what_is_short()
        self.keep_marks_at_formulas()
        for image in article.select("img"):
            source = posixpath.join("../html", self.folder, str(image["src"]))
            image["src"] = posixpath.normpath(source)
            del image["loading"]
            around = image.find_parent("a")
            if around is not None:  # leads to the same picture
                around.name, around.attrs = "div", {}
        for link in article.select("a[href]"):
            self.lead_within(link)
        for named in article.select("[id]"):
            named["id"] = name_of(name, str(named["id"]))
        # The title's own name stays one, beside the page's.
        article.insert(0, fragment(f'<span id="{name_of(name, str(article["id"]))}"></span>'))
        article["id"] = name_of(name)
        article["class"] = "page"

    def leave_out_measurements(self) -> None:
        """Their names stay, since chapters lead there, and the sentence that names their file."""
        for table in self.article.select(MEASUREMENTS):
            section = table.find_parent("section")
            if table.decomposed or section is None:
                continue
            about = section.find_previous_sibling("p")
            if about is not None and NOT_PRINTED not in about.get_text():
                about.append(NOT_PRINTED)
            for part in section.select(":scope > h3, :scope > details"):
                part.decompose()

    def join_headings(self) -> None:
        """A section that begins with a smaller heading: Chromium would leave its own behind."""
        for heading in self.article.select("h2 + section > h3, h2 + span + section > h3"):
            section = heading.parent
            if section is None or "id" not in section.attrs or "id" in heading.attrs:
                continue
            heading["id"] = section["id"]
            section.unwrap()
            before = heading.find_previous_sibling()
            while before is not None and before.name == "span":  # a name, which leads here
                heading.insert(0, before.extract())
                before = heading.find_previous_sibling()

    def mark_what_is_short(self) -> None:
        for table in self.article.select("table"):
            if len(table.select("tr")) <= SHORT_TABLE:
                table["class"] = "whole"
        for code in self.article.select("pre"):
            if code.get_text().strip().count("\n") < SHORT_CODE:
                code["class"] = "whole"

    def keep_marks_at_formulas(self) -> None:
        """A line does not begin with the full stop or the comma behind a formula."""
        for formula in self.article.select("span.math"):
            after = formula.next_sibling
            if isinstance(after, NavigableString) and after[:1] in PUNCTUATION:
                whole = fragment('<span class="together"></span>')
                after.replace_with(after[1:])
                formula.replace_with(whole)
                whole.extend([formula, after[0]])

    def lead_within(self, link: Tag) -> None:
        """To a place of this document, with its page number where that is on another page."""
        target = str(link["href"])
        if urlsplit(target).scheme:
            link["class"] = "outside"
            return
        path, _, anchor = target.partition("#")
        place = posixpath.normpath(f"{self.folder}/{path}")
        page = place.removesuffix(".html") if path else self.name
        if page not in self.all_pages:
            self.lead_out(link, place)
            return
        name = name_of(page, anchor)
        link["href"] = f"#{name}"
        if page != self.name and "bibliography" not in page:
            link.insert_after(page_reference(name))

    def lead_out(self, link: Tag, path: str) -> None:
        """A file to download, or a page of the reference: at the public address; as long as there
        is none, nowhere."""
        before = link.previous_sibling
        if self.pages_address is not None:
            link["href"], link["class"] = f"{self.pages_address}{path}", "outside"
        elif link.find_parent(class_="chapter-line") and isinstance(before, NavigableString):
            before.replace_with(before.removesuffix(" · "))
            link.decompose()
        else:
            link.unwrap()

    @property
    def title(self) -> str:
        return self.heading.get_text().strip()

    @property
    def heading(self) -> Tag:
        heading = self.article.select_one("h1")
        if heading is None:
            raise ValueError(f"wanted a title in {self.name}.html, found none")
        return heading

    def take_solutions(self) -> list[Tag]:
        """The solutions, out of the page; each exercise says where its own went."""
        taken = []
        for solution in self.article.select("div.solution"):
            link = solution.select_one(".admonition-title a")
            exercise = link and self.article.find(id=str(link["href"]).removeprefix("#"))
            if link is None or not isinstance(exercise, Tag):
                raise ValueError(f"wanted the exercise of {solution.get('id')}, found none")
            note = fragment(f'<p class="to-solution"><a href="#{solution["id"]}">Solution</a></p>')
            note.append(page_reference(str(solution["id"])))
            exercise.append(note)
            link.insert_after(page_reference(str(exercise["id"])))
            taken.append(solution.extract())
        return taken


def fragment(html: str) -> Tag:
    (tag,) = BeautifulSoup(html, "html.parser").find_all(recursive=False)
    return tag


def page_reference(name: str) -> Tag:
    return fragment(f'<span class="on-page"> (p. {page_number(name)})</span>')


def page_number(name: str) -> str:
    return f'<span data-page="{name}">{NOTHING_YET}</span>'


# ---- the document ----


def solutions(pages: Iterable[Page]) -> Tag:
    """All of them, in a chapter of their own behind the last one."""
    whole = fragment('<section class="page" id="solutions"><h1>Solutions</h1></section>')
    for page in pages:
        name = f"solutions--{name_of(page.name)}"
        part = fragment(f'<section id="{name}"><h2>{page.title}</h2></section>')
        part.extend(page.take_solutions())
        whole.append(part)
    return whole


@dataclass(frozen=True)
class Entry:
    """A line of the contents, and of the outline that readers of PDF show beside the pages."""

    level: int  # 1: a page of the site, 2: a section
    name: str
    html: str  # of the title

    @property
    def title(self) -> str:
        return BeautifulSoup(self.html, "html.parser").get_text().strip()


def entries(parts: Iterable[Tag]) -> list[Entry]:
    """All titles and those sections that have a name."""
    return [
        Entry(int(heading.name[1]), str(heading.parent["id"]), heading.decode_contents())
        for part in parts
        for heading in part.select("[id] > h1, [id] > h2")
        if heading.parent is not None
    ]


def contents(listed: Iterable[Entry]) -> str:
    """With the pages that they are on."""
    lines = "".join(
        f'<li class="h{entry.level}"><a href="#{entry.name}"><span>{entry.html}</span>'
        f"<i></i>{page_number(entry.name)}</a></li>"
        for entry in listed
    )
    return f'<section class="page" id="contents"><h1>Contents</h1><ol>{lines}</ol></section>'


def cover(title: str, author: str, year: str, version: str) -> str:
    return (
        f'<section class="page" id="cover"><div class="title">{title}</div>'
        "<p>Six neural architectures of ICML 2021,<br>derived, built, tested and judged</p>"
        f'<p class="author">{author}</p>'
        f"<p>Version {version}, {year}</p>"
        "<p>Text and figures: CC BY 4.0. Code: MIT.</p></section>"
    )


def running_heads(parts: Iterable[Tag]) -> Iterator[str]:
    """Style sheet: each part's title above its pages."""
    for part in parts:
        heading = part.select_one("h1")
        assert heading is not None
        text = heading.get_text().strip().replace("\\", "").replace('"', "'")
        yield f"#{part['id']} {{ page: {part['id']} }}"
        yield f'@page {part["id"]} {{ @top-left {{ content: "{text}" }} }}'


def fonts() -> Iterator[str]:
    """Those that matplotlib brings, so that the book looks the same wherever it is printed."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    faces = {
        "Book": ("STIXGeneral", "STIXGeneralItalic", "STIXGeneralBol", "STIXGeneralBolIta"),
        "Book Sans": (
            "DejaVuSans",
            "DejaVuSans-Oblique",
            "DejaVuSans-Bold",
            "DejaVuSans-BoldOblique",
        ),
        "Book Mono": tuple(
            f"DejaVuSansMono{ending}" for ending in ("", "-Oblique", "-Bold", "-BoldOblique")
        ),
    }
    looks = [(weight, slant) for weight in ("normal", "bold") for slant in ("normal", "italic")]
    for family, files in faces.items():
        for file, (weight, slant) in zip(files, looks, strict=True):
            yield (
                f'@font-face {{ font-family: "{family}"; font-weight: {weight}; '
                f'font-style: {slant}; src: url("{(folder / f"{file}.ttf").as_uri()}") }}'
            )


def config(root: Path = ROOT) -> dict[str, str]:
    return yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))


def printed_pages(root: Path = ROOT) -> list[str]:
    return [page for page in pages_in_toc(root) if not page.startswith(REFERENCE)]


def join(html: Path, root: Path) -> tuple[str, list[Entry]]:
    """The whole document, to lie in a folder beside `html`, and what its contents list."""
    said = config(root)
    names = printed_pages(root)
    address = public_address(root)
    pages = [Page(html, name, names, address and address.pages) for name in names]
    pages[0].heading.string = "Preface"  # its own title is the book's, which is on the cover
    stems = {f"book/{stem}" for stem in chapters(root)}
    solved = [page for page in pages if page.name in stems]
    parts = [page.article for page in pages]
    parts.insert(pages.index(solved[-1]) + 1, solutions(solved))
    style = "\n".join([*fonts(), *running_heads(parts)])
    version = package_version(root)
    static = "../html/_static"
    listed = entries(parts)
    document = "\n".join(
        [
            '<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">',
            f"<title>{said['title']}</title>",
            f'<link rel="stylesheet" href="{static}/pygments.css">',
            f'<link rel="stylesheet" href="{static}/costs.css">',
            f"<style>{style}\n{(HERE / 'book.css').read_text(encoding='utf-8')}</style>",
            '<script>MathJax = {loader: {load: ["input/tex", "output/chtml"]},'
            ' options: {ignoreHtmlClass: "page", processHtmlClass: "math"}}</script>',
            f'<script defer src="{static}/mathjax/startup.js"></script></head><body>',
            cover(said["title"], said["author"], said["copyright"], version),
            contents(listed),
            *map(str, parts),
            "</body></html>",
        ]
    )
    return document, listed
