"""Runs plain notebooks as a reader far away does: each alone in an empty folder, the package from
the wheel and not from this checkout.

python -m tools.alone [STEM ...] [--python .venv-lowest/bin/python]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from tools.address import ROOT
from tools.chapters import chapters
from tools.release import DIST, NOTEBOOKS, wheel

SECONDS_PER_CELL = 300


def unpack(package: Path, site: Path, python: Path) -> dict[str, str]:
    """Installs the wheel into `site`; the environment in which Python finds it there first."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site)]
    subprocess.run([*pip, str(package)], check=True)
    found_first = {"PYTHONPATH": str(site), "PYTHONNOUSERSITE": "1"}
    # Else the debugger of older kernels warns that it may miss breakpoints.
    environment = os.environ | found_first | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    ask = [str(python), "-c", "import archbook; print(archbook.__file__)"]
    done = subprocess.run(ask, env=environment, capture_output=True, text=True, check=True)
    if not Path(done.stdout.strip()).is_relative_to(site):
        raise ValueError(f"wanted the package from the wheel, given {done.stdout.strip()}")
    return environment


def run(notebook: Path, python: Path, environment: dict[str, str]) -> None:
    """All its cells in order; raises CellExecutionError at the first that fails."""
    kernel = AsyncKernelManager(kernel_name="python3")
    assert kernel.kernel_spec is not None
    kernel.kernel_spec.argv[0] = str(python)
    with tempfile.TemporaryDirectory() as empty:
        copy = shutil.copy(notebook, empty)
        client = NotebookClient(
            nbformat.read(copy, as_version=4),
            km=kernel,
            timeout=SECONDS_PER_CELL,
            extra_arguments=["--log-level=ERROR"],  # as in tools/notebooks.py
            resources={"metadata": {"path": empty}},
        )
        client.execute(env=environment)


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs plain notebooks with the wheel alone.")
    parser.add_argument("stems", nargs="*", metavar="STEM", default=chapters())
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    arguments = parser.parse_args()
    python = (ROOT / arguments.python).absolute()  # not resolved: a venv's is a link to another
    failed = False
    with tempfile.TemporaryDirectory() as site:
        environment = unpack(wheel(DIST), Path(site).resolve(), python)
        for stem in arguments.stems:
            start = time.monotonic()
            try:
                run(NOTEBOOKS / f"{stem}.ipynb", python, environment)
                ending = "ran"
            except CellExecutionError as error:
                failed, ending = True, f"FAILED\n{error}"
            print(f"{stem}.ipynb: {ending}, {time.monotonic() - start:.0f} s", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
