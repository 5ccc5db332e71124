"""Models around a stack of blocks: the next token of a text, the class of a sequence or image."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from archbook.attention.interface import check_mask
from archbook.checks import (
    as_size,
    require_between,
    require_choice,
    require_false,
    require_finite,
    require_input,
    require_tensor,
)
from archbook.omninet.block import initialise
from archbook.omninet.network import OmniNet, StackState, Transformer
from archbook.shaped import Shaped

READOUTS = ("mean", "token")


class TokenEmbedding(nn.Module):
    """A vector for each token plus one for each position; no dropout here.

    >>> embed = TokenEmbedding(11, 20, 16)
    >>> embed(torch.randint(0, 11, (3, 6))).shape
    torch.Size([3, 6, 16])
    """

    def __init__(self, vocab_size: int, max_length: int, hidden: int):
        super().__init__()
        self.vocab_size = as_size("vocab_size", vocab_size)
        self.max_length = as_size("max_length", max_length)
        self.hidden = as_size("hidden", hidden)
        self.tokens = nn.Embedding(self.vocab_size, self.hidden)
        self.positions = nn.Parameter(torch.empty(self.max_length, self.hidden))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        initialise(self)
        nn.init.normal_(self.positions, std=0.02)

    def forward(
        self, tokens: Int64[Tensor, "batch seq"], first: int = 0
    ) -> Float[Tensor, "batch seq hidden"]:
        """first: the position of the first token."""
        require_tensor("tokens", tokens, ("batch", "seq"))
        if tokens.dtype != torch.int64:
            raise TypeError(f"wanted tokens to be torch.int64, given {tokens.dtype}")
        if tokens.device != self.positions.device:
            raise ValueError(
                f"wanted tokens to be on {self.positions.device} like the weights, "
                f"given a tensor on {tokens.device}"
            )
        last = first + tokens.shape[1]
        if last > self.max_length:
            raise ValueError(f"wanted at most max_length = {self.max_length} tokens, given {last}")
        require_between("tokens", tokens, low=0, high=self.vocab_size - 1)
        return self.tokens(tokens) + self.positions[first:last]


class PatchEmbedding(Shaped):
    """An image cut into squares (Dosovitskiy et al., 2021): one token each, plus its position.

    >>> embed = PatchEmbedding((3, 8, 12), patch=4, hidden=16)
    >>> embed(torch.rand(5, 3, 8, 12)).shape  # 2 x 3 patches
    torch.Size([5, 6, 16])
    """

    shaped_by = {"image": "image", "patch": "patch"}

    def __init__(self, image: tuple[int, int, int], patch: int, hidden: int):
        super().__init__()
        if len(image) != 3:
            raise ValueError(f"wanted an image (channels, height, width), given {image}")
        channels, height, width = self.image = (
            as_size("channels", image[0]),
            as_size("height", image[1]),
            as_size("width", image[2]),
        )
        patch, hidden = as_size("patch", patch), as_size("hidden", hidden)
        if height % patch or width % patch:
            raise ValueError(
                f"wanted a patch that divides height and width {height} x {width}, given {patch}"
            )
        self.patch, self.hidden = patch, hidden
        self.max_length = height // patch * (width // patch)
        self.project = nn.Linear(channels * patch**2, hidden)
        self.positions = nn.Parameter(torch.empty(self.max_length, hidden))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        initialise(self)
        nn.init.normal_(self.positions, std=0.02)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch seq hidden"]:
        require_input("images", images, ("batch", *self.image), self.positions)
        require_finite("images", images)
        rows = images.unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch))
        patches = rows.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # b (rows columns) chpp
        return self.project(patches) + self.positions


class LMState(NamedTuple):
    """Decoding so far: logits of the next token, the number of tokens read, the stack's state.

    >>> model = OmniNetLM(11, 20, 2, hidden=16, heads=2, partition=2).eval()
    >>> state = model.prefill(torch.randint(0, 11, (3, 5)))
    >>> state.length, state.logits.shape
    (5, torch.Size([3, 11]))
    """

    logits: Float[Tensor, "batch vocab"]
    length: int
    stack: StackState


class LanguageModel(nn.Module):
    """Tokens to logits of the next token: embedding, a causal stack, LN, the embedding's table.

    The stack may be a `Transformer` or an `OmniNet`.

    >>> body = Transformer(2, 16, 2, causal=True)
    >>> model = LanguageModel(body, vocab_size=11, max_length=20).eval()
    >>> tokens = torch.randint(0, 11, (1, 6))
    >>> state = model.step(tokens[:, 5], model.prefill(tokens[:, :5]))
    >>> torch.allclose(state.logits, model(tokens)[:, -1], atol=1e-5)
    True
    """

    def __init__(
        self, body: Transformer, vocab_size: int, max_length: int, *, dropout: float = 0.1
    ):
        super().__init__()
        if not body.causal:
            raise ValueError("wanted a causal stack, given causal=False")
        self.embed = TokenEmbedding(vocab_size, max_length, body.hidden)
        self.body, self.norm = body, nn.LayerNorm(body.hidden)
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        tokens: Int64[Tensor, "batch seq"],
        mask: Bool[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq vocab"]:
        """mask: True = real. logits[:, i] are of token i + 1 and depend on tokens up to i alone.

        Errors: ValueError or TypeError for a wrong shape or dtype, ids out of range, more tokens
        than positions, padding before a real token, which would move that token's position.
        """
        if mask is not None:
            check_mask(mask, tokens.shape, tokens.device)
            gap = ~mask[:, :-1] & mask[:, 1:]
            wish = "wanted padding after the last real token only; tokens before a real one"
            require_false(wish, gap, ("example", "position"))
        return self._logits(self.body(self.drop(self.embed(tokens)), mask))

    def prefill(self, tokens: Int64[Tensor, "batch seq"]) -> LMState:
        """Read a prompt; `state.logits` are those of the token after it.

        The prompts of a batch are equally long: padding would stand between a prompt and what
        comes after it, so others go in another batch.
        """
        y, stack = self.body.prefill(self.drop(self.embed(tokens)))
        return LMState(self._logits(y[:, -1:])[:, 0], tokens.shape[1], stack)

    def step(self, token: Int64[Tensor, " batch"], state: LMState) -> LMState:
        """Read one more token of each example; the state that was given stays as it is."""
        require_tensor("token", token, (state.logits.shape[0],))
        x = self.drop(self.embed(token[:, None], state.length))
        y, stack = self.body.step(x, state.stack)
        return LMState(self._logits(y)[:, 0], state.length + 1, stack)

    def _logits(self, y: Tensor) -> Tensor:
        return nn.functional.linear(self.norm(y), self.embed.tokens.weight)


class OmniNetLM(LanguageModel):
    """A `LanguageModel` whose stack is a causal `OmniNet`; further arguments are the stack's.

    >>> model = OmniNetLM(11, 20, 2, hidden=16, heads=2, partition=2)
    >>> model(torch.randint(0, 11, (3, 6))).shape
    torch.Size([3, 6, 11])
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
        **stack,
    ):
        length = as_size("max_length", max_length)
        body = OmniNet(layers, hidden, heads, causal=True, dropout=dropout, length=length, **stack)
        super().__init__(body, vocab_size, max_length, dropout=dropout)


class Classifier(nn.Module):
    """Embedding, a stack, LN, one linear layer on what the readout gives.

    readout: "mean" over the real tokens, or "token": a learned one in front of all, whose output
    is read (Dosovitskiy et al., 2021); the stack then sees one token more.

    >>> embed, body = PatchEmbedding((3, 8, 8), 4, 16), OmniNet(2, 16, 2, partition=2)
    >>> model = Classifier(embed, body, classes=10)
    >>> model(torch.rand(5, 3, 8, 8)).shape
    torch.Size([5, 10])
    """

    def __init__(
        self,
        embed: TokenEmbedding | PatchEmbedding,
        body: Transformer,
        classes: int,
        *,
        readout: str = "mean",
        dropout: float = 0.1,
    ):
        super().__init__()
        classes = as_size("classes", classes)
        require_choice("readout", readout, READOUTS)
        if embed.hidden != body.hidden:
            raise ValueError(f"wanted an embedding as wide as {body.hidden}, given {embed.hidden}")
        if body.causal and readout == "token":
            raise ValueError("the first token of a causal stack reads nothing: wanted 'mean'")
        self.embed, self.body = embed, body
        front = torch.randn(body.hidden) * 0.02
        self.front = nn.Parameter(front) if readout == "token" else None
        self.norm, self.head = nn.LayerNorm(body.hidden), nn.Linear(body.hidden, classes)
        self.drop = nn.Dropout(dropout)
        initialise(self.head)

    def forward(
        self,
        inputs: Int64[Tensor, "batch seq"] | Float[Tensor, "batch channels height width"],
        mask: Bool[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch classes"]:
        """mask: True = real token. Errors as in `TokenEmbedding` and `PatchEmbedding`."""
        x = self.embed(inputs)
        check_mask(mask, x.shape[:2], x.device)
        if self.front is not None:
            x = torch.cat([self.front.expand(x.shape[0], 1, -1), x], 1)
            mask = None if mask is None else nn.functional.pad(mask, (1, 0), value=True)
        y = self.norm(self.body(self.drop(x), mask))
        if self.front is not None:
            return self.head(y[:, 0])
        if mask is None:
            return self.head(y.mean(1))
        real = mask[..., None].to(y.dtype)
        return self.head((y * real).sum(1) / real.sum(1))
