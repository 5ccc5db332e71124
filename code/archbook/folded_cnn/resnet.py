"""A general network folded: the ResNet-18 for pictures of 32 x 32 (He et al., 2016)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archbook.checks import require_positive_int
from archbook.folded_cnn.networks import FoldedNet, folded_width


def normed(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    """A convolution without bias, then batch norm, whose shift is the bias."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """y = relu(conv(relu(conv(x))) + x); where the shape changes, x goes through a 1 x 1 conv."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first, self.second = (
            normed(inputs, outputs, 3, stride=stride),
            normed(outputs, outputs, 3),
        )
        same = stride == 1 and inputs == outputs
        self.skip = nn.Identity() if same else normed(inputs, outputs, 1, stride=stride)

    def forward(
        self, x: Float[Tensor, "groups inputs height width"]
    ) -> Float[Tensor, "groups outputs rows cols"]:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.skip(x))


class FoldedResNet18(FoldedNet):
    """ResNet-18 for 3 x 32 x 32 pictures, 3 x 3 stem, widths filters sqrt(f) (1, 2, 4, 8).

    Deviates from the paper: folds that are no squares are allowed, with the widths of the other
    nets; the authors' code has them for f = 1, 4, 9, ... only.

    >>> model = FoldedResNet18(10, filters=8, fold=4)
    >>> groups = fold_images(torch.rand(8, 3, 32, 32), 4)
    >>> model(groups).shape, unfold_logits(model(groups), 4).shape
    (torch.Size([2, 40]), torch.Size([8, 10]))
    """

    def __init__(self, classes: int, filters: int = 64, fold: int = 1, *, round_to: int = 1):
        super().__init__(3, 32, 32, classes=classes, fold=fold)
        require_positive_int("filters", filters)
        last = folded_width(filters, fold, round_to)
        parts = [normed(3 * fold, last, 3), nn.ReLU(inplace=True)]
        for stage in range(4):
            width = folded_width(filters * 2**stage, fold, round_to)
            stride = 1 if stage == 0 else 2
            parts += [BasicBlock(last, width, stride), BasicBlock(width, width, 1)]
            last = width
        self.body = nn.Sequential(*parts, nn.AvgPool2d(4), nn.Flatten())
        self.head = nn.Linear(last, fold * classes)
        self.reset_parameters()
