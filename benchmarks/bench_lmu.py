"""The LMU's memory: its four forms against each other, and the network against its peers.

`--part forms` measures one part and keeps the other tables; `--quick` runs tiny sizes and writes
to .runs/ alone. Measure on a quiet machine: about eight minutes on two cores. The parts, each a
table of results/lmu/bench.json (bench_cuda.json on a card):

last    the psMNIST network reads the last state alone: one product (2021, Eq. 25), recurrence, FFT,
        chunks, and the recurrence without the cost of its calls: compiled on a CPU, a CUDA graph
        on a card; table `peers`, of the same rounds: an LSTM of equal weights and the LMU of 2019
forms   all states: is what `mode="auto"` takes within 25 % of the best of the three?
length  how time and peak memory grow with the length, beside the exponents of theory
precision  on a card alone: a pass in float32, TF32 and bfloat16; its launches and longest kernels.

Outputs and gradients are shown equal before anything is timed. Arithmetic is float32 without
TF32; checks of values (NaN) are off, as in the training loops.
"""

import archbook.awake  # noqa: F401  before torch

# isort: split

import math
import shutil
from functools import cache
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from archbook.checks import value_checks
from archbook.lmu import LMU, LegendreMemory, LMUCell
from archbook.timing import (
    FORWARD,
    PASSES,
    STEP,
    Candidates,
    Plan,
    Size,  # order, T, batch, hidden; units of the LSTM; (order, units) of 2019
    Table,
    Work,
    bench_main,
    bench_row,
    bench_table,
    captured,
    exponent,
    exponents,
    larger_half,
    limit_of,
    precision_tables,
    run_once,
    timed,
)

CLASSES = 10
BASE, RECURRENCE = "last state", "recurrence"
COMPILED, GRAPH = "recurrence, compiled", "recurrence, CUDA graph"  # on a CPU, on a card
IN_PARALLEL = {"FFT": "fft", "chunks": "chunked"}
FORMS = (BASE, RECURRENCE, *IN_PARALLEL)
LSTM, LMU_2019 = "nn.LSTM", "LMU of 2019"
MODES = ("auto", "recurrent", "fft", "chunked")
SHOWN = ("order", "T", "batch")  # of a size, in the table of precisions
LIMIT = 1.25  # `auto` may take so many times the best form's time
BLOCK = 16  # steps that torch.compile unrolls: 784 in one piece compile for minutes


def grid(*axes: tuple[int, ...]) -> tuple[Size, ...]:
    """Every order with every length and every batch."""
    return tuple(dict(zip(("order", "T", "batch"), one, strict=True)) for one in product(*axes))


FULL = Plan(
    sizes={
        "last": (  # the paper's network, and two smaller ones of its proportions
            {"order": 32, "T": 128, "batch": 16, "hidden": 24, "lstm": 14, "cell": (18, 14)},
            {"order": 128, "T": 784, "batch": 32, "hidden": 95, "lstm": 55, "cell": (70, 58)},
            {"order": 468, "T": 784, "batch": 100, "hidden": 346, "lstm": 202, "cell": (256, 212)},
        ),
        "forms": grid((16, 64, 256), (128, 1024, 8192), (1, 16, 64)),
        "length": tuple({"order": 64, "T": 2**k, "batch": 16, "hidden": 47} for k in range(7, 15)),
    },
    seconds={"last": 80.0, "forms": 3.0, "length": 5.0},
)
QUICK = Plan(
    sizes={
        "last": ({"order": 8, "T": 32, "batch": 4, "hidden": 6, "lstm": 4, "cell": (4, 4)},),
        "forms": grid((4, 8), (16, 64), (1, 4)),
        "length": tuple({"order": 8, "T": T, "batch": 4, "hidden": 6} for T in (32, 64)),
    },
    seconds=dict.fromkeys(("last", "forms", "length"), 0.1),
    thorough=False,
)


def advance(m: Tensor, u: Tensor, decay: Tensor, B_bar: Tensor) -> Tensor:
    """Eq. 19 over a few steps: state (batch, order), u (batch, steps) -> state."""
    for u_t in u.unbind(1):
        m = torch.addmm(u_t[:, None] * B_bar, m, decay)
    return m


compiled_advance = cache(lambda: torch.compile(advance, dynamic=False))  # only where asked for


class LastState(nn.Module):
    """The psMNIST network; `form` says how the memory gets to its last state."""

    def __init__(self, form: str, order: int, T: int, hidden: int):
        super().__init__()
        self.form = form
        self.lmu = LMU(
            1,
            hidden,
            1,
            order=order,
            theta=float(T),
            return_sequences=False,
            write_activation=nn.Identity(),
        )
        self.classify = nn.Linear(hidden, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        lmu = self.lmu
        if self.form == BASE:
            return self.classify(lmu(x))
        u = lmu.f_1(lmu.U_x(x))
        mode = IN_PARALLEL.get(self.form)
        m = lmu.memory(u, mode)[:, -1] if mode else self._recurrence(u[..., 0])[:, None]
        return self.classify(lmu.f_2(lmu.U_m(m.flatten(-2)) + lmu.W_x(x[:, -1])))

    def _recurrence(self, u: Tensor) -> Tensor:
        """Keeps no state but the last: leaner and faster than `mode="recurrent"`."""
        step = compiled_advance() if self.form == COMPILED else advance
        memory = self.lmu.memory
        m = u.new_zeros(len(u), memory.order).requires_grad_(u.requires_grad)  # compiles once
        for block in u.split(BLOCK, dim=1):
            m = step(m, block, memory.A_bar.mT, memory.B_bar)
        return m


class StepByStep(nn.Module):
    """A recurrent peer under the same classifier."""

    def __init__(self, cell: nn.Module, hidden: int):
        super().__init__()
        self.cell = cell
        self.classify = nn.Linear(hidden, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.cell.unroll(x) if isinstance(self.cell, LMUCell) else self.cell(x)[0]
        return self.classify(h[:, -1])


def network(name: str, size: Size) -> nn.Module:
    """A candidate with fresh weights: (batch, T, 1) -> (batch, classes)."""
    if name == LSTM:
        return StepByStep(nn.LSTM(1, size["lstm"], batch_first=True), size["lstm"])
    if name == LMU_2019:
        order, hidden = size["cell"]
        return StepByStep(LMUCell(1, hidden, order, theta=float(size["T"])), hidden)
    return LastState(name, size["order"], size["T"], size["hidden"])


def prepare(name: str, size: Size, device: str, *, backward: bool = True) -> Work:
    """A network's work: the logits, or the loss and the gradients of all weights."""
    torch.manual_seed(0)
    model = network(name, size).to(device)
    torch.manual_seed(1)  # the same images for every candidate
    x = torch.rand(size["batch"], size["T"], 1).to(device)
    y = torch.randint(CLASSES, (size["batch"],)).to(device)
    if name != COMPILED:  # the memory builds its tables, which are no part of the work
        with torch.no_grad():
            model(torch.zeros(1, size["T"], 1, device=device))

    def work() -> tuple[Tensor, ...]:
        with value_checks(False), torch.set_grad_enabled(backward):
            logits = model(x)
            if not backward:
                return (logits,)
            loss = cross_entropy(logits, y)
            return loss.detach(), *torch.autograd.grad(loss, tuple(model.parameters()))

    return captured(work) if name == GRAPH else work


def check(works: dict[str, Work], table: Table, size: Size, *, backward: bool, device: str) -> None:
    run_once(works, [[name for name in works if name not in (LSTM, LMU_2019)]])


def networks(table: Table, size: Size, kind: str, *, part: str, plan: Plan, device: str) -> dict:
    """A row of networks, with the number of their weights."""
    row = CANDIDATES.row(table, size, kind, plan=plan, part=part, device=device)
    for name, one in row["candidates"].items():
        one["weights"] = sum(p.numel() for p in network(name, size).parameters())
    return row


def can_compile(plan: Plan) -> bool:
    return plan.thorough and shutil.which("c++") is not None


def part_last(plan: Plan, device: str) -> list[dict]:
    """The psMNIST network, and its peers in the same rounds."""
    faster = GRAPH if device != "cpu" else COMPILED if can_compile(plan) else None
    print(f"also {faster}" if faster else "without the compiled recurrence")
    forms = (*FORMS, faster) if faster else FORMS
    both = {
        STEP: Table("A training step", (*forms, LSTM, LMU_2019)),
        FORWARD: Table("A forward pass", (*FORMS, LSTM, LMU_2019)),
    }
    rows = [
        networks(both[kind], size, kind, part="last", plan=plan, device=device)
        for size, kind in product(plan.sizes["last"], PASSES)
    ]

    def only(*names: str) -> list[dict]:
        shown = [{n: c for n, c in r["candidates"].items() if n in names} for r in rows]
        return [r | {"candidates": part} for r, part in zip(rows, shown, strict=True)]

    title = "psMNIST network, which reads the last state alone: "
    peers = title + "an LSTM of equal weights, the LMU of 2019"
    return [
        bench_table("last", title + "four ways to that state", only(*forms), baseline=BASE),
        bench_table("peers", peers, only(BASE, LSTM, LMU_2019), baseline=BASE),
    ]


def part_forms(plan: Plan, device: str) -> list[dict]:
    """All states: is what `mode="auto"` takes near the best form?"""
    rows, rule = [], {"limit": LIMIT, "cells": len(plan.sizes["forms"])}
    for size, kind in product(plan.sizes["forms"], PASSES):
        works = states(size, kind == STEP, device)
        run_once(works, [("recurrent", "auto", "fft", "chunked")])
        seconds = plan.seconds["forms"]
        candidates = timed(works, "auto", seconds, device=device)
        limit = limit_of(works["auto"], device)
        rows.append(bench_row(size, kind, candidates, limit=limit))
        best = min(candidates[mode]["ratio"]["median"] for mode in MODES[1:])
        rule[kind] = rule.get(kind, 0) + (best * LIMIT >= 1)
    print(f"cells in which auto is within the limit: {rule}")
    title = 'All states, and what `mode="auto"` takes'
    return [bench_table("forms", title, rows, baseline="auto", rule=rule)]


def states(size: Size, backward: bool, device: str) -> dict[str, Work]:
    """The memory alone in every mode: all states, and the gradient of u in a training step."""
    torch.manual_seed(0)
    memory = LegendreMemory(size["order"], float(size["T"])).to(device)
    u = torch.randn(size["batch"], size["T"], 1).to(device).requires_grad_(backward)
    above = torch.randn(*u.shape, size["order"]).to(device) if backward else None

    def work(mode: str) -> tuple[Tensor, ...]:
        with value_checks(False), torch.set_grad_enabled(backward):
            m = memory(u, mode)
            return (m.detach(), *torch.autograd.grad(m, u, above)) if backward else (m,)

    return {mode: lambda mode=mode: work(mode) for mode in MODES}


def part_length(plan: Plan, device: str) -> list[dict]:
    """A training step that reads the last state alone, over ever longer sequences."""
    table = Table("A training step against the length", FORMS)
    rows = [
        networks(table, size, STEP, part="length", plan=plan, device=device)
        for size in plan.sizes["length"]
    ]
    sizes, _ = larger_half(BASE, rows)
    grown = {name: growth(name, rows) for name in FORMS}
    more = {"exponents": grown, "exponents_from_T": sizes[0]["T"]}
    print(more)
    return [bench_table("length", table.title, rows, baseline=BASE, **more)]


def growth(name: str, rows: list[dict]) -> dict:
    """Exponents of time and memory in T, fitted, beside those of the operation counts."""
    sizes, found = larger_half(name, rows)
    T = [size["T"] for size in sizes]
    work = [t * math.log2(2 * t) if name == "FFT" else t for t in T]
    predicted = {"time_predicted": exponent(T, work), "memory_predicted": 1.0}
    return exponents(T, found) | predicted


def part_precision(plan: Plan, device: str) -> list[dict]:
    passes = (
        ({key: size[key] for key in SHOWN}, prepare(BASE, size, device, backward=False))
        for size in plan.sizes["last"][-1:]
    )
    title = "psMNIST network, last state alone, forward: in fewer bits"
    return precision_tables(title, passes, plan.seconds["last"] / 4, device=device)


CANDIDATES = Candidates(
    prepare=prepare,
    check=check,
    hidden=("hidden", "lstm", "cell"),
    without_peak=(COMPILED, GRAPH),
)
PARTS = {
    "last": part_last,
    "forms": part_forms,
    "length": part_length,
    "precision": part_precision,
}
TABLES = ("last", "peers", "forms", "length", "precision")


def main(argv: list[str] | None = None) -> None:
    title = "Legendre Memory Unit"
    bench_main("lmu", title, (FULL, QUICK), parts=PARTS, tables=TABLES, argv=argv)


if __name__ == "__main__":
    main()
