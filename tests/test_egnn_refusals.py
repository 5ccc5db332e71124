"""What the EGNN's layer, networks and baselines refuse, with the wanted and the given named."""

import pytest
import torch
from refusals import INF, NAN, each_raises, spoiled

from archbook.checks import value_checks
from archbook.egnn import (
    EGCL,
    EGNN,
    GNN,
    EGNNRegressor,
    RadialField,
    complete_edges,
    sum_by_graph,
)

ones = torch.ones
EDGES = complete_edges([4])  # 12 of them
LOOP = torch.tensor([[0, 1, 1], [1, 0, 1]])


H, X = ones(4, 5), ones(4, 3)
HS, XS = ones(2, 4, 5), ones(2, 4, 3)


def layer(h=H, x=X, edges=EDGES, edge_attr=None, v=None, mask=None, **options):
    """A layer of width 5 on 4 nodes; what is not given fits."""
    return EGCL(5, **options)(h, x, edges, edge_attr=edge_attr, v=v, mask=mask)


def with_attr(edge_attr, edges=EDGES):
    return layer(edges=edges, edge_attr=edge_attr, edge_features=2)


def moving(v):
    return layer(v=v, velocity=True)


def dense(h=HS, x=XS, edge_attr=None, mask=None, **options):
    return EGCL(5, **options)(h, x, edge_attr=edge_attr, mask=mask)


# ---- constructors ----


test_no_model_is_built_from = each_raises(
    [
        (lambda: EGCL(0), ValueError, "hidden to be at least 1, given 0"),
        (lambda: EGCL(2.0), TypeError, "hidden to be an int, given 2.0"),
        (lambda: EGCL(True), TypeError, "hidden to be an int, given True"),
        (lambda: EGCL(2, -1), ValueError, "edge_features to be at least 1, given -1"),
        (lambda: EGCL(2, 1.5), TypeError, "edge_features to be an int, given 1.5"),
        (lambda: EGCL(2, aggregation="max"), ValueError, "one of 'mean', 'sum', given 'max'"),
        (
            lambda: EGCL(2, velocity=True, update_positions=False),
            ValueError,
            "wanted update_positions=True, given False",
        ),
        (lambda: EGNN(0, 2, 1), ValueError, "in_features to be at least 1, given 0"),
        (lambda: EGNN(1, 0, 1), ValueError, "hidden to be at least 1, given 0"),
        (lambda: EGNN(1, 2, 0), ValueError, "layers to be at least 1, given 0"),
        (
            lambda: EGNN(1, 2, 1, out_features=0),
            ValueError,
            "out_features to be at least 1, given 0",
        ),
        (lambda: EGNN(1, 2, 1, edge_features=-2), ValueError, "edge_features .*given -2"),
        (lambda: EGNN(1, 2, 1, aggregation="max"), ValueError, "aggregation .*given 'max'"),
        (lambda: EGNNRegressor(0, 2, 1), ValueError, "in_features to be at least 1, given 0"),
        (lambda: EGNNRegressor(1, 2, -1), ValueError, "layers to be at least 1, given -1"),
        (
            lambda: EGNNRegressor(1, 2, 1, out_features=0),
            ValueError,
            "out_features to be at least 1, given 0",
        ),
        (lambda: GNN(0, 2, 1, out_features=1), ValueError, "in_features to be at least 1, given 0"),
        (lambda: GNN(1, 2.5, 1, out_features=1), TypeError, "hidden to be an int, given 2.5"),
        (lambda: GNN(1, 2, 0, out_features=1), ValueError, "layers to be at least 1, given 0"),
        (
            lambda: GNN(1, 2, 1, out_features=0),
            ValueError,
            "out_features to be at least 1, given 0",
        ),
        (
            lambda: GNN(1, 2, 1, out_features=1, edge_features=-1),
            ValueError,
            "edge_features to be at least 1, given -1",
        ),
        (lambda: RadialField(0, 1), ValueError, "hidden to be at least 1, given 0"),
        (lambda: RadialField(2, 0), ValueError, "layers to be at least 1, given 0"),
        (lambda: RadialField(2, 1, -1), ValueError, "edge_features to be at least 1, given -1"),
    ]
)


# ---- edges ----

BAD_EDGES = [
    ([[0], [1]], TypeError, "edges to be a tensor, given list"),
    (EDGES.T, ValueError, r"edges to have shape \(2, edges\), given \(12, 2\)"),
    (EDGES[0], ValueError, r"edges to have shape \(2, edges\), given \(12,\)"),
    (EDGES.float(), TypeError, "edges to be torch.int64, given torch.float32"),
    (EDGES.int(), TypeError, "edges to be torch.int64, given torch.int32"),
    (EDGES.to("meta"), ValueError, "edges to be on cpu, given a tensor on meta"),
    (EDGES + 1, ValueError, r"edges to lie in \[0, 3\], given 1 to 4"),
    (EDGES - 1, ValueError, r"edges to lie in \[0, 3\], given -1 to 2"),
]
h6, graph = ones(4, 6), torch.zeros(4, dtype=torch.int64)
TAKES_EDGES = {
    "EGCL": lambda edges: layer(edges=edges),
    "EGNN": lambda edges: EGNN(6, 2, 1)(h6, X, edges),
    "EGNNRegressor": lambda edges: EGNNRegressor(6, 2, 1)(h6, X, edges, graph=graph, graphs=1),
    "GNN": lambda edges: GNN(6, 2, 1, out_features=1)(h6, edges),
    "RadialField": lambda edges: RadialField(2, 1)(X, edges),
}


@pytest.mark.parametrize("model", TAKES_EDGES)
@pytest.mark.parametrize(("edges", "error", "message"), BAD_EDGES)
def test_every_model_refuses_edges(model, edges, error, message):
    with pytest.raises(error, match=message):
        TAKES_EDGES[model](edges)


test_self_loops_are_refused_where_distances_divide = each_raises(
    [
        (lambda: layer(edges=LOOP, normalize=True), ValueError, "no self loops .* divide, given 1"),
        (lambda: EGNN(5, 2, 1, normalize=True)(H, X, LOOP), ValueError, "no self loops .* given 1"),
    ]
)


# ---- nodes, edge attributes, velocities, masks of the layer ----

no_edges = torch.empty(2, 0, dtype=torch.int64)
mask = ones(2, 4).bool()
attr = ones(12, 2)


test_the_layer_refuses_nodes = each_raises(
    [
        (lambda: layer(h=[[1.0]]), TypeError, "h to be a tensor, given list"),
        (lambda: layer(h=ones(4, 6)), ValueError, r"h to have shape \(nodes, 5\), given \(4, 6\)"),
        (lambda: layer(h=ones(2, 4, 5)), ValueError, r"\(nodes, 5\), given \(2, 4, 5\)"),
        (lambda: layer(h=ones(0, 5), edges=no_edges), ValueError, "no axis may be empty"),
        (lambda: layer(h=ones(4, 5).double()), TypeError, "h to be torch.float32 like the wei"),
        (lambda: layer(h=ones(4, 5).long()), TypeError, "h to be torch.float32 .*torch.int64"),
        (lambda: layer(h=ones(4, 5, device="meta")), ValueError, "h to be on cpu .* on meta"),
        (lambda: layer(h=spoiled(NAN, 4, 5)), ValueError, "h to be finite, given 1 .* of 20"),
        (lambda: layer(x=[1.0]), TypeError, "x to be a tensor, given list"),
        (lambda: layer(x=ones(3, 3)), ValueError, r"x to have shape \(4, n\), given \(3, 3\)"),
        (lambda: layer(x=ones(4)), ValueError, r"x to have shape \(4, n\), given \(4,\)"),
        (lambda: layer(x=ones(4, 0)), ValueError, r"given \(4, 0\) \(no axis may be empty\)"),
        (lambda: layer(x=ones(4, 3).double()), TypeError, "x to be torch.float32 like the wei"),
        (lambda: layer(x=ones(4, 3, device="meta")), ValueError, "x to be on cpu .* on meta"),
        (lambda: layer(x=spoiled(INF, 4, 3)), ValueError, "x to be finite, given 1 .* of 12"),
        (lambda: layer(x=spoiled(-INF, 4, 3)), ValueError, "x to be finite, given 1 .* of 12"),
    ]
)


test_the_layer_refuses_edge_attributes = each_raises(
    [
        (lambda: with_attr(None), ValueError, "edge_attr to have 2 features, given None"),
        (lambda: layer(edge_attr=attr), ValueError, "edge_attr to have 0 features"),
        (lambda: with_attr(ones(12, 3)), ValueError, r"edge_attr .*\(12, 2\), given \(12, 3\)"),
        (lambda: with_attr(ones(1, 2)), ValueError, r"edge_attr .*\(12, 2\), given \(1, 2\)"),
        (
            lambda: with_attr(ones(0, 3), no_edges),
            ValueError,
            r"edge_attr .*\(0, 2\), given \(0, 3",
        ),
        (lambda: with_attr(attr.double()), TypeError, "edge_attr to be torch.float32 like the"),
        (lambda: with_attr(attr.to("meta")), ValueError, "edge_attr to be on cpu .* on meta"),
        (lambda: with_attr(spoiled(NAN, 12, 2)), ValueError, "edge_attr to be finite, given 1"),
        (lambda: with_attr([1.0]), TypeError, "edge_attr to be a tensor, given list"),
        (lambda: dense(edge_attr=ones(2, 12, 2), edge_features=2), ValueError, r"\(2, 4, 4, 2\)"),
    ]
)


test_the_layer_refuses_velocities_and_dense_batches = each_raises(
    [
        (lambda: moving(None), ValueError, "v to be given with .*given NoneType"),
        (lambda: layer(v=X), ValueError, "v to be None without .*given Tensor"),
        (lambda: moving(ones(4, 2)), ValueError, r"v to have shape \(4, 3\), given \(4, 2\)"),
        (lambda: moving(X.double()), TypeError, "v to be torch.float32 like the weights"),
        (lambda: moving(spoiled(NAN, 4, 3)), ValueError, "v to be finite, given 1"),
        (lambda: layer(mask=mask), ValueError, "wanted edges or mask, given both"),
        (lambda: dense(H, X), ValueError, r"h .* where no edges .* given \(4, 5\); .*h\[None\]"),
        (lambda: dense(h=[[1.0]]), TypeError, "h to be a tensor, given list"),
        (lambda: dense(h=ones(2, 4, 6)), ValueError, r"\(batch, nodes, 5\), given \(2, 4, 6\)"),
        (lambda: dense(h=ones(0, 4, 5)), ValueError, "no axis may be empty"),
        (lambda: dense(h=ones(2, 0, 5)), ValueError, "no axis may be empty"),
        (lambda: dense(x=ones(2, 3, 3)), ValueError, r"x .*\(2, 4, n\), given \(2, 3, 3\)"),
        (lambda: dense(mask=mask[:, :3]), ValueError, r"mask .*\(2, 4\), given \(2, 3\)"),
        (lambda: dense(mask=ones(2, 4)), TypeError, "mask to be torch.bool .*given .*float32"),
        (lambda: dense(mask=mask.to("meta")), ValueError, "mask to be on cpu, .* on meta"),
        (lambda: dense(mask=[[True]]), TypeError, "mask to be a tensor, given list"),
    ]
)


# ---- the other models share the layer's checks ----

net = EGNN(6, 5, 2, velocity=True)
gnn = GNN(6, 5, 1, out_features=3, edge_features=1)
field = RadialField(5, 1, edge_features=1, velocity=True)
one = ones(12, 1)


test_the_networks_refuse = each_raises(
    [
        (lambda: net(ones(4, 5), X, EDGES, v=X), ValueError, r"\(nodes, 6\), given \(4, 5\)"),
        (lambda: net(h6, X, EDGES), ValueError, "v to be given with velocity=True"),
        (lambda: net(h6, X, EDGES, edge_attr=one, v=X), ValueError, "edge_attr to have 0 features"),
        (lambda: net(h6, X * NAN, EDGES, v=X), ValueError, "x to be finite, given 12"),
        (lambda: net(h6, X), ValueError, r"where no edges are given, given \(4, 6\)"),
        (lambda: gnn(h6, EDGES), ValueError, "edge_attr to have 1 features, given None"),
        (lambda: gnn(h6, EDGES, ones(1, 1)), ValueError, r"edge_attr .*\(12, 1\), given \(1, 1\)"),
        (lambda: gnn(h6, EDGES, one * NAN), ValueError, "edge_attr to be finite, given 12"),
        (lambda: gnn(h6 * NAN, EDGES, one), ValueError, "h to be finite, given 24"),
        (lambda: gnn(h6.double(), EDGES, one), TypeError, "h to be torch.float32"),
        (lambda: gnn(ones(4, 5), EDGES, one), ValueError, r"\(nodes, 6\), given \(4, 5\)"),
        (lambda: gnn(ones(4, 2, 6), EDGES, one), ValueError, r"\(nodes, 6\), given \(4, 2, 6\)"),
        (lambda: gnn(h6), ValueError, r"where no edges are given, given \(4, 6\); .*h\[None\]"),
        (
            lambda: GNN(6, 2, 1, out_features=1)(h6, EDGES, one),
            ValueError,
            "edge_attr to have 0 features",
        ),
        (lambda: field(X, EDGES, None, v=X), ValueError, "edge_attr to have 1 features"),
        (lambda: field(X, EDGES, one), ValueError, "v to be given with velocity=True"),
        (lambda: field(X, EDGES, one, v=ones(1, 3)), ValueError, r"v .*\(4, 3\), given \(1, 3\)"),
        (lambda: field(X, EDGES, one, v=X * NAN), ValueError, "v to be finite, given 12"),
        (lambda: field(X * NAN, EDGES, one, v=X), ValueError, "x to be finite, given 12"),
        (lambda: field(X.double(), EDGES, one, v=X), TypeError, "x to be torch.float32"),
        (lambda: field(X), ValueError, r"x to have shape .* given \(4, 3\); .*x\[None\]"),
        (lambda: RadialField(2, 1)(X, EDGES, None, v=X), ValueError, "v to be None without"),
        (
            lambda: gnn(h6, EDGES, one, mask=mask[:1]),
            ValueError,
            "wanted edges or mask, given both",
        ),
    ]
)


regressor = EGNNRegressor(6, 5, 1)


test_the_regressor_refuses = each_raises(
    [
        (
            lambda: regressor(h6, X, EDGES, graph=graph[:3], graphs=1),
            ValueError,
            r"graph .*\(4\), given \(3,\)",
        ),
        (
            lambda: regressor(h6, X, EDGES, graph=[0] * 4, graphs=1),
            TypeError,
            "graph to be a tensor",
        ),
        (
            lambda: regressor(h6, X, EDGES, graph=graph.float(), graphs=1),
            TypeError,
            "graph .*int64.*float32",
        ),
        (
            lambda: regressor(h6, X, EDGES, graph=graph.to("meta"), graphs=1),
            ValueError,
            "graph .* on meta",
        ),
        (
            lambda: regressor(h6, X, EDGES, graph=graph + 1, graphs=1),
            ValueError,
            r"graph .*\[0, 0\], given 1",
        ),
        (
            lambda: regressor(h6, X, EDGES, graph=graph - 1, graphs=2),
            ValueError,
            r"graph .*\[0, 1\], given -1",
        ),
        (
            lambda: regressor(h6, X, EDGES, graph=graph, graphs=0),
            ValueError,
            "graphs to be at least 1",
        ),
        (
            lambda: regressor(h6, X, EDGES, graph=graph, graphs=1.5),
            TypeError,
            "graphs to be an int",
        ),
        (lambda: sum_by_graph(h6, graph[:, None], 1), ValueError, r"graph .*\(4\), given \(4, 1\)"),
    ]
)


# ---- autocast, and checks switched off ----


test_under_autocast_the_layer_still_refuses = each_raises(
    [
        (lambda: layer(h=ones(4, 5).long()), TypeError, "h to be torch.float32 .*torch.int64"),
        (lambda: layer(x=ones(4, 3, device="meta")), ValueError, "x to be on cpu .* on meta"),
    ],
    under=torch.autocast("cpu", torch.bfloat16),
)


def test_nan_passes_through_where_value_checks_are_off():
    with value_checks(False):
        _, x = layer(x=spoiled(NAN, 4, 3))
        x_only, _ = layer(edges=LOOP, normalize=True)
    assert x.isnan().any()
    assert x_only.isfinite().all()
    with pytest.raises(ValueError, match="x to be finite"):
        layer(x=spoiled(NAN, 4, 3))
