"""What the extensions share that mend the built pages: a function over the text of each."""

from collections.abc import Callable
from pathlib import Path

from sphinx.application import Sphinx


def mend_pages(app: Sphinx, mend: Callable[[str, Path], str]) -> None:
    """Every built page becomes mend(its text, its path), at the end of a build that went well."""

    def finish(app: Sphinx, exception: Exception | None) -> None:
        if exception is not None or app.builder.format != "html":
            return
        for page in sorted(Path(app.outdir).rglob("*.html")):
            if "_static" in page.relative_to(app.outdir).parts:
                continue  # macros of the theme, no pages
            before = page.read_text(encoding="utf-8")
            after = mend(before, page)
            if after != before:
                page.write_text(after, encoding="utf-8")

    app.connect("build-finished", finish)
