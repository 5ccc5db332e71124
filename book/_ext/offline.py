"""Keeps the built book self-contained: mathematics from disk, and no request to another host."""

import importlib.util
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

# What the page of a book can need: the components that _config.yml names and what they ask for,
# the fonts, TeX extensions loaded on demand (\require, \boldsymbol, ...).
MATHJAX_FILES = [
    "startup.js",
    "core.js",
    "input/tex.js",
    "input/tex/extensions",
    "output/chtml.js",
    "output/chtml/fonts",
    "a11y/assistive-mml.js",
]

# Anything in a page that a browser fetches by itself. Links that a reader clicks are not here.
FETCHED = re.compile(
    r"<(?:script|img|iframe|audio|video|source|track|embed|object|input)\b[^>]*?"
    r"\s(?:src|srcset|data|poster)\s*=\s*[\"']?([^\"'\s>]+)"
    r"|<link\b(?=[^>]*\brel\s*=\s*[\"']?[^\"'>]*"
    r"(?:stylesheet|preload|prefetch|preconnect|icon|manifest|modulepreload))[^>]*?"
    r"\shref\s*=\s*[\"']?([^\"'\s>]+)",
    re.IGNORECASE,
)
CSS_FETCHED = re.compile(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)", re.IGNORECASE)
STYLE = re.compile(
    r"<style\b[^>]*>(.*?)</style>|\sstyle\s*=\s*\"([^\"]*)\"", re.DOTALL | re.IGNORECASE
)


def is_foreign(url: str) -> bool:
    """True where `url` names a host, also without a scheme (`//host/file`)."""
    parts = urlsplit(url.strip())
    return bool(parts.netloc) and parts.scheme in ("", "http", "https", "ws", "wss", "ftp")


def foreign_requests(html: str) -> list[str]:
    """Addresses on other hosts that a browser would fetch while it shows this page."""
    found = [first or second for first, second in FETCHED.findall(html)]
    for in_tag, in_attribute in STYLE.findall(html):
        found += foreign_requests_of_css(in_tag or in_attribute)
    return [url for url in found if is_foreign(url)]


def foreign_requests_of_css(css: str) -> list[str]:
    """Addresses on other hosts that a style sheet would fetch."""
    return [a or b for a, b in CSS_FETCHED.findall(css) if is_foreign(a or b)]


def settle_theme(app: Sphinx, config) -> None:
    # Written into the options that Jupyter Book generated: setting html_theme_options in
    # _config.yml would replace them, and the launch buttons with them.
    config.html_theme_options = {
        **config.html_theme_options,
        "navbar_persistent": [],  # else a second search box
    }
    # Without a default the theme's script reports an invalid mode on every first visit.
    config.html_context = {"default_mode": "auto", **config.html_context}


def drop_thebe(app: Sphinx, pagename, templatename, context, doctree) -> None:
    """Live cells need a server of somebody else's; the theme loads their script all the same."""
    context["script_files"] = [
        script for script in context.get("script_files", []) if "thebe" not in _source(script)
    ]
    context["css_files"] = [
        sheet for sheet in context.get("css_files", []) if "thebe" not in _source(sheet)
    ]


def _source(asset) -> str:
    return f"{getattr(asset, 'filename', asset)} {getattr(asset, 'attributes', '')}".lower()


def drop_thebe_from_text(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for raw in list(doctree.findall(nodes.raw)):
        if "text/x-thebe-config" in raw.astext() or raw.astext().startswith("<script>kernelName"):
            raw.parent.remove(raw)


def copy_mathjax(app: Sphinx) -> None:
    spec = importlib.util.find_spec("mathjax")
    if spec is None or spec.origin is None:
        logger.warning("MathJax is missing: pip install -r requirements-book.txt")
        return
    source = Path(spec.origin).parent / "static" / "mathjax" / "es5"
    target = Path(app.outdir) / "_static" / "mathjax"
    for name in MATHJAX_FILES:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, dirs_exist_ok=True)
        else:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)


def warn_of_foreign_requests(app: Sphinx) -> None:
    out = Path(app.outdir)
    for page in sorted(out.rglob("*.html")):
        for url in foreign_requests(page.read_text(encoding="utf-8")):
            logger.warning("%s loads %s from another host", page.relative_to(out), url)
    for sheet in sorted(out.rglob("*.css")):
        for url in foreign_requests_of_css(sheet.read_text(encoding="utf-8")):
            logger.warning("%s loads %s from another host", sheet.relative_to(out), url)


def finish(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        copy_mathjax(app)
        warn_of_foreign_requests(app)


def setup(app: Sphinx) -> dict:
    app.connect("config-inited", settle_theme)
    # After every extension that adds scripts.
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("doctree-resolved", drop_thebe_from_text, priority=900)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
