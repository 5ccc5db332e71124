"""What a block and a meta-learner cost, counted from their sizes: two operations a product and sum.

Matrix products alone, of one example, forward; norms, softmax and activations are left out, and
a causal map is counted whole. A backward pass costs twice as much again.
"""

from archbook.attention import Full, Kind


def block_flops(seq: int, hidden: int, ffn: int | None = None) -> int:
    """Projections 8 N d^2, scores and mixtures 4 N^2 d, feed-forward 4 N d ffn.

    >>> block_flops(seq=128, hidden=64)
    16777216
    """
    ffn = 4 * hidden if ffn is None else ffn
    return 8 * seq * hidden**2 + 4 * seq**2 * hidden + 4 * seq * hidden * ffn


def meta_flops(
    meta: Kind, seq: int, hidden: int, *, heads: int, depth: int, query: str = "all"
) -> int:
    """Projections of all NP tokens and the attention itself.

    >>> from archbook.attention import Full, Performer
    >>> sizes = dict(seq=1024, hidden=64, heads=4, depth=2)
    >>> meta_flops(Full(), **sizes) // meta_flops(Performer(), **sizes)
    8
    """
    asking = 1 if query == "top" else depth
    attention = meta.flops(seq, hidden, heads, group=depth, asking=asking)
    return 4 * seq * (asking + depth) * hidden**2 + attention


def network_flops(
    layers: int,
    seq: int,
    hidden: int,
    *,
    heads: int,
    ffn: int | None = None,
    partition: int | None = None,
    meta: Kind = Full(),
    query: str = "all",
) -> int:
    """All blocks, and with a partition all meta-learners.

    >>> plain = network_flops(4, 128, 64, heads=4)
    >>> round(network_flops(4, 128, 64, heads=4, partition=2) / plain, 2)
    1.75
    """
    total = layers * block_flops(seq, hidden, ffn)
    if partition is not None:
        one = meta_flops(meta, seq, hidden, heads=heads, depth=partition, query=query)
        total += layers // partition * one
    return total
