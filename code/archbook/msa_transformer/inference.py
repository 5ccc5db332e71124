"""What a trained network says of one alignment: contacts, embeddings, effects of variants.

An alignment is an `archbook.data.alignments.Alignment` of proteins, or the tokens of any, (rows,
columns) without start tokens, row 0 the query: `alignment.tokens(unknown="X")` where rows hold J,
"*" or "?", `archbook.data.rna.rna_tokens` for a network of RNA. Start token, batch axis, device and
memory are seen to; answers lie on the device of the tokens. All refuse, by ValueError or TypeError,
a network in training mode, whose dropout would change each answer, and tokens that
`MSATransformer.forward` refuses.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import pad

from archbook.checks import as_size, require_tensor
from archbook.msa_transformer.corruption import LETTERS
from archbook.msa_transformer.neighbours import NeighbourEmbedding
from archbook.msa_transformer.network import CHUNK, AxialBlock, MSATransformer
from archbook.vocabulary import MASK, START


@runtime_checkable
class Tokenised(Protocol):
    """What knows its tokens."""

    def tokens(self) -> Int64[Tensor, "rows columns"]: ...


Alignment = Int64[Tensor, "rows columns"] | Tokenised


@torch.no_grad()
def predict_contacts(
    model: MSATransformer, alignment: Alignment
) -> Float[Tensor, "columns columns"]:
    """How likely each pair of columns is in contact, from 0 to 1: symmetric.

    Errors: ValueError where the contact head was never fitted.

    >>> model = MSATransformer(layers=2, hidden=16, heads=4, ffn=32).eval()
    >>> model.contact_head.fit(torch.rand(10, 8), torch.arange(10) < 4)  # 2 layers of 4 heads
    >>> predict_contacts(model, torch.randint(4, 24, (3, 7))).shape  # or read_a3m(Path("mine.a3m"))
    torch.Size([7, 7])
    """
    tokens, device = _batch(model, alignment)
    maps = model.row_attentions(tokens)
    first = int(model.start_token)
    return model.contact_head(maps[..., first:, first:])[0].to(device)


@torch.no_grad()
def embed(
    model: MSATransformer, alignment: Alignment, layer: int | None = None
) -> Float[Tensor, "rows columns hidden"]:
    """Hidden states of every letter after so many blocks, by default after all, without the start
    token's: `MSATransformer.representations`.

    embed(model, alignment)[0].mean(0) is the query's, the mean over its columns.

    >>> model = MSATransformer(layers=2, hidden=16, heads=4, ffn=32).eval()
    >>> embed(model, torch.randint(4, 24, (3, 7)), layer=1).shape
    torch.Size([3, 7, 16])
    """
    layer = len(model.blocks) if layer is None else layer
    tokens, device = _batch(model, alignment)
    return model.representations(tokens, [layer])[layer][0, :, int(model.start_token) :].to(device)


@torch.no_grad()
def masked_marginals(
    model: MSATransformer,
    alignment: Alignment,
    letters: tuple[int, int] = LETTERS,
    *,
    columns: Sequence[int] | None = None,
) -> Float[Tensor, "columns letters"]:
    """log p(a) - log p(the query's own letter) of every letter a at every column of the query, in
    nats, that place being masked and the other rows shown: the effect of a variant, 0 for none.

    Meier et al. (2021), as in fair-esm's examples/variant-prediction for alignments. letters: the
    first id and one past the last, by default the 20 amino acids in the order of
    `archbook.data.alphabet.LETTERS`; columns: those to look at, by default all. One pass a column,
    several columns at a time where the alignment is small: O(columns) times the cost of `embed`.

    Errors: ValueError for columns and letters that are not there.

    >>> model = MSATransformer(layers=2, hidden=16, heads=4, ffn=32).eval()
    >>> alignment = torch.randint(4, 24, (3, 7))
    >>> effects = masked_marginals(model, alignment)
    >>> effects.shape, float(effects[2, alignment[0, 2] - 4])  # no variant, no effect
    (torch.Size([7, 20]), 0.0)
    """
    tokens, device = _batch(model, alignment)
    first, end = (as_size("letters", id, least=0) for id in letters)
    if not first < end <= model.vocab_size:
        raise ValueError(
            f"wanted letters (first, one past the last) in a vocabulary of {model.vocab_size}, "
            f"given {letters}"
        )
    start = int(model.start_token)
    count = tokens.shape[2] - start
    chosen = [*range(count)] if columns is None else [as_size("columns", c, 0) for c in columns]
    if not chosen or max(chosen) >= count:
        raise ValueError(f"wanted columns, each out of 0 to {count - 1}, given {chosen}")
    places = torch.tensor(chosen, device=tokens.device) + start
    found = []
    for part in places.split(max(1, CHUNK // tokens.numel())):
        each = torch.arange(len(part), device=tokens.device)
        masked = tokens.repeat(len(part), 1, 1)
        masked[each, 0, part] = MASK
        logits = model.letter_logits(model.encode(masked)[each, 0, part])
        own = logits.gather(1, tokens[0, 0, part][:, None])
        found.append(logits[:, first:end] - own)  # what they are normalised by is the same
    return torch.cat(found).to(device)


def _batch(model: MSATransformer, alignment: Alignment) -> tuple[Tensor, torch.device]:
    """What the model reads, where it lies, and where the answer is to lie."""
    if model.training:
        raise ValueError("wanted a model in evaluation mode, `model.eval()`, given one in training")
    tokens = alignment if isinstance(alignment, Tensor) else _tokens(alignment)
    require_tensor("alignment", tokens, ("rows", "columns"))
    if bool((tokens == START).any()):
        raise ValueError(f"wanted tokens without the start token {START}, given some with it")
    device = tokens.device
    if model.start_token:
        tokens = pad(tokens, (1, 0), value=START)
    return tokens[None].to(model.letters.weight.device), device


def _tokens(alignment: Tokenised) -> Tensor:
    if not hasattr(alignment, "tokens"):
        given = type(alignment).__name__
        raise TypeError(f"wanted an Alignment or a tensor of tokens, given {given}")
    return alignment.tokens()


@torch.no_grad()
def letter_likings(
    model: MSATransformer, letters: tuple[int, int] = LETTERS
) -> Float[Tensor, "heads letters letters"]:
    """W(a, b) of every head of the first block, centred in both: what its tied scores are made of.

    In a network without positions a letter enters the first row attention as a vector of its own,
    so S_ij is, up to terms of one column, the sum over the rows of W(x_mi, x_mj), over lambda: a
    read-out of the pairs of letters (the chapter's proposition). letters: first and last + 1.

    Errors: ValueError where the network has positions or letters with neighbours.

    >>> sizes = dict(layers=1, hidden=16, heads=2, ffn=32, row_positions="none")
    >>> model = MSATransformer(**sizes, column_positions=False)
    >>> letter_likings(model, (4, 10)).shape
    torch.Size([2, 6, 6])
    """
    positions = {
        "row_positions": model.row_positions is not None,
        "column_positions": model.column_positions is not None,
        "neighbours": isinstance(model.letters, NeighbourEmbedding),
    }
    if any(positions.values()):
        found = ", ".join(name for name, there in positions.items() if there)
        raise ValueError(f"wanted a network without positions and neighbours, given {found}")
    first, last = letters
    if not 0 <= first < last <= model.vocab_size:
        raise ValueError(f"wanted letters 0 <= first < last <= {model.vocab_size}, given {letters}")
    block = model.blocks[0]
    assert isinstance(block, AxialBlock)
    x = block.row_norm(model.norm_before(model.letters.weight[first:last]))
    q, k, _ = block.row.qkv(x).unflatten(-1, (3, block.row.heads, -1)).unbind(-3)
    table = torch.einsum("ahd,bhd->hab", q, k)
    table = table - table.mean(1, keepdim=True)
    return table - table.mean(2, keepdim=True)
