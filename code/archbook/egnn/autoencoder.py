"""The graph autoencoder: a graph without features goes to points, and comes back from distances.

The nodes of a graph such as the 4-cycle are all alike, so a deterministic equivariant encoder
embeds them all alike, and no decoder of pairs can tell its edges from its diagonals. Noise breaks
the tie: as input features, or, for an equivariant encoder, as coordinates, where every turn of
the noise gives the turned embedding and so the same graph.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from archbook.checks import (
    require_choice,
    require_false,
    require_finite,
    require_input,
    require_mask,
    require_positive_int,
    require_tensor,
)
from archbook.egnn.baselines import GNN, RadialField
from archbook.egnn.network import EGNN

ENCODERS = ("egnn", "gnn", "noise_gnn", "radial_field")


class DistanceDecoder(nn.Module):
    """Logits w |z_i - z_j|^2 + b of an edge: two parameters, near nodes are linked.

    Deviates from the paper: it prints 1 / (1 + exp(w |z_i - z_j|^2 + b)), with the signs of w and
    b turned; ours are those of the authors' code.
    """

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(-0.1))
        self.b = nn.Parameter(torch.tensor(1.0))

    def forward(self, z: Float[Tensor, "batch nodes k"]) -> Float[Tensor, "batch nodes nodes"]:
        return self.w * _squared_differences(z).sum(-1) + self.b


class FeatureDecoder(nn.Module):
    """Logits of an edge that are linear in the squared difference of every feature: the GNN's."""

    def __init__(self, features: int):
        super().__init__()
        self.linear = nn.Linear(features, 1)

    def forward(self, z: Float[Tensor, "batch nodes k"]) -> Float[Tensor, "batch nodes nodes"]:
        return self.linear(_squared_differences(z)).squeeze(-1)


class GraphAutoencoder(nn.Module):
    """Encode the nodes of a graph in R^K, decode every pair: logits of the adjacency.

    All nodes exchange messages; the edge attribute is a_ij = A_ij. The encoders, K = `embedding`:
    "egnn" h = 1 and noise as coordinates, z = x^L; "radial_field" the same without h;
    "gnn" h = 1, z its K output features; "noise_gnn" noise as features h. The first two decode
    distances, the last two squared differences of features.

    adjacency (batch, nodes, nodes), bool, symmetric, without self loops; mask (batch, nodes),
    True = real. noise (batch, nodes, K) is standard normal; where none is given it is drawn
    on the generator's device, without one from torch's global generator. What stands in the
    logits' diagonal and at padding means nothing: the loss and the scores leave it out.
    """

    def __init__(self, encoder: str, hidden: int = 64, layers: int = 4, *, embedding: int = 8):
        super().__init__()
        require_choice("encoder", encoder, ENCODERS)
        require_positive_int("embedding", embedding)
        self.kind, self.embedding = encoder, embedding
        self.noisy, on_points = encoder != "gnn", encoder in ("egnn", "radial_field")
        if encoder == "egnn":
            self.encoder = EGNN(1, hidden, layers, edge_features=1)
            # Its points are read, not its features: said to torch, as in `NBodyEGNN`.
            self.encoder.layers[-1].phi_h.requires_grad_(False)
        elif encoder == "radial_field":
            self.encoder = RadialField(hidden, layers, edge_features=1, tanh=False)
        else:
            inputs = embedding if self.noisy else 1
            self.encoder = GNN(inputs, hidden, layers, out_features=embedding, edge_features=1)
        self.decoder = DistanceDecoder() if on_points else FeatureDecoder(embedding)

    def forward(
        self,
        adjacency: Bool[Tensor, "batch nodes nodes"],
        mask: Bool[Tensor, "batch nodes"] | None = None,
        noise: Float[Tensor, "batch nodes k"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "batch nodes nodes"]:
        return self.decoder(self.encode(adjacency, mask, noise, generator=generator))

    def encode(
        self,
        adjacency: Bool[Tensor, "batch nodes nodes"],
        mask: Bool[Tensor, "batch nodes"] | None = None,
        noise: Float[Tensor, "batch nodes k"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "batch nodes k"]:
        """The embedding z; zero at padding."""
        weight = next(self.parameters())
        _check_graphs(adjacency, mask)
        batch, nodes, _ = adjacency.shape
        edge_attr = adjacency[..., None].to(weight.dtype)
        if not self.noisy:
            if noise is not None:
                raise ValueError(f"noise is not for the encoder 'gnn': wanted None, given {noise}")
            return self.encoder(weight.new_ones(batch, nodes, 1), None, edge_attr, mask=mask)
        shape = (batch, nodes, self.embedding)
        if noise is None:
            device = weight.device if generator is None else generator.device
            noise = torch.randn(shape, generator=generator, device=device, dtype=weight.dtype)
            noise = noise.to(weight.device)
        require_input("noise", noise, shape, weight)
        require_finite("noise", noise)
        if self.kind in ("noise_gnn", "radial_field"):
            return self.encoder(noise, None, edge_attr, mask=mask)
        h = weight.new_ones(batch, nodes, 1)
        return self.encoder(h, noise, edge_attr=edge_attr, mask=mask)[1]


def reconstruction_loss(
    logits: Float[Tensor, "batch nodes nodes"],
    adjacency: Bool[Tensor, "batch nodes nodes"],
    mask: Bool[Tensor, "batch nodes"] | None = None,
) -> Float[Tensor, ""]:
    """Binary cross entropy in nats, summed over a graph's ordered pairs, averaged over graphs.

    The paper sums all M^2 entries with the diagonal predicted as 0, which adds nothing.
    """
    pairs = _pairs(logits, adjacency, mask)
    entropy = F.binary_cross_entropy_with_logits(logits, adjacency.to(logits), reduction="none")
    return torch.where(pairs, entropy, 0.0).sum() / len(logits)


def reconstruction_scores(
    logits: Float[Tensor, "batch nodes nodes"],
    adjacency: Bool[Tensor, "batch nodes nodes"],
    mask: Bool[Tensor, "batch nodes"] | None = None,
) -> dict[str, float]:
    """The columns of the paper's table, an edge being a probability above 0.5.

    bce: `reconstruction_loss`; wrong_percent: of the pairs i != j of all graphs together;
    f1: of the edges of all graphs together, 0 where none is found.
    """
    pairs = _pairs(logits, adjacency, mask)
    found, true = (logits > 0)[pairs], adjacency[pairs]
    wrong, hits = int((found != true).sum()), int((found & true).sum())
    return {
        "bce": reconstruction_loss(logits, adjacency, mask).item(),
        "wrong_percent": 100 * wrong / max(1, len(true)),
        "f1": 2 * hits / max(1, 2 * hits + wrong),
    }


def equal_codes_floor(
    adjacency: Bool[Tensor, "graphs nodes nodes"],
    mask: Bool[Tensor, "graphs nodes"],
) -> float:
    """The least percentage of all graphs' pairs that an encoder without noise must get wrong.

    Such an encoder tells nodes apart as colour refinement (1-WL) does, at best; each pair of
    colours then gets one answer, the more frequent one.
    """
    graphs = [a[m][:, m].tolist() for a, m in zip(adjacency, mask, strict=True)]
    colours = [[0] * len(graph) for graph in graphs]
    for _ in range(adjacency.shape[1]):
        known: dict[tuple, int] = {}
        refined = []
        for graph, old in zip(graphs, colours, strict=True):
            keys = [(old[i], *sorted(zip(row, old, strict=True))) for i, row in enumerate(graph)]
            refined.append([known.setdefault(key, len(known)) for key in keys])
        colours = refined
    answers: dict[tuple[int, int], list[int]] = {}
    for graph, colour in zip(graphs, colours, strict=True):
        for i, row in enumerate(graph):
            for j in range(i):
                low, high = sorted((colour[i], colour[j]))
                answers.setdefault((low, high), [0, 0])[row[j]] += 1
    wrong = sum(min(both) for both in answers.values())
    pairs = sum(sum(both) for both in answers.values())
    return 100 * wrong / max(1, pairs)


def _squared_differences(z: Tensor) -> Tensor:
    return (z[:, :, None] - z[:, None]).square()  # (batch, i, j, k)


def _pairs(logits: Tensor, adjacency: Tensor, mask: Tensor | None) -> Tensor:
    """Pairs i != j of real nodes, (batch, nodes, nodes)."""
    require_tensor("logits", logits, ("batch", "nodes", "nodes"))
    if adjacency.shape != logits.shape:
        wanted, given = tuple(logits.shape), tuple(adjacency.shape)
        raise ValueError(f"wanted adjacency to have the shape of logits, {wanted}, given {given}")
    _check_graphs(adjacency, mask)
    pairs = ~torch.eye(adjacency.shape[1], dtype=torch.bool, device=adjacency.device)
    if mask is not None:
        pairs = pairs & mask[:, :, None] & mask[:, None]
    return pairs.expand_as(adjacency)


def _check_graphs(adjacency: Tensor, mask: Tensor | None) -> None:
    require_tensor("adjacency", adjacency, ("batch", "nodes", "nodes"))
    if adjacency.dtype != torch.bool:
        raise TypeError(f"wanted adjacency to be torch.bool, given {adjacency.dtype}")
    if adjacency.shape[1] != adjacency.shape[2]:
        raise ValueError(f"wanted adjacency to be square, given {tuple(adjacency.shape)}")
    if mask is not None:
        require_mask("mask", mask, adjacency.shape[:2], adjacency.device)
    require_false("wanted adjacency to be symmetric", adjacency != adjacency.mT)
    require_false("wanted adjacency to hold no self loops", adjacency.diagonal(dim1=1, dim2=2))
