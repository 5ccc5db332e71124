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

import os

# Before torch. Threads that sleep between operations wake slowly: on a quiet machine that made the
# recurrence's thousands of small steps seven times slower than it is, and flattered the others.
os.environ["OMP_WAIT_POLICY"] = "active"
os.environ.pop("GOMP_SPINCOUNT", None)

import math
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from archbook import running
from archbook.checks import value_checks
from archbook.lmu import LMU, LegendreMemory, LMUCell

Size = dict[str, Any]  # order, T, batch, hidden; units of the LSTM; (order, units) of 2019
Work = Callable[[], tuple[Tensor, ...]]

CLASSES = 10
BASE, RECURRENCE = "last state", "recurrence"
COMPILED, GRAPH = "recurrence, compiled", "recurrence, CUDA graph"  # on a CPU, on a card
IN_PARALLEL = {"FFT": "fft", "chunks": "chunked"}
FORMS = (BASE, RECURRENCE, *IN_PARALLEL)
LSTM, LMU_2019 = "nn.LSTM", "LMU of 2019"
MODES = ("auto", "recurrent", "fft", "chunked")
LIMIT = 1.25  # `auto` may take so many times the best form's time
BLOCK = 16  # steps that torch.compile unrolls: 784 in one piece compile for minutes


@dataclass(frozen=True)
class Plan:
    """What is measured, and for about how many seconds a row (forward alone: a quarter)."""

    last: tuple[Size, ...]
    grid: tuple[tuple[int, ...], ...]  # orders, lengths, batches
    length: tuple[Size, ...]
    seconds: dict[str, float]
    thorough: bool = True  # also measure peak memory, and the recurrence compiled


FULL = Plan(
    last=(  # the paper's network, and two smaller ones of its proportions
        {"order": 32, "T": 128, "batch": 16, "hidden": 24, "lstm": 14, "cell": (18, 14)},
        {"order": 128, "T": 784, "batch": 32, "hidden": 95, "lstm": 55, "cell": (70, 58)},
        {"order": 468, "T": 784, "batch": 100, "hidden": 346, "lstm": 202, "cell": (256, 212)},
    ),
    grid=((16, 64, 256), (128, 1024, 8192), (1, 16, 64)),
    length=tuple({"order": 64, "T": 2**k, "batch": 16, "hidden": 47} for k in range(7, 15)),
    seconds={"last": 80.0, "forms": 3.0, "length": 5.0},
)
QUICK = Plan(
    last=({"order": 8, "T": 32, "batch": 4, "hidden": 6, "lstm": 4, "cell": (4, 4)},),
    grid=((4, 8), (16, 64), (1, 4)),
    length=tuple({"order": 8, "T": T, "batch": 4, "hidden": 6} for T in (32, 64)),
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


def prepare(name: str, size: Size, device: str, backward: bool) -> tuple[nn.Module, Work]:
    """A network and its work: the logits, or the loss and the gradients of all weights."""
    torch.manual_seed(0)
    model = network(name, size).to(device)
    torch.manual_seed(1)  # the same images for every candidate
    x = torch.rand(size["batch"], size["T"], 1).to(device)
    y = torch.randint(CLASSES, (size["batch"],)).to(device)

    def work() -> tuple[Tensor, ...]:
        with value_checks(False), torch.set_grad_enabled(backward):
            logits = model(x)
            if not backward:
                return (logits,)
            loss = cross_entropy(logits, y)
            return loss.detach(), *torch.autograd.grad(loss, tuple(model.parameters()))

    return model, running.captured(work) if name == GRAPH else work


def step_alone(name: str, size: Size, device: str) -> Work:
    """What the process that measures peak memory runs; the memory's tables are already built."""
    model, work = prepare(name, size, device, backward=True)
    with torch.no_grad():
        model(torch.zeros(1, size["T"], 1, device=device))
    return work


def networks(names: Iterable[str], size: Size, backward: bool, part: str, plan: Plan, device: str):
    """A row of networks: shown equal where the weights are, timed, their peak memory measured."""
    made = {name: prepare(name, size, device, backward) for name in names}
    works = {name: work for name, (_, work) in made.items()}
    results = {name: work() for name, work in works.items()}  # builds the tables, compiles
    running.assert_same_results(
        {name: found for name, found in results.items() if name not in (LSTM, LMU_2019)}
    )
    candidates = running.timed(works, BASE, plan.seconds[part] / (1 if backward else 4), device)
    for name, one in candidates.items():
        one["weights"] = sum(p.numel() for p in made[name][0].parameters())
        if plan.thorough and backward and name not in (COMPILED, GRAPH):
            target = f"{Path(__file__).resolve()}:step_alone"
            one["peak_mib"] = running.peak_memory(target, name, size, device, device=device) / 2**20
    shown = {key: size[key] for key in ("order", "T", "batch")}
    return running.bench_row(shown, backward, candidates)


def table(name: str, title: str, baseline: str, rows: list[dict], **more: Any) -> dict:
    return {"name": name, "title": title, "baseline": baseline, "rows": rows, **more}


def can_compile(plan: Plan) -> bool:
    return plan.thorough and shutil.which("c++") is not None


def part_last(plan: Plan, device: str) -> list[dict]:
    """The psMNIST network, and its peers in the same rounds."""
    faster = GRAPH if device != "cpu" else COMPILED if can_compile(plan) else None
    print(f"also {faster}" if faster else "without the compiled recurrence")
    rows = []
    for size, backward in product(plan.last, (True, False)):
        names = (*FORMS, *([faster] if faster and backward else []), LSTM, LMU_2019)
        rows.append(networks(names, size, backward, "last", plan, device))

    def only(*names: str) -> list[dict]:
        shown = [{n: c for n, c in r["candidates"].items() if n in names} for r in rows]
        return [r | {"candidates": part} for r, part in zip(rows, shown, strict=True)]

    title = "psMNIST network, which reads the last state alone: "
    forms = table("last", title + "four ways to that state", BASE, only(*FORMS, COMPILED, GRAPH))
    peers = "an LSTM of equal weights, the LMU of 2019"
    return [forms, table("peers", title + peers, BASE, only(BASE, LSTM, LMU_2019))]


def part_forms(plan: Plan, device: str) -> list[dict]:
    """All states: is what `mode="auto"` takes near the best form?"""
    rows, rule = [], {"limit": LIMIT, "cells": math.prod(map(len, plan.grid))}
    for (order, T, batch), backward in product(product(*plan.grid), (True, False)):
        works = states(size := {"order": order, "T": T, "batch": batch}, backward, device)
        first = works["recurrent"]()
        for mode in ("auto", "fft", "chunked"):  # one by one: states of up to half a gigabyte
            running.assert_same_results({"recurrent": first, mode: works[mode]()})
        del first
        candidates = running.timed(works, "auto", plan.seconds["forms"], device)
        rows.append(running.bench_row(size, backward, candidates))
        best = min(candidates[mode]["ratio"]["median"] for mode in MODES[1:])
        rule[rows[-1]["pass"]] = rule.get(rows[-1]["pass"], 0) + (best * LIMIT >= 1)
    print(f"cells in which auto is within the limit: {rule}")
    return [table("forms", 'All states, and what `mode="auto"` takes', "auto", rows, rule=rule)]


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
    rows = [networks(FORMS, size, True, "length", plan, device) for size in plan.length]
    upper = rows[(len(rows) - 1) // 2 :]  # below, the cost of a call hides that of the work
    exponents = {name: growth(name, upper) for name in FORMS}
    more = {"exponents": exponents, "exponents_from_T": upper[0]["size"]["T"]}
    print(more)
    return [table("length", "A training step against the length", BASE, rows, **more)]


def growth(name: str, rows: list[dict]) -> dict:
    """Exponents of time and memory in T, fitted, beside those of the operation counts."""
    T = [r["size"]["T"] for r in rows]
    found = [r["candidates"][name] for r in rows]
    work = [t * math.log2(2 * t) if name == "FFT" else t for t in T]
    return {
        "time": running.exponent(T, [one["ms"] for one in found]),
        "time_predicted": running.exponent(T, work),
        "memory": running.memory_exponent(T, [one["peak_mib"] for one in found]),
        "memory_predicted": 1.0,
    }


def part_precision(plan: Plan, device: str) -> list[dict]:
    size = plan.last[-1]
    shown = {key: size[key] for key in ("order", "T", "batch")}

    def rows() -> list[dict]:
        _, work = prepare(BASE, size, device, backward=False)
        return [running.precision_row(work, shown, plan.seconds["last"] / 4, device)]

    title = "psMNIST network, last state alone, forward: in fewer bits"
    return running.precision_tables(title, rows, device)


PARTS = {
    "last": part_last,
    "forms": part_forms,
    "length": part_length,
    "precision": part_precision,
}
TABLES = ("last", "peers", "forms", "length", "precision")


def main(argv: list[str] | None = None) -> None:
    running.bench_main("lmu", "Legendre Memory Unit", (FULL, QUICK), PARTS, TABLES, argv)


if __name__ == "__main__":
    main()
