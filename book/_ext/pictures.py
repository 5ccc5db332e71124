"""Gives every image its size, so that nothing jumps, and narrow screens a picture drawn for them.

`archbook.plotting.show` draws both; `make notebooks` keeps the narrow one under the name that
myst-nb gives the wide one, the digest of its bytes.
"""

import os
import re
import struct
import xml.etree.ElementTree as ET
from pathlib import Path

from pages import mend_pages
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

IMAGE = re.compile(r"<img\b([^>]*?)\s*/?>")
SOURCE = re.compile(r'\bsrc="([^":?]+)')
NARROW = "(max-width: 600px)"
PHONES = "_static/phones"


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a PNG or an SVG."""
    data = path.read_bytes()
    if data.startswith(b"\x89PNG"):
        return struct.unpack(">II", data[16:24])
    root = ET.fromstring(data)
    box = [float(number) for number in root.get("viewBox", "").split()]
    if len(box) != 4:
        raise ExtensionError(f"wanted a PNG, or an SVG with a viewBox, given {path.name}")
    return round(box[2]), round(box[3])


class Pictures:
    def __init__(self, app: Sphinx):
        self.app = app

    def mend(self, html: str, page: Path) -> str:
        return IMAGE.sub(lambda match: self.sized(match, page), html)

    def sized(self, match: re.Match[str], page: Path) -> str:
        attributes = match[1]
        source = SOURCE.search(attributes)
        if source is None or " height=" in attributes:
            return match[0]
        path = page.parent / source[1]
        width, height = size_of(path)
        image = f'<img{attributes} width="{width}" height="{height}" loading="lazy">'
        narrow = Path(self.app.outdir) / PHONES / path.name
        if not narrow.exists():
            return image
        width, height = size_of(narrow)
        address = os.path.relpath(narrow, page.parent)
        return (
            f'<picture><source media="{NARROW}" srcset="{address}" '
            f'width="{width}" height="{height}">{image}</picture>'
        )


def setup(app: Sphinx) -> dict:
    mend_pages(app, Pictures(app).mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
