"""Every public name has an example in its docstring, which gives what it says.

Public is what a part of the package lists in `__all__`. A constant, and a type that stands for
others, has no docstring and needs no example. An example begins where `import torch` and
`from archbook.PART import *` were run, with torch's generator at seed 0.
"""

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import archbook

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# Those that read a large file, or may be the first to need torch's optimisers or its meta device.
SLOW = {
    "data.frame_pairs",
    "data.rna_families",
    "data.shakespeare",
    "dca.PseudoLikelihoodFit",
    "dca.fit_pseudo_likelihood",
    "dca.pseudo_likelihood",
    "folded_cnn.Cost",
    "folded_cnn.LayerCost",
    "folded_cnn.cost",
    "running.cosine_adam",
    "running.fit",
    "running.fit_best",
    "running.warmed_adamw",
    "timing.limit_of",
    "timing.precisions",
    "timing.timed",
    "weights.load",
}


def parts() -> dict[str, ModuleType]:
    """The parts of the package that other programs may import from."""
    names = sorted(one.name for one in pkgutil.iter_modules(archbook.__path__))
    found = {name: importlib.import_module(f"archbook.{name}") for name in names}
    return {name: module for name, module in found.items() if hasattr(module, "__all__")}


def explained(module: ModuleType) -> dict[str, Any]:
    """Its public classes and functions."""
    public = {name: getattr(module, name) for name in module.__all__}
    return {
        name: value
        for name, value in public.items()
        if inspect.isclass(value) or inspect.isroutine(value)
    }


PUBLIC = {
    f"{part}.{name}": (module, value)
    for part, module in parts().items()
    for name, value in explained(module).items()
}


def examples_of(name: str, value: Any, module: ModuleType) -> list[doctest.DocTest]:
    """Those of the class or function, and of its methods."""
    globs = {"torch": torch, **{one: getattr(module, one) for one in module.__all__}}
    globs["__name__"] = module.__name__
    found = doctest.DocTestFinder(recurse=True).find(value, name, module=False, globs=globs)
    return [one for one in found if one.examples]


def without_example(public: dict[str, tuple[ModuleType, Any]]) -> list[str]:
    return [name for name, (_, value) in public.items() if ">>>" not in (value.__doc__ or "")]


def failures_of(tests: list[doctest.DocTest]) -> str:
    """What doctest reports; nothing where all is as it says."""
    said: list[str] = []
    for test in tests:
        doctest.DocTestRunner(verbose=False, optionflags=FLAGS).run(test, out=said.append)
    return "".join(said)


def test_every_public_class_and_function_has_an_example():
    assert without_example(PUBLIC) == []


def test_the_public_parts_are_those_that_other_programs_use():
    assert {"attention", "data", "egnn", "lmu", "verdicts", "weights"} <= parts().keys()
    assert len(PUBLIC) > 200


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in PUBLIC]
)
def test_an_example_gives_what_it_says(name: str, tmp_path: Path, monkeypatch):
    module, value = PUBLIC[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARCHBOOK_DATA", str(tmp_path))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert failures_of(examples_of(name, value, module)) == ""


def halves(x: float) -> float:
    """Half of x.

    >>> halves(4.0)
    3.0
    """
    return x / 2


def test_a_wrong_example_and_a_missing_one_are_noticed():
    (example,) = examples_of("halves", halves, parts()["lmu"])
    example.globs["halves"] = halves
    assert "Expected:\n    3.0\nGot:\n    2.0" in failures_of([example])
    assert without_example({"halves": (archbook, halves), "bare": (archbook, lambda: 1)}) == [
        "bare"
    ]
