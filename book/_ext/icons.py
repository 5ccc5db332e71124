"""Draws the theme's icons into the pages, so that none loads a script or a font of 1,900 icons.

icons.json holds the few that the pages use, from Font Awesome Free 6.5.2 (CC BY 4.0). A page with
another icon ends the build: the icon belongs into that file.
"""

import json
import re
import shutil
from pathlib import Path

from pages import mend_pages
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ICONS: dict[str, dict] = json.loads(
    Path(__file__).with_name("icons.json").read_text(encoding="utf-8")
)
ICON = re.compile(r'<(i|span) class="([^"]*\bfa[a-z]?\b[^"]*)"([^>]*)></\1>')
SCRIPT = re.compile(r'\s*<script\b[^>]*src="[^"]*/fontawesome\.js[^"]*"></script>')
NOT_NAMES = {"fa-solid", "fa-brands", "fa-regular", "fa-lg"}


def drawn(match: re.Match[str]) -> str:
    classes, attributes = match[2].split(), match[3]
    names = [c.removeprefix("fa-") for c in classes if c.startswith("fa-") and c not in NOT_NAMES]
    unknown = [name for name in names if name not in ICONS]
    if unknown or not names:
        raise ExtensionError(f"wanted an icon of book/_ext/icons.json, given {match[0]}")
    icon = ICONS[names[0]]
    kept = " ".join(["icon", *(c for c in classes if not c.startswith("fa"))])
    return (
        f'<svg class="{kept}"{attributes} viewBox="0 0 {icon["width"]} {icon["height"]}" '
        f'aria-hidden="true"><path fill="currentColor" d="{icon["path"]}"></path></svg>'
    )


def draw(html: str, page: Path) -> str:
    return ICON.sub(drawn, SCRIPT.sub("", html))


def drop_fonts(app: Sphinx, exception: Exception | None) -> None:
    """A style sheet that still wants one of these is seen by the tests as a failed request."""
    static = Path(app.outdir) / "_static"
    shutil.rmtree(static / "vendor" / "fontawesome", ignore_errors=True)
    for script in static.glob("scripts/fontawesome.js*"):
        script.unlink()


def setup(app: Sphinx) -> dict:
    mend_pages(app, draw)
    app.connect("build-finished", drop_fonts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
