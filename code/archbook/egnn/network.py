"""Networks of equivariant layers: points in, points and features out; or one answer a graph."""

from typing import cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from archbook.checks import require_between, require_positive_int, require_tensor
from archbook.egnn.layer import EGCL, mlp


class EGNN(nn.Module):
    """A linear embedding, `layers` EGCLs and, with out_features, a linear read-out of every node.

    The inputs are those of `EGCL.forward`, with h of `in_features`. Every layer of a velocity
    model gets the initial v; the v that comes out is the last layer's. Where only x is used, the
    last layer's phi_h is dead weight, as in the authors' models. `options` go to each EGCL.

    >>> model = EGNN(4, 16, 2, out_features=1)
    >>> h, x = torch.randn(5, 4), torch.randn(5, 3)
    >>> features, moved = model(h, x, complete_edges([2, 3]))  # two graphs
    >>> features.shape, moved.shape
    (torch.Size([5, 1]), torch.Size([5, 3]))
    """

    def __init__(
        self,
        in_features: int,
        hidden: int,
        layers: int,
        *,
        out_features: int | None = None,
        edge_features: int = 0,
        **options,
    ):
        super().__init__()
        require_positive_int("in_features", in_features)
        require_positive_int("layers", layers)
        if out_features is not None:
            require_positive_int("out_features", out_features)
        self.in_features = in_features
        self.layers = nn.ModuleList(EGCL(hidden, edge_features, **options) for _ in range(layers))
        self.embed = nn.Linear(in_features, hidden)
        self.read = nn.Identity() if out_features is None else nn.Linear(hidden, out_features)

    def forward(
        self,
        h: Float[Tensor, "*nodes in_features"],
        x: Float[Tensor, "*nodes n"],
        edges: Int64[Tensor, "2 edges"] | None = None,
        *,
        edge_attr: Float[Tensor, "*pairs edge_features"] | None = None,
        v: Float[Tensor, "*nodes n"] | None = None,
        mask: Bool[Tensor, "batch nodes"] | None = None,
    ) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
        """(features, x'), with velocity (features, x', v')."""
        first = cast(EGCL, self.layers[0])
        pairs = first.checked(
            h, self.in_features, x, edges=edges, edge_attr=edge_attr, v=v, mask=mask
        )
        edge_attr = None if edge_attr is None else pairs.at_pair(edge_attr)
        h, x, v_0 = self.embed(h), pairs.keep(x), v  # padding may hold anything finite
        for layer in self.layers:
            h, x, *moved = layer(h, x, pairs, edge_attr=edge_attr, v=v_0)
            v = moved[0] if moved else None
        h = pairs.keep(self.read(h))
        return (h, x) if v is None else (h, x, v)


class EGNNRegressor(nn.Module):
    """The paper's QM9 network: invariant layers with edge inference, a sum over the atoms.

    Positions are read, never moved. Nodes of all graphs lie one after another; `graph` (nodes,)
    says which of the `graphs` each belongs to.

    >>> model = EGNNRegressor(4, 16, 2)
    >>> h, x = torch.randn(7, 4), torch.randn(7, 3)
    >>> graph = torch.tensor([0, 0, 0, 1, 1, 1, 1])  # a molecule of 3 atoms, one of 4
    >>> model(h, x, complete_edges([3, 4]), graph=graph, graphs=2).shape
    torch.Size([2, 1])
    """

    def __init__(self, in_features: int, hidden: int, layers: int, *, out_features: int = 1):
        super().__init__()
        require_positive_int("out_features", out_features)
        self.body = EGNN(in_features, hidden, layers, attention=True, update_positions=False)
        self.node = nn.Sequential(*mlp(hidden, hidden, hidden))
        self.readout = nn.Sequential(*mlp(hidden, hidden, out_features))

    def forward(
        self,
        h: Float[Tensor, "nodes in_features"],
        x: Float[Tensor, "nodes n"],
        edges: Int64[Tensor, "2 edges"],
        *,
        graph: Int64[Tensor, " nodes"],
        graphs: int,
    ) -> Float[Tensor, "graphs out_features"]:
        h = self.node(self.body(h, x, edges)[0])
        return self.readout(sum_by_graph(h, graph, graphs))


def sum_by_graph(
    h: Float[Tensor, "nodes k"], graph: Int64[Tensor, " nodes"], graphs: int
) -> Float[Tensor, "graphs k"]:
    """The sum of the rows of each graph; a graph without rows gets zero.

    >>> h = torch.tensor([[1.0], [2.0], [4.0]])
    >>> sum_by_graph(h, torch.tensor([0, 0, 1]), graphs=2)
    tensor([[3.],
            [4.]])
    """
    require_tensor("graph", graph, tuple(h.shape[:1]))
    if graph.dtype != torch.int64:
        raise TypeError(f"wanted graph to be torch.int64, given {graph.dtype}")
    if graph.device != h.device:
        raise ValueError(f"wanted graph to be on {h.device}, given a tensor on {graph.device}")
    require_positive_int("graphs", graphs)
    require_between("graph", graph, low=0, high=graphs - 1)
    return h.new_zeros(graphs, h.shape[1]).index_add(0, graph, h)
