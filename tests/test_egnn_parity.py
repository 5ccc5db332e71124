"""Parity with egnn-pytorch, an independent implementation: the layer, by copied weights.

It runs in an environment of its own: `make parity`. Their layer is wider inside, sums in place
of averaging, gives phi_x a bias, and lets every node send to itself; so our phi_e, phi_x and
phi_h are rebuilt here at their widths, and our edges hold self loops. Outputs and gradients in
float64; measured with egnn-pytorch 0.2.8: 1e-14. Their gate (`soft_edges`) also acts on what
phi_x reads, where ours and the paper's Eq. 8 act on the sum only: it is compared on a layer that
moves nothing, and by a gate at the end of phi_e on one that does.
"""

import copy

import pytest
import torch
from drawing import normal, order_one
from torch import Tensor, nn

from archbook.egnn import EGCL, complete_edges

# A warning of their import would be an error in our test run.
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

DIM, EDGE, MESSAGE, BATCH, NODES = 8, 2, 16, 2, 6


@pytest.fixture(scope="module")
def peer():
    return pytest.importorskip(
        "egnn_pytorch", reason="egnn-pytorch is not installed: see `make parity`"
    ).EGNN


class Gated(nn.Module):
    """m phi_inf(m)."""

    def __init__(self, gate: nn.Module):
        super().__init__()
        self.gate = gate

    def forward(self, m: Tensor) -> Tensor:
        return m * self.gate(m)


def without_dropout(mlp: nn.Sequential) -> nn.Sequential:
    return nn.Sequential(*(part for part in mlp if not isinstance(part, nn.Identity)))


def ours_from(theirs: nn.Module, edge_features: int) -> EGCL:
    """Our layer around copies of their perceptrons."""
    moves = theirs.coors_mlp is not None
    layer = EGCL(DIM, edge_features, update_positions=moves, aggregation="sum")
    layer.phi_e = without_dropout(theirs.edge_mlp)
    layer.phi_h = without_dropout(theirs.node_mlp)
    if moves:
        layer.phi_x = without_dropout(theirs.coors_mlp)
    if theirs.edge_gate is not None and moves:
        layer.phi_e.append(Gated(theirs.edge_gate))
    elif theirs.edge_gate is not None:
        layer.phi_inf = theirs.edge_gate
    return copy.deepcopy(layer)


def weight_gradients(*parts: nn.Module | None) -> list[Tensor]:
    return [p.grad for part in parts if part is not None for p in part.parameters()]


def everybody() -> Tensor:
    """All ordered pairs of each graph and every node with itself."""
    own = torch.arange(BATCH * NODES).expand(2, -1)
    return torch.cat([complete_edges([NODES] * BATCH), own], 1)


def on_edges(edge_attr: Tensor, edges: Tensor) -> Tensor:
    """Their (batch, receiver, sender, features) on our edges."""
    send, receive = edges
    return edge_attr[receive // NODES, receive % NODES, send % NODES]


def results(module: nn.Module, run, inputs: list[Tensor]) -> list[Tensor]:
    """Outputs and gradients by the inputs; those by the weights stay in `module`."""
    leaves = [t.clone().requires_grad_() for t in inputs]
    outputs = run(*leaves)
    total = sum((o * normal(*o.shape, seed=60 + k)).sum() for k, o in enumerate(outputs))
    total.backward()
    return [*outputs, *(t.grad for t in leaves)]


@pytest.mark.parametrize("moves", [True, False], ids=["moves", "reads"])
@pytest.mark.parametrize("gate", [False, True], ids=["plain", "gated"])
@pytest.mark.parametrize("edge_features", [0, EDGE])
def test_outputs_and_gradients_equal_theirs(peer, edge_features, gate, moves):
    theirs = order_one(peer(DIM, edge_features, MESSAGE, soft_edges=gate, update_coors=moves))
    ours, edges = ours_from(theirs, edge_features), everybody()
    inputs = [normal(BATCH, NODES, DIM, seed=50), normal(BATCH, NODES, 3, seed=51)]
    if edge_features:
        inputs.append(normal(BATCH, NODES, NODES, edge_features, seed=52))

    def run(h, x, attr=None):
        attr = None if attr is None else on_edges(attr, edges)
        outputs = ours(h.flatten(0, 1), x.flatten(0, 1), edges, edge_attr=attr)
        return [out.unflatten(0, (BATCH, NODES)) for out in outputs]

    found, wanted = results(ours, run, inputs), results(theirs, theirs, inputs)
    found += weight_gradients(ours.phi_e, ours.phi_inf, ours.phi_h, ours.phi_x)
    wanted += weight_gradients(theirs.edge_mlp, theirs.edge_gate, theirs.node_mlp, theirs.coors_mlp)
    for f, w in zip(found, wanted, strict=True):
        torch.testing.assert_close(f, w, atol=1e-10, rtol=1e-10)


def test_the_comparison_notices_that_their_nodes_send_to_themselves(peer):
    theirs = order_one(peer(DIM, 0, MESSAGE))
    ours = ours_from(theirs, 0)
    h, x = normal(1, NODES, DIM, seed=50), normal(1, NODES, 3, seed=51)
    (h_found, x_found), (h_wanted, x_wanted) = ours(h, x), theirs(h, x)
    torch.testing.assert_close(x_found, x_wanted, atol=1e-10, rtol=1e-10)
    assert (h_found - h_wanted).abs().max() > 0.1
