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

import archbook.awake  # noqa: F401  before torch

# isort: split

from itertools import product
from typing import cast

import torch
from torch import Tensor, nn

from archbook.checks import value_checks
from archbook.gfnn import MLP, GridFunctionedNetwork, GridLinear, ModeAdaptiveNetwork
from archbook.gfnn.network import run_layers
from archbook.timing import (
    FORWARD,
    STEP,
    Candidates,
    Plan,
    Size,  # dims, nodes (of every axis), inputs, hidden, outputs, batch
    Table,
    Work,
    bench_main,
    exponents,
    larger_half,
    precision_tables,
    run_once,
)

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


PARTS = {
    "peers": {
        "peers": Table("A batch: the grid, the gather, the gates, one network", PEERS),
    },
    "orders": {
        "orders": Table(
            "Three orders of the same sums, and what auto takes", (AUTO, *ORDERS), peaks=False
        ),
    },
    "growth": {
        "growth": Table("A training step against the number of experts", ORDERS, passes=(STEP,)),
    },
    "latency": {
        "latency": Table("One sample, forward", (*PEERS, *ORDERS), passes=(FORWARD,)),
    },
}
TABLES = [*PARTS, "precision"]

FULL = Plan(
    sizes={
        "peers": (
            square(1, 8, 32, 256),
            square(1, 8, 64, 4096),
            square(2, 8, 32, 256),
            square(2, 8, 64, 4096),
            square(3, 6, 64, 4096),
        ),
        "orders": tuple(
            square(dims, nodes, 32, batch)
            for dims, axis in ((1, (4, 16, 64)), (2, (4, 8, 16)), (3, (4, 6)))
            for nodes, batch in product(axis, (32, 512, 8192))
        ),
        "growth": tuple(square(2, nodes, 64, 1024) for nodes in (4, 6, 8, 12, 16, 24)),
        "latency": (
            *(square(dims, 4, 64, 1) for dims in (1, 2, 3)),
            *(PFNN_SIZE | {"dims": dims, "nodes": 4} for dims in (1, 2)),
        ),
    },
    seconds={"peers": 15.0, "orders": 2.5, "growth": 5.0, "latency": 2.0},
    forward=1,
)
QUICK = Plan(
    sizes={
        "peers": (square(1, 5, 4, 8), square(2, 5, 4, 8)),
        "orders": (square(2, 4, 4, 4), square(2, 6, 4, 16)),
        "growth": (square(2, 4, 4, 16), square(2, 6, 4, 16)),
        "latency": (square(2, 4, 4, 1),),
    },
    seconds=dict.fromkeys(PARTS, 0.05),
    forward=1,
    thorough=False,
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


def prepare(name: str, size: Size, device: str, *, backward: bool = True) -> Work:
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


def why_absent(name: str, size: Size) -> str | None:
    """Why a candidate cannot run at this size, or None."""
    sets = 4 ** size["dims"]
    largest = max(size["inputs"], size["outputs"]) * size["hidden"]
    needed = 3 * 4 * size["batch"] * sets * max(largest, size["hidden"] ** 2)  # W, product, grad
    if name == GATHER and needed > MOST_MEMORY:
        return f"it holds {sets} parameter sets a sample, here about {needed / 2**30:.0f} GiB"
    return None


def check(works: dict[str, Work], table: Table, size: Size, *, backward: bool, device: str) -> None:
    run_once(works, [[name for name in works if name in SAME]], TOLERANCE)


def part_precision(plan: Plan, device: str) -> list[dict]:
    sizes = plan.sizes["peers"][-2:-1]
    passes = ((size, prepare(AUTO, size, device, backward=False)) for size in sizes)
    title = "A batch, forward: in fewer bits"
    return precision_tables(title, passes, plan.seconds["latency"], device=device)


def more(table: str, rows: list[dict]) -> dict:
    if table == "orders":
        return {"rule": rule(rows), "crossings": crossings(rows)}
    if table == "growth":
        return {"exponents": {name: growth(name, rows) for name in ORDERS}}
    return {}


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


def growth(name: str, rows: list[dict]) -> dict:
    """Exponents of time and memory in the number of experts, fitted on the larger half."""
    sizes, found = larger_half(name, rows)
    experts = [size["nodes"] ** size["dims"] for size in sizes]
    predicted = {"time_predicted": PREDICTED[name]}
    return {"from_experts": experts[0]} | exponents(experts, found) | predicted


CANDIDATES = Candidates(
    prepare=prepare,
    check=check,
    small={"batch": 2},
    hidden=("inputs", "outputs"),
    why_absent=why_absent,
    more=more,
)


def main(argv: list[str] | None = None) -> None:
    parts = CANDIDATES.parts(PARTS) | {"precision": part_precision}
    title = "Grid-functioned neural network"
    bench_main("gfnn", title, (FULL, QUICK), parts=parts, tables=TABLES, argv=argv)


if __name__ == "__main__":
    main()
