"""Grades notebooks without containers: grade.py STEM NOTEBOOK-OR-FOLDER.

    python -m tools.assignments.grade lmu anna.ipynb         the report of one
    python -m tools.assignments.grade lmu handed_in/         all of a folder, into grades/lmu/

The archive is otter's, and its tests decide. They run in a process that never runs a line of the
submission: that one runs beside it (`submission.py`) and is asked for values. So a submission can
answer rightly or wrongly, and nothing else it does can bring points. A folder's grades are kept as
they come, so a run that was stopped goes on where it was.
"""

import argparse
import csv
import hashlib
import io
import json
import multiprocessing
import re
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from otter.test_files import ExceptionTestFile
from otter.test_files.abstract_test import TestCaseResult
from tools.assignments.cage import Cage, Starter, best_cage, starter
from tools.assignments.namespaces import SET_DUMPABLE, system
from tools.assignments.wire import Closed, decode, encode, receive
from tqdm import tqdm

from archbook.files import write_bytes

ROOT = Path(__file__).parents[2]
MOST_NOTEBOOK_BYTES = 50 * 2**20
forks = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Limits:
    """What one submission may use."""

    cell: float = 60  # seconds of computing for one cell
    call: float = 20  # seconds of computing for one call of a function by a test
    patience: float = 3  # seconds on the clock for each of those, for who sleeps or starts others
    total: float = 1800  # seconds on the clock for the whole notebook
    memory: float = 2  # GB beyond what torch needs


class Trouble(Exception):
    """What went wrong on the submission's side, in words for the student."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


# ---- what a test gets in place of the student's function ----


class Remote:
    """Stands for an object of the submission: can be called, and asked for attributes."""

    def __init__(self, running: "Running", number: int, name: str):
        self._running, self._number, self._name = running, number, name

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        question = ("call", self._number, arguments, keywords)
        result, *after = self._running.ask(*question, who=f"`{self._name}`")
        put_back((arguments, keywords), tuple(after))
        if result is None:
            raise Trouble(f"`{self._name}` returned None. Is it still to be written?")
        return result

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._running.ask("attribute", self._number, name, who=f"`{self._name}.{name}`")

    def __bool__(self) -> bool:
        raise Trouble(f"`{self._name}` is no value that can be compared")


def put_back(old: Any, new: Any) -> None:
    """A function that changed its input changed a copy; the test shall see it."""
    if isinstance(old, torch.Tensor | np.ndarray):
        held: Any = old.data if isinstance(old, torch.Tensor) else old
        if isinstance(new, type(old)) and old.shape == new.shape and not bool((held == new).all()):
            held[...] = new
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() & new.keys():
            put_back(old[key], new[key])
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple):
        for one, other in zip(old, new, strict=False):
            put_back(one, other)


# ---- a running submission ----


class Running:
    """The submission's process. What kills it costs the question, and it starts again."""

    def __init__(self, starter: Starter, cells: dict[int, str], limits: Limits):
        self.starter, self.cells, self.limits = starter, cells, limits
        self.deadline = self.end = time.monotonic() + limits.total
        self.stopped: dict[int, str] = {}  # cells that are not run again, and why
        self.complaints: dict[int, str] = {}  # cells that raised an error
        self.connection = None
        while self.connection is None:
            self._begin()

    def _begin(self) -> None:
        """Runs every cell; without a connection afterwards if one of them had to be stopped."""
        self.connection = self.starter.start()
        with at_most(300):  # importing torch, on a busy machine
            receive(self.connection)
        for number, source in self.cells.items():
            if number in self.stopped:
                continue
            self._wait_for(self.limits.cell)
            try:
                self.ask("cell", number, source, who=f"Cell {number}")
            except Trouble as trouble:
                kept = self.complaints if self.connection else self.stopped
                kept[number] = str(trouble)
                if not self.connection:
                    return

    def new_question(self) -> None:
        while self.connection is None:
            self._begin()
        self._wait_for(self.limits.call)

    def _wait_for(self, computing: float) -> None:
        self.computing = computing
        self.deadline = min(time.monotonic() + computing * self.limits.patience, self.end)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None
            self.starter.kill()

    def _receive(self, seconds: float) -> Any:
        assert self.connection is not None
        with at_most(seconds):
            text, body = receive(self.connection)
        return decode(text, body, self._found)

    def _found(self, number: int, kind: str) -> Any:
        if kind == "ellipsis":
            raise Trouble("is still `...`")
        return Remote(self, number, self.asked_for.strip("`"))

    def ask(self, question: str, *arguments: Any, who: str) -> Any:
        if self.connection is None:
            raise Trouble(f"{who} was not asked: the notebook had been stopped before.")
        self.asked_for = who
        message = encode((self.computing, question, *arguments), own_number)
        begun = time.monotonic()
        try:
            with at_most(self.deadline - begun):
                self.connection.sendall(message)
            good, *answer = self._receive(self.deadline - time.monotonic())
        except TimeoutError:
            self.close()
            if time.monotonic() >= self.end:
                raise Trouble(f"The whole notebook took over {self.limits.total:g} s.") from None
            waited = f"{time.monotonic() - begun:.0f} s"
            raise Trouble(f"{who} was stopped after {waited}. Does it wait?") from None
        except (Closed, ConnectionError):
            self.close()
            raise Trouble(
                f"{who} ended the whole Python process (os._exit, a crash, or too much memory)."
            ) from None
        except (ValueError, TypeError, KeyError, IndexError, RuntimeError, RecursionError) as error:
            self.close()
            raise Trouble(f"{who} gave something that cannot be read: {error}") from None
        if good:
            return answer[0]
        raise Trouble(f"{who} failed. {answer[1]}")


def own_number(value: Any) -> int:
    if isinstance(value, Remote):
        return value._number
    raise TypeError(f"a test cannot hand over a {type(value).__name__}")


# ---- one submission ----


def code_cells(data: bytes) -> dict[int, str]:
    """The code cells, by their place in the notebook; raises Trouble where it is none."""
    if len(data) > MOST_NOTEBOOK_BYTES:
        raise Trouble(f"The file is larger than {MOST_NOTEBOOK_BYTES // 2**20} MB.")
    try:
        cells = json.loads(data)["cells"]
        found = {}
        for number, cell in enumerate(cells, start=1):
            if cell["cell_type"] == "code":
                source = cell["source"]
                found[number] = source if isinstance(source, str) else "".join(source)
        return found
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Trouble(
            f"The file is not a notebook that can be read ({type(error).__name__}: "
            f"{str(error)[:100]}). Save it again in Jupyter or Colab, and open it once to check."
        ) from None


def read_tests(archive: Path) -> dict[str, ExceptionTestFile]:
    with zipfile.ZipFile(archive) as opened:
        return {
            Path(name).stem: ExceptionTestFile.from_string(opened.read(name).decode(), path=name)
            for name in sorted(opened.namelist())
            if name.startswith("tests/") and name.endswith(".py")
        }


def environment(running: Running, names: set[str]) -> dict[str, Any]:
    """What a test asks for by the names of its arguments."""
    found = {}
    for name in sorted(names):
        there, value = False, None
        try:
            there, value = running.ask("get", name, who=f"`{name}`")
        except Trouble as trouble:
            if str(trouble) == "is still `...`":
                raise Trouble(f"`{name}` is still `...`: nothing was filled in.") from None
            raise
        if not there:
            raise Trouble(missing(running, name))
        found[name] = value
    return found


def missing(running: Running, name: str) -> str:
    defines = re.compile(rf"(^|\n)\s*(def|class)\s+{name}\b|\b{name}\s*[=,]")
    for number, why in {**running.complaints, **running.stopped}.items():
        if defines.search(running.cells[number]):
            return f"`{name}` does not exist. {why}"
    return f"`{name}` does not exist. Was its cell deleted, or the name changed?"


def grade_question(running: Running, test: ExceptionTestFile) -> dict[str, Any]:
    """Runs the test cases up to the first that fails; all or nothing, as the archive says."""
    test.test_case_results = []
    message = ""
    running.new_question()
    try:
        names = {name for case in test.test_cases for name in case.body._get_func_params()}
        given = environment(running, names)
    except Trouble as trouble:
        return {"points": 0, "possible": test.possible, "message": str(trouble)}
    for case in test.test_cases:
        try:
            case.body.call_func(given)
            why = None
        except Trouble as trouble:
            why = str(trouble)
        except Exception as error:
            why = f"{type(error).__name__}: {str(error).strip()[:400]}"
            if case.hidden:
                why = "The visible test passes; one with other inputs does not."
        passed = why is None
        test.test_case_results.append(TestCaseResult(case, why, passed))
        if not passed and not message:
            message = " ".join(filter(None, [why, case.failure_message]))
    return {"points": test.score, "possible": test.possible, "message": message}


def grade_notebook(data: bytes, starter: Starter, archive: Path, limits: Limits) -> dict[str, Any]:
    tests = read_tests(archive)  # only now: a fork made before knows nothing of them
    try:
        running = Running(starter, code_cells(data), limits)
    except Trouble as trouble:
        parts = {
            name: {"points": 0, "possible": test.possible, "message": str(trouble)}
            for name, test in tests.items()
        }
        return {"parts": parts, "notes": [str(trouble)]}
    parts = {name: grade_question(running, test) for name, test in tests.items()}
    running.close()
    notes = [why for _, why in sorted({**running.complaints, **running.stopped}.items())]
    return {"parts": parts, "notes": notes}


# ---- many submissions ----


def work(
    answer: Connection,
    submission: Path,
    archive: Path,
    hidden: list[Path],
    limits: Limits,
    cage: Cage,
) -> None:
    """In a process of its own for each submission."""
    torch.set_num_threads(1)
    data = submission.read_bytes()
    folder = Path(tempfile.mkdtemp(prefix="submission-"))
    begins = starter(cage, folder, hidden, int(limits.memory * 2**30))
    try:
        result = grade_notebook(data, begins, archive, limits)
    finally:
        begins.end()
        shutil.rmtree(folder, ignore_errors=True)
    result["not_cut_off"] = cage.why
    answer.send_bytes(json.dumps(result).encode())


def grade_all(
    submissions: list[Path],
    archive: Path,
    hidden: list[Path],
    limits: Limits,
    jobs: int,
    cage: Cage | None = None,
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each submission with its result, in the order in which they end.

    It is shut in as well as this machine can (`best_cage`), or in the cage that is named. Where
    that hides folders one by one, it sees empty ones in the place of `hidden`.
    """
    cage = cage or best_cage()
    with suppress(OSError, AttributeError):  # Linux: no other process may look into these
        system("prctl", SET_DUMPABLE, 0)
    waiting, running = list(reversed(submissions)), {}
    needed = [Path(sys.prefix), ROOT / "code", Path(tempfile.gettempdir())]
    hidden = [folder.resolve() for folder in hidden]
    hidden = [f for f in hidden if not any(need.resolve().is_relative_to(f) for need in needed)]
    while waiting or running:
        while waiting and len(running) < jobs:
            submission = waiting.pop()
            ours, theirs = forks.Pipe(duplex=False)
            arguments = (theirs, submission, archive, hidden, limits, cage)
            process = forks.Process(target=work, args=arguments)
            process.start()
            theirs.close()
            running[ours] = submission, process
        for ours in cast(list[Connection], wait(list(running))):
            submission, process = running.pop(ours)
            try:
                result = json.loads(ours.recv_bytes())
            except EOFError:
                message = "The grader itself was ended by this notebook. Please grade it by hand."
                result = {"parts": {}, "notes": [message]}
            ours.close()
            process.join()
            yield submission, result


# ---- the command ----


def fingerprint(submission: Path, archive: Path, limits: Limits) -> str:
    digest = hashlib.sha256(repr(limits).encode())
    for path in (archive, submission):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


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
        row = [name, f"{sum(points):g}", f"{possible:g}", *(f"{point:g}" for point in points)]
        message = " | ".join(said or result["notes"])
        writer.writerow([*row, *("" for _ in hands), spreadsheet_safe(message)])
    return out.getvalue()


def spreadsheet_safe(text: str) -> str:
    """No formula: a message may quote what a student's error said."""
    text = " ".join(text.split())
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


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


def read_names(archive: Path) -> list[str]:
    """The questions with tests; reads no test."""
    with zipfile.ZipFile(archive) as opened:
        names = [Path(name) for name in opened.namelist() if name.startswith("tests/")]
    return sorted(name.stem for name in names if name.suffix == ".py")


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
