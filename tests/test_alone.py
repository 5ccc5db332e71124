"""What runs a notebook alone: an empty folder, and the package from the wheel."""

import sys
import zipfile
from pathlib import Path

import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import write
from nbformat.v4 import new_code_cell, new_notebook
from tools.alone import run, unpack

pytestmark = pytest.mark.slow


def a_wheel(folder: Path, package: str) -> Path:
    path = folder / f"{package}-9.9-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr(f"{package}/__init__.py", '__version__ = "9.9"\n')
        about = f"{package}-9.9.dist-info"
        opened.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 9.9"
        )
        opened.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        opened.writestr(f"{about}/RECORD", "")
    return path


def test_a_notebook_finds_the_wheel_and_nothing_else_beside_it(tmp_path: Path):
    environment = unpack(a_wheel(tmp_path, "archbook"), tmp_path / "site", Path(sys.executable))
    source = (
        "import archbook, pathlib\n"
        "assert archbook.__version__ == '9.9'\n"
        "assert [one.name for one in pathlib.Path().iterdir()] == ['lmu.ipynb']"
    )
    notebook = tmp_path / "lmu.ipynb"
    write(new_notebook(cells=[new_code_cell(source)]), notebook)
    run(notebook, Path(sys.executable), environment)
    write(new_notebook(cells=[new_code_cell("assert 1 == 2")]), notebook)
    with pytest.raises(CellExecutionError, match="assert 1 == 2"):
        run(notebook, Path(sys.executable), environment)


def test_a_wheel_without_the_package_is_no_stand_in_for_this_checkout(tmp_path: Path):
    with pytest.raises(ValueError, match="from the wheel, given .*code.archbook"):
        unpack(a_wheel(tmp_path, "another"), tmp_path / "site", Path(sys.executable))
