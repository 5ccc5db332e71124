"""The frame of a benchmark: candidates shown equal, timed in rounds, saved part by part."""

import argparse
import gc
import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from archbook.files import write_json
from archbook.running.bench_results import write_bench
from archbook.running.environment import environment, pick_device
from archbook.running.measuring import interleaved, ratios
from archbook.running.results import results_path

Work = Callable[[], tuple[Tensor, ...]]

ROUNDS = (3, 31)  # at least, at most
CARD_SHARE = 1 / 20  # of the seconds, for a card: its small steps are fast
CARD_ROUNDS = 9  # at least
SMALL = 4.0  # MiB below which the growth of a process says little


def assert_same_results(results: Mapping[str, tuple[Tensor, ...]], tolerance: float = 1e-3) -> None:
    """Fail unless every candidate's tensors equal the first's, relative to the largest entry."""
    first, *others = results
    for name in others:
        for wanted, given in zip(results[first], results[name], strict=True):
            error = float((given - wanted).abs().max() / wanted.abs().max())
            if not error < tolerance:  # NaN fails too
                raise AssertionError(f"{name} differs from {first} by {error:.1e}")


def timed(works: Mapping[str, Work], base: str, seconds: float, device: str) -> dict:
    """Median milliseconds and within-round ratios; as many rounds as the seconds allow.

    The check of equality has warmed up the CPU; a GPU is warmed up here.
    """
    gpu = device != "cpu"
    first = interleaved(works, rounds=1, warmup=3 if gpu else 0, device=device)
    seconds, least = (seconds * CARD_SHARE, CARD_ROUNDS) if gpu else (seconds, ROUNDS[0])
    rounds = int(seconds / sum(times[0] for times in first.values()))
    rounds = max(least, min(ROUNDS[1], rounds)) - 1
    warmup = min(rounds, 10) if gpu else 0
    more = interleaved(works, rounds, warmup, seed=1, device=device)
    times = {name: first[name] + more[name] for name in works}
    return {
        name: {"ms": 1e3 * statistics.median(times[name]), "ratio": ratio, "peak_mib": None}
        for name, ratio in ratios(times, base).items()
    }


def captured(work: Work) -> Work:
    """The same work as a single launch: its CUDA graph, replayed into the same results."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):  # nothing may be compiled or tuned while a graph is captured
            work()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = work()

    def replay() -> tuple[Tensor, ...]:
        _ = work  # lives on: the graph reads its inputs where they lay
        graph.replay()
        return results

    return replay


def bench_row(size: dict, backward: bool, candidates: dict, **more: Any) -> dict:
    """One row of a table, printed as soon as it is finished."""
    kind = "forward+backward" if backward else "forward"
    print(size, kind)
    for name, one in candidates.items():
        spread = "{median:9.3f} [{q1:.3f}, {q3:.3f}]".format(**one["ratio"])
        peak = "" if one["peak_mib"] is None else f"{one['peak_mib']:10.1f} MiB"
        print(f"  {name:32}{one['ms']:11.3f} ms {spread:30}{peak}", flush=True)
    return {"size": size, "pass": kind, "candidates": candidates, **more}


def bench_tables(
    tables: Mapping[str, Any],
    sizes: Sequence[dict],
    row: Callable[[Any, dict, bool], dict],
    peers: dict[str, str],
    growth: Callable[[str, list[dict]], dict | None] | None = None,
) -> list[dict]:
    """Every table of a part, a row for each size and pass.

    A table has a title, the names of its candidates, the baseline first, and `forward`: whether
    that pass is measured alone, too. row(table, size, backward) measures; growth(name, rows) gives
    a candidate's exponents.
    """
    made = []
    for name, table in tables.items():
        print(table.title)
        passes = (True, False) if table.forward else (True,)
        rows = [row(table, size, backward) for size in sizes for backward in passes]
        one = {"name": name, "title": table.title, "baseline": table.names[0], "rows": rows}
        if growth is not None:
            one["exponents"] = {candidate: growth(candidate, rows) for candidate in table.names}
            print(one["exponents"])
        made.append(one | {"peers": peers})
    return made


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The power p of the fit values ~ sizes^p."""
    return round(float(np.polyfit(np.log(sizes), np.log(values), 1)[0]), 3)


def memory_exponent(sizes: Sequence[float], peaks: Sequence[float | None]) -> float | None:
    """The same for peaks in MiB; None where one is missing or too small to say anything."""
    known = [peak for peak in peaks if peak and peak > SMALL]
    return exponent(sizes, known) if len(known) == len(peaks) else None


def bench_main(
    stem: str,
    title: str,
    plans: tuple[Any, Any],
    parts: Mapping[str, Callable[[Any, str], list[dict]]],
    tables: Sequence[str],
    argv: Sequence[str] | None = None,
) -> None:
    """Measure the parts that the command line asks for; keep the other tables of this machine.

    plans: full and quick; a part takes (plan, device) and returns tables; `tables` orders them.
    The file that calls this sets OMP_WAIT_POLICY before it imports torch.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing in results/")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all cores")
    given = parser.parse_args(argv)
    device, plan = str(pick_device(given.device)), plans[given.quick]
    torch.set_num_threads(given.threads)
    torch.set_float32_matmul_precision("highest")  # no TF32
    torch.backends.cudnn.allow_tf32 = False
    gc.freeze()  # a collection before each measurement would walk through all of torch, 80 ms
    for part in given.part:  # saved one by one: a killed run loses no finished part
        _save(stem, title, parts[part](plan, device), tables, device, given.quick)


def _save(
    stem: str, title: str, made: list[dict], order: Sequence[str], device: str, quick: bool
) -> None:
    """Put the new tables beside the old ones of the same machine and number of threads."""
    here = environment(device)
    name = "bench" if device == "cpu" else f"bench_{torch.device(device).type}"
    path = results_path(stem, name)
    if quick:
        path = path.parents[2] / ".runs" / stem / f"{name}.json"
    kept = {new["name"]: new | {"environment": here} for new in made}
    for old in json.loads(path.read_text())["tables"] if path.exists() else ():
        if all(old["environment"][key] == here[key] for key in ("device_name", "threads")):
            kept.setdefault(old["name"], old)
    bench = {
        "benchmark": stem,
        "title": title,
        "environment": here,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "not set"),
        "tables": [kept[name] for name in order if name in kept],
    }
    write_json(path, bench) if quick else write_bench(stem, name, bench)
