"""Letters that know their neighbours in the row."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import embedding, pad

from archbook.checks import require_positive_int
from archbook.vocabulary import PADDING


class NeighbourEmbedding(nn.Embedding):
    """x_mi = E_0[t_mi] + sum over 0 < |d| <= neighbours of E_d[t_m,i+d]: a convolution of one-hots.

    So a map over columns of the first block can see that two pairs are stacked, (i, j) beside
    (i + 1, j - 1), in a network without positions. Beyond the row's ends, as at padding, nothing is
    added. E_0 is `weight`, the table that letters are told from. Not in the paper, whose network
    learns a vector for each column.

    >>> letters = NeighbourEmbedding(33, 16, neighbours=1)
    >>> letters(torch.randint(4, 24, (1, 5, 3))).shape  # columns first
    torch.Size([1, 5, 3, 16])
    """

    def __init__(self, vocab_size: int, hidden: int, neighbours: int):
        super().__init__(vocab_size, hidden, padding_idx=PADDING)
        require_positive_int("neighbours", neighbours)
        self.neighbours = neighbours
        self.near = nn.Parameter(torch.empty(2 * neighbours, vocab_size, hidden))
        self.reset_neighbours()

    def reset_neighbours(self) -> None:
        """Normal, of deviation 0.02, as the other tables of the network."""
        with torch.no_grad():
            self.near.normal_(std=0.02)[:, PADDING] = 0

    def forward(
        self, input: Int64[Tensor, "batch columns rows"]
    ) -> Float[Tensor, "batch columns rows hidden"]:
        """Columns first, as a network's hidden states lie."""
        x = super().forward(input)
        k, columns = self.neighbours, input.shape[1]
        wide = pad(input, (0, 0, k, k), value=PADDING)
        offsets = [offset for offset in range(2 * k + 1) if offset != k]
        for table, offset in zip(self.near, offsets, strict=True):
            x = x + embedding(wide[:, offset : offset + columns], table, padding_idx=PADDING)
        return x
