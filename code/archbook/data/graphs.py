"""Random graphs without node features: what the graph autoencoder must rebuild.

Nodes are numbered; a graph smaller than the largest is padded with nodes that have no edges.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from archbook.checks import as_size

COMMUNITY_SIZES = (6, 10)  # nodes of each of the two communities, both ends included
P_INTRA, P_INTER = 0.7, 0.01  # chances of an edge inside and between communities
ERDOS_RENYI_SIZES = (7, 16)  # nodes, both ends included


@dataclass(frozen=True)
class GraphSet:
    """Undirected graphs without self loops, padded to one number of nodes."""

    adjacency: Bool[Tensor, "graphs nodes nodes"]  # symmetric, False on the diagonal and at padding
    mask: Bool[Tensor, "graphs nodes"]  # True = real; the real nodes come first


def community_graphs(count: int, seed: int | list[int] = 0) -> GraphSet:
    """The paper's Community Small: two communities of 6 to 10 nodes each, padded to 20.

    Inside a community two nodes are linked with chance 0.7, across with chance 0.01; a graph left
    without a link across gets one, at a random place. The first community's nodes come first.
    More graphs of one seed begin with the same ones.

    Deviates from the paper's files, where a fixed seed leaves 25 different insides of the
    communities for all graphs, those to test included: here every graph is drawn afresh. That is
    harder, and denser (34.2 % of the pairs are edges, there 31.8 %).

    >>> graphs = community_graphs(4)
    >>> graphs.adjacency.shape, graphs.mask.sum(1)  # padded to 20 nodes
    (torch.Size([4, 20, 20]), tensor([20, 13, 18, 13]))
    """
    count = as_size("count", count)
    sizes_of, edges_of, links_of = _streams(seed, 3)
    low, high = COMMUNITY_SIZES
    first, second = sizes_of.integers(low, high + 1, (count, 2)).T
    node = np.arange(2 * high)
    mask = node < (first + second)[:, None]
    community = node >= first[:, None]  # False for the first, True for the second
    across = community[:, :, None] != community[:, None]
    edge = _pairs(edges_of, count, len(node)) < np.where(across, P_INTER, P_INTRA)
    edge &= _real(mask)
    one = (links_of.random((count, 2)) * np.stack([first, second], 1)).astype(int)  # of each
    alone = np.flatnonzero(~(edge & across).any((1, 2)))
    i, j = one[alone, 0], first[alone] + one[alone, 1]
    edge[alone, i, j] = edge[alone, j, i] = True
    return GraphSet(torch.from_numpy(edge), torch.from_numpy(mask))


def erdos_renyi_graphs(count: int, seed: int | list[int] = 0, p: float = 0.25) -> GraphSet:
    """Graphs whose pairs are linked with chance p; 7, 8, .. 16, 7, .. nodes, padded to 16.

    More graphs of one seed begin with the same ones.

    >>> erdos_renyi_graphs(3).mask.sum(1)
    tensor([7, 8, 9])
    """
    if not 0 <= p <= 1:
        raise ValueError(f"wanted 0 <= p <= 1, given {p}")
    count = as_size("count", count)
    (edges_of,) = _streams(seed, 1)
    low, high = ERDOS_RENYI_SIZES
    mask = np.arange(high) < low + np.arange(count)[:, None] % (high - low + 1)
    edge = (_pairs(edges_of, count, high) < p) & _real(mask)
    return GraphSet(torch.from_numpy(edge), torch.from_numpy(mask))


def _streams(seed: int | list[int], streams: int) -> list[np.random.Generator]:
    """One generator for each kind of draw, so that more graphs leave the first ones alone."""
    return [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(streams)]


def _pairs(rng: np.random.Generator, count: int, nodes: int) -> np.ndarray:
    """A uniform number of every unordered pair of nodes, (count, nodes, nodes)."""
    lower = np.tril(rng.random((count, nodes, nodes)), -1)
    return lower + lower.swapaxes(1, 2)


def _real(mask: np.ndarray) -> np.ndarray:
    """Pairs of two different real nodes."""
    return mask[:, :, None] & mask[:, None] & ~np.eye(mask.shape[1], dtype=bool)
