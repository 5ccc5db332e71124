"""Takes out of each page the scripts and marks that it has no use for, and keeps its text from
jumping.
"""

import re
from pathlib import Path

from pages import mend_pages
from sphinx.application import Sphinx

# MathJax and its settings, on a page without a formula.
MATHJAX = re.compile(
    r'\s*<script>window\.MathJax\b[^<]*</script>|\s*<script\b[^>]*src="[^"]*/mathjax/[^<]*</script>'
)
# On a page with formulas the text waits for those of the first screen (page.js), then is shown.
SETTINGS = re.compile(r"(<script>window\.MathJax = [^<]*)(</script>)")
WAIT = ';document.documentElement.classList.add("typesetting")'
# The index of the search and what reads it, which only the page of results calls.
SEARCH = re.compile(
    r'\s*<script\b[^>]*src="[^"]*(?:searchtools|language_data|searchindex)\.js[^<]*</script>'
)
# Names, punctuation and spaces of code have the colour of the code around them (book.css, and a
# test): no span needed.
PLAIN = re.compile(r'<span class="(?:n|nn|p|w)">([^<]*)</span>')


def trim(html: str, page: Path) -> str:
    if re.search(r'class="math\b', html):
        html = SETTINGS.sub(rf"\1{WAIT}\2", html)
    else:
        html = MATHJAX.sub("", html)
    if page.name != "search.html":
        html = SEARCH.sub("", html)
    return PLAIN.sub(r"\1", html)


def setup(app: Sphinx) -> dict:
    mend_pages(app, trim)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
