"""The stacks that the experiments compare, from one description, and plain ones that match them."""

from dataclasses import dataclass, replace
from typing import TypeVar

from archbook.attention import BigBird, Full, Kind, Linformer, Performer
from archbook.checks import require_choice
from archbook.omninet.cost import block_flops, meta_flops, network_flops
from archbook.omninet.network import OmniNet, Transformer


@dataclass(frozen=True, kw_only=True)
class Design:
    """A stack of blocks, plain where partition is 0; an experiment's settings begin with it.

    >>> design = Design(layers=4, hidden=64, partition=2, meta="performer")
    >>> type(design.stack(length=128)).__name__, f"{design.flops(128):,}"
    ('OmniNet', '101,187,584')
    """

    layers: int = 4  # blocks
    hidden: int = 64  # width
    heads: int = 4  # of every attention
    ffn: int = 256  # width of the feed-forward
    partition: int = 0  # blocks of a partition; 0 is a plain Transformer
    meta: str = "full"  # full, performer, linformer or bigbird
    pool: str = "max"  # over depth: max, mean, last or learned
    query: str = "all"  # who asks: all layers' tokens, or the top one's
    features: int = Performer.features  # random features of a head (Performer)
    rank: int = Linformer.rank  # mixtures of all keys (Linformer)
    block: int = BigBird.block  # positions in a block (BigBird)
    dropout: float = 0.1  # on what joins the stream

    @property
    def kind(self) -> Kind:
        """What the word `meta` means."""
        kinds = {
            "full": Full(),
            "performer": Performer(self.features),
            "linformer": Linformer(self.rank),
            "bigbird": BigBird(self.block),
        }
        require_choice("meta", self.meta, tuple(kinds))
        return kinds[self.meta]

    def stack(self, length: int, causal: bool = False) -> Transformer:
        """For sequences of at most so many tokens."""
        sizes = (self.layers, self.hidden, self.heads)
        shared = {"causal": causal, "ffn": self.ffn, "dropout": self.dropout}
        if self.partition == 0:
            return Transformer(*sizes, **shared)
        return OmniNet(
            *sizes,
            partition=self.partition,
            meta=self.kind,
            pool=self.pool,
            query=self.query,
            length=length,
            **shared,
        )

    def flops(self, length: int) -> int:
        """Of one sequence, forward: the stack alone."""
        return network_flops(
            self.layers,
            length,
            self.hidden,
            heads=self.heads,
            ffn=self.ffn,
            partition=self.partition or None,
            meta=self.kind,
            query=self.query,
        )


D = TypeVar("D", bound=Design)


def equal_weights(base: D, partition: int) -> D:
    """The plain stack with the weights of an OmniNet of this partition, to the last one.

    A meta-learner has 4 d^2 + 2 d weights, a unit of feed-forward width 2 d + 1: spread over the P
    blocks of its partition that is 2 d / P units each, without a rest where P divides 2 d.

    >>> stacks = equal_weights(Design(), 2).stack(8), Design(partition=2).stack(8)
    >>> [sum(w.numel() for w in stack.parameters()) for stack in stacks]
    [232960, 232960]
    """
    extra, rest = divmod(2 * base.hidden, partition)
    if rest:
        raise ValueError(f"wanted a partition that divides {2 * base.hidden}, given {partition}")
    return replace(base, ffn=base.ffn + extra, partition=0)


def equal_flops(base: D, omni: D, length: int) -> D:
    """The plain stack whose forward costs what the OmniNet's does, to one unit of width.

    >>> base = Design(layers=4, hidden=64)
    >>> omni = Design(layers=4, hidden=64, partition=2)
    >>> plain = equal_flops(base, omni, length=128)
    >>> plain.ffn, round(plain.flops(128) / omni.flops(128), 3)
    (640, 1.0)
    """
    sizes = {"heads": omni.heads, "depth": omni.partition, "query": omni.query}
    meta = meta_flops(omni.kind, length, omni.hidden, **sizes)
    unit = block_flops(length, base.hidden, 2) - block_flops(length, base.hidden, 1)
    return replace(base, ffn=base.ffn + round(meta / omni.partition / unit), partition=0)


def controls(base: D, length: int, partition: int = 2) -> dict[str, D]:
    """The plain stack, and two wider ones: as many weights, as many operations as full attention
    over this partition.

    >>> {name: design.ffn for name, design in controls(Design(), length=128).items()}
    {'base': 256, 'equal_weights': 320, 'equal_flops': 640}
    """
    omni = replace(base, partition=partition)
    return {
        "base": base,
        "equal_weights": equal_weights(base, partition),
        "equal_flops": equal_flops(base, omni, length),
    }


def grid(base: D, length: int, causal: bool) -> dict[str, D]:
    """Controls; every meta-learner at P = 2 and P = layers; two other ways to pool at P = 2.

    >>> list(grid(Design(), length=128, causal=True))[:5]
    ['base', 'equal_weights', 'equal_flops', 'full_2', 'full_4']
    """
    metas = ("full", "performer", "bigbird", *(() if causal else ("linformer",)))
    deep = {
        f"{meta}_{partition}": replace(base, partition=partition, meta=meta)
        for meta in metas
        for partition in (2, base.layers)
    }
    full = replace(base, partition=2)
    other = {"full_2_mean": replace(full, pool="mean"), "full_2_top": replace(full, query="top")}
    return controls(base, length) | deep | other
