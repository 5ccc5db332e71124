"""Who sends to whom: edge lists, dense batches, padding, and what has no neighbours."""

import pytest
import torch
from drawing import largest, normal
from plain_egnn import (
    EDGES,
    HIDDEN,
    VARIANTS,
    Case,
    case_of,
    in_order,
    layer_of,
    outputs_and_gradients,
    slow_egcl,
)

from archbook.egnn import EGCL, complete_edges

every_variant = pytest.mark.parametrize("variant", VARIANTS)


def dense_case(layer: EGCL, batch: int = 3, nodes: int = 5, n: int = 3) -> Case:
    k = layer.edge_features
    return Case(
        normal(batch, nodes, HIDDEN),
        normal(batch, nodes, n, seed=1),
        None,
        normal(batch, nodes, nodes, k, seed=2) if k else None,
        normal(batch, nodes, n, seed=3) if layer.phi_v is not None else None,
    )


def as_edge_list(case: Case, sizes: list[int]) -> Case:
    """The first `sizes` nodes of each graph of a dense case, one after another, as an edge list."""
    real = [(b, i) for b, size in enumerate(sizes) for i in range(size)]
    b, i = torch.tensor(real).unbind(1)
    edges = complete_edges(sizes)
    send, receive = edges
    return Case(
        case.h[b, i],
        case.x[b, i],
        edges,
        None if case.edge_attr is None else case.edge_attr[b[receive], i[receive], i[send]],
        None if case.v is None else case.v[b, i],
    )


# ---- one set of weights, two forms ----


@pytest.mark.shapes
@every_variant
def test_a_dense_batch_equals_the_edge_list_of_all_pairs(variant):
    layer = layer_of(variant)
    case = dense_case(layer)

    def listed(h, x, edges, edge_attr, v):
        case = as_edge_list(Case(h, x, edges, edge_attr, v), [5, 5, 5])
        return tuple(out.unflatten(0, (3, 5)) for out in in_order(layer)(*case))

    found = outputs_and_gradients(in_order(layer), layer, case)
    assert largest(found, outputs_and_gradients(listed, layer, case)) < 1e-12


@pytest.mark.shapes
@pytest.mark.parametrize("junk", [0.0, 100.0, 1e200])
@every_variant
def test_padding_changes_no_real_node_and_comes_out_as_zero(variant, junk):
    layer, sizes = layer_of(variant), [5, 3, 1]
    case = dense_case(layer)
    mask = torch.arange(5) < torch.tensor(sizes)[:, None]
    x = case.x.masked_fill(~mask[..., None], junk)
    padded = Case(case.h.masked_fill(~mask[..., None], min(junk, 100.0)), x, *case[2:])
    found = outputs_and_gradients(lambda *c: in_order(layer)(*c, mask=mask), layer, padded)
    outputs = found[: len(in_order(layer)(*case))]
    for b, size in enumerate(sizes):
        one = Case(*(None if t is None else t[b : b + 1, :size] for t in case))
        if one.edge_attr is not None:
            one = one._replace(edge_attr=one.edge_attr[:, :, :size])
        assert largest([out[b : b + 1, :size] for out in outputs], in_order(layer)(*one)) < 1e-12
        assert all((out[b, size:] == 0).all() for out in outputs)
    assert all(value.isfinite().all() for value in found)


# ---- who sends to whom ----


def test_an_edge_changes_its_receiver_only():
    layer = layer_of("plain")
    h, x, *_ = case_of(layer, HIDDEN)
    alone = layer(h, x, torch.empty(2, 0, dtype=torch.int64))
    for before, after in zip(alone, layer(h, x, torch.tensor([[4], [2]])), strict=True):
        assert (before != after).any(1).nonzero().flatten().tolist() == [2]


def test_the_authors_edges_are_ours_upside_down():
    """Their row = edges[0] receives and their col = edges[1] sends."""
    layer = layer_of("sum")
    h, x, *_ = case_of(layer, HIDDEN)
    row, col = EDGES
    difference = x[row] - x[col]
    m = layer.phi_e(torch.cat([h[row], h[col], difference.square().sum(1, keepdim=True)], 1))
    theirs = x.index_add(0, row, difference * layer.phi_x(m))
    torch.testing.assert_close(layer(h, x, EDGES.flip(0))[1], theirs)


def test_in_a_dense_batch_no_node_is_its_own_neighbour():
    layer = layer_of("edge features")
    case = dense_case(layer)
    own = torch.eye(5, dtype=torch.bool)[:, :, None]
    changed = case._replace(edge_attr=case.edge_attr.masked_fill(own, 50.0))
    assert all(
        torch.equal(a, b)
        for a, b in zip(in_order(layer)(*case), in_order(layer)(*changed), strict=True)
    )


def test_self_loops_and_repeated_edges_count_as_any_other_edge():
    layer = layer_of("edge features")
    edges = torch.tensor([[0, 1, 1, 0], [0, 0, 0, 1]])
    case = case_of(layer, HIDDEN, edges=edges, nodes=2)
    assert largest(in_order(layer)(*case), slow_egcl(layer, *case)) < 1e-12


# ---- nodes with no neighbour, nodes in one place ----


def test_a_node_without_neighbours_keeps_its_place_and_hears_nothing():
    layer = layer_of("plain")
    h, x, edges, *_ = case_of(layer, HIDDEN)
    features, positions = layer(h, x, edges)  # node 6 is alone
    assert torch.equal(positions[6], x[6])
    nothing = torch.zeros(HIDDEN).double()
    torch.testing.assert_close(features[6], h[6] + layer.phi_h(torch.cat([h[6], nothing])))


@pytest.mark.shapes
@every_variant
def test_without_any_edge_every_node_is_alone(variant):
    layer = layer_of(variant)
    case = case_of(layer, HIDDEN, edges=torch.empty(2, 0, dtype=torch.int64), nodes=3)
    found = outputs_and_gradients(in_order(layer), layer, case)
    wanted = outputs_and_gradients(lambda *c: slow_egcl(layer, *c), layer, case)
    assert largest(found, wanted) < 1e-12


@every_variant
def test_a_graph_of_one_node_is_alone_in_both_forms(variant):
    layer = layer_of(variant)
    case = dense_case(layer, batch=1, nodes=1)
    wanted = in_order(layer)(*as_edge_list(case, [1]))
    assert largest([out[0] for out in in_order(layer)(*case)], wanted) < 1e-12
    if layer.phi_v is None:
        assert torch.equal(in_order(layer)(*case)[1], case.x)


@pytest.mark.parametrize("form", ["edge list", "dense"])
@every_variant
def test_nodes_in_one_place_exchange_messages_but_do_not_push_each_other(variant, form):
    layer = layer_of(variant)
    case = dense_case(layer) if form == "dense" else case_of(layer, HIDDEN)
    case = case._replace(x=torch.ones_like(case.x), v=None if case.v is None else 0 * case.v)
    features, positions, *_ = in_order(layer)(*case)
    assert torch.equal(positions, case.x)
    alone = layer.phi_h(torch.cat([case.h, torch.zeros_like(case.h)], -1))
    assert (features - case.h - alone).abs().max() > 0.1
    found = outputs_and_gradients(in_order(layer), layer, case)
    assert all(value.isfinite().all() for value in found)


def test_no_messages_come_from_padding_even_where_all_is_padding():
    layer = layer_of("all")
    case = dense_case(layer, batch=2)
    mask = torch.tensor([[True] * 5, [False] * 5])
    found = outputs_and_gradients(lambda *c: in_order(layer)(*c, mask=mask), layer, case)
    assert all((out[1] == 0).all() for out in found[:3])
    assert all(value.isfinite().all() for value in found)


# ---- the centre of mass ----


def centre_of_mass_moves(layer: EGCL) -> float:
    case = dense_case(layer)
    return float((in_order(layer)(*case)[1].mean(1) - case.x.mean(1)).detach().abs().max())


@pytest.mark.parametrize("variant", ["plain", "sum", "normalized"])
def test_a_symmetric_message_conserves_the_centre_of_mass(variant):
    layer = layer_of(variant)
    assert centre_of_mass_moves(layer) > 1e-2
    weight = layer.phi_e[0].weight.data  # of h_i, h_j, |x_i - x_j|^2
    weight[:, HIDDEN : 2 * HIDDEN] = weight[:, :HIDDEN]
    assert centre_of_mass_moves(layer) < 1e-12


# ---- the inputs ----


@pytest.mark.parametrize("form", ["edge list", "dense"])
@every_variant
def test_no_input_is_modified_and_two_runs_are_equal_to_the_bit(variant, form):
    layer = layer_of(variant)
    case = dense_case(layer) if form == "dense" else case_of(layer, HIDDEN)
    before = [None if t is None else t.clone() for t in case]
    first, second = in_order(layer)(*case), in_order(layer)(*case)
    assert all(a is None or torch.equal(a, b) for a, b in zip(case, before, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
