"""The MSA Transformer against fair-esm, and its attentions against their other forms.

`--part model` measures one part and keeps the other tables; `--quick` runs tiny sizes and writes
to .runs/ alone. Measure on a quiet machine: about fifteen minutes on two cores. The peer, fair-esm,
is compared where it is installed (`make parity` makes such an environment), else listed as absent.
The parts, whose tables stand in results/msa_transformer/bench.json (bench_cuda.json on a card):

model   the whole model, forward and a training step's forward+backward, with peak memory
layers  `row` one row attention: ours, its two forms, fair-esm's, untied; `column` one column
        attention
rows    a row attention that forms its maps, against the number of rows: what the maps hold, how
        time and memory grow, beside the exponents of theory; one attention over all tokens as
        the baseline of theory
precision  on a card alone: a pass in float32, TF32 and bfloat16; its launches and longest kernels.

Outputs and gradients are shown equal on copied weights before anything is timed; untied attention
and that over all tokens compute something else, and only their cost is compared. Arithmetic is
float32 without TF32, dropout is zero; checks of values (NaN) are off, as in the training loops.
"""

import os

# Before torch. Threads that sleep between operations wake slowly, which slows down most whoever
# runs many small operations.
os.environ["OMP_WAIT_POLICY"] = "active"
os.environ.pop("GOMP_SPINCOUNT", None)

import argparse
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from archbook import running
from archbook.checks import value_checks
from archbook.msa_transformer import ColumnAttention, MSATransformer, TiedRowAttention
from archbook.msa_transformer.checkpoint import renamed

Size = dict[str, int]  # rows, columns; batch is 1
Work = Callable[[], tuple[Tensor, ...]]

HIDDEN, HEADS, FFN, LAYERS, VOCAB = 128, 8, 512, 4, 33
OURS, CHUNKS, PEER = "ours", "ours, recomputed in chunks", "fair-esm"
FUSED, MAP, UNTIED = "fused attention", "map formed", "untied"
UNTIED_MAP, FULL = "untied, maps formed", "all tokens at once, map formed"
PARTS_OF_ALL = 8  # a chunk holds an eighth of the tokens
MOST_MEMORY = 3 * 2**30  # a candidate that needs more is not run
TOLERANCE = 1e-4  # of float32 outputs and gradients, relative to the largest entry


@dataclass(frozen=True)
class Table:
    """What one table compares; its first candidate is the baseline."""

    title: str
    names: tuple[str, ...]
    kind: str  # model, row or column
    forward: bool = True  # also forward alone


WIDTHS = f"hidden {HIDDEN}, {HEADS} heads"
PARTS = {
    "model": {
        "model": Table(
            f"The whole model: {LAYERS} blocks, {WIDTHS}, feed-forward {FFN}",
            (OURS, CHUNKS, PEER),
            "model",
        ),
    },
    "layers": {
        "row": Table(
            f"One row attention, {WIDTHS}", (OURS, FUSED, MAP, CHUNKS, PEER, UNTIED), "row"
        ),
        "column": Table(f"One column attention, {WIDTHS}", (OURS, MAP, CHUNKS, PEER), "column"),
    },
    "rows": {
        "rows": Table(
            f"A training step of row attention against the number of rows, {WIDTHS}",
            (MAP, PEER, UNTIED_MAP, FULL),
            "row",
            forward=False,
        ),
    },
}
TABLES = [*(name for tables in PARTS.values() for name in tables), "precision"]
UNLIKE = (UNTIED, UNTIED_MAP, FULL)  # compute something else
# exponents in the number of rows of time, of peak memory and of what the maps hold
PREDICTED = {MAP: (1, 1, 0), PEER: (1, 1, 0), UNTIED_MAP: (1, 1, 1), FULL: (2, 2, 2)}


@dataclass(frozen=True)
class Plan:
    """At which sizes each part is measured, and for about how many seconds a row (forward: 1/4)."""

    sizes: dict[str, tuple[Size, ...]]
    seconds: dict[str, float]
    peaks: bool = True


SIZES = tuple({"rows": rows, "columns": 2 * rows} for rows in (32, 64, 128))
FULL_PLAN = Plan(
    sizes={
        "model": SIZES,
        "layers": SIZES,
        "rows": tuple({"rows": 2**p, "columns": 48} for p in range(2, 10)),
    },
    seconds={"model": 40.0, "layers": 10.0, "rows": 5.0},
)
QUICK_PLAN = Plan(
    sizes={
        "model": ({"rows": 4, "columns": 6},),
        "layers": ({"rows": 4, "columns": 6},),
        "rows": ({"rows": 4, "columns": 6}, {"rows": 8, "columns": 6}),
    },
    seconds=dict.fromkeys(PARTS, 0.1),
    peaks=False,
)


@cache
def installed() -> dict[str, str]:
    """The peer, if it is here, and its version."""
    with suppress(PackageNotFoundError):
        return {"fair-esm": version("fair-esm")}
    return {}


class FusedRows(TiedRowAttention):
    """Never forms the map: one fused attention with heads of width rows x d."""

    def attend(self, x, mask, need_weights=False, chunk=None):
        q, k, v = (self.flat(part) for part in self.split(x))
        y = scaled_dot_product_attention(q, k, v)  # its scale is 1 / sqrt(rows d), the paper's
        return self.out(self.unflat(y, x.shape[2])), None


class AllTokens(ColumnAttention):
    """Ordinary attention over rows x columns tokens: an alignment of one column."""

    def attend(self, x, mask, need_weights=False, chunk=None):
        y, weights = super().attend(x.flatten(1, 2)[:, None], mask, need_weights, chunk=chunk)
        return y.unflatten(2, x.shape[1:3])[:, 0], weights


def peer(kind: str) -> nn.Module:
    """fair-esm's model or layer, without dropout."""
    if kind != "model":
        from esm.axial_attention import ColumnSelfAttention, RowSelfAttention

        return {"row": RowSelfAttention, "column": ColumnSelfAttention}[kind](HIDDEN, HEADS)
    from esm.data import Alphabet
    from esm.model.msa_transformer import MSATransformer as Peer

    dropouts = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), 0.0)
    arguments = argparse.Namespace(
        layers=LAYERS,
        embed_dim=HIDDEN,
        ffn_embed_dim=FFN,
        attention_heads=HEADS,
        max_tokens=2**14,  # its default: with more tokens it works in chunks, forward only
        max_positions=1024,
        embed_positions_msa=True,
        embed_positions_msa_dim=HIDDEN,
        **dropouts,
    )
    return Peer(arguments, Alphabet.from_architecture("msa_transformer"))


def ours(name: str, kind: str) -> nn.Module:
    """One of our candidates, without dropout."""
    if kind == "model":
        dropouts = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), 0.0)
        return MSATransformer(VOCAB, LAYERS, HIDDEN, heads=HEADS, ffn=FFN, **dropouts)
    if kind == "column":
        return ColumnAttention(HIDDEN, HEADS)
    if name in (UNTIED, UNTIED_MAP):
        return TiedRowAttention(HIDDEN, HEADS, tie="none")
    return {FUSED: FusedRows, FULL: AllTokens}.get(name, TiedRowAttention)(HIDDEN, HEADS)


def our_names(weights: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """fair-esm's weights, or their gradients, under our names."""
    if kind != "model":
        block = f"layers.0.{kind}_self_attention.layer."
        found = renamed({block + key: value for key, value in weights.items()})
        return {key.removeprefix(f"blocks.0.{kind}."): value for key, value in found.items()}
    weights = dict(weights)
    columns = weights.pop("embed_positions.weight")[2:]  # the first two rows stand for padding
    rows = weights.pop("msa_position_embedding")[0, :, 0]
    return renamed(weights) | {"column_positions": columns, "row_positions": rows}


def redraw(model: nn.Module) -> None:
    """Weights of order one, so that attention is far from uniform and every error is seen."""
    torch.manual_seed(2)
    for weight in model.parameters():
        nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)


def network(name: str, kind: str) -> nn.Module:
    """A candidate; all hold the weights of the peer, where that is installed."""
    torch.manual_seed(0)
    drawn = peer(kind) if installed() else ours(name, kind)
    redraw(drawn)
    if name == PEER or not installed():
        return drawn
    model = ours(name, kind)
    model.load_state_dict(our_names(drawn.state_dict(), kind))
    return model


def inputs(size: Size, kind: str, device: str) -> Tensor:
    """Tokens (1, rows, columns) with a start token, or hidden states with a last axis; columns lie
    first in memory, as inside our network."""
    torch.manual_seed(1)
    rows, columns = size["rows"], size["columns"]
    if kind != "model":
        return torch.randn(1, columns, rows, HIDDEN).to(device).transpose(1, 2)
    tokens = torch.randint(4, 31, (1, rows, columns))
    tokens[..., 0] = 0
    return tokens.to(device)


def prepare(name: str, size: Size, kind: str, device: str, backward: bool = True) -> Work:
    """A candidate's work: the output, and with backward the gradients of all weights by our names.

    A layer's input has a gradient, too, which comes last.
    """
    model, x = network(name, kind).to(device), inputs(size, kind, device)
    weights = {n: w for n, w in model.named_parameters() if "contact_head" not in n}
    chunk = None
    if name == CHUNKS:
        chunk = max(1, size["rows"] * size["columns"] // PARTS_OF_ALL)
    need_weights = name in (MAP, UNTIED_MAP, FULL)
    if kind != "model":
        if name == PEER:  # rows, columns, batch, hidden
            x = x.permute(1, 2, 0, 3).contiguous()
        x.requires_grad_(backward)

    def forward() -> Tensor:
        if kind == "model":
            return model(x)["logits"] if name == PEER else model(x, chunk=chunk).logits
        if name == PEER:
            return model(x)[0].permute(2, 0, 1, 3)
        return model(x, need_weights=need_weights, chunk=chunk)[0]

    def work() -> tuple[Tensor, ...]:
        with value_checks(False), torch.set_grad_enabled(backward):
            y = forward()
            if not backward:
                return (y,)
            wanted = [*weights.values()] + ([x] if kind != "model" else [])
            found = torch.autograd.grad(y.square().mean(), wanted)
            by_name = dict(zip(weights, found, strict=False))
            if name == PEER:
                by_name = our_names(by_name, kind)
            rest = [g.permute(2, 0, 1, 3) if name == PEER else g for g in found[len(weights) :]]
            return y.detach(), *(by_name[key] for key in sorted(by_name)), *rest

    return work


def step_alone(name: str, size: Size, kind: str, device: str) -> Work:
    """What the process that measures peak memory runs; a small step loads the libraries before."""
    prepare(name, {"rows": 4, "columns": 6}, kind, device)()
    return prepare(name, size, kind, device)


def maps_mib(name: str, size: Size) -> float:
    """MiB of attention maps that one row attention keeps for its backward pass."""
    model, x = network(name, "row"), inputs(size, "row", "cpu")
    keys = size["columns"] * (size["rows"] if name == FULL else 1)
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        if value.ndim > 2 and value.shape[-2:] == (keys, keys):
            kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        if name == PEER:
            held = model(x.permute(1, 2, 0, 3))
        else:
            held = model(x, need_weights=True)
    del held
    return sum(kept.values()) / 2**20


def why_absent(name: str, size: Size) -> str | None:
    """Why a candidate cannot run here, or None."""
    if name == PEER and not installed():
        return "fair-esm is not installed"
    if name == FULL:  # the scores, their softmax, and the gradients of both
        needed = 4 * 4 * HEADS * (size["rows"] * size["columns"]) ** 2
        if needed > MOST_MEMORY:
            return f"its map needs about {needed / 2**30:.0f} GiB"
    return None


def row(table: Table, size: Size, backward: bool, plan: Plan, part: str, device: str) -> dict:
    """One row: candidates shown equal, timed, their peak memory measured."""
    absent = {name: reason for name in table.names if (reason := why_absent(name, size))}
    names = [name for name in table.names if name not in absent]
    works = {name: prepare(name, size, table.kind, device, backward) for name in names}
    results = {name: work() for name, work in works.items()}
    same = {name: found for name, found in results.items() if name not in UNLIKE}
    running.assert_same_results(same, TOLERANCE)
    del results, same  # the rounds and the processes below need the memory
    seconds = plan.seconds[part] / (1 if backward else 4)
    candidates = running.timed(works, table.names[0], seconds, device)
    del works
    for name, one in candidates.items():
        if plan.peaks and backward:
            target = f"{Path(__file__).resolve()}:step_alone"
            one["peak_mib"] = (
                running.peak_memory(target, name, size, table.kind, device, device=device) / 2**20
            )
        if part == "rows":
            one["maps_mib"] = maps_mib(name, size)
    made = running.bench_row(size, backward, candidates, absent=absent)
    for name, reason in absent.items():
        print(f"  {name:32}absent: {reason}", flush=True)
    return made


def measure(part: str, plan: Plan, device: str) -> list[dict]:
    """All tables of one part."""

    def one(table: Table, size: Size, backward: bool) -> dict:
        return row(table, size, backward, plan, part, device)

    growths = growth if part == "rows" else None
    return running.bench_tables(PARTS[part], plan.sizes[part], one, installed(), growths)


def part_precision(plan: Plan, device: str) -> list[dict]:
    size = plan.sizes["model"][-1]

    def rows() -> list[dict]:
        work = prepare(OURS, size, "model", device, backward=False)
        return [running.precision_row(work, size, plan.seconds["layers"], device)]

    return running.precision_tables("The whole model, forward: in fewer bits", rows, device)


def growth(name: str, rows: list[dict]) -> dict | None:
    """Exponents of time and memory in the number of rows, fitted, beside the predicted ones."""
    rows = [r for r in rows if name in r["candidates"]]
    rows = rows[(len(rows) - 1) // 2 :]  # below, the cost of a call hides that of the work
    if len(rows) < 2:
        return None
    depths, found = [r["size"]["rows"] for r in rows], [r["candidates"][name] for r in rows]
    time, memory, maps = PREDICTED[name]
    return {
        "from_rows": depths[0],
        "time": running.exponent(depths, [one["ms"] for one in found]),
        "time_predicted": time,
        "memory": running.memory_exponent(depths, [one["peak_mib"] for one in found]),
        "memory_predicted": memory,
        "maps": running.exponent(depths, [one["maps_mib"] for one in found]),
        "maps_predicted": maps,
    }


def main(argv: list[str] | None = None) -> None:
    print("peers here:", installed() or "none (see `make parity`)")
    parts = {part: partial(measure, part) for part in PARTS} | {"precision": part_precision}
    running.bench_main(
        "msa_transformer", "MSA Transformer", (FULL_PLAN, QUICK_PLAN), parts, TABLES, argv
    )


if __name__ == "__main__":
    main()
