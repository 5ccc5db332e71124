"""The EGNN benchmark at tiny size, with no peer installed: whole tables, equal candidates only."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from archbook.timing import check_bench, peak_bytes

STEM = "egnn"
SMALL = {"graphs": 2, "nodes": 4, "layers": 2}
SPARSE = {"nodes": 30, "k": 5, "layers": 2}
OURS_AND_OFFICIAL = {"dense", "edge list", "official style"}


@pytest.mark.slow
def test_a_quick_run_without_peers_writes_every_table_whole_and_nothing_under_results(
    quick: Callable,
):
    found = quick()
    rows = {table["name"]: len(table["rows"]) for table in found["tables"]}
    wanted = {"dense": 2, "dense_wide": 2, "order1": 2, "sparse": 2, "sparse_wide": 2, "size": 2}
    assert check_bench(found) == []
    assert rows == wanted


@pytest.mark.slow
def test_a_row_says_which_candidate_is_absent_and_why(quick: Callable):
    first = quick("--part", "dense")["tables"][0]["rows"][0]
    assert set(first["candidates"]) == OURS_AND_OFFICIAL
    assert first["absent"] == {
        "torch_geometric": "torch-geometric is not installed",
        "egnn-pytorch": "egnn-pytorch is not installed",
        "egnn-pytorch, its own widths": "egnn-pytorch is not installed",
    }


def test_a_peer_that_holds_all_pairs_is_left_out_of_large_graphs(
    bench: ModuleType,
):
    size = {"k": 8, "layers": 4}
    assert bench.why_absent("egnn-pytorch", size | {"nodes": 1_000}) is None
    assert "30 GiB" in bench.why_absent("egnn-pytorch", size | {"nodes": 10_000})


def test_a_candidate_that_computes_something_else_is_not_timed(
    bench: ModuleType, quick: Callable, written: Path, monkeypatch: pytest.MonkeyPatch
):
    class Unlike(bench.OfficialStyle):
        def forward(self, h, x, edges):
            return super().forward(h, x, edges.flip(0))  # senders and receivers mixed up

    monkeypatch.setitem(bench.MADE_HERE, "official style", Unlike)
    with pytest.raises(AssertionError, match="official style differs from edge list"):
        quick("--part", "sparse")
    assert not written.exists()


@pytest.mark.parametrize("size", [SMALL, SPARSE])
def test_positions_move_so_that_their_update_is_compared(bench: ModuleType, size: dict):
    _, x, *gradients = bench.prepare("edge list", size, "cpu")()
    moved = (x - bench.graphs(size, "cpu", False)[1]).abs().max()
    assert moved > 1e-3 if size is SMALL else moved < 1e-6
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_every_weight_has_the_same_values_in_every_candidate(bench: ModuleType):
    sums = {
        name: [float(g.double().sum()) for g in bench.prepare(name, SMALL, "cpu")()]
        for name in OURS_AND_OFFICIAL
    }
    assert sums["dense"] == pytest.approx(sums["edge list"], rel=1e-3, abs=1e-6)
    assert sums["official style"] == pytest.approx(sums["edge list"], rel=1e-3, abs=1e-6)


def test_neighbours_that_are_searched_are_those_of_the_edge_list(bench: ModuleType):
    given, searched = (
        bench.prepare(name, SPARSE, "cpu")()
        for name in ("edge list", "edge list, neighbours searched")
    )
    assert all(map(torch.equal, given, searched))


def test_the_wide_layers_have_the_names_and_shapes_of_egnn_pytorch(bench: ModuleType):
    width, inputs = bench.WIDTH, 2 * bench.WIDTH + 1
    shapes = {  # of the peer's layer with messages as wide as its features
        "edge_mlp.0.weight": (2 * inputs, inputs),
        "edge_mlp.3.weight": (width, 2 * inputs),
        "coors_mlp.0.weight": (4 * width, width),
        "coors_mlp.3.weight": (1, 4 * width),
        "node_mlp.0.weight": (2 * width, 2 * width),
        "node_mlp.3.weight": (width, 2 * width),
    }
    biases = {name.replace("weight", "bias"): shape[:1] for name, shape in shapes.items()}
    layer = bench.network("edge list", SMALL, wide=True).layers[0]
    found = {name: tuple(weight.shape) for name, weight in layer.named_parameters()}
    assert found == {bench.our_name(name): shape for name, shape in (shapes | biases).items()}


def test_the_edges_of_egnn_pytorch_hold_the_node_itself_and_are_as_many(bench: ModuleType):
    _, _, edges = bench.graphs(SPARSE, "cpu", False)
    _, _, theirs = bench.graphs(SPARSE, "cpu", True)
    loops = theirs[:, theirs[0] == theirs[1]]
    assert theirs.shape == edges.shape
    assert sorted(loops[0].tolist()) == list(range(SPARSE["nodes"]))


def test_exponents_are_those_of_a_power_of_the_number_of_nodes(bench: ModuleType):
    rows = [
        {
            "size": {"nodes": n},
            "candidates": {"egnn-pytorch": {"ms": n**2 / 7, "peak_mib": 8.0 * n}},
        }
        for n in (4, 8, 16)
    ]
    found = bench.growth("egnn-pytorch", rows)
    assert found["time"] == pytest.approx(2)
    assert found["time_predicted"] == 2
    assert found["memory"] == pytest.approx(1)
    assert found["from_nodes"] == 8


def test_a_candidate_that_ran_at_one_size_has_no_exponent(bench: ModuleType):
    rows = [{"size": {"nodes": 4}, "candidates": {"edge list": {"ms": 1.0, "peak_mib": 9.0}}}]
    assert bench.growth("edge list", rows) is None
    assert bench.growth("egnn-pytorch", rows) is None


@pytest.mark.slow
def test_peak_memory_of_one_step_is_measured_in_a_process_of_its_own(bench: ModuleType):
    size = {"nodes": 1024, "k": 8, "layers": 2}
    messages = size["nodes"] * size["k"] * bench.WIDTH * 4
    given = {"name": "edge list", "size": size, "device": "cpu"}
    assert peak_bytes(f"{bench.__file__}:prepare", given) > 2 * size["layers"] * messages
