"""What readers type, and the section that must stand on top of what the search shows."""

import pytest
from built_book import HTML, require_built

QUERIES = {
    # those that the first edition answered with another page, or with none
    "LMU": "book/lmu.html",
    "linear attention": "book/omninet.html#",
    "license": "book/about.html#licence",
    "cite": "book/about.html#how-to-cite",
    "dataset": "book/",
    "linformer": "book/omninet.html#",
    # chapters and their parts
    "EGNN": "book/egnn.html",
    "MSA Transformer": "book/msa_transformer.html",
    "OmniNet": "book/omninet.html",
    "GFNN": "book/gfnn.html",
    "FoldedCNN": "book/folded_cnn.html",
    "equivariance": "book/egnn.html#",
    "arithmetic intensity": "book/folded_cnn.html#",
    "psMNIST": "book/lmu.html#",
    "Mackey-Glass": "book/lmu.html#",
    "Catmull-Rom": "book/gfnn.html#",
    "random features": "book/omninet.html#",
    "Legendre polynomials": "book/lmu.html#",
    "square root": "book/msa_transformer.html#",
    "QM9 molecules": "book/egnn.html#",
    "Shakespeare": "book/omninet.html#",
    # names of the package, as they are written
    "legendre_readout": "book/api/lmu.html#api-lmu-legendre-readout",
    "FoldedClassifier": "book/api/folded_cnn.html#api-folded-cnn-foldedclassifier",
    "sum_by_graph": "book/api/egnn.html#api-egnn-sum-by-graph",
    # the rest of the book
    "changelog": "book/about.html#changelog",
    "quartiles": "book/costs.html#",
    "syllabus": "book/teaching.html#",
    "colab": "book/how_to_read.html#",
    "jupyterlab": "book/how_to_read.html#",
    "assignment": "book/teaching.html#",
    "notation": "book/notation.html",
    "claims": "book/claims.html",
}


@pytest.fixture(scope="module")
def page(visit):
    opened = visit("search.html?q=legendre").page
    opened.wait_for_function("() => Boolean(window.findSections)")
    return opened


@pytest.mark.browser
@pytest.mark.parametrize(("query", "where"), QUERIES.items())
def test_a_query_leads_to_its_section(query: str, where: str, page):
    first = page.evaluate("query => findSections(query)[0]", query)
    assert first is not None
    assert first["at"].startswith(where), f"{query}: {first['at']} ({first['title']})"


@pytest.mark.browser
def test_a_query_without_a_hit_says_so(visit):
    opened = visit("search.html?q=zeppelin")
    opened.page.locator(".search-summary").wait_for()
    assert "No section has" in opened.page.locator(".search-summary").inner_text()
    assert opened.complaints == []


@pytest.mark.browser
def test_a_result_shows_where_with_the_word_marked_and_opens_at_its_section(browser, visit):
    opened = visit("search.html?q=catmull")
    first = opened.page.locator("#search-results li").first
    first.wait_for()
    assert first.locator("mark").count() >= 1
    link = first.locator("a")
    assert "#" in (link.get_attribute("href") or "")
    target = browser.new_page()
    target.goto(link.evaluate("one => one.href"), wait_until="load")
    target.wait_for_function("window.scrollY > 500")
    target.close()
    assert opened.complaints == []


@pytest.mark.browser
def test_the_search_works_from_a_file(browser):
    opened = browser.new_page()
    opened.goto(f"{(HTML / 'search.html').as_uri()}?q=catmull")
    assert opened.locator("#search-results li").count() >= 1
    opened.close()


@pytest.mark.book
def test_no_formula_and_no_code_is_searched():
    require_built()
    text = (HTML / "_static" / "sections.js").read_text(encoding="utf-8")
    assert "\\\\frac" not in text
    assert "import torch" not in text
    assert len(text) < 800_000
