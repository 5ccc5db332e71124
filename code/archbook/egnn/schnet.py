"""An invariant network whose messages are filtered by distance: SchNet (Schuett et al. 2017)."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from archbook.checks import require_finite, require_input, require_positive_int
from archbook.egnn.layer import mlp, safe_sqrt
from archbook.egnn.network import sum_by_graph
from archbook.egnn.pairs import EdgeList
from archbook.shaped import Shaped


class Gaussians(Shaped):
    """exp(-(d / s - k)^2 / 2) for k = 0 .. count - 1: centres and widths s from 0 to `reach`."""

    shaped_by = {"gaussians": "count", "reach": "reach"}

    def __init__(self, count: int, reach: float):
        super().__init__()
        require_positive_int("gaussians", count)
        if count < 2 or not 0 < reach < float("inf"):
            raise ValueError(
                f"wanted gaussians >= 2 and a finite reach > 0, given {count} and {reach}"
            )
        self.count, self.reach, self.s = count, reach, reach / (count - 1)

    def forward(self, distance: Float[Tensor, "edges 1"]) -> Float[Tensor, "edges count"]:
        k = torch.arange(self.count, dtype=distance.dtype, device=distance.device)
        return torch.exp(-0.5 * (distance / self.s - k).square())


class Interaction(nn.Module):
    """h_i' = h_i + phi_h(sum_j (A h_j) * W(g_ij)), g_ij the Gaussians of |x_i - x_j|.

    A continuous-filter convolution: the filter W makes weights out of a distance, one a channel.
    A message is linear in its sender's features and knows nothing of its receiver's, where EGNN's
    phi_e mixes both with the distance.
    """

    def __init__(self, hidden: int, gaussians: int):
        super().__init__()
        self.A = nn.Linear(hidden, hidden, bias=False)
        self.W = nn.Sequential(*mlp(gaussians, hidden, hidden))
        self.phi_h = nn.Sequential(*mlp(hidden, hidden, hidden))

    def forward(
        self, pairs: EdgeList, h: Float[Tensor, "nodes hidden"], g: Float[Tensor, "edges gaussians"]
    ) -> Float[Tensor, "nodes hidden"]:
        m = pairs.at_sender(self.A(h)) * self.W(g)  # (edges, hidden)
        return h + self.phi_h(pairs.sum(m))


class SchNet(nn.Module):
    """Interactions between an embedding and a sum over the atoms; one answer a graph.

    Invariant under E(n), in any dimension n. Distances and `reach` share a unit, beyond `reach`
    the filter is constant. Five layers of 64 have as many weights as four of `EGNNRegressor`.
    Cost: O(edges hidden (hidden + gaussians)) time a layer.
    Errors: as in `EGCL`. Coincident nodes are allowed, their gradient is finite.
    Deviates from the paper: SiLU in place of the shifted softplus and EGNNRegressor's read-out,
    so that the two differ in their messages only; no cutoff, as the graphs hold all pairs.

    >>> model = SchNet(4, 16, 2, gaussians=20, reach=5.0)
    >>> h, x = torch.randn(7, 4), torch.randn(7, 3)
    >>> graph = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    >>> model(h, x, complete_edges([3, 4]), graph=graph, graphs=2).shape
    torch.Size([2, 1])
    """

    def __init__(
        self,
        in_features: int,
        hidden: int,
        layers: int,
        *,
        out_features: int = 1,
        gaussians: int = 50,
        reach: float = 10.0,
    ):
        super().__init__()
        sizes = {
            "in_features": in_features,
            "hidden": hidden,
            "layers": layers,
            "out_features": out_features,
        }
        for name, value in sizes.items():
            require_positive_int(name, value)
        self.in_features = in_features
        self.embed = nn.Linear(in_features, hidden)
        self.distances = Gaussians(gaussians, reach)
        self.layers = nn.ModuleList(Interaction(hidden, gaussians) for _ in range(layers))
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
        weight = next(self.parameters())
        require_input("h", h, ("nodes", self.in_features), weight)
        require_input("x", x, (h.shape[0], "n"), weight)
        pairs = EdgeList(edges, h.shape[0], h.device)
        require_finite("h", h)
        require_finite("x", x)
        difference = pairs.at_receiver(x) - pairs.at_sender(x)  # (edges, n)
        g = self.distances(safe_sqrt(difference.square().sum(-1, keepdim=True)))
        h = self.embed(h)
        for layer in self.layers:
            h = layer(pairs, h, g)
        return self.readout(sum_by_graph(self.node(h), graph, graphs))
