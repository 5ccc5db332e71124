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

import archbook.awake  # noqa: F401  before torch

# isort: split

import itertools
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

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
from archbook.timing import (
    STEP,
    Candidates,
    Plan,
    Size,  # batch, tokens
    Table,
    Work,
    bench_main,
    exponent,
    exponents,
    larger_half,
    precision_tables,
    run_once,
)

HEADS, HEAD_DIM = 4, 32
HIDDEN = HEADS * HEAD_DIM
FEATURES = 110  # d_h ln d_h, the peer's own choice
RANK, BLOCK = 32, 64  # of Linformer, and tokens in a block of BigBird
PERFORMER, PEER, FUSED = "Performer", "performer-pytorch", "fused attention"
BIGBIRD, LINFORMER = "BigBird", "Linformer"
NEEDS = {PEER: (PEER,)}
TOLERANCE = 1e-3  # of float32 outputs and gradients, relative to the largest entry
LIMIT = 1.05  # of the peer's time


SHAPE = f"{HEADS} heads of {HEAD_DIM}, {FEATURES} features"
PARTS = {
    "attention": {
        "both_ways": Table(
            f"Attention to all tokens, {SHAPE}", (PERFORMER, PEER, FUSED, BIGBIRD, LINFORMER)
        ),
        "causal": Table(
            f"Causal attention, {SHAPE}", (PERFORMER, PEER, FUSED, BIGBIRD), case={"causal": True}
        ),
    },
    "meta": {
        f"meta_{depth}": Table(
            f"A meta-learner over {depth} layers: a training step, {SHAPE}",
            (FUSED, PERFORMER, BIGBIRD, LINFORMER),
            case={"depth": depth},
            passes=(STEP,),
        )
        for depth in (1, 2, 4)
    },
}
TABLES = [*(name for tables in PARTS.values() for name in tables), "precision"]


def lengths(*tokens: int) -> tuple[Size, ...]:
    return tuple({"batch": 1, "tokens": number} for number in tokens)


FULL_PLAN = Plan(
    sizes={
        "attention": lengths(*(2**k for k in range(8, 14))),
        "meta": lengths(*(2**k for k in range(8, 12))),  # times 4 layers: 8,192 tokens
    },
    seconds=dict.fromkeys(PARTS, 10.0),
)
QUICK_PLAN = Plan(
    sizes=dict.fromkeys(PARTS, lengths(16, 32)),
    seconds=dict.fromkeys(PARTS, 0.05),
    thorough=False,
)


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


def prepare(
    name: str,
    size: Size,
    device: str,
    *,
    causal: bool = False,
    depth: int = 0,
    backward: bool = True,
) -> Work:
    """The work of an attention, or of a meta-learner over `depth` layers."""
    if depth:
        return prepare_meta(name, size, depth, device=device, backward=backward)
    return prepare_attention(name, size, causal, device=device, backward=backward)


def prepare_attention(name: str, size: Size, causal: bool, *, device: str, backward: bool) -> Work:
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
    return as_work(lambda: call(*given), given, above, backward=backward)


def prepare_meta(name: str, size: Size, depth: int, *, device: str, backward: bool) -> Work:
    """A meta-learner's work: its output, or output and gradient of the layers it reads."""
    torch.manual_seed(1)
    seq = size["tokens"]
    meta = MetaLearner(HIDDEN, HEADS, depth, meta=kind(name, depth), length=seq).to(device)
    depths = torch.randn(size["batch"], seq, depth, HIDDEN).to(device).requires_grad_(backward)
    above = torch.randn(size["batch"], seq, HIDDEN).to(device)
    wanted = [depths, *meta.parameters()]
    return as_work(lambda: meta(depths), wanted, above, backward=backward)


def kind(name: str, depth: int) -> Kind:
    """The same number of tokens in a block at every depth."""
    kinds = {PERFORMER: Performer(FEATURES), LINFORMER: Linformer(RANK), FUSED: Full()}
    return kinds.get(name) or BigBird(max(1, BLOCK // depth))


def as_work(
    call: Callable[[], Tensor], wanted: Sequence[Tensor], above: Tensor, *, backward: bool
) -> Work:
    def work() -> tuple[Tensor, ...]:
        with value_checks(False), torch.set_grad_enabled(backward):
            y = call()
            return (y.detach(), *torch.autograd.grad(y, wanted, above)) if backward else (y,)

    return work


def check(works: dict[str, Work], table: Table, size: Size, *, backward: bool, device: str) -> None:
    run_once(works, [(PERFORMER, PEER)], TOLERANCE)


def part_precision(plan: Plan, device: str) -> list[dict]:
    size = plan.sizes["meta"][-1]
    shown = {FUSED: size, PERFORMER: size | {"features": FEATURES}}
    passes = ((shown[name], prepare(name, size, device, depth=4, backward=False)) for name in shown)
    title = "A meta-learner over 4 layers, fused attention and Performer, forward: in fewer bits"
    return precision_tables(title, passes, plan.seconds["meta"], device=device)


def more(table: str, rows: list[dict]) -> dict:
    one = next(tables[table] for tables in PARTS.values() if table in tables)
    depth = one.case.get("depth", 0)
    found: dict = {"exponents": {name: growth(name, rows, depth) for name in one.names}}
    return found if depth else found | {"verdict": verdict(rows)}


def verdict(rows: list[dict]) -> dict:
    """Where the Performer overtakes fused attention in a training step; worst ratio to the peer.

    The crossover is interpolated between two lengths, on logarithmic axes.
    """
    steps = [r for r in rows if r["pass"] == STEP]
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


def growth(name: str, rows: list[dict], depth: int) -> dict | None:
    """Exponents of time and memory of a training step in the length, beside the predicted ones."""
    sizes, found = larger_half(name, [row for row in rows if row["pass"] == STEP])
    if not sizes:
        return None
    lengths = [size["tokens"] for size in sizes]
    time = 2 if name == FUSED else 1
    if depth:
        work = [meta_flops(kind(name, depth), n, HIDDEN, heads=HEADS, depth=depth) for n in lengths]
        time = exponent(lengths, work)
    predicted = {"time_predicted": time, "memory_predicted": 1}
    return {"from_tokens": lengths[0]} | exponents(lengths, found) | predicted


CANDIDATES = Candidates(
    prepare=prepare,
    check=check,
    small={"tokens": 16},
    needs=NEEDS,
    more=more,
)


def main(argv: list[str] | None = None) -> None:
    parts = CANDIDATES.parts(PARTS) | {"precision": part_precision}
    title = "OmniNet"
    bench_main("omninet", title, (FULL_PLAN, QUICK_PLAN), parts=parts, tables=TABLES, argv=argv)


if __name__ == "__main__":
    main()
