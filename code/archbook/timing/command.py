"""A benchmark's command line: which parts, at which size, on which device; saved part by part."""

import argparse
import dataclasses
import gc
import os
from collections.abc import Mapping, Sequence

import torch

from archbook.running.environment import pick_device
from archbook.timing.results import save_tables
from archbook.timing.tables import Part, Plan


def bench_main(
    stem: str,
    title: str,
    plans: tuple[Plan, Plan],
    *,
    parts: Mapping[str, Part],
    tables: Sequence[str],
    argv: Sequence[str] | None = None,
) -> None:
    """Measure the parts that the command line asks for; keep the other tables of this machine.

    plans: full and quick; `tables` orders what the parts make. The file that calls this imports
    `archbook.awake` before torch.

    >>> plan = Plan(sizes={}, seconds={})
    >>> bench_main("lmu", "LMU", (plan, plan), parts={}, tables=(), argv=["--device", "abacus"])
    Traceback (most recent call last):
        ...
    ValueError: wanted one of the devices [...], given 'abacus' ...
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing in results/")
    parser.add_argument(
        "--first", action="store_true", help="the first size of each part, nothing in results/"
    )
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all cores")
    given = parser.parse_args(argv)
    device, plan = str(pick_device(given.device)), plans[given.quick]
    if given.first:
        sizes = {part: sizes[:1] for part, sizes in plan.sizes.items()}
        plan = dataclasses.replace(plan, sizes=sizes, thorough=False)
    torch.set_num_threads(given.threads)
    torch.set_float32_matmul_precision("highest")  # no TF32
    torch.backends.cudnn.allow_tf32 = False
    gc.freeze()  # a collection before each measurement would walk through all of torch, 80 ms
    for part in given.part:  # saved one by one: a killed run loses no finished part
        made = parts[part](plan, device)
        aside = given.quick or given.first
        save_tables(stem, title, made, part=part, order=tables, device=device, quick=aside)
