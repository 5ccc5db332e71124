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
    return EGCL(5, **options)(h, x, edges, edge_attr, v, mask)


def with_attr(edge_attr, edges=EDGES):
    return layer(edges=edges, edge_attr=edge_attr, edge_features=2)


def moving(v):
    return layer(v=v, velocity=True)


def dense(h=HS, x=XS, edge_attr=None, mask=None, **options):
    return EGCL(5, **options)(h, x, None, edge_attr, None, mask)


# ---- constructors ----


test_no_model_is_built_from = each_raises(
    [
        (lambda: EGCL(0), ValueError, "hidden must be at least 1, got 0"),
        (lambda: EGCL(2.0), TypeError, "hidden must be an int, got 2.0"),
        (lambda: EGCL(True), TypeError, "hidden must be an int, got True"),
        (lambda: EGCL(2, -1), ValueError, "edge_features must be at least 1, got -1"),
        (lambda: EGCL(2, 1.5), TypeError, "edge_features must be an int, got 1.5"),
        (lambda: EGCL(2, aggregation="max"), ValueError, "one of 'mean', 'sum', got 'max'"),
        (
            lambda: EGCL(2, velocity=True, update_positions=False),
            ValueError,
            "wanted update_positions=True, got False",
        ),
        (lambda: EGNN(0, 2, 1), ValueError, "in_features must be at least 1, got 0"),
        (lambda: EGNN(1, 0, 1), ValueError, "hidden must be at least 1, got 0"),
        (lambda: EGNN(1, 2, 0), ValueError, "layers must be at least 1, got 0"),
        (lambda: EGNN(1, 2, 1, 0), ValueError, "out_features must be at least 1, got 0"),
        (lambda: EGNN(1, 2, 1, edge_features=-2), ValueError, "edge_features .*got -2"),
        (lambda: EGNN(1, 2, 1, aggregation="max"), ValueError, "aggregation .*got 'max'"),
        (lambda: EGNNRegressor(0, 2, 1), ValueError, "in_features must be at least 1, got 0"),
        (lambda: EGNNRegressor(1, 2, -1), ValueError, "layers must be at least 1, got -1"),
        (lambda: EGNNRegressor(1, 2, 1, 0), ValueError, "out_features must be at least 1, got 0"),
        (lambda: GNN(0, 2, 1, 1), ValueError, "in_features must be at least 1, got 0"),
        (lambda: GNN(1, 2.5, 1, 1), TypeError, "hidden must be an int, got 2.5"),
        (lambda: GNN(1, 2, 0, 1), ValueError, "layers must be at least 1, got 0"),
        (lambda: GNN(1, 2, 1, 0), ValueError, "out_features must be at least 1, got 0"),
        (lambda: GNN(1, 2, 1, 1, -1), ValueError, "edge_features must be at least 1, got -1"),
        (lambda: RadialField(0, 1), ValueError, "hidden must be at least 1, got 0"),
        (lambda: RadialField(2, 0), ValueError, "layers must be at least 1, got 0"),
        (lambda: RadialField(2, 1, -1), ValueError, "edge_features must be at least 1, got -1"),
    ]
)


# ---- edges ----

BAD_EDGES = [
    ([[0], [1]], TypeError, "edges must be a tensor, got list"),
    (EDGES.T, ValueError, r"edges must have shape \(2, edges\), got \(12, 2\)"),
    (EDGES[0], ValueError, r"edges must have shape \(2, edges\), got \(12,\)"),
    (EDGES.float(), TypeError, "edges must be torch.int64, got torch.float32"),
    (EDGES.int(), TypeError, "edges must be torch.int64, got torch.int32"),
    (EDGES.to("meta"), ValueError, "edges must be on cpu, got a tensor on meta"),
    (EDGES + 1, ValueError, r"edges must lie in \[0, 3\], got 1 to 4"),
    (EDGES - 1, ValueError, r"edges must lie in \[0, 3\], got -1 to 2"),
]
h6, graph = ones(4, 6), torch.zeros(4, dtype=torch.int64)
TAKES_EDGES = {
    "EGCL": lambda edges: layer(edges=edges),
    "EGNN": lambda edges: EGNN(6, 2, 1)(h6, X, edges),
    "EGNNRegressor": lambda edges: EGNNRegressor(6, 2, 1)(h6, X, edges, graph, 1),
    "GNN": lambda edges: GNN(6, 2, 1, 1)(h6, edges),
    "RadialField": lambda edges: RadialField(2, 1)(X, edges),
}


@pytest.mark.parametrize("model", TAKES_EDGES)
@pytest.mark.parametrize(("edges", "error", "message"), BAD_EDGES)
def test_every_model_refuses_edges(model, edges, error, message):
    with pytest.raises(error, match=message):
        TAKES_EDGES[model](edges)


test_self_loops_are_refused_where_distances_divide = each_raises(
    [
        (lambda: layer(edges=LOOP, normalize=True), ValueError, "no self loops .* divide, got 1"),
        (lambda: EGNN(5, 2, 1, normalize=True)(H, X, LOOP), ValueError, "no self loops .* got 1"),
    ]
)


# ---- nodes, edge attributes, velocities, masks of the layer ----

no_edges = torch.empty(2, 0, dtype=torch.int64)
mask = ones(2, 4).bool()
attr = ones(12, 2)


test_the_layer_refuses_nodes = each_raises(
    [
        (lambda: layer(h=[[1.0]]), TypeError, "h must be a tensor, got list"),
        (lambda: layer(h=ones(4, 6)), ValueError, r"h must have shape \(nodes, 5\), got \(4, 6\)"),
        (lambda: layer(h=ones(2, 4, 5)), ValueError, r"\(nodes, 5\), got \(2, 4, 5\)"),
        (lambda: layer(h=ones(0, 5), edges=no_edges), ValueError, "no axis may be empty"),
        (lambda: layer(h=ones(4, 5).double()), TypeError, "h must be torch.float32 like the wei"),
        (lambda: layer(h=ones(4, 5).long()), TypeError, "h must be torch.float32 .*torch.int64"),
        (lambda: layer(h=ones(4, 5, device="meta")), ValueError, "h must be on cpu .* on meta"),
        (lambda: layer(h=spoiled(NAN, 4, 5)), ValueError, "h must be finite, got 1 .* of 20"),
        (lambda: layer(x=[1.0]), TypeError, "x must be a tensor, got list"),
        (lambda: layer(x=ones(3, 3)), ValueError, r"x must have shape \(4, n\), got \(3, 3\)"),
        (lambda: layer(x=ones(4)), ValueError, r"x must have shape \(4, n\), got \(4,\)"),
        (lambda: layer(x=ones(4, 0)), ValueError, r"got \(4, 0\) \(no axis may be empty\)"),
        (lambda: layer(x=ones(4, 3).double()), TypeError, "x must be torch.float32 like the wei"),
        (lambda: layer(x=ones(4, 3, device="meta")), ValueError, "x must be on cpu .* on meta"),
        (lambda: layer(x=spoiled(INF, 4, 3)), ValueError, "x must be finite, got 1 .* of 12"),
        (lambda: layer(x=spoiled(-INF, 4, 3)), ValueError, "x must be finite, got 1 .* of 12"),
    ]
)


test_the_layer_refuses_edge_attributes = each_raises(
    [
        (lambda: with_attr(None), ValueError, "edge_attr must have 2 features, got None"),
        (lambda: layer(edge_attr=attr), ValueError, "edge_attr must have 0 features"),
        (lambda: with_attr(ones(12, 3)), ValueError, r"edge_attr .*\(12, 2\), got \(12, 3\)"),
        (lambda: with_attr(ones(1, 2)), ValueError, r"edge_attr .*\(12, 2\), got \(1, 2\)"),
        (lambda: with_attr(ones(0, 3), no_edges), ValueError, r"edge_attr .*\(0, 2\), got \(0, 3"),
        (lambda: with_attr(attr.double()), TypeError, "edge_attr must be torch.float32 like the"),
        (lambda: with_attr(attr.to("meta")), ValueError, "edge_attr must be on cpu .* on meta"),
        (lambda: with_attr(spoiled(NAN, 12, 2)), ValueError, "edge_attr must be finite, got 1"),
        (lambda: with_attr([1.0]), TypeError, "edge_attr must be a tensor, got list"),
        (lambda: dense(edge_attr=ones(2, 12, 2), edge_features=2), ValueError, r"\(2, 4, 4, 2\)"),
    ]
)


test_the_layer_refuses_velocities_and_dense_batches = each_raises(
    [
        (lambda: moving(None), ValueError, "v must be given with .*got NoneType"),
        (lambda: layer(v=X), ValueError, "v must be None without .*got Tensor"),
        (lambda: moving(ones(4, 2)), ValueError, r"v must have shape \(4, 3\), got \(4, 2\)"),
        (lambda: moving(X.double()), TypeError, "v must be torch.float32 like the weights"),
        (lambda: moving(spoiled(NAN, 4, 3)), ValueError, "v must be finite, got 1"),
        (lambda: layer(mask=mask), ValueError, "wanted edges or mask, got both"),
        (lambda: dense(H, X), ValueError, r"h .* where no edges .* got \(4, 5\); .*h\[None\]"),
        (lambda: dense(h=[[1.0]]), TypeError, "h must be a tensor, got list"),
        (lambda: dense(h=ones(2, 4, 6)), ValueError, r"\(batch, nodes, 5\), got \(2, 4, 6\)"),
        (lambda: dense(h=ones(0, 4, 5)), ValueError, "no axis may be empty"),
        (lambda: dense(h=ones(2, 0, 5)), ValueError, "no axis may be empty"),
        (lambda: dense(x=ones(2, 3, 3)), ValueError, r"x .*\(2, 4, n\), got \(2, 3, 3\)"),
        (lambda: dense(mask=mask[:, :3]), ValueError, r"mask .*\(2, 4\), got \(2, 3\)"),
        (lambda: dense(mask=ones(2, 4)), TypeError, "mask must be torch.bool .*got .*float32"),
        (lambda: dense(mask=mask.to("meta")), ValueError, "mask must be on cpu, .* on meta"),
        (lambda: dense(mask=[[True]]), TypeError, "mask must be a tensor, got list"),
    ]
)


# ---- the other models share the layer's checks ----

net = EGNN(6, 5, 2, velocity=True)
gnn = GNN(6, 5, 1, 3, edge_features=1)
field = RadialField(5, 1, edge_features=1, velocity=True)
one = ones(12, 1)


test_the_networks_refuse = each_raises(
    [
        (lambda: net(ones(4, 5), X, EDGES, v=X), ValueError, r"\(nodes, 6\), got \(4, 5\)"),
        (lambda: net(h6, X, EDGES), ValueError, "v must be given with velocity=True"),
        (lambda: net(h6, X, EDGES, one, X), ValueError, "edge_attr must have 0 features"),
        (lambda: net(h6, X * NAN, EDGES, v=X), ValueError, "x must be finite, got 12"),
        (lambda: net(h6, X), ValueError, r"where no edges are given, got \(4, 6\)"),
        (lambda: gnn(h6, EDGES), ValueError, "edge_attr must have 1 features, got None"),
        (lambda: gnn(h6, EDGES, ones(1, 1)), ValueError, r"edge_attr .*\(12, 1\), got \(1, 1\)"),
        (lambda: gnn(h6, EDGES, one * NAN), ValueError, "edge_attr must be finite, got 12"),
        (lambda: gnn(h6 * NAN, EDGES, one), ValueError, "h must be finite, got 24"),
        (lambda: gnn(h6.double(), EDGES, one), TypeError, "h must be torch.float32"),
        (lambda: gnn(ones(4, 5), EDGES, one), ValueError, r"\(nodes, 6\), got \(4, 5\)"),
        (lambda: gnn(ones(4, 2, 6), EDGES, one), ValueError, r"\(nodes, 6\), got \(4, 2, 6\)"),
        (lambda: gnn(h6), ValueError, r"where no edges are given, got \(4, 6\); .*h\[None\]"),
        (lambda: GNN(6, 2, 1, 1)(h6, EDGES, one), ValueError, "edge_attr must have 0 features"),
        (lambda: field(X, EDGES, None, X), ValueError, "edge_attr must have 1 features"),
        (lambda: field(X, EDGES, one), ValueError, "v must be given with velocity=True"),
        (lambda: field(X, EDGES, one, ones(1, 3)), ValueError, r"v .*\(4, 3\), got \(1, 3\)"),
        (lambda: field(X, EDGES, one, X * NAN), ValueError, "v must be finite, got 12"),
        (lambda: field(X * NAN, EDGES, one, X), ValueError, "x must be finite, got 12"),
        (lambda: field(X.double(), EDGES, one, X), TypeError, "x must be torch.float32"),
        (lambda: field(X), ValueError, r"x must have shape .* got \(4, 3\); .*x\[None\]"),
        (lambda: RadialField(2, 1)(X, EDGES, None, X), ValueError, "v must be None without"),
        (lambda: gnn(h6, EDGES, one, mask[:1]), ValueError, "wanted edges or mask, got both"),
    ]
)


regressor = EGNNRegressor(6, 5, 1)


test_the_regressor_refuses = each_raises(
    [
        (lambda: regressor(h6, X, EDGES, graph[:3], 1), ValueError, r"graph .*\(4\), got \(3,\)"),
        (lambda: regressor(h6, X, EDGES, [0] * 4, 1), TypeError, "graph must be a tensor"),
        (lambda: regressor(h6, X, EDGES, graph.float(), 1), TypeError, "graph .*int64.*float32"),
        (lambda: regressor(h6, X, EDGES, graph.to("meta"), 1), ValueError, "graph .* on meta"),
        (lambda: regressor(h6, X, EDGES, graph + 1, 1), ValueError, r"graph .*\[0, 0\], got 1"),
        (lambda: regressor(h6, X, EDGES, graph - 1, 2), ValueError, r"graph .*\[0, 1\], got -1"),
        (lambda: regressor(h6, X, EDGES, graph, 0), ValueError, "graphs must be at least 1"),
        (lambda: regressor(h6, X, EDGES, graph, 1.5), TypeError, "graphs must be an int"),
        (lambda: sum_by_graph(h6, graph[:, None], 1), ValueError, r"graph .*\(4\), got \(4, 1\)"),
    ]
)


# ---- autocast, and checks switched off ----


test_under_autocast_the_layer_still_refuses = each_raises(
    [
        (lambda: layer(h=ones(4, 5).long()), TypeError, "h must be torch.float32 .*torch.int64"),
        (lambda: layer(x=ones(4, 3, device="meta")), ValueError, "x must be on cpu .* on meta"),
    ],
    under=torch.autocast("cpu", torch.bfloat16),
)


def test_nan_passes_through_where_value_checks_are_off():
    with value_checks(False):
        _, x = layer(x=spoiled(NAN, 4, 3))
        x_only, _ = layer(edges=LOOP, normalize=True)
    assert x.isnan().any()
    assert x_only.isfinite().all()
    with pytest.raises(ValueError, match="x must be finite"):
        layer(x=spoiled(NAN, 4, 3))
