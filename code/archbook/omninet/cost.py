"""What a block and a meta-learner cost, counted from their sizes: two operations a product and sum.

Matrix products alone, of one example, forward; norms, softmax and activations are left out, and
a causal map is counted whole. A backward pass costs twice as much again.
"""

from archbook.omninet.meta import MetaOptions, choose_meta


def block_flops(seq: int, hidden: int, ffn: int | None = None) -> int:
    """Projections 8 N d^2, scores and mixtures 4 N^2 d, feed-forward 4 N d ffn."""
    ffn = 4 * hidden if ffn is None else ffn
    return 8 * seq * hidden**2 + 4 * seq**2 * hidden + 4 * seq * hidden * ffn


def meta_flops(
    meta: str,
    seq: int,
    hidden: int,
    heads: int,
    depth: int,
    query: str = "all",
    options: MetaOptions | None = None,
) -> int:
    """Projections of all NP tokens and the attention itself."""
    options = options or MetaOptions()
    keys = seq * depth
    queries = seq if query == "top" else keys
    meta = choose_meta(keys) if meta == "auto" else meta
    if meta == "full":
        attention = 4 * queries * keys * hidden
    elif meta == "performer":  # features, then sums over keys and their reading
        m = options.features
        attention = 2 * m * (queries + keys) * (2 * hidden + heads)
    elif meta == "linformer":
        attention = 4 * options.rank * (keys + queries) * hidden
    else:
        attention = 4 * bigbird_pairs(seq, depth, options) * hidden
    return 4 * (queries + keys) * hidden**2 + attention


def bigbird_pairs(seq: int, depth: int, options: MetaOptions) -> int:
    """Pairs of a query and a key that are multiplied, whether they are used or not."""
    block = options.block * depth
    blocks = -(-seq // options.block)
    whole = min(options.global_blocks, blocks)
    slots = options.window + options.global_blocks + options.random_blocks
    first = min(whole * block, seq * depth) * seq * depth
    return first + (blocks - whole) * block * slots * block


def network_flops(
    layers: int,
    seq: int,
    hidden: int,
    heads: int,
    ffn: int | None = None,
    partition: int | None = None,
    meta: str = "full",
    query: str = "all",
    options: MetaOptions | None = None,
) -> int:
    """All blocks, and with a partition all meta-learners."""
    total = layers * block_flops(seq, hidden, ffn)
    if partition is not None:
        one = meta_flops(meta, seq, hidden, heads, partition, query, options)
        total += layers // partition * one
    return total
