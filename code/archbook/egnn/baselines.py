"""The models that the paper compares with: they differ in what a message may see and move."""

from typing import cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from archbook.checks import require_positive_int
from archbook.egnn.layer import mlp, safe_sqrt
from archbook.egnn.pairs import Pairs, check_edge_attr, check_velocity, messages, pairs_of
from archbook.shaped import Shaped


class GNNLayer(nn.Module):
    """A message-passing layer without geometry: m_ij = phi_e(h_i, h_j, a_ij), else as in EGCL."""

    def __init__(self, hidden: int, edge_features: int = 0):
        super().__init__()
        self.phi_e = nn.Sequential(*mlp(2 * hidden + edge_features, hidden, hidden), nn.SiLU())
        self.phi_h = nn.Sequential(*mlp(2 * hidden, hidden, hidden))

    def forward(self, pairs: Pairs, h: Tensor, edge_attr: Tensor | None) -> Tensor:
        m = messages(self.phi_e, pairs, h, extra=edge_attr)
        return pairs.keep(h + self.phi_h(torch.cat([h, pairs.sum(m)], -1)))


class GNN(nn.Module):
    """The paper's non-equivariant network: coordinates, where it gets any, are plain features.

    Inputs as in `EGNN.forward` without x and v: h (nodes, in_features) with edges, or a dense batch
    h (batch, nodes, in_features). Returns (.., out_features).

    >>> model = GNN(7, 16, 2, out_features=3)  # 4 features and 3 coordinates of a node
    >>> model(torch.randn(5, 7), complete_edges([5])).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        in_features: int,
        hidden: int,
        layers: int,
        *,
        out_features: int,
        edge_features: int = 0,
    ):
        super().__init__()
        sizes = {"in_features": in_features, "hidden": hidden, "layers": layers}
        for name, value in (sizes | {"out_features": out_features}).items():
            require_positive_int(name, value)
        if edge_features != 0:
            require_positive_int("edge_features", edge_features)
        self.in_features, self.edge_features = in_features, edge_features
        self.embed = nn.Linear(in_features, hidden)
        self.layers = nn.ModuleList(GNNLayer(hidden, edge_features) for _ in range(layers))
        self.read = nn.Sequential(*mlp(hidden, hidden, out_features))

    def forward(
        self,
        h: Float[Tensor, "*nodes in_features"],
        edges: Int64[Tensor, "2 edges"] | None = None,
        edge_attr: Float[Tensor, "*pairs edge_features"] | None = None,
        *,
        mask: Bool[Tensor, "batch nodes"] | None = None,
    ) -> Float[Tensor, "*nodes out_features"]:
        weight = next(self.parameters())
        pairs = pairs_of("h", h, self.in_features, edges=edges, mask=mask, weight=weight)
        check_edge_attr(edge_attr, self.edge_features, pairs, weight=weight)
        edge_attr = None if edge_attr is None else pairs.at_pair(edge_attr)
        h = self.embed(h)
        for layer in self.layers:
            h = layer(pairs, h, edge_attr)
        return pairs.keep(self.read(h))


class RadialFieldLayer(nn.Module):
    """x_i' = x_i + phi_v(|v_i|) v_i + C sum_j (x_i - x_j) phi(|x_i - x_j|, a_ij): no features h.

    The radial field (Koehler et al. 2019); without velocity the middle term is missing.

    tanh: phi ends in one, as in the authors' layer with velocity, which they found unstable else.
    """

    def __init__(
        self, hidden: int, edge_features: int = 0, velocity: bool = False, *, tanh: bool = True
    ):
        super().__init__()
        self.phi = nn.Sequential(*mlp(1 + edge_features, hidden, 1, bias=False))
        nn.init.xavier_uniform_(cast(nn.Linear, self.phi[-1]).weight, gain=0.001)  # as in EGCL
        if tanh:
            self.phi.append(nn.Tanh())
        self.phi_v = nn.Sequential(*mlp(1, hidden, 1)) if velocity else None

    def forward(
        self, pairs: Pairs, x: Tensor, edge_attr: Tensor | None, *, v: Tensor | None
    ) -> Tensor:
        difference = pairs.at_receiver(x) - pairs.at_sender(x)
        distance = safe_sqrt(difference.square().sum(-1, keepdim=True))
        extra = distance if edge_attr is None else torch.cat([distance, edge_attr], -1)
        shift = pairs.sum(difference * self.phi(extra))
        shift = shift / pairs.degree(shift)
        if self.phi_v is not None and v is not None:
            shift = shift + self.phi_v(safe_sqrt(v.square().sum(-1, keepdim=True))) * v
        return pairs.keep(x + shift)


class RadialField(Shaped):
    """Layers of `RadialFieldLayer`. E(n)-equivariant. Inputs as in `EGNN.forward` without h.

    tanh: True bounds what an edge may ask for, as the authors' N-body code does; that of their
    graph autoencoder does not.

    >>> model = RadialField(16, 2)
    >>> x, edges = torch.randn(5, 3), complete_edges([5])
    >>> torch.allclose(model(x + 7, edges), model(x, edges) + 7, atol=1e-5)
    True
    """

    shaped_by = {"tanh": "tanh"}

    def __init__(
        self,
        hidden: int,
        layers: int,
        edge_features: int = 0,
        *,
        velocity: bool = False,
        tanh: bool = True,
    ):
        super().__init__()
        require_positive_int("hidden", hidden)
        require_positive_int("layers", layers)
        if edge_features != 0:
            require_positive_int("edge_features", edge_features)
        self.edge_features, self.velocity, self.tanh = edge_features, velocity, tanh
        self.layers = nn.ModuleList(
            RadialFieldLayer(hidden, edge_features, velocity, tanh=tanh) for _ in range(layers)
        )

    def forward(
        self,
        x: Float[Tensor, "*nodes n"],
        edges: Int64[Tensor, "2 edges"] | None = None,
        edge_attr: Float[Tensor, "*pairs edge_features"] | None = None,
        *,
        v: Float[Tensor, "*nodes n"] | None = None,
        mask: Bool[Tensor, "batch nodes"] | None = None,
    ) -> Float[Tensor, "*nodes n"]:
        weight = next(self.parameters())
        pairs = pairs_of("x", x, "n", edges=edges, mask=mask, weight=weight)
        check_velocity(v, self.velocity, x, weight=weight)
        check_edge_attr(edge_attr, self.edge_features, pairs, weight=weight)
        edge_attr = None if edge_attr is None else pairs.at_pair(edge_attr)
        x = pairs.keep(x)
        for layer in self.layers:
            x = layer(pairs, x, edge_attr, v=v)
        return x
