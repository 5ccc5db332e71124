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

import archbook.awake  # noqa: F401  before torch

# isort: split

import argparse
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from archbook.checks import value_checks
from archbook.msa_transformer import ColumnAttention, MSATransformer, TiedRowAttention
from archbook.msa_transformer.checkpoint import renamed
from archbook.timing import (
    STEP,
    Candidates,
    Plan,
    Size,  # rows, columns; batch is 1
    Table,
    Work,
    bench_main,
    exponent,
    exponents,
    installed,
    larger_half,
    precision_tables,
    run_once,
)

HIDDEN, HEADS, FFN, LAYERS, VOCAB = 128, 8, 512, 4, 33
OURS, CHUNKS, PEER = "ours", "ours, recomputed in chunks", "fair-esm"
FUSED, MAP, UNTIED = "fused attention", "map formed", "untied"
UNTIED_MAP, FULL = "untied, maps formed", "all tokens at once, map formed"
NEEDS = {PEER: (PEER,)}
PARTS_OF_ALL = 8  # a chunk holds an eighth of the tokens
MOST_MEMORY = 3 * 2**30  # a candidate that needs more is not run
TOLERANCE = 1e-4  # of float32 outputs and gradients, relative to the largest entry


MODEL, ROW, COLUMN = ({"kind": kind} for kind in ("model", "row", "column"))
WIDTHS = f"hidden {HIDDEN}, {HEADS} heads"
PARTS = {
    "model": {
        "model": Table(
            f"The whole model: {LAYERS} blocks, {WIDTHS}, feed-forward {FFN}",
            (OURS, CHUNKS, PEER),
            case=MODEL,
        ),
    },
    "layers": {
        "row": Table(
            f"One row attention, {WIDTHS}", (OURS, FUSED, MAP, CHUNKS, PEER, UNTIED), case=ROW
        ),
        "column": Table(f"One column attention, {WIDTHS}", (OURS, MAP, CHUNKS, PEER), case=COLUMN),
    },
    "rows": {
        "rows": Table(
            f"A training step of row attention against the number of rows, {WIDTHS}",
            (MAP, PEER, UNTIED_MAP, FULL),
            case=ROW,
            passes=(STEP,),
        ),
    },
}
TABLES = [*(name for tables in PARTS.values() for name in tables), "precision"]
UNLIKE = (UNTIED, UNTIED_MAP, FULL)  # compute something else
# exponents in the number of rows of time, of peak memory and of what the maps hold
PREDICTED = {MAP: (1, 1, 0), PEER: (1, 1, 0), UNTIED_MAP: (1, 1, 1), FULL: (2, 2, 2)}


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
    thorough=False,
)


class FusedRows(TiedRowAttention):
    """Never forms the map: one fused attention with heads of width rows x d."""

    def attend(self, x, mask, need_weights=False, *, chunk=None):
        q, k, v = (self.flat(part) for part in self.split(x))
        y = scaled_dot_product_attention(q, k, v)  # its scale is 1 / sqrt(rows d), the paper's
        return self.out(self.unflat(y, x.shape[2])), None


class AllTokens(ColumnAttention):
    """Ordinary attention over rows x columns tokens: an alignment of one column."""

    def attend(self, x, mask, need_weights=False, *, chunk=None):
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
    here = installed(NEEDS)
    drawn = peer(kind) if here else ours(name, kind)
    redraw(drawn)
    if name == PEER or not here:
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


def prepare(name: str, size: Size, device: str, *, kind: str, backward: bool = True) -> Work:
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
    """Why a candidate cannot run at this size, or None."""
    if name == FULL:  # the scores, their softmax, and the gradients of both
        needed = 4 * 4 * HEADS * (size["rows"] * size["columns"]) ** 2
        if needed > MOST_MEMORY:
            return f"its map needs about {needed / 2**30:.0f} GiB"
    return None


def check(works: dict[str, Work], table: Table, size: Size, *, backward: bool, device: str) -> None:
    run_once(works, [[name for name in works if name not in UNLIKE]], TOLERANCE)


def part_precision(plan: Plan, device: str) -> list[dict]:
    sizes = plan.sizes["model"][-1:]
    passes = ((size, prepare(OURS, size, device, **MODEL, backward=False)) for size in sizes)
    title = "The whole model, forward: in fewer bits"
    return precision_tables(title, passes, plan.seconds["layers"], device=device)


def more(table: str, rows: list[dict]) -> dict:
    """Of the table `rows`, what the maps hold, and how all grows."""
    if table != "rows":
        return {}
    for row in rows:
        for name, one in row["candidates"].items():
            one["maps_mib"] = maps_mib(name, row["size"])
    return {"exponents": {name: growth(name, rows) for name in PARTS["rows"]["rows"].names}}


def growth(name: str, rows: list[dict]) -> dict | None:
    """Exponents of time and memory in the number of rows, fitted, beside the predicted ones."""
    sizes, found = larger_half(name, rows)
    if not sizes:
        return None
    depths = [size["rows"] for size in sizes]
    time, memory, maps = PREDICTED[name]
    return {
        "from_rows": depths[0],
        **exponents(depths, found),
        "time_predicted": time,
        "memory_predicted": memory,
        "maps": exponent(depths, [one["maps_mib"] for one in found]),
        "maps_predicted": maps,
    }


CANDIDATES = Candidates(
    prepare=prepare,
    check=check,
    small={"rows": 4, "columns": 6},
    needs=NEEDS,
    why_absent=why_absent,
    more=more,
)


def main(argv: list[str] | None = None) -> None:
    parts = CANDIDATES.parts(PARTS) | {"precision": part_precision}
    title = "MSA Transformer"
    bench_main(
        "msa_transformer", title, (FULL_PLAN, QUICK_PLAN), parts=parts, tables=TABLES, argv=argv
    )


if __name__ == "__main__":
    main()
