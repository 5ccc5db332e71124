"""The assignments and their tools: what is built, what a grader may not give away, what it keeps.

`make graded` grades the solutions, the blanks, the planted mistakes and the hostile ones.
Broken on purpose and seen to fail there: with `close_all_but` doing nothing, a submission sends
itself 100 points through a pipe of the grader; with `put_back` doing nothing, one that changes its
input loses none.
"""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from tools.assignments import build as build_tool

pytest.importorskip("otter", reason="`make unit` installs it: the group assignments")

pytestmark = pytest.mark.slow  # nearly all of them build or grade in processes of their own
ROOT = Path(__file__).parents[1]
ASSIGNMENTS = ROOT / "assignments"
STEMS = sorted(path.parent.name for path in ASSIGNMENTS.glob("*/mistakes.toml"))
every_assignment = pytest.mark.parametrize("stem", STEMS)


def python(*arguments: str) -> subprocess.CompletedProcess:
    """Another process: graders fork, and pytest is no place for that."""
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False
    )


def build(stem: str, seed: str, out: Path) -> Path:
    module = ["-m", "tools.assignments.build", stem]
    done = python(*module, "--seed", seed, "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    """The public version of each assignment."""
    folder = tmp_path_factory.mktemp("built")
    return {stem: build(stem, build_tool.PUBLIC_SEED, folder / stem) for stem in STEMS}


@pytest.fixture(scope="module")
def private(tmp_path_factory) -> Path:
    return build("lmu", "a sentence that only the lecturer knows", tmp_path_factory.mktemp("own"))


def source_of(stem: str) -> nbformat.NotebookNode:
    return nbformat.read(ASSIGNMENTS / stem / f"{stem}.ipynb", as_version=4)


def text_of(path: Path) -> str:
    return "\n\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)


def hidden_tests(archive: Path) -> dict[str, str]:
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in opened.namelist() if name.startswith("tests/")]
        return {name: opened.read(name).decode() for name in names}


def plant(stem: str, built: Path, file: str, name: str, place: Path = ROOT) -> str:
    """One submission of mistakes.toml or hostile.toml; `place` is the folder that it attacks."""
    from tools.assignments.check import changed
    from tools.planting import entries

    solution = (built / "solution" / f"{stem}.ipynb").read_text(encoding="utf-8")
    (entry,) = [one for one in entries(ASSIGNMENTS / stem / file) if one["name"] == name]
    return changed(solution, entry, place)


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
    again = build("lmu", "a sentence that only the lecturer knows", tmp_path / "again")
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


# ---- values that travel ----

VALUES = [
    None,
    True,
    3,
    2.5,
    float("inf"),
    "text",
    1 + 2j,
    [1, (2, "a"), {"k": [None]}],
    {1: "number as key", "b": torch.float32},
]


def there_and_back(value):
    from tools.assignments.wire import HEAD, decode, encode

    data = encode(value, id)
    size, _ = HEAD.unpack(data[: HEAD.size])
    text, body = data[HEAD.size : HEAD.size + size], data[HEAD.size + size :]
    return decode(text, body, lambda number, kind: (number, kind))


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_plain_values_come_back_as_they_were(value):
    found = there_and_back(value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.bool, torch.complex64])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_tensors_come_back_as_they_were(dtype, shape):
    value = torch.randn(shape).to(dtype)
    found, _, other = there_and_back([value, 1, value.movedim(0, -1) if shape else value])
    assert found.dtype == dtype
    assert torch.equal(found, value)
    assert torch.equal(other.movedim(-1, 0) if shape else other, value)


def test_arrays_come_back_as_they_were():
    value = np.arange(6, dtype=np.int32).reshape(2, 3).T
    np.testing.assert_array_equal(there_and_back(value), value)


def test_what_is_no_plain_value_stays_and_its_number_travels():
    value = object()
    assert there_and_back([value]) == [(id(value), "object")]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'["eval", "1 + 1"]',
        b'["tensor", "load", [1], 1]',
        b'["tensor", "float32", [10], 4]',
        b'["array", "O", [1], 8]',
        b"[" * 100_000,
    ],
)
def test_a_message_that_means_nothing_is_refused(text: bytes):
    from tools.assignments.wire import decode

    with pytest.raises((ValueError, TypeError, RuntimeError, RecursionError)):
        decode(text, b"12345678", lambda number, kind: None)


# ---- the grader ----


def grade(built: Path, folder: Path, *options: str) -> list[dict[str, str]]:
    """The rows of the CSV."""
    module = ["-m", "tools.assignments.grade", "lmu", str(folder / "handed_in")]
    options = ("--built", str(built), "--out", str(folder / "grades"), *options)
    done = python(*module, *options)
    assert done.returncode == 0, done.stderr
    with (folder / "grades" / "grades.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def course(private):
    """A folder of a course, with the solution handed in."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "handed_in").mkdir()
        solution = (private / "solution" / "lmu.ipynb").read_text(encoding="utf-8")
        (folder / "handed_in" / "anna.ipynb").write_text(solution, encoding="utf-8")
        yield folder


def test_a_folder_is_graded_and_a_second_run_grades_only_what_is_new(course, private):
    handed_in, kept = course / "handed_in", course / "grades" / "anna.json"
    (handed_in / "ben.ipynb").write_text("{", encoding="utf-8")
    rows = grade(private, course)
    assert [row["submission"] for row in rows] == ["anna", "ben"]
    assert [row["points"] for row in rows] == ["18", "0"]
    assert "not a notebook that can be read" in rows[1]["message"]
    assert rows[0]["q8 (by hand, of 6)"] == ""
    before = kept.stat().st_mtime_ns, (course / "grades" / "ben.json").stat().st_mtime_ns

    changed = plant("lmu", private, "mistakes.toml", "A is transposed")
    (handed_in / "ben.ipynb").write_text(changed, encoding="utf-8")
    rows = grade(private, course)
    assert [row["points"] for row in rows] == ["18", "16"]
    assert kept.stat().st_mtime_ns == before[0]
    assert (course / "grades" / "ben.json").stat().st_mtime_ns != before[1]
    report = (course / "grades" / "ben.txt").read_text(encoding="utf-8")
    assert "q1: 0 of 2" in report


def test_a_killed_run_loses_no_grade(course, private):
    slow = plant("lmu", private, "hostile.toml", "A function sleeps for an hour")
    (course / "handed_in" / "zoe.ipynb").write_text(slow, encoding="utf-8")
    command = [sys.executable, "-m", "tools.assignments.grade", "lmu", str(course / "handed_in")]
    command += ["--built", str(private), "--out", str(course / "grades"), "--jobs", "1"]
    command += ["--call", "600"]
    kept = course / "grades" / "anna.json"
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
    ) as run:
        end = time.monotonic() + 300
        while not kept.exists() and time.monotonic() < end:
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGKILL)
    before = kept.read_bytes(), kept.stat().st_mtime_ns
    (course / "handed_in" / "zoe.ipynb").write_text("{", encoding="utf-8")
    rows = grade(private, course, "--call", "600")
    assert [row["submission"] for row in rows] == ["anna", "zoe"]
    assert (kept.read_bytes(), kept.stat().st_mtime_ns) == before


def test_results_that_a_submission_writes_count_for_nothing(course, private):
    name = "The results are written by the submission itself"
    forged = plant("lmu", private, "hostile.toml", name, course)
    (course / "handed_in" / "eve.ipynb").write_text(forged, encoding="utf-8")
    rows = grade(private, course, "--jobs", "1")
    assert {row["submission"]: row["points"] for row in rows} == {"anna": "18", "eve": "16"}
    assert json.loads((course / "grades" / "anna.json").read_text())["parts"]["q7"]["points"] == 2


SEARCH = """
import json, sys
from pathlib import Path
from tools.assignments.cage import Cage
from tools.assignments.check import LIMITS
from tools.assignments.grade import grade_all
kind, submission, archive, *hidden = sys.argv[1:]
hidden = list(map(Path, hidden))
((_, result),) = grade_all([Path(submission)], Path(archive), hidden, LIMITS, 1, Cage(kind))
print(json.dumps(result))
"""


def points_of_a_spy(kind: str, private: Path, course: Path) -> int:
    """What it earns in that cage to look for the solution on the disk."""
    name = "The solution is looked for on the disk"
    spy = plant("lmu", private, "hostile.toml", name, course)
    path = course / "spy.ipynb"
    path.write_text(spy, encoding="utf-8")
    archive = str(private / "autograder" / "lmu.zip")
    hidden = [] if kind == "open" else [str(ASSIGNMENTS), str(course)]
    seen = json.loads(python("-c", SEARCH, kind, str(path), archive, *hidden).stdout)
    return seen["parts"]["q7"]["points"]


def test_a_solution_on_the_disk_is_found_without_a_cage(private, course):
    """So that the hostile submission that looks for it proves something when it finds nothing."""
    assert points_of_a_spy("open", private, course) == 2


def test_hidden_folders_look_empty_where_name_spaces_are_made_by_hand(private, course):
    from tools.assignments.namespaces import why_open

    if why := why_open([]):
        pytest.skip(f"this system allows no name spaces: {why}")
    assert points_of_a_spy("namespaces", private, course) == 0


needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="bubblewrap is not installed"
)


@needs_bubblewrap
def test_bubblewrap_shows_a_submission_neither_home_nor_environment_nor_processes(monkeypatch):
    from tools.assignments.cage import ROOT as shown
    from tools.assignments.cage import bubblewrap, environment

    monkeypatch.setenv("SECRET_OF_THE_LECTURER", "1")
    look = """
import json, os, pathlib
print(json.dumps({
    "environment": sorted(os.environ),
    "of process 1": pathlib.Path("/proc/1/environ").read_text(),
    "processes": [name for name in os.listdir("/proc") if name.isdigit()],
    "root": os.listdir("/"), "book": sorted(os.listdir(pathlib.Path(os.environ["PYTHONPATH"]))),
}))
"""
    done = subprocess.run(
        bubblewrap(sys.executable, "-c", look),
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(done.stdout)
    assert "SECRET_OF_THE_LECTURER" not in seen["environment"]
    assert "SECRET_OF_THE_LECTURER" not in seen["of process 1"]
    assert len(seen["processes"]) == 2  # bubblewrap and itself
    assert "home" not in seen["root"]
    assert set(seen["book"]) <= {"code", "tools", Path(sys.prefix).name}
    assert shown.is_dir()


@needs_bubblewrap
@pytest.mark.parametrize("place", ["/", "/dev", "/usr", "PREFIX", "BOOK"])
def test_in_bubblewrap_nothing_but_the_working_folder_can_be_written(place: str):
    from tools.assignments.cage import bubblewrap

    folder = {"PREFIX": sys.prefix, "BOOK": str(ROOT / "tools")}.get(place, place)
    write = f"open({folder!r} + '/archbook-hostile', 'w')"
    done = subprocess.run(
        bubblewrap(sys.executable, "-c", write), capture_output=True, text=True, check=False
    )
    assert "Read-only file system" in done.stderr
    assert not Path(folder, "archbook-hostile").exists()


@needs_bubblewrap
def test_no_process_of_a_submission_outlives_its_grading():
    from tools.assignments.cage import Bubblewrapped
    from tools.assignments.wire import encode, receive

    marker = "archbook-survivor-71a3"
    left = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", {marker!r}],
                 start_new_session=True)
"""
    starter = Bubblewrapped(2**31)
    with starter.start() as connection:
        receive(connection)
        connection.sendall(encode((60, "cell", 1, left), id))
        receive(connection)
        assert processes_with(marker) == 1
        starter.kill()
    end = time.monotonic() + 30
    while processes_with(marker) and time.monotonic() < end:
        time.sleep(0.05)
    assert processes_with(marker) == 0


def processes_with(marker: str) -> int:
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += marker.encode() in path.read_bytes()
    return found


def test_without_any_cage_nothing_is_graded_unless_the_lecturer_says_so(
    course, private, monkeypatch
):
    from tools.assignments import grade as command
    from tools.assignments.cage import Cage

    monkeypatch.setattr(command, "best_cage", lambda: Cage("open", "not here"))
    given = ["grade", "lmu", str(course / "handed_in"), "--built", str(private)]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit, match=r"cannot shut a submission in \(not here\)"):
        command.main()
    assert not (course / "grades").exists()


def test_no_message_becomes_a_formula_in_a_spreadsheet():
    from tools.assignments.grade import spreadsheet_safe

    assert spreadsheet_safe('=HYPERLINK("x")').startswith("'")
    assert spreadsheet_safe("q1: lost\n two") == "q1: lost two"


def test_lines_that_only_a_notebook_understands_are_left_out():
    from tools.assignments.submission import plain_python

    source = "%%time\n%matplotlib inline\nif True:\n    !pip install x\n    y = 7 % 4\nlen?"
    names: dict = {}
    exec(plain_python(source), names)
    assert names["y"] == 3
