"""The folded net in which nothing is shared: f networks side by side, blocks on the diagonal."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from archbook.folded_cnn.networks import FoldedNet

SIZES = ("in_channels", "out_channels", "in_features", "out_features", "num_features")


def block_diagonal(nets: Sequence[FoldedNet]) -> FoldedNet:
    """One net of fold f = len(nets) whose slot j is nets[j]: no image sees its neighbours.

    f times the width, not sqrt(f), and zeros off the diagonal: f times the FLOPs of each image,
    which is why nobody runs it. It shows that a folded net can be f separate ones, and what the
    mixing of the slots changes. `nets` are of fold 1 and built alike; their weights are copied.

    >>> nets = [NoScopeCNN(16, 16, classes=2, filters=4, dense=8) for _ in range(2)]
    >>> images = torch.rand(2, 3, 16, 16)
    >>> logits = unfold_logits(block_diagonal(nets)(fold_images(images, 2)), 2)
    >>> torch.allclose(logits[1:], nets[1](images[1:]), atol=1e-6)  # it sees no neighbour
    True
    """
    if not nets or any(not isinstance(net, FoldedNet) or net.fold != 1 for net in nets):
        given = ", ".join(f"{type(net).__name__} of {getattr(net, 'fold', None)}" for net in nets)
        raise ValueError(f"wanted networks of fold 1, given {given or 'none'}")
    for net in nets:
        if _kind(net) != _kind(nets[0]):
            raise ValueError(f"wanted networks built alike, given {nets[0]} and {net}")
    merged, fold = copy.deepcopy(nets[0]), len(nets)
    merged.fold = fold
    for name, part in merged.named_modules():
        slots = [net.get_submodule(name) for net in nets]
        for key, _ in list(part.named_parameters(recurse=False)):
            setattr(part, key, nn.Parameter(_side_by_side([getattr(slot, key) for slot in slots])))
        for key, _ in list(part.named_buffers(recurse=False)):
            setattr(part, key, _side_by_side([getattr(slot, key) for slot in slots]))
        for size in SIZES:
            if hasattr(part, size):
                setattr(part, size, fold * getattr(part, size))
    return merged


def _kind(net: FoldedNet) -> tuple[str, list[tuple]]:
    """All in which networks must agree: layers, sizes, dtype and device."""
    return repr(net), [(value.shape, value.dtype, value.device) for value in net.parameters()]


@torch.no_grad()
def _side_by_side(values: Sequence[Tensor]) -> Tensor:
    """Weights (out, in, ...) as one (f out, f in, ...), zero off the diagonal; vectors as one."""
    if values[0].ndim == 0:  # how many batches batch norm has seen
        return values[0].clone()
    if values[0].ndim == 1:
        return torch.cat(list(values))
    outputs, inputs, *kernel = values[0].shape
    whole = values[0].new_zeros(len(values) * outputs, len(values) * inputs, *kernel)
    for j, value in enumerate(values):
        whole[j * outputs : (j + 1) * outputs, j * inputs : (j + 1) * inputs] = value
    return whole
