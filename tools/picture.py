"""Takes the README's picture of a page: picture.py [PAGE] writes book/_static/page.png.

Opens the built pages in an installed Chromium; `make picture` builds them first. The picture says
within itself which table of contents it shows, so that a test sees when it is out of date.
"""

import hashlib
import sys
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tools.chromium import chromium

ROOT = Path(__file__).parents[1]
HTML = ROOT / "_build" / "html"
PICTURE = ROOT / "book" / "_static" / "page.png"


def contents() -> str:
    """What the picture is of: the table of contents, whose chapters stand in its sidebar."""
    return hashlib.sha256((ROOT / "_toc.yml").read_bytes()).hexdigest()


def main() -> int:
    page_name = sys.argv[1] if len(sys.argv) > 1 else "book/lmu"
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.goto((HTML / f"{page_name}.html").as_uri())
        page.wait_for_function("window.MathJax && MathJax.startup && MathJax.startup.promise")
        page.evaluate("MathJax.startup.promise")
        page.screenshot(path=str(PICTURE))
    about = PngInfo()
    about.add_text("contents", contents())
    Image.open(PICTURE).save(PICTURE, optimize=True, pnginfo=about)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size // 1000} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
