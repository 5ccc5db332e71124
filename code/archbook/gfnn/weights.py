"""Where a point lies on a grid, and what each node weighs there: cubic, local, once smooth."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from archbook.checks import require_choice, require_finite, require_positive_int, require_tensor

EDGES = ("clamp", "linear")


def catmull_rom(m: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 4"]:
    """Weights of the nodes i-1, i, i+1, i+2 at the fraction m of the way from i to i+1.

    The cubic through y_i and y_i+1 with the slopes (y_i+1 - y_i-1) / 2 and (y_i+2 - y_i) / 2,
    collected by node. They sum to 1; the outer two are negative, down to -2/27, so this is no
    convex mixture: absolute weights sum to up to 1.25.

    >>> catmull_rom(torch.tensor([0.0, 0.5]))
    tensor([[ 0.0000,  1.0000,  0.0000,  0.0000],
            [-0.0625,  0.5625,  0.5625, -0.0625]])
    """
    _require_floating("m", m)
    m2 = m * m
    m3 = m2 * m
    return torch.stack(
        [
            -m3 / 2 + m2 - m / 2,
            3 * m3 / 2 - 5 * m2 / 2 + 1,
            -3 * m3 / 2 + 2 * m2 + m / 2,
            m3 / 2 - m2 / 2,
        ],
        dim=-1,
    )


def axis_weights(
    u: Float[Tensor, "*batch"], nodes: int, cyclic: bool = False, *, edges: str = "clamp"
) -> Float[Tensor, "*batch nodes"]:
    """Weights of all nodes of one axis at the position u; at most four are not zero.

    Non-cyclic: the nodes lie at 0, 1/(nodes-1), ..., 1 and a u outside [0, 1] is clamped: the value
    stays continuous there, the slope drops to 0. Cyclic: they lie at 0, 1/nodes, ...; u and u + 1
    are the same place. One node alone weighs 1. Once differentiable in u, not twice.

    edges: what stands for the missing node beyond an end of a non-cyclic axis. "clamp" is the end
    node again, so that a ramp bends in the first and the last cell, by up to 2/27 of a step;
    "linear" continues the last step, y_-1 = 2 y_0 - y_1, and keeps every ramp.

    Computed in float32 at least, whatever the dtype of u. Errors: TypeError or ValueError for a u
    that is not floating, for NaN, for fewer than one node, for unknown edges.
    Deviates from the paper: its rule at the edges is not known to us; "clamp" is our choice.

    >>> axis_weights(torch.tensor([0.0, 0.5]), nodes=4)  # at a node, amid two
    tensor([[ 1.0000,  0.0000,  0.0000,  0.0000],
            [-0.0625,  0.5625,  0.5625, -0.0625]])
    """
    _require_floating("u", u)
    require_positive_int("nodes", nodes)
    require_choice("edges", edges, EDGES)
    require_finite("u", u)
    return _all_nodes(u, nodes, cyclic, edges=edges)


def grid_weights(
    g: Float[Tensor, "batch grid_dims"],
    shape: Sequence[int],
    cyclic: Sequence[bool] | None = None,
    *,
    edges: str = "clamp",
) -> Float[Tensor, " batch *shape"]:
    """omega_k(g), the product of the axis weights: at most 4^D of them are not zero, sum 1.

    cyclic: one entry an axis, None for no cyclic axis. edges: see `axis_weights`.

    >>> grid_weights(torch.tensor([[0.0, 1.0]]), (2, 3))  # at the corner of a grid of 2 x 3
    tensor([[[0., 0., 1.],
             [0., 0., 0.]]])
    """
    grid = Grid(shape, cyclic, edges)
    _require_floating("g", g)
    require_tensor("g", g, ("batch", grid.dims))
    require_finite("g", g)
    return grid.weights(g).unflatten(1, grid.shape)


class Grid:
    """A grid of experts: how many nodes each axis has, which axes are cyclic, what ends do.

    Experts are numbered with the last axis running fastest. The min(4, N_d) adjacent nodes an axis
    that a point reads are its block; the outer two cells at an end read the same nodes and share
    one.
    """

    def __init__(
        self, shape: Sequence[int], cyclic: Sequence[bool] | None = None, edges: str = "clamp"
    ):
        if not isinstance(shape, Sequence):
            raise TypeError(f"wanted the grid's shape to be a sequence of int, given {shape!r}")
        if not shape:
            raise ValueError(f"wanted the grid to have at least 1 axis, given {len(shape)}")
        for axis, nodes in enumerate(shape):
            require_positive_int(f"nodes of grid axis {axis}", nodes)
        cyclic = [False] * len(shape) if cyclic is None else cyclic
        if not isinstance(cyclic, Sequence) or not all(isinstance(flag, bool) for flag in cyclic):
            raise TypeError(f"wanted cyclic to be a sequence of bool, given {cyclic!r}")
        if len(cyclic) != len(shape):
            raise ValueError(
                f"wanted cyclic to have {len(shape)} entries, one a grid axis, given {len(cyclic)}"
            )
        require_choice("edges", edges, EDGES)
        self.shape, self.cyclic, self.edges = tuple(shape), tuple(cyclic), edges
        self.dims, self.experts = len(shape), math.prod(shape)
        self.block = tuple(min(4, nodes) for nodes in shape)  # experts that a point reads
        self.blocks = math.prod(  # how many such blocks there are
            nodes if wraps and nodes > 4 else max(1, nodes - 3)
            for nodes, wraps in zip(shape, cyclic, strict=True)
        )

    def weights(self, g: Float[Tensor, "batch grid_dims"]) -> Float[Tensor, "batch experts"]:
        """omega_k(g) of every expert, on a g already checked."""
        axes = zip(g.unbind(1), self.shape, self.cyclic, strict=True)
        return _outer([_all_nodes(u, nodes, wraps, edges=self.edges) for u, nodes, wraps in axes])

    def block_of(
        self, g: Float[Tensor, "batch grid_dims"]
    ) -> tuple[Int64[Tensor, " batch"], Float[Tensor, "batch block"]]:
        """The first expert of each point's block, and the weights of the block's experts."""
        axes = zip(g.unbind(1), self.shape, self.cyclic, strict=True)
        starts, weights = zip(
            *(_block(u, nodes, wraps, edges=self.edges) for u, nodes, wraps in axes), strict=True
        )
        first = torch.zeros_like(starts[0])
        for start, nodes in zip(starts, self.shape, strict=True):
            first = first * nodes + start
        return first, _outer(weights)

    def experts_of(self, first: Int64[Tensor, " blocks"]) -> Int64[Tensor, "blocks block"]:
        """The experts of the blocks that begin with these, in the order of their weights."""
        experts = torch.zeros_like(first)[:, None]
        for start, nodes, width in zip(
            torch.unravel_index(first, self.shape), self.shape, self.block, strict=True
        ):
            axis = (start[:, None] + torch.arange(width, device=first.device)) % nodes
            experts = (experts[:, :, None] * nodes + axis[:, None]).flatten(1)
        return experts


def _all_nodes(u: Tensor, nodes: int, cyclic: bool, *, edges: str) -> Tensor:
    start, weights = _block(u, nodes, cyclic, edges=edges)
    node = (start[..., None] + torch.arange(weights.shape[-1], device=u.device)) % nodes
    return weights.new_zeros(*u.shape, nodes).scatter(-1, node, weights)


def _block(u: Tensor, nodes: int, cyclic: bool, *, edges: str) -> tuple[Tensor, Tensor]:
    """The first of the min(4, nodes) adjacent nodes that u reads, and their weights."""
    if nodes == 1:
        return torch.zeros_like(u, dtype=torch.int64), torch.ones_like(u)[..., None]
    wide = u.to(torch.promote_types(u.dtype, torch.float32))  # bfloat16 has 8 bits for a place
    # Whole turns go first: their product with the nodes would round the place away.
    s = wide.remainder(1) * nodes if cyclic else wide.clamp(0, 1) * (nodes - 1)
    floor = s.floor() if cyclic else s.floor().clamp(max=nodes - 2)  # at u = 1 the last cell ends
    c, i = catmull_rom(s - floor), floor.long()
    width, offsets = min(4, nodes), torch.arange(-1, 3, device=u.device)
    if cyclic:  # the remainder is never negative
        start = (i - 1) % nodes if nodes > 4 else torch.zeros_like(i)
        place = (i[..., None] + offsets - start[..., None]) % nodes
    else:
        c = _continued(c, i == 0, i == nodes - 2) if edges == "linear" else c
        start = (i - 1).clamp(0, nodes - width)
        place = (i[..., None] + offsets).clamp(0, nodes - 1) - start[..., None]
    # adds, as a node may come twice: at a clamped end, or where a short axis wraps
    weights = c.new_zeros(*u.shape, width).scatter_add(-1, place, c)
    return start, weights.to(u.dtype)


def _continued(c: Tensor, at_first: Tensor, at_last: Tensor) -> Tensor:
    """Give a missing node's weight to the line through the end: y_-1 = 2 y_0 - y_1."""
    c_before, c_0, c_1, c_after = c.unbind(-1)
    left, right = c_before * at_first, c_after * at_last
    moved = [c_before - left, c_0 + 2 * left - right, c_1 - left + 2 * right, c_after - right]
    return torch.stack(moved, dim=-1)


def _outer(weights: Sequence[Tensor]) -> Tensor:
    """The products of one weight an axis, (batch, product of the axes' lengths)."""
    product = weights[0]
    for axis in weights[1:]:
        product = (product[:, :, None] * axis[:, None]).flatten(1)
    return product


def _require_floating(name: str, value: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"wanted {name} to be a tensor, given {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"wanted {name} to be floating, given {value.dtype}")
