"""The grades of a folder of notebooks: a report for each student, and one table for the course.

They are kept as they come, so a run that was stopped goes on where it was.
"""

import csv
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

from tools.assignments.grading import grade_all
from tools.assignments.remote import Limits
from tqdm import tqdm

from archbook.files import write_bytes


def report(name: str, result: dict[str, Any], by_hand: dict[str, float]) -> str:
    """What a student reads."""
    earned = sum(part["points"] for part in result["parts"].values())
    possible = sum(part["possible"] for part in result["parts"].values())
    lines = [f"{name}: {earned:g} of {possible:g} points by the tests"]
    for question, part in result["parts"].items():
        lines.append(f"  {question}: {part['points']:g} of {part['possible']:g}")
        if part["message"]:
            lines.append(f"      {part['message']}")
    lines += [f"  {question}: read by hand, {most:g} points" for question, most in by_hand.items()]
    if result["notes"]:
        lines += ["  While the notebook ran:", *(f"      {note}" for note in result["notes"])]
    return "\n".join(lines) + "\n"


def table(results: dict[str, dict[str, Any]], questions: list[str], by_hand: dict) -> str:
    """The CSV; the columns of written answers are empty, for who reads them."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    hands = [f"{question} (by hand, of {most:g})" for question, most in by_hand.items()]
    writer.writerow(["submission", "points", "possible", *questions, *hands, "message"])
    for name, result in sorted(results.items()):
        parts = result["parts"]
        points = [parts.get(question, {"points": 0})["points"] for question in questions]
        said = [f"{key}: {part['message']}" for key, part in parts.items() if part["message"]]
        possible = sum(part["possible"] for part in parts.values())
        row = [
            spreadsheet_safe(name),
            f"{sum(points):g}",
            f"{possible:g}",
            *(f"{point:g}" for point in points),
        ]
        message = " | ".join(said or result["notes"])
        writer.writerow([*row, *("" for _ in hands), spreadsheet_safe(message)])
    return out.getvalue()


def spreadsheet_safe(text: str) -> str:
    """No formula: a message may quote what a student's error said, and a file have any name."""
    text = " ".join(text.split())
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")) else text


def grade_folder(
    folder: Path,
    out: Path,
    archive: Path,
    hidden: list[Path],
    limits: Limits,
    jobs: int,
    by_hand: dict[str, float],
) -> dict[str, dict[str, Any]]:
    """Grades what has no grade yet, and writes a report each and `grades.csv`."""
    found = [
        path for path in sorted(folder.rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts
    ]
    questions = list(read_names(archive))
    results, todo = {}, []
    for path in found:
        name = path.relative_to(folder).with_suffix("").as_posix()
        kept = out / f"{name}.json"
        if kept.exists():
            stored = json.loads(kept.read_text(encoding="utf-8"))
            if stored.pop("of") == fingerprint(path, archive, limits):
                results[name] = stored
                continue
        todo.append(path)
    bar = tqdm(total=len(found), initial=len(results), desc="graded", unit="notebook")
    out.mkdir(parents=True, exist_ok=True)  # else it could not be hidden
    with bar:
        for path, result in grade_all(todo, archive, hidden, limits, jobs):
            name = path.relative_to(folder).with_suffix("").as_posix()
            results[name] = result
            mark = {"of": fingerprint(path, archive, limits)}
            write_bytes(out / f"{name}.txt", report(name, result, by_hand).encode())
            write_bytes(out / f"{name}.json", (json.dumps(mark | result, indent=1) + "\n").encode())
            write_bytes(out / "grades.csv", table(results, questions, by_hand).encode())
            bar.update()
    write_bytes(out / "grades.csv", table(results, questions, by_hand).encode())
    return results


def fingerprint(submission: Path, archive: Path, limits: Limits) -> str:
    digest = hashlib.sha256(repr(limits).encode())
    for path in (archive, submission):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def read_names(archive: Path) -> list[str]:
    """The questions with tests; reads no test."""
    with zipfile.ZipFile(archive) as opened:
        names = [Path(name) for name in opened.namelist() if name.startswith("tests/")]
    return sorted(name.stem for name in names if name.suffix == ".py")
