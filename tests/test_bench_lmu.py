"""The LMU benchmark at tiny size: its tables are complete, and unequal candidates stop it."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from archbook.timing import check_bench, peak_bytes

STEM = "lmu"


@pytest.mark.slow
def test_a_quick_run_writes_every_table_whole_and_nothing_under_results(
    quick: Callable,
):
    found = quick()
    rows = {table["name"]: len(table["rows"]) for table in found["tables"]}
    assert check_bench(found) == []
    assert rows == {"last": 2, "peers": 2, "forms": 2 * 8, "length": 2}


@pytest.mark.slow
def test_one_part_alone_keeps_the_tables_of_the_others(quick: Callable):
    before = quick("--part", "length")["tables"]
    after = quick("--part", "last")["tables"]
    assert [table["name"] for table in after] == ["last", "peers", "length"]
    assert after[2] == before[0]


@pytest.mark.slow
def test_tables_of_another_machine_are_not_kept(quick: Callable, written: Path):
    found = quick("--part", "length")
    found["tables"][0]["environment"]["device_name"] = "another processor"
    written.write_text(json.dumps(found), encoding="utf-8")
    assert [t["name"] for t in quick("--part", "last")["tables"]] == ["last", "peers"]


def test_the_lstm_has_the_weights_of_the_lmu_within_five_percent(bench: ModuleType):
    for size in bench.FULL.sizes["last"]:
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


@pytest.mark.slow
def test_peak_memory_of_one_step_is_measured_in_a_process_of_its_own(bench: ModuleType):
    size = {"order": 32, "T": 1024, "batch": 16, "hidden": 4}
    given = {"name": "FFT", "size": size, "device": "cpu"}
    states = size["order"] * size["T"] * size["batch"] * 4
    assert peak_bytes(f"{bench.__file__}:prepare", given) > 2 * states
