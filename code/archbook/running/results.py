"""Results files: where they lie, what each must hold, what they say in the mean."""

import json
import math
import statistics
from pathlib import Path
from typing import Any

from archbook.running.environment import repository_root
from archbook.running.schema import check


def results_path(stem: str, name: str) -> Path:
    """Where the results `name` ("psmnist", "psmnist.paper", "bench") of a chapter lie.

    In a checkout that is `results/STEM/NAME.json`; a wheel carries the same folder as
    `archbook/_results`, so that a notebook opened alone can still draw its figures.
    """
    root = repository_root()
    package = Path(__file__).resolve().parents[1]
    return (root / "results" if root else package / "_results") / stem / f"{name}.json"


def read_results(stem: str, name: str) -> dict:
    """The contents of a results file, an experiment's or a benchmark's.

    >>> found = read_results("lmu", "psmnist")
    >>> sorted({run["variant"] for run in found["runs"]})[:3]
    ['half_window', 'lmu', 'lmu2019']
    """
    path = results_path(stem, name)
    if not path.exists():
        there = sorted(file.stem for file in path.parent.glob("*.json"))
        raise FileNotFoundError(f"wanted results {stem}/{name}, there are {there or 'none yet'}")
    return json.loads(path.read_text(encoding="utf-8"))


def by_seed(results: dict, variant: str, metric: str) -> dict[int, Any]:
    """One metric of each run of a variant.

    >>> runs = [{"variant": "lmu", "seed": seed, "metrics": {"loss": seed / 4}} for seed in (0, 1)]
    >>> by_seed({"runs": runs}, "lmu", "loss")
    {0: 0.0, 1: 0.25}
    """
    runs = [run for run in results["runs"] if run["variant"] == variant]
    if not runs:
        known = sorted({run["variant"] for run in results["runs"]})
        raise ValueError(f"wanted one of the variants {known}, given {variant!r}")
    if not all(metric in run["metrics"] for run in runs):
        raise _no_such_metric(runs[0], metric)
    return {run["seed"]: run["metrics"][metric] for run in runs}


def summarise(results: dict, variant: str, metric: str) -> tuple[float, float, int]:
    """Mean, sample standard deviation and number of seeds of one metric.

    The deviation of a single seed is NaN: one run says nothing about the spread.

    >>> runs = [{"variant": "ours", "seed": k, "metrics": {"loss": k + 1.0}} for k in range(3)]
    >>> summarise({"runs": runs}, "ours", "loss")
    (2.0, 1.0, 3)
    """
    values = list(by_seed(results, variant, metric).values())
    if not all(_is_number(value) for value in values):
        run = next(run for run in results["runs"] if run["variant"] == variant)
        raise _no_such_metric(run, metric)
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    return statistics.fmean(values), deviation, len(values)


def _no_such_metric(run: dict, metric: str) -> ValueError:
    known = sorted(key for key, value in run["metrics"].items() if _is_number(value))
    return ValueError(f"wanted one of the scalar metrics {known}, given {metric!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_results(
    results: Any, wanted: dict[tuple[str, int], dict] | None = None, where: str = "results"
) -> list[str]:
    """What is missing or malformed in an experiment's results; an empty list when all is there.

    What a file must hold says `schemas/results.schema.json`; each fault names `where` and the
    place inside. With `wanted`, the configuration of each (variant, seed) as `wanted_cells` tells
    it from the experiment's code, also what the file lacks, has beyond it, or holds of an older
    setting.

    >>> check_results(read_results("lmu", "psmnist"))
    []
    >>> check_results({})[:1]
    ["results: 'experiment' is a required property"]
    """
    if faults := check(results, "results", where):
        return faults
    cells: dict[tuple[str, int], dict] = {}
    for index, run in enumerate(results["runs"]):
        cell = (run["variant"], run["seed"])
        if cell in cells:
            faults.append(f"{where}.runs[{index}]: {cell} is there twice")
        cells[cell] = run["config"]
    if wanted is not None:
        faults += [f"{where}: no run of {cell}" for cell in wanted if cell not in cells]
        faults += [
            f"{where}: {cell} is no cell of the experiment" for cell in cells if cell not in wanted
        ]
        faults += [
            f"{where}: {cell}: the code's config is now {wanted[cell]}, the file's is {config}"
            for cell, config in cells.items()
            if cell in wanted and wanted[cell] != config
        ]
    return faults
