"""Repairs, in the built pages, what keeps a screen reader from reading the theme's parts well."""

import re
from pathlib import Path

from pages import mend_pages
from sphinx.application import Sphinx

REPAIRS = [
    # A bibliography entry may stand only in a list that some readers do not announce as one.
    (re.compile(r'role="doc-biblioentry"'), 'role="listitem"'),
    # A spoken name that leaves out what is written on the button: drop it, the writing is enough.
    (re.compile(r'(<button class="btn search-button-field[^>]*?) aria-label="[^"]*"'), r"\1"),
    (re.compile(r'(<summary\b[^>]*?) aria-label="[^"]*"'), r"\1"),
    # The three icons of the colour switch add their titles to its name.
    (re.compile(r'(<i class="theme-switch\b[^>]*?)\s+title="[^"]*"'), r"\1"),
    # The book's title in the sidebar stands outside every landmark.
    (
        re.compile(r'<div class="sidebar-primary-item">(?=\s*<a class="navbar-brand)'),
        '<div class="sidebar-primary-item" role="navigation" aria-label="Start of the book">',
    ),
    # A heading of a table that says nothing is no heading.
    (re.compile(r"<th\b([^>]*)>(\s*(?:<p>\s*</p>)?\s*)</th>"), r"<td\1>\2</td>"),
]


def repair(html: str, page: Path) -> str:
    """The page with every repair made; repairing twice changes nothing."""
    for pattern, replacement in REPAIRS:
        html = pattern.sub(replacement, html)
    return html


def setup(app: Sphinx) -> dict:
    mend_pages(app, repair)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
