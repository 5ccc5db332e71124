"""The stack of blocks: a plain Transformer, and OmniNet, which attends over its layers too."""

from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from archbook.checks import require_finite, require_input, require_positive_int
from archbook.omninet.block import Block, initialise
from archbook.omninet.meta import MetaLearner, MetaOptions, check_mask


class StackState(NamedTuple):
    """What decoding remembers: a cache of every block, a state of every meta-learner."""

    blocks: tuple[Any, ...]
    metas: tuple[Any, ...]


class Transformer(nn.Module):
    """Blocks one after another, hidden states in and out, without a last norm.

    ffn: width of the feed-forward, 4 hidden where None. O(layers) blocks' time; see `Block`.
    """

    def __init__(
        self,
        layers: int,
        hidden: int,
        heads: int,
        causal: bool = False,
        ffn: int | None = None,
        dropout: float = 0.1,
    ):
        super().__init__()
        require_positive_int("layers", layers)
        require_positive_int("hidden", hidden)
        self.hidden, self.causal = hidden, causal
        width = 4 * hidden if ffn is None else ffn
        self.blocks = nn.ModuleList(
            Block(hidden, heads, width, dropout, causal) for _ in range(layers)
        )
        initialise(self)

    def forward(
        self,
        x: Float[Tensor, "batch seq hidden"],
        mask: Bool[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq hidden"]:
        """mask: True = real; a padded token changes no other one, and its own output means nothing.

        Errors: ValueError or TypeError for a wrong shape, dtype or device, for NaN, for an example
        without a real token.
        """
        self.check(x, mask)
        return self.run(x, mask)

    def run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """`forward` without checks."""
        for block in self.blocks:
            x = block(x, mask)
        return x

    def prefill(
        self,
        x: Float[Tensor, "batch seq hidden"],
        mask: Bool[Tensor, "batch seq"] | None = None,
    ) -> tuple[Float[Tensor, "batch seq hidden"], StackState]:
        """The causal `forward`, and the state with which `step` goes on."""
        self.check(x, mask)
        if not self.causal:
            raise ValueError("wanted causal=True to decode step by step, given causal=False")
        return self._walk(x, lambda part, x, _: part.prefill(x, mask), None)

    def step(
        self, x: Float[Tensor, "batch 1 hidden"], state: StackState
    ) -> tuple[Float[Tensor, "batch 1 hidden"], StackState]:
        """The next token reads all before; the state that was given stays as it is."""
        require_input("x", x, ("batch", 1, self.hidden), self._weight())
        require_finite("x", x)
        return self._walk(x, lambda part, x, known: part.step(x, known), state)

    def check(self, x: Tensor, mask: Tensor | None) -> None:
        require_input("x", x, ("batch", "seq", self.hidden), self._weight())
        require_finite("x", x)
        check_mask(mask, x)

    def _weight(self) -> Tensor:
        return cast(Block, self.blocks[0]).norm.weight

    def _walk(self, x: Tensor, call: Any, state: StackState | None) -> tuple[Tensor, StackState]:
        """call(part, x, its state) through all parts, the new states collected."""
        caches = []
        for number, block in enumerate(self.blocks):
            x, cache = call(block, x, state.blocks[number] if state else None)
            caches.append(cache)
        return x, StackState(tuple(caches), ())


class OmniNet(Transformer):
    """Every `partition` blocks, a meta-learner reads all their outputs; what it finds is added.

    X_1, ..., X_P are the outputs of a partition's blocks (neither the embedding nor an earlier
    partition's layers enter): x = X_P + pool_l Attn(IndexSort(X_1, ..., X_P)) goes on.
    meta, pool, query, depth_vectors, options: see `MetaLearner` and `MetaOptions`; meta="auto"
    decides at construction, by `options.length`, see `choose_meta`. With the meta-learners' W_o
    zero it is the `Transformer` of the same blocks, to the bit.
    Cost beside the blocks, for each partition: full (seq P)^2 hidden time; Performer seq P features
    hidden; Linformer seq P rank hidden; BigBird seq P (blocks read) block P hidden.
    Deviates from the paper: the meta-learner is attention alone, without a feed-forward and a
    residual of its own.
    """

    def __init__(
        self,
        layers: int,
        hidden: int,
        heads: int,
        partition: int,
        meta: str = "full",
        pool: str = "max",
        causal: bool = False,
        query: str = "all",
        ffn: int | None = None,
        dropout: float = 0.1,
        depth_vectors: bool = False,
        options: MetaOptions | None = None,
    ):
        super().__init__(layers, hidden, heads, causal, ffn, dropout)
        require_positive_int("partition", partition)
        if layers % partition:
            raise ValueError(
                f"wanted a partition that divides layers = {layers}, given {partition}"
            )
        self.partition = partition
        self.metas = nn.ModuleList(
            MetaLearner(hidden, heads, partition, meta, pool, causal, query, depth_vectors, options)
            for _ in range(layers // partition)
        )
        self.drop = nn.Dropout(dropout)
        initialise(self.metas)

    def run(self, x, mask):
        for part, meta in enumerate(cast(list[MetaLearner], self.metas)):
            x, depths = self._partition(part, x, mask)
            x = x + self.drop(meta.attend(depths, mask))
        return x

    def _partition(self, part: int, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The last output of a partition's blocks, and all of them, (batch, seq, depth, hidden)."""
        outputs = []
        for number in range(part * self.partition, (part + 1) * self.partition):
            x = self.blocks[number](x, mask)
            outputs.append(x)
        return x, torch.stack(outputs, 2)

    def check(self, x, mask):
        super().check(x, mask)
        cast(MetaLearner, self.metas[0]).check_length(x.shape[1])

    def layer_outputs(
        self,
        x: Float[Tensor, "batch seq hidden"],
        mask: Bool[Tensor, "batch seq"] | None = None,
    ) -> list[Float[Tensor, "batch seq partition hidden"]]:
        """What each meta-learner reads, for pictures."""
        self.check(x, mask)
        found = []
        for part, meta in enumerate(cast(list[MetaLearner], self.metas)):
            x, depths = self._partition(part, x, mask)
            found.append(depths)
            x = x + self.drop(meta.attend(depths, mask))
        return found

    def _walk(self, x, call, state):
        caches, states, outputs = [], [], []
        for number, block in enumerate(self.blocks):
            x, cache = call(block, x, state.blocks[number] if state else None)
            caches.append(cache)
            outputs.append(x)
            if len(outputs) == self.partition:
                at = number // self.partition
                known = state.metas[at] if state else None
                y, new = call(self.metas[at], torch.stack(outputs, 2), known)
                states.append(new)
                x, outputs = x + self.drop(y), []
        return x, StackState(tuple(caches), tuple(states))
