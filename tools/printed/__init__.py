"""The printed edition: the built pages joined into one document, which Chromium prints."""

from tools.address import ROOT

HTML = ROOT / "_build" / "html"
FOLDER = ROOT / "_build" / "pdf"
DOCUMENT = FOLDER / "book.html"  # what is printed; its addresses lead to HTML beside it
PDF = FOLDER / "six-architectures-derived.pdf"
