"""The EGNN and its baselines in every dtype, place and form of running that torch knows."""

import pytest
import torch
from portability import Portability, compiled, run
from torch import nn, ones

from archbook.egnn import (
    EGCL,
    EGNN,
    GNN,
    EGNNRegressor,
    NBodyEGNN,
    RadialField,
    SchNet,
    complete_edges,
    sum_by_graph,
)

OPTIONS = {"velocity": True, "attention": True, "normalize": True}


class TestPortability(Portability):
    models = {
        "EGCL": lambda: EGCL(5, 2, **OPTIONS),
        "EGCL-dense": lambda: EGCL(5, 2, **OPTIONS),
        "EGNN": lambda: EGNN(5, 6, 2, out_features=3, edge_features=2, **OPTIONS),
        "EGNN-dense": lambda: EGNN(5, 6, 2, out_features=3, edge_features=2, **OPTIONS),
        "EGNNRegressor": lambda: EGNNRegressor(5, 6, 2),
        "NBodyEGNN": lambda: NBodyEGNN(6, 2),
        "SchNet": lambda: SchNet(5, 6, 2),
        "GNN": lambda: GNN(5, 6, 2, out_features=3, edge_features=2),
        "GNN-dense": lambda: GNN(5, 6, 2, out_features=3, edge_features=2),
        "RadialField": lambda: RadialField(6, 2, edge_features=2, velocity=True),
        "RadialField-dense": lambda: RadialField(6, 2, edge_features=2, velocity=True),
    }
    dtype_under_autocast = None  # features are rounded, positions are not

    def inputs(self, name, form="", sizes=(4, 2)):
        """On graphs of these sizes: an edge list, or a padded batch."""
        if name == "NBodyEGNN":
            return {"x": torch.randn(2, 4, 3), "v": torch.randn(2, 4, 3), "charges": ones(2, 4)}
        dense = name.endswith("dense")
        nodes = (len(sizes), max(sizes)) if dense else (sum(sizes),)
        pairs = (*nodes, max(sizes)) if dense else (sum(size * (size - 1) for size in sizes),)
        given = {
            "h": torch.randn(*nodes, 5),
            "x": torch.randn(*nodes, 3),
            "v": torch.randn(*nodes, 3),
            "edge_attr": torch.randn(*pairs, 2),
        }
        unused = {
            "GNN": ("x", "v"),
            "RadialField": ("h",),
            "EGNNRegressor": ("v", "edge_attr"),
            "SchNet": ("v", "edge_attr"),
        }
        for key in unused.get(name.removesuffix("-dense"), ()):
            del given[key]
        if dense:
            given["mask"] = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
        else:
            given["edges"] = complete_edges(sizes)
        if name in ("EGNNRegressor", "SchNet"):
            given["graph"] = torch.repeat_interleave(torch.tensor(sizes))
            given["graphs"] = len(sizes)
        return given

    @pytest.mark.parametrize("model", ["EGCL", "EGCL-dense", "EGNN", "RadialField"])
    def test_under_autocast_positions_stay_float32(self, model):
        """Rounded to bfloat16, a point at 100 could only move by steps of a half."""
        with torch.autocast("cpu", torch.bfloat16):
            outputs = run(self.build(model), self.inputs(model))
        positions = outputs[0] if model == "RadialField" else outputs[1]
        assert positions.dtype == torch.float32

    @pytest.mark.compile
    @pytest.mark.parametrize("model", ["EGCL", "EGCL-dense"])
    def test_a_compiled_model_takes_graphs_of_other_sizes(self, model):
        layer = self.build(model)
        fast = compiled(layer)
        for sizes in ([4, 2], [6, 3], [2, 7]):
            given = self.inputs(model, sizes=sizes)
            torch.testing.assert_close(run(fast, given), run(layer, given))


@pytest.mark.compile
def test_the_sum_of_a_compiled_graph_is_the_same():
    h, graph = torch.randn(5, 2), torch.tensor([0, 2, 2, 0, 1])
    torch.testing.assert_close(compiled(sum_by_graph)(h, graph, 3), sum_by_graph(h, graph, 3))


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # raised inside inductor
def test_the_layer_compiles_with_inductor():
    layer, edges = EGCL(4), complete_edges([4, 2])
    h, x = torch.randn(6, 4), torch.randn(6, 3)
    wanted = layer(h, x, edges)
    with torch.no_grad():
        found = compiled(layer, backend="inductor")(h, x, edges)
    torch.testing.assert_close(found, wanted)


@pytest.mark.gpu
def test_edges_are_built_on_the_gpu():
    assert torch.equal(complete_edges([3, 1, 4], "cuda").cpu(), complete_edges([3, 1, 4]))


@pytest.mark.gpu
def test_on_cuda_a_thousand_messages_are_summed_in_bfloat16():
    """A sum that is kept in bfloat16 stops at 256 ones."""
    layer, nodes = EGCL(2), 1001
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    nn.init.ones_(layer.phi_e[2].bias)  # every message is (0.73, 0.73)
    nn.init.eye_(layer.phi_h[0].weight[:, 2:])
    nn.init.eye_(layer.phi_h[2].weight)
    edges = torch.stack([torch.arange(1, nodes), torch.zeros(nodes - 1, dtype=torch.int64)])
    h, x = torch.zeros(nodes, 2), torch.zeros(nodes, 3)
    wanted = layer(h, x, edges)[0]
    with torch.autocast("cuda", torch.bfloat16):
        found = layer.cuda()(h.cuda(), x.cuda(), edges.cuda())[0]
    assert wanted[0].min() > 700
    torch.testing.assert_close(found.cpu().float(), wanted, atol=0.1, rtol=0.02)
