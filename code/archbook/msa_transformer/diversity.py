"""Which rows of a deep alignment the model is shown."""

from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor

from archbook.checks import as_size, require_tensor


@runtime_checkable
class Rows(Protocol):
    """An alignment of letters, such as `archbook.data.alignments.Alignment`."""

    @property
    def rows(self) -> Sequence[str]: ...

    def take(self, rows: Sequence[int]) -> "Rows":
        """The rows of these indices, with their names."""
        ...


Alignment = TypeVar("Alignment", Int64[Tensor, "_ columns"], Rows)


def diversity_subsample(alignment: Alignment, rows: int, farthest: bool = True) -> Alignment:
    """Row 0 and rows - 1 others, each the one of largest mean Hamming distance to those before it.

    alignment: an `Alignment`, whose names stay with their rows, or a tensor of integers (rows,
    columns), such as tokens; `diverse_rows` has the method and the indices. An alignment of at most
    `rows` rows comes back whole.

    >>> alignment = torch.tensor([[0, 0, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]])
    >>> diversity_subsample(alignment, rows=2)
    tensor([[0, 0, 0],
            [1, 1, 1]])
    """
    chosen = diverse_rows(alignment, rows, farthest)
    if isinstance(alignment, Tensor):
        few = len(alignment) == len(chosen)
        return alignment if few else alignment[torch.tensor(chosen, device=alignment.device)]
    return alignment if len(alignment.rows) == len(chosen) else alignment.take(chosen)


def diverse_rows(
    alignment: Int64[Tensor, "rows columns"] | Rows, rows: int, farthest: bool = True
) -> list[int]:
    """The indices of the rows that `diversity_subsample` takes, ascending, 0 the first.

    Greedy (Rao et al. 2021, Sec. 3.2): a running sum of distances, so O(rows x all rows x columns)
    comparisons, of bytes where the integers fit in them. Letters are compared as they are, those
    without a token, too. Ties go to the earlier row. The rows keep their order, as in the published
    helper. farthest=False takes the nearest instead, the paper's control.

    Errors: ValueError and TypeError for fewer than one row, and for what is no alignment.

    >>> alignment = torch.tensor([[0, 0, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]])
    >>> diverse_rows(alignment, rows=2)
    [0, 2]
    """
    rows = as_size("rows", rows)
    letters = _numbers(alignment)
    require_tensor("alignment", letters, ("rows", "columns"))
    if len(letters) <= rows:
        return list(range(len(letters)))
    letters = _as_bytes(letters)
    sign = 1 if farthest else -1
    chosen = torch.zeros(len(letters), dtype=torch.bool, device=letters.device)
    total = torch.zeros(len(letters), dtype=torch.int64, device=letters.device)
    newest = torch.zeros((), dtype=torch.int64, device=letters.device)
    lowest = -letters.numel() - 1
    for _ in range(rows - 1):
        chosen[newest] = True
        total += sign * _distances(letters, letters[newest])
        newest = total.masked_fill(chosen, lowest).argmax()
    chosen[newest] = True
    return chosen.nonzero()[:, 0].tolist()


def _numbers(alignment: "Tensor | Rows") -> Tensor:
    if isinstance(alignment, Tensor):
        return alignment
    if not hasattr(alignment, "rows"):
        given = type(alignment).__name__
        raise TypeError(f"wanted alignment to be an Alignment or a tensor, given {given}")
    text = bytearray("".join(alignment.rows).encode("ascii"))
    return torch.frombuffer(text, dtype=torch.uint8).view(len(alignment.rows), -1)


def _as_bytes(letters: Tensor) -> Tensor:
    """The same numbers in a byte each, if they all fit."""
    if letters.dtype == torch.bool or letters.is_floating_point():
        return letters
    fit = int(letters.min()) >= 0 and int(letters.max()) < 256
    return letters.to(torch.uint8) if fit else letters


def _distances(letters: Tensor, row: Tensor) -> Tensor:
    """In how many columns each row differs from `row`.

    Summed as bytes, which is the fastest that torch has, over as many columns as a byte can count.
    """
    differs = (letters != row).view(torch.uint8)
    parts = [part.sum(1, dtype=torch.uint8) for part in differs.split(255, 1)]
    return torch.stack(parts).sum(0, dtype=torch.int64)
