"""The FoldedCNN benchmark at tiny size: whole tables, equal logits within a fold, honest counts."""

import platform
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from types import ModuleType

import pytest
import torch

from archbook.folded_cnn import cost
from archbook.timing import check_bench, peak_bytes

STEM = "folded_cnn"


def tables(found: dict) -> dict[str, dict]:
    return {one["name"]: one for one in found["tables"]}


@pytest.mark.slow
def test_a_quick_run_writes_every_table_whole_and_nothing_under_results(
    bench: ModuleType, quick: Callable[..., dict]
):
    found = quick()
    counts = {name: len(one["rows"]) for name, one in tables(found).items()}
    per_threads = len(bench.thread_counts("cpu"))
    assert check_bench(found) == []
    assert counts == {
        "batch": 2 * per_threads,
        "fold": 4,
        "kept": 2,
        "net_coral": 1,
        "pareto": 1,
        "copy": per_threads,
        "product": per_threads,
    }


@pytest.mark.slow
def test_images_are_counted_singly_and_not_by_groups(quick: Callable[..., dict]):
    for row in tables(quick("--part", "batch"))["batch"]["rows"]:
        for one in row["candidates"].values():
            assert one["images_per_s"] == pytest.approx(1e3 * row["size"]["images"] / one["ms"])


def test_every_work_answers_all_single_images_also_where_a_group_is_not_full(bench: ModuleType):
    for fold in bench.FOLDS:
        server = bench.server_of(
            bench.NETS["coral"][0], fold, "channels_last", "eager", torch.float32, "cpu"
        )
        x = bench.images_for(server.model, 2, "channels_last", torch.float32, "cpu")
        (logits,) = bench.answer(server, x, "eager")()
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


def run_compiled(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fold and layout, for one image and for several. Tracing has the limit."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    build = bench.NETS["coral"][0]
    configurations = [(*one, "compiled") for one in product(bench.FOLDS, bench.LAYOUTS)]
    servers = bench.serve(build, configurations, torch.float32, "cpu")
    for batch in (1, 2 * max(bench.FOLDS)):
        for work in bench.answers_of(servers, batch, torch.float32, "cpu").values():
            work()


@pytest.mark.compile
def test_the_limit_of_compiling_lets_all_configurations_through(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
):
    run_compiled(bench, monkeypatch)  # raises past the limit


@pytest.mark.compile
def test_a_net_that_torch_would_no_longer_compile_is_not_timed(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
):
    too_few = torch._dynamo.config.patch(recompile_limit=8)  # torch's own
    with too_few, pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        run_compiled(bench, monkeypatch)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="speaks to glibc's allocator")
def test_kept_memory_is_not_fetched_again_page_by_page(bench: ModuleType):
    import resource  # not on Windows

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**24)  # 64 MiB: above what glibc keeps by default
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    pages = 2**26 // resource.getpagesize()
    assert bench.keep_memory()
    # not at once: a freed block of just this size has no room to align the next one in
    assert min(faults() for _ in range(20)) < pages / 100


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


@pytest.mark.slow
def test_peak_memory_of_a_batch_is_measured_in_a_process_of_its_own(bench: ModuleType):
    first_maps = 256 * 32 * 22 * 52 * 4  # what the first layer writes
    given = {"fold": 1, "images": 256, "dtype": "torch.float32", "device": "cpu"}
    assert peak_bytes(f"{bench.__file__}:prepare", given) > first_maps
