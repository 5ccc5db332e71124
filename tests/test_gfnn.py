"""The grid-functioned network: its equations, its laws, and broken twins that must fail them."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from drawing import normal, order_one, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from archbook.gfnn import (
    MLP,
    GridFunctionedNetwork,
    GridLinear,
    PhaseFunctionedNetwork,
    axis_weights,
    grid_weights,
    weights,
)

ORDERS = ("auto", "blend", "experts", "cells")
GRIDS = {
    "one axis": ((6,), (False,), "clamp"),
    "cyclic": ((5,), (True,), "clamp"),
    "linear ends": ((5, 4), (False, False), "linear"),
    "mixed": ((5, 3), (True, False), "clamp"),
    "three axes": ((3, 2, 5), (False, False, True), "clamp"),
    "a dead axis": ((1, 5), (False, False), "clamp"),
}
every_grid = pytest.mark.parametrize("grid", GRIDS)


def places(batch: int, dims: int, seed: int = 1) -> Tensor:
    generator = seeded(seed)
    return torch.rand(batch, dims, generator=generator).double()


def network(grid: str, **options) -> GridFunctionedNetwork:
    shape, cyclic, edges = GRIDS[grid]
    return order_one(
        GridFunctionedNetwork(3, (5, 4), 2, grid_shape=shape, cyclic=cyclic, edges=edges, **options)
    )


def hermite(y: Tensor, u: Tensor, cyclic: bool, edges: str) -> Tensor:
    """The cubic through the rows of y at one place u, by Hermite's basis, from the text."""
    nodes = len(y)
    if nodes == 1:
        return y[0]

    def at(k: int) -> Tensor:
        if cyclic:
            return y[k % nodes]
        if edges == "linear" and k < 0:
            return 2 * y[0] - y[1]
        if edges == "linear" and k >= nodes:
            return 2 * y[-1] - y[-2]
        return y[min(max(k, 0), nodes - 1)]

    s = (u - u.detach().floor()) * nodes if cyclic else u.clamp(0, 1) * (nodes - 1)
    i = int(s.detach().floor()) if cyclic else min(int(s.detach().floor()), nodes - 2)
    t, slope_0, slope_1 = s - i, (at(i + 1) - at(i - 1)) / 2, (at(i + 2) - at(i)) / 2
    value = (1 + 2 * t) * (1 - t) ** 2 * at(i) + t**2 * (3 - 2 * t) * at(i + 1)
    return value + t * (1 - t) ** 2 * slope_0 - t**2 * (1 - t) * slope_1


def parameters_at(layer: GridLinear, g: Tensor, grid: str) -> tuple[Tensor, Tensor]:
    """W(g) and b(g) of one sample: a spline along the first axis, then along the next."""
    (shape, cyclic, edges), blended = GRIDS[grid], []
    for stored in (layer.W, layer.b):
        value = stored.unflatten(0, shape)
        for u, wraps in zip(g, cyclic, strict=True):
            value = hermite(value, u, wraps, edges)
        blended.append(value)
    return blended[0], blended[1]


def slow_outputs(net: GridFunctionedNetwork, x: Tensor, g: Tensor, grid: str) -> Tensor:
    """The equations, one sample and one layer at a time; ELU."""
    rows = []
    for h, place in zip(x, g, strict=True):
        for number, layer in enumerate(net.layers, start=1):
            W, b = parameters_at(layer, place, grid)
            h = W @ h + b
            if number < len(net.layers):
                h = torch.where(h > 0, h, torch.expm1(h))
        rows.append(h)
    return torch.stack(rows)


def gradients(output: Tensor, module: nn.Module, *inputs: Tensor) -> list[Tensor]:
    weight = normal(*output.shape, seed=9)
    sources = [*module.parameters(), *inputs]
    return list(torch.autograd.grad((output * weight).sum(), sources))


# ---- the equations ----


@pytest.mark.shapes
@pytest.mark.parametrize("order", ORDERS)
@every_grid
def test_the_network_equals_a_spline_through_its_parameters(grid, order):
    net = network(grid)
    x, g = normal(9, 3).requires_grad_(), places(9, len(GRIDS[grid][0])).requires_grad_()
    found, wanted = net(x, g, order), slow_outputs(net, x, g, grid)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)
    for f, w in zip(gradients(found, net, x, g), gradients(wanted, net, x, g), strict=True):
        torch.testing.assert_close(f, w, atol=1e-11, rtol=1e-11)


@pytest.mark.shapes
@every_grid
def test_a_layer_equals_a_spline_through_its_parameters(grid):
    shape, cyclic, edges = GRIDS[grid]
    layer = order_one(GridLinear(3, 2, shape, cyclic=cyclic, edges=edges))
    x, g = normal(9, 3), places(9, len(shape))
    wanted = torch.stack(
        [W @ h + b for h, (W, b) in zip(x, (parameters_at(layer, p, grid) for p in g), strict=True)]
    )
    torch.testing.assert_close(layer(x, g), wanted, atol=1e-12, rtol=0)


def test_to_blend_parameters_is_to_blend_a_layers_outputs_and_not_a_networks():
    net, x, g = network("mixed"), normal(9, 3), places(9, 2)
    omega = grid_weights(g, (5, 3), (True, False)).flatten(1)

    def expert(k: int, x: Tensor, layers) -> Tensor:
        for layer in layers[:-1]:
            x = F.elu(F.linear(x, layer.W[k], layer.b[k]))
        return F.linear(x, layers[-1].W[k], layers[-1].b[k])

    def blended(layers) -> Tensor:
        outputs = torch.stack([expert(k, x, layers) for k in range(15)], dim=1)
        return torch.einsum("bk,bko->bo", omega, outputs)

    one = net.layers[:1]
    torch.testing.assert_close(one[0](x, g), blended(one), atol=1e-12, rtol=0)
    assert (net(x, g) - blended(net.layers)).abs().max() > 1e-3


# ---- smooth in g: once, not twice ----


def slopes(net, x: Tensor, start: Tensor, stop: Tensor, t: Tensor) -> Tensor:
    """The derivative of the outputs' sum along the line from start to stop, at each t."""
    t = t.clone().requires_grad_()
    g = start + t[:, None] * (stop - start)
    return torch.autograd.grad(net(x.expand(len(t), -1), g).sum(), t)[0]


def largest_jump(net, x: Tensor, start: Tensor, stop: Tensor) -> float:
    """By how much the slope jumps where it does so most, against its scale.

    Cuts the line into pieces, goes on with the one over which the slope changes most, and does so
    until it is 1e-9 long. What a smooth function changes over it is its second derivative only.
    """
    low, high, scale = 0.0, 1.0, None
    while high - low > 1e-9:
        t = torch.linspace(low, high, 81, dtype=torch.float64)
        found = slopes(net, x, start, stop, t)
        scale = found.abs().max() if scale is None else scale
        worst = int(found.diff().abs().argmax())
        low, high, jump = float(t[worst]), float(t[worst + 1]), found.diff().abs().max()
    return float(jump / scale)


# across the grid, out of it along the second axis, over the seams of the first
LINES = [([0.02, 0.1], [0.95, 0.9]), ([0.5, -0.4], [0.5, 1.4]), ([-0.7, 0.3], [1.3, 0.4])]


def along(line, net) -> float:
    start, stop = (torch.tensor(end).double() for end in line)
    return largest_jump(net, normal(1, 3, seed=4), start, stop)


@pytest.mark.parametrize("activation", ["elu", "softplus", "tanh", "gelu"])
def test_the_network_is_once_differentiable_along_any_line(activation):
    net = network("mixed", activation=activation)
    assert along(LINES[0], net) < 1e-5
    assert along(LINES[2], net) < 1e-5  # over two seams


def test_with_linear_ends_the_network_is_once_differentiable_inside():
    assert along(LINES[0], network("linear ends")) < 1e-5


def test_the_law_notices_relu():
    assert along(LINES[0], network("mixed", activation="relu")) > 1e-3


def test_the_law_notices_straight_lines_between_nodes(monkeypatch):
    def hats(m):
        return torch.stack([torch.zeros_like(m), 1 - m, m, torch.zeros_like(m)], dim=-1)

    monkeypatch.setattr(weights, "catmull_rom", hats)
    assert along(LINES[0], network("mixed")) > 1e-3


def test_the_law_notices_the_clamp_outside_the_grid():
    assert along(LINES[1], network("linear ends")) > 1e-3


def test_the_second_derivative_jumps_at_a_border():
    net, x = network("one axis"), normal(1, 3, seed=4)
    curvatures = []
    for side in (-1e-9, 1e-9):
        g = torch.tensor([[2 / 5 + side]], dtype=torch.float64).requires_grad_()
        (slope,) = torch.autograd.grad(net(x, g).sum(), g, create_graph=True)
        curvatures.append(torch.autograd.grad(slope.sum(), g)[0])
    assert (curvatures[0] - curvatures[1]).abs() > 1e-3


@pytest.mark.parametrize("turns", [1, 3, -2])
def test_a_turn_on_a_cyclic_axis_changes_nothing(turns):
    net, x, g = network("mixed"), normal(9, 3), places(9, 2)
    g[0, 0] = 0.0  # and so 0 and 1 are one place
    turned = g + torch.tensor([turns, 0.0]).double()
    torch.testing.assert_close(net(x, turned), net(x, g), atol=1e-12, rtol=0)


def test_outside_a_non_cyclic_axis_the_end_is_used():
    net, x = network("one axis"), normal(3, 3)
    far, end = torch.tensor([[-2.0], [1.5], [1.0]]), torch.tensor([[0.0], [1.0], [1.0]])
    assert torch.equal(net(x, far.double()), net(x, end.double()))


# ---- limits: a plain network ----


def plain(net: GridFunctionedNetwork, node: int) -> MLP:
    """The network of one expert."""
    mlp = MLP(3, (5, 4), 2).double()
    for mine, layer in zip(mlp.layers, net.layers, strict=True):
        mine.weight.data, mine.bias.data = layer.W[node].detach(), layer.b[node].detach()
    return mlp


@every_grid
def test_at_a_node_the_network_is_that_expert(grid):
    shape, cyclic, _ = GRIDS[grid]
    net, x = network(grid), normal(4, 3)
    for place in range(0, math.prod(shape), 3):
        node = torch.stack(torch.unravel_index(torch.tensor(place), shape))
        cells = [n if wraps else max(1, n - 1) for n, wraps in zip(shape, cyclic, strict=True)]
        g = node.double() / torch.tensor(cells)
        found, wanted = net(x, g.expand(4, -1)), plain(net, place)(x)
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)], ids=["64", "32"]
)
@every_grid
def test_a_constant_grid_is_a_plain_network_everywhere(grid, dtype, tolerance):
    net = network(grid)
    for layer in net.layers:
        layer.W.data[:], layer.b.data[:] = layer.W[:1].clone(), layer.b[:1].clone()
    x, g = normal(30, 3), 3 * places(30, len(GRIDS[grid][0])) - 1
    wanted = plain(net, 0)(x)
    for order in ORDERS:
        found = net.to(dtype)(x.to(dtype), g.to(dtype), order)
        torch.testing.assert_close(found.double(), wanted, atol=4 * tolerance, rtol=tolerance)


@pytest.mark.parametrize("order", ORDERS)
def test_one_expert_is_a_plain_network(order):
    net, x = order_one(GridFunctionedNetwork(3, (5, 4), 2, grid_shape=(1, 1))), normal(9, 3)
    torch.testing.assert_close(net(x, places(9, 2), order), plain(net, 0)(x), atol=1e-13, rtol=0)


def test_an_int_stands_for_two_hidden_layers():
    one, two = (
        GridFunctionedNetwork(3, 6, 2, grid_shape=(4,)),
        GridFunctionedNetwork(3, (6, 6), 2, grid_shape=(4,)),
    )
    assert [p.shape for p in one.parameters()] == [p.shape for p in two.parameters()]


def test_without_hidden_layers_the_network_is_one_layer():
    net, x, g = (
        GridFunctionedNetwork(3, (), 2, grid_shape=(4,)),
        normal(9, 3).float(),
        places(9, 1).float(),
    )
    assert torch.equal(net(x, g), net.layers[0](x, g))


def test_axes_swapped_with_the_grid_transposed_change_nothing():
    shape, swapped = (5, 3, 4), (4, 5, 3)
    net = order_one(
        GridFunctionedNetwork(3, (5,), 2, grid_shape=shape, cyclic=(True, False, False))
    )
    other = GridFunctionedNetwork(
        3, (5,), 2, grid_shape=swapped, cyclic=(False, True, False)
    ).double()
    for mine, theirs in zip(other.parameters(), net.parameters(), strict=True):
        mine.data = theirs.detach().unflatten(0, shape).movedim(2, 0).flatten(0, 2)
    x, g = normal(9, 3), places(9, 3)
    found = other(x, g[:, [2, 0, 1]])
    torch.testing.assert_close(found, net(x, g), atol=1e-13, rtol=0)
    assert (other(x, g) - net(x, g)).abs().max() > 1e-2


def test_a_cyclic_axis_of_four_nodes_is_the_published_phase_functioned_network():
    """The cubic of Holden's code, term by term, on whole parameter sets."""
    net = order_one(PhaseFunctionedNetwork(3, (5, 4), 2))
    x, phase = normal(50, 3), places(50, 1)[:, 0]
    rows = []
    for h, p in zip(x, phase.tolist(), strict=True):
        scaled = 4 * p
        mu, k_1 = scaled % 1, int(scaled) % 4
        k_0, k_2, k_3 = (k_1 - 1) % 4, (k_1 + 1) % 4, (k_1 + 2) % 4
        for layer in net.layers:

            def cubic(y, k=(k_0, k_1, k_2, k_3), mu=mu):
                y0, y1, y2, y3 = (y[node] for node in k)
                return (
                    (-0.5 * y0 + 1.5 * y1 - 1.5 * y2 + 0.5 * y3) * mu**3
                    + (y0 - 2.5 * y1 + 2.0 * y2 - 0.5 * y3) * mu**2
                    + (-0.5 * y0 + 0.5 * y2) * mu
                    + y1
                )

            h = cubic(layer.W) @ h + cubic(layer.b)
            h = F.elu(h) if layer is not net.layers[-1] else h
        rows.append(h)
    torch.testing.assert_close(net(x, phase), torch.stack(rows), atol=1e-12, rtol=0)


# ---- what is stored, and what learns ----


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
)
def test_the_network_stores_one_plain_network_a_node(sizes, shape):
    net = GridFunctionedNetwork(sizes[0], sizes[1:-1], sizes[-1], grid_shape=shape)
    expert = sum(o * i + o for i, o in itertools.pairwise(sizes))
    assert sum(p.numel() for p in net.parameters()) == expert * math.prod(shape)


def test_the_largest_shipped_pfnn_has_597815_numbers_a_node():
    with torch.device("meta"):
        net = PhaseFunctionedNetwork(342, 512, 311)
    assert sum(p.numel() for p in net.parameters()) == 4 * 597_815


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("g", "touched"),
    [
        ([0.45, 0.55], 16),
        ([0.05, 0.45], 12),  # a clamped end: the missing node is the end node
        ([0.05, 0.97], 9),
        ([3 / 8, 0.45], 4),  # on a node of the first axis, which binary numbers can say
        ([3 / 8, 5 / 8], 1),
    ],
)
def test_a_sample_trains_exactly_the_experts_that_it_reads(g, touched, order):
    net = order_one(GridFunctionedNetwork(3, (5, 4), 2, grid_shape=(9, 9)))
    net(normal(1, 3), torch.tensor([g]).double(), order).sum().backward()
    for layer in net.layers:
        assert int((layer.b.grad != 0).any(1).sum()) == touched
        assert int((layer.W.grad != 0).flatten(1).any(1).sum()) == touched


def test_a_network_that_makes_g_learns_from_it():
    maker, net = order_one(nn.Sequential(nn.Linear(3, 2), nn.Sigmoid())), network("mixed")
    x = normal(9, 3)
    for order in ORDERS:
        maker.zero_grad()
        net(x, maker(x), order).sum().backward()
        assert all(p.grad.abs().min() > 0 for p in maker.parameters())


def test_independent_experts_differ_and_tied_ones_are_one_network():
    for init, same in (("independent", False), ("tied", True)):
        net = GridFunctionedNetwork(3, 64, 2, grid_shape=(4, 4), init=init)
        for layer in net.layers:
            W, b = layer.W, layer.b
            bound = math.sqrt(6 / (W.shape[1] + W.shape[2]))
            assert (b == 0).all()
            assert 0.9 * bound < W.abs().max() <= bound
            assert W.mean().abs() < 0.2 * bound
            assert bool((W[:1] == W).all()) is same
            assert same or (W[1:] != W[:1]).all()


@pytest.mark.slow
def test_a_local_bump_is_fitted_from_a_handful_of_samples():
    net = GridFunctionedNetwork(2, 8, 1, grid_shape=(4, 4))
    g = places(64, 2).float()
    x, target = 2 * g - 1, torch.exp(-(g - 0.7).square().sum(1, keepdim=True) / 0.02)
    optimizer, losses = torch.optim.Adam(net.parameters(), lr=0.02), []
    for _ in range(150):
        loss = (net(x, g) - target).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 1e-4 < losses[0]


def test_every_number_has_a_gradient_where_samples_lie_everywhere():
    net = network("mixed")
    net(normal(300, 3), places(300, 2)).square().sum().backward()
    assert all((p.grad != 0).all() for p in net.parameters())


def test_the_weights_of_one_axis_are_those_that_the_layers_use():
    layer = order_one(GridLinear(3, 2, (6,), edges="linear"))
    x, u = normal(9, 3), places(9, 1)
    wanted = torch.einsum("bk,koi,bi->bo", axis_weights(u[:, 0], 6, edges="linear"), layer.W, x)
    wanted = wanted + axis_weights(u[:, 0], 6, edges="linear") @ layer.b
    torch.testing.assert_close(layer(x, u), wanted, atol=1e-12, rtol=0)
