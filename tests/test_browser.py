"""Every built page in a real browser with the network cut. Run by `make pages`."""

import io

import numpy as np
import pytest
from chromium import DESK, PATIENCE
from PIL import Image
from tools.notebooks import pages_in_toc

pytestmark = pytest.mark.browser
every_page = pytest.mark.parametrize("document", pages_in_toc())


@every_page
def test_a_page_opens_without_complaint_and_without_the_network(document: str, visit):
    assert visit(f"{document}.html").complaints == []


@every_page
def test_all_mathematics_is_typeset(document: str, visit):
    page = visit(f"{document}.html").page
    formulas = page.locator(".math").count()
    assert page.locator(".math mjx-container").count() >= formulas
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0


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


def test_every_fold_says_what_is_in_it(visit):
    page = visit("book/lmu.html").page
    folds = page.locator("details.hide summary").all_text_contents()
    assert "Code of Fig. 1.1" in folds[1]
    assert not [text for text in folds if "code cell source" in text]
    names = page.locator("button.toggle-button").evaluate_all(
        "buttons => buttons.map(button => button.ariaLabel)"
    )
    assert names[0].startswith("Solution to Exercise 1.1")
    assert len(set(names)) == len(names)


# ---- the keyboard ----


@every_page
def test_no_formula_is_a_tab_stop_where_none_is_cut(document: str, visit):
    page = visit(f"{document}.html").page
    assert page.locator("mjx-container[tabindex='0'], span.math[tabindex='0']").count() == 0


FOCUS = 150  # changed pixels that an eye finds
CONTROLS = {
    "book/intro": (".sd-card a", "header .btn, .sidebar-toggle, .search-button-field"),
    "book/lmu": (
        ".article-header-buttons button, .sidebar-toggle, .theme-switch-button",
        ".bd-links a, .navbar-brand, .search-button-field",
        "details.hide summary, button.toggle-button, button.copybtn, .bd-article a",
        ".live select, .live input, .prev-next-area a, .page-toc a",
    ),
}


# Marks the first visible control of each kind, and says which kinds there are.
KINDS = """selector => {
  const kinds = {};
  for (const one of document.querySelectorAll(selector)) {
    const kind = [one.tagName, ...one.classList, one.type ?? ""].join(" ");
    if (kind in kinds || !one.checkVisibility({ visibilityProperty: true })) continue;
    kinds[kind] = one.dataset.kind = kind;
  }
  return Object.keys(kinds);
}"""


def focused(page, control) -> int:
    """How many pixels around a control change as the keyboard comes to it."""
    control.scroll_into_view_if_needed()
    box = control.bounding_box()
    room = 6
    clip = {
        "x": max(0, box["x"] - room),
        "y": max(0, box["y"] - room),
        "width": box["width"] + 2 * room,
        "height": box["height"] + 2 * room,
    }
    page.evaluate("document.activeElement.blur()")
    before = page.screenshot(clip=clip, animations="disabled")
    control.focus()
    after = page.screenshot(clip=clip, animations="disabled")
    old, new = (
        np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), int) for png in (before, after)
    )
    return int((np.abs(old - new).max(-1) > 40).sum())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("document", CONTROLS)
def test_the_control_that_the_keyboard_is_on_shows_it(document: str, scheme: str, address, browser):
    page = browser.new_page(viewport=DESK, color_scheme=scheme)
    page.set_default_timeout(PATIENCE)
    page.route("**/mathjax/**", lambda route: route.abort())  # formulas are no controls
    page.goto(f"{address}/{document}.html")
    page.keyboard.press("Tab")  # from here on the browser draws the focus of the keyboard
    kinds = page.evaluate(KINDS, ", ".join(CONTROLS[document]))
    assert len(kinds) >= 3
    changed = {kind: focused(page, page.locator(f"[data-kind='{kind}']")) for kind in kinds}
    page.close()
    assert {kind: pixels for kind, pixels in changed.items() if pixels <= FOCUS} == {}
