"""Who sends to whom: an edge list or a padded dense batch, behind one small interface.

A layer takes values from nodes to pairs (`at_receiver`, `at_sender`), works on the pairs, and sums
the pairs of each receiver back onto it (`sum`); `at_pair` brings edge attributes into the same
order. Written so, a layer's equations stand once.
"""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from archbook.attached import is_plain
from archbook.checks import (
    require_between,
    require_false,
    require_finite,
    require_input,
    require_mask,
)


class EdgeList:
    """Edges sender -> receiver, (2, edges): edges[0] sends, edges[1] receives.

    Beware: the authors' files call the receiver `row` and keep it in edges[0].
    An edge list may be empty, hold self loops (they count as any other edge) or repeat an edge.
    """

    def __init__(self, edges: Int64[Tensor, "2 edges"], nodes: int, device: torch.device):
        if not isinstance(edges, Tensor):
            raise TypeError(f"wanted edges to be a tensor, given {type(edges).__name__}")
        if edges.ndim != 2 or len(edges) != 2:
            raise ValueError(f"wanted edges to have shape (2, edges), given {tuple(edges.shape)}")
        if edges.dtype != torch.int64:
            raise TypeError(f"wanted edges to be torch.int64, given {edges.dtype}")
        if edges.device != device:
            raise ValueError(f"wanted edges to be on {device}, given a tensor on {edges.device}")
        if edges.shape[1]:
            require_between("edges", edges, low=0, high=nodes - 1)
        self.sender, self.receiver = edges
        self.shape = (edges.shape[1],)  # of the pairs
        self.nodes = nodes
        self._degree = None  # the same for every layer: counted once

    def refuse_self_loops(self) -> None:
        loops = self.sender == self.receiver
        require_false("wanted edges to hold no self loops where distances divide", loops)

    def at_receiver(self, value: Float[Tensor, "nodes k"]) -> Float[Tensor, "edges k"]:
        return value.index_select(0, self.receiver)

    def at_sender(self, value: Float[Tensor, "nodes k"]) -> Float[Tensor, "edges k"]:
        return value.index_select(0, self.sender)

    def at_pair(self, value: Float[Tensor, "edges k"]) -> Float[Tensor, "edges k"]:
        return value

    def sum(self, value: Float[Tensor, "edges k"]) -> Float[Tensor, "nodes k"]:
        wide = torch.promote_types(value.dtype, torch.float32)  # in bfloat16, 256 + 1 is 256
        total = value.new_zeros(self.nodes, value.shape[1], dtype=wide)
        return total.index_add(0, self.receiver, value.to(wide)).to(value.dtype)

    def degree(self, like: Tensor) -> Float[Tensor, "nodes 1"]:
        """How many edges each node receives, at least 1."""
        if self._degree is None:
            self._degree = self.sum(like.new_ones(*self.shape, 1)).clamp(min=1)
        return self._degree

    def keep(self, value: Float[Tensor, "nodes k"]) -> Float[Tensor, "nodes k"]:
        return value


class DenseBatch:
    """All ordered pairs i != j of every graph of a padded batch; mask True = real.

    Pairs are (batch, receiver i, k): the nodes - 1 others of i, in order, so that no pair of a node
    with itself is computed in vain. Pairs that touch padding count zero.
    """

    def __init__(
        self,
        mask: Bool[Tensor, "batch nodes"] | None,
        batch: int,
        nodes: int,
        *,
        device: torch.device,
    ):
        self.shape = (batch, nodes, nodes)  # of edge_attr
        receiver = torch.arange(nodes, device=device)[:, None]
        others = torch.arange(nodes - 1, device=device).expand(nodes, -1)
        self.sender = others + (others >= receiver)  # (nodes, nodes - 1)
        self.pair = receiver * nodes + self.sender  # where i, j stand in a flat nodes x nodes
        self.mask = mask
        self.real = None  # all of them
        if mask is not None:
            require_mask("mask", mask, (batch, nodes), device)
            self.real = (mask[:, :, None] & mask[:, self.sender])[..., None]

    def at_receiver(
        self, value: Float[Tensor, "batch nodes k"]
    ) -> Float[Tensor, "batch nodes 1 k"]:
        return value[:, :, None]

    def at_sender(
        self, value: Float[Tensor, "batch nodes k"]
    ) -> Float[Tensor, "batch nodes others k"]:
        return value.index_select(1, self.sender.flatten()).unflatten(1, self.sender.shape)

    def at_pair(
        self, value: Float[Tensor, "batch nodes nodes k"]
    ) -> Float[Tensor, "batch nodes others k"]:
        flat = value.flatten(1, 2).index_select(1, self.pair.flatten())
        return flat.unflatten(1, self.pair.shape)

    def sum(self, value: Float[Tensor, "batch nodes others k"]) -> Float[Tensor, "batch nodes k"]:
        return (value if self.real is None else value * self.real).sum(2)

    def degree(self, like: Tensor) -> int | Float[Tensor, "batch nodes 1"]:
        """How many real neighbours each node has, at least 1."""
        if self.real is None:
            return max(1, self.sender.shape[1])
        return self.real.sum(2).clamp(min=1).to(like.dtype)

    def keep(self, value: Float[Tensor, "batch nodes k"]) -> Float[Tensor, "batch nodes k"]:
        """Padding returns zero."""
        return value if self.mask is None else value.masked_fill(~self.mask[..., None], 0.0)


Pairs = EdgeList | DenseBatch


def pairs_of(
    name: str,
    value: Tensor,
    features: int | str,
    *,
    edges: Tensor | None,
    mask: Tensor | None,
    weight: Tensor,
) -> Pairs:
    """The edge list for `value` (nodes, features), or the dense batch for (batch, nodes, features).

    Refuses a `value` that does not fit the model's `weight`.
    """
    if edges is not None:
        if mask is not None:
            raise ValueError("mask is for dense batches: wanted edges or mask, given both")
        require_input(name, value, ("nodes", features), weight)
    elif isinstance(value, Tensor) and value.ndim != 3:
        raise ValueError(
            f"wanted {name} to have shape (batch, nodes, {features}) where no edges are given, "
            f"given {tuple(value.shape)}; one graph: {name}[None], or edges of complete_edges"
        )
    else:
        require_input(name, value, ("batch", "nodes", features), weight)
    require_finite(name, value)
    if edges is not None:
        return EdgeList(edges, value.shape[0], value.device)
    return DenseBatch(mask, value.shape[0], value.shape[1], device=value.device)


def check_edge_attr(
    edge_attr: Tensor | None, features: int, pairs: Pairs, *, weight: Tensor
) -> None:
    """Refuse what is not (*pairs, features), or None for no features."""
    if edge_attr is None and features == 0:
        return
    if edge_attr is None or features == 0:
        given = "None" if edge_attr is None else type(edge_attr).__name__
        raise ValueError(f"wanted edge_attr to have {features} features, given {given}")
    require_input("edge_attr", edge_attr, (*pairs.shape, features), weight)
    require_finite("edge_attr", edge_attr)


def check_velocity(v: Tensor | None, velocity: bool, x: Tensor, *, weight: Tensor) -> None:
    """Refuse what is not shaped as x, or None without velocity."""
    if (v is None) == velocity:
        wanted = "given with" if velocity else "None without"
        raise ValueError(f"wanted v to be {wanted} velocity=True, given {type(v).__name__}")
    if v is not None:
        require_input("v", v, tuple(x.shape), weight)
        require_finite("v", v)


def messages(
    phi_e: nn.Sequential, pairs: Pairs, h: Tensor, *, extra: Tensor | None
) -> Float[Tensor, "*pairs width"]:
    """phi_e of the concatenation [h_i, h_j, extra_ij] (i receives), which is never built.

    Its first layer is W [h_i, h_j, extra] = W_i h_i + W_j h_j + W_e extra: the first two products
    are done once a node and not once an edge, which leaves 2 / degree of their cost.
    """
    linear, features = cast(nn.Linear, phi_e[0]), h.shape[-1]
    if not is_plain(phi_e, linear):  # what hangs on them wants to be called
        both = [pairs.at_receiver(h), pairs.at_sender(h)]
        both[0] = both[0].expand_as(both[1])
        return phi_e(torch.cat([*both, extra] if extra is not None else both, -1))
    W_i, W_j, W_e = linear.weight.split([features, features, linear.in_features - 2 * features], 1)
    total = pairs.at_receiver(F.linear(h, W_i, linear.bias)) + pairs.at_sender(F.linear(h, W_j))
    return phi_e[1:](total if extra is None else total + F.linear(extra, W_e))
