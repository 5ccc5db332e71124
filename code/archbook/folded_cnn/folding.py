"""The fold: f images become one with f times the channels, and its logits come apart again."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from archbook.checks import inside_torch_func, require_between, require_positive_int, require_tensor


def fold_images(
    x: Shaped[Tensor, "batch channels height width"], fold: int
) -> Shaped[Tensor, "batch//{fold} {fold}*channels height width"]:
    """X'[i, jC:(j+1)C] = X[if + j]: image if + j is slot j, a block of C channels, of group i.

    A view where x is contiguous; one copy where it is channels_last, which the result then is too.
    Any dtype: folding bytes before they become numbers moves less.

    >>> fold_images(torch.rand(8, 3, 22, 52), 4).shape
    torch.Size([2, 12, 22, 52])
    """
    require_positive_int("fold", fold)
    require_tensor("x", x, ("batch", "channels", "height", "width"))
    if x.shape[0] % fold:
        raise ValueError(
            f"wanted a number of images divisible by fold = {fold}, given {x.shape[0]}"
        )
    by_channels = not inside_torch_func() and x.is_contiguous(memory_format=torch.channels_last)
    if by_channels and not x.is_contiguous():
        # channels stay innermost: else a model in that format would copy a second time
        return rearrange(x, "(b f) c h w -> b h w (f c)", f=fold).permute(0, 3, 1, 2)
    return rearrange(x, "(b f) c h w -> b (f c) h w", f=fold)


def unfold_logits(
    logits: Shaped[Tensor, "groups slots_classes"], fold: int
) -> Shaped[Tensor, "groups*{fold} slots_classes//{fold}"]:
    """Z[if + j] = Z'[i, jK:(j+1)K]: the K logits of each image, in the order of the images.

    A softmax belongs behind this: it is over the K classes of one image, never over f K numbers.

    >>> unfold_logits(torch.arange(8).reshape(1, 8), fold=4)  # 4 images, 2 classes
    tensor([[0, 1],
            [2, 3],
            [4, 5],
            [6, 7]])
    """
    require_positive_int("fold", fold)
    require_tensor("logits", logits, ("groups", "fold * classes"))
    if logits.shape[1] % fold:
        raise ValueError(
            f"wanted a number of logits divisible by fold = {fold}, given {logits.shape[1]}"
        )
    return rearrange(logits, "b (f k) -> (b f) k", f=fold)


def folded_cross_entropy(
    logits: Float[Tensor, "groups slots_classes"], labels: Int64[Tensor, " batch"], fold: int
) -> Float[Tensor, ""]:
    """The mean of -log softmax(Z[n])[label n] over all images, which is the mean over the slots.

    `labels` are those of the images before they were folded, in [0, classes).

    >>> logits = torch.zeros(2, 8)  # two groups of 4 images, 2 classes
    >>> loss = folded_cross_entropy(logits, torch.tensor([0, 1] * 4), fold=4)
    >>> round(float(loss), 4)  # ln 2
    0.6931
    """
    logits = unfold_logits(logits, fold)
    require_tensor("labels", labels, (len(logits),))
    if labels.dtype != torch.int64:
        raise TypeError(f"wanted labels to be torch.int64, given {labels.dtype}")
    if labels.device != logits.device:
        raise ValueError(
            f"wanted labels to be on {logits.device}, given a tensor on {labels.device}"
        )
    require_between("labels", labels, low=0, high=logits.shape[1] - 1)
    return F.cross_entropy(logits, labels)
