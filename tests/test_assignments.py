"""The assignments: what their sources say, what is built from them, and what that gives away.

`make graded` grades the solutions, the blanks, the planted mistakes and the hostile ones.
"""

import re
import tomllib
import zipfile
from pathlib import Path

import nbformat
import pytest
from assigned import ASSIGNMENTS, ROOT, SECRET, build
from tools.assignments import build as build_tool

pytestmark = pytest.mark.slow  # nearly all of them build or grade in processes of their own
STEMS = sorted(path.parent.name for path in ASSIGNMENTS.glob("*/mistakes.toml"))
every_assignment = pytest.mark.parametrize("stem", STEMS)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    """The public version of each assignment."""
    folder = tmp_path_factory.mktemp("built")
    return {stem: build(stem, build_tool.PUBLIC_SEED, folder / stem) for stem in STEMS}


@pytest.fixture(scope="module")
def private(tmp_path_factory) -> Path:
    return build("lmu", SECRET, tmp_path_factory.mktemp("own"))


def source_of(stem: str) -> nbformat.NotebookNode:
    return nbformat.read(ASSIGNMENTS / stem / f"{stem}.ipynb", as_version=4)


def text_of(path: Path) -> str:
    return "\n\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)


def hidden_tests(archive: Path) -> dict[str, str]:
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in opened.namelist() if name.startswith("tests/")]
        return {name: opened.read(name).decode() for name in names}


# ---- the sources ----


def test_there_is_an_assignment():
    assert STEMS


@every_assignment
def test_an_assignment_has_four_to_eight_questions_and_one_is_read_by_hand(stem: str):
    asked = [settings for settings, _ in build_tool.questions(source_of(stem))]
    assert 4 <= len(asked) <= 8
    assert any(question.get("manual") for question in asked)


@every_assignment
def test_an_assignment_says_outcomes_time_and_its_points(stem: str):
    notebook = source_of(stem)
    first = notebook.cells[0].source
    asked = [settings for settings, _ in build_tool.questions(notebook)]
    tested = sum(question["points"] for question in asked if not question.get("manual"))
    by_hand = sum(question["points"] for question in asked if question.get("manual"))
    assert "After it you can" in first
    assert "**Time:**" in first
    assert f"**Points:** {tested} by tests, {by_hand} by a reader" in first


@every_assignment
def test_the_rubric_adds_up(stem: str):
    notebook = source_of(stem)
    by_hand = sum(q["points"] for q, _ in build_tool.questions(notebook) if q.get("manual"))
    rows = [re.findall(r"^\| (\d) \|", cell.source, re.MULTILINE) for cell in notebook.cells]
    assert sum(int(points) for row in rows for points in row) == by_hand


@every_assignment
def test_every_tested_question_has_a_visible_and_a_hidden_test_and_a_planted_mistake(stem: str):
    mistakes = tomllib.loads((ASSIGNMENTS / stem / "mistakes.toml").read_text(encoding="utf-8"))
    broken = {name for mistake in mistakes["mistake"] for name in mistake["breaks"]}
    for settings, tests in build_tool.questions(source_of(stem)):
        if settings.get("manual"):
            continue
        hidden = ["hidden: true" in test for test in tests]
        assert set(hidden) == {True, False}, settings["name"]
        assert any("HIDDEN" in test for test in tests), settings["name"]
        assert settings["all_or_nothing"], settings["name"]
        assert settings["name"] in broken


@every_assignment
def test_the_source_is_stored_without_output(stem: str):
    code = [cell for cell in source_of(stem).cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)


# ---- what is built ----


@every_assignment
def test_the_students_version_holds_no_solution(stem: str, built):
    notebook = source_of(stem)
    inside, solutions = False, []
    for cell in notebook.cells:
        if cell.cell_type == "raw":
            inside = cell.source.startswith("# BEGIN SOLUTION")
        elif inside and cell.cell_type == "markdown":
            solutions += cell.source.splitlines()
        elif inside:
            part = cell.source.split("# BEGIN SOLUTION")[1].split("# END SOLUTION")[0]
            solutions += part.splitlines()
    student = text_of(built[stem] / "student" / f"{stem}.ipynb")
    shown = "\n".join(test for _, tests in build_tool.questions(notebook) for test in tests)
    html = (built[stem] / "student" / f"{stem}.html").read_text(encoding="utf-8")
    lines = {line.strip() for line in solutions if len(line.strip()) > 25}
    lines -= {line.strip() for line in shown.splitlines()}  # what a test says too
    assert len(lines) > 20
    assert not [line for line in lines if line in student or line in html]


@every_assignment
def test_the_students_version_holds_no_hidden_test(stem: str, built):
    student = (built[stem] / "student" / f"{stem}.ipynb").read_text(encoding="utf-8")
    for _, tests in build_tool.questions(source_of(stem)):
        for test in tests:
            name = re.search(r"def (\w+)\(", test)[1]
            assert (f"def {name}(" in student) == ("hidden: true" not in test), name
    assert "hidden: true" not in student


@every_assignment
def test_the_published_version_is_the_one_that_is_built(stem: str, built):
    made = (built[stem] / "student" / f"{stem}.ipynb").read_text(encoding="utf-8")
    shown = ROOT / "book" / "_static" / "assignments" / f"{stem}.ipynb"
    assert shown.read_text(encoding="utf-8") == made, "run `make assignments PUBLISH=1`"


def test_the_site_shows_nothing_of_an_assignment_but_the_students_version():
    shown = {path.name for path in (ROOT / "book" / "_static" / "assignments").iterdir()}
    assert shown == {f"{stem}.ipynb" for stem in STEMS}


def test_another_seed_draws_other_hidden_numbers(built, private):
    public = hidden_tests(built["lmu"] / "autograder" / "lmu.zip")
    own = hidden_tests(private / "autograder" / "lmu.zip")
    assert public.keys() == own.keys()
    assert not [name for name in own if own[name] == public[name] and "hidden=True" in own[name]]


def test_the_same_seed_builds_the_same(private, tmp_path):
    again = build("lmu", SECRET, tmp_path / "again")
    archives = [hidden_tests(folder / "autograder" / "lmu.zip") for folder in (private, again)]
    assert archives[0] == archives[1]
    students = [text_of(folder / "student" / "lmu.ipynb") for folder in (private, again)]
    assert students[0] == students[1]


def test_the_seed_itself_is_in_no_file(private):
    for path in private.rglob("*.*"):
        assert b"only the lecturer" not in path.read_bytes(), path


@every_assignment
def test_seeds_give_different_versions(stem: str):
    notebook = source_of(stem)
    values = [str(build_tool.variant_values(notebook, stem, str(seed))) for seed in range(40)]
    assert len(set(values)) >= 8
