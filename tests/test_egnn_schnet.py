"""SchNet, the invariant baseline: its equations, its symmetry, what it refuses, that it learns."""

import copy
import math
import re

import pytest
import torch
from drawing import largest, normal, order_one, seeded
from plain_egnn import EDGES, outputs_and_gradients, rotation
from torch import Tensor, nn

from archbook.egnn import EGNNRegressor, complete_edges
from archbook.egnn.schnet import Gaussians, SchNet

SIZES = [3, 1, 4]  # nodes of three graphs
GRAPH = torch.repeat_interleave(torch.tensor(SIZES))


def network(layers: int = 2) -> SchNet:
    return order_one(SchNet(4, 3, layers, out_features=2, gaussians=6, reach=3.0))


def inputs(n: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """h, x and edges of the three graphs."""
    return normal(8, 4, seed=seed), normal(8, n, seed=seed + 1), complete_edges(SIZES)


def slow_schnet(net: SchNet, h: Tensor, x: Tensor, edges: Tensor, graph: Tensor, graphs: int):
    """One receiver, one of its neighbours and one Gaussian at a time."""
    h = net.embed(h)
    for layer in net.layers:
        rows = []
        for i in range(len(h)):
            m_i = torch.zeros_like(h[i])
            for j, receiver in edges.T.tolist():
                if receiver == i:
                    d = (x[i] - x[j]).square().sum().sqrt()
                    g = [torch.exp(-((d - 0.6 * k) ** 2) / (2 * 0.6**2)) for k in range(6)]
                    m_i = m_i + (layer.A.weight @ h[j]) * layer.W(torch.stack(g))
            rows.append(h[i] + layer.phi_h(m_i))
        h = torch.stack(rows)
    answers = []
    for number in range(graphs):
        total = torch.zeros_like(h[0])
        for i in range(len(h)):
            if graph[i] == number:
                total = total + net.node(h[i])
        answers.append(net.readout(total))
    return torch.stack(answers)


# ---- the equations ----


@pytest.mark.shapes
@pytest.mark.parametrize("layers", [1, 3])
def test_the_network_and_its_gradients_equal_a_slow_loop(layers):
    net, case = network(layers), inputs()
    found = outputs_and_gradients(lambda *c: net(*c, graph=GRAPH, graphs=3), net, case)
    wanted = outputs_and_gradients(lambda *c: slow_schnet(net, *c, GRAPH, 3), net, case)
    assert largest(found, wanted) < 1e-12


def test_edges_have_a_direction_and_may_be_repeated_or_missing():
    net, graph = network(), torch.zeros(7, dtype=torch.int64)
    case = normal(7, 4), normal(7, 3, seed=1), EDGES
    assert largest(net(*case, graph=graph, graphs=1), slow_schnet(net, *case, graph, 1)) < 1e-12


def test_a_graph_alone_gives_what_it_gives_in_a_batch():
    net, (h, x, edges) = network(), inputs()
    together = net(h, x, edges, graph=GRAPH, graphs=3)
    for number, size in enumerate(SIZES):
        mine = number == GRAPH
        alone = net(h[mine], x[mine], complete_edges([size]), graph=GRAPH[mine] * 0, graphs=1)
        torch.testing.assert_close(alone[0], together[number])


@pytest.mark.shapes
def test_gaussians_by_hand():
    g = Gaussians(3, 4.0)(torch.tensor([[0.0], [2.0], [3.0]]))  # centres 0, 2, 4, width 2
    e = [math.exp(-0.5 * t**2) for t in (0.0, 1.0, 2.0)]
    half, more = math.exp(-1 / 8), math.exp(-9 / 8)
    assert g.flatten().tolist() == pytest.approx([*e, e[1], e[0], e[1], more, half, half])


def test_it_has_as_many_weights_as_the_regressor():
    # by hand: embedding 1,024; five interactions of 19,840; read-out 8,320 and 4,225
    weights = [
        sum(p.numel() for p in net.parameters())
        for net in (SchNet(15, 64, 5), EGNNRegressor(15, 64, 4))
    ]
    assert weights[0] == 1_024 + 5 * 19_840 + 8_320 + 4_225
    assert weights[0] == pytest.approx(weights[1], rel=0.01)


# ---- the law ----


def motion_error(run, n: int, seed: int, *, mirrored: bool) -> float:
    """How far the answers are from those for turned and shifted points, at a scale of one."""
    h, x, edges = inputs(n, seed)
    moved = x @ rotation(n, seed, mirrored=mirrored).T + 3 * normal(n, seed=seed + 2)
    return largest(
        [run(h, moved, edges, graph=GRAPH, graphs=3)], [run(h, x, edges, graph=GRAPH, graphs=3)]
    )


@pytest.mark.shapes
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("n", [2, 3, 7])
def test_no_motion_changes_the_answers(n, mirrored):
    assert max(motion_error(network(), n, seed, mirrored=mirrored) for seed in range(10)) < 1e-10


def test_the_check_notices_a_leaked_absolute_position():
    net = network()
    leak = motion_error(
        lambda h, x, edges, **of: net(h + x[:, :1], x, edges, **of), 3, 0, mirrored=False
    )
    assert leak > 1e-3


def test_the_check_is_made_where_positions_matter():
    net, (h, x, edges) = network(), inputs()
    assert (
        largest(
            [net(h, 1.1 * x, edges, graph=GRAPH, graphs=3)],
            [net(h, x, edges, graph=GRAPH, graphs=3)],
        )
        > 1e-3
    )


@pytest.mark.shapes
def test_nodes_edges_and_graphs_may_come_in_any_order():
    net, (h, x, edges) = network(), inputs()
    generator = seeded(0)
    nodes, order = (torch.randperm(k, generator=generator) for k in (8, edges.shape[1]))
    place = nodes.argsort()  # of the old node in the new order
    numbers = torch.tensor([2, 0, 1])
    found = net(h[nodes], x[nodes], place[edges][:, order], graph=numbers[GRAPH][nodes], graphs=3)
    torch.testing.assert_close(
        found[numbers], net(h, x, edges, graph=GRAPH, graphs=3), atol=1e-12, rtol=0
    )


# ---- the edges of what it takes ----


def test_coincident_nodes_and_self_loops_have_finite_gradients():
    net, (h, x, edges) = network(), inputs()
    x = torch.zeros_like(x).requires_grad_()
    edges = torch.cat([edges, torch.tensor([[0], [0]])], 1)
    net(h, x, edges, graph=GRAPH, graphs=3).sum().backward()
    assert all(t.grad.isfinite().all() for t in (x, *net.parameters()))


def test_nodes_without_edges_are_read_as_they_are():
    net, (h, x, _) = network(), inputs()
    none = torch.zeros(2, 0, dtype=torch.int64)
    wanted = slow_schnet(net, h, x, none, GRAPH, 3)
    torch.testing.assert_close(net(h, x, none, graph=GRAPH, graphs=3), wanted)


def test_beyond_the_reach_distance_no_longer_matters():
    net, (h, x, edges) = network(), inputs()
    far, farther = (net(h, scale * x, edges, graph=GRAPH, graphs=3) for scale in (1e3, 1e4))
    torch.testing.assert_close(far, farther)


def test_inputs_are_not_modified():
    net, case = network(), inputs()
    before = copy.deepcopy(case)
    net(*case, graph=GRAPH, graphs=3)
    assert all(torch.equal(a, b) for a, b in zip(case, before, strict=True))


def test_a_model_on_the_meta_device_runs_there():
    net = SchNet(4, 8, 2).to("meta")
    h, x, edges = (t.to("meta") for t in inputs())
    assert net(h.float(), x.float(), edges, graph=GRAPH.to("meta"), graphs=3).shape == (3, 1)


def test_under_autocast_the_answers_stay_near_those_in_float32():
    torch.manual_seed(0)
    net, (h, x, edges) = SchNet(4, 8, 2), inputs()
    wanted = net(h.float(), x.float(), edges, graph=GRAPH, graphs=3)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(h.float(), x.float(), edges, graph=GRAPH, graphs=3)
    torch.testing.assert_close(found.float(), wanted, atol=0.02, rtol=0.02)


@pytest.mark.compile
def test_it_is_one_graph_for_the_compiler():
    net, case = network(), inputs()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(
        compiled(*case, graph=GRAPH, graphs=3), net(*case, graph=GRAPH, graphs=3)
    )


# ---- refusals ----


def wrong(**changes) -> dict:
    h, x, edges = inputs()
    return {"h": h, "x": x, "edges": edges, "graph": GRAPH, "graphs": 3} | changes


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"h": normal(8, 5)}, ValueError, "h to have shape (nodes, 4), given (8, 5)"),
        ({"h": normal(8, 4).float()}, TypeError, "h to be torch.float64 like the weights"),
        ({"h": normal(8, 4) / 0}, ValueError, "h to be finite"),
        ({"x": normal(7, 3)}, ValueError, "x to have shape (8, n), given (7, 3)"),
        ({"x": normal(8, 3) * torch.nan}, ValueError, "x to be finite, given 24 NaN"),
        ({"x": normal(8, 3).to("meta")}, ValueError, "x to be on cpu"),
        ({"edges": torch.tensor([[0], [8]])}, ValueError, "edges to lie in [0, 7]"),
        ({"edges": torch.zeros(2, 3)}, TypeError, "edges to be torch.int64, given torch.float32"),
        ({"edges": torch.zeros(3, 2).long()}, ValueError, "edges to have shape (2, edges)"),
        ({"graph": GRAPH[:-1]}, ValueError, "graph to have shape (8), given (7,)"),
        ({"graph": GRAPH.float()}, TypeError, "graph to be torch.int64, given torch.float32"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(changes, error, words):
    with pytest.raises(error, match=re.escape(words)):
        network()(**wrong(**changes))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"in_features": 0}, ValueError, "in_features to be at least 1, given 0"),
        ({"hidden": 8.0}, TypeError, "hidden to be an int, given 8.0"),
        ({"layers": -1}, ValueError, "layers to be at least 1, given -1"),
        ({"out_features": 0}, ValueError, "out_features to be at least 1, given 0"),
        ({"gaussians": 2.5}, TypeError, "gaussians to be an int, given 2.5"),
        ({"gaussians": 1}, ValueError, "wanted gaussians >= 2 and a finite reach > 0, given 1 and"),
        ({"gaussians": 5, "reach": 0.0}, ValueError, "a finite reach > 0, given 5 and 0.0"),
        ({"gaussians": 5, "reach": math.nan}, ValueError, "a finite reach > 0, given 5 and nan"),
    ],
)
def test_sizes_that_make_no_network_are_refused(arguments, error, words):
    with pytest.raises(error, match=re.escape(words)):
        SchNet(**{"in_features": 4, "hidden": 8, "layers": 2} | arguments)


# ---- it learns ----


def test_every_parameter_has_a_gradient():
    net = network()
    net(*inputs(), graph=GRAPH, graphs=3).square().sum().backward()
    assert all(p.grad is not None and (p.grad != 0).any() for p in net.parameters())


def test_gradients_equal_finite_differences():
    net, (h, x, edges) = network(1), inputs()
    h, x = h.requires_grad_(), x.requires_grad_()
    assert torch.autograd.gradcheck(lambda h, x: net(h, x, edges, graph=GRAPH, graphs=3), [h, x])


@pytest.mark.slow
def test_a_handful_of_distances_is_fitted():
    torch.manual_seed(0)
    net = SchNet(4, 16, 2)
    x = 2 * torch.randn(16, 3)
    edges, graph = complete_edges([2] * 8), torch.arange(8).repeat_interleave(2)
    wanted = (x[::2] - x[1::2]).norm(dim=1, keepdim=True)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(200):
        loss = nn.functional.mse_loss(
            net(torch.ones(16, 4), x, edges, graph=graph, graphs=8), wanted
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 1e-2 * wanted.var()
