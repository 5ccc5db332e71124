"""Encoder and decoder: the encoder may be an OmniNet, the decoder reads what it found."""

from functools import partial
from typing import NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from archbook.attention import FullAttention, KeyValueCache
from archbook.checks import as_size, require_tensor
from archbook.omninet.block import Block, Heads, initialise, stateless
from archbook.omninet.models import TokenEmbedding
from archbook.omninet.network import Transformer


class Memory(NamedTuple):
    """What a decoder reads: keys and values of every block, and which are real.

    >>> decoder = Decoder(11, 20, 2, hidden=16, heads=2)
    >>> memory = decoder.remember(torch.randn(1, 7, 16), None)
    >>> len(memory.k), memory.k[0].shape  # one a block: batch, heads, source, head width
    (2, torch.Size([1, 2, 7, 8]))
    """

    k: tuple[Float[Tensor, "batch heads seq d"], ...]
    v: tuple[Float[Tensor, "batch heads seq d"], ...]
    mask: Bool[Tensor, "batch seq"] | None


class DecoderState(NamedTuple):
    """Decoding so far: logits of the next token, tokens read, the memory, the blocks' caches.

    >>> decoder = Decoder(11, 20, 2, hidden=16, heads=2).eval()
    >>> memory = decoder.remember(torch.randn(1, 7, 16), None)
    >>> state = decoder.prefill(torch.tensor([[0]]), memory)
    >>> state = decoder.step(state.logits.argmax(-1), state)
    >>> state.length, state.logits.shape
    (2, torch.Size([1, 11]))
    """

    logits: Float[Tensor, "batch vocab"]
    length: int
    memory: Memory
    blocks: tuple[KeyValueCache, ...]


class Decoder(nn.Module):
    """Causal blocks, each of which reads the encoder's output between attention and feed-forward.

    "Shifting" is the caller's: `forward` is given the target from its start token on, and its
    logits at i are those of token i + 1.

    >>> decoder = Decoder(11, 20, 2, hidden=16, heads=2).eval()
    >>> memory = decoder.remember(torch.randn(1, 7, 16), None)
    >>> decoder(torch.randint(0, 11, (1, 5)), memory).shape
    torch.Size([1, 5, 11])
    """

    def __init__(
        self,
        vocab_size: int,
        max_length: int,
        layers: int,
        *,
        hidden: int,
        heads: int,
        dropout: float = 0.1,
    ):
        super().__init__()
        layers = as_size("layers", layers)
        self.embed = TokenEmbedding(vocab_size, max_length, hidden)
        self.blocks = nn.ModuleList(
            Block(hidden, heads, 4 * hidden, dropout=dropout, causal=True) for _ in range(layers)
        )
        self.cross_norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(layers))
        self.cross_heads = nn.ModuleList(Heads(hidden, heads) for _ in range(layers))
        self.attention, self.norm = FullAttention(), nn.LayerNorm(hidden)
        self.drop = nn.Dropout(dropout)
        initialise(self)

    def remember(self, encoded: Tensor, mask: Tensor | None) -> Memory:
        """Keys and values of the encoder's output, once for all steps."""
        pairs = [cast(Heads, heads).keys_values(encoded, mask) for heads in self.cross_heads]
        return Memory(tuple(k for k, _ in pairs), tuple(v for _, v in pairs), mask)

    def forward(
        self, target: Int64[Tensor, "batch seq"], memory: Memory
    ) -> Float[Tensor, "batch seq vocab"]:
        return self._walk(self.embed(target), memory, None)[0]

    def prefill(self, target: Int64[Tensor, "batch seq"], memory: Memory) -> DecoderState:
        """Read the beginning of a translation, its start token at least."""
        logits, caches = self._walk(self.embed(target), memory, ())
        return DecoderState(logits[:, -1], target.shape[1], memory, caches)

    def step(self, token: Int64[Tensor, " batch"], state: DecoderState) -> DecoderState:
        """Read one more token of each example."""
        require_tensor("token", token, (state.logits.shape[0],))
        x = self.embed(token[:, None], state.length)
        logits, caches = self._walk(x, state.memory, state.blocks)
        return DecoderState(logits[:, 0], state.length + 1, state.memory, caches)

    def _walk(self, x: Tensor, memory: Memory, caches: tuple | None) -> tuple[Tensor, tuple]:
        """caches: None keeps none, () begins them, others are gone on with."""
        x, new = self.drop(x), []
        for number, block in enumerate(cast("list[Block]", self.blocks)):
            across = partial(self._across, number, memory)
            if caches is None:
                x = block(x, None, across)
                continue
            if caches:
                x, cache = block.step(x, caches[number], across)
            else:
                x, cache = block.prefill(x, None, across)
            new.append(cache)
        return nn.functional.linear(self.norm(x), self.embed.tokens.weight), tuple(new)

    def _across(self, number: int, memory: Memory, x: Tensor) -> Tensor:
        """The stream with what it finds in the source."""
        heads = cast(Heads, self.cross_heads[number])
        q, k, v = heads.queries(self.cross_norms[number](x)), memory.k[number], memory.v[number]
        y, _ = heads(q, k, v, stateless(self.attention, mask=memory.mask, group=None))
        return x + self.drop(y)


class EncoderDecoder(nn.Module):
    """Source tokens and the target so far to logits of the next target token.

    >>> encoder = OmniNet(2, 16, 2, partition=2)
    >>> decoder = Decoder(11, 20, 2, hidden=16, heads=2)
    >>> model = EncoderDecoder(TokenEmbedding(13, 20, 16), encoder, decoder).eval()
    >>> model.translate(torch.randint(0, 13, (1, 7)), start=0, stop=1, length=5).shape
    torch.Size([1, 5])
    """

    def __init__(self, embed: TokenEmbedding, encoder: Transformer, decoder: Decoder):
        super().__init__()
        if encoder.causal:
            raise ValueError("wanted an encoder that reads both ways, given causal=True")
        self.embed, self.encoder, self.decoder = embed, encoder, decoder
        self.norm = nn.LayerNorm(encoder.hidden)
        self.drop = decoder.drop

    def encode(
        self, source: Int64[Tensor, "batch seq"], mask: Bool[Tensor, "batch seq"] | None = None
    ) -> Memory:
        encoded = self.norm(self.encoder(self.drop(self.embed(source)), mask))
        return self.decoder.remember(encoded, mask)

    def forward(
        self,
        source: Int64[Tensor, "batch source"],
        target: Int64[Tensor, "batch target"],
        mask: Bool[Tensor, "batch source"] | None = None,
    ) -> Float[Tensor, "batch target vocab"]:
        """mask: True = real source token. The target begins with its start token."""
        return self.decoder(target, self.encode(source, mask))

    def prefill(
        self,
        source: Int64[Tensor, "batch source"],
        start: Int64[Tensor, "batch target"],
        mask: Bool[Tensor, "batch source"] | None = None,
    ) -> DecoderState:
        return self.decoder.prefill(start, self.encode(source, mask))

    def step(self, token: Int64[Tensor, " batch"], state: DecoderState) -> DecoderState:
        return self.decoder.step(token, state)

    @torch.no_grad()
    def translate(
        self,
        source: Int64[Tensor, "batch source"],
        start: int,
        stop: int,
        *,
        length: int,
        mask: Bool[Tensor, "batch source"] | None = None,
    ) -> Int64[Tensor, "batch length"]:
        """The most likely token each time, `length` of them; after a stop only stop tokens."""
        length = as_size("length", length)
        token = torch.full_like(source[:, 0], start)
        state, found = self.prefill(source, token[:, None], mask), []
        ended = torch.zeros_like(token, dtype=torch.bool)
        for number in range(length):
            token = state.logits.argmax(-1).masked_fill(ended, stop)
            ended = ended | (token == stop)
            found.append(token)
            if number + 1 < length:
                state = self.step(token, state)
        return torch.stack(found, 1)
