"""Alignments of several sizes as one batch, and which of its tokens are real."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int64
from torch import Tensor
from torch.nn.functional import pad

from archbook.checks import require_false, require_like, require_mask, require_tensor
from archbook.vocabulary import PADDING

PLACE = ("example", "row", "column")


def pad_alignments(
    examples: Sequence[Int64[Tensor, "_ _"]], rows: int = 0, columns: int = 0
) -> Int64[Tensor, "batch rows columns"]:
    """One batch of alignments (rows, columns) of any sizes, padded after each one's last row and
    column: to the largest, and to at least so many rows and columns.

    `MSATransformer` gives each of them what it gives it alone. Errors: ValueError and TypeError
    without an alignment, and for other axes, dtypes and devices.

    >>> pad_alignments([torch.tensor([[5, 6]]), torch.tensor([[7, 8, 9], [7, 8, 4]])])
    tensor([[[5, 6, 1],
             [1, 1, 1]],
    <BLANKLINE>
            [[7, 8, 9],
             [7, 8, 4]]])
    """
    if not len(examples):
        raise ValueError("wanted at least one alignment, given none")
    for b, example in enumerate(examples):
        require_tensor(f"alignment {b}", example, ("rows", "columns"))
        require_like(f"alignment {b}", example, "the first", examples[0])
    rows = max([rows, *(len(example) for example in examples)])
    columns = max([columns, *(example.shape[1] for example in examples)])
    return torch.stack(
        [
            pad(one, (0, columns - one.shape[1], 0, rows - len(one)), value=PADDING)
            for one in examples
        ]
    )


class AlignmentMask:
    """The real part of every example: its first rows and its first columns.

    rows (batch, rows) and columns (batch, columns), True = real. Errors: ValueError if the real
    tokens of an example are not the block of its first rows and columns, or if it has none; the
    first place is named.
    """

    rows: Bool[Tensor, "batch rows"]
    columns: Bool[Tensor, "batch columns"]

    @classmethod
    def of(cls, mask: "Tensor | AlignmentMask | None", x: Tensor) -> "AlignmentMask | None":
        """For x (batch, rows, columns, ...); what a network has read once stays as it is."""
        if mask is None or isinstance(mask, AlignmentMask):
            return mask
        return cls(mask, tuple(x.shape[:3]), x.device)

    def __init__(self, mask: Tensor, shape: tuple[int, ...], device: torch.device):
        require_mask("mask", mask, shape, device)
        self.rows, self.columns = mask.any(2), mask.any(1)
        block = self.rows[:, :, None] & self.columns[:, None]
        empty = ~mask.flatten(1).any(1)
        require_false(
            "wanted a real token in every example; examples without one", empty, ("example",)
        )
        require_false(
            "wanted all real rows of an example to end at one column; tokens against it",
            mask != block,
            PLACE,
        )
        for name, part in {"row": self.rows, "column": self.columns}.items():
            gap = ~part[:, :-1] & part[:, 1:]  # a padded one before a real one
            require_false(
                f"wanted padding after the last real {name} only; {name}s before a real one",
                gap,
                ("example", name),
            )
