"""The line under each chapter's title, *Paper · Code · API · Results · Notation · Assignment*, and
the footer of every page. Both go into the finished page, so the notebooks stay what they are.
"""

import re
from html import escape
from pathlib import Path

from pybtex.database import parse_file
from sphinx.application import Sphinx
from tools.address import package_version, public_address
from tools.chapters import chapters

TITLE_END = "</h1>"


def paper(root: Path, stem: str) -> str:
    """Where the paper that the first page names for a chapter is read: its DOI, arXiv or URL."""
    intro = (root / "book" / "intro.md").read_text(encoding="utf-8")
    cited = re.search(rf"^\| {{doc}}`{stem}` \| {{cite}}`([^`]+)` \|", intro, re.MULTILINE)
    if cited is None:
        raise ValueError(f"wanted the paper of {stem} in book/intro.md, found none")
    fields = parse_file(root / "book" / "references.bib").entries[cited[1]].fields
    for name, home in (("doi", "https://doi.org/"), ("eprint", "https://arxiv.org/abs/")):
        if name in fields:
            return home + fields[name]
    return fields["url"]


def link(text: str, target: str) -> str:
    return f'<a href="{escape(target)}">{text}</a>'


def line(app: Sphinx, stem: str, pathto) -> str:
    root = Path(app.srcdir)
    address = public_address(root)
    code = f"code/archbook/{stem}"
    parts = [
        link("Paper", paper(root, stem)),
        link("Code", f"{address.repository}/tree/main/{code}")
        if address
        else f"Code: <code>{code}</code>",
        link("API", pathto(f"book/api/{stem}")),
        link("Results", pathto(f"book/costs/{stem}")),
        link("Notation", pathto("book/notation") + f"#notation-{stem.replace('_', '-')}"),
        link("Assignment", pathto(f"_static/assignments/{stem}.ipynb", 1)),
    ]
    return f'<p class="chapter-line">{" · ".join(parts)}</p>'


def add_line(app: Sphinx, pagename, templatename, context, doctree) -> None:
    folder, _, stem = pagename.rpartition("/")
    if folder == "book" and stem in chapters(Path(app.srcdir)):
        head, end, rest = context["body"].partition(TITLE_END)
        context["body"] = f"{head}{end}\n{line(app, stem, context['pathto'])}{rest}"


def add_footer(app: Sphinx, pagename, templatename, context, doctree) -> None:
    about = context["pathto"]("book/about").removesuffix("#")  # of the page itself: "#"
    parts = [
        f"{app.config.html_title}, v{package_version(Path(app.srcdir))}",
        link("Text CC BY 4.0, code MIT", f"{about}#licence"),
        link("How to cite", f"{about}#cite"),
        link("Changelog", f"{about}#changelog"),
    ]
    context["theme_extra_footer"] = f'<p class="book-footer">{" · ".join(parts)}</p>'


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", add_line, priority=600)
    app.connect("html-page-context", add_footer, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
