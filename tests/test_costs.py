"""*What it costs*: the answer that a page begins with, its figure, and everything else folded."""

import json
import re
from types import ModuleType

import pytest
from built_book import HTML, ROOT, require_built
from refusals import each_raises
from scripts import script
from tools.chapters import chapters

bench_files = script("book/_ext/bench_files.py")
log_panels = script("book/_ext/log_panels.py")

MOST_ROWS = 8
every_chapter = pytest.mark.parametrize("stem", chapters())
every_page = pytest.mark.parametrize("page", ["costs", *(f"costs/{stem}" for stem in chapters())])


@pytest.mark.parametrize(
    ("quartiles", "word"),
    [
        ((1.5, 2.0, 2.5), "faster"),
        ((0.4, 0.5, 0.6), "slower"),
        ((0.9, 1.2, 1.5), "level"),  # the quartiles enclose 1
        ((1.02, 1.04, 1.06), "level"),  # less than five per cent
        ((0.97, 0.98, 0.99), "level"),
        ((1.06, 1.07, 1.08), "faster"),
    ],
)
def test_ours_is_called_faster_level_or_slower_by_its_quartiles(quartiles, word: str):
    assert bench_files.Ratio(*quartiles).word == word


def row_of(**ratios: tuple[float, float, float]) -> dict:
    names = ("q1", "median", "q3")
    return {
        "candidates": {
            name: {"ratio": dict(zip(names, values, strict=True))}
            for name, values in ratios.items()
        }
    }


def test_the_ratio_is_of_the_other_to_ours_whichever_is_the_baseline():
    one = bench_files.ratio_of(row_of(a=(1, 1, 1), b=(2, 4, 5)), "a", "b", "a")
    other = bench_files.ratio_of(row_of(a=(2, 4, 5), b=(1, 1, 1)), "a", "b", "b")
    assert (one.q1, one.median, one.q3) == (2, 4, 5)
    assert (other.q1, other.median, other.q3) == (1 / 5, 1 / 4, 1 / 2)


def a_bench(machine: str, *rows: tuple[float, float, float] | None) -> dict:
    """Of one table, whose rows tell the time of products, of bytes, and the times that of both."""
    told = [
        {"candidates": {"ours": {"of_limit": row[2]}, "peer": {"of_limit": 9.0}}}
        | {"limit": {"products_ms": row[0], "traffic_ms": row[1]}}
        if row
        else {"candidates": {"ours": {"ms": 1.0}}}
        for row in rows
    ]
    return {
        "environment": {"device_name": machine},
        "tables": [{"baseline": "ours", "rows": told}],
    }


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))  # as Sphinx does
    return script("book/_ext/limits.py")


def test_every_model_with_its_limits_stands_under_its_machine(limits: ModuleType):
    benches = [
        ("LMU", a_bench("EPYC", (3.0, 1.0, 2.0), None)),
        ("EGNN", a_bench("EPYC", (1.0, 4.0, 5.0))),
        ("EGNN", a_bench("H200", (2.0, 1.0, 1.25))),
        ("GFNN", a_bench("EPYC", None)),
    ]
    found = limits.by_machine(benches)
    assert found == {
        "EPYC": {"LMU": [(3.0, 0.5)], "EGNN": [(0.25, 0.2)]},
        "H200": {"EGNN": [(2.0, 0.8)]},
    }
    panel = limits.drawn("EPYC", found["EPYC"], ["LMU", "EGNN"])
    assert "LMU: 0.5 at best; EGNN: 0.2 at best." in panel
    assert panel.count('class="mark"') == 2


test_no_comparison_is_made_of = each_raises(
    [
        (
            lambda: bench_files.ratio_of(row_of(), "a", "b", "c"),
            ValueError,
            "wanted the baseline c among a and b",
        ),
        (
            lambda: bench_files.compare(ROOT, "lmu", "bench peers"),
            ValueError,
            "wanted `FILE TABLE: OURS / OTHER`, given 'bench peers'",
        ),
        (
            lambda: bench_files.compare(ROOT, "lmu", "bench pears: a / b"),
            ValueError,
            "wanted a table pears, found none",
        ),
        (
            lambda: bench_files.compare(ROOT, "lmu", "bench peers: last state / b"),
            ValueError,
            "wanted a size at which both ran, found none",
        ),
    ]
)


@every_chapter
def test_a_page_compares_what_the_results_hold(stem: str):
    found = bench_files.comparisons(ROOT, stem)
    assert 1 <= len(found) <= MOST_ROWS
    assert all(len(one.rows) == len(one.ratios) >= 1 for one in found)


@pytest.mark.parametrize(
    ("ends", "wanted"),
    [
        ((0.5, 2000), [1, 10, 100, 1000]),
        ((15, 80), [20, 50]),
        ((3.1, 3.9), [3.1, 3.9]),
    ],
)
def test_an_axis_has_ticks_at_round_numbers_and_never_fewer_than_two(ends, wanted):
    assert log_panels.ticks(*ends) == pytest.approx(wanted)


def test_a_panel_says_its_ends_and_draws_the_expected_slope():
    points = [(x, x**2.0, x**2.0, x**2.0) for x in (1, 2, 4, 8)]
    drawn = log_panels.panel("Time", "T", [log_panels.Series("ours", points, expected=2)])
    assert "ours: 1 at 1, 64 at 8" in drawn
    line = re.search(r'class="line" d="M([\d. ]+)L.*?L([\d. ]+)"', drawn)
    dashes = re.search(r'class="expected" d="M([\d. ]+)L([\d. ]+)"', drawn)
    assert line
    assert dashes
    assert line.groups() == dashes.groups()


# ---- the built pages ----


@pytest.mark.book
@every_chapter
def test_every_table_of_a_chapter_is_on_its_page_under_an_anchor(stem: str):
    require_built()
    text = (HTML / "book" / "costs" / f"{stem}.html").read_text(encoding="utf-8")
    for path in sorted((ROOT / "results" / stem).glob("bench*.json")):
        assert f"results/{stem}/{path.name}" in text
        for table in json.loads(path.read_text(encoding="utf-8"))["tables"]:
            anchor = f"costs-{stem}-{path.stem}-{table['name']}".replace("_", "-").lower()
            assert f'id="{anchor}"' in text


WIDE = """
() => [...document.querySelectorAll(".bd-article table")]
  .filter(table => table.checkVisibility())
  .map(table => [table, table.closest(".pst-scrollable-table-container") || table.parentElement])
  .filter(([table, box]) => table.scrollWidth > box.clientWidth + 1)
  .map(([table]) => table.innerText.slice(0, 60))
"""


@pytest.mark.browser
@every_page
def test_no_table_is_wider_than_its_box(page: str, visit):
    opened = visit(f"book/{page}.html")
    opened.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert opened.page.locator(".bd-article table:visible").count() >= 1
    assert opened.page.evaluate(WIDE) == []


@pytest.mark.browser
@every_chapter
def test_a_page_begins_with_an_answer_of_few_rows(stem: str, visit):
    page = visit(f"book/costs/{stem}.html").page
    first = page.locator("h1 ~ p, h1 ~ .cost-answer, h1 ~ figure, h1 ~ section")
    kinds = [one.evaluate("one => one.className || one.tagName") for one in first.all()[:3]]
    assert kinds[0] == "P"
    assert "cost-answer" in kinds[1]
    assert "cost-figure" in kinds[2]
    assert "comparisons at the largest sizes" in first.first.inner_text()
    rows = page.locator(".cost-answer tbody tr")
    assert rows.count() == len(bench_files.comparisons(ROOT, stem))
    assert rows.count() <= MOST_ROWS


@pytest.mark.browser
@every_chapter
def test_full_tables_are_folded_until_they_are_asked_for(stem: str, visit):
    page = visit(f"book/costs/{stem}.html").page
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = false)")
    assert page.locator(".bench-table").count() >= 4
    assert page.locator(".bench-table:visible").count() == 0
    assert page.evaluate("document.documentElement.scrollHeight") < 8000


@pytest.mark.browser
@every_page
def test_words_in_the_figures_can_be_read_on_a_phone(page: str, visit):
    opened = visit(f"book/{page}.html").page
    opened.set_viewport_size({"width": 390, "height": 844})
    heights = opened.locator("svg.panel").evaluate_all(
        "all => all.map(one => parseFloat(getComputedStyle(one).fontSize)"
        " * one.getBoundingClientRect().width / one.viewBox.baseVal.width)"
    )
    assert heights
    assert min(heights) >= 11
