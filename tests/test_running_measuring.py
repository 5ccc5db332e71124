"""Time and memory measured side by side, and the files that hold them."""

import copy
import gc
import json
import sys
import time

import pytest
import torch

from archbook.running import check_bench, environment, interleaved, peak_memory, ratios, write_bench
from archbook.running.memory import _resident, measure, report


def test_every_candidate_runs_once_a_round_in_an_order_that_changes():
    calls = []
    candidates = {name: lambda name=name: calls.append(name) for name in "abc"}
    times = interleaved(candidates, rounds=6, warmup=2, seed=1)
    assert [len(seconds) for seconds in times.values()] == [6, 6, 6]
    orders = ["".join(calls[start : start + 3]) for start in range(0, 24, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(set(orders)) > 1


def test_a_slower_candidate_takes_longer():
    times = interleaved({"long": lambda: time.sleep(0.02), "short": lambda: None}, 1, 0)
    assert times["long"][0] > 0.019 > times["short"][0]


def test_the_garbage_collector_rests_only_while_a_candidate_runs():
    seen = []
    interleaved({"a": lambda: seen.append(gc.isenabled())}, rounds=1, warmup=0, device="cpu")
    assert (seen, gc.isenabled()) == ([False], True)
    gc.disable()
    try:
        interleaved({"a": lambda: None}, rounds=1, warmup=0)
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("candidates", "rounds", "warmup"), [({}, 9, 2), ({"a": print}, 0, 0), ({"a": print}, 1, -1)]
)
def test_a_measurement_of_nothing_is_refused(candidates, rounds, warmup):
    with pytest.raises(ValueError, match="wanted"):
        interleaved(candidates, rounds, warmup)


def test_ratios_are_taken_within_each_round():
    # the second round ran on a machine ten times slower: the ratio does not notice
    times = {"loop": [4.0, 60.0, 8.0], "fft": [2.0, 20.0, 2.0]}
    found = ratios(times, "fft")
    assert found["loop"] == {"median": 3.0, "q1": 2.5, "q3": 3.5}
    assert found["fft"] == {"median": 1.0, "q1": 1.0, "q3": 1.0}


def test_a_single_round_is_its_own_quartile():
    assert ratios({"a": [2.0], "b": [1.0]}, "b")["a"] == {"median": 2.0, "q1": 2.0, "q3": 2.0}


@pytest.mark.parametrize(
    ("times", "base"), [({"a": [1.0]}, "b"), ({"a": [1.0], "b": [1.0, 2.0]}, "a"), ({"a": []}, "a")]
)
def test_ratios_without_a_common_base_are_refused(times, base):
    with pytest.raises(ValueError, match="wanted"):
        ratios(times, base)


WORK = """
import torch


def build(mebibytes, fail=False):
    if fail:
        raise ValueError("no such size")
    print("preparing")
    torch.zeros(50 * 2**18).sum()  # the peak of the preparation does not count
    return lambda: torch.ones(mebibytes * 2**18).sum()
"""


@pytest.fixture
def work(tmp_path):
    file = tmp_path / "work.py"
    file.write_text(WORK)
    return f"{file}:build"


def test_the_peak_of_a_fresh_process_is_what_the_work_allocates(work):
    assert 19 * 2**20 < peak_memory(work, 20) < 25 * 2**20


def test_a_failing_process_is_told_with_its_own_words(work):
    with pytest.raises(RuntimeError, match="no such size"):
        peak_memory(work, 20, True)


@pytest.mark.parametrize("target", ["module", ":build", "module:"])
def test_a_target_without_a_function_is_refused(target):
    with pytest.raises(ValueError, match='wanted "module:function"'):
        peak_memory(target)


def test_the_fresh_process_prints_one_number_last(work, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["-c", work, json.dumps([8])])
    report()
    assert 0 <= int(capsys.readouterr().out.split()[-1]) < 100 * 2**20


def test_a_target_may_be_an_importable_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["-c", "functools:partial", "[]"])
    with pytest.raises(TypeError):  # it was found and called
        report()
    monkeypatch.setattr(sys, "argv", ["-c", "/nowhere/x.py:build", "[]"])
    with pytest.raises(FileNotFoundError):
        report()


@pytest.fixture
def card(monkeypatch):
    for name, value in {
        "is_initialized": True,
        "synchronize": None,
        "reset_peak_memory_stats": None,
        "memory_allocated": 100,
        "max_memory_allocated": 350,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)


def test_after_use_of_a_card_its_allocated_memory_is_what_counts(card):
    assert measure(lambda: None) == 250


def test_work_on_a_card_needs_no_process_of_its_own(card, work, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert peak_memory(work, 20, device="cuda:0") == 250


def test_a_system_that_does_not_tell_its_memory_is_named():
    with pytest.raises(OSError, match="does not tell VmNothing"):
        _resident("VmNothing")


@pytest.fixture
def bench():
    ratio = {"median": 1.0, "q1": 1.0, "q3": 1.0}
    row = {
        "size": {"order": 468, "T": 784},
        "pass": "forward",
        "candidates": {
            "ours": {"ms": 1.5, "ratio": ratio, "peak_mib": 3.0},
            "peer": {"ms": 3.0, "ratio": {"median": 2.0, "q1": 1.9, "q3": 2.1}, "peak_mib": None},
        },
    }
    table = {"name": "last", "title": "Last state", "baseline": "ours", "rows": [row]}
    return {
        "benchmark": "lmu",
        "title": "LMU",
        "environment": environment(),
        "tables": [table],
    }


def test_a_complete_benchmark_has_no_fault_and_is_written(bench, monkeypatch, tmp_path):
    for name in ("results", "bench_results"):
        module = sys.modules[f"archbook.running.{name}"]
        monkeypatch.setattr(module, "repository_root", lambda: tmp_path)
    assert check_bench(bench) == []
    path = write_bench("lmu", "bench_peers", bench)
    assert path == tmp_path / "results" / "lmu" / "bench_peers.json"
    assert json.loads(path.read_text()) == bench


def _row(bench):
    return bench["tables"][0]["rows"][0]


def _ours(bench):
    return _row(bench)["candidates"]["ours"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda b: b.pop("title"), "no 'title'"),
        (lambda b: b.update(tables=[]), "no 'tables'"),
        (lambda b: b.pop("environment"), "no 'environment'"),
        (
            lambda b: b["environment"].pop("threads"),
            "environment: 'threads' is a required property",
        ),
        (lambda b: b["tables"][0].pop("baseline"), "table last: no ['baseline']"),
        (lambda b: _row(b).pop("size"), "row 0: no ['size']"),
        (lambda b: _row(b).update({"pass": "backward"}), "wanted a pass out of"),
        (lambda b: _row(b)["size"].update(T=0), "not so ['T']"),
        (lambda b: _row(b)["candidates"].pop("ours"), "the baseline 'ours' is not among"),
        (lambda b: _ours(b).update(ms=0), "ours: wanted ms > 0"),
        (lambda b: _ours(b).pop("ratio"), "ours: wanted ratio with"),
        (lambda b: _ours(b)["ratio"].update(q1=1.1), "ours: wanted ratio with"),
        (lambda b: _ours(b).pop("peak_mib"), "ours: wanted peak_mib"),
        (lambda b: _ours(b).update(peak_mib=-1), "ours: wanted peak_mib"),
        (lambda b: _ours(b).update(ms=float("inf")), "wanted a finite number"),
    ],
)
def test_each_fault_of_a_benchmark_is_told(bench, change, fault):
    bench = copy.deepcopy(bench)
    change(bench)
    assert fault in "; ".join(check_bench(bench))
    with pytest.raises(ValueError, match="wanted a complete benchmark"):
        write_bench("lmu", "bench", bench)


def test_a_benchmark_that_is_no_dict_is_a_fault():
    assert check_bench(None) == ["wanted a dict, given NoneType"]


def test_a_benchmark_under_another_name_is_refused(bench):
    with pytest.raises(ValueError, match=r"wanted the name bench or bench_\*, given 'speed'"):
        write_bench("lmu", "speed", bench)


def test_a_wheel_takes_no_benchmark(bench, monkeypatch):
    module = sys.modules["archbook.running.bench_results"]
    monkeypatch.setattr(module, "repository_root", lambda: None)
    with pytest.raises(FileNotFoundError, match="wanted a checkout"):
        write_bench("lmu", "bench", bench)
