"""A benchmark's command line: parts are saved one by one, and nothing unknown is run."""

import gc
import json

import pytest
import torch

from archbook.timing import Plan, bench_main

PLANS = (Plan(sizes={}, seconds={"which": 1.0}), Plan(sizes={}, seconds={"which": 0.0}))


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "archbook.timing.results.results_path",
        lambda stem, name: tmp_path / "results" / stem / f"{name}.json",
    )
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)

    def fails(plan, device):
        raise KeyboardInterrupt

    def first(plan, device):
        return [{"name": "first", "device": device, "seconds": plan.seconds["which"]}]

    def call(*argv: str) -> list[dict]:
        parts = {"first": first, "killed": fails}
        tables = ("other", "first")
        bench_main("toy", "Toy", PLANS, parts=parts, tables=tables, argv=["--quick", *argv])
        return json.loads((tmp_path / ".runs" / "toy" / "bench.json").read_text())["tables"]

    yield call
    gc.unfreeze()


def test_quick_takes_the_second_plan(run):
    (table,) = run("--part", "first")
    assert (table["device"], table["seconds"]) == ("cpu", 0.0)
    assert table["environment"]["device"] == "cpu"


def test_a_killed_run_keeps_its_finished_parts(run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run()
    saved = json.loads((tmp_path / ".runs" / "toy" / "bench.json").read_text())
    assert [table["name"] for table in saved["tables"]] == ["first"]
    assert (saved["benchmark"], saved["title"]) == ("toy", "Toy")


def test_an_unknown_part_is_refused(run, capsys):
    with pytest.raises(SystemExit):
        run("--part", "second")
    assert "invalid choice: 'second'" in capsys.readouterr().err
