"""The results of a benchmark: tables of candidates, each measured against a baseline."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from archbook.files import write_json
from archbook.running.environment import environment, repository_root
from archbook.running.results import results_path
from archbook.running.schema import check


def measured_code(stem: str, root: Path | None = None) -> str:
    """A digest of what a chapter's tables were measured on: its package and its benchmark."""
    root = root or repository_root() or Path()
    files = [*sorted((root / "code" / "archbook" / stem).rglob("*.py"))]
    digest = hashlib.sha256()
    for path in [*files, root / "benchmarks" / f"bench_{stem}.py"]:
        if path.exists():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def save_tables(
    stem: str,
    title: str,
    made: Sequence[dict],
    *,
    part: str,
    order: Sequence[str],
    device: str,
    quick: bool,
) -> None:
    """Put the new tables beside the old ones of the same machine and number of threads.

    In results/STEM/bench.json, or bench_cuda.json; quick ones in .runs/STEM/.
    """
    here = environment(device)
    name = "bench" if device == "cpu" else f"bench_{torch.device(device).type}"
    path = results_path(stem, name)
    if quick:
        path = path.parents[2] / ".runs" / stem / f"{name}.json"
    told = {"environment": here, "part": part, "code": measured_code(stem)}
    kept = {new["name"]: new | told for new in made}
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


def write_bench(stem: str, name: str, obj: dict) -> Path:
    """Write `results/STEM/NAME.json` in the checkout, after a check that nothing is missing."""
    if name != "bench" and not name.startswith("bench_"):
        raise ValueError(f"wanted the name bench or bench_*, given {name!r}")
    if faults := check_bench(obj):
        raise ValueError(f"wanted a complete benchmark, given one with faults: {faults}")
    if repository_root() is None:
        raise FileNotFoundError("wanted a checkout of the repository, given an installed wheel")
    path = results_path(stem, name)
    write_json(path, obj)
    return path


def check_bench(bench: Any, where: str = "bench") -> list[str]:
    """What is missing or malformed in a benchmark's results; an empty list when all is there.

    What a file must hold says `bench.schema.json`, but for what a schema cannot: that a table's
    baseline is among its candidates, and that quartiles are in order. Each fault names `where` and
    the place inside.

    >>> from archbook.running import read_results
    >>> check_bench(read_results("lmu", "bench"))
    []
    """
    if faults := check(bench, "bench", where):
        return faults
    for number, table in enumerate(bench["tables"]):
        for index, row in enumerate(table["rows"]):
            place, found = f"{where}.tables[{number}].rows[{index}]", row["candidates"]
            if (baseline := table["baseline"]) not in found:
                faults.append(f"{place}: the baseline {baseline!r} is not among {list(found)}")
            for name, ratio in ((name, one["ratio"]) for name, one in found.items()):
                if not ratio["q1"] <= ratio["median"] <= ratio["q3"]:
                    wanted = f"wanted q1 <= median <= q3, given {ratio}"
                    faults.append(f"{place}.candidates.{name}.ratio: {wanted}")
    return faults
