"""The built pages on a small screen: nothing is cut, what scrolls says so. Run by `make pages`."""

from collections.abc import Callable
from functools import cache

import pytest
from chromium import DESK, PHONE
from tools.chapters import chapters
from tools.notebooks import pages_in_toc

pytestmark = pytest.mark.browser
every_page = pytest.mark.parametrize("document", pages_in_toc())
every_chapter = pytest.mark.parametrize("stem", chapters())

# Formulas that stick out of a box that cuts them, and that nothing around them scrolls.
CUT = """[...document.querySelectorAll(".bd-article .math mjx-math")].filter(formula => {
  const box = formula.closest(".math");
  if (formula.getBoundingClientRect().right <= box.getBoundingClientRect().right + 3) return false;
  for (let one = formula; one !== box.parentElement; one = one.parentElement) {
    if (["auto", "scroll"].includes(getComputedStyle(one).overflowX)) return false;
  }
  return true;
}).map(formula => formula.closest(".math").textContent)"""

# Boxes that scroll sideways and whose right edge does not fade.
UNTOLD = """[...document.querySelectorAll(".bd-article *")].filter(box =>
  ["auto", "scroll"].includes(getComputedStyle(box).overflowX) &&
  box.scrollWidth > box.clientWidth + 3 && box.clientWidth > 0 &&
  getComputedStyle(box).maskImage === "none"
).map(box => box.tagName + "." + box.className)"""

LOOKS, MOMENT = 10, 500  # times, and milliseconds between two
SETTLED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def at(visit, document: str, width: int):
    one = visit(f"{document}.html", {"width": width, "height": 844})
    one.unfold()
    one.page.evaluate(SETTLED)
    return one.page


Seen = Callable[[str, int], dict]


@pytest.fixture(scope="module")
def seen(visit) -> Seen:
    """What is wrong with a page at a width, told once: to lay a page out takes most of the time."""

    @cache
    def once(document: str, width: int) -> dict:
        page = at(visit, document, width)
        found = {}
        for _ in range(LOOKS):  # for a moment after the size has changed, edges lag behind
            found = page.evaluate(
                f"({{cut: {CUT}, untold: {UNTOLD}, wide: document.documentElement.scrollWidth}})"
            )
            if not found["untold"]:
                break
            page.wait_for_timeout(MOMENT)
        return found

    return once


@every_page
@pytest.mark.parametrize("width", [390, 360])
def test_no_formula_is_cut(document: str, width: int, seen: Seen):
    assert seen(document, width)["cut"] == []


def test_the_reading_of_cut_formulas_notices_one(visit):
    page = at(visit, "book/lmu", 360)
    page.add_style_tag(content="span.math.wide { overflow-x: hidden !important }")
    assert page.evaluate(CUT) != []
    page.evaluate("document.head.lastElementChild.remove()")


@every_page
@pytest.mark.parametrize("width", [PHONE["width"], 320])
def test_nothing_sticks_out_sideways(document: str, width: int, seen: Seen):
    assert seen(document, width)["wide"] <= width


@every_page
@pytest.mark.parametrize("width", [PHONE["width"], DESK["width"]])
def test_where_something_goes_on_sideways_its_edge_fades(document: str, width: int, seen: Seen):
    assert seen(document, width)["untold"] == []


def test_on_a_phone_most_code_goes_on_sideways(visit):
    page = at(visit, "book/lmu", PHONE["width"])
    page.wait_for_function(f"({UNTOLD}).length === 0")  # edges fade a moment after the size changed
    assert page.locator("pre.more-right").count() > 10


@every_chapter
def test_a_phone_is_shown_the_narrow_pictures(stem: str, visit):
    found = at(visit, f"book/{stem}", PHONE["width"]).evaluate(
        """Promise.all([...document.querySelectorAll("figure img")]
          .filter(one => one.checkVisibility())
          .map(async one => {
            one.loading = "eager";
            await one.decode();
            one.loading = "lazy";
            return [one.currentSrc.includes("/phones/"), one.clientWidth];
          }))"""
    )
    assert len(found) >= 3
    assert {is_narrow for is_narrow, _ in found} == {True}
    assert min(width for _, width in found) >= 340


@every_chapter
@pytest.mark.parametrize("width", [PHONE["width"], DESK["width"]])
def test_a_picture_keeps_its_shape(stem: str, width: int, visit):
    shapes = at(visit, f"book/{stem}", width).evaluate(
        """Promise.all([...document.querySelectorAll("figure img")]
          .filter(one => one.checkVisibility())
          .map(async one => {
            one.loading = "eager";
            await one.decode();
            one.loading = "lazy";
            return [one.clientWidth / one.clientHeight, one.naturalWidth / one.naturalHeight];
          }))"""
    )
    assert len(shapes) >= 3
    for shown, drawn in shapes:
        assert shown == pytest.approx(drawn, rel=0.02)


@every_chapter
def test_no_table_of_a_chapter_is_cut_on_a_desk(stem: str, visit):
    page = at(visit, f"book/{stem}", DESK["width"])
    assert page.locator(".pst-scrollable-table-container.more-right").count() == 0
