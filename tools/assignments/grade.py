"""Grades notebooks without containers: grade.py STEM NOTEBOOK-OR-FOLDER.

    python -m tools.assignments.grade lmu anna.ipynb         the report of one
    python -m tools.assignments.grade lmu handed_in/         all of a folder, into grades/lmu/

`remote.py` asks the submission, `grading.py` runs the tests, `gradebook.py` keeps what they found.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tools.assignments.cage import best_cage
from tools.assignments.gradebook import grade_folder, report
from tools.assignments.grading import ROOT, grade_all
from tools.assignments.remote import Limits


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("stem", help="the assignment, such as lmu; built by `make assignments`")
    parser.add_argument("submissions", type=Path, help="one notebook, or a folder of them")
    parser.add_argument("--out", type=Path, help="for a folder: where its grades go (grades/STEM)")
    parser.add_argument("--built", type=Path, help="where it was built (assignments/STEM/dist)")
    parser.add_argument("--jobs", type=int, default=2, help="submissions at a time")
    for name, value in asdict(Limits()).items():
        unit = "GB" if name == "memory" else "seconds"
        parser.add_argument(f"--{name}", type=float, default=value, help=f"{unit} ({value:g})")
    parser.add_argument(
        "--trust-them",
        action="store_true",
        help="grade even where this system cannot shut a submission in",
    )
    given = parser.parse_args()
    if (cage := best_cage()).kind == "open" and not given.trust_them:
        sys.exit(
            f"This system cannot shut a submission in ({cage.why}): it could read and change your "
            "files and use your network. Install bubblewrap, or grade in a virtual machine, or "
            "say --trust-them if you know who wrote every notebook."
        )
    limits = Limits(**{name: getattr(given, name) for name in asdict(Limits())})
    built = given.built or ROOT / "assignments" / given.stem / "dist"
    archive = built / "autograder" / f"{given.stem}.zip"
    if not archive.exists():
        sys.exit(f"{given.stem} is not built: make assignments CHAPTER={given.stem} SEED=...")
    by_hand = json.loads(archive.with_name("by_hand.json").read_text(encoding="utf-8"))
    if not given.submissions.exists():
        sys.exit(f"there is no {given.submissions}")
    hidden = [built, ROOT / "assignments"]  # looks empty to a submission
    if given.submissions.is_file():
        ((path, result),) = grade_all(
            [given.submissions], archive, [*hidden, given.submissions.parent], limits, 1
        )
        print(report(path.stem, result, by_hand), end="")
        warn([result])
        return 0
    out = given.out or ROOT / "grades" / given.stem
    hidden += [given.submissions, out]
    results = grade_folder(given.submissions, out, archive, hidden, limits, given.jobs, by_hand)
    warn(list(results.values()))
    print(f"{len(results)} submissions: {out / 'grades.csv'}, and beside it a report for each")
    return 0


def warn(results: list[dict[str, Any]]) -> None:
    """Says loudly where this system does not shut a submission in."""
    reasons = {result["not_cut_off"] for result in results if result.get("not_cut_off")}
    for reason in sorted(reasons):
        print(
            f"WARNING: submissions ran with your network and could read your files ({reason}). "
            "You said --trust-them.",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(main())
