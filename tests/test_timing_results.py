"""What a benchmark's file must hold."""

import copy
import json

import pytest

from archbook.running import environment
from archbook.timing import check_bench
from archbook.timing.results import write_bench


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
    for room in ("running", "timing"):
        monkeypatch.setattr(f"archbook.{room}.results.repository_root", lambda: tmp_path)
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
        (lambda b: b.pop("title"), "bench: 'title' is a required property"),
        (lambda b: b.update(tables=[]), "bench.tables: [] should be non-empty"),
        (lambda b: b.pop("environment"), "bench: 'environment' is a required"),
        (lambda b: b["environment"].pop("threads"), "bench.environment: 'threads' is a required"),
        (lambda b: b["tables"][0].pop("baseline"), "bench.tables[0]: 'baseline' is a required"),
        (lambda b: _row(b).pop("size"), "bench.tables[0].rows[0]: 'size' is a required"),
        (lambda b: _row(b).update({"pass": "backward"}), "rows[0].pass: 'backward' is not one of"),
        (lambda b: _row(b)["size"].update(T=0), "rows[0].size.T: 0 is less than or equal"),
        (
            lambda b: _row(b)["candidates"].pop("ours"),
            "bench.tables[0].rows[0]: the baseline 'ours' is not among ['peer']",
        ),
        (lambda b: _ours(b).update(ms=0), "candidates.ours.ms: 0 is less than or equal"),
        (lambda b: _ours(b).pop("ratio"), "candidates.ours: 'ratio' is a required"),
        (lambda b: _ours(b)["ratio"].pop("q3"), "candidates.ours.ratio: 'q3' is a required"),
        (lambda b: _ours(b)["ratio"].update(q1=1.1), "ours.ratio: wanted q1 <= median <= q3"),
        (lambda b: _ours(b)["ratio"].update(q3=0.9), "ours.ratio: wanted q1 <= median <= q3"),
        (lambda b: _ours(b).pop("peak_mib"), "candidates.ours: 'peak_mib' is a required"),
        (lambda b: _ours(b).update(peak_mib=-1), "ours.peak_mib: -1 is less than the minimum"),
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
    assert check_bench(None, "bench.json") == ["bench.json: None is not of type 'object'"]


def test_a_benchmark_under_another_name_is_refused(bench):
    with pytest.raises(ValueError, match=r"wanted the name bench or bench_\*, given 'speed'"):
        write_bench("lmu", "speed", bench)


def test_a_wheel_takes_no_benchmark(bench, monkeypatch):
    monkeypatch.setattr("archbook.timing.results.repository_root", lambda: None)
    with pytest.raises(FileNotFoundError, match="wanted a checkout"):
        write_bench("lmu", "bench", bench)
