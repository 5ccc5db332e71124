"""The FoldedCNN benchmark at tiny size: whole tables, equal logits within a fold, honest counts."""

import gc
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from archbook.folded_cnn import cost
from archbook.running import benchmark, check_bench, peak_memory

FILE = Path(__file__).parents[1] / "benchmarks" / "bench_folded_cnn.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_folded_cnn", FILE)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:  # the file sets variables for its own process
        patch.setattr("os.environ", {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"})
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def written(bench: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Where a quick run writes, its folder standing in for the repository."""
    stand_in = tmp_path / "results" / "folded_cnn" / "bench.json"
    monkeypatch.setattr(benchmark, "results_path", lambda stem, name: stand_in)
    monkeypatch.setattr(benchmark, "ROUNDS", (2, 2))
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    yield tmp_path / ".runs" / "folded_cnn" / "bench.json"
    gc.unfreeze()  # the benchmark set aside what the tests before it had made


def tables(written: Path) -> dict[str, dict]:
    return {one["name"]: one for one in json.loads(written.read_text())["tables"]}


def test_a_quick_run_writes_every_table_whole_and_nothing_under_results(
    bench: ModuleType, written: Path, tmp_path: Path
):
    bench.main(["--quick", "--threads", "1"])
    found = tables(written)
    counts = {name: len(one["rows"]) for name, one in found.items()}
    per_threads = len(bench.thread_counts())
    assert check_bench(json.loads(written.read_text())) == []
    assert counts == {
        "batch": 2 * per_threads,
        "fold": 4,
        "net_coral": 1,
        "pareto": 1,
        "copy": per_threads,
        "product": per_threads,
    }
    assert not (tmp_path / "results").exists()


def test_images_are_counted_singly_and_not_by_groups(bench: ModuleType, written: Path):
    bench.main(["--quick", "--threads", "1", "--part", "batch"])
    for row in tables(written)["batch"]["rows"]:
        for one in row["candidates"].values():
            assert one["images_per_s"] == pytest.approx(1e3 * row["size"]["images"] / one["ms"])


def test_every_work_answers_all_single_images_also_where_a_group_is_not_full(bench: ModuleType):
    for fold in bench.FOLDS:
        server = bench.server_of(
            bench.NETS["coral"][0], fold, "channels_last", "eager", torch.float32, "cpu"
        )
        x = bench.images_for(server.model, 2, "channels_last", torch.float32, "cpu")
        (logits,) = bench.answer(server, x)()
        assert logits.shape == (2, 2)


def test_a_layout_that_computes_something_else_is_not_timed(
    bench: ModuleType, written: Path, monkeypatch: pytest.MonkeyPatch
):
    honest = bench.images_for

    def other_images(net, batch, layout, dtype, device):
        return honest(net, batch, layout, dtype, device) * (1 + (layout == "NCHW"))

    monkeypatch.setattr(bench, "images_for", other_images)
    with pytest.raises(AssertionError, match="f = 1, channels_last, eager differs from f = 1"):
        bench.main(["--quick", "--threads", "1", "--part", "batch"])
    assert not written.exists()


def test_the_work_beside_the_times_is_that_of_cost(bench: ModuleType):
    build = bench.NETS["lol-gold1"][0]
    found = bench.work_of(build)
    assert found["1"]["flops"] == 16_654_512
    assert found["4"]["flops"] == 74_548_608 / 4
    assert found["4"]["intensity"] == cost(build(4), 12_000, torch.float32).intensity


def test_the_pareto_nets_are_those_of_the_accuracy_experiment(bench: ModuleType):
    nets = {name: build() for name, build in bench.trained_on_fashion().items()}
    assert [nets[f"f{fold}"].fold for fold in bench.FOLDS] == [1, 2, 3, 4]
    assert nets["wide"].body[0].out_channels == nets["f4"].body[0].out_channels == 64
    assert nets["f4_same_width"].body[0].out_channels == nets["f1"].body[0].out_channels
    narrow, scaled = (cost(nets[name], 1).flops for name in ("narrow", "scaled_down"))
    assert narrow == pytest.approx(scaled, rel=0.04)


def test_the_number_of_threads_is_put_back(bench: ModuleType, monkeypatch: pytest.MonkeyPatch):
    calls = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(torch, "set_num_threads", calls.append)
    with bench.threads(1):
        pass
    assert calls == [1, 7]


def test_exponents_are_those_of_a_power_of_the_images(bench: ModuleType):
    def one(images: int) -> dict:
        return {"ms": images**1.5 / 7, "peak_mib": 3.0 * images}

    names = [bench.label(fold, *bench.MEASURED) for fold in bench.FOLDS]
    rows = [
        {"size": {"threads": n, "images": i}, "candidates": {name: one(i) for name in names}}
        for n in (1, 2)
        for i in (1, 64, 256, 1024)
    ]
    found = bench.growth(rows)
    assert list(found) == names
    assert found[names[0]]["time"] == pytest.approx(1.5)
    assert found[names[0]]["memory"] == pytest.approx(1)


def test_peak_memory_of_a_batch_is_measured_in_a_process_of_its_own():
    first_maps = 256 * 32 * 22 * 52 * 4  # what the first layer writes
    target = f"{FILE}:step_alone"
    assert peak_memory(target, 1, 256, "torch.float32", "cpu") > first_maps
