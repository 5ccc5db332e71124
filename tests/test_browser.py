"""Every built page in a real browser with the network cut. Run by `make pages`.

Uses a Chromium that is installed (Debian's, or the one named in CHROMIUM); downloads none.
"""

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator

import pytest
from built_book import HTML, require_built
from tools.notebooks import pages_in_toc

pytestmark = pytest.mark.browser
CHROMIUM = (
    os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
)
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
PATIENCE = 120_000  # milliseconds that a page may take on a busy machine

every_page = pytest.mark.parametrize("document", pages_in_toc())


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    require_built()
    handler = functools.partial(QuietHandler, directory=str(HTML))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
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
        self.page.goto(f"{address}/{path}", wait_until="load")
        # MathJax is loaded with `defer` and starts on its own; a page without formulas has none.
        self.page.evaluate("window.MathJax && MathJax.startup && MathJax.startup.promise")

    def _note_request(self, request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.complaints.append(f"asked for {request.url}")

    def _note_response(self, response) -> None:
        if response.status >= 400:
            self.complaints.append(f"{response.status} for {response.url}")

    def _note_console(self, message) -> None:
        if message.type == "error":
            self.complaints.append(f"console: {message.text}")


@pytest.fixture(scope="module")
def visit(browser, address):
    """Opens a page once for all tests that look at it."""
    visits: dict[str, Visit] = {}

    def once(path: str) -> Visit:
        if path not in visits:
            visits[path] = Visit(browser, address, path)
        visits[path].page.set_viewport_size(DESK)
        visits[path].page.emulate_media(color_scheme="light")
        return visits[path]

    return once


@every_page
def test_a_page_opens_without_complaint_and_without_the_network(document: str, visit):
    assert visit(f"{document}.html").complaints == []


@every_page
def test_all_mathematics_is_typeset(document: str, visit):
    page = visit(f"{document}.html").page
    formulas = page.locator(".math").count()
    assert page.locator(".math mjx-container").count() >= formulas
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0


@every_page
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_sideways_on_a_phone(document: str, scheme: str, visit):
    page = visit(f"{document}.html").page
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_formulas_use_the_fonts_of_the_book(visit):
    page = visit("book/notation.html").page
    page.evaluate("document.fonts.ready")
    loaded = page.evaluate(
        "[...document.fonts].filter(f => f.family.startsWith('MJXTEX') && f.status == 'loaded')"
        ".length"
    )
    assert loaded >= 2


def test_extensions_of_tex_load_from_the_book(visit):
    one = visit("book/notation.html")
    html = one.page.evaluate(
        "MathJax.tex2chtmlPromise('\\\\boldsymbol{x} \\\\cancel{y} \\\\color{red}{z}')"
        ".then(node => node.outerHTML)"
    )
    assert "merror" not in html
    assert one.complaints == []


def test_the_search_finds_a_word_and_shows_where(visit):
    one = visit("search.html?q=quartiles")
    results = one.page.locator("#search-results li")
    results.first.wait_for()
    links = [link.get_attribute("href") or "" for link in results.locator("a").all()]
    assert any("costs" in link for link in links)
    one.page.wait_for_selector("#search-results li p.context")
    assert one.complaints == []


def test_a_code_cell_offers_to_be_copied(visit):
    assert visit("book/lmu.html").page.locator("button.copybtn").count() >= 1


def test_the_reader_can_change_to_dark_pages(visit):
    page = visit("book/how_to_read.html").page
    colours = set()
    for _ in range(3):  # the switch goes round light, dark and the system's choice
        page.locator("button.theme-switch-button:visible").first.click()
        colours.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2


def test_a_solution_is_folded_until_it_is_asked_for(visit):
    solutions = visit("book/lmu.html").page.locator(".solution.dropdown")
    assert solutions.count() >= 1
    assert "toggle-hidden" in (solutions.first.get_attribute("class") or "")
