"""Breaks the code on purpose, one fault at a time, and wants the tests to see each: mutants.py.

Every entry of `tests/mistakes/STEM.toml` is a fault: in `file`, where it stands once, `old` becomes
`new`, and of each node id in `red` a test must fail. Exit code 1 where a fault survives or an entry
no longer fits. All of it happens on copies; `make mutants CHAPTER=lmu` replays one chapter.
"""

import argparse
import ast
import contextlib
import functools
import multiprocessing
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ruff import find_ruff_bin
from tools.planting import entries, replaced_once

ROOT = Path(__file__).parents[1]
LIMIT = 600.0  # seconds; a busy machine needs many times what a quiet one needs
# What most tests import, which takes longer than most of them.
PRELOADED = ["pytest", "torch", "einops", "jaxtyping", "hypothesis.strategies", "scipy.signal"]
PASSED, FAILED = int(pytest.ExitCode.OK), int(pytest.ExitCode.TESTS_FAILED)

Entry = dict[str, Any]


def stems(root: Path = ROOT) -> list[str]:
    return sorted(path.stem for path in (root / "tests" / "mistakes").glob("*.toml"))


def mistakes(root: Path, stem: str) -> list[Entry]:
    return entries(root / "tests" / "mistakes" / f"{stem}.toml")


def mutant(root: Path, entry: Entry) -> str:
    """The text of the entry's file with the fault in it."""
    text = (root / entry["file"]).read_text(encoding="utf-8")
    _, changed = replaced_once([text], entry["old"], entry["new"])
    if changed == text:
        raise ValueError("wanted a change, given the same text as old and new")
    return changed


@functools.cache
def defined(file: Path) -> set[str]:
    """The names of a file's functions and classes, and those that are assigned."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    assigned = {node.id for node in nodes if isinstance(node, ast.Name)}
    return assigned | {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}


def unrunnable(root: Path, file: str, text: str) -> str:
    """Syntax errors and names that nothing defines, or ''; each would turn every test red."""
    command = [find_ruff_bin(), "check", "-q", "--select", "F821", "--output-format", "concise"]
    done = subprocess.run(
        [*command, "--stdin-filename", file, "-"],
        cwd=root,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def unfit(root: Path, entry: Entry) -> str:
    """Why the entry cannot be replayed, as far as it shows without running anything, or ''."""
    if entry.keys() != {"name", "file", "old", "new", "red"}:
        return f"wanted name, file, old, new, red, given {', '.join(entry)}"
    if not entry["red"]:
        return "wanted at least one test in red, given none"
    try:
        changed = mutant(root, entry)
    except (OSError, ValueError) as error:
        return str(error)
    if no_code := unrunnable(root, entry["file"], changed):
        return no_code
    for node in entry["red"]:
        file, *names = node.split("[")[0].split("::")
        if not (root / file).is_file():
            return f"{node}: no such file"
        # A class inherits tests from portability.py.
        known = defined(root / file) | defined(root / "tests" / "portability.py")
        if not set(names) <= known:
            return f"{node}: no such test"
    return ""


def run(root: Path, arguments: list[str], output: Path) -> None:
    """The tests of a copy, in a process that was forked for them; ends it with pytest's code."""
    os.chdir(root)
    os.environ["PYTHONPATH"] = str(root / "code")
    sys.path[:] = [
        str(root),
        str(root / "code"),
        *(p for p in sys.path if p not in ("", str(ROOT))),
    ]
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True  # a stale .pyc would hide a fault of the same length
    with output.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    options = ["-q", "--tb=no", "-rfE", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    unused = ["cacheprovider", "nbval", "pytest_cov"]
    sys.exit(pytest.main([*options, *(f"-pno:{name}" for name in unused), *arguments]))


def tested(root: Path, arguments: list[str]) -> tuple[int | None, str]:
    """Pytest's exit code, None after LIMIT, and what it printed."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(PRELOADED)
    output = root / ".output"
    process = forks.Process(target=run, args=(root, arguments, output))
    process.start()
    process.join(LIMIT)
    code = process.exitcode
    process.kill()
    return code, output.read_text(encoding="utf-8")


def verdict(root: Path, entry: Entry) -> str:
    """Why the fault does not count as found, or ''; `root` is as before after it."""
    file = root / entry["file"]
    healthy = file.read_text(encoding="utf-8")
    file.write_text(mutant(root, entry), encoding="utf-8")
    try:
        # One test that fails is enough for one node id; for several, each must hold one.
        code, said = tested(root, [*entry["red"], *(["-x"] if len(entry["red"]) == 1 else [])])
    finally:
        file.write_text(healthy, encoding="utf-8")
    if code == PASSED:
        return "SURVIVED"
    if code != FAILED:
        ended = f"no end after {LIMIT:.0f} s" if code is None else f"pytest ended with {code}"
        return f"BROKEN: {ended}\n{said[-2000:]}"
    red = re.findall(r"^(?:FAILED|ERROR) (.+)", said, re.MULTILINE)
    left = [node for node in entry["red"] if not any(one.startswith(node) for one in red)]
    return f"SURVIVED {', '.join(left)}" if left else ""


def copied(root: Path, place: Path) -> Path:
    """A copy of what git tracks, and of new files that it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        with contextlib.suppress(FileNotFoundError):  # removed and not yet committed
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, place / name)
    return place


def replay(root: Path, names: list[str], only: str, jobs: int) -> int:
    """How many entries are not found or do not fit; says which."""
    listed = [(stem, one) for stem in names for one in mistakes(root, stem)]
    listed = [(stem, one) for stem, one in listed if only in one.get("name", "")]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        copies: queue.Queue[Path] = queue.Queue()
        for job in range(jobs):
            copies.put(copied(root, Path(folder).resolve() / str(job)))

        def borrowed(work, *given):
            place = copies.get()
            try:
                return work(place, *given)
            finally:
                copies.put(place)

        def judged(stem: str, entry: Entry) -> bool:
            begun = time.monotonic()
            fault = unfit(root, entry)
            fault = f"BROKEN: {fault}" if fault else borrowed(verdict, entry)
            took = time.monotonic() - begun
            name = entry.get("name", "an entry without a name")
            print(f"{stem}: {name}: {fault or 'found'}, {took:.1f} s", flush=True)
            return bool(fault)

        def green(stem: str) -> bool:
            nodes = {
                n for s, one in listed if s == stem and not unfit(root, one) for n in one["red"]
            }
            code, said = borrowed(tested, sorted(nodes)) if nodes else (PASSED, "")
            if code != PASSED:
                print(f"{stem}: not green before any fault\n{said[-2000:]}", flush=True)
            return code == PASSED

        healthy = {
            stem for stem, is_green in zip(names, pool.map(green, names), strict=True) if is_green
        }
        left = [(stem, one) for stem, one in listed if stem in healthy]
        wrong = sum(pool.map(lambda given: judged(*given), left))
    skipped = len(names) - len(healthy)
    print(f"{len(left)} faults replayed, {wrong} not found; {skipped} lists not green before")
    return wrong + skipped


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("stems", nargs="*", help="such as lmu; without one, all")
    parser.add_argument("--only", default="", help="entries whose name holds this")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    return 1 if replay(ROOT, given.stems or stems(), given.only, given.jobs) else 0


if __name__ == "__main__":
    sys.exit(main())
