"""OpenMP's threads stay awake in a benchmark: the variables are set before torch is loaded."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[1] / "benchmarks").glob("bench_*.py"))


def test_the_variables_are_set_and_torch_is_not_loaded():
    probe = (
        "import archbook.awake, os, sys; "
        "print(*map(os.environ.get, ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')), 'torch' in sys.modules)"
    )
    given = os.environ | {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
    done = subprocess.run(
        [sys.executable, "-c", probe], env=given, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["active", "None", "False"]


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_imports_it_before_anything_else(path: Path):
    imports = [
        n for n in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(n, ast.Import)
    ]
    others = [
        n for n in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(n, ast.ImportFrom)
    ]
    assert imports[0].names[0].name == "archbook.awake"
    assert imports[0].lineno < min(node.lineno for node in others)
