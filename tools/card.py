"""A short loan of a GPU, spent in order of value: `make card MINUTES=12`.

First the tests that need a card, then every page from top to bottom, then the parts of the
chapters' GPU tables that are missing or of older code, then what the experiments declare as size
card. Everything is said beforehand, with the seconds that it should take, and kept as soon as it
is there: the same command goes on where the last one ended. What does not fit is left for the next
time. `--plan` says it and runs nothing; `--rehearse` runs all of it at tiny size on the CPU.

Where a variable OUT names a folder, what was measured is packed there after each part: card.tar.gz.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from tools.chapters import chapters

from archbook.files import write_json
from archbook.timing.results import measured_code

ROOT = Path(__file__).parents[1]
CELL = 90  # seconds that a cell of size card may take
# What a part takes at most on an H200, until a run has told: tests, a page, a part of a table.
GUESS = {"tests": 150, "page": 90, "table": 90, "cell": CELL}


@dataclass(frozen=True)
class Part:
    """One command of the plan; `there` says whether its result is already kept."""

    kind: str  # tests, page, table or cell
    name: str
    command: tuple[str, ...]
    there: Callable[[], bool] = lambda: False

    @property
    def key(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Ledger:
    """What ran, and for how long: beside the unfinished runs, ignored by git."""

    path: Path

    def seconds(self, part: Part) -> float:
        return self._read().get(part.key, {}).get("seconds", GUESS[part.kind])

    def passed(self, part: Part, code: str) -> bool:
        """Whether a check, which leaves no result, has passed on this code."""
        return self._read().get(part.key, {}).get("passed") == code

    def note(self, part: Part, seconds: float, passed: str | None) -> None:
        noted = self._read() | {part.key: {"seconds": round(seconds, 1), "passed": passed}}
        write_json(self.path, noted)

    def _read(self) -> dict:
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}


def plan(root: Path, stems: tuple[str, ...], *, rehearse: bool) -> list[Part]:
    """Every part in order of value; of the tables the missing ones before those of older code."""
    python = sys.executable
    cpu = ("--device", "cpu", *(("--quick",) if rehearse else ()))
    card = cpu if rehearse else ("--device", "cuda")
    tests = tuple(f"tests/test_{stem}_portability.py" for stem in stems) if rehearse else ("tests",)
    parts = [Part("tests", "gpu", (python, "-m", "pytest", "-q", "-m", "gpu", *tests))]
    execute = "from nbclient.cli import main; main()"
    parts += [Part("page", stem, (python, "-c", execute, f"book/{stem}.ipynb")) for stem in stems]
    tables = [
        (age, Part("table", f"{stem} {name}", (python, file, "--part", name, *card), there))
        for stem in stems
        for file, name, age, there in _tables(root, stem, rehearse=rehearse)
    ]
    parts += [part for _, part in sorted(tables, key=lambda pair: pair[0])]  # stable
    return parts + [part for stem in stems for part in _cells(root, stem, rehearse=rehearse)]


def _tables(
    root: Path, stem: str, *, rehearse: bool
) -> Iterator[tuple[str, str, int, Callable[[], bool]]]:
    """(file, part, age, whether it is there) of each part of a benchmark; age 0 is missing."""
    file = f"benchmarks/bench_{stem}.py"
    parts = _load(root / file).PARTS

    def of_code(part: str) -> str | None:
        """The code that its tables were measured on; "" where no table says; None for no table."""
        results = root / "results" / stem / "bench_cuda.json"
        if rehearse or not results.exists():
            return None
        tables = json.loads(results.read_text(encoding="utf-8"))["tables"]
        names = {part, *(parts.get(part) if isinstance(parts.get(part), dict) else ())}
        found = [t for t in tables if t.get("part") == part or t["name"] in names]
        return found[0].get("code", "") if found else None

    for part in dict.fromkeys([*parts, "precision"]):
        missing = of_code(part) is None
        there = partial(lambda part: of_code(part) == measured_code(stem, root), part)
        yield file, part, int(not missing), there


def _cells(root: Path, stem: str, *, rehearse: bool) -> Iterator[Part]:
    """The cells of size card in the order of their declaration, the most valuable first."""
    for path in sorted((root / "experiments" / stem).glob("*.py")):
        file = path.relative_to(root).as_posix()
        sizes = _load(path).SIZES
        size = "tiny" if rehearse and "card" in sizes else "card"
        for variant in sizes.get(size, ()):
            kept = root / ".runs" / stem / f"{path.stem}.{size}" / f"{variant}-0.json"
            device = "cpu" if rehearse else "cuda"
            options = ("--size", size, "--variants", variant, "--device", device)
            yield Part(
                "cell",
                f"{stem}/{path.stem} {variant}",
                (sys.executable, file, *options),
                kept.exists,
            )


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"card_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=12, help="of the loan [12]")
    parser.add_argument("--chapter", nargs="+", choices=chapters(root), help="only these")
    parser.add_argument("--plan", action="store_true", help="say what would run, and end")
    parser.add_argument("--rehearse", action="store_true", help="tiny, on the CPU")
    given = parser.parse_args(argv)
    if given.minutes <= 0:
        parser.error(f"wanted more than 0 minutes, given {given.minutes}")
    if not (given.plan or given.rehearse or torch.cuda.is_available()):
        parser.error("wanted a CUDA device, there is none; --plan and --rehearse need none")
    stems = tuple(stem for stem in chapters(root) if stem in (given.chapter or chapters(root)))
    ledger = Ledger(root / ".runs" / ("card.rehearsal.json" if given.rehearse else "card.json"))
    todo = _announced(plan(root, stems, rehearse=given.rehearse), ledger, root, given.minutes)
    return 0 if given.plan else _run(todo, ledger, root, given.minutes)


def _announced(parts: list[Part], ledger: Ledger, root: Path, minutes: float) -> list[Part]:
    code, total, todo = _code(root), 0.0, []
    for part in parts:
        if part.there() or ledger.passed(part, code):
            print(f"    there       {part.key}")
            continue
        total += ledger.seconds(part)
        fits = "" if total <= 60 * minutes else "  (if time is left)"
        print(f"{ledger.seconds(part):6.0f} s until {total / 60:5.1f} min  {part.key}{fits}")
        todo.append(part)
    print(f"{len(todo)} parts, {total / 60:.1f} minutes; {minutes:g} are there", flush=True)
    return todo


def _run(todo: list[Part], ledger: Ledger, root: Path, minutes: float) -> int:
    end, failed, left = time.monotonic() + 60 * minutes, [], []
    for part in todo:
        rest = end - time.monotonic()
        if ledger.seconds(part) > rest:
            left.append(part)  # a shorter one may still fit
            continue
        print(f"== {part.key}", flush=True)
        limit = min(rest, 1.5 * CELL) if part.kind == "cell" else rest
        start = time.monotonic()
        try:
            code = subprocess.run(part.command, cwd=root, check=False, timeout=limit).returncode
        except subprocess.TimeoutExpired:
            code = 124
        seconds = time.monotonic() - start
        if code:
            failed.append(part)
            print(f"== {part.key}: FAILED (exit status {code}) after {seconds:.0f} s", flush=True)
        check = part.kind in ("tests", "page")
        ledger.note(part, seconds, _code(root) if check and not code else None)
        _pack(root)
    for part in left:
        print(f"left for the next time: {part.key}")
    return 1 if failed else 0


def _code(root: Path) -> str:
    """A digest of all that a check runs."""
    return "".join(measured_code(stem, root) for stem in chapters(root))


def _pack(root: Path) -> None:
    """All results into one file, where the loan says that files come back."""
    if out := os.environ.get("OUT"):
        place = Path(out) / "card.tar.gz"
        with tarfile.open(unfinished := place.with_suffix(".part"), "w:gz") as file:
            for path in [*root.glob("results/*/*.json"), *root.glob(".runs/card*.json")]:
                file.add(path, path.relative_to(root))
        unfinished.replace(place)


if __name__ == "__main__":
    sys.exit(main())
