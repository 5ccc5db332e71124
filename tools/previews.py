"""Draws the pictures that a link to a page is shown with: python -m tools.previews writes
book/_static/previews/STEM.png, 1200 by 630, one a chapter and one for the book.

From the chapter's title and the picture on its card; needs an installed Chromium.
"""

import html
import io
import json
import sys
from pathlib import Path

from PIL import Image
from tools.chapters import chapters
from tools.chromium import chromium

ROOT = Path(__file__).parents[1]
CARDS = ROOT / "book" / "_static" / "cards"
FOLDER = ROOT / "book" / "_static" / "previews"
SIZE = (1200, 630)
COLOURS = 64  # of flat drawings: a file stays small
BOOK = "Six Architectures, Derived"
PAGE = """<style>
body {{ margin: 0; width: 1200px; height: 630px; box-sizing: border-box; padding: 60px 80px;
  font-family: "DejaVu Sans", sans-serif; background: #fff; color: #1c2733; }}
div {{ display: grid; grid-template-columns: repeat({columns}, 1fr); gap: 24px; height: 270px; }}
svg {{ width: 100%; height: 100%; }}
h1 {{ font-size: 56px; margin: 36px 0 16px; line-height: 1.15; }}
p {{ font-size: 30px; margin: 0; color: #51606e; }}
</style><div>{pictures}</div><h1>{title}</h1><p>{text}</p>"""


def heading(stem: str) -> tuple[str, str]:
    """A chapter's title, before and after its colon."""
    cells = json.loads((ROOT / "book" / f"{stem}.ipynb").read_text(encoding="utf-8"))["cells"]
    title, _, rest = "".join(cells[1]["source"]).splitlines()[0].removeprefix("# ").partition(": ")
    return title, rest


def pages() -> dict[str, str]:
    drawn = {stem: (CARDS / f"{stem}.svg").read_text(encoding="utf-8") for stem in chapters()}
    found = {}
    for number, (stem, picture) in enumerate(drawn.items(), 1):
        title, rest = heading(stem)
        text = f"{html.escape(rest[0].upper() + rest[1:])}.<br>Chapter {number} of {BOOK}"
        found[stem] = PAGE.format(columns=1, pictures=picture, title=html.escape(title), text=text)
    text = "Equations, code, laws, measurements, and which claims held."
    every = "".join(drawn.values())
    found["intro"] = PAGE.format(columns=3, pictures=every, title=BOOK, text=text)
    return found


def main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
        for name, text in pages().items():
            page.set_content(text)
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            picture.quantize(COLOURS).save(FOLDER / f"{name}.png", optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
