"""IndexSort, and its way back: the tokens of P layers as one sequence, position after position."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from archbook.checks import as_size, require_like, require_tensor

POOLS = ("max", "mean", "last", "learned")


def index_sort(
    layers: Sequence[Float[Tensor, "batch seq hidden"]],
) -> Float[Tensor, "batch tokens hidden"]:
    """T[i P + l] = X_l[i]: all P depths of token 1, then all of token 2, and so on.

    >>> X_1, X_2 = torch.tensor([[[1], [2]]]), torch.tensor([[[10], [20]]])
    >>> index_sort([X_1, X_2]).flatten()  # position after position
    tensor([ 1, 10,  2, 20])
    """
    if not layers:
        raise ValueError("wanted at least one layer, given none")
    for number, x in enumerate(layers):
        require_tensor(
            f"layer {number}", x, tuple(layers[0].shape) if number else ("batch", "seq", "hidden")
        )
        require_like(f"layer {number}", x, "layer 0", layers[0])
    return torch.stack(tuple(layers), 2).flatten(1, 2)


def index_unsort(
    stacked: Float[Tensor, "batch tokens hidden"], depth: int
) -> Float[Tensor, "batch seq depth hidden"]:
    """The inverse: entry [:, i, l] is X_l[i].

    >>> index_unsort(torch.tensor([[[1], [10], [2], [20]]]), depth=2)[..., 0]
    tensor([[[ 1, 10],
             [ 2, 20]]])
    """
    depth = as_size("depth", depth)
    require_tensor("stacked", stacked, ("batch", "tokens", "hidden"))
    if stacked.shape[1] % depth:
        raise ValueError(
            f"wanted a depth that divides the {stacked.shape[1]} tokens, given {depth}"
        )
    return stacked.unflatten(1, (-1, depth))
