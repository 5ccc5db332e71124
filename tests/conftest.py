"""What every test meets: seeds do not leak between tests, and what a marker promises is kept.

And what the tests of the benchmarks share: `bench` and `quick`, for the STEM that a file names.
"""

import gc
import json
import random
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from chromium import address, browser, visit  # noqa: F401  fixtures of every browser test
from hypothesis import settings
from scripts import script

# Their asserts then say what they found.
pytest.register_assert_rewrite("portability", "drawing", "assigned")

# The same examples in every run, and none that fails for being slow on a busy machine.
settings.register_profile("book", deadline=None, derandomize=True)
settings.load_profile("book")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True, scope="module")
def _set_aside() -> None:
    """The collector walks only through what the test file made itself.

    A collection of everything takes seconds late in a session: it holds all of torch, every
    collected test, and what the compiler keeps.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _one_fixed_seed() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  the global generator is the one that libraries draw from
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _only_marked_tests_compile(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make check` leaves the marker `compile` out, so no test may compile without it."""

    def refused(*_: object, **__: object) -> None:
        pytest.fail("a test that compiles or exports carries the marker `compile`")

    if request.node.get_closest_marker("compile") is None:
        monkeypatch.setattr(torch, "compile", refused)
        monkeypatch.setattr(torch.export, "export", refused)


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The benchmark of the test file's STEM, as on a machine without peers."""
    with pytest.MonkeyPatch.context() as patch:  # the file sets variables for its own process
        patch.setattr("os.environ", {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"})
        module = script(f"benchmarks/bench_{request.module.STEM}.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("archbook.timing.peers.version", _not_installed)
        yield module


def _not_installed(library: str) -> str:
    raise PackageNotFoundError(library)


@pytest.fixture
def written(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Path]:
    """Where a quick run writes, its folder standing in for the repository."""
    stem = request.module.STEM
    stand_in = tmp_path / "results" / stem / "bench.json"
    monkeypatch.setattr("archbook.timing.results.results_path", lambda stem, name: stand_in)
    monkeypatch.setattr("archbook.timing.rounds.ROUNDS", (2, 2))
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    yield tmp_path / ".runs" / stem / "bench.json"
    gc.unfreeze()  # the benchmark set aside what the tests before it had made


@pytest.fixture
def quick(bench: ModuleType, written: Path, tmp_path: Path) -> Callable[..., dict]:
    """Runs the benchmark at tiny size and reads what it wrote, which is nothing under results."""

    def run(*options: str) -> dict:
        bench.main(["--quick", "--threads", "1", *options])
        assert not (tmp_path / "results").exists()
        return json.loads(written.read_text(encoding="utf-8"))

    return run
