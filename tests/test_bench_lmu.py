"""The LMU's benchmark at its quick size: every table is there, and nothing enters results/."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from archbook.running import check_bench

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def quick_bench():
    committed = ROOT / "results" / "lmu" / "bench.json"
    before = committed.read_bytes()
    command = [sys.executable, "benchmarks/bench_lmu.py", "--quick", "--threads", "1"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert committed.read_bytes() == before
    return json.loads((ROOT / ".runs" / "lmu" / "bench.json").read_text())


def test_the_quick_benchmark_fills_every_table(quick_bench):
    assert check_bench(quick_bench) == []
    names = [table["name"] for table in quick_bench["tables"]]
    assert names == ["last", "peers", "forms", "length"]


def test_the_baseline_of_a_table_has_the_ratio_one(quick_bench):
    for table in quick_bench["tables"]:
        for row in table["rows"]:
            assert row["candidates"][table["baseline"]]["ratio"]["median"] == 1
