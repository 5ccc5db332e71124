"""One notebook graded by the tests of otter's archive, and many of them, each in its own process.

The tests are otter's and decide alone; what they ask of the submission goes through `remote.py`.
"""

import json
import multiprocessing
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

import torch
from otter.test_files import ExceptionTestFile
from otter.test_files.abstract_test import TestCaseResult
from tools.assignments.cage import Cage, Starter, best_cage, starter
from tools.assignments.namespaces import SET_DUMPABLE, system
from tools.assignments.remote import Limits, Running, Trouble

ROOT = Path(__file__).parents[2]
MOST_NOTEBOOK_BYTES = 50 * 2**20
forks = multiprocessing.get_context("fork")


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
