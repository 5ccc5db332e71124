"""One layer of blended experts, in three orders of the same sums.

y = (sum_k omega_k W_k) x + sum_k omega_k b_k = sum_k omega_k (W_k x + b_k).
Equal layer by layer only: to blend what whole networks of experts answer is another function.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from archbook.checks import can_be_read, require_choice
from archbook.gfnn.weights import Grid

ORDERS = ("auto", "blend", "experts", "cells")

# What else costs time, in multiply-adds; fitted to timings on a CPU, forward and backward.
READ = 16  # to read a stored parameter
COPY = 64  # to copy a parameter of a block and to add its gradient
STEP = 2**20  # a step of the loop over the blocks, whatever its size

Mixing = Callable[[Tensor, Tensor, Tensor], Tensor]  # (W, b, x) -> y


def blend(
    omega: Float[Tensor, "batch experts"],
    W: Float[Tensor, "experts out in"],
    b: Float[Tensor, "experts out"],
    x: Float[Tensor, "batch in"],
) -> Float[Tensor, "batch out"]:
    """First the parameters: one matrix product makes W(g) of every sample.

    batch experts in out multiply-adds, memory batch in out.
    """
    W_g = (omega @ W.flatten(1)).unflatten(1, W.shape[1:])  # (batch, out, in)
    return torch.baddbmm((omega @ b)[:, :, None], W_g, x[:, :, None]).squeeze(2)


def experts(
    omega: Float[Tensor, "batch experts"],
    W: Float[Tensor, "experts out in"],
    b: Float[Tensor, "experts out"],
    x: Float[Tensor, "batch in"],
) -> Float[Tensor, "batch out"]:
    """First every expert on every sample in one matrix product, then the weights.

    Where the input is the narrower side, the weights multiply it beforehand:
    sum_k omega_k W_k x is [W_1 .. W_K] times the stacked omega_k x.
    batch experts in out multiply-adds, memory batch experts min(in, out).
    """
    if W.shape[2] < W.shape[1]:
        stacked = (omega[:, :, None] * x[:, None]).flatten(1)  # (batch, experts in)
        return torch.addmm(omega @ b, stacked, W.mT.flatten(0, 1))
    y = F.linear(x, W.flatten(0, 1), b.flatten()).unflatten(1, b.shape)  # (batch, experts, out)
    return (omega[:, None] @ y).squeeze(1)


def dense(omega: Tensor, W: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """`blend` or `experts`, whichever makes fewer numbers a sample on the way.

    in out against experts min(in, out): measured on a CPU, the smaller is the faster one. But for a
    single sample `blend` always is: it reads every parameter once, in order, and writes one matrix.
    (Not asked while torch traces a program, which has to serve every number of samples.)
    """
    single = not torch.compiler.is_compiling() and len(x) == 1
    form = blend if single or max(W.shape[1:]) < len(W) else experts
    return form(omega, W, b, x)


class Cells:
    """First the samples, sorted by the block of experts that they read; then `experts` a block.

    batch 4^D in out multiply-adds, whatever the size of the grid. Memory for one block's
    parameters at a time. One step of a loop for every block that is read, and their number has to
    come from the device: not for torch.compile, nor for the meta device.
    """

    def __init__(self, grid: Grid, g: Float[Tensor, "batch grid_dims"]):
        first, omega = grid.block_of(g)
        first, self.sample = first.sort(stable=True)
        first, sizes = torch.unique_consecutive(first, return_counts=True)
        self.sizes = sizes.tolist()  # samples of each block
        self.experts = grid.experts_of(first)  # (blocks, experts of a block)
        self.omega = omega.index_select(0, self.sample)
        self.place = self.sample.argsort()

    def __call__(self, W: Tensor, b: Tensor, x: Tensor) -> Tensor:
        x = x.index_select(0, self.sample)
        given = [W, b, x, self.omega.to(x.dtype)]
        if torch.is_autocast_enabled(x.device.type):  # which does not reach into a Function
            given = [value.to(torch.get_autocast_dtype(x.device.type)) for value in given]
        return _BlockByBlock.apply(*given, self.experts, self.sizes).index_select(0, self.place)


class _BlockByBlock(torch.autograd.Function):
    """`experts` on each block; the gradient of W is one sum, not one tensor of W's size a block."""

    @staticmethod
    def forward(
        ctx: Any,
        W: Tensor,
        b: Tensor,
        x: Tensor,
        omega: Tensor,
        chosen: Tensor,
        sizes: Sequence[int],
    ) -> Tensor:
        ctx.save_for_backward(W, b, x, omega, chosen)
        ctx.sizes = sizes
        blocks = zip(chosen, omega.split(sizes), x.split(sizes), strict=True)
        return torch.cat([experts(weights, W[k], b[k], x_k) for k, weights, x_k in blocks])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        W, b, x, omega, chosen = ctx.saved_tensors
        given = (value.split(ctx.sizes) for value in (omega, x, gradients[0]))
        dW, db, dx, d_omega = torch.zeros_like(W), torch.zeros_like(b), [], []
        for k, weights, x_k, dy in zip(chosen, *given, strict=True):
            back = (dy @ W[k].transpose(0, 1).flatten(1)).unflatten(1, (len(k), -1))  # W_k^T dy
            dx.append((weights[:, None] @ back).squeeze(1))
            d_omega.append(torch.baddbmm((dy @ b[k].T)[:, :, None], back, x_k[:, :, None]))
            stacked = (weights[:, :, None] * x_k[:, None]).flatten(1)  # omega_k x
            dW.index_add_(0, k, (dy.T @ stacked).unflatten(1, (len(k), -1)).transpose(0, 1))
            db.index_add_(0, k, weights.T @ dy)
        return dW, db, torch.cat(dx), torch.cat(d_omega).squeeze(2), None, None


def mixing(grid: Grid, g: Tensor, order: str, *, multiply_adds: float) -> Mixing:
    """The layer's function of W, b and x at these g; `multiply_adds`: in out, mean over layers.

    order: "blend", "experts", "cells", or "auto". That sorts by cell where fewer multiply-adds make
    up for the loop, see `_cells_are_cheaper`, and else takes the better of the other two layer by
    layer, see `dense`. It never sorts where values cannot be read (`can_be_read`), nor on a
    GPU, where the loop would wait for its launches (an estimate, not measured).
    """
    require_choice("order", order, ORDERS)
    readable = can_be_read(g)
    if order == "cells" and not readable:
        raise ValueError(
            "wanted order to be 'auto', 'blend' or 'experts' while compiling, on the meta device "
            "and in torch.func, given 'cells'"
        )
    if order == "auto" and readable and g.device.type == "cpu":
        order = "cells" if _cells_are_cheaper(grid, g.shape[0], multiply_adds) else order
    if order == "cells":
        return Cells(grid, g)
    form = {"auto": dense, "blend": blend, "experts": experts}[order]
    return partial(form, grid.weights(g))


def _cells_are_cheaper(grid: Grid, batch: int, multiply_adds: float) -> bool:
    """Multiply-adds and what else costs time, of all experts and of a loop over the blocks.

    Blocks are counted as if every one were read that the batch can read.
    """
    block = math.prod(grid.block)
    every_expert = grid.experts * multiply_adds * (batch + READ)
    by_cell = block * multiply_adds * batch
    by_cell += min(batch, grid.blocks) * (STEP + COPY * block * multiply_adds)
    return by_cell < every_expert
