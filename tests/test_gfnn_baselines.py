"""The models that the GFNN is compared with: their equations, laws and printed numbers."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from drawing import normal, order_one, trainable
from torch import Tensor

from archbook.gfnn import (
    MLP,
    FourierMLP,
    GridFunctionedNetwork,
    ModeAdaptiveNetwork,
    PhaseFunctionedNetwork,
    grid_weights,
)
from archbook.gfnn.network import run_layers
from archbook.gfnn.orders import dense


def slow_mlp(mlp: MLP, x: Tensor, act=F.elu) -> Tensor:
    """One sample at a time."""
    rows = []
    for h in x:
        for layer in mlp.layers[:-1]:
            h = act(layer.weight @ h + layer.bias)
        rows.append(mlp.layers[-1].weight @ h + mlp.layers[-1].bias)
    return torch.stack(rows)


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)


# ---- the equations ----


@pytest.mark.shapes
@pytest.mark.parametrize(
    ("activation", "act"),
    [("elu", F.elu), ("relu", torch.relu), ("tanh", torch.tanh), ("gelu", F.gelu)],
)
def test_the_mlp_equals_its_equations(activation, act):
    mlp, x = order_one(MLP(3, (5, 4), 2, activation=activation)), normal(9, 3)
    close(mlp(x), slow_mlp(mlp, x, act))


@pytest.mark.shapes
def test_the_fourier_network_equals_its_equations():
    net, x = order_one(FourierMLP(3, (5, 4), 2, frequencies=6, scale=2.0)), normal(9, 3)
    rows = [
        [wave(2 * math.pi * float(b @ row)) for wave in (math.cos, math.sin) for b in net.B]
        for row in x
    ]
    close(net(x), slow_mlp(net.mlp, torch.tensor(rows, dtype=torch.float64)))


@pytest.mark.shapes
def test_the_mode_adaptive_network_equals_its_equations():
    net = order_one(
        ModeAdaptiveNetwork(3, (5, 4), 2, gate_features=2, experts=3, gate_hidden=(6, 5))
    )
    x, z = normal(9, 3), normal(9, 2, seed=5)
    rows = []
    for h, gate in zip(x, slow_mlp(net.gate, z), strict=True):
        omega = torch.exp(gate) / torch.exp(gate).sum()
        for layer in net.layers:
            W = sum(w * W_k for w, W_k in zip(omega, layer.W, strict=True))
            b = sum(w * b_k for w, b_k in zip(omega, layer.b, strict=True))
            h = W @ h + b
            h = F.elu(h) if layer is not net.layers[-1] else h
        rows.append(h)
    close(net(x, z), torch.stack(rows))


@pytest.mark.shapes
def test_the_phase_functioned_network_is_a_cyclic_grid_of_four_nodes():
    pfnn = order_one(PhaseFunctionedNetwork(3, (5, 4), 2))
    grid = GridFunctionedNetwork(3, (5, 4), 2, grid_shape=(4,), cyclic=(True,)).double()
    grid.load_state_dict(pfnn.state_dict())
    x, phase = normal(9, 3), 3 * torch.rand(9).double()
    close(pfnn(x, phase), grid(x, phase[:, None]))


@pytest.mark.shapes
def test_the_gate_replaced_by_a_grid_makes_the_grid_functioned_network():
    shape = (4, 2)
    mann = order_one(ModeAdaptiveNetwork(3, (5, 4), 2, gate_features=2, experts=8))
    grid = GridFunctionedNetwork(3, (5, 4), 2, grid_shape=shape).double()
    for theirs, mine in zip(mann.layers, grid.layers, strict=True):
        mine.load_state_dict(dict(theirs.state_dict()))  # by intent, so unchecked
    x, g = normal(9, 3), torch.rand(9, 2).double()
    omega = grid_weights(g, shape).flatten(1)
    close(grid(x, g), run_layers(list(mann.layers), partial(dense, omega), x, activation="elu"))


# ---- laws ----


@pytest.mark.shapes
def test_the_gates_weights_are_positive_and_sum_to_one_and_a_grids_may_be_negative():
    omega = order_one(ModeAdaptiveNetwork(3, 5, 2, gate_features=2)).omega(normal(99, 2))
    assert omega.shape == (99, 8)
    assert (omega > 0).all()
    torch.testing.assert_close(omega.sum(1), torch.ones(99).double())
    assert grid_weights(torch.rand(99, 2).double(), (4, 2)).min() < -0.05


@pytest.mark.parametrize("turns", [1, -2])
def test_a_phase_and_the_same_a_turn_later_are_one(turns):
    net, x, phase = order_one(PhaseFunctionedNetwork(3, 5, 2)), normal(9, 3), torch.rand(9).double()
    close(net(x, phase + turns), net(x, phase))


def test_one_expert_makes_the_mode_adaptive_network_a_plain_one():
    net = order_one(ModeAdaptiveNetwork(3, (5, 4), 2, gate_features=2, experts=1))
    mlp = MLP(3, (5, 4), 2).double()
    for mine, layer in zip(mlp.layers, net.layers, strict=True):
        mine.weight.data, mine.bias.data = layer.W[0].detach(), layer.b[0].detach()
    close(net(normal(9, 3), normal(9, 2)), mlp(normal(9, 3)))


# ---- numbers of the papers, initial weights, learning ----


def test_a_plain_network_of_the_pfnns_size_has_597815_numbers():
    with torch.device("meta"):
        assert trainable(MLP(342, 512, 311)) == 597_815


def test_the_mode_adaptive_network_has_its_experts_and_its_gate():
    expert = 480 * 512 + 512 + 512 * 512 + 512 + 512 * 363 + 363
    gate = 19 * 32 + 32 + 32 * 32 + 32 + 32 * 8 + 8
    with torch.device("meta"):
        assert trainable(ModeAdaptiveNetwork(480, 512, 363, gate_features=19)) == 8 * expert + gate


def test_the_plain_network_begins_with_glorots_weights():
    for layer in MLP(64, 128, 64).layers:
        bound = math.sqrt(6 / (layer.in_features + layer.out_features))
        assert 0.95 * bound < layer.weight.abs().max() <= bound
        assert (layer.bias == 0).all()


def test_the_frequencies_are_as_wide_as_asked_and_do_not_learn():
    net = FourierMLP(4, 8, 1, frequencies=500, scale=3.0)
    assert float(net.B.std()) == pytest.approx(3, rel=0.1)
    assert "B" in net.state_dict()
    assert trainable(net) == trainable(MLP(1000, 8, 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    "net",
    [
        lambda: MLP(1, 16, 1),
        lambda: FourierMLP(1, 16, 1, frequencies=8),
        lambda: PhaseFunctionedNetwork(1, 16, 1),
        lambda: ModeAdaptiveNetwork(1, 16, 1, gate_features=1, experts=4),
    ],
    ids=["MLP", "FourierMLP", "PFNN", "MANN"],
)
def test_a_wave_is_fitted_and_every_number_has_a_gradient(net):
    net = net()
    x = torch.linspace(0, 1, 60)[:, None]
    target, second = torch.sin(6 * x), (x[:, 0],) if isinstance(net, PhaseFunctionedNetwork) else ()
    given = (2 * x - 1, 2 * x - 1) if isinstance(net, ModeAdaptiveNetwork) else (2 * x - 1, *second)
    optimizer, losses = torch.optim.Adam(net.parameters(), lr=0.02), []
    for _ in range(150):
        loss = (net(*given) - target).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 1e-2 < losses[0]
    assert all(p.grad.abs().amax() > 0 for p in net.parameters())
