"""Prints the built pages as one PDF: python -m tools.printed, which `make pdf` calls.

Chromium prints the document at least twice: the first print tells on which page each place is, the
next shows these numbers in its contents and references.
"""

import io
import logging
import sys

from playwright.sync_api import Browser
from pypdf import PdfReader, PdfWriter
from pypdf.generic import Fit
from tools.address import ROOT, package_version
from tools.chromium import chromium
from tools.printed import DOCUMENT, HTML, PDF
from tools.printed.join import Entry, config, join

PATIENCE = 300_000  # milliseconds that typesetting 1,400 formulas may take on a busy machine
MOST_PRINTS = 4
READY = """async () => {
  await MathJax.startup.promise;
  await Promise.all([...document.images].map((one) => one.decode()));
  await document.fonts.ready;
}"""
NUMBER = """(pages) => {
  for (const one of document.querySelectorAll("[data-page]"))
    one.textContent = pages[one.dataset.page];
}"""


def page_numbers(printed: PdfReader) -> dict[str, int]:
    """On which page each place is that something leads to."""
    found = {}
    for name, place in printed.named_destinations.items():
        number = printed.get_destination_page_number(place)
        if number is not None:
            found[name.removeprefix("/")] = number + 1
    return found


def printed_with_numbers(browser: Browser) -> PdfReader:
    """Printed until the numbers that it shows are those of its own pages.

    Each time from a page opened anew: the second print of one page may break elsewhere.
    """
    shown: dict[str, int] = {}
    for _ in range(MOST_PRINTS):
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(DOCUMENT.as_uri())
        page.evaluate(READY)
        if shown:
            page.evaluate(NUMBER, shown)
        printed = PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True, tagged=True)))
        page.close()
        numbers = page_numbers(printed)
        if numbers == shown:
            return printed
        shown = numbers
    sys.exit(f"The page numbers still changed in print {MOST_PRINTS}.")


def with_outline(printed: PdfReader, listed: list[Entry]) -> PdfWriter:
    """Chromium's own outline runs words together where a title has two lines."""
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of the objects that it adds
    whole = PdfWriter(clone_from=printed)
    above = None
    for entry in listed:
        place = printed.named_destinations[f"/{entry.name}"]
        number = printed.get_destination_page_number(place)
        if number is None:
            raise ValueError(f"wanted a page for {entry.name}, found none")
        fit = Fit.xyz(top=float(place.top or 0))
        parent = above if entry.level > 1 else None
        item = whole.add_outline_item(entry.title, number, parent, fit=fit, is_open=False)
        above = item if entry.level == 1 else above
    whole.add_metadata({"/Author": config()["author"], "/Subject": f"v{package_version()}"})
    whole.page_mode = "/UseOutlines"
    return whole


def main() -> int:
    document, listed = join(HTML, ROOT)
    DOCUMENT.parent.mkdir(parents=True, exist_ok=True)
    DOCUMENT.write_text(document, encoding="utf-8")
    with chromium() as browser:
        printed = printed_with_numbers(browser)
    with_outline(printed, listed).write(PDF)
    size = PDF.stat().st_size / 1e6
    print(f"{PDF.relative_to(ROOT)}: {len(printed.pages)} pages, {size:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
