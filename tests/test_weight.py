"""What a page weighs, and that it holds still while it loads. Run by `make pages`."""

import pytest
from tools.notebooks import pages_in_toc

pytestmark = pytest.mark.browser
every_page = pytest.mark.parametrize("document", pages_in_toc())
MOST_BYTES = 2_000_000  # decoded, without images
MOST_SHIFT = 0.05

# What was fetched, decoded: by the page itself and by what it asked for.
FETCHED = """[...performance.getEntriesByType("navigation"),
  ...performance.getEntriesByType("resource")]
  .map(one => [one.name, one.initiatorType, one.decodedBodySize])"""


@every_page
def test_a_page_weighs_less_than_two_megabytes_without_its_images(document: str, visit):
    found = visit(f"{document}.html").page.evaluate(FETCHED)
    sizes = {name: size for name, kind, size in found if kind not in ("img", "image")}
    assert sum(sizes.values()) < MOST_BYTES, sorted(sizes.items(), key=lambda one: -one[1])[:9]


@every_page
def test_a_page_loads_mathjax_only_for_formulas(document: str, visit):
    page = visit(f"{document}.html").page
    loaded = any("mathjax" in name for name, _, _ in page.evaluate(FETCHED))
    assert loaded == (page.locator(".math").count() > 0)


@every_page
def test_no_page_loads_a_font_or_a_script_of_icons(document: str, visit):
    page = visit(f"{document}.html").page
    assert not [name for name, _, _ in page.evaluate(FETCHED) if "fontawesome" in name]
    assert page.locator("svg.icon").count() > 3


@every_page
def test_every_image_says_its_size_and_waits_until_it_is_near(document: str, visit):
    page = visit(f"{document}.html").page
    bare = page.locator("img:not([width][height][loading=lazy])")
    assert [one.get_attribute("src") for one in bare.all()] == []


@every_page
def test_nothing_jumps_while_a_page_loads(document: str, visit):
    assert visit(f"{document}.html").shifted < MOST_SHIFT


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_stands_in_code_without_a_span_has_the_colour_that_the_span_had(theme: str, visit):
    page = visit("book/lmu.html").page
    found = page.evaluate(
        """theme => {
          const root = document.documentElement, before = root.dataset.theme;
          root.dataset.theme = theme;
          const code = document.querySelector(".cell_input .highlight pre");
          const spans = ["n", "nn", "p", "w"].map(kind => {
            const span = code.appendChild(document.createElement("span"));
            span.className = kind;
            return span;
          });
          const colours = [code, ...spans].map(one => getComputedStyle(one).color);
          spans.forEach(span => span.remove());
          root.dataset.theme = before;
          return colours;
        }""",
        theme,
    )
    assert len(set(found)) == 1, found
    assert not page.locator(".highlight :is(.n, .nn, .p, .w)").count()
