"""The n-body network: what its edges know, its law, and what it refuses."""

import pytest
import torch
from plain_egnn import normal, order_one, rotation
from refusals import each_raises
from torch import Tensor

from archbook.egnn import NBodyEGNN, complete_edges
from archbook.egnn.nbody import every_pair

FORMS = [{}, {"edge_distance": False}, {"edge_angles": True}, {"attention": True}]
every_form = pytest.mark.parametrize("form", FORMS, ids=str)


def network(**form) -> NBodyEGNN:
    return order_one(NBodyEGNN(6, 2, **form))


def systems(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    x, v = normal(3, 5, 3, seed=seed), normal(3, 5, 3, seed=seed + 1)
    return x, v, normal(3, 5, seed=seed + 2).sign()


@pytest.mark.parametrize(("systems", "particles"), [(1, 2), (4, 5), (3, 9)])
def test_the_pairs_are_those_of_complete_graphs_in_their_order(systems, particles):
    assert torch.equal(every_pair(systems, particles), complete_edges([particles] * systems))


@pytest.mark.shapes
@every_form
def test_the_network_is_the_egnn_on_speeds_and_on_what_each_pair_knows(form):
    net, (x, v, charges) = network(**form), systems()
    for one in range(3):  # system by system, edge by edge
        known = []
        for j, i in complete_edges([5]).T.tolist():
            between, drift = x[one, i] - x[one, j], v[one, i] - v[one, j]
            edge = [charges[one, i] * charges[one, j]]
            edge += [between @ between] if form.get("edge_distance", True) else []
            edge += [between @ drift, drift @ drift] if form.get("edge_angles") else []
            known.append(torch.stack(edge))
        speed = v[one].square().sum(-1, keepdim=True).sqrt()
        edges = complete_edges([5])
        wanted = net.body(speed, x[one], edges, edge_attr=torch.stack(known), v=v[one])[1]
        torch.testing.assert_close(net(x, v, charges)[one], wanted)


@pytest.mark.shapes
@every_form
def test_it_commutes_with_rotation_reflection_and_shift(form):
    net, (x, v, charges) = network(**form), systems()
    Q, shift = rotation(3), normal(3, seed=7)
    moved = net(x @ Q.T + shift, v @ Q.T, charges)
    torch.testing.assert_close(moved, net(x, v, charges) @ Q.T + shift, rtol=1e-9, atol=1e-9)


def test_the_law_notices_one_component_of_the_velocity_as_a_speed():
    net, (x, v, charges) = network(), systems()
    Q = rotation(3)
    net.body.register_forward_pre_hook(lambda _, given: (v.flatten(0, 1)[:, :1], *given[1:]))
    turned = network()
    turned.body.register_forward_pre_hook(
        lambda _, given: ((v @ Q.T).flatten(0, 1)[:, :1], *given[1:])
    )
    assert not torch.allclose(turned(x @ Q.T, v @ Q.T, charges), net(x, v, charges) @ Q.T)


def test_the_order_of_particles_only_orders_the_answer():
    net, (x, v, charges) = network(), systems()
    order = [3, 0, 4, 1, 2]
    found = net(x[:, order], v[:, order], charges[:, order])
    torch.testing.assert_close(found, net(x, v, charges)[:, order])


ones = torch.ones
net = NBodyEGNN(4, 1)
test_it_refuses = each_raises(
    [
        (
            lambda: net(ones(5, 3), ones(5, 3), ones(5)),
            ValueError,
            r"x to have shape \(systems, particles, n\), given \(5, 3\)",
        ),
        (
            lambda: net(ones(2, 5, 3), ones(2, 4, 3), ones(2, 5)),
            ValueError,
            r"v to have shape \(2, 5, 3\), given \(2, 4, 3\)",
        ),
        (
            lambda: net(ones(2, 5, 3), ones(2, 5, 3), ones(2, 5, 1)),
            ValueError,
            r"charges to have shape \(2, 5\), given \(2, 5, 1\)",
        ),
        (
            lambda: net(ones(2, 1, 3), ones(2, 1, 3), ones(2, 1)),
            ValueError,
            "at least 2 particles in a system, given 1",
        ),
    ]
)
