"""The small tools behind `make`: steps and their seconds, lowest versions, pip, lab."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from tools import lab
from tools.install import KNOWS_GROUPS, PIP, shortened, version_of_pip
from tools.lab import copy
from tools.lowest import lowest
from tools.picture import PICTURE, contents
from tools.times import slowest, steps

ROOT = Path(__file__).parents[1]


def step(place: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "tools" / "step.py"), *arguments]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)


def test_a_step_names_every_line_and_notes_its_seconds(tmp_path: Path):
    done = step(tmp_path, "first", sys.executable, "-c", "print('one\\ntwo')")
    assert done.returncode == 0
    first, *lines, last = done.stdout.splitlines()
    assert (first, lines) == ("[first] starts", ["[first] one", "[first] two"])
    assert last.startswith("[first] done after ")
    ((seconds, name),) = steps(tmp_path / "_build" / "times")
    assert re.fullmatch(r"first \(\d+ of a processor\)", name)
    assert seconds >= 0


def test_a_step_that_fails_is_noted_too_and_keeps_its_exit_status(tmp_path: Path):
    done = step(tmp_path, "second", sys.executable, "-c", "raise SystemExit(3)")
    assert done.returncode == 3
    assert "[second] FAILED (exit status 3)" in done.stdout
    ((_, name),) = steps(tmp_path / "_build" / "times")
    assert name.startswith("second (")


def test_steps_and_tests_are_listed_from_the_longest(tmp_path: Path):
    for name, noted in {"a": "2 1.2", "b": "10.5 20.6", "c": "9 0"}.items():
        (tmp_path / f"{name}.txt").write_text(f"{noted}\n")
    cases = '<testcase classname="tests.x" name="t{0}" time="{0}"/>'
    for file, times in {"one": (1, 12), "two": (5,)}.items():
        inside = "".join(map(cases.format, times))
        report = f"<testsuites><testsuite>{inside}</testsuite></testsuites>"
        (tmp_path / f"{file}.xml").write_text(report)
    busy = "{} ({} of a processor)".format
    assert steps(tmp_path) == [(10.5, busy("b", 21)), (9, busy("c", 0)), (2, busy("a", 1))]
    assert slowest(tmp_path, 2) == [(12, "tests.x::t12"), (5, "tests.x::t5")]


@pytest.mark.parametrize("fork", [[], ["--fork", "json,random"]], ids=["fresh", "forked"])
def test_scripts_run_one_after_the_other_and_one_that_fails_holds_none_up(tmp_path: Path, fork):
    ends = {"a": "raise SystemExit('no')", "b": "1 / 0", "c": "import beside", "d": "sys.exit(0)"}
    (tmp_path / "beside.py").touch()
    for name, end in ends.items():
        (tmp_path / f"{name}.py").write_text(f"import sys\nprint(sys.argv, __name__)\n{end}\n")
    command = [sys.executable, ROOT / "tools" / "each.py", *fork, "--size tiny"]
    command += [f"{name}.py" for name in ends]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert said == [f"['{name}.py', '--size', 'tiny'] __main__" for name in ends]
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "FAILED: a.py, b.py")
    assert "ZeroDivisionError" in done.stderr


def test_the_lowest_versions_are_the_lower_bounds():
    extras = {"notebook": ["matplotlib>=3.8"]}
    project = {"dependencies": ["torch>=2.6"], "optional-dependencies": extras}
    assert lowest(project) == ["torch==2.6", "matplotlib==3.8"]


@pytest.mark.parametrize("form", ["torch", "torch==2.6", "torch>=2.6,<3"])
def test_a_dependency_without_one_lower_bound_is_refused(form: str):
    with pytest.raises(ValueError, match="wanted a dependency of the form name>=version"):
        lowest({"dependencies": [form]})


def test_everything_that_the_package_asks_for_has_a_lower_bound():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [declared["dependencies"], *declared["optional-dependencies"].values()]
    assert len(lowest(declared)) == sum(map(len, lists)) > 8


def test_the_pip_that_is_brought_knows_groups():
    assert tuple(map(int, PIP.removeprefix("pip==").split("."))) >= KNOWS_GROUPS
    assert version_of_pip(Path(sys.executable)) > (20, 0)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("  Downloading a.whl (12.4 MB)", "Downloading a.whl (12.4 MB)"),
        ("  Downloading a.whl (1.4 MB)", None),
        ("Installing collected packages: a, b", "unpacking 2 packages ..."),
        ("ERROR: no such version", "ERROR: no such version"),
        ("Collecting a", None),
    ],
)
def test_of_pips_lines_the_large_and_the_wrong_are_shown(line: str, wanted: str | None):
    assert shortened(line) == wanted


# ---- make lab ----


def a_notebook(path: Path, source: str) -> None:
    path.parent.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), path)


def test_lab_opens_copies_and_leaves_those_that_a_reader_changed(tmp_path: Path):
    built, copies = tmp_path / "built", tmp_path / "lab"
    for name in ("lmu", "egnn", "gfnn"):
        a_notebook(built / f"{name}.ipynb", "1 + 1")
    assert copy(built, copies) == []
    assert len(list(copies.iterdir())) == 3
    a_notebook(copies / "egnn.ipynb", "1 + 1  # mine")
    a_notebook(built / "gfnn.ipynb", "1 + 2")
    (copies / "lmu.ipynb").unlink()
    assert copy(built, copies) == ["egnn.ipynb", "gfnn.ipynb"]
    assert "mine" in (copies / "egnn.ipynb").read_text()
    assert (copies / "lmu.ipynb").exists()


def test_lab_does_not_show_its_token_to_other_users(monkeypatch, capsys):
    begun: list[list[str]] = []
    monkeypatch.setattr(lab, "copy", lambda built, copies: ["egnn.ipynb"])
    monkeypatch.setattr("os.execv", lambda program, command: begun.append(command))
    monkeypatch.setenv("JUPYTER_TOKEN", "older")
    lab.main()
    told = capsys.readouterr().out
    token = os.environ["JUPYTER_TOKEN"]
    assert f"http://localhost:8888/lab?token={token}" in told
    assert "lab/egnn.ipynb differs from the book's" in told
    (command,) = begun
    assert not any(token in word for word in command)
    assert "--ServerApp.ip=127.0.0.1" in command


def test_the_readme_shows_a_picture_of_the_book_as_it_is():
    with Image.open(PICTURE) as picture:
        about = picture.info.get("contents")
    assert about == contents(), "run `make picture`: _toc.yml has changed since"
