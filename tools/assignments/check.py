"""Grades what must earn all points, none, and all but some: check.py [STEM ...].

The solution, the blank student version, and every planted mistake of `mistakes.toml`, under the
public seed, or under as many of SEEDS as `--seeds` says. A mistake must lose the points of the
questions that it names and no others. Where it has a `hostile.toml`, its submissions too, between
others that are graded as if nothing had been.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.assignments.build import ASSIGNMENTS, PUBLIC_SEED, build, stems
from tools.assignments.cage import Cage, best_cage
from tools.assignments.grading import grade_all
from tools.assignments.remote import Limits
from tools.planting import entries, replaced_once

SEEDS = (PUBLIC_SEED, "autumn", "spring")  # `make test` takes the first, the nightly job all
FEWEST_MISTAKES = 8
# A check says nothing about speed: it waits as long as a busy machine needs.
LIMITS = Limits(cell=60, call=20, patience=30, total=3600)
# Planted mistakes are our own and mean no harm: forks of one process that has imported torch, which
# takes longer than most of them. Hostile submissions are shut in as a student's are.
OURS = Cage("open", "planted mistakes are ours")
HOSTILE_LIMITS = Limits(cell=3, call=2, patience=30, total=3600)


@dataclass(frozen=True)
class Wanted:
    """A notebook, and the questions of which it must lose the points."""

    name: str
    notebook: str
    breaks: set[str]
    says: str = ""  # what the message of a lost question must hold
    # Means something only where the system shuts processes in; "bubblewrap": only in that cage.
    needs_isolation: bool | str = False


def changed(notebook: str, entry: dict[str, Any], place: Path) -> str:
    """The notebook with one piece of code replaced, as mistakes.toml and hostile.toml say it."""
    if "file" in entry:
        return entry["file"]
    whole = "cell" in entry
    new = entry["new"].replace("PLACE", str(place))
    opened = json.loads(notebook)
    cells = [cell for cell in opened["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    which, source = replaced_once(sources, entry["cell" if whole else "old"], new)
    cells[which]["source"] = new.strip("\n") if whole else source
    return json.dumps(opened)


def wanted_of(listed: list[dict[str, Any]], solution: str, place: Path) -> list[Wanted]:
    return [
        Wanted(
            one["name"],
            changed(solution, one, place),
            set(one["breaks"]),
            one.get("says", ""),
            one.get("needs_isolation", False),
        )
        for one in listed
    ]


def planted(stem: str, built: Path) -> list[Wanted]:
    """The notebooks to grade, for one seed."""
    solution = (built / "solution" / f"{stem}.ipynb").read_text(encoding="utf-8")
    blank = (built / "student" / f"{stem}.ipynb").read_text(encoding="utf-8")
    mistakes = wanted_of(entries(ASSIGNMENTS / stem / "mistakes.toml"), solution, built)
    if len(mistakes) < FEWEST_MISTAKES:
        raise ValueError(f"{stem}: wanted {FEWEST_MISTAKES} mistakes, given {len(mistakes)}")
    return [Wanted("solution", solution, set()), Wanted("blank", blank, {"all"}), *mistakes]


def hostile(stem: str, built: Path) -> list[Wanted]:
    """The hostile ones, with the solution before and after them."""
    solution = (built / "solution" / f"{stem}.ipynb").read_text(encoding="utf-8")
    untouched = Wanted("solution", solution, set())
    listed = wanted_of(entries(ASSIGNMENTS / stem / "hostile.toml"), solution, built.parent)
    return [untouched, *listed, untouched]


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
    for name in expected & set(parts):
        message = parts[name]["message"]
        if not re.search(wanted.says, message):
            found.append(f"{name} says {message!r}, wanted {wanted.says!r}")
    if wanted.name == "solution" and result["notes"]:
        found += result["notes"]
    return found


def strong_enough(cage: Cage, wanted: Wanted) -> bool:
    """Whether this cage promises to hold what the notebook tries."""
    if wanted.needs_isolation == "bubblewrap":
        return cage.kind == "bubblewrap"
    return not wanted.needs_isolation or cage.kind != "open"


def check(
    stem: str,
    kind: str,
    listed: list[Wanted],
    built: Path,
    limits: Limits,
    *,
    jobs: int,
    cage: Cage,
) -> int:
    """How many of the notebooks were graded wrongly; says which."""
    wanted = {}
    for number, one in enumerate(listed):
        path = built.parent / kind / f"{number:02}.ipynb"
        path.parent.mkdir(exist_ok=True)
        path.write_text(one.notebook, encoding="utf-8")
        wanted[path] = one
    archive = built / "autograder" / f"{stem}.zip"
    hidden = [ASSIGNMENTS, built.parent]
    wrong, passed_over = 0, 0
    for path, result in grade_all(list(wanted), archive, hidden, limits, jobs, cage):
        if not strong_enough(cage, wanted[path]):
            passed_over += 1
            continue
        if found := faults(wanted[path], result):
            wrong += 1
            print(f"{stem}, {kind}: {wanted[path].name}", *found, sep="\n    ", flush=True)
    print(f"{stem}, {kind}: {len(wanted)} notebooks graded, {wrong} wrongly", flush=True)
    if passed_over:
        missing = cage.why or "bubblewrap is not installed"
        print(f"{stem}, {kind}: {passed_over} attacks not judged, since {missing}", flush=True)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("stems", nargs="*", help="such as lmu; without one, all")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", choices=["mistakes", "hostile"], help="half of it")
    of_all = range(1, len(SEEDS) + 1)
    parser.add_argument("--seeds", type=int, choices=of_all, default=1, help="how many of SEEDS")
    given = parser.parse_args()
    wrong = 0
    os.environ["ARCHBOOK_CANARY"] = "canary"  # a secret, which no submission may see
    with tempfile.TemporaryDirectory() as folder:
        for stem in given.stems or stems():
            begun = time.monotonic()
            for seed in SEEDS[: given.seeds]:
                attacked = seed == PUBLIC_SEED and (ASSIGNMENTS / stem / "hostile.toml").exists()
                if given.only == "hostile" and not attacked:
                    continue
                built = Path(folder) / stem / seed / "dist"
                build(ASSIGNMENTS / stem / f"{stem}.ipynb", seed, built)
                if given.only != "hostile":
                    kind = f"seed {seed}"
                    listed = planted(stem, built)
                    wrong += check(stem, kind, listed, built, LIMITS, jobs=given.jobs, cage=OURS)
                if given.only != "mistakes" and attacked:
                    listed = hostile(stem, built)
                    wrong += check(
                        stem,
                        "hostile",
                        listed,
                        built,
                        HOSTILE_LIMITS,
                        jobs=given.jobs,
                        cage=best_cage(),
                    )
            print(f"{stem}: {time.monotonic() - begun:.0f} s", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
