"""The MSA Transformer's equations as slow loops, and random cases to try them on.

Every index is written out: m, n are rows (sequences), i, j columns, h a head. A layer gives its
weights only. `real` counts say how many rows and columns of an example are no padding.
"""

import math

import torch
from drawing import order_one, seeded
from torch import Tensor, nn

from archbook.msa_transformer import AxialBlock, MSATransformer
from archbook.msa_transformer.attention import AxialAttention

START, PADDING, FIRST_LETTER, GAP = 0, 1, 4, 30
HIDDEN, HEADS = 6, 3
TIES = ("sqrt", "mean", "none")
SMALL = {"layers": 2, "hidden": 12, "heads": 3, "ffn": 20, "max_rows": 16, "max_columns": 16}
SILENT = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}


# ---- random cases ----


def attention_of(cls: type[AxialAttention], seed: int = 0, **options) -> AxialAttention:
    return order_one(cls(HIDDEN, HEADS, **options), seed)


def network_of(seed: int = 0, cls: type[MSATransformer] = MSATransformer, **options):
    """A small network in training mode without dropout, float64."""
    return order_one(cls(**{**SMALL, **SILENT, **options}), seed)


def letters(*shape: int, seed: int = 0) -> Tensor:
    """Residues and gaps, without start tokens."""
    tokens = torch.randint(FIRST_LETTER, 25, shape, generator=seeded(seed))
    return torch.where(tokens == 24, GAP, tokens)


def alignment(batch: int, rows: int, columns: int, seed: int = 0) -> Tensor:
    """Random letters and gaps behind a start token: (batch, rows, columns)."""
    generator = seeded(seed)
    tokens = torch.randint(FIRST_LETTER, GAP + 1, (batch, rows, columns), generator=generator)
    tokens[..., 0] = START
    return tokens


def block_mask(sizes: list[tuple[int, int]], rows: int, columns: int) -> Tensor:
    """True in the first r rows and c columns of each example."""
    r, c = torch.tensor(sizes).T[..., None]
    return (torch.arange(rows) < r)[..., None] & (torch.arange(columns) < c)[:, None]


def gradients(module: nn.Module, total: Tensor) -> dict[str, Tensor]:
    """Of all parameters; zero where `total` does not depend on one."""
    module.requires_grad_()  # the contact head's too, which no letter trains
    names, weights = zip(*module.named_parameters(), strict=True)
    grads = torch.autograd.grad(total, weights, allow_unused=True)
    pairs = zip(names, weights, grads, strict=True)
    return {name: torch.zeros_like(w) if g is None else g for name, w, g in pairs}


# ---- the equations ----


def projections(layer: AxialAttention, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v of one alignment (rows, columns, hidden), each (rows, columns, heads, head width)."""
    d = layer.hidden
    parts = []
    for p in range(3):
        weight, bias = layer.qkv.weight[p * d : (p + 1) * d], layer.qkv.bias[p * d : (p + 1) * d]
        part = torch.stack(
            [
                torch.stack([weight @ x[m, i] + bias for i in range(x.shape[1])])
                for m in range(len(x))
            ]
        )
        parts.append(part.reshape(*x.shape[:2], layer.heads, d // layer.heads))
    return parts[0], parts[1], parts[2]


def joined(layer: AxialAttention, heads: list[Tensor]) -> Tensor:
    """W_o [y_1, .., y_H] + b_o."""
    return layer.out.weight @ torch.cat(heads) + layer.out.bias


def slow_tied(layer: AxialAttention, x: Tensor, tie: str = "sqrt") -> tuple[Tensor, Tensor]:
    """(Y, A) of one alignment: S_ij = sum_m q_mi . k_mj / lambda, A = softmax_j, y_mi = A v_m."""
    q, k, v = projections(layer, x)
    rows, columns, heads, d = q.shape
    scale = {"sqrt": math.sqrt(rows * d), "mean": rows * math.sqrt(d)}[tie]
    maps = []
    for h in range(heads):
        lines = []
        for i in range(columns):
            scores = [
                sum(q[m, i, h] @ k[m, j, h] for m in range(rows)) / scale for j in range(columns)
            ]
            powers = torch.stack(scores).exp()
            lines.append(powers / powers.sum())
        maps.append(torch.stack(lines))
    A = torch.stack(maps)  # (heads, columns, columns)

    def output(m: int, i: int) -> Tensor:
        y = [sum(A[h, i, j] * v[m, j, h] for j in range(columns)) for h in range(heads)]
        return joined(layer, y)

    y = [torch.stack([output(m, i) for i in range(columns)]) for m in range(rows)]
    return torch.stack(y), A


def slow_untied(layer: AxialAttention, x: Tensor) -> tuple[Tensor, Tensor]:
    """Every row by itself, which is tied attention of one row; the mean of its maps."""
    ys, maps = zip(*(slow_tied(layer, row[None]) for row in x), strict=True)
    return torch.cat(ys), torch.stack(maps).mean(0)


def slow_row(layer: AxialAttention, x: Tensor, tie: str) -> tuple[Tensor, Tensor]:
    return slow_untied(layer, x) if tie == "none" else slow_tied(layer, x, tie)


def slow_column(layer: AxialAttention, x: Tensor) -> tuple[Tensor, Tensor]:
    """(Y, A): in each column i, A_mn = softmax_n(q_mi . k_ni / sqrt(d_h)), y_mi = sum_n A_mn v_ni.

    A is (heads, columns, rows, rows).
    """
    q, k, v = projections(layer, x)
    rows, columns, heads, d = q.shape

    def shares(h: int, i: int, m: int) -> Tensor:
        scores = [q[m, i, h] @ k[n, i, h] / math.sqrt(d) for n in range(rows)]
        powers = torch.stack(scores).exp()
        return powers / powers.sum()

    def output(m: int, i: int) -> Tensor:
        y = [sum(A[h, i, m, n] * v[n, i, h] for n in range(rows)) for h in range(heads)]
        return joined(layer, y)

    A = torch.stack(
        [
            torch.stack(
                [torch.stack([shares(h, i, m) for m in range(rows)]) for i in range(columns)]
            )
            for h in range(heads)
        ]
    )
    y = [torch.stack([output(m, i) for i in range(columns)]) for m in range(rows)]
    return torch.stack(y), A


def layer_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return norm.weight * centred / scale + norm.bias


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def slow_block(block: AxialBlock, x: Tensor, tie: str = "sqrt") -> tuple[Tensor, Tensor, Tensor]:
    """(X', row map, column map) of one alignment."""
    y, row = slow_row(block.row, layer_norm(block.row_norm, x), tie)
    x = x + y
    y, column = slow_column(block.column, layer_norm(block.column_norm, x))
    x = x + y
    fc1, fc2 = block.ffn.fc1, block.ffn.fc2
    inner = gelu(layer_norm(block.ffn_norm, x) @ fc1.weight.T + fc1.bias)
    return x + inner @ fc2.weight.T + fc2.bias, row, column


def slow_network(net: MSATransformer, tokens: Tensor, tie: str = "sqrt"):
    """(logits, row maps, column maps, contacts) of one alignment (rows, columns) of tokens."""
    rows, columns = tokens.shape
    x = torch.zeros(rows, columns, net.letters.embedding_dim, dtype=net.letters.weight.dtype)
    for m in range(rows):
        for i in range(columns):
            x[m, i] = net.letters.weight[tokens[m, i]]
            if net.column_positions is not None:
                x[m, i] += net.column_positions[i]
            if net.row_positions is not None and (m == 0 or len(net.row_positions) > 1):
                x[m, i] += net.row_positions[m]
    x = layer_norm(net.norm_before, x)
    row_maps, column_maps = [], []
    for block in net.blocks:
        x, row, column = slow_block(block, x, tie)
        row_maps.append(row)
        column_maps.append(column)
    x = layer_norm(net.norm_after, x)
    head = net.letter_head
    z = layer_norm(head.norm, gelu(x @ head.dense.weight.T + head.dense.bias))
    logits = z @ net.letters.weight.T + head.bias
    maps = torch.stack(row_maps)
    first = int(net.start_token)
    features = slow_contact_features(maps[..., first:, first:])
    regression = net.contact_head.regression
    contacts = 1 / (1 + torch.exp(-(features @ regression.weight[0] + regression.bias)))
    return logits, maps, torch.stack(column_maps), contacts


# ---- contacts and rows ----


def slow_contact_features(maps: Tensor) -> Tensor:
    """(layers, heads, columns, columns) -> (columns, columns, layers x heads), Dunn 2008."""
    layers, heads, columns, _ = maps.shape
    features = torch.zeros(columns, columns, layers * heads, dtype=maps.dtype)
    for layer in range(layers):
        for h in range(heads):
            a = maps[layer, h]
            s = [[a[i, j] + a[j, i] for j in range(columns)] for i in range(columns)]
            total = sum(sum(line) for line in s)
            for i in range(columns):
                for j in range(columns):
                    of_i, of_j = sum(s[i]), sum(s[k][j] for k in range(columns))
                    features[i, j, layer * heads + h] = s[i][j] - of_i * of_j / total
    return features


def hamming(a: Tensor, b: Tensor) -> int:
    return sum(int(x != y) for x, y in zip(a.tolist(), b.tolist(), strict=True))


def slow_subsample(msa: Tensor, rows: int, farthest: bool = True) -> list[int]:
    """Greedy by brute force: all mean distances to the chosen ones anew at every step."""
    chosen = [0]
    while len(chosen) < min(rows, len(msa)):
        best, winner = None, -1
        for r in range(len(msa)):
            if r in chosen:
                continue
            mean = sum(hamming(msa[r], msa[c]) for c in chosen) / len(chosen)
            mean = mean if farthest else -mean
            if best is None or mean > best + 1e-12:
                best, winner = mean, r
        chosen.append(winner)
    return sorted(chosen)
