"""The results of a benchmark: tables of candidates, each measured against a baseline."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from archbook.files import as_json, write_json
from archbook.running.environment import environment, repository_root
from archbook.running.results import results_path
from archbook.running.schema import check

PASSES = ("forward", "forward+backward")


def save_tables(
    stem: str,
    title: str,
    made: Sequence[dict],
    *,
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


def check_bench(obj: Any) -> list[str]:
    """What is missing or malformed in a benchmark's results; an empty list when all is there."""
    if not isinstance(obj, dict):
        return [f"wanted a dict, given {type(obj).__name__}"]
    wanted = ("benchmark", "title", "environment", "tables")
    faults = [f"no {key!r}" for key in wanted if not obj.get(key)]
    if "environment" in obj:
        faults += check(obj["environment"], "environment", "environment")
    for table in obj.get("tables") or []:
        faults += _faults_of_table(table)
    try:
        as_json(obj, "benchmark")
    except (TypeError, ValueError) as error:
        faults.append(str(error))
    return faults


def _faults_of_table(table: dict) -> list[str]:
    keys = ("name", "title", "baseline", "rows")
    if missing := [key for key in keys if not table.get(key)]:
        return [f"table {table.get('name')}: no {missing}"]
    faults = []
    for index, row in enumerate(table["rows"]):
        where = f"table {table['name']}, row {index}"
        faults += [f"{where}: {fault}" for fault in _faults_of_row(row, table["baseline"])]
    return faults


def _faults_of_row(row: dict, baseline: str) -> list[str]:
    if missing := [key for key in ("size", "pass", "candidates") if not row.get(key)]:
        return [f"no {missing}"]
    faults = []
    if row["pass"] not in PASSES:
        faults.append(f"wanted a pass out of {PASSES}, given {row['pass']!r}")
    if bad := [key for key, value in row["size"].items() if not _positive(value)]:
        faults.append(f"wanted sizes as numbers > 0, not so {bad}")
    if baseline not in row["candidates"]:
        faults.append(f"the baseline {baseline!r} is not among {list(row['candidates'])}")
    for name, measured in row["candidates"].items():
        faults += [f"{name}: {fault}" for fault in _faults_of_candidate(measured)]
    return faults


def _faults_of_candidate(measured: dict) -> list[str]:
    faults = []
    if not _positive(measured.get("ms")):
        faults.append(f"wanted ms > 0, given {measured.get('ms')!r}")
    ratio = measured.get("ratio") or {}
    quartiles: list[Any] = [ratio.get(key) for key in ("q1", "median", "q3")]
    if not all(map(_positive, quartiles)) or quartiles != sorted(quartiles):
        faults.append(f"wanted ratio with q1 <= median <= q3, all > 0, given {ratio}")
    peak = measured.get("peak_mib", "missing")
    if peak is not None and not (_number(peak) and peak >= 0):
        faults.append(f"wanted peak_mib as a number >= 0 or null, given {peak!r}")
    return faults


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _positive(value: Any) -> bool:
    return _number(value) and value > 0
