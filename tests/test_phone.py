"""The built pages on a small screen: nothing is cut, what scrolls says so. Run by `make pages`."""

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

SETTLED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def at(visit, document: str, width: int):
    one = visit(f"{document}.html")
    one.page.set_viewport_size({"width": width, "height": 844})
    one.unfold()
    one.page.evaluate(SETTLED)
    return one.page


@every_page
@pytest.mark.parametrize("width", [390, 360])
def test_no_formula_is_cut(document: str, width: int, visit):
    assert at(visit, document, width).evaluate(CUT) == []


def test_the_reading_of_cut_formulas_notices_one(visit):
    page = at(visit, "book/lmu", 360)
    page.add_style_tag(content="span.math.wide { overflow-x: hidden !important }")
    assert page.evaluate(CUT) != []
    page.evaluate("document.head.lastElementChild.remove()")


@every_page
@pytest.mark.parametrize("width", [PHONE["width"], 320])
def test_nothing_sticks_out_sideways(document: str, width: int, visit):
    assert at(visit, document, width).evaluate("document.documentElement.scrollWidth") <= width


@every_page
@pytest.mark.parametrize("width", [PHONE["width"], DESK["width"]])
def test_where_something_goes_on_sideways_its_edge_fades(document: str, width: int, visit):
    page = at(visit, document, width)
    page.wait_for_function(f"({UNTOLD}).length === 0")
    if document == "book/lmu" and width == PHONE["width"]:
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
def test_no_table_of_a_chapter_is_cut_on_a_desk(stem: str, visit):
    page = at(visit, f"book/{stem}", DESK["width"])
    assert page.locator(".pst-scrollable-table-container.more-right").count() == 0
