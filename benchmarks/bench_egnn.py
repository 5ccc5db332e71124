"""EGNN: the book's two forms against an official-style edge list and against libraries.

`--part sparse` measures one part and keeps the other tables; `--quick` runs tiny sizes and writes
to .runs/ alone. Measure on a quiet machine: about eight minutes on two cores. Peers are compared
where they are installed (`make parity` makes such an environment); the others are listed as absent.
The parts, whose tables stand in results/egnn/bench.json (bench_cuda.json on a card):

dense   many small complete graphs: `dense` at the paper's widths, `dense_wide` at those that
        egnn-pytorch hard-wires, `order1` one layer beside a tensor-field layer of order at most 1
sparse  one large graph, `k` incoming edges a node: `sparse` and `sparse_wide`, likewise
size    how time and peak memory grow with the number of nodes, beside the exponents of theory
precision  on a card alone: a pass in float32, TF32 and bfloat16; its launches and longest kernels.

Outputs and gradients are shown equal on copied weights before anything is timed; the tensor-field
layer computes something else, and only its cost is compared. Arithmetic is float32 without TF32;
checks of values (NaN) are off, as in the training loops.
"""

import archbook.awake  # noqa: F401  before torch

# isort: split

from collections.abc import Callable, Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from archbook.checks import value_checks
from archbook.egnn import EGCL, EGNN, complete_edges, nearest_edges
from archbook.timing import (
    STEP,
    Candidates,
    Plan,
    Size,  # graphs, nodes of each, layers; k, where the graph is not complete
    Table,
    Work,
    assert_same_results,
    bench_main,
    exponents,
    larger_half,
    precision_tables,
    run_once,
)

WIDTH, LAYERS = 64, 4
DENSE, EDGES, SEARCHED = "dense", "edge list", "edge list, neighbours searched"
OFFICIAL, PYG = "official style", "torch_geometric"
PEER, PEER_AS_IS = "egnn-pytorch", "egnn-pytorch, its own widths"
PEER_SPARSE = "egnn-pytorch, EGNN_Sparse"
FULL, CHANNELS = "e3nn, fully connected", "e3nn, channel by channel"
TENSOR_FIELDS = (FULL, CHANNELS)
DENSE_FORMS = (DENSE, PEER, PEER_AS_IS)  # take (graphs, nodes, features)
NEEDS = {
    PYG: ("torch-geometric",),
    PEER: ("egnn-pytorch",),
    PEER_AS_IS: ("egnn-pytorch",),
    PEER_SPARSE: ("egnn-pytorch", "torch-geometric"),
    FULL: ("e3nn",),
    CHANNELS: ("e3nn",),
}
PEER_BYTES = 80  # of egnn-pytorch, a pair of nodes and a layer, in a training step: measured
MOST_MEMORY = 4 * 2**30  # a candidate that needs more is not run: its step takes long, too
TOLERANCE = 1e-4  # of float32 outputs and gradients, relative to the largest entry
MOVES = {"dense": 1e-3, "sparse": 1e-9}  # the scale of what moves positions: see `redraw`


WIDE = {"wide": True}  # at the widths of egnn-pytorch
DEEP = {"layers": LAYERS}
SMALL_GRAPHS, LARGE_GRAPH = "Many small complete graphs", "One graph of k neighbours a node"
PARTS = {
    "dense": {
        "dense": Table(
            f"{SMALL_GRAPHS}, the paper's widths",
            (DENSE, EDGES, OFFICIAL, PYG, PEER, PEER_AS_IS),
            size=DEEP,
            peaks=False,
        ),
        "dense_wide": Table(
            f"{SMALL_GRAPHS}, everyone at the wider layers of egnn-pytorch",
            (DENSE, EDGES, PEER),
            case=WIDE,
            size=DEEP,
            peaks=False,
        ),
        "order1": Table(
            f"{SMALL_GRAPHS}: one layer beside one tensor-field layer of orders 0 and 1",
            (DENSE, EDGES, *TENSOR_FIELDS),
            size={"layers": 1},
        ),
    },
    "sparse": {
        "sparse": Table(
            f"{LARGE_GRAPH}, the paper's widths",
            (EDGES, SEARCHED, OFFICIAL, PYG, PEER, PEER_AS_IS),
            size=DEEP,
        ),
        "sparse_wide": Table(
            f"{LARGE_GRAPH}, everyone at the wider layers of egnn-pytorch",
            (EDGES, PEER_SPARSE, PEER),
            case=WIDE,
            size=DEEP,
        ),
    },
    "size": {
        "size": Table(
            "A training step against the number of nodes, k neighbours each, the paper's widths",
            (EDGES, SEARCHED, PEER),
            size=DEEP,
            passes=(STEP,),
        ),
    },
}
TABLES = [*(name for tables in PARTS.values() for name in tables), "precision"]
# exponents of time and memory in the number of nodes, where that is large
PREDICTED = {EDGES: (1, 1), SEARCHED: (2, 1), PEER: (2, 2)}


FULL_PLAN = Plan(
    sizes={
        "dense": ({"graphs": 100, "nodes": 5}, {"graphs": 32, "nodes": 20}),
        "sparse": ({"nodes": 1_000, "k": 8}, {"nodes": 10_000, "k": 8}),
        "size": tuple({"nodes": 2**p, "k": 8} for p in range(8, 15)),
    },
    seconds={"dense": 10.0, "sparse": 15.0, "size": 8.0},
)
QUICK_PLAN = Plan(
    sizes={
        "dense": ({"graphs": 3, "nodes": 4},),
        "sparse": ({"nodes": 40, "k": 4},),
        "size": ({"nodes": 32, "k": 4}, {"nodes": 64, "k": 4}),
    },
    seconds=dict.fromkeys(PARTS, 0.1),
    thorough=False,
)


def perceptrons() -> tuple[nn.Module, nn.Module, nn.Module]:
    """phi_e, phi_x and phi_h of a fresh layer of the book."""
    layer = EGCL(WIDTH)
    assert layer.phi_x is not None
    return layer.phi_e, layer.phi_x, layer.phi_h


class OfficialStyle(nn.Module):
    """Eqs. 3 to 6 on an edge list, written as they stand, in the manner of the authors' code:
    a concatenation on every edge, advanced indexing, neighbours counted in every layer."""

    def __init__(self):
        super().__init__()
        self.phi_e, self.phi_x, self.phi_h = perceptrons()

    def forward(self, h: Tensor, x: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        sender, receiver = edges
        difference = x[receiver] - x[sender]
        square = difference.square().sum(1, keepdim=True)
        m = self.phi_e(torch.cat([h[receiver], h[sender], square], 1))
        shift = difference * self.phi_x(m)
        total = torch.zeros_like(x).index_add(0, receiver, shift)
        neighbours = torch.zeros_like(x).index_add(0, receiver, torch.ones_like(shift))
        m_i = m.new_zeros(len(h), m.shape[1]).index_add(0, receiver, m)
        return h + self.phi_h(torch.cat([h, m_i], 1)), x + total / neighbours.clamp(min=1)


def message_passing() -> nn.Module:
    """The layer as users of torch_geometric write one."""
    from torch_geometric.nn import MessagePassing
    from torch_geometric.utils import scatter

    class Layer(MessagePassing):
        def __init__(self):
            super().__init__(aggr=None)
            self.phi_e, self.phi_x, self.phi_h = perceptrons()

        def forward(self, h, x, edges):
            m_i, shift = self.propagate(edges, h=h, x=x)
            return h + self.phi_h(torch.cat([h, m_i], -1)), x + shift

        def message(self, h_i, h_j, x_i, x_j):
            difference = x_i - x_j
            square = difference.square().sum(-1, keepdim=True)
            m = self.phi_e(torch.cat([h_i, h_j, square], -1))
            return m, difference * self.phi_x(m)

        def aggregate(self, inputs, index, dim_size):
            m, shift = inputs
            shift = scatter(shift, index, dim_size=dim_size, reduce="mean")
            return scatter(m, index, dim_size=dim_size, reduce="sum"), shift

    return Layer()


def tensor_field(name: str) -> nn.Module:
    """A tensor-field layer with `WIDTH` scalars and as many vectors a node (orders 0 and 1).

    Fully connected: every output channel hears every input channel, with a weight of its own on
    every edge, so 4 WIDTH^2 weights an edge. Channel by channel: each hears itself, 4 WIDTH weights
    an edge, and a linear map of the nodes mixes them: what today's users of e3nn write.
    """
    from e3nn import o3
    from e3nn.math import soft_one_hot_linspace
    from e3nn.nn import FullyConnectedNet

    inputs, basis = o3.Irreps(f"{WIDTH}x0e + {WIDTH}x1o"), 8
    harmonics = o3.Irreps.spherical_harmonics(1)

    def product_of(name: str):
        if name == FULL:
            return o3.FullyConnectedTensorProduct(inputs, harmonics, inputs, shared_weights=False)
        between = o3.Irreps(f"{WIDTH}x0e + {WIDTH}x0e + {WIDTH}x1o + {WIDTH}x1o")
        paths = [(0, 0, 0), (1, 1, 1), (0, 1, 2), (1, 0, 3)]  # input, harmonic, output
        paths = [(*path, "uvu", True) for path in paths]
        options = {"shared_weights": False, "internal_weights": False}
        return o3.TensorProduct(inputs, harmonics, between, paths, **options)

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.product = product_of(name)
            sizes = [basis, WIDTH, self.product.weight_numel]
            self.radial = FullyConnectedNet(sizes, nn.functional.silu)
            self.mix = o3.Linear(self.product.irreps_out, inputs)
            self.keep = o3.Linear(inputs, inputs)

        def forward(self, h, x, edges):
            sender, receiver = edges
            if h.shape[1] == WIDTH:  # the first layer: no vectors yet
                h = torch.cat([h, h.new_zeros(len(h), 3 * WIDTH)], 1)
            difference = x.index_select(0, receiver) - x.index_select(0, sender)
            Y = o3.spherical_harmonics(harmonics, difference, True, "component")
            distance = difference.square().sum(1).sqrt()
            radial = soft_one_hot_linspace(distance, 0.0, 5.0, basis, "gaussian", False)
            m = self.product(h.index_select(0, sender), Y, self.radial(radial))
            m_i = m.new_zeros(len(h), m.shape[1]).index_add(0, receiver, m)
            return self.keep(h) + self.mix(m_i), x

    return Layer()


class Network(nn.Module):
    """Layers of a peer behind the embedding that EGNN has; `call` applies one of them."""

    def __init__(self, layers: Iterable[nn.Module], call: Callable):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.embed = nn.Linear(1, WIDTH)
        self.call = call

    def forward(self, h: Tensor, x: Tensor, edges: Tensor | None) -> tuple[Tensor, Tensor]:
        h = self.embed(h)
        for layer in self.layers:
            h, x = self.call(layer, h, x, edges)
        return h, x


def widen(layer: EGCL) -> None:
    """Give the layer the widths that egnn-pytorch hard-wires, and its bias in phi_x."""
    inputs = 2 * WIDTH + 1
    layer.phi_e = two_layers(inputs, 2 * inputs, WIDTH).append(nn.SiLU())
    layer.phi_x = two_layers(WIDTH, 4 * WIDTH, 1)
    layer.phi_h = two_layers(2 * WIDTH, 2 * WIDTH, WIDTH)


def two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


def peer_layer(wide: bool, k: int) -> nn.Module:
    """egnn-pytorch's dense layer; at the paper's widths its perceptrons are replaced.

    It counts a node among its own neighbours: with k it takes the node and the k - 1 nearest.
    """
    from egnn_pytorch import EGNN as Peer

    layer = Peer(WIDTH, m_dim=WIDTH, num_nearest_neighbors=k)
    if not wide:
        layer.edge_mlp, layer.coors_mlp, layer.node_mlp = perceptrons()
    return layer


def call_sparse(layer: nn.Module, h: Tensor, x: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    both = layer(torch.cat([x, h], 1), edges.flip(0))
    return both[:, 3:], both[:, :3]


MADE_HERE = {
    OFFICIAL: OfficialStyle,
    PYG: message_passing,
    FULL: lambda: tensor_field(FULL),
    CHANNELS: lambda: tensor_field(CHANNELS),
}


def network(name: str, size: Size, wide: bool, aggregation: str = "mean") -> nn.Module:
    """A candidate with fresh weights: (h, x, edges) -> (h, x); dense forms take no edges."""
    layers = range(size["layers"])
    if name in (PEER, PEER_AS_IS):
        own_widths = wide or name == PEER_AS_IS
        made = (peer_layer(own_widths, size.get("k", 0)) for _ in layers)
        return Network(made, lambda layer, h, x, _: layer(h, x))
    if name == PEER_SPARSE:
        from egnn_pytorch import EGNN_Sparse

        # where edges run from source to target, it moves every node the other way
        made = (EGNN_Sparse(WIDTH, m_dim=WIDTH, flow="target_to_source") for _ in layers)
        return Network(made, call_sparse)
    if name in MADE_HERE:
        return Network((MADE_HERE[name]() for _ in layers), lambda layer, *given: layer(*given))
    ours = EGNN(1, WIDTH, size["layers"], aggregation=aggregation)
    if wide:
        for layer in ours.layers:
            widen(cast(EGCL, layer))
    return ours


def our_name(name: str) -> str:
    """The name under which EGNN keeps a weight of egnn-pytorch; other names stay."""
    name = name.replace("mlp.3.", "mlp.2.")  # theirs has room for a dropout
    for theirs, ours in {"edge_mlp": "phi_e", "coors_mlp": "phi_x", "node_mlp": "phi_h"}.items():
        name = name.replace(theirs, ours)
    return name


def redraw(weights: Mapping[str, Tensor], step: float) -> None:
    """The same weights for every candidate, of order one; `step` scales what moves positions.

    egnn-pytorch searches the neighbours anew in every layer, so that its graph stays that of the
    edge list only where positions stand still. Everything is computed all the same, and the
    gradients of phi_x are as precise as the others.
    """
    torch.manual_seed(2)
    for name, weight in weights.items():
        scale = step if "phi_x.2" in name else weight.shape[-1] ** -0.5
        nn.init.normal_(weight, std=scale)


def graphs(size: Size, device: str, with_self: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(h, x, edges), the nodes of all graphs one after another: the same for every candidate."""
    torch.manual_seed(1)
    nodes = size.get("graphs", 1) * size["nodes"]
    h, x = torch.randn(nodes, 1).to(device), torch.randn(nodes, 3).to(device)
    if "k" in size:
        edges = nearest_edges(x, size["k"] - with_self)
    else:
        edges = complete_edges([size["nodes"]] * size["graphs"], device)
    if with_self:
        loops = torch.arange(nodes, device=device).expand(2, -1)
        edges = torch.cat([edges, loops], 1)
    return h, x, edges


def prepare(
    name: str,
    size: Size,
    device: str,
    *,
    wide: bool = False,
    backward: bool = True,
    as_peer: bool = False,
) -> Work:
    """A candidate's work: h and x, and with backward the gradients of all weights by our names.

    `as_peer`: on the edges of egnn-pytorch, which counts a node among its own neighbours, and with
    its sum over them; at its own widths candidates always sum.
    """
    torch.manual_seed(0)
    model = network(name, size, wide, "sum" if wide or as_peer else "mean").to(device)
    weights = {our_name(n): weight for n, weight in model.named_parameters()}
    weights = dict(sorted(weights.items()))
    if name not in TENSOR_FIELDS:
        redraw(weights, MOVES["sparse" if "k" in size else "dense"])
    h, x, edges = graphs(size, device, as_peer)
    if name in DENSE_FORMS:
        h, x = (value.unflatten(0, (size.get("graphs", 1), -1)) for value in (h, x))
        edges = None

    def work() -> tuple[Tensor, ...]:
        with value_checks(False), torch.set_grad_enabled(backward):
            h_out, x_out = model(h, x, nearest_edges(x, size["k"]) if name == SEARCHED else edges)
            outputs = tuple(out.detach().flatten(0, -2) for out in (h_out, x_out))
            if not backward:
                return outputs
            loss = h_out.square().mean() + x_out.square().mean()
            return *outputs, *torch.autograd.grad(loss, tuple(weights.values()))

    return work


def why_absent(name: str, size: Size) -> str | None:
    """Why a candidate cannot run at this size, or None."""
    if name in (PEER, PEER_AS_IS):
        needed = PEER_BYTES * size["layers"] * size.get("graphs", 1) * size["nodes"] ** 2
        if needed > MOST_MEMORY:
            return f"it holds all pairs of nodes, here about {needed / 2**30:.0f} GiB"
    return None


def check(works: dict[str, Work], table: Table, size: Size, *, backward: bool, device: str) -> None:
    """Who computes the same is shown equal; egnn-pytorch to our edge list on its own edges."""
    apart = (PEER, PEER_AS_IS, *TENSOR_FIELDS)
    run_once(works, [[name for name in works if name not in apart]], TOLERANCE)
    if PEER in works:
        ours = prepare(EDGES, size, device, **table.case, backward=backward, as_peer=True)
        assert_same_results({EDGES: ours(), PEER: works[PEER]()}, TOLERANCE)


def part_precision(plan: Plan, device: str) -> list[dict]:
    sizes = (plan.sizes["dense"][0] | DEEP, plan.sizes["sparse"][-1] | DEEP)
    passes = ((size, prepare(EDGES, size, device, backward=False)) for size in sizes)
    title = "The edge list, forward: in fewer bits"
    return precision_tables(title, passes, plan.seconds["dense"], device=device)


def more(table: str, rows: list[dict]) -> dict:
    names = PARTS["size"]["size"].names
    return {"exponents": {name: growth(name, rows) for name in names}} if table == "size" else {}


def growth(name: str, rows: list[dict]) -> dict | None:
    """Exponents of time and memory in the number of nodes, fitted, beside the predicted ones."""
    sizes, found = larger_half(name, rows)
    if not sizes:
        return None
    nodes = [size["nodes"] for size in sizes]
    time, memory = PREDICTED[name]
    predicted = {"time_predicted": time, "memory_predicted": memory}
    return {"from_nodes": nodes[0]} | exponents(nodes, found) | predicted


CANDIDATES = Candidates(
    prepare=prepare,
    check=check,
    small={"nodes": 16},
    needs=NEEDS,
    why_absent=why_absent,
    more=more,
)


def main(argv: list[str] | None = None) -> None:
    parts = CANDIDATES.parts(PARTS) | {"precision": part_precision}
    title = "E(n)-equivariant graph neural network"
    bench_main("egnn", title, (FULL_PLAN, QUICK_PLAN), parts=parts, tables=TABLES, argv=argv)


if __name__ == "__main__":
    main()
