"""Grades what must earn all points, none, and all but some: check.py [STEM ...].

The solution, the blank student version, and every planted mistake of `mistakes.toml`, each under
three seeds. A mistake must lose the points of the questions that it names and no others.
"""

import argparse
import json
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.assignments.build import ASSIGNMENTS, PUBLIC_SEED, build, stems
from tools.assignments.grade import Limits, grade_all

SEEDS = (PUBLIC_SEED, "autumn", "spring")
FEWEST_MISTAKES = 8
# A check says nothing about speed: it waits as long as a busy machine needs.
LIMITS = Limits(cell=60, call=20, patience=30, total=3600)


@dataclass(frozen=True)
class Wanted:
    """A notebook, and the questions of which it must lose the points."""

    name: str
    notebook: dict[str, Any]
    breaks: set[str]


def cells_with(notebook: dict[str, Any], text: str) -> list[dict[str, Any]]:
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [cell for cell in code if text in "".join(cell["source"])]


def changed(notebook: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """The notebook with one piece of code replaced."""
    notebook = json.loads(json.dumps(notebook))
    old, new = old.strip("\n"), new.strip("\n")
    cells = cells_with(notebook, old)
    if len(cells) != 1 or "".join(cells[0]["source"]).count(old) != 1:
        raise ValueError(f"wanted once in the solution, found in {len(cells)} cells:\n{old}")
    cells[0]["source"] = "".join(cells[0]["source"]).replace(old, new)
    return notebook


def planted(stem: str, built: Path) -> list[Wanted]:
    """The notebooks to grade, for one seed."""
    solution = json.loads((built / "solution" / f"{stem}.ipynb").read_text(encoding="utf-8"))
    blank = json.loads((built / "student" / f"{stem}.ipynb").read_text(encoding="utf-8"))
    listed = tomllib.loads((ASSIGNMENTS / stem / "mistakes.toml").read_text(encoding="utf-8"))
    mistakes = listed["mistake"]
    if len(mistakes) < FEWEST_MISTAKES:
        raise ValueError(f"{stem}: wanted {FEWEST_MISTAKES} mistakes, given {len(mistakes)}")
    return [
        Wanted("solution", solution, set()),
        Wanted("blank", blank, {"all"}),
        *(
            Wanted(one["name"], changed(solution, one["old"], one["new"]), set(one["breaks"]))
            for one in mistakes
        ),
    ]


def faults(wanted: Wanted, result: dict[str, Any]) -> list[str]:
    """What is not as it must be."""
    parts = result["parts"]
    lost = {name for name, part in parts.items() if part["points"] == 0}
    partly = {name for name, part in parts.items() if 0 < part["points"] < part["possible"]}
    expected = set(parts) if wanted.breaks == {"all"} else wanted.breaks
    found = []
    if not parts or lost != expected or partly:
        found.append(f"lost {sorted(lost)}, partly {sorted(partly)}, wanted {sorted(expected)}")
        found += [f"{name}: {part['message']}" for name, part in parts.items() if part["message"]]
    if wanted.name == "solution" and result["notes"]:
        found += result["notes"]
    return found


def check(stem: str, seed: str, folder: Path, jobs: int) -> int:
    """How many notebooks of one version were graded wrongly; says which."""
    built = folder / stem / seed / "dist"
    build(ASSIGNMENTS / stem / f"{stem}.ipynb", seed, built)
    wanted = {}
    for number, one in enumerate(planted(stem, built)):
        path = built.parent / "handed_in" / f"{number:02}.ipynb"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(one.notebook), encoding="utf-8")
        wanted[path] = one
    archive = built / "autograder" / f"{stem}.zip"
    wrong = 0
    for path, result in grade_all(list(wanted), archive, [ASSIGNMENTS, built], LIMITS, jobs):
        if found := faults(wanted[path], result):
            wrong += 1
            print(f"{stem}, seed {seed}: {wanted[path].name}", *found, sep="\n    ", flush=True)
    print(f"{stem}, seed {seed}: {len(wanted)} notebooks graded, {wrong} wrongly", flush=True)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stems", nargs="*", help="such as lmu; without one, all")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for stem in given.stems or stems():
            begun = time.monotonic()
            for seed in SEEDS:
                wrong += check(stem, seed, Path(folder), given.jobs)
            print(f"{stem}: {time.monotonic() - begun:.0f} s", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
