"""Results files: where they lie, how they are written, what each must hold."""

import json
import math
import os
import re
import statistics
import tempfile
from pathlib import Path
from typing import Any

from archbook.running.environment import repository_root

ENVIRONMENT_KEYS = frozenset(
    ("python", "torch", "numpy", "archbook", "platform", "device", "device_name", "threads")
    + ("git_commit", "command", "date")
)
RUN_KEYS = ("variant", "seed", "config", "metrics", "seconds", "environment")


def results_path(stem: str, name: str) -> Path:
    """Where the results `name` ("psmnist", "psmnist.paper", "bench") of a chapter lie.

    In a checkout that is `results/STEM/NAME.json`; a wheel carries the same folder as
    `archbook/_results`, so that a notebook opened alone can still draw its figures.
    """
    root = repository_root()
    package = Path(__file__).resolve().parents[1]
    return (root / "results" if root else package / "_results") / stem / f"{name}.json"


def read_results(stem: str, name: str) -> dict:
    """The contents of a results file, an experiment's or a benchmark's."""
    path = results_path(stem, name)
    if not path.exists():
        there = sorted(file.stem for file in path.parent.glob("*.json"))
        raise FileNotFoundError(f"wanted results {stem}/{name}, there are {there or 'none yet'}")
    return json.loads(path.read_text(encoding="utf-8"))


def as_json(value: Any, what: str = "value") -> Any:
    """The value as it comes back from a JSON file; refuses NaN, infinities and foreign types."""
    _refuse_unwritable(value, what)
    return json.loads(json.dumps(value, allow_nan=False))


def _refuse_unwritable(value: Any, what: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{what}: wanted text as key, given {key!r}")
            _refuse_unwritable(item, f"{what}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_unwritable(item, f"{what}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{what}: wanted a finite number, given {value}")
    elif not isinstance(value, str | int | float | bool | None):
        wanted = "a number, text, None, a list or a dict"
        raise TypeError(f"{what}: wanted {wanted}, given {type(value).__name__}")


def write_json(path: Path | str, obj: Any) -> None:
    """Write by renaming a finished file into place: a kill leaves the old file or the new one."""
    text = json.dumps(as_json(obj, Path(path).name), indent=1, ensure_ascii=False)
    # A list of numbers takes one line: a curve of a thousand points is one line of a diff. (A
    # line break inside a text is written as backslash n, so nothing in a text can match.)
    text = re.sub(r"\[\n\s+([^\[\]{}\"]+?)\n\s*\]", _on_one_line, text)
    write_bytes(Path(path), f"{text}\n".encode())


def _on_one_line(numbers: re.Match) -> str:
    return f"[{' '.join(numbers[1].split())}]"


def write_bytes(path: Path, content: bytes) -> None:
    """Write-then-rename; the unfinished file lies in the same folder, under a name of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(unfinished).chmod(0o644)  # mkstemp keeps others out; a committed file is for all
        Path(unfinished).replace(path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def summarise(results: dict, variant: str, metric: str) -> tuple[float, float, int]:
    """Mean, sample standard deviation and number of seeds of one metric.

    The deviation of a single seed is NaN: one run says nothing about the spread.
    """
    runs = [run for run in results["runs"] if run["variant"] == variant]
    if not runs:
        known = sorted({run["variant"] for run in results["runs"]})
        raise ValueError(f"wanted one of the variants {known}, given {variant!r}")
    values = [run["metrics"].get(metric) for run in runs]
    if not all(_is_number(value) for value in values):
        known = sorted(key for key, value in runs[0]["metrics"].items() if _is_number(value))
        raise ValueError(f"wanted one of the scalar metrics {known}, given {metric!r}")
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    return statistics.fmean(values), deviation, len(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_results(results: Any, wanted: dict[tuple[str, int], dict] | None = None) -> list[str]:
    """What is missing or malformed in an experiment's results; an empty list when all is there.

    With `wanted`, the configuration of each (variant, seed) as `wanted_cells` tells it from the
    experiment's code, also what the file lacks, has beyond it, or holds of an older setting.
    """
    if not isinstance(results, dict):
        return [f"wanted a dict, given {type(results).__name__}"]
    faults = [f"no {key!r}" for key in ("experiment", "size", "runs") if not results.get(key)]
    cells: dict[tuple[str, int], dict] = {}
    for index, run in enumerate(results.get("runs") or []):
        if missing := [key for key in RUN_KEYS if key not in run]:
            faults.append(f"run {index}: no {missing}")
            continue
        cell = (run["variant"], run["seed"])
        if cell in cells:
            faults.append(f"run {index}: {cell} is there twice")
        cells[cell] = run["config"]
        faults += [f"run {index} {cell}: {fault}" for fault in _faults_of_run(run)]
    if wanted is not None:
        faults += [f"no run of {cell}" for cell in wanted if cell not in cells]
        faults += [f"{cell} is no cell of the experiment" for cell in cells if cell not in wanted]
        faults += [
            f"{cell}: the code's config is now {wanted[cell]}, the file's is {config}"
            for cell, config in cells.items()
            if cell in wanted and wanted[cell] != config
        ]
    return faults


def _faults_of_run(run: dict) -> list[str]:
    faults = check_environment(run["environment"])
    if not isinstance(run["config"], dict) or not run["config"]:
        faults.append("the config is empty")
    if not isinstance(run["metrics"], dict) or not run["metrics"]:
        faults.append("there are no metrics")
    if not _is_number(run["seconds"]) or run["seconds"] <= 0:
        faults.append(f"wanted seconds > 0, given {run['seconds']!r}")
    try:
        as_json(run["metrics"], "metrics")
    except (TypeError, ValueError) as error:
        faults.append(str(error))
    return faults


def check_environment(environment: Any) -> list[str]:
    """What a results file leaves out about its machine."""
    if not isinstance(environment, dict):
        return ["the environment is not a dict"]
    empty = {key for key in ENVIRONMENT_KEYS if environment.get(key) in (None, "")}
    return [f"the environment lacks {sorted(empty)}"] if empty else []
