"""Which rows of a deep alignment the model is shown."""

import torch
from jaxtyping import Int64
from torch import Tensor

from archbook.checks import require_positive_int, require_tensor


def diversity_subsample(
    alignment: Int64[Tensor, "rows columns"], rows: int, farthest: bool = True
) -> Int64[Tensor, "chosen columns"]:
    """Row 0 and rows - 1 others, each the one of largest mean Hamming distance to those before it.

    Greedy (Sec. 3.2): a running sum of distances, so O(rows x all rows x columns). Ties go to the
    earlier row; an alignment of at most `rows` rows comes back whole. The rows keep their order, as
    in the published helper. farthest=False takes the nearest instead, the paper's control.

    >>> alignment = torch.tensor([[0, 0, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]])
    >>> diversity_subsample(alignment, rows=2)
    tensor([[0, 0, 0],
            [1, 1, 1]])
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
