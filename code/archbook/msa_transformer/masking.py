"""What the model is trained on, and which rows it is shown."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from archbook.checks import require_positive_int, require_tensor

START, PADDING, MASK = 0, 1, 32  # ids of fair-esm's alphabet
RESIDUES = (4, 24)  # the twenty amino acids: first id, one past the last


class Masked(NamedTuple):
    """tokens: with the chosen places changed; chosen: where to predict the original."""

    tokens: Int64[Tensor, "*shape"]
    chosen: Bool[Tensor, "*shape"]


def mask_tokens(
    tokens: Int64[Tensor, "*shape"],
    generator: torch.Generator | None = None,
    rate: float = 0.15,
    masked: float = 0.8,
    swapped: float = 0.1,
    letters: tuple[int, int] = RESIDUES,
) -> Masked:
    """Choose each token with probability `rate`, over all rows and columns alike (Sec. 3).

    Of the chosen, the share `masked` becomes the mask token, the share `swapped` a random letter of
    ids letters[0] .. letters[1] - 1, and the rest stays. Start and padding are never chosen; gaps
    are letters like others. A generator lies on the device of the tokens.
    """
    if tokens.dtype != torch.int64:
        raise TypeError(f"tokens must be torch.int64, got {tokens.dtype}")
    if not 0 < rate <= 1 or min(masked, swapped) < 0 or masked + swapped > 1:
        raise ValueError(
            "wanted 0 < rate <= 1, masked and swapped >= 0 with a sum of at most 1, given "
            f"{rate}, {masked} and {swapped}"
        )
    if not 0 <= letters[0] < letters[1]:
        raise ValueError(f"wanted letters (first, one past the last), given {letters}")
    draw = {"generator": generator, "device": tokens.device}
    chosen = torch.rand(tokens.shape, **draw) < rate
    chosen &= (tokens != START) & (tokens != PADDING)
    fate = torch.rand(tokens.shape, **draw)
    random = torch.randint(*letters, tokens.shape, **draw)
    changed = torch.where(chosen & (fate < masked), MASK, tokens)
    changed = torch.where(chosen & (fate >= masked) & (fate < masked + swapped), random, changed)
    return Masked(changed, chosen)


def diversity_subsample(
    alignment: Int64[Tensor, "rows columns"], rows: int, farthest: bool = True
) -> Int64[Tensor, "chosen columns"]:
    """Row 0 and rows - 1 others, each the one of largest mean Hamming distance to those before it.

    Greedy (Sec. 3.2): a running sum of distances, so O(rows x all rows x columns). Ties go to the
    earlier row; an alignment of at most `rows` rows comes back whole. The rows keep their order, as
    in the published helper. farthest=False takes the nearest instead, the paper's control.
    """
    require_positive_int("rows", rows)
    require_tensor("alignment", alignment, ("rows", "columns"))
    if len(alignment) <= rows:
        return alignment
    sign = 1 if farthest else -1
    chosen = torch.zeros(len(alignment), dtype=torch.bool, device=alignment.device)
    total = torch.zeros(len(alignment), dtype=torch.int64, device=alignment.device)
    newest = torch.zeros((), dtype=torch.int64, device=alignment.device)
    lowest = -alignment.numel() - 1
    for _ in range(rows - 1):
        chosen[newest] = True
        total += sign * (alignment != alignment[newest]).sum(1)
        newest = total.masked_fill(chosen, lowest).argmax()
    chosen[newest] = True
    return alignment[chosen]
