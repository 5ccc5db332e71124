"""The table of claims: four words, a finding in a sentence, a link to the section."""

import nbformat
import pytest
from built_book import ROOT
from refusals import each_raises
from tools.chapters import chapters

from archbook.claims import SIGNS, read_claims, show_claims
from archbook.verdicts import WORDS

TEXT = """
a claim: with a number | [The law](#lmu-law)
  reproduced: To 1e-11, and here
  the sentence goes on.
another | –
  not testable here: No data.
"""


def test_a_claim_has_a_verdict_a_finding_and_a_link():
    first, second = read_claims(TEXT)
    wanted = ("reproduced", "To 1e-11, and here the sentence goes on.", "[The law](#lmu-law)")
    assert first == ("a claim: with a number", *wanted)
    assert second[1:] == ("not testable here", "No data.", "–")


def test_every_word_of_a_verdict_has_a_sign_of_its_own():
    assert tuple(SIGNS) == WORDS
    assert len(set(SIGNS.values())) == len(WORDS)


def test_the_table_is_left_aligned_markdown(monkeypatch):
    display_module = pytest.importorskip("IPython.display")
    shown = []
    monkeypatch.setattr(display_module, "display", lambda data, raw: shown.append(data))
    show_claims(TEXT)
    lines = shown[0]["text/markdown"].splitlines()
    assert lines[:2] == [
        "| claim | verdict | what was found | where |",
        "| :-- | :-- | :-- | :-- |",
    ]
    assert lines[3] == "| another | – not testable here | No data. | – |"


def of(finding: str, claim: str = "a | [b](#c)"):
    return lambda: read_claims(f"{claim}\n  {finding}\n")


test_no_table_is_made_of = each_raises(
    [
        (of("proved: In general."), ValueError, "a: wanted one of .*, given 'proved'"),
        (of("partly: Some."), ValueError, "given 'partly'"),
        (of("reproduced"), ValueError, "a: wanted a finding that ends in a full stop"),
        (of("reproduced: 98 %"), ValueError, "wanted a finding that ends in a full stop"),
        (of("reproduced: a | b."), ValueError, "wanted no bar within a cell"),
        (of("reproduced: Yes.", "a | the law"), ValueError, "wanted `CLAIM"),
        (of("reproduced: Yes.", "a"), ValueError, "wanted `CLAIM"),
        (lambda: read_claims("  reproduced: Yes."), ValueError, "wanted a claim before"),
    ]
)


@pytest.mark.parametrize("stem", chapters())
def test_a_chapter_links_each_claim_to_a_section_of_its_own(stem: str):
    cells = nbformat.read(ROOT / "book" / f"{stem}.ipynb", as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    tables = [
        output["data"]["text/markdown"]
        for cell in cells
        if cell.cell_type == "code" and "show_claims(" in cell.source
        for output in cell.outputs
    ]
    assert len(tables) == 1
    rows = [line.strip("| ").split(" | ") for line in tables[0].splitlines()[2:]]
    assert len(rows) >= 5
    for _, verdict, _, where in rows:
        sign, _, word = verdict.partition(" ")
        assert SIGNS[word] == sign
        if where != "–":
            label = where.partition("](#")[2].rstrip(")")
            assert f"({label})=\n" in text
