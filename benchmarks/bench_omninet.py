"""OmniNet's attentions against torch's fused attention and performer-pytorch, and what depth costs.

`--part meta` measures one part and keeps the other tables; `--quick` runs tiny sizes and writes to
.runs/ alone. Measure on a quiet machine: about fifteen minutes on two cores. The peer,
performer-pytorch, is compared where it is installed (`make parity` makes such an environment), else
listed as absent. The parts, whose tables stand in results/omninet/bench.json (bench_cuda.json on a
card):

attention  `both_ways` and `causal`: the attentions alone, against the number of tokens; where the
           Performer overtakes fused attention
meta       `meta_1`, `meta_2`, `meta_4`: a meta-learner over so many layers, against the length of
           the sequence, with fitted exponents beside those of the operation counts
precision  on a card alone: a pass in float32, TF32 and bfloat16; its launches and longest kernels.

Our Performer and the peer's hold the same features, without an epsilon, and are shown equal,
outputs and gradients, before anything is timed; the other attentions compute something else, and
only their cost is compared. Arithmetic is float32 without TF32; checks of values (NaN) are off, as
in the training loops.
"""

import os

# Before torch. Threads that sleep between operations wake slowly, which slows down most whoever
# runs many small operations.
os.environ["OMP_WAIT_POLICY"] = "active"
os.environ.pop("GOMP_SPINCOUNT", None)

import itertools
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

from archbook import running
from archbook.attention import (
    Attention,
    BigBird,
    BigBirdAttention,
    Full,
    FullAttention,
    Kind,
    Linformer,
    LinformerAttention,
    Performer,
    PerformerAttention,
)
from archbook.checks import value_checks
from archbook.omninet import MetaLearner, meta_flops

Size = dict[str, int]
Work = Callable[[], tuple[Tensor, ...]]

HEADS, HEAD_DIM = 4, 32
HIDDEN = HEADS * HEAD_DIM
FEATURES = 110  # d_h ln d_h, the peer's own choice
RANK, BLOCK = 32, 64  # of Linformer, and tokens in a block of BigBird
PERFORMER, PEER, FUSED = "Performer", "performer-pytorch", "fused attention"
BIGBIRD, LINFORMER = "BigBird", "Linformer"
TOLERANCE = 1e-3  # of float32 outputs and gradients, relative to the largest entry
LIMIT = 1.05  # of the peer's time


@dataclass(frozen=True)
class Table:
    """What one table compares; its first candidate is the baseline."""

    title: str
    names: tuple[str, ...]
    depth: int = 0  # layers of a meta-learner; 0 is the attention alone
    causal: bool = False
    forward: bool = True  # also forward alone


SHAPE = f"{HEADS} heads of {HEAD_DIM}, {FEATURES} features"
PARTS = {
    "attention": {
        "both_ways": Table(
            f"Attention to all tokens, {SHAPE}", (PERFORMER, PEER, FUSED, BIGBIRD, LINFORMER)
        ),
        "causal": Table(
            f"Causal attention, {SHAPE}", (PERFORMER, PEER, FUSED, BIGBIRD), causal=True
        ),
    },
    "meta": {
        f"meta_{depth}": Table(
            f"A meta-learner over {depth} layers: a training step, {SHAPE}",
            (FUSED, PERFORMER, BIGBIRD, LINFORMER),
            depth,
            forward=False,
        )
        for depth in (1, 2, 4)
    },
}
TABLES = [*(name for tables in PARTS.values() for name in tables), "precision"]


@dataclass(frozen=True)
class Plan:
    """At which lengths each part is measured, and for how many seconds a row (forward: 1/4)."""

    lengths: dict[str, tuple[int, ...]]
    seconds: float
    peaks: bool = True


FULL_PLAN = Plan(
    lengths={
        "attention": tuple(2**k for k in range(8, 14)),
        "meta": tuple(2**k for k in range(8, 12)),  # times 4 layers: 8,192 tokens
    },
    seconds=10.0,
)
QUICK_PLAN = Plan({"attention": (16, 32), "meta": (16, 32)}, seconds=0.05, peaks=False)


@cache
def installed() -> dict[str, str]:
    """The peer, if it is here, and its version."""
    with suppress(PackageNotFoundError):
        return {PEER: version(PEER)}
    return {}


def attention(name: str, tokens: int) -> Attention:
    """One of our attentions for so many tokens."""
    generator = torch.Generator().manual_seed(0)
    if name == FUSED:
        return FullAttention()
    if name == BIGBIRD:
        return BigBirdAttention(tokens, BLOCK, generator=generator)
    if name == LINFORMER:
        torch.manual_seed(0)
        return LinformerAttention(tokens, RANK)
    return PerformerAttention(HEAD_DIM, FEATURES, generator=generator)


def peer_attention(causal: bool, device: str) -> Callable[..., Tensor]:
    """performer-pytorch's functions, on our features, without its epsilon."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports
        from performer_pytorch import performer_pytorch as peer

    projection = attention(PERFORMER, 1).projection.to(device)

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        features = partial(peer.softmax_kernel, projection_matrix=projection, eps=0)
        q, k = features(q, is_query=True), features(k, is_query=False)
        if causal:
            return peer.causal_linear_attention_noncuda(q, k, v, eps=0)
        return peer.linear_attention(q, k, v)

    return call


def prepare(name: str, size: Size, causal: bool, device: str, backward: bool = True) -> Work:
    """An attention's work: its output, or output and gradients of q, k and v."""
    torch.manual_seed(1)
    shape = (3, size["batch"], HEADS, size["tokens"], HEAD_DIM)
    q, k, v, above = (torch.randn(shape[1:]).to(device) for _ in range(4))
    given = [x.requires_grad_(backward) for x in (q, k, v)]
    if name == PEER:
        call = peer_attention(causal, device)
    else:
        layer = attention(name, size["tokens"]).to(device)
        call = partial(layer, group=1 if causal else None)
    return as_work(lambda: call(*given), given, above, backward)


def prepare_meta(name: str, size: Size, depth: int, device: str, backward: bool = True) -> Work:
    """A meta-learner's work: its output, or output and gradient of the layers it reads."""
    torch.manual_seed(1)
    seq = size["tokens"]
    meta = MetaLearner(HIDDEN, HEADS, depth, meta=kind(name, depth), length=seq).to(device)
    depths = torch.randn(size["batch"], seq, depth, HIDDEN).to(device).requires_grad_(backward)
    above = torch.randn(size["batch"], seq, HIDDEN).to(device)
    wanted = [depths, *meta.parameters()]
    return as_work(lambda: meta(depths), wanted, above, backward)


def kind(name: str, depth: int) -> Kind:
    """The same number of tokens in a block at every depth."""
    kinds = {PERFORMER: Performer(FEATURES), LINFORMER: Linformer(RANK), FUSED: Full()}
    return kinds.get(name) or BigBird(max(1, BLOCK // depth))


def as_work(
    call: Callable[[], Tensor], wanted: Sequence[Tensor], above: Tensor, backward: bool
) -> Work:
    def work() -> tuple[Tensor, ...]:
        with value_checks(False), torch.set_grad_enabled(backward):
            y = call()
            return (y.detach(), *torch.autograd.grad(y, wanted, above)) if backward else (y,)

    return work


def work_of(table: Table, name: str, size: Size, device: str, backward: bool = True) -> Work:
    if table.depth:
        return prepare_meta(name, size, table.depth, device, backward)
    return prepare(name, size, table.causal, device, backward)


def step_alone(table_name: str, name: str, size: Size, device: str) -> Work:
    """What the process that measures peak memory runs; a small step loads the libraries before."""
    table = {key: one for tables in PARTS.values() for key, one in tables.items()}[table_name]
    work_of(table, name, {"batch": 1, "tokens": 16}, device)()
    return work_of(table, name, size, device)


def row(table: Table, key: str, size: Size, backward: bool, plan: Plan, device: str) -> dict:
    """One row: the Performers shown equal, all timed, their peak memory measured."""
    absent = {}
    if PEER in table.names and not installed():
        absent[PEER] = f"{PEER} is not installed"
    works = {
        name: work_of(table, name, size, device, backward)
        for name in table.names
        if name not in absent
    }
    same = {name: works[name]() for name in (PERFORMER, PEER) if name in works}
    if len(same) > 1:
        running.assert_same_results(same, TOLERANCE)
    for name, work in works.items():
        if name not in same:
            work()
    seconds = plan.seconds / (1 if backward else 4)
    candidates = running.timed(works, table.names[0], seconds, device)
    del works, same
    for name, one in candidates.items():
        if plan.peaks and backward:
            target = f"{Path(__file__).resolve()}:step_alone"
            one["peak_mib"] = (
                running.peak_memory(target, key, name, size, device, device=device) / 2**20
            )
    made = running.bench_row(size, backward, candidates, absent=absent)
    for name, reason in absent.items():
        print(f"  {name:32}absent: {reason}", flush=True)
    return made


def measure(part: str, plan: Plan, device: str) -> list[dict]:
    """All tables of one part."""
    sizes = tuple({"batch": 1, "tokens": tokens} for tokens in plan.lengths[part])
    made = []
    for key, table in PARTS[part].items():

        def one(table: Table, size: Size, backward: bool, key: str = key) -> dict:
            return row(table, key, size, backward, plan, device)

        grown = partial(growth, table)
        (found,) = running.bench_tables({key: table}, sizes, one, installed(), grown)
        if not table.depth:
            found["verdict"] = verdict(found["rows"])
            print(found["verdict"])
        made.append(found)
    return made


def part_precision(plan: Plan, device: str) -> list[dict]:
    size = {"batch": 1, "tokens": plan.lengths["meta"][-1]}

    def rows() -> list[dict]:
        made = []
        for name in (FUSED, PERFORMER):
            work = prepare_meta(name, size, 4, device, backward=False)
            shown = size | {"features": FEATURES} if name == PERFORMER else size
            made.append(running.precision_row(work, shown, plan.seconds, device))
        return made

    title = "A meta-learner over 4 layers, fused attention and Performer, forward: in fewer bits"
    return running.precision_tables(title, rows, device)


def verdict(rows: list[dict]) -> dict:
    """Where the Performer overtakes fused attention in a training step; worst ratio to the peer.

    The crossover is interpolated between two lengths, on logarithmic axes.
    """
    steps = [r for r in rows if r["pass"] == "forward+backward"]
    ratios = [(r["size"]["tokens"], ratio_of(r, FUSED)) for r in steps]
    found = {"crossover": None, "of_fused_at_longest": round(1 / ratios[-1][1], 3)}
    for (n, before), (m, after) in itertools.pairwise(ratios):
        if before < 1 <= after:
            share = -torch.tensor(before).log() / torch.tensor(after / before).log()
            found["crossover"] = round(n * (m / n) ** share.item())
    against = [1 / ratio_of(r, PEER) for r in rows if PEER in r["candidates"]]
    if against:
        found |= {"worst_of_peer": round(max(against), 3), "limit": LIMIT}
    return found


def ratio_of(one: dict, name: str) -> float:
    """A candidate's time over the Performer's."""
    return one["candidates"][name]["ratio"]["median"]


def growth(table: Table, name: str, rows: list[dict]) -> dict | None:
    """Exponents of time and memory of a training step in the length, beside the predicted ones."""
    rows = [r for r in rows if r["pass"] == "forward+backward" and name in r["candidates"]]
    rows = rows[(len(rows) - 1) // 2 :]  # below, the cost of a call hides that of the work
    if len(rows) < 2:
        return None
    lengths, found = [r["size"]["tokens"] for r in rows], [r["candidates"][name] for r in rows]
    made = {
        "from_tokens": lengths[0],
        "time": running.exponent(lengths, [one["ms"] for one in found]),
        "memory": running.memory_exponent(lengths, [one["peak_mib"] for one in found]),
        "memory_predicted": 1,
    }
    if table.depth:
        work = [
            meta_flops(kind(name, table.depth), n, HIDDEN, heads=HEADS, depth=table.depth)
            for n in lengths
        ]
        return made | {"time_predicted": running.exponent(lengths, work)}
    return made | {"time_predicted": 2 if name == FUSED else 1}


def main(argv: list[str] | None = None) -> None:
    print("peers here:", installed() or "none (see `make parity`)")
    parts = {part: partial(measure, part) for part in PARTS} | {"precision": part_precision}
    running.bench_main("omninet", "OmniNet", (FULL_PLAN, QUICK_PLAN), parts, TABLES, argv)


if __name__ == "__main__":
    main()
