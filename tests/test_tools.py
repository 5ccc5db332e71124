"""The small tools behind `make`: a step's name and seconds, the summary, lowest versions, pip."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tools.install import KNOWS_GROUPS, PIP, shortened, version_of_pip
from tools.lowest import lowest
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
    assert name == "first"
    assert seconds >= 0


def test_a_step_that_fails_is_noted_too_and_keeps_its_exit_status(tmp_path: Path):
    done = step(tmp_path, "second", sys.executable, "-c", "raise SystemExit(3)")
    assert done.returncode == 3
    assert "[second] FAILED (exit status 3)" in done.stdout
    assert [name for _, name in steps(tmp_path / "_build" / "times")] == ["second"]


def test_steps_and_tests_are_listed_from_the_longest(tmp_path: Path):
    for name, seconds in {"a": 2, "b": 10.5, "c": 9}.items():
        (tmp_path / f"{name}.txt").write_text(f"{seconds}\n")
    cases = '<testcase classname="tests.x" name="t{0}" time="{0}"/>'
    for file, times in {"one": (1, 12), "two": (5,)}.items():
        inside = "".join(map(cases.format, times))
        report = f"<testsuites><testsuite>{inside}</testsuite></testsuites>"
        (tmp_path / f"{file}.xml").write_text(report)
    assert steps(tmp_path) == [(10.5, "b"), (9, "c"), (2, "a")]
    assert slowest(tmp_path, 2) == [(12, "tests.x::t12"), (5, "tests.x::t5")]


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
