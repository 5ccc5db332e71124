"""Gives every image its size, so that nothing jumps, and narrow screens a picture drawn for them.

`archbook.plotting.show` stores the narrow picture beside the wide one in the notebook's output.
"""

import base64
import hashlib
import json
import re
import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from pages import mend_pages
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

IMAGE = re.compile(r"<img\b([^>]*?)\s*/?>")
SOURCE = re.compile(r'\bsrc="([^":?]+)')
NARROW = "(max-width: 600px)"


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


def narrow_pictures(book: Path) -> Iterator[tuple[str, bytes]]:
    """The name of each wide picture on the pages, and the narrow one that goes with it."""
    for notebook in sorted(book.glob("*.ipynb")):
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                about = output.get("metadata", {}).get("image/png", {})
                if "narrow" in about:
                    wide = base64.b64decode("".join(output["data"]["image/png"]))
                    name = f"{hashlib.sha256(wide).hexdigest()}.png"  # as myst-nb names it
                    yield name, base64.b64decode(about["narrow"]["png"])


class Pictures:
    """What is known of all pictures when the pages are mended."""

    def __init__(self, app: Sphinx):
        self.app = app
        self.narrow: dict[str, bytes] | None = None

    def mend(self, html: str, page: Path) -> str:
        if self.narrow is None:
            self.narrow = dict(narrow_pictures(Path(self.app.srcdir) / "book"))
        return IMAGE.sub(lambda match: self.sized(match, page), html)

    def sized(self, match: re.Match[str], page: Path) -> str:
        attributes = match[1]
        source = SOURCE.search(attributes)
        if source is None or " height=" in attributes:
            return match[0]
        path = page.parent / source[1]
        width, height = size_of(path)
        image = f'<img{attributes} width="{width}" height="{height}" loading="lazy">'
        picture = (self.narrow or {}).get(path.name)
        if picture is None:
            return image
        narrow = path.with_name(f"narrow-{path.name}")
        narrow.write_bytes(picture)
        width, height = size_of(narrow)
        address = source[1].replace(path.name, narrow.name)
        return (
            f'<picture><source media="{NARROW}" srcset="{address}" '
            f'width="{width}" height="{height}">{image}</picture>'
        )


def setup(app: Sphinx) -> dict:
    mend_pages(app, Pictures(app).mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
