"""Edge lists: complete graphs, neighbours within a radius, the nearest k; all without N x N memory.

Edges run sender -> receiver, (2, edges), sorted by receiver; no node sends to itself.
"""

import math
from collections.abc import Sequence
from typing import SupportsIndex

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from archbook.checks import as_size, require_finite, require_tensor

BLOCK = 2**18  # distances held in memory at a time: they fit into a cache
FAR = 1e9  # beyond the diagonal of coordinates near one, in any dimension


def complete_edges(
    sizes: Sequence[SupportsIndex], device: torch.device | str | None = None
) -> Int64[Tensor, "2 edges"]:
    """All ordered pairs i != j inside each graph; the nodes of the graphs lie one after another.

    >>> complete_edges([2, 3])  # senders above, receivers below
    tensor([[1, 0, 3, 4, 2, 4, 2, 3],
            [0, 1, 2, 2, 3, 3, 4, 4]])
    """
    if not len(sizes):
        raise ValueError("wanted sizes to name at least one graph, given none")
    size = torch.tensor([as_size("sizes", size) for size in sizes], device=device)
    start = size.cumsum(0) - size
    nodes = torch.arange(int(size.sum()), device=device)
    graph = torch.repeat_interleave(size)  # of each node
    others = size[graph] - 1
    receiver = torch.repeat_interleave(nodes, others)
    first = others.cumsum(0) - others
    k = torch.arange(len(receiver), device=device) - first[receiver]  # 0 .. size - 2
    sender = start[graph[receiver]] + k
    return torch.stack([sender + (sender >= receiver), receiver])


def radius_edges(x: Float[Tensor, "nodes n"], radius: float) -> Int64[Tensor, "2 edges"]:
    """j -> i for every |x_i - x_j| <= radius. O(nodes^2) time, memory in blocks plus the edges.

    Distances are computed in float32 at least: the square of 350 is no float16. Points may lie as
    far apart, and as close together, as their dtype can say.

    >>> radius_edges(torch.tensor([[0.0], [1.0], [5.0]]), radius=1.5)
    tensor([[1, 0],
            [0, 1]])
    """
    x = _checked(x)
    if not 0 < radius < math.inf:
        raise ValueError(f"wanted radius to be positive and finite, given {radius}")
    x, scale = _near_one(x)
    reach, found = min(radius * scale, FAR), []
    for first, square in _squares(x):
        receiver, sender = (square <= reach**2).nonzero().unbind(1)
        found.append(torch.stack([sender, receiver + first]))
    return torch.cat(found, 1)


def nearest_edges(x: Float[Tensor, "nodes n"], k: int) -> Int64[Tensor, "2 edges"]:
    """j -> i for the k nearest j of every i. O(nodes^2) time, memory in blocks plus the edges.

    >>> nearest_edges(torch.tensor([[0.0], [1.0], [5.0]]), k=1)
    tensor([[1, 0, 1],
            [0, 1, 2]])
    """
    x, k = _checked(x), as_size("k", k)
    if k >= len(x):
        raise ValueError(f"wanted k to be less than the number of nodes, {len(x)}, given {k}")
    x, _ = _near_one(x)
    sender = torch.cat([square.topk(k, largest=False).indices for _, square in _squares(x)])
    receiver = torch.arange(len(x), device=x.device).repeat_interleave(k)
    return torch.stack([sender.flatten(), receiver])


def _checked(x: Tensor) -> Tensor:
    require_tensor("x", x, ("nodes", "n"))
    if not x.is_floating_point():
        raise TypeError(f"wanted x to be floating, given {x.dtype}")
    require_finite("x", x)
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _near_one(x: Tensor) -> tuple[Tensor, float]:
    """x times a power of two, and the power: exact, and no square overflows or vanishes."""
    exponent = int(torch.frexp(x.abs().max()).exponent)
    most = int(math.log2(torch.finfo(x.dtype).max)) - 2
    scale = math.ldexp(1.0, -max(-most, min(exponent, most)))
    return x * scale, scale


@torch.no_grad()
def _squares(x: Tensor):
    """(first row, squared distances of a block of rows to all nodes, infinite to itself)."""
    rows = max(1, BLOCK // len(x))
    for first in range(0, len(x), rows):
        block = x[first : first + rows]
        # differences and not |a|^2 + |b|^2 - 2ab, which loses all digits far from the origin
        square = (block[:, None, 0] - x[:, 0]).square()
        for axis in range(1, x.shape[1]):  # no (rows, nodes, n)
            square += (block[:, None, axis] - x[:, axis]).square()
        square[torch.arange(len(block)), torch.arange(first, first + len(block))] = torch.inf
        yield first, square
