"""Packs the measured results into the wheel; everything else is declared in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


def pack_results(results: Path, packed: Path) -> None:
    """Copies `results/STEM/*.json` to a folder of the same shape, emptied first."""
    shutil.rmtree(packed, ignore_errors=True)
    for file in sorted(results.glob("*/*.json")):
        target = packed / file.relative_to(results)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


class BuildWithResults(build_py):
    """Adds `archbook/_results`, so that a notebook alone on Colab can draw its figures.

    An editable install reads the checkout's own `results/` instead.
    """

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            pack_results(Path("results"), Path(self.build_lib) / "archbook" / "_results")


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildWithResults})
