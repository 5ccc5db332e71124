"""What the model is trained on: tokens masked or swapped, to be told from the rest."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from archbook.checks import as_size
from archbook.vocabulary import AMINO_ACIDS, FIRST_LETTER, MASK, PADDING, START

LETTERS = (FIRST_LETTER, FIRST_LETTER + AMINO_ACIDS)  # the amino acids: first id, one past the last


class Masked(NamedTuple):
    """tokens: with the chosen places changed; chosen: where to predict the original.

    >>> tokens = torch.randint(4, 24, (3, 50))
    >>> masked = mask_tokens(tokens)
    >>> bool((masked.tokens == tokens)[~masked.chosen].all())  # the rest stays
    True
    """

    tokens: Int64[Tensor, "*shape"]
    chosen: Bool[Tensor, "*shape"]


def mask_tokens(
    tokens: Int64[Tensor, "*shape"],
    generator: torch.Generator | None = None,
    rate: float = 0.15,
    *,
    masked: float = 0.8,
    swapped: float = 0.1,
    letters: tuple[int, int] = LETTERS,
) -> Masked:
    """Choose each token with probability `rate`, over all rows and columns alike (Sec. 3).

    Of the chosen, the share `masked` becomes the mask token, the share `swapped` a random letter of
    ids letters[0] .. letters[1] - 1, and the rest stays. Start and padding are never chosen; gaps
    are letters like others. A generator lies on the device of the tokens. Errors: TypeError and
    ValueError for other tokens than int64, shares that are none, letters outside the vocabulary.

    >>> tokens = torch.full((200, 200), 5)
    >>> changed, chosen = mask_tokens(tokens)
    >>> shares = chosen.float().mean(), (changed == 32).float().mean()
    >>> [round(float(share), 2) for share in shares]  # chosen, and masked
    [0.15, 0.12]
    """
    if tokens.dtype != torch.int64:
        raise TypeError(f"wanted tokens to be torch.int64, given {tokens.dtype}")
    if not 0 < rate <= 1 or min(masked, swapped) < 0 or masked + swapped > 1:
        raise ValueError(
            "wanted 0 < rate <= 1, masked and swapped >= 0 with a sum of at most 1, given "
            f"{rate}, {masked} and {swapped}"
        )
    first, end = (as_size("letters", id, least=0) for id in letters)
    if not first < end <= MASK:
        raise ValueError(
            f"wanted letters (first, one past the last) below the mask {MASK}, given {letters}"
        )
    draw = {"generator": generator, "device": tokens.device}
    chosen = torch.rand(tokens.shape, **draw) < rate
    chosen &= (tokens != START) & (tokens != PADDING)
    fate = torch.rand(tokens.shape, **draw)
    random = torch.randint(first, end, tokens.shape, **draw)
    changed = torch.where(chosen & (fate < masked), MASK, tokens)
    changed = torch.where(chosen & (fate >= masked) & (fate < masked + swapped), random, changed)
    return Masked(changed, chosen)
