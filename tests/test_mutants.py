"""The lists of planted faults fit the code, and their replay tells a fault found from a survivor.

`make mutants` replays the lists themselves.
"""

import subprocess
from pathlib import Path

import pytest
from tools.mutants import mistakes, replay, stems, unfit

ROOT = Path(__file__).parents[1]

TOY = """
[[mistake]]
name = "{name}"
file = "code/toy.py"
old = "{old}"
new = "{new}"
red = ["tests/test_toy.py::{red}"]
"""
ENTRIES = {  # what is said of it: an entry's name, old, new and red
    "fault: found": ("fault", "a + b", "a - b", "test_sum"),
    "harmless: SURVIVED": ("harmless", "a + b", "b + a", "test_sum"),
    "gone: BROKEN: wanted once, found 0 times": ("gone", "a * b", "a", "test_sum"),
    "twice: BROKEN: wanted once, found 2 times": ("twice", "b", "a", "test_sum"),
    "same: BROKEN: wanted a change": ("same", "a + b", "a + b", "test_sum"),
    "untested: BROKEN: tests/test_toy.py::test_no: no such test": (
        ("untested", "a + b", "a - b", "test_no")
    ),
    "no code: BROKEN: code/toy.py:2:15: invalid-syntax": ("no code", "a + b", "a +", "test_sum"),
    "no name: BROKEN: code/toy.py:2:16: F821": ("no name", "a + b", "a + c", "test_sum"),
    "no end: BROKEN: pytest ended with 4": ("no end", "a + b", "a + b\\nimport no", "test_sum"),
}


def test_there_are_faults():
    assert stems()


@pytest.mark.slow
@pytest.mark.parametrize("stem", stems())
def test_every_fault_fits_the_code_and_names_tests_that_exist(stem: str):
    assert [(one["name"], why) for one in mistakes(ROOT, stem) if (why := unfit(ROOT, one))] == []


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A repository of one function and one test."""
    for folder in ("code", "tests/mistakes"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tmp_path / "code/toy.py").write_text("def add(a, b):\n    return a + b\n")
    (tmp_path / "tests/portability.py").touch()
    (tmp_path / "tests/test_toy.py").write_text(
        "from toy import add\n\n\ndef test_sum():\n    assert add(2, 3) == 5\n"
    )
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def listed(*entries: tuple[str, ...]) -> str:
    names = ("name", "old", "new", "red")
    return "".join(TOY.format(**dict(zip(names, one, strict=True))) for one in entries)


@pytest.mark.slow
def test_only_a_failed_test_counts_as_found(toy: Path, capsys):
    (toy / "tests/mistakes/toy.toml").write_text(listed(*ENTRIES.values()))
    assert replay(toy, ["toy"], only="", jobs=1) == len(ENTRIES) - 1
    said = capsys.readouterr().out
    for line in ENTRIES:
        assert f"toy: {line}" in said
    assert "a + b" in (toy / "code/toy.py").read_text()


@pytest.mark.slow
def test_nothing_is_broken_where_the_tests_are_red_before(toy: Path, capsys):
    (toy / "tests/mistakes/toy.toml").write_text(listed(ENTRIES["fault: found"]))
    (toy / "code/toy.py").write_text("def add(a, b):\n    return a + b + 1\n")
    assert replay(toy, ["toy"], only="", jobs=1) == 1
    assert "toy: not green before any fault" in capsys.readouterr().out
