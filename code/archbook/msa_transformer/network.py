"""The MSA Transformer: an alignment in, letters, attention maps and contacts out."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils._pytree import _register_namedtuple

from archbook.checks import (
    as_size,
    can_be_read,
    require_choice,
    require_false,
    require_finite,
    require_input,
    require_positive_int,
    require_tensor,
    value_checks,
)
from archbook.msa_transformer.attention import ColumnAttention, TiedRowAttention, in_parts
from archbook.msa_transformer.contacts import ContactHead
from archbook.msa_transformer.neighbours import NeighbourEmbedding
from archbook.msa_transformer.padding import PLACE, AlignmentMask
from archbook.shaped import Shaped
from archbook.vocabulary import PADDING, START

ROW_POSITIONS = ("learned", "query", "none")
CHUNK = 2**14  # tokens at a time without gradients, as fair-esm


class MSAOutput(NamedTuple):
    """What `MSATransformer.forward` returns; what was not asked for is None.

    >>> model = MSATransformer(layers=2, hidden=16, heads=2, ffn=32).eval()
    >>> tokens = torch.randint(4, 24, (1, 3, 5))
    >>> tokens[..., 0] = 0  # every row begins with the start token
    >>> found = model(tokens, need_attention=True, need_column=False)
    >>> found.logits.shape, found.row_attentions.shape, found.contacts is None
    (torch.Size([1, 3, 5, 33]), torch.Size([1, 2, 2, 5, 5]), True)
    """

    logits: Float[Tensor, "batch rows columns vocab"]
    contacts: Float[Tensor, "batch residues residues"] | None = None
    row_attentions: Float[Tensor, "batch layers heads columns columns"] | None = None
    column_attentions: Float[Tensor, "batch layers heads columns rows rows"] | None = None


# So that torch.export can save a program that returns it; there is no public name for this.
_register_namedtuple(MSAOutput, serialized_type_name="archbook.msa_transformer.MSAOutput")


class FeedForward(nn.Module):
    """W_2 GELU(W_1 x), the same for every token."""

    def __init__(self, hidden: int, ffn: int, dropout: float = 0.0):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(hidden, ffn), nn.Linear(ffn, hidden)
        self.activation, self.drop = nn.GELU(), nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "*tokens hidden"]) -> Float[Tensor, "*tokens hidden"]:
        return self.fc2(self.drop(self.activation(self.fc1(x))))


class AxialBlock(nn.Module):
    """Row attention, column attention and one feed-forward, each pre-normed with a skip (Sec. 3).

    The axial transformer of Ho et al. (2019) has a feed-forward after each axis; here one serves
    both. dropout acts on what joins the skip, attention_dropout on the maps, activation_dropout
    inside the feed-forward. (In the published code attention_dropout does nothing.)
    Second derivatives by weights are right by jacfwd of grad, both of torch.func:
    torch.func.hessian loses what a LayerNorm's weight shares with its input, in torch 2.6 to 2.13.

    >>> block = AxialBlock(16, 2, ffn=32)
    >>> x, row, column = block(torch.randn(1, 4, 6, 16), need_attention=True)
    >>> x.shape, row.shape  # 4 rows of 6 columns; one map a head
    (torch.Size([1, 4, 6, 16]), torch.Size([1, 2, 6, 6]))
    """

    def __init__(
        self,
        hidden: int,
        heads: int,
        ffn: int,
        *,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        tie: str = "sqrt",
    ):
        super().__init__()
        require_positive_int("ffn", ffn)
        self.row_norm, self.column_norm, self.ffn_norm = (nn.LayerNorm(hidden) for _ in range(3))
        self.row = TiedRowAttention(hidden, heads, attention_dropout, tie=tie)
        self.column = ColumnAttention(hidden, heads, attention_dropout)
        self.ffn = FeedForward(hidden, ffn, activation_dropout)
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch rows columns hidden"],
        mask: Bool[Tensor, "batch rows columns"] | AlignmentMask | None = None,
        need_attention: bool = False,
        *,
        need_column: bool | None = None,
        chunk: int | None = None,
    ) -> tuple[Float[Tensor, "batch rows columns hidden"], Tensor | None, Tensor | None]:
        """(X', row map, column map); arguments as in `AxialAttention.forward`.

        need_column: None, or whether the column map, which may be far larger, is wanted as well.
        """
        need_column = need_attention if need_column is None else need_column
        weight = next(self.parameters())
        require_input("x", x, ("batch", "rows", "columns", self.row.hidden), weight)
        require_finite("x", x)
        if chunk is not None:
            require_positive_int("chunk", chunk)
        real = AlignmentMask.of(mask, x)
        x = x.transpose(1, 2)  # a norm's output lies in memory as its input is read
        with value_checks(False):
            y, row = self.row(self.row_norm(x).transpose(1, 2), real, need_attention, chunk=chunk)
            x = x + self.drop(y.transpose(1, 2))
            y = self.column_norm(x).transpose(1, 2)
            y, column = self.column(y, real, need_column, chunk=chunk)
            x = x + self.drop(y.transpose(1, 2))
        if chunk is None:
            y = self.ffn(self.ffn_norm(x))
        else:
            step = max(1, chunk // x.shape[2])
            y = in_parts(lambda part: self.ffn(self.ffn_norm(part)), x, step, dim=1)
        return (x + self.drop(y)).transpose(1, 2), row, column


class LetterHead(nn.Module):
    """Logits over the vocabulary: LN(GELU(W x)) E_tok^T + b, E_tok the table of the embedding."""

    def __init__(self, hidden: int, vocab_size: int):
        super().__init__()
        self.dense, self.norm = nn.Linear(hidden, hidden), nn.LayerNorm(hidden)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(
        self, x: Float[Tensor, "*tokens hidden"], table: Float[Tensor, "vocab hidden"]
    ) -> Float[Tensor, "*tokens vocab"]:
        return linear(self.norm(nn.functional.gelu(self.dense(x))), table, self.bias)


class MSATransformer(Shaped):
    """Blocks of tied row and column attention over a tokenised alignment (Rao et al., 2021).

    Tokens are ids of `archbook.data.alignments` (fair-esm's): start 0, padding 1, mask 32; row 0
    is the query. row_positions: "learned" is the published model's, one vector a row; "query" marks
    row 0 alone, so that the other rows may be permuted; "none" is blind to their order.
    start_token: every row begins with one; contacts leave its column out. tie: see
    `TiedRowAttention`. neighbours: a place also holds so many letters on either side of it, see
    `NeighbourEmbedding`; the paper's network has none.

    >>> sizes = dict(layers=2, hidden=16, heads=2, ffn=32)
    >>> model = MSATransformer(**sizes, start_token=False).eval()
    >>> tokens = torch.randint(4, 24, (1, 3, 5))  # an alignment of 3 rows and 5 columns
    >>> model(tokens).logits.shape, model.encode(tokens).shape
    (torch.Size([1, 3, 5, 33]), torch.Size([1, 3, 5, 16]))
    >>> model.row_attentions(tokens).shape
    torch.Size([1, 2, 2, 5, 5])
    """

    shaped_by = {"start_token": "start_token"}

    def __init__(
        self,
        vocab_size: int = 33,
        layers: int = 12,
        hidden: int = 768,
        *,
        heads: int = 12,
        ffn: int = 3072,
        max_rows: int = 1024,
        max_columns: int = 1024,
        row_positions: str = "learned",
        column_positions: bool = True,
        start_token: bool = True,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        activation_dropout: float = 0.1,
        tie: str = "sqrt",
        neighbours: int = 0,
    ):
        super().__init__()
        sizes = {
            "vocab_size": vocab_size,
            "layers": layers,
            "max_rows": max_rows,
            "max_columns": max_columns,
        }
        for name, value in sizes.items():
            require_positive_int(name, value)
        if vocab_size <= PADDING:
            raise ValueError(
                f"wanted a vocab_size above the padding id {PADDING}, given {vocab_size}"
            )
        require_choice("row_positions", row_positions, ROW_POSITIONS)
        self.vocab_size, self.max_rows, self.max_columns = vocab_size, max_rows, max_columns
        self.start_token = start_token
        self.blocks = nn.ModuleList(
            AxialBlock(
                hidden,
                heads,
                ffn,
                dropout=dropout,
                attention_dropout=attention_dropout,
                activation_dropout=activation_dropout,
                tie=tie,
            )
            for _ in range(layers)
        )
        self.letters = (
            NeighbourEmbedding(vocab_size, hidden, neighbours)
            if neighbours
            else nn.Embedding(vocab_size, hidden, padding_idx=PADDING)
        )
        rows = {"learned": max_rows, "query": 1, "none": 0}[row_positions]
        self.row_positions = nn.Parameter(torch.empty(rows, hidden)) if rows else None
        self.column_positions = (
            nn.Parameter(torch.empty(max_columns, hidden)) if column_positions else None
        )
        self.norm_before, self.norm_after = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.drop = nn.Dropout(dropout)
        self.letter_head = LetterHead(hidden, vocab_size)
        self.contact_head = ContactHead(layers * heads)
        # `ContactHead.fit` sets it, no letter does. Said to torch, so that data parallel training
        # waits for no gradient of it.
        self.contact_head.requires_grad_(False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal weights of deviation 0.02 (rows' positions 0.01), zero biases, as the authors'."""
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.normal_(part.weight, std=0.02)
            if isinstance(part, nn.Linear):
                nn.init.zeros_(part.bias)
            if isinstance(part, nn.LayerNorm):
                part.reset_parameters()
            if isinstance(part, NeighbourEmbedding):
                part.reset_neighbours()
        nn.init.zeros_(self.letter_head.bias)
        nn.init.zeros_(self.letters.weight[PADDING].detach())
        if self.column_positions is not None:
            nn.init.normal_(self.column_positions, std=0.02)
        if self.row_positions is not None:
            nn.init.normal_(self.row_positions, std=0.01)
        self.contact_head.forget()  # after all draws: they are as many as they have always been

    def forward(
        self,
        tokens: Int64[Tensor, "batch rows columns"],
        mask: Bool[Tensor, "batch rows columns"] | None = None,
        need_attention: bool = False,
        *,
        need_column: bool | None = None,
        return_contacts: bool = False,
        chunk: int | None = None,
    ) -> MSAOutput:
        """mask: True = real; None derives it from the padding id.

        need_attention: keep the row maps and, unless need_column is False, the column maps. These
        are layers x heads x columns x rows^2 numbers: 18 GiB for 256 rows of 513 columns at the
        paper's size.
        chunk: work on about so many tokens of each example at a time and recompute them in the
        backward pass: less memory, and with gradients up to about twice the time on a CPU, many
        times on a GPU that is not full (the chapter's table). None does all at once with gradients;
        without them, where there are more than CHUNK tokens, CHUNK of the whole batch at a time.
        Logits and maps at padding are finite and mean nothing.

        Errors: ValueError or TypeError for a wrong rank, ids out of range, more rows or columns
        than the tables hold, padding before a real row or column, a missing start token; contacts
        of a head that was never fitted.
        """
        real = self.checked(tokens, mask)
        need_row = need_attention or return_contacts
        need_column = need_attention if need_column is None else need_column
        chunk = _chunk(tokens, chunk)
        x, row_maps, column_maps = self.attend(
            tokens, real, need_row, need_column=need_column, chunk=chunk
        )
        contacts = None
        if return_contacts:
            first = int(self.start_token)
            columns = None if real is None else real.columns[:, first:]
            contacts = self.contact_head(torch.stack(row_maps, 1)[..., first:, first:], columns)
        if chunk is None or torch.is_grad_enabled():
            logits = self.letter_logits(x)
        else:
            logits = in_parts(self.letter_logits, x, max(1, chunk // x.shape[2]), dim=1)
        return MSAOutput(
            logits=logits.transpose(1, 2),
            contacts=contacts,
            row_attentions=torch.stack(row_maps, 1) if need_attention else None,
            column_attentions=torch.stack(column_maps, 1) if column_maps else None,
        )

    def encode(
        self,
        tokens: Int64[Tensor, "batch rows columns"],
        mask: Bool[Tensor, "batch rows columns"] | None = None,
        chunk: int | None = None,
    ) -> Float[Tensor, "batch rows columns hidden"]:
        """The last hidden states alone; arguments as in `forward`."""
        real = self.checked(tokens, mask)
        return self.attend(tokens, real, chunk=_chunk(tokens, chunk))[0].transpose(1, 2)

    def representations(
        self,
        tokens: Int64[Tensor, "batch rows columns"],
        layers: Iterable[int],
        mask: Bool[Tensor, "batch rows columns"] | None = None,
        *,
        chunk: int | None = None,
    ) -> dict[int, Float[Tensor, "batch rows columns hidden"]]:
        """Hidden states after so many blocks, fair-esm's `repr_layers`: 0 is what enters the first
        one, and those after the last one are normed, as `encode` gives them.

        Errors: ValueError for a layer that is not there, else those of `forward`.
        """
        kept: dict[int, Tensor | None] = dict.fromkeys(as_size("layers", n, 0) for n in layers)
        if not kept or max(kept) > len(self.blocks):
            raise ValueError(
                f"wanted layers, each out of 0 to {len(self.blocks)}, given {list(kept)}"
            )
        real = self.checked(tokens, mask)
        last = self.attend(tokens, real, chunk=_chunk(tokens, chunk), kept=kept)[0]
        kept |= dict.fromkeys(kept.keys() & {len(self.blocks)}, last.transpose(1, 2))
        return {n: x for n, x in kept.items() if x is not None}

    def row_attentions(
        self,
        tokens: Int64[Tensor, "batch rows columns"],
        mask: Bool[Tensor, "batch rows columns"] | None = None,
        *,
        chunk: int | None = None,
    ) -> Float[Tensor, "batch layers heads columns columns"]:
        """The row maps alone, which contacts are read from; column maps may be far larger."""
        real = self.checked(tokens, mask)
        maps = self.attend(tokens, real, need_row=True, chunk=_chunk(tokens, chunk))[1]
        return torch.stack(maps, 1)

    def letter_logits(self, x: Float[Tensor, "*tokens hidden"]) -> Float[Tensor, "*tokens vocab"]:
        """Logits of some hidden states, such as those at masked places only."""
        return self.letter_head(x, self.letters.weight)

    def checked(self, tokens: Tensor, mask: Tensor | None) -> AlignmentMask | None:
        """The mask, None where nothing is padded; refuses what `forward` cannot take."""
        require_tensor("tokens", tokens, ("batch", "rows", "columns"))
        if tokens.dtype != torch.int64:
            raise TypeError(f"wanted tokens to be torch.int64, given {tokens.dtype}")
        if tokens.device != self.letters.weight.device:
            raise ValueError(
                f"wanted tokens to be on {self.letters.weight.device} like the weights, "
                f"given a tensor on {tokens.device}"
            )
        outside = (tokens < 0) | (tokens >= self.vocab_size)
        wish = f"wanted tokens in [0, {self.vocab_size - 1}]; tokens outside"
        require_false(wish, outside, PLACE, values=tokens)
        _, rows, columns = tokens.shape
        if self.row_positions is not None and rows > self.max_rows:
            raise ValueError(f"wanted at most max_rows = {self.max_rows} rows, given {rows}")
        if self.column_positions is not None and columns > self.max_columns:
            raise ValueError(
                f"wanted at most max_columns = {self.max_columns} columns, given {columns}"
            )
        real = None
        if mask is not None:
            real = AlignmentMask(mask, tuple(tokens.shape), tokens.device)
        else:
            mask = tokens != PADDING
            if not can_be_read(mask) or not bool(mask.all()):
                real = AlignmentMask(mask, tuple(tokens.shape), tokens.device)
        if self.start_token:
            lost = tokens[..., 0] != START
            lost = lost if real is None else lost & real.rows
            wish = f"wanted the start token {START} in column 0 of every row; rows without it"
            require_false(wish, lost, ("example", "row"))
        return real

    def attend(
        self,
        tokens: Int64[Tensor, "batch rows columns"],
        mask: AlignmentMask | None,
        need_row: bool = False,
        *,
        need_column: bool = False,
        chunk: int | None = None,
        kept: dict[int, Tensor | None] | None = None,
    ) -> tuple[Float[Tensor, "batch columns rows hidden"], list[Tensor], list[Tensor]]:
        """`forward` up to the heads without checks: (hidden states, row maps, column maps).

        Columns first throughout; a list of maps is empty where they are not needed. kept: where
        hidden states are written after as many blocks as its keys say, rows first.
        """
        if chunk is not None:
            require_positive_int("chunk", chunk)
        x = self.letters(tokens.transpose(1, 2))
        rows, columns = x.shape[2], x.shape[1]
        if self.column_positions is not None:
            x = x + self.column_positions[:columns, None]
        if self.row_positions is not None:
            if len(self.row_positions) == 1:  # the query's mark
                x = torch.cat([x[:, :, :1] + self.row_positions, x[:, :, 1:]], 2)
            else:
                x = x + self.row_positions[:rows]
        x = self.drop(self.norm_before(x))
        row_maps, column_maps = [], []
        x = x.transpose(1, 2)
        with value_checks(False):
            for n, block in enumerate(self.blocks):
                if kept is not None and n in kept:
                    kept[n] = x
                x, row, column = block(x, mask, need_row, need_column=need_column, chunk=chunk)
                if need_row:
                    row_maps.append(row)
                if need_column:
                    column_maps.append(column)
        return self.norm_after(x.transpose(1, 2)), row_maps, column_maps


def _chunk(tokens: Tensor, chunk: int | None) -> int | None:
    """Tokens of each example at a time, None: all. Nothing is chosen where a graph is traced."""
    if chunk is not None or torch.is_grad_enabled() or not can_be_read(tokens):
        return chunk
    return max(1, CHUNK // len(tokens)) if tokens.numel() > CHUNK else None
