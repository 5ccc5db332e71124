"""Measures how the built pages read: python -m tools.reading, after `make book`, with Chromium.

A table of each page (weight, time, what is cut, what scrolls, tab stops), then what is counted in
files. The tests hold the limits; this says where within them the pages are.
"""

import functools
import http.server
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser
from tools.address import PLACEHOLDER, ROOT
from tools.chapters import chapters
from tools.chromium import chromium
from tools.notebooks import pages_in_toc

HTML = ROOT / "_build" / "html"
PATIENCE = 300_000  # milliseconds
WATCH = """
window.seen = { shift: 0, long: 0 };
new PerformanceObserver((list) => list.getEntries().forEach((one) => (seen.shift += one.value)))
  .observe({ type: "layout-shift", buffered: true });
new PerformanceObserver((list) => list.getEntries().forEach((one) => (seen.long += one.duration)))
  .observe({ type: "longtask", buffered: true });
"""
LOADED = """async () => {
  await window.MathJax?.startup.promise;
  await new Promise((done) => setTimeout(done, 300));
  const entries = (kind) => performance.getEntriesByType(kind);
  const fetched = [...entries("navigation"), ...entries("resource")];
  const kb = fetched.filter((one) => !["img", "image"].includes(one.initiatorType))
    .reduce((sum, one) => sum + one.decodedBodySize, 0) / 1000;
  const paint = entries("paint").find((one) => one.name === "first-contentful-paint");
  const stops = [...document.querySelectorAll("a[href], button, input, summary, [tabindex='0']")];
  return {
    kB: kb, requests: fetched.length, nodes: document.querySelectorAll("*").length,
    formulas: document.querySelectorAll(".math").length,
    "FCP ms": paint?.startTime ?? 0, "load ms": entries("navigation")[0].loadEventEnd,
    "long ms": seen.long, CLS: seen.shift,
    stops: stops.length,
    "of formulas": document.querySelectorAll(".math[tabindex], .math [tabindex]").length,
    height: document.documentElement.scrollHeight,
    tables: [...document.querySelectorAll("table")].filter((one) => one.checkVisibility()).length,
    "cut tables": document.querySelectorAll(".pst-scrollable-table-container.more-right").length,
  };
}"""
UNFOLD = """() => document.querySelectorAll("details, .toggle-hidden").forEach((one) => {
  one.open = true;
  one.classList.remove("toggle-hidden");
})"""
CUT = """() => [...document.querySelectorAll(".bd-article .math mjx-math")].filter((formula) => {
  const box = formula.closest(".math");
  if (formula.getBoundingClientRect().right <= box.getBoundingClientRect().right + 3) return false;
  for (let one = formula; one !== box.parentElement; one = one.parentElement)
    if (["auto", "scroll"].includes(getComputedStyle(one).overflowX)) return false;
  return true;
}).length"""
SETTLE = "() => new Promise((done) => setTimeout(done, 200))"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served() -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(HTML))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def measured(browser: Browser, address: str) -> dict[str, float]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.add_init_script(WATCH)
    page.goto(address, wait_until="load")
    found = page.evaluate(LOADED)
    page.evaluate(UNFOLD)
    for width in (390, 360, 320):
        page.set_viewport_size({"width": width, "height": 844})
        page.evaluate(SETTLE)
        found[f"cut {width}"] = page.evaluate(CUT)
    found["wide at 320"] = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    return found


def counted() -> dict[str, int]:
    """What is looked for in files, on all pages and in all notebooks that readers are given."""
    paths = [path for path in sorted(HTML.rglob("*.html")) if "_static" not in path.parts]
    pages = [path.read_text(encoding="utf-8") for path in paths]
    notebooks = [
        json.loads((HTML / "_static" / "notebooks" / f"{stem}.ipynb").read_text(encoding="utf-8"))
        for stem in chapters()
    ]
    told = "\n".join(
        "".join(cell["source"])
        for notebook in notebooks
        for cell in notebook["cells"]
        if cell["cell_type"] == "markdown"
    )
    text = "\n".join(pages)
    between = 0
    for stem in chapters():
        page = (HTML / "book" / f"{stem}.html").read_text(encoding="utf-8")
        article = page.partition("<article")[2].partition("</article")[0]
        between += len(re.findall(r'href="(?:notation|costs|claims|teaching)\.html', article))
        between += sum(f'href="{other}.html' in article for other in chapters())
    return {
        "roles left in plain notebooks": len(re.findall(r"\{[a-z:]+\}`", told)),
        "fences left in plain notebooks": len(re.findall(r"^[`:]{3,}\{", told, re.MULTILINE)),
        "placeholder addresses on pages": text.count(PLACEHOLDER.strip("/") + "/"),
        "'no GPU result yet' on pages": text.count("no GPU result yet"),
        "bars 'Show code cell source'": text.count("Show code cell source"),
        "links of chapters to other pages": between,
        "pages with a description": text.count('<meta name="description"'),
        "requests for fontawesome.js": text.count("fontawesome.js"),
    }


def main() -> int:
    with served() as address, chromium() as browser:
        rows = {page: measured(browser, f"{address}/{page}.html") for page in pages_in_toc()}
    names = list(next(iter(rows.values())))
    print(" | ".join(["page", *names]))
    for page, found in rows.items():
        said = [f"{found[name]:.2f}" if name == "CLS" else f"{found[name]:,.0f}" for name in names]
        print(" | ".join([page.removeprefix("book/"), *said]))
    for name, number in counted().items():
        print(f"{name}: {number}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
