"""The models that the EGNN is compared with: their equations, the laws they keep and break."""

import pytest
import torch
from drawing import largest, normal, order_one, trainable
from plain_egnn import EDGES, Case, law_error, outputs_and_gradients, rotation
from torch import Tensor

from archbook.egnn import GNN, RadialField, complete_edges

radial_variants = pytest.mark.parametrize(
    ("edge_features", "velocity"), [(0, False), (2, False), (0, True), (2, True)]
)


def slow_gnn(net: GNN, h, edges, edge_attr=None) -> Tensor:
    """One receiver and one of its neighbours at a time."""
    h = net.embed(h)
    for layer in net.layers:
        rows = []
        for i in range(len(h)):
            m_i = torch.zeros_like(h[i])
            for e, (j, receiver) in enumerate(edges.T.tolist()):
                if receiver == i:
                    given = [h[i], h[j]] + ([] if edge_attr is None else [edge_attr[e]])
                    m_i = m_i + layer.phi_e(torch.cat(given))
            rows.append(h[i] + layer.phi_h(torch.cat([h[i], m_i])))
        h = torch.stack(rows)
    return net.read(h)


def slow_radial_field(net: RadialField, x, edges, edge_attr=None, v=None) -> Tensor:
    for layer in net.layers:
        rows = []
        for i in range(len(x)):
            push, neighbours = torch.zeros_like(x[i]), 0
            for e, (j, receiver) in enumerate(edges.T.tolist()):
                if receiver == i:
                    difference = x[i] - x[j]
                    given = [difference.norm()[None]]
                    given += [] if edge_attr is None else [edge_attr[e]]
                    push = push + difference * layer.phi(torch.cat(given))
                    neighbours += 1
            push = push / max(neighbours, 1)
            if v is not None:
                push = push + layer.phi_v(v[i].norm()[None]) * v[i]
            rows.append(x[i] + push)
        x = torch.stack(rows)
    return x


def gnn(edge_features: int = 0) -> GNN:
    return order_one(GNN(6, 4, 2, out_features=3, edge_features=edge_features))


def radial_field(edge_features: int = 0, velocity: bool = False) -> RadialField:
    return order_one(RadialField(4, 2, edge_features, velocity=velocity))


def radial_inputs(edge_features: int, velocity: bool, n: int = 3) -> tuple:
    """x, edges, edge_attr, v."""
    edge_attr = normal(EDGES.shape[1], edge_features, seed=2) if edge_features else None
    return normal(7, n, seed=1), EDGES, edge_attr, normal(7, n, seed=3) if velocity else None


def as_layer(net: RadialField):
    """The field with the arguments and the results of a layer, so that the law can be asked."""
    return lambda h, x, edges, edge_attr, v: (h, net(x, edges, edge_attr, v=v))


# ---- the equations ----


@pytest.mark.shapes
@pytest.mark.parametrize("edge_features", [0, 2])
def test_the_gnn_equals_its_double_loop(edge_features):
    net = gnn(edge_features)
    attr = normal(EDGES.shape[1], edge_features, seed=2) if edge_features else None
    case = (normal(7, 6), EDGES, attr)
    found = outputs_and_gradients(net, net, case)
    assert largest(found, outputs_and_gradients(lambda *c: slow_gnn(net, *c), net, case)) < 1e-12


@pytest.mark.shapes
@radial_variants
def test_the_radial_field_equals_its_double_loop(edge_features, velocity):
    net, case = radial_field(edge_features, velocity), radial_inputs(edge_features, velocity)
    found = outputs_and_gradients(lambda x, e, a, v: net(x, e, a, v=v), net, case)
    wanted = outputs_and_gradients(lambda *c: slow_radial_field(net, *c), net, case)
    assert largest(found, wanted) < 1e-12


@pytest.mark.shapes
@pytest.mark.parametrize("junk", [0.0, 100.0, 1e200])
def test_a_padded_batch_of_the_radial_field_equals_its_graphs_one_by_one(junk):
    net, sizes = radial_field(2, True), [4, 2]
    x, v, attr = normal(2, 4, 3), normal(2, 4, 3, seed=1), normal(2, 4, 4, 2, seed=2)
    mask = torch.arange(4) < torch.tensor(sizes)[:, None]
    found = net(x.masked_fill(~mask[..., None], junk), edge_attr=attr, v=v, mask=mask)
    for b, size in enumerate(sizes):
        edges = complete_edges([size])
        alone = net(x[b, :size], edges, attr[b][edges[1], edges[0]], v=v[b, :size])
        assert largest([found[b, :size]], [alone]) < 1e-12
        assert (found[b, size:] == 0).all()


@pytest.mark.shapes
def test_a_padded_batch_of_the_gnn_equals_its_graphs_one_by_one():
    net, sizes = gnn(2), [4, 2]
    h, attr = normal(2, 4, 6), normal(2, 4, 4, 2, seed=2)
    mask = torch.arange(4) < torch.tensor(sizes)[:, None]
    found = net(h, edge_attr=attr, mask=mask)
    for b, size in enumerate(sizes):
        edges = complete_edges([size])
        alone = net(h[b, :size], edges, attr[b][edges[1], edges[0]])
        assert largest([found[b, :size]], [alone]) < 1e-12
        assert (found[b, size:] == 0).all()


def test_dense_batches_without_a_mask_are_all_real():
    x, everyone = normal(2, 4, 3), torch.ones(2, 4).bool()
    assert torch.equal(radial_field()(x), radial_field()(x, mask=everyone))
    assert torch.equal(gnn()(normal(2, 4, 6)), gnn()(normal(2, 4, 6), mask=everyone))


@radial_variants
def test_the_gradients_of_the_radial_field_equal_finite_differences(edge_features, velocity):
    net, (x, edges, edge_attr, v) = (
        radial_field(edge_features, velocity),
        radial_inputs(edge_features, velocity, 2),
    )
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: net(x, edges, edge_attr, v=v), (x,))


# ---- the laws ----


@pytest.mark.shapes
@pytest.mark.parametrize("mirrored", [False, True], ids=["turned", "mirrored"])
@pytest.mark.parametrize("n", [2, 3, 7])
@radial_variants
def test_the_radial_field_commutes_with_motions(edge_features, velocity, n, mirrored):
    run = as_layer(radial_field(edge_features, velocity))
    case = Case(normal(7, 1), *radial_inputs(edge_features, velocity, n))
    assert law_error(run, case, rotation(n, mirrored=mirrored), 3 * normal(n, seed=8)) < 1e-10


def test_the_law_notices_a_shift_applied_to_the_radial_fields_velocities():
    run, case = as_layer(radial_field(0, True)), Case(normal(7, 1), *radial_inputs(0, True))
    assert law_error(run, case, rotation(3), normal(3, seed=8), shift_of_v=1.0) > 1e-2


def test_the_gnn_that_reads_coordinates_breaks_the_law():
    net = gnn()

    def run(h, x, edges, edge_attr, v):
        return h, x + net(torch.cat([x, v], -1), edges)

    case = Case(normal(7, 1), *radial_inputs(0, True))
    assert law_error(run, case, rotation(3), torch.zeros(3).double()) > 1e-2
    assert law_error(run, case, torch.eye(3).double(), normal(3)) > 1e-2


def test_renumbered_nodes_give_renumbered_outputs():
    node = torch.randperm(7)
    edges = node.argsort()[EDGES]
    h, x = normal(7, 6), normal(7, 3)
    assert largest([gnn()(h[node], edges)], [gnn()(h, EDGES)[node]]) < 1e-12
    assert largest([radial_field()(x[node], edges)], [radial_field()(x, EDGES)[node]]) < 1e-12


def test_an_edge_changes_its_receiver_only():
    none, one = torch.empty(2, 0, dtype=torch.int64), torch.tensor([[4], [2]])
    net = order_one(GNN(6, 4, 1, out_features=3))
    for run, given in ((net, normal(7, 6)), (order_one(RadialField(4, 1)), normal(7, 3))):
        changed = (run(given, none) != run(given, one)).any(1)
        assert changed.nonzero().flatten().tolist() == [2]


# ---- special cases and the paper's numbers ----


@pytest.mark.parametrize("dense", [False, True])
def test_nodes_in_one_place_without_speed_stay_there_with_finite_gradients(dense):
    net = radial_field(0, True)
    shape = (2, 7, 3) if dense else (7, 3)
    case = (torch.ones(shape).double(), None if dense else EDGES, None, torch.zeros(shape).double())
    outputs, *grads = outputs_and_gradients(lambda x, e, a, v: net(x, e, a, v=v), net, case)
    assert torch.equal(outputs, case[0])
    assert all(grad.isfinite().all() for grad in grads)


def test_the_radial_field_leaves_a_node_without_neighbours_where_it_is():
    x, *_ = radial_inputs(0, False)
    assert torch.equal(radial_field()(x, EDGES)[6], x[6])  # node 6 is alone


def test_the_radial_field_of_a_complete_graph_conserves_the_centre_of_mass():
    x, edges = normal(5, 3), complete_edges([5])
    moved = radial_field()(x, edges)
    assert (moved - x).abs().max() > 1e-2
    torch.testing.assert_close(moved.mean(0), x.mean(0), atol=1e-12, rtol=0)


def test_a_tanh_bounds_what_an_edge_of_the_radial_field_may_ask_for():
    """As in the authors' `GCL_rf_vel`: the same weights, and tanh of what phi gives without."""
    bounded, free = order_one(RadialField(4, 1)), order_one(RadialField(4, 1, tanh=False))
    for weight in (*bounded.parameters(), *free.parameters()):
        weight.data.mul_(3)
    x, edges = torch.tensor([[0.0, 0, 0], [3, 0, 0]]).double(), complete_edges([2])
    asked = (free(x, edges)[0] - x[0]) / (x[0] - x[1])
    found = (bounded(x, edges)[0] - x[0]) / (x[0] - x[1])
    torch.testing.assert_close(found[0], torch.tanh(asked[0]))
    assert found[0].abs() < 1 < asked[0].abs()


def test_the_papers_gnn_has_104387_weights():
    assert trainable(GNN(6, 64, 4, out_features=3, edge_features=1)) == 104_387


def test_the_papers_radial_field_has_2052_weights():
    assert trainable(RadialField(64, 4, edge_features=2, velocity=True)) == 2_052


def test_no_input_is_modified_and_two_runs_are_equal_to_the_bit():
    x, edges, edge_attr, v = radial_inputs(2, True)
    h = normal(7, 6)
    before = [t.clone() for t in (x, edge_attr, v, h)]
    field, graph = radial_field(2, True), gnn(2)
    assert torch.equal(field(x, edges, edge_attr, v=v), field(x, edges, edge_attr, v=v))
    assert torch.equal(graph(h, edges, edge_attr), graph(h, edges, edge_attr))
    assert all(torch.equal(a, b) for a, b in zip((x, edge_attr, v, h), before, strict=True))


def test_every_weight_has_a_gradient():
    x, edges, edge_attr, v = radial_inputs(2, True)
    nets = gnn(2), radial_field(2, True)
    nets[0](normal(7, 6), edges, edge_attr).square().sum().backward()
    nets[1](x, edges, edge_attr, v=v).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for net in nets for p in net.parameters())


@pytest.mark.slow
def test_a_handful_of_point_clouds_is_fitted():
    x, v = normal(4, 5, 3).float(), normal(4, 5, 3, seed=1).float()
    apart = x[:, :, None] - x[:, None]
    target = x + v + (apart / (0.5 + apart.square().sum(-1, keepdim=True))).sum(2)
    models = {
        GNN(6, 16, 2, out_features=3): lambda net: x + net(torch.cat([x, v], -1)),
        RadialField(16, 2, velocity=True): lambda net: net(x, v=v),
    }
    for net, run in models.items():
        optimizer, losses = torch.optim.Adam(net.parameters(), lr=0.02), []
        for _ in range(60):
            loss = (run(net) - target).square().mean()
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert losses[-1] < 0.1 < losses[0]
