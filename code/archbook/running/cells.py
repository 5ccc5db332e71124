"""The cells of an experiment (one variant, one seed) and where their results are kept.

Ours, not hydra's, sacred's or signac's: settings here are plain frozen dataclasses, and none of
them can tell whether committed results still fit the settings of today's code.
"""

import contextlib
import dataclasses
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from archbook.files import as_json, write_json
from archbook.running.search import Search

try:
    import fcntl
except ImportError:  # pragma: no cover  (Windows: two processes may then repeat a cell)
    fcntl = None

SIZE_NAMES = ("tiny", "full", "more", "paper", "card")  # that an experiment declares
SEARCH = "search"  # the size that its search declares
DEFAULT_SEEDS = (0, 1, 2)

Sizes = Mapping[str, Mapping[str, Any]]  # size -> variant -> configuration
Seeds = Mapping[str, Sequence[int]]  # variant -> seeds


def default_seeds(size: str, variant: str, seeds: Seeds | None = None) -> tuple[int, ...]:
    """The seeds of a variant: three, or the experiment's own; one at every size but full."""
    return tuple((seeds or {}).get(variant, DEFAULT_SEEDS)) if size == "full" else (0,)


def declared(
    sizes: Sizes, size: str, search: Search | None = None, found: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The configuration of each variant of a size.

    An experiment with a search has a size more, `search`, and takes the settings of its full runs
    from the results `found` there.
    """
    if search is None or size not in ("full", SEARCH):
        return dict(sizes[size])
    if size == SEARCH:
        return search.cells(sizes["full"])
    if found is None:
        raise ValueError("wanted the results of --size search before those of full, given none")
    return search.settled(sizes["full"], found)


def config_as_json(config: Any) -> dict:
    """A configuration as its results file holds it."""
    return as_json(dataclasses.asdict(config), "config")


def wanted_cells(
    sizes: Sizes,
    size: str = "full",
    seeds: Seeds | None = None,
    *,
    search: Search | None = None,
    found: Mapping[str, Any] | None = None,
) -> dict[tuple[str, int], dict]:
    """Every (variant, seed) that a results file of this size must hold, with its configuration.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Config:
    ...     steps: int = 10
    >>> wanted_cells({"full": {"line": Config()}}, seeds={"line": (0, 1)})
    {('line', 0): {'steps': 10}, ('line', 1): {'steps': 10}}
    """
    of_search = search.seeds if search is not None and size == SEARCH else None
    return {
        (variant, seed): config_as_json(config)
        for variant, config in declared(sizes, size, search, found).items()
        for seed in of_search or default_seeds(size, variant, seeds)
    }


@dataclass(frozen=True)
class Place:
    """Where one experiment at one size keeps its files."""

    root: Path
    stem: str
    name: str
    _: KW_ONLY
    size: str
    changes: str = ""  # the overridden fields of a custom run, "order=16,theta=8"

    @classmethod
    def of(cls, file: str, size: str, overrides: Mapping[str, Any]) -> "Place":
        """Stem, name and root are told by the file's place, experiments/STEM/NAME.py."""
        path = Path(file).resolve()
        if len(path.parents) < 3 or path.parents[1].name != "experiments":
            raise ValueError(f"wanted a file at experiments/STEM/NAME.py, given {path.name}")
        changes = ",".join(f"{key}={_word(value)}" for key, value in sorted(overrides.items()))
        if len(changes) > 100:  # a folder's name may not grow without end
            changes = f"{changes[:90]}~{zlib.crc32(changes.encode()):08x}"
        return cls(path.parents[2], path.parent.name, path.stem, size=size, changes=changes)

    @property
    def experiment(self) -> str:
        return f"{self.stem}/{self.name}"

    @property
    def folder(self) -> Path:
        """Finished cells and checkpoints, ignored by git."""
        kind = f"{self.size},{self.changes}" if self.changes else self.size
        return self.root / ".runs" / self.stem / f"{self.name}.{kind}"

    @property
    def results(self) -> Path:
        """The file of all cells: committed, but for tiny runs and changed settings."""
        if self.changes or self.size == "tiny":
            return self.folder / "results.json"
        return self._committed(self.size)

    def searched(self) -> dict | None:
        """The results of size search."""
        return self._read(self._committed(SEARCH))

    def _committed(self, size: str) -> Path:
        name = self.name if size == "full" else f"{self.name}.{size}"
        return self.root / "results" / self.stem / f"{name}.json"

    def finished(self, variant: str, seed: int, settings: dict) -> dict | None:
        """The newest finished run of a cell with equal settings."""
        found = [self._read(self.folder / f"{variant}-{seed}.json")]
        found += (self._read(self.results) or {}).get("runs", [])
        wanted = (variant, seed, settings)
        equal = [run for run in found if run and _identity(run) == wanted]
        return max(equal, key=lambda run: run["environment"]["date"], default=None)

    def collect(self, cells: Mapping[tuple[str, int], dict]) -> list[tuple[str, int]]:
        """Write the results file once every cell is finished; return the cells still missing."""
        runs = {cell: self.finished(*cell, config) for cell, config in cells.items()}
        missing = [cell for cell, run in runs.items() if run is None]
        results = {"experiment": self.experiment, "size": self.size, "runs": list(runs.values())}
        if not missing and self._read(self.results) != results:
            write_json(self.results, results)
        return missing

    @staticmethod
    def _read(path: Path) -> dict | None:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


@dataclass(frozen=True)
class Cell:
    """One variant with one seed: what is run, and the files it leaves."""

    place: Place
    variant: str
    seed: int
    _: KW_ONLY
    config: Any
    settings: dict  # the configuration as the results file holds it

    def __str__(self) -> str:
        place = self.place
        return f"{place.experiment} {place.size} {self.variant} seed {self.seed}"

    @property
    def name(self) -> str:
        """Of its files in the place's folder."""
        return f"{self.variant}-{self.seed}"

    def finished(self) -> bool:
        return self.place.finished(self.variant, self.seed, self.settings) is not None

    def keep(self, **measured: Any) -> None:
        """Write what was measured, metrics, seconds and environment, at once."""
        run = {"variant": self.variant, "seed": self.seed, "config": self.settings, **measured}
        write_json(self.place.folder / f"{self.name}.json", run)

    @contextlib.contextmanager
    def claim(self) -> Iterator[bool]:
        """Whether this process may run the cell; the system frees it when the process ends."""
        self.place.folder.mkdir(parents=True, exist_ok=True)
        with (self.place.folder / f"{self.name}.lock").open("w") as file:
            try:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


def _identity(run: dict) -> tuple[str, int, dict]:
    return run["variant"], run["seed"], run["config"]


def _word(value: Any) -> str:
    return re.sub(r"[^\w.+-]+", "_", str(value))
