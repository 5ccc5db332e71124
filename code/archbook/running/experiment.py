"""The experiment runner: from `python experiments/STEM/NAME.py --size full` to a results file."""

import dataclasses
import re
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from typing import Any

import torch

from archbook.files import as_json
from archbook.running.cells import (
    SIZE_NAMES,
    Place,
    Seeds,
    Sizes,
    config_as_json,
    default_seeds,
    wanted_cells,
)
from archbook.running.environment import environment, pick_device, seed_everything
from archbook.running.options import RUNNER_OPTIONS, build_parser
from archbook.running.progress import clock
from archbook.running.run import Run

Train = Callable[[Any, Run], dict]


def main(
    file: str,
    sizes: Sizes,
    train: Train,
    seeds: Seeds | None = None,
    argv: Sequence[str] | None = None,
) -> None:
    """Run the cells that the command line asks for, and keep what each of them measures.

    A cell is one variant with one seed. A finished cell with an equal configuration is not run
    again; a killed one goes on from its checkpoint; several processes may share the cells of
    one experiment. Once every cell of the size is there, the results file is written.
    """
    config_class = _check_sizes(sizes)
    description = sys.modules[train.__module__].__doc__
    parser = build_parser(config_class, list(sizes), description)
    options = vars(parser.parse_args(argv))
    size, again = options["size"], options["again"]
    overrides = {key: value for key, value in options.items() if key not in RUNNER_OPTIONS}
    place = Place.of(file, size, overrides)
    configs = _choose_variants(parser, sizes[size], options["variants"], overrides)
    _check_seeds(parser, options["seeds"])
    try:
        device = pick_device(options["device"])
    except ValueError as error:
        parser.error(str(error))
    machine = environment(device, place.root)

    # seed by seed, so that every variant has one result before any has its second
    cells = [
        (variant, seed)
        for variant in configs
        for seed in options["seeds"] or default_seeds(size, variant, seeds)
    ]
    cells.sort(key=lambda cell: cell[1])
    for number, (variant, seed) in enumerate(cells, start=1):
        title = f"[{number}/{len(cells)}] {place.experiment} {size} {variant} seed {seed}"
        with place.claim(variant, seed) as ours:
            if not ours:
                print(f"{title}: another process is at it", flush=True)
            elif not again and place.finished(variant, seed, config_as_json(configs[variant])):
                print(f"{title}: already finished", flush=True)
            else:
                _run_cell(place, variant, seed, configs[variant], train, machine, title, again)
    if overrides:  # a custom run is complete when what was asked for is there
        wanted = {cell: config_as_json(configs[cell[0]]) for cell in cells}
    else:
        wanted = wanted_cells(sizes, size, seeds)
    _collect(place, wanted)


def _run_cell(
    place: Place,
    variant: str,
    seed: int,
    config: Any,
    train: Train,
    machine: dict,
    title: str,
    again: bool,
) -> None:
    device = torch.device(machine["device"])
    settings = config_as_json(config)
    run = Run(
        device,
        seed,
        place.size,
        folder=place.folder,
        cell=f"{variant}-{seed}",
        tag=f"{settings} on {device}",
    )
    if again:
        run.forget()
    print(f"{title}: started at {time.strftime('%H:%M:%S')} on {device}", flush=True)
    seed_everything(seed)
    before = time.perf_counter()
    metrics = train(config, run)
    wall = time.perf_counter() - before
    if not isinstance(metrics, dict) or not metrics:
        raise TypeError(f"wanted train to return a dict of metrics, given {metrics!r}")
    metrics = as_json(metrics, "metrics")
    place.keep(
        {
            "variant": variant,
            "seed": seed,
            "config": settings,
            "metrics": metrics,
            "seconds": float(f"{run.seconds or wall:.6g}"),
            "environment": environment(device, place.root)
            | {key: machine[key] for key in ("git_commit", "command")},  # as they were at start
        }
    )
    run.forget()
    shown = [f"{key} {value:.6g}" for key, value in metrics.items() if isinstance(value, float)]
    print(f"{title}: finished in {wall:.1f} s ({clock(run.seconds)} of training)", flush=True)
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
    parser: ArgumentParser, variants: Any, names: list[str] | None, overrides: dict
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


def _check_seeds(parser: ArgumentParser, seeds: list[int] | None) -> None:
    if bad := [seed for seed in seeds or () if not 0 <= seed < 2**32]:
        parser.error(f"wanted seeds from 0 to 2**32 - 1, given {bad}")
