"""A chapter on paper, printed from a dark page. Run by `make pages`."""

import pytest
from tools.chapters import chapters

pytestmark = pytest.mark.browser
A4 = {"width": 718, "height": 1046}  # what margins of a centimetre leave, in CSS pixels
LEAST_CONTRAST = 4.5  # WCAG 2, AA

# The words on paper with less contrast than that to what lies behind them.
FAINT = """least => {
  const levels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => levels(colour).slice(0, 3)
    .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if ((levels(colour)[3] ?? 1) > 0.5) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = {};
  for (const one of document.querySelectorAll(".bd-article *")) {
    const says = [...one.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!says || !one.checkVisibility() || one.closest("mjx-container")) continue;
    const [a, b] = [getComputedStyle(one).color, ground(one)].map(luminance).sort();
    const contrast = (b + 0.05) / (a + 0.05);
    if (contrast < least) found[`${one.tagName}.${one.className}`] = contrast.toFixed(1);
  }
  return found;
}"""


@pytest.fixture
def paper(visit, request):
    """A chapter as it is printed by a reader whose pages are dark."""

    def printed(stem: str):
        one = visit(f"book/{stem}.html")
        one.page.emulate_media(color_scheme="dark", media="screen")
        one.page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
        one.unfold()
        one.page.set_viewport_size(A4)
        one.page.emulate_media(color_scheme="dark", media="print")
        one.page.wait_for_function("document.documentElement.dataset.theme === 'light'")
        request.addfinalizer(lambda: one.page.emulate_media(media="screen"))
        return one.page

    return printed


def test_words_and_code_have_contrast_on_paper(paper):
    assert paper("lmu").evaluate(FAINT, LEAST_CONTRAST) == {}


def test_the_reading_of_contrast_notices_a_dark_page(visit):
    page = visit("book/lmu.html").page
    page.evaluate("document.querySelector('.bd-article p:not([class])').style.color = '#999'")
    assert "P." in page.evaluate(FAINT, LEAST_CONTRAST)
    page.evaluate("document.querySelector('.bd-article p:not([class])').style.color = ''")


@pytest.mark.parametrize("stem", chapters())
def test_tables_and_code_fit_on_paper(stem: str, paper):
    page = paper(stem)
    wide = page.evaluate(
        "[...document.querySelectorAll('.bd-article table, .bd-article pre')]"
        ".filter(one => one.checkVisibility() && one.scrollWidth > one.clientWidth + 3"
        " || one.getBoundingClientRect().right > innerWidth)"
        ".map(one => one.textContent.slice(0, 80))"
    )
    assert wide == []


def test_paper_shows_the_numbered_title_and_no_bars_to_click(paper):
    page = paper("lmu")
    titles = [text for text in page.locator("h1").all() if text.is_visible()]
    assert [text.text_content()[:3] for text in titles] == ["1. "]
    assert page.locator("details.hide:visible").count() == 0


def test_paper_shows_the_picture_of_a_figure_that_can_be_changed(paper):
    page = paper("lmu")
    assert page.locator("#fig-lmu-window img").is_visible()
    assert not page.locator("#fig-lmu-window .live").is_visible()


def test_afterwards_the_page_is_dark_again(paper):
    page = paper("lmu")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.emulate_media(color_scheme="dark", media="screen")
    page.wait_for_function("document.documentElement.dataset.theme !== 'light'")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
