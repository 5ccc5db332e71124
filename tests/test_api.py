"""The pages of the API: every public name has its place, read from the source, not imported."""

import re
import subprocess
import sys
from types import ModuleType

import pytest
from built_book import HTML, ROOT, require_built
from scripts import script
from tools.notebooks import pages_in_toc

pytest.importorskip("griffe")
PAGES = [page.removeprefix("book/api/") for page in pages_in_toc() if page.startswith("book/api/")]


@pytest.fixture(scope="module")
def source() -> ModuleType:
    return script("book/_ext/api_source.py")


@pytest.fixture(scope="module")
def archbook(source):
    return source.package(ROOT)


@pytest.fixture
def pages(source, monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    return script("book/_ext/api_pages.py")


def test_every_public_part_has_a_page_and_no_other(source, archbook):
    assert sorted(PAGES) == source.public_parts(archbook)


@pytest.mark.slow
def test_the_source_says_what_an_import_gives(source, archbook):
    """In a process of its own: `__all__` as Python has it, beside what griffe read."""
    parts = ("folded_cnn", "data", "verdicts")
    told = f"from archbook import {', '.join(parts)}\n"
    told += "".join(f"print(*{part}.__all__)\n" for part in parts)
    command = [sys.executable, "-c", told]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for part, said in zip(parts, done.stdout.splitlines(), strict=True):
        assert sorted(source.public_names(archbook, part)) == sorted(said.split())


def test_reading_the_source_imports_neither_the_package_nor_torch():
    code = (
        "import sys, pathlib; import api_source as s; a = s.package(pathlib.Path('.').resolve());"
        "print([s.signature(one) for part in s.public_parts(a) for one in s.public(a, part)] != [],"
        "{'torch', 'archbook', 'numpy'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PYTHONPATH": "book/_ext"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[0] == "True set()"


def test_no_two_names_of_a_part_have_one_label(source, archbook):
    for part in source.public_parts(archbook):
        labels = [one.label for one in source.public(archbook, part)]
        assert len(set(labels)) == len(labels), part


def test_a_function_called_as_the_file_that_it_is_in_is_the_function(source, archbook):
    found = {one.name: one for one in source.public(archbook, "folded_cnn")}
    assert found["cost"].kind == "function"
    assert found["Cost"].label == "api-folded-cnn-cost"
    assert found["cost"].label == "api-folded-cnn-cost-function"


@pytest.mark.parametrize(
    ("part", "name", "lines"),
    [
        ("egnn", "sum_by_graph", ["def sum_by_graph(", '    h: Float[Tensor, "nodes k"],']),
        ("lmu", "LegendreMemory", ["class LegendreMemory(LinearMemory)", "LegendreMemory("]),
        ("gfnn", "axis_weights", ["    *,", '    edges: str = "clamp",']),
        ("attention", "KeyValueCache", ["class KeyValueCache(NamedTuple):"]),
        ("timing", "Plan", ["@dataclass(frozen=True)", "    seconds: Mapping[str, float]"]),
        ("timing", "STEP", ['STEP = "forward+backward"']),
    ],
)
def test_a_signature_is_as_the_source_has_it(part, name, lines, source, archbook):
    (one,) = (one for one in source.public(archbook, part) if one.name == name)
    text = "\n".join(source.signature(one))
    for line in lines:
        assert line in text


@pytest.mark.parametrize(
    ("docstring", "markdown"),
    [
        ("x_i * y_j", [r"x\_i \* y\_j", ""]),
        ("see `other`", ["see [`other`](#there)", ""]),
        ("see `other.method`", ["see [`other.method`](#there)", ""]),
        ('mode "zoh" of --size', ['mode `"zoh"` of `--size`', ""]),
        ("One.\nmask: True = real.", ["One.", "", "**`mask`**: True = real.", ""]),
        ("One.\nErrors: none.\n    No.", ["One.", "", "**Errors**: none. No.", ""]),
        ("A sum\n    a + b\nends.", ["A sum", "", "```{code-block} text", "a + b"]),
        (">>> f(1)\n2", ["```{code-block} pycon", ">>> f(1)", "2", "```", ""]),
        ("in a graph: many", ["in a graph: many", ""]),
    ],
)
def test_a_docstring_reads_as_it_was_written(docstring, markdown, source):
    found = source.prose(docstring, ["mask"], {"other": "there"})
    assert found[: len(markdown)] == markdown


def test_a_method_that_an_override_only_repeats_is_told_where_it_is_described(source, archbook):
    (full,) = (o for o in source.public(archbook, "attention") if o.name == "FullAttention")
    assert [one.name for one in source.methods(full.what)] == ["attend_cache"]
    assert "forward" in [one.name for one in source.inherited_methods(full.what)["Attention"]]


def test_a_name_leads_to_the_section_of_its_chapter_that_uses_it_first(source, archbook, pages):
    (lmu,) = (one for one in source.public(archbook, "lmu") if one.name == "LMU")
    assert pages.chapter_of(ROOT, lmu) == ("lmu", "Build: the whole model")
    (timed,) = (one for one in source.public(archbook, "timing") if one.name == "timed")
    assert pages.chapter_of(ROOT, timed) is None


def missing(source: ModuleType, part: str, text: str) -> list[str]:
    """Public names without a section or, but for constants, without an example on a page."""
    faults = []
    for one in source.public(source.package(ROOT), part):
        begin = text.find(f'id="{one.label}"')
        section = text[begin:].partition("</section>")[0]
        has_example = one.kind == "constant" or "&gt;&gt;&gt;" in section
        if begin < 0 or not has_example:
            faults.append(one.name)
    return faults


@pytest.mark.book
@pytest.mark.parametrize("part", PAGES)
def test_a_page_shows_every_public_name_with_its_example(part: str, source):
    require_built()
    text = (HTML / "book" / "api" / f"{part}.html").read_text(encoding="utf-8")
    assert missing(source, part, text) == []


@pytest.mark.book
def test_a_name_that_a_page_lacks_is_noticed(source):
    require_built()
    text = (HTML / "book" / "api" / "lmu.html").read_text(encoding="utf-8")
    assert missing(source, "lmu", text.replace('id="api-lmu-lmucell"', "")) == ["LMUCell"]
    assert missing(source, "lmu", re.sub("&gt;&gt;&gt;", "", text))[0] == "LMU"
