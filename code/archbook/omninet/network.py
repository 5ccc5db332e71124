"""The stack of blocks: a plain Transformer, and OmniNet, which attends over its layers too."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from archbook.attention import KeyValueCache
from archbook.attention.interface import check_mask
from archbook.checks import as_size, require_finite, require_input, value_checks
from archbook.omninet.block import Block, initialise
from archbook.omninet.meta import Cache, MetaLearner

Part = Block | MetaLearner


class StackState(NamedTuple):
    """What decoding remembers: a cache of every block, a state of every meta-learner.

    >>> stack = OmniNet(4, 16, 2, partition=2, causal=True).eval()
    >>> _, state = stack.prefill(torch.randn(1, 6, 16))
    >>> len(state.blocks), len(state.metas)
    (4, 2)
    """

    blocks: tuple[KeyValueCache, ...]
    metas: tuple[Cache, ...]


# what is done at each part: (part, its input, its state so far) to its output and its new state
Visit = Callable[[Part, Tensor, Cache | None], tuple[Tensor, Cache | None]]


class Transformer(nn.Module):
    """Blocks one after another, hidden states in and out, without a last norm.

    ffn: width of the feed-forward, 4 hidden where None. O(layers) blocks' time; see `Block`.

    >>> model = Transformer(2, 16, 2).eval()
    >>> x, real = torch.randn(1, 6, 16), torch.tensor([[True] * 4 + [False] * 2])
    >>> torch.allclose(model(x, real)[:, :4], model(x[:, :4]), atol=1e-5)
    True
    """

    def __init__(
        self,
        layers: int,
        hidden: int,
        heads: int,
        *,
        causal: bool = False,
        ffn: int | None = None,
        dropout: float = 0.1,
    ):
        super().__init__()
        layers, hidden = as_size("layers", layers), as_size("hidden", hidden)
        self.hidden, self.causal = hidden, causal
        width = 4 * hidden if ffn is None else ffn
        self.blocks = nn.ModuleList(
            Block(hidden, heads, width, dropout=dropout, causal=causal) for _ in range(layers)
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
        with value_checks(False):
            return self.walk(x, partial(_attend, mask=mask))[0]

    def prefill(
        self,
        x: Float[Tensor, "batch seq hidden"],
        mask: Bool[Tensor, "batch seq"] | None = None,
    ) -> tuple[Float[Tensor, "batch seq hidden"], StackState]:
        """The causal `forward`, and the state with which `step` goes on."""
        self.check(x, mask)
        if not self.causal:
            raise ValueError("wanted causal=True to decode step by step, given causal=False")
        return self.walk(x, lambda part, x, _: part.prefill(x, mask))

    def step(
        self, x: Float[Tensor, "batch 1 hidden"], state: StackState
    ) -> tuple[Float[Tensor, "batch 1 hidden"], StackState]:
        """The next token reads all before; the state that was given stays as it is."""
        require_input("x", x, ("batch", 1, self.hidden), self._weight())
        require_finite("x", x)
        return self.walk(x, _step, state)

    def check(self, x: Tensor, mask: Tensor | None) -> None:
        """Override this to refuse more, or other inputs."""
        require_input("x", x, ("batch", "seq", self.hidden), self._weight())
        require_finite("x", x)
        check_mask(mask, x.shape[:2], x.device)

    def _weight(self) -> Tensor:
        return cast(Block, self.blocks[0]).norm.weight

    def walk(
        self, x: Tensor, visit: Visit, state: StackState | None = None
    ) -> tuple[Tensor, StackState]:
        """visit(part, x, its state) through all parts, the new states collected.

        Override this for a stack of other parts: passes, prefill and steps all go this way.
        """
        caches = []
        for number, block in enumerate(cast("list[Block]", self.blocks)):
            x, cache = visit(block, x, state.blocks[number] if state else None)
            caches.append(cache)
        return x, StackState(tuple(caches), ())


class OmniNet(Transformer):
    """Every `partition` blocks, a meta-learner reads all their outputs; what it finds is added.

    X_1, ..., X_P are the outputs of a partition's blocks (neither the embedding nor an earlier
    partition's layers enter): x = X_P + pool_l Attn(IndexSort(X_1, ..., X_P)) goes on.
    options: meta, pool, query, depth_vectors and length of `MetaLearner`. With the meta-learners'
    W_o zero it is the `Transformer` of the same blocks, to the bit.
    Cost beside the blocks, for each partition: full (seq P)^2 hidden time; Performer seq P features
    hidden; Linformer seq P rank hidden; BigBird seq P (blocks read) block P hidden.
    Deviates from the paper: the meta-learner is attention alone, without a feed-forward and a
    residual of its own.

    >>> model = OmniNet(4, 16, 2, partition=2).eval()
    >>> x = torch.randn(1, 6, 16)
    >>> model(x).shape
    torch.Size([1, 6, 16])
    >>> [depths.shape for depths in model.layer_outputs(x)]  # what the meta-learners read
    [torch.Size([1, 6, 2, 16]), torch.Size([1, 6, 2, 16])]
    """

    def __init__(
        self,
        layers: int,
        hidden: int,
        heads: int,
        *,
        partition: int,
        causal: bool = False,
        ffn: int | None = None,
        dropout: float = 0.1,
        **options,
    ):
        super().__init__(layers, hidden, heads, causal=causal, ffn=ffn, dropout=dropout)
        layers, partition = len(self.blocks), as_size("partition", partition)
        if layers % partition:
            raise ValueError(
                f"wanted a partition that divides layers = {layers}, given {partition}"
            )
        self.partition = partition
        self.metas = nn.ModuleList(
            MetaLearner(hidden, heads, partition, causal=causal, **options)
            for _ in range(layers // partition)
        )
        self.drop = nn.Dropout(dropout)
        initialise(self.metas)

    def check(self, x, mask):
        super().check(x, mask)
        cast(MetaLearner, self.metas[0]).attention.check_length(x.shape[1], self.partition)

    def layer_outputs(
        self,
        x: Float[Tensor, "batch seq hidden"],
        mask: Bool[Tensor, "batch seq"] | None = None,
    ) -> list[Float[Tensor, "batch seq partition hidden"]]:
        """What each meta-learner reads, for pictures."""
        self.check(x, mask)
        found = []

        def visit(part: Part, x: Tensor, known: Cache | None) -> tuple[Tensor, None]:
            if isinstance(part, MetaLearner):
                found.append(x)
            return _attend(part, x, known, mask=mask)

        self.walk(x, visit)
        return found

    def walk(self, x, visit, state=None):
        metas = cast("list[MetaLearner]", self.metas)
        caches, states, outputs = [], [], []
        for number, block in enumerate(cast("list[Block]", self.blocks)):
            x, cache = visit(block, x, state.blocks[number] if state else None)
            caches.append(cache)
            outputs.append(x)
            if len(outputs) == self.partition:
                at = number // self.partition
                known = state.metas[at] if state else None
                y, new = visit(metas[at], torch.stack(outputs, 2), known)
                states.append(new)
                x, outputs = x + self.drop(y), []
        return x, StackState(tuple(caches), tuple(states))


def _attend(part: Part, x: Tensor, _: Cache | None, *, mask: Tensor | None) -> tuple[Tensor, None]:
    """The visit that keeps nothing."""
    return part(x, mask), None


def _step(part: Part, x: Tensor, known: Cache | None) -> tuple[Tensor, Cache]:
    if isinstance(part, MetaLearner):
        return part.step(x, cast(Cache, known))
    return part.step(x, cast(KeyValueCache, known))
