"""The MSA Transformer benchmark at tiny size, with no peer installed: whole tables, equal
candidates only."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from archbook.timing import assert_same_results, check_bench, peak_bytes

STEM = "msa_transformer"
SMALL = {"rows": 4, "columns": 6}
EQUAL = {
    "model": ("ours", "ours, recomputed in chunks"),
    "row": ("ours", "fused attention", "map formed", "ours, recomputed in chunks"),
    "column": ("ours", "map formed", "ours, recomputed in chunks"),
}


@pytest.mark.slow
def test_a_quick_run_without_peers_writes_every_table_whole_and_nothing_under_results(
    quick: Callable,
):
    found = quick()
    rows = {table["name"]: len(table["rows"]) for table in found["tables"]}
    assert check_bench(found) == []
    assert rows == {"model": 2, "row": 2, "column": 2, "rows": 2}


@pytest.mark.slow
def test_a_row_says_that_the_peer_is_absent(quick: Callable):
    first = quick("--part", "model")["tables"][0]["rows"][0]
    assert set(first["candidates"]) == {"ours", "ours, recomputed in chunks"}
    assert first["absent"] == {"fair-esm": "fair-esm is not installed"}


def test_attention_over_all_tokens_is_left_out_of_large_alignments(bench: ModuleType):
    assert bench.why_absent(bench.FULL, {"rows": 32, "columns": 48}) is None
    assert "72 GiB" in bench.why_absent(bench.FULL, {"rows": 512, "columns": 48})


def test_a_candidate_that_computes_something_else_is_not_timed(
    bench: ModuleType, quick: Callable, written: Path, monkeypatch: pytest.MonkeyPatch
):
    class Unlike(bench.FusedRows):
        def flat(self, part):
            return super().flat(part).roll(1, 2)  # columns mixed up

    monkeypatch.setattr(bench, "FusedRows", Unlike)
    with pytest.raises(AssertionError, match="fused attention differs from ours"):
        quick("--part", "layers")
    assert not written.exists()


@pytest.mark.parametrize("kind", EQUAL)
def test_outputs_and_all_gradients_are_compared(bench: ModuleType, kind: str):
    found = {name: bench.prepare(name, SMALL, "cpu", kind=kind)() for name in EQUAL[kind]}
    assert_same_results(found, bench.TOLERANCE)
    weights = [n for n, _ in bench.ours("ours", kind).named_parameters() if "contact" not in n]
    assert len(found["ours"]) == 1 + len(weights) + (kind != "model")
    assert all(value.abs().max() > 0 for value in found["ours"])


@pytest.mark.parametrize("name", ["untied", "untied, maps formed"])
def test_of_one_row_untied_attention_computes_the_same(bench: ModuleType, name: str):
    alone = {"rows": 1, "columns": 6}
    found = {n: bench.prepare(n, alone, "cpu", kind="row")() for n in ("ours", name, bench.FULL)}
    assert_same_results(found, bench.TOLERANCE)


@pytest.mark.parametrize(
    ("name", "maps"), [("map formed", 1), ("untied, maps formed", 4), (None, 16)]
)
def test_maps_that_are_kept_are_as_large_as_theory_says(
    bench: ModuleType, name: str | None, maps: int
):
    size = {"rows": 4, "columns": 7}
    assert bench.maps_mib(name or bench.FULL, size) * 2**20 == 4 * bench.HEADS * 7**2 * maps


def test_weights_of_fair_esm_come_under_our_names(bench: ModuleType):
    layer = {f"{part}_proj.weight": torch.full((2, 2), i) for i, part in enumerate("qkv")}
    found = bench.our_names(layer | {"out_proj.bias": torch.ones(2)}, "column")
    assert found["qkv.weight"][:, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert set(found) == {"qkv.weight", "out.bias"}


def test_exponents_are_those_of_a_power_of_the_number_of_rows(bench: ModuleType):
    rows = [
        {
            "size": {"rows": n},
            "candidates": {
                "map formed": {"ms": n**2 / 7, "peak_mib": 8.0 * n, "maps_mib": 3.0},
            },
        }
        for n in (4, 8, 16)
    ]
    found = bench.growth("map formed", rows)
    assert found["time"] == pytest.approx(2)
    assert found["time_predicted"] == 1
    assert found["memory"] == pytest.approx(1)
    assert found["maps"] == pytest.approx(0, abs=1e-9)
    assert found["from_rows"] == 8


def test_a_candidate_that_ran_at_one_size_has_no_exponent(bench: ModuleType):
    one = {"ms": 1.0, "peak_mib": 9.0, "maps_mib": 1.0}
    rows = [{"size": {"rows": 4}, "candidates": {"map formed": one}}]
    assert bench.growth("map formed", rows) is None
    assert bench.growth("fair-esm", rows) is None


@pytest.mark.slow
def test_peak_memory_of_one_step_is_measured_in_a_process_of_its_own(bench: ModuleType):
    size = {"rows": 32, "columns": 64}
    hidden = size["rows"] * size["columns"] * bench.HIDDEN * 4
    given = {"name": "ours", "size": size, "device": "cpu", "kind": "row"}
    assert peak_bytes(f"{bench.__file__}:prepare", given) > 4 * hidden
