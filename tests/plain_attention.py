"""Attention as a double loop over queries and keys, cases to try it on, and what every kind is."""

import math
from collections.abc import Callable

import torch
from drawing import normal, seeded
from torch import Tensor, nn

from archbook.attention import (
    Attention,
    BigBirdAttention,
    FullAttention,
    LinformerAttention,
    PerformerAttention,
)

BATCH, HEADS, SEQ, HEAD_DIM = 2, 2, 12, 4
HUGE = 1e100  # its square is finite, its exponential is not


def qkv(
    batch: int = BATCH,
    heads: int = HEADS,
    seq: int = SEQ,
    head_dim: int = HEAD_DIM,
    queries: int | None = None,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    lengths = (queries or seq, seq, seq)
    q, k, v = (normal(batch, heads, n, head_dim, seed=seed + i) for i, n in enumerate(lengths))
    return q, k, v


def bigbird(length: int = SEQ, block: int = 2, **options) -> BigBirdAttention:
    return BigBirdAttention(length, block, generator=seeded(5), **options)


def performer(
    kernel: str = "softmax", features: int = 7, dim: int = HEAD_DIM, **options
) -> PerformerAttention:
    return PerformerAttention(dim, features, kernel, generator=seeded(6), **options)


def linformer(keys: int = SEQ, rank: int = 5) -> LinformerAttention:
    layer = LinformerAttention(keys, rank)
    layer.E.data = normal(rank, keys, seed=7).to(layer.E)
    return layer


# every kind, for `seq` tokens, in float32
KINDS: dict[str, Callable[[int], Attention]] = {
    "full": lambda seq=SEQ: FullAttention(),
    "softmax": lambda seq=SEQ: performer("softmax"),
    "relu": lambda seq=SEQ: performer("relu"),
    "bigbird": lambda seq=SEQ: bigbird(seq),
    "linformer": lambda seq=SEQ: linformer(seq),
}
CAUSAL = [kind for kind in KINDS if kind != "linformer"]
DENSE = ["full", "softmax", "relu"]  # every query reads every key
STEPPED = [*DENSE, "bigbird"]  # decode step by step


def kinds_and_groups(*groups: int | None) -> list[tuple[str, int | None]]:
    """All pairs that exist: what has no causal form takes no group."""
    return [(kind, group) for kind in KINDS for group in groups if kind in CAUSAL or not group]


def build(kind: str, seq: int = SEQ) -> Attention:
    return KINDS[kind](seq).double()


def end_mask(lengths: list[int], seq: int = SEQ) -> Tensor:
    """True for the first tokens of each example."""
    return torch.arange(seq) < torch.tensor(lengths)[:, None]


# ---- the equations ----


def slow(layer: nn.Module, q, k, v, mask=None, group=None) -> Tensor:
    """y_t = sum_j K(q_t, k_j) v_j / sum_j K(q_t, k_j) over the keys that t may read; zero if none.

    One query and one key at a time.
    """
    if isinstance(layer, LinformerAttention):
        return slow_linformer(layer, q, k, v, mask)
    kernel = kernel_of(layer)
    y = torch.zeros_like(q)
    positions = None if group is None else k.shape[2] // group
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            weights = kernel(q[b, h], k[b, h])
            for t in range(q.shape[2]):
                total, sums = 0.0, torch.zeros_like(v[b, h, 0])
                for j in range(k.shape[2]):
                    if mask is not None and not mask[b, j]:
                        continue
                    if group is not None and j // group > t // (q.shape[2] // positions):
                        continue
                    if not reads(layer, t, j, k.shape[2], causal=group is not None):
                        continue
                    total, sums = total + weights[t, j], sums + weights[t, j] * v[b, h, j]
                if isinstance(total, Tensor):
                    y[b, h, t] = sums / total
    return y


def kernel_of(layer: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """From the queries and keys of one head: K(q_t, k_j) for all t and j."""
    if not isinstance(layer, PerformerAttention):
        return lambda q, k: torch.exp(q @ k.T / math.sqrt(q.shape[1]))
    W = layer.projection
    root = W.shape[1] ** 0.25

    def softmax(x: Tensor) -> Tensor:
        return torch.exp(W @ x - x @ x / 2) / math.sqrt(len(W))

    def relu(x: Tensor) -> Tensor:
        return torch.clamp(W @ x, min=0) + 1e-3

    phi = {"softmax": softmax, "relu": relu}[layer.kernel]
    return lambda q, k: (
        torch.stack([phi(x / root) for x in q]) @ torch.stack([phi(x / root) for x in k]).T
    )


def reads(layer: nn.Module, t: int, j: int, seq: int, causal: bool) -> bool:
    """Whether token t reads token j in the sparse pattern; always elsewhere."""
    if not isinstance(layer, BigBirdAttention):
        return True
    row, column = t // layer.block, j // layer.block
    return (
        abs(row - column) <= layer.window // 2
        or column < layer.global_blocks
        or (row < layer.global_blocks and not causal)
        or column in layer.random[row].tolist()
    )


def slow_linformer(layer: LinformerAttention, q, k, v, mask=None) -> Tensor:
    real = torch.ones(len(k), k.shape[2]).double() if mask is None else mask.double()
    y = torch.zeros_like(q)
    for b in range(q.shape[0]):
        E = layer.E * real[b]
        for h in range(q.shape[1]):
            mixed_k, mixed_v = E @ k[b, h], E @ v[b, h]
            for t in range(q.shape[2]):
                scores = torch.stack([q[b, h, t] @ key for key in mixed_k])
                weights = torch.exp(scores / math.sqrt(q.shape[3]))
                y[b, h, t] = (weights / weights.sum()) @ mixed_v
    return y


# ---- comparing ----


def with_gradients(call: Callable, *inputs: Tensor) -> list[Tensor]:
    """The output, and the gradients of one number that depends on all of it."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    y = call(*inputs)
    return [y.detach(), *torch.autograd.grad((y * normal(*y.shape, seed=99)).sum(), inputs)]
