"""How the tests get hold of a file that is run rather than imported.

`tools` is a package and is imported as one. Experiments, benchmarks, the book's extensions and
setup.py are scripts: this is the one way in which a test loads them.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def script(place: str) -> ModuleType:
    """The file at `place` below the repository's root, run now, as a module of its own."""
    name = place.removesuffix(".py").replace("/", ".")
    spec = importlib.util.spec_from_file_location(name, ROOT / place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look it up there
    spec.loader.exec_module(module)
    return module
