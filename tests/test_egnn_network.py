"""Networks of equivariant layers: their composition, the paper's sizes, and that they learn."""

import pytest
import torch
from drawing import largest, normal, order_one, trainable
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_egnn import (
    EDGES,
    VARIANTS,
    Case,
    case_of,
    in_order,
    law_error,
    outputs_and_gradients,
    rotation,
    slow_egcl,
)
from torch import Tensor, nn

from archbook.egnn import EGNN, EGNNRegressor, complete_edges, sum_by_graph

every_variant = pytest.mark.parametrize("variant", VARIANTS)


def network_of(variant: str, layers: int = 3, out_features: int | None = 2, seed: int = 0) -> EGNN:
    return order_one(EGNN(4, 3, layers, out_features=out_features, **VARIANTS[variant]), seed)


def inputs_of(net: EGNN, n: int = 3, edges: Tensor = EDGES, nodes: int = 7, seed: int = 0) -> Case:
    return case_of(net.layers[0], net.in_features, n, edges, nodes, seed)


def plain_egnn(net: EGNN, h, x, edges, edge_attr, v) -> tuple[Tensor, ...]:
    """The layers one after another; each gets the v of the input."""
    h, v_0 = net.embed(h), v
    for layer in net.layers:
        h, x, *v = slow_egcl(layer, h, x, edges, edge_attr, v_0)
    return net.read(h), x, *v


def regressor() -> EGNNRegressor:
    return order_one(EGNNRegressor(4, 3, 2, out_features=2))


def molecules(seed: int = 0) -> tuple[Tensor, ...]:
    """h, x, edges, graph of three graphs of 3, 1 and 4 nodes."""
    graph = torch.tensor([0] * 3 + [1] + [2] * 4)
    return normal(8, 4, seed=seed), normal(8, 3, seed=seed + 1), complete_edges([3, 1, 4]), graph


# ---- the equations ----


@pytest.mark.shapes
@pytest.mark.parametrize("out_features", [None, 2])
@every_variant
def test_the_network_is_its_layers_one_after_another(variant, out_features):
    net = network_of(variant, 2, out_features)
    case = inputs_of(net)
    found = outputs_and_gradients(in_order(net), net, case)
    wanted = outputs_and_gradients(lambda *c: plain_egnn(net, *c), net, case)
    assert largest(found, wanted) < 1e-12


@pytest.mark.shapes
def test_the_regressor_sums_its_atoms():
    net, (h, x, edges, graph) = regressor(), molecules()
    atoms = net.node(plain_egnn(net.body, h, x, edges, None, None)[0])
    wanted = torch.stack([net.readout(sum(atoms[graph == g])) for g in range(3)])
    assert largest(net(h, x, edges, graph=graph, graphs=3), wanted) < 1e-12


def test_a_graph_without_nodes_sums_to_zero_and_the_order_of_graphs_is_free():
    h = normal(4, 2)
    found = sum_by_graph(h, torch.tensor([2, 0, 2, 0]), 4)
    zero = torch.zeros(2).double()
    wanted = torch.stack([h[1] + h[3], zero, h[0] + h[2], zero])
    torch.testing.assert_close(found, wanted)


# ---- the law ----


@pytest.mark.slow
@pytest.mark.shapes
@settings(max_examples=30)
@given(
    variant=st.sampled_from(list(VARIANTS)),
    n=st.sampled_from([2, 3, 7]),
    layers=st.integers(1, 4),
    nodes=st.integers(1, 6),
    seed=st.integers(0, 10**6),
    mirrored=...,
)
def test_the_network_commutes_with_motions_of_any_space(
    variant, n, layers, nodes, seed, mirrored: bool
):
    net = network_of(variant, layers, seed=seed)
    case = inputs_of(net, n, complete_edges([nodes]), nodes, seed)
    assert law_error(in_order(net), case, rotation(n, seed, mirrored=mirrored), normal(n)) < 1e-10


def test_the_law_notices_a_layer_that_adds_a_constant_vector():
    net = network_of("plain")

    def drifting(h, x, *rest):
        features, positions = in_order(net)(h, x, *rest)
        return features, positions + torch.tensor([0.1, 0.0, 0.0])

    assert law_error(drifting, inputs_of(net), rotation(3), normal(3)) > 1e-2


def test_the_regressor_does_not_change_under_motions():
    net, (h, x, edges, graph) = regressor(), molecules()
    moved = x @ rotation(3, mirrored=True).T + 3 * normal(3)
    assert (
        largest(
            [net(h, moved, edges, graph=graph, graphs=3)], [net(h, x, edges, graph=graph, graphs=3)]
        )
        < 1e-10
    )


def test_the_regressor_sees_the_shape_of_a_molecule():
    net, (h, x, edges, graph) = regressor(), molecules()
    change = net(h, 1.5 * x, edges, graph=graph, graphs=3) - net(h, x, edges, graph=graph, graphs=3)
    assert change[[0, 2]].abs().min() > 1e-3
    assert (change[1] == 0).all()  # one atom has no shape


def test_molecules_of_a_batch_do_not_see_each_other():
    net, (h, x, edges, graph) = regressor(), molecules()
    together = net(h, x, edges, graph=graph, graphs=3)
    for g, size in enumerate([3, 1, 4]):
        real = graph == g
        zeros = torch.zeros(size, dtype=torch.int64)
        alone = net(h[real], x[real], complete_edges([size]), graph=zeros, graphs=1)
        torch.testing.assert_close(together[g : g + 1], alone)


@pytest.mark.shapes
@every_variant
def test_a_padded_batch_equals_its_graphs_one_by_one(variant):
    net, sizes = network_of(variant), [4, 2]
    k = net.layers[0].edge_features
    h, x, v = normal(2, 4, 4), normal(2, 4, 3, seed=1), normal(2, 4, 3, seed=3)
    v = v if net.layers[0].phi_v is not None else None
    edge_attr = normal(2, 4, 4, k, seed=2) if k else None
    mask = torch.arange(4) < torch.tensor(sizes)[:, None]
    found = net(h, x, edge_attr=edge_attr, v=v, mask=mask)
    for b, size in enumerate(sizes):
        edges = complete_edges([size])
        attr = None if edge_attr is None else edge_attr[b][edges[1], edges[0]]
        speed = None if v is None else v[b, :size]
        alone = net(h[b, :size], x[b, :size], edges, edge_attr=attr, v=speed)
        assert largest([out[b, :size] for out in found], alone) < 1e-12
        assert all((out[b, size:] == 0).all() for out in found)


# ---- special cases and the paper's numbers ----


@pytest.mark.parametrize("layers", [1, 4])
def test_with_no_push_and_a_gate_of_one_every_layer_adds_the_initial_velocity(layers):
    net = network_of("velocity", layers)
    for layer in net.layers:
        layer.phi_x[-1].weight.data.zero_()
        layer.phi_v[-1].weight.data.zero_()
        layer.phi_v[-1].bias.data.fill_(1)
    case = inputs_of(net)
    _, x, v = in_order(net)(*case)
    torch.testing.assert_close(x, case.x + layers * case.v)
    torch.testing.assert_close(v, case.v)


def test_a_new_network_stands_almost_still():
    net = EGNN(4, 16, 4).double()
    h, x, edges, *_ = inputs_of(net)
    assert 0 < (net(h, x, edges)[1] - x).abs().max() < 0.01


def test_the_n_body_model_has_134020_weights():
    assert trainable(EGNN(1, 64, 4, edge_features=2, velocity=True)) == 134_020


def test_the_qm9_model_has_745224_weights():
    assert trainable(EGNNRegressor(15, 128, 7)) == 745_224


@pytest.mark.parametrize("variant", ["plain", "velocity", "all"])
def test_where_positions_are_read_only_the_last_phi_h_has_no_gradient(variant):
    net = network_of(variant, out_features=None)
    in_order(net)(*inputs_of(net))[1].square().sum().backward()
    dead = {name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()}
    last = {name for name, _ in net.named_parameters() if name.startswith("layers.2.phi_h")}
    gate = {name for name, _ in net.named_parameters() if name.startswith("layers.2.phi_inf")}
    assert dead == last | gate  # phi_inf acts on phi_h's input only


@every_variant
def test_where_all_outputs_are_read_every_weight_has_a_gradient(variant):
    net = network_of(variant)
    sum(out.square().sum() for out in in_order(net)(*inputs_of(net))).backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


def test_every_weight_of_the_regressor_has_a_gradient():
    net = regressor()
    net(*molecules()[:3], graph=molecules()[3], graphs=3).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


# ---- it learns ----


def fitted_loss(net: nn.Module, loss_of, steps: int = 100) -> float:
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(steps):
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.slow
def test_a_handful_of_point_clouds_is_moved_where_it_should_go():
    x, v = normal(4, 5, 3).float(), normal(4, 5, 3, seed=1).float()
    apart = x[:, :, None] - x[:, None]
    target = x + v + (apart / (0.5 + apart.square().sum(-1, keepdim=True))).sum(2)
    net = EGNN(1, 16, 2, velocity=True)
    speed = v.norm(dim=-1, keepdim=True)

    def loss_of() -> Tensor:
        return (net(speed, x, v=v)[1] - target).square().mean()

    assert loss_of() > 0.5
    assert fitted_loss(net, loss_of) < 0.05


@pytest.mark.slow
def test_a_handful_of_molecules_gets_its_labels():
    h, x, edges, graph = (t.float() if t.is_floating_point() else t for t in molecules())
    net, labels = EGNNRegressor(4, 16, 2), torch.tensor([[1.0], [-1.0], [2.0]])

    def loss_of() -> Tensor:
        return (net(h, x, edges, graph=graph, graphs=3) - labels).square().mean()

    assert loss_of() > 0.5
    assert fitted_loss(net, loss_of) < 1e-3


# ---- what the page says of distances, velocities and sums ----


def copies_on_an_edge(copies: int) -> tuple[Tensor, Tensor, Tensor]:
    """h, x, edges: `copies` equal nodes at each of two places, linked only across."""
    near, far = torch.arange(copies), torch.arange(copies) + copies
    across = torch.cartesian_prod(near, far).T
    x = torch.tensor([[0.0, 0, 0], [1, 0, 0]]).double().repeat_interleave(copies, 0)
    return torch.ones(2 * copies, 1).double(), x, torch.cat([across, across.flip(0)], 1)


def features_after(layers: int, copies: int, *, mean: bool) -> Tensor:
    net = order_one(EGNN(1, 8, layers))
    if mean:  # every node has `copies` neighbours
        for layer in net.layers:
            layer.phi_h.register_forward_pre_hook(
                lambda _, given: torch.cat([given[0][:, :8], given[0][:, 8:] / copies], 1)
            )
    return net(*copies_on_an_edge(copies))[0][0]


def test_a_mean_of_messages_cannot_tell_one_edge_from_two_copies_of_its_ends_and_a_sum_can():
    for layers in (1, 3):
        one, two = (features_after(layers, n, mean=True) for n in (1, 2))
        torch.testing.assert_close(one, two)
    one, two = (features_after(1, n, mean=False) for n in (1, 2))
    assert (one - two).abs().max() > 1e-3


@pytest.mark.parametrize(("layers", "sees"), [(1, False), (2, True), (4, True)])
def test_from_the_second_layer_on_features_know_whether_nodes_fly_together_or_apart(layers, sees):
    x, v, h = normal(5, 3, seed=1), normal(5, 3, seed=2), normal(5, 1, seed=3)
    edges = complete_edges([5])
    square = (x[edges[1]] - x[edges[0]]).square().sum(1, keepdim=True)
    net = order_one(EGNN(1, 8, layers, edge_features=1, velocity=True))
    there, back = (net(h, x, edges, edge_attr=square, v=way)[0] for way in (v, -v))
    assert ((there - back).abs().max() > 1e-3) == sees


@pytest.mark.parametrize("layers", [2, 3])
def test_moving_positions_tell_stars_apart_that_fixed_ones_cannot(layers):
    """A centre with two neighbours at one distance: at a right-angled bend, or straight."""
    edges = torch.tensor([[1, 2, 0, 0], [0, 0, 1, 2]])
    bent, straight = (
        torch.tensor([[0.0, 0, 0], [1, 0, 0], end]).double() for end in ([0, 0, 1.0], [-1.0, 0, 0])
    )
    h = torch.ones(3, 1).double()
    for moving in (False, True):
        net = order_one(EGNN(1, 16, layers, update_positions=moving))
        there, here = (net(h, x, edges)[0][0] for x in (bent, straight))
        assert ((there - here).abs().max() > 1e-6) == moving
