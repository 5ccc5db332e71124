"""The OmniNet benchmark at tiny size: its tables are complete, and unequal candidates stop it."""

from collections.abc import Callable
from types import ModuleType

import pytest

from archbook.timing import check_bench, peak_bytes

STEM = "omninet"


@pytest.mark.slow
def test_a_quick_run_writes_every_table_whole_and_nothing_under_results(
    quick: Callable[..., dict],
):
    found = quick()
    rows = {table["name"]: len(table["rows"]) for table in found["tables"]}
    assert check_bench(found) == []
    assert rows == {"both_ways": 4, "causal": 4, "meta_1": 2, "meta_2": 2, "meta_4": 2}


def test_a_peer_that_computes_something_else_stops_it(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
):
    def wrong(causal, device):
        layer = bench.attention(bench.PERFORMER, 16)
        return lambda q, k, v: 1.01 * layer(q, k, v, group=1 if causal else None)

    monkeypatch.setattr("archbook.timing.peers.version", lambda library: "1.1.4")
    monkeypatch.setattr(bench, "peer_attention", wrong)
    table, size = bench.PARTS["attention"]["causal"], {"batch": 1, "tokens": 16}
    with pytest.raises(AssertionError, match="performer-pytorch differs from Performer"):
        bench.CANDIDATES.row(
            table, size, bench.STEP, plan=bench.QUICK_PLAN, part="attention", device="cpu"
        )


def made_row(tokens: int, fused: float, peer: float) -> dict:
    ratios = {"Performer": 1.0, "fused attention": fused, "performer-pytorch": peer}
    candidates = {
        name: {"ms": 1.0, "ratio": {"median": ratio}, "peak_mib": None}
        for name, ratio in ratios.items()
    }
    return {"size": {"tokens": tokens}, "pass": "forward+backward", "candidates": candidates}


def test_the_crossover_is_where_the_times_are_equal(bench: ModuleType):
    """Ratios of 1/2 at 256 and 2 at 1,024 tokens meet one in the middle, at 512."""
    rows = [made_row(256, 0.5, 1.25), made_row(1024, 2.0, 1.0), made_row(8192, 16.0, 0.8)]
    found = bench.verdict(rows)
    assert found["crossover"] == 512
    assert found["of_fused_at_longest"] == pytest.approx(1 / 16, abs=1e-3)
    assert found["worst_of_peer"] == 1.25


def test_without_a_crossover_there_is_none(bench: ModuleType):
    assert bench.verdict([made_row(256, 2.0, 1), made_row(512, 3.0, 1)])["crossover"] is None


def test_predicted_exponents_are_those_of_the_operation_counts(bench: ModuleType):
    rows = [
        {
            "size": {"tokens": n},
            "pass": "forward+backward",
            "candidates": {
                name: {"ms": n**1.5, "peak_mib": 8.0 * n}
                for name in ("Performer", "fused attention")
            },
        }
        for n in (4096, 8192, 16384, 32768)
    ]
    performer = bench.growth("Performer", rows, 2)
    full = bench.growth("fused attention", rows, 2)
    assert performer["time"] == pytest.approx(1.5)
    assert performer["memory"] == pytest.approx(1)
    assert performer["time_predicted"] == pytest.approx(1)
    assert full["time_predicted"] == pytest.approx(2, abs=0.05)


@pytest.mark.slow
def test_peak_memory_of_one_step_is_measured_in_a_process_of_its_own(bench: ModuleType):
    size = {"batch": 1, "tokens": 4096}
    one = 4 * size["tokens"] * bench.HIDDEN  # bytes of q, k, v, the output and each gradient
    given = {"name": "Performer", "size": size, "device": "cpu"}
    assert peak_bytes(f"{bench.__file__}:prepare", given) > 3 * one
