"""Which tokens of a batch of alignments are real."""

import torch
from jaxtyping import Bool
from torch import Tensor

from archbook.checks import require_false, require_mask

PLACE = ("example", "row", "column")


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
