"""What the tests of the assignments share: a version is built, a wrong answer is planted in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("otter", reason="`make unit` installs it: the group assignments")

ROOT = Path(__file__).parents[1]
ASSIGNMENTS = ROOT / "assignments"
SECRET = "a sentence that only the lecturer knows"


def python(*arguments: str) -> subprocess.CompletedProcess:
    """Another process: graders fork, and pytest is no place for that."""
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False
    )


def build(stem: str, seed: str, out: Path) -> Path:
    module = ["-m", "tools.assignments.build", stem]
    done = python(*module, "--seed", seed, "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out


def plant(stem: str, built: Path, file: str, name: str, place: Path = ROOT) -> str:
    """One submission of mistakes.toml or hostile.toml; `place` is the folder that it attacks."""
    from tools.assignments.check import changed  # which needs otter
    from tools.planting import entries

    solution = (built / "solution" / f"{stem}.ipynb").read_text(encoding="utf-8")
    (entry,) = [one for one in entries(ASSIGNMENTS / stem / file) if one["name"] == name]
    return changed(solution, entry, place)
