"""The GFNN benchmark at tiny size: whole tables, equal candidates only, the rule counted right."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from archbook.running import read_results
from archbook.timing import check_bench, peak_bytes

STEM = "gfnn"


def timed(nodes: int, **medians: float) -> dict:
    """A row of the orders' table with these median ratios to auto."""
    size = {"dims": 2, "nodes": nodes, "batch": 32}
    candidates = {name: {"ratio": {"median": median}} for name, median in medians.items()}
    return {"size": size, "pass": "forward", "candidates": candidates}


@pytest.mark.slow
def test_a_quick_run_writes_every_table_whole_and_nothing_under_results(
    quick: Callable[..., dict],
):
    found = quick()
    rows = {table["name"]: len(table["rows"]) for table in found["tables"]}
    assert check_bench(found) == []
    assert rows == {"peers": 4, "orders": 4, "growth": 2, "latency": 1}


def test_a_gather_that_computes_something_else_is_not_timed(
    bench: ModuleType, written: Path, monkeypatch: pytest.MonkeyPatch
):
    class Unlike(bench.Gather):
        def forward(self, x, g):
            return super().forward(x, g.flip(1))  # the axes mixed up

    monkeypatch.setattr(bench, "Gather", Unlike)
    with pytest.raises(AssertionError, match="per-sample gather differs from auto"):
        bench.main(["--quick", "--threads", "1", "--part", "peers"])
    assert not written.exists()


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_gather_equals_the_grid_in_outputs_and_gradients(bench: ModuleType, dims: int):
    size = bench.square(dims, 5, 3, 7)
    found = {name: bench.prepare(name, size, "cpu")() for name in ("auto", "per-sample gather")}
    for wanted, given in zip(*found.values(), strict=True):
        torch.testing.assert_close(given, wanted, atol=1e-5, rtol=1e-4)


def test_a_gather_of_64_sets_a_sample_is_left_out(bench: ModuleType):
    large = bench.square(3, 6, 64, 4096)
    assert bench.why_absent("per-sample gather", bench.square(2, 8, 64, 4096)) is None
    assert "64 parameter sets" in bench.why_absent("per-sample gather", large)
    assert bench.why_absent("cells", large) is None


@pytest.mark.parametrize("part", ["peers", "orders", "growth", "latency"])
def test_the_committed_table_is_of_the_sizes_that_the_plan_has_now(bench: ModuleType, part: str):
    (table,) = (t for t in read_results(STEM, "bench")["tables"] if t["name"] == part)
    measured = {tuple(sorted(row["size"].items())) for row in table["rows"]}
    planned = [
        {key: value for key, value in size.items() if key not in bench.CANDIDATES.hidden}
        for size in bench.FULL.sizes[part]
    ]
    assert measured == {tuple(sorted(size.items())) for size in planned}


def test_the_rule_counts_rows_within_a_quarter_of_the_best_order(bench: ModuleType):
    rows = [
        timed(4, blend=1.0, experts=0.81, cells=3.0),
        timed(8, blend=1.0, experts=0.5, cells=2.0),
        timed(16, blend=4.0, experts=2.0, cells=1.0),
    ]
    assert bench.rule(rows) == {"limit": 1.25, "rows": 3, "within": 2, "worst": 2.0}


def test_the_orders_cross_at_the_smallest_grid_that_sorting_wins(bench: ModuleType):
    rows = [
        timed(4, blend=1.0, experts=2.0, cells=3.0),
        timed(16, blend=4.0, experts=2.0, cells=1.0),
        timed(8, blend=2.0, experts=2.0, cells=1.0),
    ]
    (crossing,) = bench.crossings(rows)
    assert crossing == {"dims": 2, "batch": 32, "pass": "forward", "nodes": 8}


def test_orders_that_never_cross_have_no_crossing(bench: ModuleType):
    (crossing,) = bench.crossings([timed(4, blend=1.0, experts=2.0, cells=3.0)])
    assert crossing["nodes"] is None


def test_exponents_are_those_of_a_power_of_the_number_of_experts(bench: ModuleType):
    rows = [
        {
            "size": {"nodes": n, "dims": 2},
            "candidates": {"experts": {"ms": n**4 / 7, "peak_mib": 8.0 * n**2}},
        }
        for n in (2, 4, 8)
    ]
    found = bench.growth("experts", rows)
    assert found["time"] == pytest.approx(2)
    assert found["time_predicted"] == 1
    assert found["memory"] == pytest.approx(1)
    assert found["from_experts"] == 16


@pytest.mark.slow
def test_peak_memory_of_one_step_is_measured_in_a_process_of_its_own(bench: ModuleType):
    size = bench.square(2, 4, 16, 512)
    gathered = size["batch"] * 16 * size["hidden"] ** 2 * 4  # bytes of one layer's matrices
    given = {"name": "per-sample gather", "size": size, "device": "cpu"}
    assert peak_bytes(f"{bench.__file__}:prepare", given) > 2 * gathered
