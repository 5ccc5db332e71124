"""The LMU benchmark at tiny size: its tables are complete, and unequal candidates stop it."""

import gc
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from archbook.running import benchmark, check_bench, peak_memory

FILE = Path(__file__).parents[1] / "benchmarks" / "bench_lmu.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_lmu", FILE)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:  # the file sets variables for its own process
        patch.setattr("os.environ", {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"})
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def written(bench: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Where a quick run writes, its folder standing in for the repository."""
    stand_in = tmp_path / "results" / "lmu" / "bench.json"
    monkeypatch.setattr(benchmark, "results_path", lambda stem, name: stand_in)
    monkeypatch.setattr(benchmark, "ROUNDS", (2, 2))
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    yield tmp_path / ".runs" / "lmu" / "bench.json"
    gc.unfreeze()  # the benchmark set aside what the tests before it had made


def test_a_quick_run_writes_every_table_whole_and_nothing_under_results(
    bench: ModuleType, written: Path, tmp_path: Path
):
    bench.main(["--quick", "--threads", "1"])
    found = json.loads(written.read_text())
    rows = {table["name"]: len(table["rows"]) for table in found["tables"]}
    assert check_bench(found) == []
    assert rows == {"last": 2, "peers": 2, "forms": 2 * 8, "length": 2}
    assert not (tmp_path / "results").exists()


def test_one_part_alone_keeps_the_tables_of_the_others(bench: ModuleType, written: Path):
    bench.main(["--quick", "--threads", "1", "--part", "length"])
    before = json.loads(written.read_text())["tables"]
    bench.main(["--quick", "--threads", "1", "--part", "last"])
    after = json.loads(written.read_text())["tables"]
    assert [table["name"] for table in after] == ["last", "peers", "length"]
    assert after[2] == before[0]


def test_tables_of_another_machine_are_not_kept(bench: ModuleType, written: Path):
    bench.main(["--quick", "--threads", "1", "--part", "length"])
    found = json.loads(written.read_text())
    found["tables"][0]["environment"]["device_name"] = "another processor"
    written.write_text(json.dumps(found))
    bench.main(["--quick", "--threads", "1", "--part", "last"])
    assert [t["name"] for t in json.loads(written.read_text())["tables"]] == ["last", "peers"]


def test_the_lstm_has_the_weights_of_the_lmu_within_five_percent(bench: ModuleType):
    for size in bench.FULL.last:
        lmu, lstm = (
            sum(p.numel() for p in bench.network(name, size).parameters())
            for name in (bench.BASE, bench.LSTM)
        )
        assert lstm == pytest.approx(lmu, rel=0.05)


def test_exponents_are_those_of_a_power_of_the_length(bench: ModuleType):
    rows = [
        {"size": {"T": T}, "candidates": {"FFT": {"ms": T**2 / 7, "peak_mib": 3.0 * T}}}
        for T in (4, 8, 16)
    ]
    found = bench.growth("FFT", rows)
    assert found["time"] == pytest.approx(2)
    assert found["memory"] == pytest.approx(1)


def test_peak_memory_of_one_step_is_measured_in_a_process_of_its_own(bench: ModuleType):
    size = {"order": 32, "T": 1024, "batch": 16, "hidden": 4}
    states = size["order"] * size["T"] * size["batch"] * 4
    assert peak_memory(f"{FILE}:step_alone", "FFT", size, "cpu") > 2 * states
