"""An installed Chromium with the network cut, and the built pages opened in it, for the tests.

Debian's Chromium, or the one named in CHROMIUM; none is downloaded.
"""

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator

import pytest
from built_book import HTML, require_built

CHROMIUM = (
    os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
)
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
PATIENCE = 120_000  # milliseconds that a page may take on a busy machine
# What jumped while the page loaded, as the sum that browsers call cumulative layout shift.
SHIFTS = """
window.shifted = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    require_built()
    handler = functools.partial(QuietHandler, directory=str(HTML))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip(
            "NO BROWSER WAS TESTED: no chromium here. Install Debian's package `chromium`, "
            "or name one in CHROMIUM=..."
        )
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        # Chromium refuses its sandbox to root, which is what a container runs as.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        # No name but this machine's own address can be looked up: the network is cut.
        arguments.append("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


class Visit:
    """One page, opened where every other host is out of reach; what went wrong is noted."""

    def __init__(self, browser, address: str, path: str):
        self.address = address
        self.complaints: list[str] = []
        self.page = browser.new_page(viewport=DESK)
        self.page.set_default_timeout(PATIENCE)
        self.page.on("request", self._note_request)
        self.page.on("response", self._note_response)
        self.page.on("console", self._note_console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.add_init_script(SHIFTS)
        self.page.goto(f"{address}/{path}", wait_until="load")
        # MathJax is loaded with `defer` and starts on its own; a page without formulas has none.
        self.page.evaluate("window.MathJax && MathJax.startup && MathJax.startup.promise")
        # Noted now: later tests unfold the same page and change its size.
        self.shifted: float = self.page.evaluate(
            "new Promise(done => setTimeout(() => done(window.shifted), 300))"
        )

    def unfold(self) -> None:
        """Every fold open: solutions, details, code."""
        self.page.evaluate(
            "document.querySelectorAll('details').forEach(one => (one.open = true));"
            "document.querySelectorAll('.toggle-hidden').forEach(one =>"
            " one.classList.remove('toggle-hidden'))"
        )
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")

    def _note_request(self, request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.complaints.append(f"asked for {request.url}")

    def _note_response(self, response) -> None:
        if response.status >= 400:
            self.complaints.append(f"{response.status} for {response.url}")

    def _note_console(self, message) -> None:
        if message.type == "error":
            self.complaints.append(f"console: {message.text}")


@pytest.fixture(scope="session")
def visit(browser, address):
    """Opens a page once for all tests that look at it."""
    visits: dict[str, Visit] = {}

    def once(path: str, size: dict = DESK) -> Visit:
        if path not in visits:
            visits[path] = Visit(browser, address, path)
        page = visits[path].page
        if page.viewport_size != size:  # to lay out a chapter anew takes a second
            page.set_viewport_size(size)
        page.emulate_media(color_scheme="light", media="screen")
        return visits[path]

    return once
