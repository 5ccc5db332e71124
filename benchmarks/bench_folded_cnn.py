"""Folded CNNs: images a second against the batch, the layout, the compiler and the threads.

`--part batch` measures one part and keeps the other tables; `--quick` runs tiny sizes and writes to
.runs/ alone. Measure on a quiet machine: about eleven minutes on two cores. The parts, whose tables
stand in results/folded_cnn/bench.json (bench_cuda.json on a card):

ceilings  the machine's roofline as measured: a copy (bytes a second) against its size, and products
          of square matrices (FLOP a second)
batch     a game net at folds 1 to 4, both layouts, eager and compiled, one and all threads, against
          the number of images a step; on a card in half precisions, and as CUDA graphs
fold      what folding the images and unfolding the logits adds to the pass
kept      the batch part's fastest configuration of each fold once more, while the C library keeps
          the memory that a pass frees; by default it gives blocks above 32 MiB back, and a pass of
          many images fetches them anew, page by page
nets      the paper's small nets, one with widths rounded up to multiples of 8, and where folding
          ought to lose: large images, heavy weights with few images, a ResNet-18; memory kept
pareto    the nets that the accuracy experiment trains on Fashion-MNIST; memory kept
precision on a card alone: a pass in float32, TF32 and bfloat16; its launches and longest kernels

Each work answers single images, `batch` of them, through `FoldedClassifier`: the fold, the filling
of a last group and the unfolding are counted. Works of one fold have the same weights and are shown
to give the same logits before they are timed; other folds compute something else. Arithmetic is
float32 without TF32 on a CPU; checks of values (NaN) are off.
"""

import archbook.awake  # noqa: F401  before torch

# isort: split

import ctypes
import platform
import runpy
import shutil
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from archbook.checks import value_checks
from archbook.folded_cnn import (
    GAME_CNNS,
    NOSCOPE_CNNS,
    FoldedClassifier,
    FoldedNet,
    FoldedResNet18,
    GameCNN,
    NoScopeCNN,
    cost,
    fold_images,
)
from archbook.folded_cnn.networks import sizes_of
from archbook.timing import (
    FORWARD,
    Plan,
    Size,
    Work,
    bench_main,
    bench_row,
    bench_table,
    captured,
    exponents,
    limit_of,
    peak_bytes,
    precision_tables,
    run_once,
    timed,
)

# Every net of a table is compiled on its own, most of them for one image and for many. Past its
# limit torch would go on without compiling.
torch._dynamo.config.recompile_limit = 64
torch._dynamo.config.fail_on_recompile_limit_hit = True

Servers = dict[str, tuple[FoldedClassifier, str, str]]  # by name, each with its layout and mode

ROOT = Path(__file__).parents[1]
FOLDS = (1, 2, 3, 4)
LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
GAME = "lol-gold1"
MEASURED = ("channels_last", "eager")  # of the growth of time and of peak memory
GRAPH, COMPILED_GRAPH = "CUDA graph", "compiled, CUDA graph"
CARD_MATRIX = 8192  # rows of a product that fills a card
FROM = 256  # images from which on they are fitted: below, the cost of a call hides that of the work
# name -> (how it is built, images a step); the last three ought to lose
NETS: dict[str, tuple[Callable[[int], FoldedNet], int]] = {
    "lol-gold1": (lambda fold: GameCNN(**GAME_CNNS["lol-gold1"], fold=fold), 240),
    "lol-gold1 rounded": (lambda f: GameCNN(**GAME_CNNS["lol-gold1"], fold=f, round_to=8), 240),
    "sot-time": (lambda fold: GameCNN(**GAME_CNNS["sot-time"], fold=fold), 240),
    "coral": (lambda fold: NoScopeCNN(**NOSCOPE_CNNS["coral"], fold=fold), 240),
    "roundabout": (lambda fold: NoScopeCNN(**NOSCOPE_CNNS["roundabout"], fold=fold), 48),
    "large images": (lambda fold: GameCNN(224, 224, 11, units=1, fold=fold), 12),
    "heavy weights": (lambda fold: NoScopeCNN(32, 32, 10, filters=64, dense=1024, fold=fold), 12),
    "ResNet-18": (lambda fold: FoldedResNet18(10, fold=fold), 12),
}


PARTS_TIMED = ("ceilings", "batch", "fold", "kept", "nets", "pareto")
FULL = Plan(
    sizes={
        "copy": (64, 512, 4_096, 32_768, 262_144),  # KiB
        "product": (256, 1024, 2048),  # rows and columns
        "batch": (1, 4, 16, 64, 256, 1024, 4096),  # images
        "batch on a card": (64, 256, 1024, 4096),  # where every net is compiled for a few anew
        "nets": tuple(NETS),
        "folds": (1, 2, 4),  # of those nets
        "pareto": (240,),  # images
    },
    seconds=dict(zip(PARTS_TIMED, (2, 8, 4, 4, 8, 12), strict=True)),
)
QUICK = Plan(
    sizes={
        "copy": (64,),
        "product": (64,),
        "batch": (1, 4),
        "batch on a card": (1, 4),
        "nets": ("coral",),
        "folds": (1, 4),
        "pareto": (4,),
    },
    seconds=dict.fromkeys(PARTS_TIMED, 0.05),
    thorough=False,
)


def modes(plan: Plan, device: str) -> tuple[str, ...]:
    """eager, and compiled where the plan wants it and it can be done; on a card as a graph."""
    if device != "cpu":
        return ("eager", GRAPH)
    return ("eager", "compiled") if plan.thorough and shutil.which("c++") else ("eager",)


def precisions(device: str) -> tuple[torch.dtype, ...]:
    return (torch.float32,) if device == "cpu" else (torch.float16, torch.bfloat16)


def label(fold: int, layout: str, mode: str) -> str:
    return f"f = {fold}, {layout}, {mode}"


@contextmanager
def threads(number: int):
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def thread_counts(device: str) -> list[int]:
    """A card is driven by one thread, whatever their number."""
    return sorted({1, torch.get_num_threads()} if device == "cpu" else {torch.get_num_threads()})


def server_of(
    build: Callable[[int], FoldedNet], fold: int, layout: str, mode: str, dtype, device: str
) -> FoldedClassifier:
    """The net of this fold, with the same weights in every layout and mode."""
    torch.manual_seed(0)
    net: Any = build(fold).eval().requires_grad_(False)  # torch's types know no memory_format
    net = net.to(device, dtype, memory_format=LAYOUTS[layout])
    if mode.startswith("compiled"):
        net = torch.compile(net, dynamic=True)  # one compilation for all batches
    return FoldedClassifier(net)


def images_for(net: nn.Module, batch: int, layout: str, dtype, device: str) -> Tensor:
    torch.manual_seed(1)
    x = torch.rand(batch, *sizes_of(net)[2:])
    return x.to(device, dtype, memory_format=LAYOUTS[layout])


def answer(server: FoldedClassifier, x: Tensor, mode: str) -> Work:
    def work() -> tuple[Tensor, ...]:
        with value_checks(False), torch.no_grad():
            return (server(x),)

    return captured(work) if mode in (GRAPH, COMPILED_GRAPH) else work


def serve(
    build: Callable[[int], FoldedNet],
    configurations: Iterable[tuple[int, str, str]],
    dtype: torch.dtype,
    device: str,
) -> Servers:
    """A server for each (fold, layout, mode)."""
    return {
        label(*one): (server_of(build, *one, dtype, device), *one[1:]) for one in configurations
    }


def answers_of(servers: Servers, batch: int, dtype: torch.dtype, device: str) -> dict[str, Work]:
    """Each answers as many images, in the layout of its own."""
    return {
        name: answer(server, images_for(server.model, batch, layout, dtype, device), mode)
        for name, (server, layout, mode) in servers.items()
    }


def row(
    works: dict[str, Work],
    base: str,
    size: Size,
    *,
    seconds: float,
    device: str,
    alike: Iterable[list[str]] = (),
) -> dict:
    """One row: candidates that are alike shown equal, then all timed; `images_per_s` added."""
    run_once(works, alike, 1e-3 if device == "cpu" else 5e-2)  # compiles, too
    candidates = timed(works, base, seconds, device=device)
    for one in candidates.values():
        one["images_per_s"] = 1e3 * size["images"] / one["ms"]
    return bench_row(size, FORWARD, candidates, limit=limit_of(works[base], device))


def part_ceilings(plan: Plan, device: str) -> list[dict]:
    """What the machine can do at most: bytes a second by copying, FLOP a second by products."""
    copies, products = [], []
    dtype, seconds = precisions(device)[0], plan.seconds["ceilings"]
    for number in thread_counts(device):
        with threads(number):
            for kib in plan.sizes["copy"]:
                repeats = max(1, 16_384 // kib)  # a small copy is over before the clock sees it
                work = copies_of(kib, repeats, dtype, device=device)
                found = timed({"copy": work}, "copy", seconds, device=device)
                moved = 2 * kib * 1024 * repeats
                found["copy"]["gb_per_s"] = moved / found["copy"]["ms"] / 1e6
                copies.append(bench_row({"threads": number, "kib": kib}, FORWARD, found))
            for n in (*plan.sizes["product"], *([CARD_MATRIX] if device != "cpu" else [])):
                a = torch.rand(n, n).to(device, dtype)
                work = {"product": lambda a=a: (a @ a,)}
                found = timed(work, "product", seconds, device=device)
                found["product"]["gflop_per_s"] = 2 * n**3 / found["product"]["ms"] / 1e6
                products.append(bench_row({"threads": number, "n": n}, FORWARD, found))
    title = "A copy, read and written bytes counted"
    return [
        bench_table("copy", title, copies, baseline="copy"),
        bench_table("product", "A product of two square matrices", products, baseline="product"),
    ]


def copies_of(kib: int, repeats: int, dtype: torch.dtype, *, device: str) -> Work:
    source = torch.ones(kib * 1024 // dtype.itemsize, dtype=dtype, device=device)
    goal = torch.empty_like(source)

    def work() -> tuple[Tensor, ...]:
        for _ in range(repeats):
            goal.copy_(source)
        return (goal,)

    return work


def part_batch(plan: Plan, device: str) -> list[dict]:
    """Images a second against the images of a step, in every configuration of every fold."""
    build, kinds = NETS[GAME][0], modes(plan, device)
    base = label(1, "channels_last", kinds[-1])
    made = []
    for dtype in precisions(device):
        rows = []
        for number in thread_counts(device):
            with threads(number):
                torch._dynamo.reset()  # compiled code is for one number of threads
                configurations = list(product(FOLDS, LAYOUTS, kinds))
                if device != "cpu" and dtype == torch.float16 and plan.thorough:
                    configurations += [(fold, "channels_last", COMPILED_GRAPH) for fold in FOLDS]
                servers = serve(build, configurations, dtype, device)
                alike = [
                    [label(*one) for one in configurations if one[0] == fold] for fold in FOLDS
                ]
                for batch in plan.sizes["batch" if device == "cpu" else "batch on a card"]:
                    works = answers_of(servers, batch, dtype, device)
                    size = {"threads": number, "images": batch}
                    seconds = plan.seconds["batch"]
                    rows.append(row(works, base, size, seconds=seconds, device=device, alike=alike))
                    if plan.thorough and number == thread_counts(device)[-1] and batch >= FROM:
                        for fold in FOLDS:
                            one = rows[-1]["candidates"][label(fold, *MEASURED)]
                            one["peak_mib"] = peak_mib(fold, batch, dtype, device=device)
        name = "batch" if dtype == precisions(device)[0] else f"batch_{dtype}".replace("torch.", "")
        title = f"Images a step: {GAME}, {dtype}".replace("torch.", "")
        more = {"work": work_of(build), "exponents": growth(rows), "exponents_from_images": FROM}
        made.append(bench_table(name, title, rows, baseline=base, **more))
    return made


def growth(rows: list[dict]) -> dict[str, dict]:
    """Exponents in the images of a step, with all threads, of time and of peak memory."""
    most = max(row["size"]["threads"] for row in rows)
    rows = [r for r in rows if r["size"]["threads"] == most and r["size"]["images"] >= FROM]
    made = {}
    for name in (label(fold, *MEASURED) for fold in FOLDS):
        if len(rows) < 2:
            break
        sizes, found = [r["size"]["images"] for r in rows], [r["candidates"][name] for r in rows]
        predicted = {"time_predicted": 1.0, "memory_predicted": 1.0}
        made[name] = exponents(sizes, found) | predicted
    return made


def peak_mib(fold: int, batch: int, dtype: torch.dtype, *, device: str) -> float:
    """MiB by which a process of its own grows when it answers a batch."""
    target = f"{Path(__file__).resolve()}:prepare"
    given = {"fold": fold, "images": batch, "dtype": f"{dtype}", "device": device}
    return peak_bytes(target, given, before=given | {"images": fold}, device=device) / 2**20


def prepare(fold: int, images: int, dtype: str, *, device: str) -> Work:
    """What that process runs."""
    numbers = getattr(torch, dtype.removeprefix("torch."))
    server = server_of(NETS[GAME][0], fold, *MEASURED, numbers, device)
    x = images_for(server.model, images, MEASURED[0], numbers, device)
    return answer(server, x, MEASURED[1])


def work_of(
    build: Callable[[int], FoldedNet], folds: Iterable[int] = FOLDS, images: int = 12_000
) -> dict:
    """FLOPs (2 a multiply-add) and bytes in float32 of an image in a step of so many."""
    made = {}
    for fold in folds:
        many = cost(build(fold), images, torch.float32)
        made[str(fold)] = {
            "flops": many.flops / images,
            "bytes": many.bytes / images,
            "intensity": many.intensity,
        }
    return made


def part_fold(plan: Plan, device: str) -> list[dict]:
    """The pass alone, of images that are already folded, beside the pass with the fold."""
    build, dtype = NETS[GAME][0], precisions(device)[0]
    rows, batch = [], 12 * max(plan.sizes["batch"][-1] // 48, 1)  # whole groups at every fold
    base = "channels_last, folded before"
    for fold in FOLDS:
        works = {}
        for layout in LAYOUTS:
            server = server_of(build, fold, layout, "eager", dtype, device)
            x = images_for(server.model, batch, layout, dtype, device)
            works[f"{layout}, folded before"] = passed(server.model, fold_images(x, fold))
            works[f"{layout}, with the fold"] = answer(server, x, "eager")
        size = {"fold": fold, "images": batch}
        rows.append(row(works, base, size, seconds=plan.seconds["fold"], device=device))
    title = f"What the fold adds: {GAME}, eager, all threads"
    return [bench_table("fold", title, rows, baseline=base)]


def passed(net: nn.Module, groups: Tensor) -> Work:
    def work() -> tuple[Tensor, ...]:
        with value_checks(False), torch.no_grad():
            return (net(groups),)

    return work


def keep_memory() -> bool:
    """From now on freed memory stays with the process; False where the C library is not glibc's."""
    if platform.libc_ver()[0] != "glibc":
        return False
    no_mmap, no_trim = (-4, 0), (-1, 2**31 - 1)  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
    return all(ctypes.CDLL(None).mallopt(*option) for option in (no_mmap, no_trim))


def part_kept(plan: Plan, device: str) -> list[dict]:
    if device != "cpu" or not keep_memory():  # a card's memory is kept by torch
        return []
    build, (dtype,), mode = NETS[GAME][0], precisions(device), modes(plan, device)[-1]
    torch._dynamo.reset()
    configurations = [(fold, "channels_last", mode) for fold in FOLDS]
    servers = serve(build, configurations, dtype, device)
    base, rows = label(*configurations[0]), []
    for batch in plan.sizes["batch"]:
        works = answers_of(servers, batch, dtype, device)
        size = {"threads": torch.get_num_threads(), "images": batch}
        rows.append(row(works, base, size, seconds=plan.seconds["kept"], device=device))
    title = f"Images a step, memory kept: {GAME}, {dtype}".replace("torch.", "")
    return [bench_table("kept", title, rows, baseline=base)]


def part_nets(plan: Plan, device: str) -> list[dict]:
    """Small nets, and those for which theory promises little or a loss."""
    dtype, kinds = precisions(device)[0], modes(plan, device)
    keep_memory()
    made = []
    folds, seconds = plan.sizes["folds"], plan.seconds["nets"]
    for name in plan.sizes["nets"]:
        build, batch = NETS[name]
        torch._dynamo.reset()
        works = {}
        for fold in folds:
            for mode in kinds:
                server = server_of(build, fold, "channels_last", mode, dtype, device)
                x = images_for(server.model, batch, "channels_last", dtype, device)
                works[label(fold, "channels_last", mode)] = answer(server, x, mode)
        alike = [[n for n in works if n.startswith(f"f = {fold},")] for fold in folds]
        base = label(1, "channels_last", kinds[-1])
        size = {"images": batch}
        rows = [row(works, base, size, seconds=seconds, device=device, alike=alike)]
        more = {"work": work_of(build, folds, batch)}
        title = f"{name}, {batch} images a step"
        made.append(bench_table(table_name(name), title, rows, baseline=base, **more))
    return made


def table_name(net: str) -> str:
    return f"net_{net}".lower().replace(" ", "_")


@cache
def trained_on_fashion() -> dict[str, Callable[[], FoldedNet]]:
    """The nets of experiments/folded_cnn/accuracy.py that differ in their layers."""
    experiment = runpy.run_path(str(ROOT / "experiments" / "folded_cnn" / "accuracy.py"))
    first = experiment["FASHION"]
    recipe = (first.data, first.images, first.learning_rate, first.grouping, first.start)
    return {
        name: lambda c=config: experiment["build"](c, c.resolution, c.resolution, classes=10)
        for name, config in experiment["SIZES"]["full"].items()
        if (config.data, config.images, config.learning_rate, config.grouping, config.start)
        == recipe
    }


def part_pareto(plan: Plan, device: str) -> list[dict]:
    dtype, kinds = precisions(device)[0], modes(plan, device)
    (images,) = plan.sizes["pareto"]
    keep_memory()
    torch._dynamo.reset()
    works = {}
    for name, build in trained_on_fashion().items():
        for mode in kinds:
            server = server_of(lambda fold, b=build: b(), 1, "channels_last", mode, dtype, device)
            x = images_for(server.model, images, "channels_last", dtype, device)
            works[f"{name}, {mode}"] = answer(server, x, mode)
    alike = [[f"{name}, {mode}" for mode in kinds] for name in trained_on_fashion()]
    base = f"f1, {kinds[-1]}"
    size, seconds = {"images": images}, plan.seconds["pareto"]
    rows = [row(works, base, size, seconds=seconds, device=device, alike=alike)]
    title = "The nets trained on Fashion-MNIST, channels_last"
    return [bench_table("pareto", title, rows, baseline=base)]


def part_precision(plan: Plan, device: str) -> list[dict]:
    images = plan.sizes["batch"][-1]
    passes = (
        ({"fold": fold, "images": images}, prepare(fold, images, "float32", device=device))
        for fold in (1, 4)
    )
    title = f"In fewer bits: {GAME}, channels_last, eager"
    return precision_tables(title, passes, plan.seconds["batch"], device=device)


PARTS = {
    "ceilings": part_ceilings,
    "batch": part_batch,
    "fold": part_fold,
    "kept": part_kept,
    "nets": part_nets,
    "pareto": part_pareto,
    "precision": part_precision,
}
TABLES = (
    "batch",
    "batch_bfloat16",
    "fold",
    "kept",
    *map(table_name, NETS),
    "pareto",
    "precision",
    "copy",
    "product",
)


def main(argv: list[str] | None = None) -> None:
    title = "Folded CNNs"
    bench_main("folded_cnn", title, (FULL, QUICK), parts=PARTS, tables=TABLES, argv=argv)


if __name__ == "__main__":
    main()
