"""The equivariant graph convolution: distances go in, relative vectors come out."""

from typing import cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from archbook.checks import require_choice, require_finite, require_input, require_positive_int
from archbook.egnn.pairs import (
    DenseBatch,
    EdgeList,
    Pairs,
    check_edge_attr,
    check_velocity,
    messages,
    pairs_of,
)
from archbook.shaped import Shaped

AGGREGATIONS = ("mean", "sum")


def mlp(inputs: int, hidden: int, outputs: int, *, bias: bool = True) -> list[nn.Module]:
    """The paper's two-layer perceptron; `bias` is that of its last layer."""
    return [nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs, bias=bias)]


class EGCL(Shaped):
    """One equivariant graph convolution (Eqs. 3-6; with velocity Eq. 7, with attention Eq. 8).

    m_ij = phi_e(h_i, h_j, |x_i - x_j|^2, a_ij);  x_i' = x_i + C sum_j (x_i - x_j) phi_x(m_ij);
    h_i' = h_i + phi_h(h_i, sum_j m_ij).  i receives, j sends. For any orthogonal Q and shift g, and
    in any dimension n: (h, Qx + g) gives (h', Qx' + g). Velocities turn but do not shift: Qv.

    Two forms, one set of weights. Edge list: h (nodes, hidden), x (nodes, n), edges (2, edges) with
    edges[0] sending to edges[1], edge_attr (edges, edge_features). Dense: h (batch, nodes, hidden),
    x (batch, nodes, n), all pairs i != j, edge_attr (batch, i, j, edge_features), mask
    (batch, nodes), True = real; rows of padding come out as zero.

    Results to know: a node without neighbours keeps x and gets phi_h(h, 0). Nodes in one place
    exchange messages and do not push each other. The gradient is finite in both cases.

    velocity: Eq. 7 with the initial v in every layer. attention: Eq. 8. update_positions=False
    leaves x alone (no phi_x). normalize: x_i - x_j is divided by |x_i - x_j| + 1; a self loop is
    then refused. aggregation: "mean" is C = 1 / (number of neighbours), "sum" is C = 1.
    Cost: O(pairs hidden^2) time, O(pairs hidden) memory.
    Errors: ValueError or TypeError for a wrong shape, dtype, device or index, for NaN.
    Deviates from the paper: h_i is added to phi_h, as in the authors' code. Unlike that code, phi_x
    reads the message before the gate of Eq. 8.

    >>> h, x, edges = torch.randn(5, 8), torch.randn(5, 3), complete_edges([5])
    >>> layer = EGCL(8)
    >>> h_1, x_1 = layer(h, x, edges)
    >>> Q = torch.linalg.qr(torch.randn(3, 3)).Q  # turned first, or turned last: the same
    >>> torch.allclose(layer(h, x @ Q.T, edges)[1], x_1 @ Q.T, atol=1e-5)
    True
    """

    shaped_by = {"normalize": "normalize", "aggregation": "aggregation"}

    def __init__(
        self,
        hidden: int,
        edge_features: int = 0,
        velocity: bool = False,
        *,
        attention: bool = False,
        update_positions: bool = True,
        normalize: bool = False,
        aggregation: str = "mean",
    ):
        super().__init__()
        require_positive_int("hidden", hidden)
        if edge_features != 0:
            require_positive_int("edge_features", edge_features)
        require_choice("aggregation", aggregation, AGGREGATIONS)
        if velocity and not update_positions:
            raise ValueError("velocity moves positions: wanted update_positions=True, given False")
        self.hidden, self.edge_features = hidden, edge_features
        self.normalize, self.aggregation = normalize, aggregation
        self.phi_e = nn.Sequential(*mlp(2 * hidden + 1 + edge_features, hidden, hidden), nn.SiLU())
        self.phi_h = nn.Sequential(*mlp(2 * hidden, hidden, hidden))
        self.phi_x = (
            nn.Sequential(*mlp(hidden, hidden, 1, bias=False)) if update_positions else None
        )
        self.phi_v = nn.Sequential(*mlp(hidden, hidden, 1)) if velocity else None
        self.phi_inf = nn.Sequential(nn.Linear(hidden, 1), nn.Sigmoid()) if attention else None
        if self.phi_x is not None:  # starts near the identity on x, as the authors' layers do
            nn.init.xavier_uniform_(cast(nn.Linear, self.phi_x[-1]).weight, gain=0.001)

    def forward(
        self,
        h: Float[Tensor, "*nodes hidden"],
        x: Float[Tensor, "*nodes n"],
        edges: Int64[Tensor, "2 edges"] | Pairs | None = None,
        *,
        edge_attr: Float[Tensor, "*pairs edge_features"] | None = None,
        v: Float[Tensor, "*nodes n"] | None = None,
        mask: Bool[Tensor, "batch nodes"] | None = None,
    ) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
        """(h', x'), with velocity (h', x', v'); without edges the dense form.

        A network gives its layers the `Pairs` that it has checked once, and edge_attr in their
        order.
        """
        if isinstance(edges, (EdgeList, DenseBatch)):  # torch 2.6 compiles no union here
            pairs = edges
        else:
            pairs = self.checked(
                h, self.hidden, x, edges=edges, edge_attr=edge_attr, v=v, mask=mask
            )
            edge_attr = None if edge_attr is None else pairs.at_pair(edge_attr)
            x = pairs.keep(x)
        h, x, v = self.update(pairs, h, x, edge_attr=edge_attr, v=v)
        return (h, x) if v is None else (h, x, v)

    def checked(
        self,
        h: Tensor,
        features: int,
        x: Tensor,
        *,
        edges: Tensor | None,
        edge_attr: Tensor | None,
        v: Tensor | None,
        mask: Tensor | None,
    ) -> Pairs:
        """Refuse what does not fit a first layer with `features` inputs; else its pairs."""
        weight = next(self.parameters())
        pairs = pairs_of("h", h, features, edges=edges, mask=mask, weight=weight)
        require_input("x", x, (*h.shape[:-1], "n"), weight)
        require_finite("x", x)
        check_velocity(v, self.phi_v is not None, x, weight=weight)
        check_edge_attr(edge_attr, self.edge_features, pairs, weight=weight)
        if self.normalize and isinstance(pairs, EdgeList):
            pairs.refuse_self_loops()
        return pairs

    def update(
        self, pairs: Pairs, h: Tensor, x: Tensor, *, edge_attr: Tensor | None, v: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The equations, on inputs already checked; without phi_x, x comes back as it is."""
        difference = pairs.at_receiver(x) - pairs.at_sender(x)  # (pairs, n)
        square = difference.square().sum(-1, keepdim=True)  # (pairs, 1)
        extra = square if edge_attr is None else torch.cat([square, edge_attr], -1)
        m = messages(self.phi_e, pairs, h, extra=extra)  # Eq. 3
        if self.phi_x is not None:
            x, v = self.moved(pairs, x, difference, square=square, weight=self.phi_x(m), h=h, v=v)
        if self.phi_inf is not None:
            m = m * self.phi_inf(m)  # Eq. 8
        h = h + self.phi_h(torch.cat([h, pairs.sum(m)], -1))  # Eqs. 5, 6
        return pairs.keep(h), x, v

    def moved(
        self,
        pairs: Pairs,
        x: Tensor,
        difference: Tensor,
        *,
        square: Tensor,
        weight: Tensor,
        h: Tensor,
        v: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """(x', v'); override this to move positions otherwise.

        difference: x_i - x_j of the pairs, square its square, weight phi_x of their messages.
        """
        if self.normalize:
            difference = difference / (safe_sqrt(square) + 1)
        shift = pairs.sum(difference * weight)
        if self.aggregation == "mean":
            shift = shift / pairs.degree(shift)
        if self.phi_v is not None and v is not None:
            shift = self.phi_v(h) * v + shift  # Eq. 7
            v = pairs.keep(shift)
        return pairs.keep(x + shift), v  # Eq. 4


def safe_sqrt(square: Tensor) -> Tensor:
    """The square root, with gradient zero at zero instead of infinity."""
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)
