"""What others than readers ask for: a description of each page, its preview, the map of the site,
a page for addresses that do not exist, and a first page that leads to the book.

Search engines and previews want whole addresses, so what needs one is written only where the pages
have a public address.
"""

import re
from html import escape
from pathlib import Path

from docutils import nodes
from generated import sections
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from tools.address import PLACEHOLDER, public_address

MOST = 200  # letters that a search engine shows
PREVIEWS = "_static/previews"


def described(doctree: nodes.document) -> str:
    """The first paragraph, cut at a word."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = re.sub(r"\s+", " ", paragraph.astext()).strip()
        if len(text) > 40:
            return text if len(text) <= MOST else text[: MOST - 1].rsplit(" ", 1)[0] + "…"
    return ""


def settle_address(app: Sphinx, config) -> None:
    address = public_address(Path(app.srcdir))
    config.html_baseurl = (address and address.pages) or ""


def base_of(app: Sphinx) -> str | None:
    return app.config.html_baseurl or None


def preview(app: Sphinx, pagename: str) -> str:
    """The page's own picture, a chapter's on its pages of costs too, else the book's."""
    name = pagename.rpartition("/")[2]
    known = Path(app.srcdir) / "book" / PREVIEWS / f"{name}.png"
    return f"{PREVIEWS}/{name if known.exists() else 'intro'}.png"


def add_meta(app: Sphinx, pagename, templatename, context, doctree) -> None:
    if doctree is None:
        return
    title = re.sub(r"<[^>]+>", "", context.get("title", ""))
    base = base_of(app)
    tags = {
        "description": described(doctree),
        "author": app.config.author,
        "og:title": title,
        "og:description": described(doctree),
        "og:type": "article",
        "og:site_name": app.config.html_title,
        "twitter:card": "summary_large_image",
    }
    if base:
        tags["og:url"] = f"{base}{pagename}.html"
        tags["og:image"] = f"{base}{preview(app, pagename)}"
        tags |= {"og:image:width": "1200", "og:image:height": "630"}
    lines = [
        f'<meta {"property" if name.startswith("og:") else "name"}="{name}" '
        f'content="{escape(text)}">'
        for name, text in tags.items()
        if text
    ]
    context["metatags"] = "\n".join([context.get("metatags", ""), *lines])
    if not base:
        context["pageurl"] = None  # no canonical address


FIRST = """<!DOCTYPE html>
<html lang="{language}">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>{title}</title>
    <meta http-equiv="refresh" content="0; url={start}">
    <style>body {{ font: 1.1rem sans-serif; margin: 3rem; color-scheme: light dark; }}</style>
  </head>
  <body>
    <main><h1>{heading}</h1><p>{text} <a href="{start}">{title}</a>.</p></main>
  </body>
</html>
"""


def first_page(app: Sphinx) -> str:
    return FIRST.format(
        language=app.config.language,
        title=escape(app.config.html_title),
        start=f"{app.config.root_doc}.html",
        heading=escape(app.config.html_title),
        text="The book begins here:",
    )


def missing_page(app: Sphinx) -> str:
    """Stands alone: it is shown at any depth, where no relative address would lead anywhere."""
    start = f"{base_of(app) or './'}{app.config.root_doc}.html"
    page = FIRST.format(
        language=app.config.language,
        title=escape(app.config.html_title),
        start=start,
        heading="This page does not exist",
        text="It may have moved. Its chapter is in",
    )
    return re.sub(r'\s*<meta http-equiv="refresh"[^>]*>', "", page)


def site_map(base: str, documents: list[str]) -> str:
    places = "".join(f"  <url><loc>{base}{one}.html</loc></url>\n" for one in documents)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{places}</urlset>\n'
    )


def finish(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    out, base = Path(app.outdir), base_of(app)
    written = {"404.html": missing_page(app), "robots.txt": "User-agent: *\nAllow: /\n"}
    if base:
        written["sitemap.xml"] = site_map(base, sorted(app.env.found_docs))
        written["robots.txt"] += f"Sitemap: {base}sitemap.xml\n"
    for name, text in written.items():
        (out / name).write_text(text, encoding="utf-8")


def write_first_page(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    out, name = Path(app.outdir), app.config.html_title
    (out / "index.html").write_text(first_page(app), encoding="utf-8")
    # The first page is called as the book is, and a title ends in the book's name.
    page = out / f"{app.config.root_doc}.html"
    text = page.read_text(encoding="utf-8")
    doubled = f"<title>{escape(name)} &#8212; {escape(name)}</title>"
    page.write_text(text.replace(doubled, f"<title>{escape(name)}</title>"), encoding="utf-8")


class CitationEntry(SphinxDirective):
    """CITATION.cff as a BibTeX entry."""

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        self.env.note_dependency(str(root / "CITATION.cff"))
        text = (root / "CITATION.cff").read_text(encoding="utf-8")
        found = dict(re.findall(r'^([\w-]+): "?([^"\n]+)"?$', text, re.MULTILINE))
        entry = [
            "```bibtex",
            "@software{archbook,",
            f"  title = {{{found['title']}}},",
            f"  author = {{{{{self.config.author}}}}},",
            f"  version = {{{found['version']}}},",
            f"  year = {{{self.config.copyright}}},",
        ]
        if PLACEHOLDER not in found["repository-code"]:
            entry.append(f"  url = {{{found['repository-code']}}},")
        return sections(self, [*entry, "}", "```"], "citation")


def setup(app: Sphinx) -> dict:
    app.add_directive("citation-entry", CitationEntry)
    app.connect("config-inited", settle_address)
    app.connect("html-page-context", add_meta, priority=700)
    app.connect("build-finished", finish)
    # After the extension that writes a first page of its own where none is.
    app.connect("build-finished", write_first_page, priority=990)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
