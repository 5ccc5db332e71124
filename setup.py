"""Packs the measured results into the wheel; everything else is declared in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithResults(build_py):
    """Copies `results/` to `archbook/_results`, so that a notebook alone on Colab can draw them.

    An editable install reads the checkout's own `results/` instead.
    """

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            packed = Path(self.build_lib) / "archbook" / "_results"
            shutil.rmtree(packed, ignore_errors=True)
            for file in sorted(Path("results").glob("*/*.json")):
                target = packed / file.relative_to("results")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)


setup(cmdclass={"build_py": BuildWithResults})
