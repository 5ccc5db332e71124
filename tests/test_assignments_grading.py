"""The grader: what it keeps, what a submission cannot change, and what the lecturer reads."""

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from assigned import ASSIGNMENTS, ROOT, SECRET, build, plant, python
from broken_files import broken
from tools.assignments import grade as command
from tools.assignments.cage import Cage
from tools.assignments.gradebook import spreadsheet_safe, table
from tools.assignments.grading import code_cells
from tools.assignments.namespaces import why_open
from tools.assignments.remote import Trouble, put_back

pytestmark = pytest.mark.slow  # nearly all of them build or grade in processes of their own


@pytest.fixture(scope="module")
def private(tmp_path_factory) -> Path:
    return build("lmu", SECRET, tmp_path_factory.mktemp("own"))


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

    changed = plant("lmu", private, "mistakes.toml", "A is divided in place")
    (handed_in / "ben.ipynb").write_text(changed, encoding="utf-8")
    rows = grade(private, course)
    assert [row["points"] for row in rows] == ["18", "16"]
    assert kept.stat().st_mtime_ns == before[0]
    assert (course / "grades" / "ben.json").stat().st_mtime_ns != before[1]
    report = (course / "grades" / "ben.txt").read_text(encoding="utf-8")
    assert "q2: 0 of 2" in report


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
from tools.assignments.grading import grade_all
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
    if why := why_open([]):
        pytest.skip(f"this system allows no name spaces: {why}")
    assert points_of_a_spy("namespaces", private, course) == 0


def test_without_any_cage_nothing_is_graded_unless_the_lecturer_says_so(
    course, private, monkeypatch
):
    monkeypatch.setattr(command, "best_cage", lambda: Cage("open", "not here"))
    given = ["grade", "lmu", str(course / "handed_in"), "--built", str(private)]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit, match=r"cannot shut a submission in \(not here\)"):
        command.main()
    assert not (course / "grades").exists()


def test_what_a_function_did_to_its_input_is_done_to_what_the_test_holds():
    x, y = torch.zeros(2), np.zeros(3)
    put_back(((x, [y]), {"again": x}), ((x + 1, [y + 2]), {"again": x + 1}))
    assert x.tolist() == [1, 1]
    assert y.tolist() == [2, 2, 2]


def test_of_what_the_grader_had_open_a_submission_keeps_one_connection():
    look = """
import os
from tools.assignments.submission import close_all_but
ends = [*os.pipe(), *os.pipe()]
close_all_but(ends[1])
print([os.path.exists(f"/dev/fd/{end}") for end in ends])
"""
    assert python("-c", look).stdout == "[False, True, False, False]\n"


def test_no_message_becomes_a_formula_in_a_spreadsheet():
    assert spreadsheet_safe('=HYPERLINK("x")').startswith("'")
    assert spreadsheet_safe("q1: lost\n two") == "q1: lost two"


def test_no_name_of_a_file_becomes_a_formula_in_a_spreadsheet():
    nothing = {"parts": {}, "notes": []}
    written = table({"=HYPERLINK(1)": nothing, "＋1": nothing, "anna": nothing}, [], {})
    names = [row["submission"] for row in csv.DictReader(written.splitlines())]
    assert names == ["'=HYPERLINK(1)", "anna", "'＋1"]


FORMS = [  # what a correct answer's cell may have before or after it, in Jupyter
    ("%%time\n", ""),
    ("folder = !pwd\n", "\nassert folder[0].startswith('/')"),
    ("?torch.linalg.solve\n", ""),
    ("import asyncio\n\nawait asyncio.sleep(0)\n", ""),
    ("get_ipython().run_line_magic('matplotlib', 'inline')\n", ""),
    ("y = (\n    7\n    % 4\n)\nz = (\n    7\n    != 4\n)\n", "\n%time y = 3\nassert y == 3"),
]


def test_no_correct_notebook_loses_a_point_for_its_form(course, private):
    solution = json.loads((private / "solution" / "lmu.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in solution["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(code):
        before, after = FORMS[number % len(FORMS)]
        cell["source"] = before + "".join(cell["source"]) + after
    assert len(code) > len(FORMS)
    text = json.dumps(solution)
    (course / "handed_in" / "=mia.ipynb").write_text("\ufeff" + text, encoding="utf-8")
    rows = {row["submission"]: row for row in grade(private, course)}
    assert rows["'=mia"]["points"] == "18"
    assert rows["'=mia"]["message"] == ""


@pytest.mark.filterwarnings("ignore")  # nbformat's
def test_a_broken_notebook_is_read_as_by_nbformat_or_refused_in_words():
    cells = [nbformat.v4.new_code_cell(source) for source in ("x = 1", "y = 'é\\n'\nz = 2")]
    whole = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A"), *cells])
    compared, said = 0, set()
    for data in broken(nbformat.writes(whole).encode(), 400):
        try:
            ours = list(code_cells(data).values())
        except Trouble as trouble:
            said.add(str(trouble).partition(" (")[0])
            continue
        try:
            theirs = nbformat.reads(data.decode("utf-8-sig"), as_version=4).cells
            found = [cell.source for cell in theirs if cell.cell_type == "code"]
        except Exception:
            continue  # it also wants what we do not read, such as the version
        assert ours == found
        compared += 1
    assert said == {"The file is not a notebook that can be read"}
    assert compared > 20
