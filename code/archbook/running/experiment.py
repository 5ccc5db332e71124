"""The experiment runner: from `python experiments/STEM/NAME.py --size full` to a results file."""

import contextlib
import dataclasses
import re
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tqdm import tqdm

from archbook.running import parallel
from archbook.running.cells import (
    SEARCH,
    SIZE_NAMES,
    Cell,
    Place,
    Seeds,
    Sizes,
    config_as_json,
    declared,
    default_seeds,
    wanted_cells,
)
from archbook.running.environment import environment, pick_device, seed_everything
from archbook.running.options import RUNNER_OPTIONS, build_parser
from archbook.running.run import Run
from archbook.running.search import Search
from archbook.running.shipping import Ship, write_weights

Measure = Callable[[Any, Run], dict]  # of a configuration, under a run: the metrics


@parallel.joined()
def main(
    file: str,
    sizes: Sizes,
    measure: Measure,
    *,
    seeds: Seeds | None = None,
    search: Search | None = None,
    ship: Ship | None = None,
    alone: str | None = None,
    argv: Sequence[str] | None = None,
) -> None:
    """Run the cells that the command line asks for, and keep what each of them measures.

    A cell is one variant with one seed. A finished cell with an equal configuration is not run
    again; a killed one goes on from its checkpoint; several processes, or the jobs of a cluster
    with a shard each, may share the cells of one experiment. Once every cell of the size is there,
    the results file is written, and the weights of the run that `ship` names.

    Under torchrun all its processes work on one cell after the other, but for an experiment that
    gives a reason to run `alone`.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Config:
    ...     slope: float = 2.0  # of the line
    >>> def measure(config, run):
    ...     return {"loss": config.slope**2}
    >>> sizes = {"tiny": {"line": Config()}}
    >>> main("experiments/toy/line.py", sizes, measure, argv=["--size", "tiny"])
    [1/1] toy/line tiny line seed 0: started at ... on cpu
      finished in ...
      loss 4
    results: .runs/toy/line.tiny/results.json
    """
    config_class = _check_sizes(sizes)
    description = sys.modules[measure.__module__].__doc__
    parser = build_parser(config_class, [*sizes, *([SEARCH] if search else [])], description)
    options = vars(parser.parse_args(argv))
    size, again = options["size"], options["again"]
    overrides = {key: value for key, value in options.items() if key not in RUNNER_OPTIONS}
    place = Place.of(file, size, overrides)
    found = place.searched()
    try:
        variants = declared(sizes, size, search, found)
    except ValueError as error:
        parser.error(str(error))
    configs = _choose_variants(parser, variants, options["variants"], overrides=overrides)
    _check_seeds(parser, options["seeds"])
    _check_processes(parser, configs, alone)
    try:
        device = parallel.local_device(pick_device(options["device"]))
    except ValueError as error:
        parser.error(str(error))
    machine = environment(device, place.root)
    chosen = options["seeds"] or (search.seeds if search and size == SEARCH else None)
    every = _cells(place, configs, chosen, own=seeds)
    shard, shards = options["shard"]
    cells = every[shard - 1 :: shards]
    for number, cell in enumerate(cells, start=1):
        title = f"[{number}/{len(cells)}] {cell}"
        with _claim(cell) as ours:
            if not ours:
                print(f"{title}: another process is at it", flush=True)
            elif not again and parallel.of_first(cell.finished()):
                print(f"{title}: already finished", flush=True)
            else:
                print(f"{title}: started at {time.strftime('%H:%M:%S')} on {device}", flush=True)
                run = Run(
                    device,
                    cell.seed,
                    folder=place.folder,
                    cell=cell.name,
                    tag=f"{cell.settings} on {device.type}",
                    fsdp=options["fsdp"],
                )
                if again:
                    run.forget()
                ships = ship if size == "full" and not overrides else None
                _run_cell(cell, run, measure=measure, machine=machine, ship=ships)
    if overrides:  # a custom run is complete when what was asked for is there
        wanted = {(cell.variant, cell.seed): cell.settings for cell in every}
    else:
        wanted = wanted_cells(sizes, size, seeds, search=search, found=found)
    if parallel.rank() == 0:
        _collect(place, wanted)


def _cells(
    place: Place, configs: dict[str, Any], chosen: Sequence[int] | None, *, own: Seeds | None
) -> list[Cell]:
    """Seed by seed, so that every variant has one result before any has its second."""
    cells = []
    for variant, config in configs.items():
        settings = config_as_json(config)
        cells += [
            Cell(place, variant, seed, config=config, settings=settings)
            for seed in chosen or default_seeds(place.size, variant, own)
        ]
    return sorted(cells, key=lambda cell: cell.seed)


@contextlib.contextmanager
def _claim(cell: Cell) -> Iterator[bool]:
    """`Cell.claim`, by rank 0 for all."""
    with cell.claim() if parallel.rank() == 0 else contextlib.nullcontext(False) as ours:
        yield parallel.of_first(ours)


def _run_cell(cell: Cell, run: Run, *, measure: Measure, machine: dict, ship: Ship | None) -> None:
    seed_everything(cell.seed)
    before = time.perf_counter()
    metrics = measure(cell.config, run)
    wall = time.perf_counter() - before
    if not isinstance(metrics, dict) or not metrics:
        raise TypeError(f"wanted {measure.__name__} to return a dict of metrics, given {metrics!r}")
    if parallel.rank():
        return
    if ship is not None and (cell.variant, cell.seed) == (ship.variant, ship.seed):
        # Before the run is kept as finished: who comes here again goes on from its checkpoint.
        print(f"  {write_weights(ship, cell, run.offered, metrics)}", flush=True)
    cell.keep(
        metrics=metrics,
        seconds=float(f"{run.seconds or wall:.6g}"),
        environment=environment(run.device, cell.place.root)
        | {key: machine[key] for key in ("git_commit", "command")}  # as they were at start
        | ({"processes": parallel.processes()} if parallel.processes() > 1 else {}),
    )
    run.forget()
    trained = tqdm.format_interval(run.seconds)
    print(f"  finished in {wall:.1f} s ({trained} of training)", flush=True)
    shown = [f"{key} {value:.6g}" for key, value in metrics.items() if isinstance(value, float)]
    print(f"  {', '.join(shown)}" if shown else "  no single numbers to show", flush=True)


def _collect(place: Place, wanted: dict[tuple[str, int], dict]) -> None:
    missing = place.collect(wanted)
    if missing:
        names = ", ".join(f"{variant}-{seed}" for variant, seed in missing)
        print(f"not written yet: {len(missing)} cells are missing ({names})", flush=True)
    else:
        print(f"results: {place.results.relative_to(place.root).as_posix()}", flush=True)


def _check_sizes(sizes: Sizes) -> type:
    if not sizes or not set(sizes) <= set(SIZE_NAMES):
        raise ValueError(f"wanted sizes out of {SIZE_NAMES}, given {list(sizes)}")
    classes = {type(config) for variants in sizes.values() for config in variants.values()}
    if len(classes) != 1 or not dataclasses.is_dataclass(config_class := classes.pop()):
        raise TypeError("wanted the configurations of all sizes to be of one dataclass")
    for variant in {variant for variants in sizes.values() for variant in variants}:
        if not re.fullmatch(r"[A-Za-z0-9_.+-]+", variant):
            raise ValueError(f"wanted a variant named with letters, digits, _ . + -: {variant!r}")
    return config_class


def _choose_variants(
    parser: ArgumentParser, variants: Any, names: list[str] | None, *, overrides: dict
) -> dict[str, Any]:
    if unknown := [name for name in names or () if name not in variants]:
        parser.error(f"wanted variants out of {list(variants)}, given {unknown}")
    try:
        return {
            name: dataclasses.replace(config, **overrides)
            for name, config in variants.items()
            if names is None or name in names
        }
    except (TypeError, ValueError) as error:  # a configuration that checks itself
        parser.error(str(error))


def _check_processes(parser: ArgumentParser, configs: dict[str, Any], alone: str | None) -> None:
    count = parallel.processes()
    if count > 1 and alone is not None:
        parser.error(f"wanted one process, for {alone}, given {count}")
    for variant, config in configs.items():
        if (batch := getattr(config, "batch", count)) % count:
            parser.error(
                f"wanted a batch that {count} processes share evenly, given {batch} for {variant}"
            )


def _check_seeds(parser: ArgumentParser, seeds: list[int] | None) -> None:
    if bad := [seed for seed in seeds or () if not 0 <= seed < 2**32]:
        parser.error(f"wanted seeds from 0 to 2**32 - 1, given {bad}")
