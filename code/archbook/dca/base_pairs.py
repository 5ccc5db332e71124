"""What pairs of columns of an RNA alignment say about base pairs, without and with labels.

Alignments are integers: A C G U are 0 to 3, everything else is 4, a gap or an unsure letter.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from archbook.checks import as_size
from archbook.dca.scores import apc
from archbook.dca.statistics import frequencies, mutual_information, row_weights

STATES = 5
BASE_PAIRS = ((0, 3), (1, 2), (2, 3))  # A-U and C-G (Watson and Crick), G-U (wobble)
KINDS = [(a, b) for a in range(STATES) for b in range(a, STATES)]  # unordered, 15
PLAIN = 2 * len(KINDS) + 2  # features of a pair table before the logarithms
RARE = 0.02  # a share that is small, and still has a logarithm


def pairing_share(
    alignment: Integer[Tensor, "rows columns"], *, identity: float | None = 0.8
) -> Float[Tensor, "columns columns"]:
    """By hand: the share of rows that hold a base pair in two columns, covarying or not.

    >>> alignment = torch.tensor([[0, 3, 1], [1, 2, 1], [2, 1, 1], [3, 0, 1]])
    >>> pairing_share(alignment, identity=None)[0]  # of column 0: A-U, C-G, G-C, U-A
    tensor([0.0000, 1.0000, 0.2500], dtype=torch.float64)
    """
    weights = row_weights(alignment, STATES, identity)
    return _of_base_pairs(frequencies(alignment, STATES, weights)[1])


def pairing_covariance(
    alignment: Integer[Tensor, "rows columns"], *, identity: float | None = 0.8
) -> Float[Tensor, "columns columns"]:
    """By hand: how much oftener two columns hold a base pair than their letters alone would.

    >>> alignment = torch.tensor([[0, 3, 1], [1, 2, 1], [2, 1, 1], [3, 0, 1]])
    >>> pairing_covariance(alignment, identity=None)[0, 1]  # above what chance pairs
    tensor(0.6250, dtype=torch.float64)
    """
    weights = row_weights(alignment, STATES, identity)
    single, pair = frequencies(alignment, STATES, weights)
    return _of_base_pairs(pair - single[:, None, :, None] * single[None, :, None, :])


def _of_base_pairs(pair: Tensor) -> Tensor:
    """The sum of (columns, columns, states, states) over all base pairs, in both orders."""
    first, second = zip(*BASE_PAIRS, strict=True)
    return (pair[:, :, first, second] + pair[:, :, second, first]).sum(-1)


def pair_table(
    alignment: Integer[Tensor, "rows columns"], *, identity: float | None = 0.8
) -> Float[Tensor, "columns columns features"]:
    """47 numbers of two columns, in float32, whatever their order: shares of the 15 unordered pairs
    of states, their covariances, the mutual information with and without APC; and after these PLAIN
    ones the logarithms of the shares, of RARE more.

    A logistic regression on them is the simplest rival of a read-out that was fitted on labels.

    >>> alignment = torch.tensor([[0, 3, 1], [1, 2, 1], [2, 1, 1], [3, 0, 1]])
    >>> pair_table(alignment, identity=None).shape
    torch.Size([3, 3, 47])
    """
    weights = row_weights(alignment, STATES, identity)
    single, pair = frequencies(alignment, STATES, weights)
    covariance = pair - single[:, None, :, None] * single[None, :, None, :]
    information = mutual_information(alignment, STATES, identity=identity, corrected=False)
    first, second = zip(*KINDS, strict=True)
    order = torch.tensor([1 + (a != b) for a, b in KINDS]) / 2  # both orders are two of a kind
    shares, covariances = (
        (values + values.transpose(2, 3))[:, :, first, second] * order
        for values in (pair, covariance)
    )
    information = torch.stack([information, apc(information, diagonal=False)], -1)
    features = [shares, covariances, information, (shares + RARE).log()]
    return torch.cat(features, -1).float()


def stem_neighbours(
    scores: Float[Tensor, "columns columns *features"],
) -> tuple[Float[Tensor, "columns columns *features"], Float[Tensor, "columns columns *features"]]:
    """What is said of (i + 1, j - 1) and of (i - 1, j + 1), at (i, j); zero beyond the edge.

    Base pairs come in stems, runs of stacked pairs. Where i < j the first is the pair inside.

    >>> scores = torch.arange(9.0).reshape(3, 3)
    >>> inside, around = stem_neighbours(scores)
    >>> inside[0, 2], around[1, 1]  # of (1, 1) and of (0, 2)
    (tensor(4.), tensor(2.))
    """
    inside, around = torch.zeros_like(scores), torch.zeros_like(scores)
    inside[:-1, 1:] = scores[1:, :-1]
    around[1:, :-1] = scores[:-1, 1:]
    return inside, around


def sums_along_stems(
    scores: Float[Tensor, "columns columns *features"], pairs: int
) -> Float[Tensor, "columns columns *features"]:
    """What is said of so many stacked pairs, an odd number, in all, (i, j) in their middle.

    >>> scores = torch.zeros(6, 6)
    >>> scores[0, 5] = scores[1, 4] = scores[2, 3] = 1  # a stem of three
    >>> sums_along_stems(scores, 3)[1, 4]
    tensor(3.)
    """
    pairs = as_size("pairs", pairs)
    if pairs % 2 == 0:
        raise ValueError(f"wanted an odd number of pairs, given {pairs}")
    total = inside = around = scores
    for _ in range(pairs // 2):
        inside, around = stem_neighbours(inside)[0], stem_neighbours(around)[1]
        total = total + inside + around
    return total
