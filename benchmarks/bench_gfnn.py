"""Grids of networks: three orders of the same sums, the per-sample gather, and learned gates.

`--part orders` measures one part and keeps the other tables; `--quick` runs tiny sizes and writes
to .runs/ alone. Measure on a quiet machine: about ten minutes on two cores. The parts, whose tables
stand in results/gfnn/bench.json (bench_cuda.json on a card):

peers    forward and backward of a batch: what `order="auto"` takes, the gather of 4^D parameter
         sets a sample, MANN of 8 and of 16 experts, one plain network of the same width
orders   the three orders against grid size and batch: where they cross, and whether what "auto"
         takes is within 25 % of the best
growth   time and peak memory of a training step against the number of experts
latency  one sample forward, as an animation's runtime has it, also at PFNN's sizes
precision  on a card alone: a pass in float32, TF32 and bfloat16; its launches and longest kernels

Outputs and gradients of the orders and of the gather are shown equal before anything is timed; a
gate computes something else, and only its cost is compared. Arithmetic is float32 without TF32;
checks of values (NaN) are off, as in the training loops.
"""

import os

# Before torch. Threads that sleep between operations wake slowly, which slows down most whoever
# runs many small operations.
os.environ["OMP_WAIT_POLICY"] = "active"
os.environ.pop("GOMP_SPINCOUNT", None)

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from archbook import running
from archbook.checks import value_checks
from archbook.gfnn import MLP, GridFunctionedNetwork, GridLinear, ModeAdaptiveNetwork
from archbook.gfnn.network import run_layers

Size = dict[str, int]  # dims, nodes (of every axis), inputs, hidden, outputs, batch
Work = Callable[[], tuple[Tensor, ...]]

AUTO, GATHER, PLAIN = "auto", "per-sample gather", "plain network"
GATES = {"MANN, 8 experts": 8, "MANN, 16 experts": 16}
ORDERS = ("blend", "experts", "cells")
PEERS = (AUTO, GATHER, *GATES, PLAIN)
SAME = (AUTO, *ORDERS, GATHER)  # compute the same
LIMIT = 1.25  # `auto` may take so many times the best order's time
MOST_MEMORY = 6 * 2**30  # a candidate that needs more is not run
TOLERANCE = 1e-4  # of float32 outputs and gradients, relative to the largest entry
PREDICTED = {"blend": 1, "experts": 1, "cells": 0}  # exponents of time in the number of experts


def square(dims: int, nodes: int, hidden: int, batch: int) -> Size:
    """A network as wide outside as inside."""
    sizes = {"dims": dims, "nodes": nodes, "hidden": hidden, "batch": batch}
    return sizes | {"inputs": hidden, "outputs": hidden}


PFNN_SIZE = {"inputs": 342, "hidden": 512, "outputs": 311, "batch": 1}  # of the published demo


@dataclass(frozen=True)
class Plan:
    """At which sizes each part is measured, and for about how many seconds a row."""

    peers: tuple[Size, ...]
    orders: tuple[Size, ...]
    growth: tuple[Size, ...]
    latency: tuple[Size, ...]
    seconds: dict[str, float]
    peaks: bool = True


FULL = Plan(
    peers=(
        square(1, 8, 32, 256),
        square(1, 8, 64, 4096),
        square(2, 8, 32, 256),
        square(2, 8, 64, 4096),
        square(3, 6, 64, 4096),
    ),
    orders=tuple(
        square(dims, nodes, 32, batch)
        for dims, axis in ((1, (4, 16, 64)), (2, (4, 8, 16)), (3, (4, 6)))
        for nodes, batch in product(axis, (32, 512, 8192))
    ),
    growth=tuple(square(2, nodes, 64, 1024) for nodes in (4, 6, 8, 12, 16, 24)),
    latency=(
        *(square(dims, 4, 64, 1) for dims in (1, 2, 3)),
        *(PFNN_SIZE | {"dims": dims, "nodes": 4} for dims in (1, 2)),
    ),
    seconds={"peers": 15.0, "orders": 2.5, "growth": 5.0, "latency": 2.0},
)
QUICK = Plan(
    peers=(square(1, 5, 4, 8), square(2, 5, 4, 8)),
    orders=(square(2, 4, 4, 4), square(2, 6, 4, 16)),
    growth=(square(2, 4, 4, 16), square(2, 6, 4, 16)),
    latency=(square(2, 4, 4, 1),),
    seconds=dict.fromkeys(("peers", "orders", "growth", "latency"), 0.05),
    peaks=False,
)


class Gather(nn.Module):
    """The equation as it stands: for every sample its own 4^D parameter sets, fetched and blended.

    Holds (batch, 4^D, out, in) numbers a layer.
    """

    def __init__(self, network: GridFunctionedNetwork):
        super().__init__()
        self.layers, self.activation = network.layers, network.activation

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        layers = [cast(GridLinear, layer) for layer in self.layers]
        grid = layers[0].grid
        first, omega = grid.block_of(g)
        chosen = grid.experts_of(first)  # (batch, 4^D)

        def mix(W: Tensor, b: Tensor, h: Tensor) -> Tensor:
            W_g = (omega[:, :, None, None] * W[chosen]).sum(1)
            b_g = (omega[:, :, None] * b[chosen]).sum(1)
            return torch.baddbmm(b_g[:, :, None], W_g, h[:, :, None]).squeeze(2)

        return run_layers(layers, mix, x, activation=self.activation)


def network(name: str, size: Size) -> nn.Module:
    """A candidate with fresh weights: (x, g) -> y."""
    shape = (size["inputs"], size["hidden"], size["outputs"])
    if name == PLAIN:
        return MLP(*shape)
    if name in GATES:
        return ModeAdaptiveNetwork(*shape, gate_features=size["dims"], experts=GATES[name])
    grid = GridFunctionedNetwork(*shape, grid_shape=(size["nodes"],) * size["dims"])
    return Gather(grid) if name == GATHER else grid


def prepare(name: str, size: Size, device: str, backward: bool = True) -> Work:
    """A candidate's work: its output and, with backward, the gradients of all its weights."""
    torch.manual_seed(0)
    model = network(name, size).to(device)
    torch.manual_seed(1)  # the same samples for every candidate
    x, g = torch.randn(size["batch"], size["inputs"]), torch.rand(size["batch"], size["dims"])
    x, g = x.to(device), g.to(device)
    given = (x,) if name == PLAIN else (x, g, name) if name in (AUTO, *ORDERS) else (x, g)
    weights = tuple(model.parameters())

    def work() -> tuple[Tensor, ...]:
        with value_checks(False), torch.set_grad_enabled(backward):
            y = model(*given)
            if not backward:
                return (y,)
            return y.detach(), *torch.autograd.grad(y.square().mean(), weights)

    return work


def step_alone(name: str, size: Size, device: str) -> Work:
    """What the process that measures peak memory runs; a small step loads the libraries before."""
    prepare(name, size | {"batch": 2}, device)()
    return prepare(name, size, device)


def why_absent(name: str, size: Size) -> str | None:
    """Why a candidate cannot run here, or None."""
    sets = 4 ** size["dims"]
    largest = max(size["inputs"], size["outputs"]) * size["hidden"]
    needed = 3 * 4 * size["batch"] * sets * max(largest, size["hidden"] ** 2)  # W, product, grad
    if name == GATHER and needed > MOST_MEMORY:
        return f"it holds {sets} parameter sets a sample, here about {needed / 2**30:.0f} GiB"
    return None


def row(names: Iterable[str], size: Size, backward: bool, plan: Plan, part: str, device: str):
    """One row: candidates shown equal where they are, timed, their peak memory measured."""
    names = list(names)
    absent = {name: reason for name in names if (reason := why_absent(name, size))}
    works = {n: prepare(n, size, device, backward) for n in names if n not in absent}
    base = works[names[0]]()
    for name, work in works.items():  # one by one: results of up to a gigabyte
        if name in SAME:
            running.assert_same_results({names[0]: base, name: work()}, TOLERANCE)
        else:
            work()
    del base
    candidates = running.timed(works, names[0], plan.seconds[part], device)
    del works
    if plan.peaks and backward and part in ("peers", "growth"):
        target = f"{Path(__file__).resolve()}:step_alone"
        for name, one in candidates.items():
            one["peak_mib"] = running.peak_memory(target, name, size, device, device=device) / 2**20
    shown = {key: value for key, value in size.items() if key not in ("inputs", "outputs")}
    return running.bench_row(shown, backward, candidates, absent=absent)


def table(name: str, title: str, baseline: str, rows: list[dict], **more) -> dict:
    return {"name": name, "title": title, "baseline": baseline, "rows": rows, **more}


def part_peers(plan: Plan, device: str) -> list[dict]:
    rows = [
        row(PEERS, size, backward, plan, "peers", device)
        for size, backward in product(plan.peers, (True, False))
    ]
    return [table("peers", "A batch: the grid, the gather, the gates, one network", AUTO, rows)]


def part_orders(plan: Plan, device: str) -> list[dict]:
    rows = [
        row((AUTO, *ORDERS), size, backward, plan, "orders", device)
        for size, backward in product(plan.orders, (True, False))
    ]
    more = {"rule": rule(rows), "crossings": crossings(rows)}
    print(more)
    return [
        table("orders", "Three orders of the same sums, and what auto takes", AUTO, rows, **more)
    ]


def rule(rows: list[dict]) -> dict:
    """In how many rows what `auto` takes is within the limit of the best order, and the worst."""
    found = {"limit": LIMIT, "rows": len(rows), "within": 0, "worst": 0.0}
    for one in rows:
        best = min(one["candidates"][name]["ratio"]["median"] for name in ORDERS)
        found["within"] += best * LIMIT >= 1
        found["worst"] = max(found["worst"], round(1 / best, 3))
    return found


def crossings(rows: list[dict]) -> list[dict]:
    """For each batch and number of axes the smallest grid on which sorting by cell is fastest."""
    found: dict[tuple, dict] = {}
    for one in rows:
        size, candidates = one["size"], one["candidates"]
        key = (size["dims"], size["batch"], one["pass"])
        entry = {"dims": size["dims"], "batch": size["batch"], "pass": one["pass"], "nodes": None}
        entry = found.setdefault(key, entry)
        times = {name: candidates[name]["ratio"]["median"] for name in ORDERS}
        if min(times, key=times.__getitem__) == "cells":
            entry["nodes"] = min(size["nodes"], entry["nodes"] or size["nodes"])
    return list(found.values())


def part_growth(plan: Plan, device: str) -> list[dict]:
    rows = [row(ORDERS, size, True, plan, "growth", device) for size in plan.growth]
    exponents = {name: growth(name, rows) for name in ORDERS}
    print(exponents)
    title = "A training step against the number of experts"
    return [table("growth", title, ORDERS[0], rows, exponents=exponents)]


def growth(name: str, rows: list[dict]) -> dict:
    """Exponents of time and memory in the number of experts, fitted on the larger half."""
    rows = rows[(len(rows) - 1) // 2 :]
    experts = [r["size"]["nodes"] ** r["size"]["dims"] for r in rows]
    found = [r["candidates"][name] for r in rows]
    return {
        "from_experts": experts[0],
        "time": running.exponent(experts, [one["ms"] for one in found]),
        "time_predicted": PREDICTED[name],
        "memory": running.memory_exponent(experts, [one["peak_mib"] for one in found]),
    }


def part_latency(plan: Plan, device: str) -> list[dict]:
    rows = [row((*PEERS, *ORDERS), size, False, plan, "latency", device) for size in plan.latency]
    return [table("latency", "One sample, forward", AUTO, rows)]


def part_precision(plan: Plan, device: str) -> list[dict]:
    size = plan.peers[-2]

    def rows() -> list[dict]:
        work = prepare(AUTO, size, device, backward=False)
        return [running.precision_row(work, size, plan.seconds["latency"], device)]

    return running.precision_tables("A batch, forward: in fewer bits", rows, device)


PARTS = {
    "peers": part_peers,
    "orders": part_orders,
    "growth": part_growth,
    "latency": part_latency,
    "precision": part_precision,
}


def main(argv: list[str] | None = None) -> None:
    title = "Grid-functioned neural network"
    running.bench_main("gfnn", title, (FULL, QUICK), PARTS, list(PARTS), argv)


if __name__ == "__main__":
    main()
