"""OmniNet token by token, small nets to try it on, and inputs meant to break it."""

import torch
from drawing import gap, normal, seeded
from plain_attention import slow
from torch import Tensor, nn

from archbook.attention import BigBird, Full, Kind, Linformer, Performer
from archbook.omninet import (
    Block,
    Classifier,
    Decoder,
    EncoderDecoder,
    MetaLearner,
    OmniNet,
    PatchEmbedding,
    TokenEmbedding,
    Transformer,
)

BATCH, SEQ, LAYERS, HIDDEN, HEADS = 2, 7, 6, 8, 2
HUGE = 1e100
PARTITIONS = (1, 2, 3)

METAS: dict[str, Kind] = {
    "full": Full(),
    "performer": Performer(features=6),
    "relu": Performer(features=6, kernel="relu"),
    "bigbird": BigBird(block=2, window=1),
    "linformer": Linformer(rank=5),
}
CAUSAL = [meta for meta in METAS if meta != "linformer"]
FORMS = [
    (meta, causal) for meta in METAS for causal in (False, True) if meta in CAUSAL or not causal
]
DENSE = [meta for meta in METAS if meta != "bigbird"]


def kind(meta: str, length: int = SEQ) -> dict:
    """The arguments that make this meta-learner for so many tokens."""
    return {"meta": METAS[meta], "length": length}


def redrawn(module: nn.Module, scale: float = 1.0) -> nn.Module:
    """Weights and biases that hide no path, in float64, without dropout."""
    generator = seeded(11)
    for parameter in module.parameters():
        fan_in = parameter.shape[-1] if parameter.dim() > 1 else 4
        drawn = torch.randn(parameter.shape, generator=generator) / fan_in**0.5
        parameter.data = scale * drawn + (parameter.dim() == 1)
    return module.double().eval()


def omninet(meta: str = "full", partition: int = 2, length: int = SEQ, scale=1.0, **options):
    torch.manual_seed(0)
    kinds = kind(meta, length)
    layers = options.pop("layers", LAYERS)
    net = OmniNet(layers, HIDDEN, HEADS, partition=partition, **kinds, **options)
    return redrawn(net, scale)


def meta_learner(meta: str = "full", depth: int = 3, length: int = SEQ, **options) -> MetaLearner:
    torch.manual_seed(0)
    return redrawn(MetaLearner(HIDDEN, HEADS, depth, **kind(meta, length), **options))


def texts(vocab: int, length: int, readout: str = "mean", layers: int = 2, **options) -> Classifier:
    """Three classes of sequences, by an OmniNet of partitions of two."""
    options = {"length": length + (readout == "token"), "dropout": 0.0} | options
    embed = TokenEmbedding(vocab, length, HIDDEN)
    body = OmniNet(layers, HIDDEN, HEADS, partition=2, **options)
    return Classifier(embed, body, 3, readout=readout, dropout=0.0)


def pictures(
    image: tuple[int, int, int], readout: str = "mean", layers: int = 2, **options
) -> Classifier:
    """Three classes of images in patches of two pixels, likewise."""
    embed = PatchEmbedding(image, 2, HIDDEN)
    options = {"length": embed.max_length + (readout == "token"), "dropout": 0.0} | options
    body = OmniNet(layers, HIDDEN, HEADS, partition=2, **options)
    return Classifier(embed, body, 3, readout=readout, dropout=0.0)


def translator(source: int, target: int, length: int, **options) -> EncoderDecoder:
    """Two layers to each side, the encoder an OmniNet of one partition."""
    options = {"length": length, "dropout": 0.0} | options
    embed = TokenEmbedding(source, length, HIDDEN)
    encoder = OmniNet(2, HIDDEN, HEADS, partition=2, **options)
    decoder = Decoder(target, length, 2, hidden=HIDDEN, heads=HEADS, dropout=0.0)
    return EncoderDecoder(embed, encoder, decoder)


def states(batch: int = BATCH, seq: int = SEQ, seed: int = 0) -> Tensor:
    return normal(batch, seq, HIDDEN, seed=seed)


def depths(depth: int = 3, batch: int = BATCH, seq: int = SEQ, seed: int = 0) -> Tensor:
    return normal(batch, seq, depth, HIDDEN, seed=seed)


# ---- the equations, one token at a time ----


def slow_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    centred = x - x.mean()
    return centred / (centred.square().mean() + norm.eps).sqrt() * norm.weight + norm.bias


def slow_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    y = layer.weight @ x
    return y if layer.bias is None else y + layer.bias


def slow_heads(heads, attention, asking, asked, mask, group) -> list[list[Tensor]]:
    """Queries from `asking`, keys and values from `asked`: lists of tokens of each example."""

    def split(vectors: list[list[Tensor]]) -> Tensor:
        rows = torch.stack([torch.stack(example) for example in vectors])  # batch seq hidden
        size = HIDDEN // heads.heads
        return torch.stack([rows[..., h * size : (h + 1) * size] for h in range(heads.heads)], 1)

    q = split([[slow_linear(heads.q, x) for x in example] for example in asking])
    kv = [[slow_linear(heads.kv, x) for x in example] for example in asked]
    k, v = (split([[x[first : first + HIDDEN] for x in e] for e in kv]) for first in (0, HIDDEN))
    y = slow(attention, q, k, v, mask, group)  # batch heads queries d
    return [
        [slow_linear(heads.out, torch.cat(list(y[b, :, t]))) for t in range(y.shape[2])]
        for b in range(len(y))
    ]


def slow_block(block: Block, x: Tensor, mask) -> Tensor:
    """U = X + MHA(LN X); U + FFN(LN U)."""
    normed = [[slow_norm(block.norm, token) for token in example] for example in x]
    found = slow_heads(block.heads, block.attention, normed, normed, mask, block.group)
    rows = []
    for example, read in zip(x, found, strict=True):
        out = []
        for token, y in zip(example, read, strict=True):
            u = token + y
            inner = slow_linear(block.ffn.fc1, slow_norm(block.ffn_norm, u))
            out.append(u + slow_linear(block.ffn.fc2, nn.functional.gelu(inner)))
        rows.append(torch.stack(out))
    return torch.stack(rows)


def slow_meta(meta: MetaLearner, layers: list[Tensor], mask) -> Tensor:
    """T[i P + l] = X_l[i]; attention over T; pooled over l."""
    P, batch, seq = len(layers), *layers[0].shape[:2]
    stack: list[list[Tensor]] = [[torch.empty(0)] * (seq * P) for _ in range(batch)]
    for b in range(batch):
        for i in range(seq):
            for depth in range(P):
                token = layers[depth][b, i]
                if meta.depth_vectors is not None:
                    token = token + meta.depth_vectors[depth]
                stack[b][i * P + depth] = slow_norm(meta.norm, token)
    wide = None
    if mask is not None:
        wide = torch.stack([mask[:, t // P] for t in range(seq * P)], 1)
    asking = stack
    if meta.query == "top":
        asking = [[example[i * P + P - 1] for i in range(seq)] for example in stack]
    y = slow_heads(meta.heads, meta.attention, asking, stack, wide, meta.group)
    if meta.query == "top":
        return torch.stack([torch.stack(example) for example in y])
    pooled = []
    for example in y:
        out = []
        for i in range(seq):
            own = [example[i * P + depth] for depth in range(P)]
            out.append(slow_pool(meta, own))
        pooled.append(torch.stack(out))
    return torch.stack(pooled)


def slow_pool(meta: MetaLearner, own: list[Tensor]) -> Tensor:
    if meta.pool == "max":
        return torch.stack([torch.stack([y[c] for y in own]).max() for c in range(HIDDEN)])
    if meta.pool == "mean":
        return sum(own[1:], own[0]) / len(own)
    if meta.pool == "last":
        return own[-1]
    weights = torch.exp(meta.pool_logits)
    return sum(w * y for w, y in zip(weights / weights.sum(0), own, strict=True))


def slow_network(net: Transformer, x: Tensor, mask=None) -> Tensor:
    collected = []
    for number, block in enumerate(net.blocks, start=1):
        x = slow_block(block, x, mask)
        collected.append(x)
        if isinstance(net, OmniNet) and number % net.partition == 0:
            x = x + slow_meta(net.metas[number // net.partition - 1], collected, mask)
            collected = []
    return x


# ---- causality ----


def leak(call, cut: int = 4, size: float = HUGE, seq: int = SEQ, seed: int = 0) -> float:
    """How far the outputs before `cut` move when all inputs from there on change."""
    x = states(seq=seq, seed=seed)
    changed = x.clone()
    changed[:, cut:] = states(seq=seq, seed=seed + 50)[:, cut:] * size
    return gap(call(changed)[:, :cut], call(x)[:, :cut])
