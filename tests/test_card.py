"""The plan for a short loan of a GPU: its order, its budget, and that nothing finished is lost."""

import json
import sys
import tarfile
from pathlib import Path

import pytest
from tools import card
from tools.card import Ledger, Part

from archbook.files import write_json
from archbook.timing.results import measured_code

BENCH = """
PARTS = {"small": None, "large": {"both_ways": None}}
"""
EXPERIMENT = """
SIZES = {"tiny": {"a": 1}, "card": {"best": 1, "second": 2}}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository of one chapter, with a benchmark and an experiment that runs on a card."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "experiments/toy").mkdir(parents=True)
    (tmp_path / "code/archbook/toy").mkdir(parents=True)
    (tmp_path / "_toc.yml").write_text(
        "parts: [{caption: Architectures, chapters: [{file: book/toy}]}]"
    )
    (tmp_path / "benchmarks/bench_toy.py").write_text(BENCH)
    (tmp_path / "experiments/toy/line.py").write_text(EXPERIMENT)
    (tmp_path / "code/archbook/toy/__init__.py").write_text("")
    return tmp_path


def keys(root: Path, rehearse: bool = False) -> list[str]:
    return [part.key for part in card.plan(root, ("toy",), rehearse=rehearse)]


def measured(root: Path, *tables: dict) -> None:
    write_json(root / "results/toy/bench_cuda.json", {"tables": list(tables)})


def test_checks_come_first_then_tables_then_cells_as_they_are_declared(root):
    assert keys(root) == [
        "tests gpu",
        "page toy",
        "table toy small",
        "table toy large",
        "table toy precision",
        "cell toy/line best",
        "cell toy/line second",
    ]


def test_tables_that_are_missing_come_before_those_of_older_code(root):
    measured(root, {"name": "small", "part": "small", "code": "older"})
    tables = [key for key in keys(root) if key.startswith("table")]
    assert tables == ["table toy large", "table toy precision", "table toy small"]


def test_a_table_that_does_not_say_its_part_is_known_by_its_name(root):
    measured(root, {"name": "both_ways"})
    tables = [key for key in keys(root) if key.startswith("table")]
    assert tables[-1] == "table toy large"


def test_a_table_of_today_s_code_is_there(root, capsys):
    code = measured_code("toy", root)
    measured(root, {"name": "small", "part": "small", "code": code})
    assert card.main(["--plan"], root) == 0
    assert "there       table toy small" in capsys.readouterr().out
    (root / "code/archbook/toy/__init__.py").write_text("changed = True")
    card.main(["--plan"], root)
    assert "there       table toy small" not in capsys.readouterr().out


def test_the_plan_says_what_fits_and_runs_nothing(root, capsys):
    assert card.main(["--plan", "--minutes", "5"], root) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("until   2.5 min  tests gpu")
    assert [line.endswith("(if time is left)") for line in said[:4]] == [False, False, True, True]
    assert said[-1] == "7 parts, 11.5 minutes; 5 are there"
    assert not (root / ".runs").exists()


def python(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


@pytest.fixture
def run(root, monkeypatch, tmp_path):
    """Runs these parts within so many minutes, and says which commands ran."""

    def runs(*parts: Part, minutes: float = 1.0) -> tuple[int, list[str]]:
        ledger = Ledger(root / ".runs/card.json")
        todo = card._announced(list(parts), ledger, root, minutes)
        code = card._run(todo, ledger, root, minutes)
        log = root / "log"
        return code, log.read_text().split() if log.exists() else []

    return runs


def says(word: str, kind: str = "page", after: str = "") -> Part:
    return Part(kind, word, python(f"open('log', 'a').write('{word} '); {after}"))


def test_a_part_that_fails_is_named_and_the_others_run(run, capsys):
    code, ran = run(says("one", after="raise SystemExit(3)"), says("two"), minutes=5)
    assert (code, ran) == (1, ["one", "two"])
    assert "page one: FAILED (exit status 3)" in capsys.readouterr().out


def test_a_check_that_passed_on_this_code_is_not_run_again(run, root):
    run(says("one"), says("two", after="raise SystemExit(3)"), minutes=5)
    assert run(says("one"), says("two"), minutes=5)[1] == ["one", "two", "two"]
    (root / "code/archbook/toy/__init__.py").write_text("changed = True")
    assert run(says("one"), minutes=5)[1] == ["one", "two", "two", "one"]


def test_what_does_not_fit_is_left_and_a_shorter_one_runs(run, root, capsys):
    ledger = Ledger(root / ".runs/card.json")
    ledger.note(says("long"), 1000.0, None)
    ledger.note(says("short"), 1.0, None)
    assert run(says("long"), says("short"), minutes=1)[1] == ["short"]
    assert "left for the next time: page long" in capsys.readouterr().out


def test_a_cell_that_outlasts_its_limit_is_stopped(run, monkeypatch, capsys):
    monkeypatch.setattr(card, "CELL", 2)
    stuck = Part("cell", "stuck", python("import time; time.sleep(60)"))
    code, ran = run(stuck, says("after"), minutes=5)
    assert (code, ran) == (1, ["after"])
    assert "cell stuck: FAILED (exit status 124)" in capsys.readouterr().out


def test_results_are_packed_after_each_part(run, root, monkeypatch):
    (root / "out").mkdir()
    monkeypatch.setenv("OUT", str(root / "out"))
    write = "from archbook.files import write_json; write_json('results/toy/bench_cuda.json', {})"
    run(Part("table", "made", python(write)), says("last", after="raise SystemExit(1)"), minutes=5)
    with tarfile.open(root / "out/card.tar.gz") as file:
        assert sorted(file.getnames()) == [".runs/card.json", "results/toy/bench_cuda.json"]


def test_the_seconds_that_a_part_took_are_what_the_next_plan_says(run, root):
    run(says("one"), minutes=5)
    noted = json.loads((root / ".runs/card.json").read_text())["page one"]
    assert Ledger(root / ".runs/card.json").seconds(says("one")) == noted["seconds"] < 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--minutes 0", "wanted more than 0 minutes, given 0.0"),
        ("--chapter hyena", "invalid choice: 'hyena'"),
    ],
)
def test_a_wrong_command_line_ends_with_a_clear_message(root, capsys, options, message):
    with pytest.raises(SystemExit):
        card.main(options.split(), root)
    assert message in capsys.readouterr().err


def test_without_a_card_it_says_so(root, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        card.main([], root)
    assert "wanted a CUDA device, there is none; --plan and --rehearse" in capsys.readouterr().err


@pytest.mark.slow
def test_the_book_s_own_plan_names_every_chapter_and_every_part_of_a_benchmark():
    parts = card.plan(card.ROOT, card.chapters(), rehearse=True)
    pages = [part.name for part in parts if part.kind == "page"]
    assert pages == list(card.chapters())
    assert {f"{stem} precision" for stem in pages} <= {part.name for part in parts}
    commands = [part.command for part in parts if part.kind == "table"]
    assert all("--quick" in command for command in commands)
