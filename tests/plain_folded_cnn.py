"""Folded CNNs written slowly from the paper, in NumPy; and what several test files need."""

import numpy as np
import torch
from drawing import normal
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor, nn

from archbook.folded_cnn import FoldedNet, FoldedResNet18, GameCNN, NoScopeCNN

# Small nets of every kind; odd sizes, so that no axis can be taken for another.
NETS = {
    "game": lambda fold=1: GameCNN(12, 15, 5, units=1, fold=fold),
    "game-2": lambda fold=1: GameCNN(15, 16, 3, units=2, fold=fold),
    "noscope": lambda fold=1: NoScopeCNN(5, 7, 3, filters=4, dense=6, channels=2, fold=fold),
    "noscope-4": lambda fold=1: NoScopeCNN(9, 6, 2, filters=3, dense=5, convs=4, fold=fold),
    "resnet": lambda fold=1: FoldedResNet18(4, 3, fold),
}


@torch.no_grad()
def with_drawn_statistics(net: FoldedNet, seed: int = 0) -> FoldedNet:
    """The net in float64 with weights and running means that keep every layer at order one."""
    for k, (name, value) in enumerate(net.double().state_dict().items()):
        if value.ndim > 1:
            value.copy_(normal(*value.shape, seed=seed + k) * (2 / value[0].numel()) ** 0.5)
        elif name.endswith("running_var"):
            value.copy_(0.5 + normal(*value.shape, seed=seed + k).square())
        elif value.ndim == 1:
            value.copy_(0.3 * normal(*value.shape, seed=seed + k) + ("weight" in name))
    return net.eval()


def net_of(name: str, fold: int = 1, seed: int = 0) -> FoldedNet:
    return with_drawn_statistics(NETS[name](fold), seed)


def images_for(net: FoldedNet, images: int, seed: int = 1) -> Tensor:
    return normal(images, net.channels, net.height, net.width, seed=seed)


def slow_fold(x: Tensor, fold: int) -> Tensor:
    """Channel block j of group i is image i f + j, one number at a time."""
    images, channels, height, width = x.shape
    folded = torch.empty(images // fold, fold * channels, height, width, dtype=x.dtype)
    for i in range(images // fold):
        for j in range(fold):
            for c in range(channels):
                folded[i, j * channels + c] = x[i * fold + j, c]
    return folded


def slow_answers(net: FoldedNet, x: Tensor) -> Tensor:
    """The K logits of every image: each group through `slow_net`, each slot's block of logits."""
    out = slow_net(net, slow_fold(x, net.fold))
    rows = [
        out[i, j * net.classes :][: net.classes] for i in range(len(out)) for j in range(net.fold)
    ]
    return torch.stack(rows)


# ---- the networks of the paper ----


def slow_net(net: FoldedNet, groups: Tensor) -> Tensor:
    """The logits of groups, by the paper's order of layers and the net's weights in theirs."""
    weights = iter([value.numpy() for value in net.state_dict().values()])
    if isinstance(net, GameCNN):
        x = slow_game(
            groups.numpy(), weights, sum(isinstance(p, nn.MaxPool2d) for p in net.body) - 2
        )
    elif isinstance(net, NoScopeCNN):
        x = slow_noscope(groups.numpy(), weights, sum(isinstance(p, nn.Conv2d) for p in net.body))
    else:
        x = slow_resnet(groups.numpy(), weights)
    assert next(weights, None) is None
    return torch.from_numpy(x)


def slow_game(x, w, units):
    x = pool(relu(conv(x, next(w)) + bias(w)), 3, 2)
    for _ in range(units):
        for _ in range(3):
            x = relu(conv(x, next(w)) + bias(w))
        x = pool(x, 3, 1)
    x = pool(relu(conv(x, next(w)) + bias(w)), 3, 2)
    return x.reshape(len(x), -1) @ next(w).T + next(w)


def slow_noscope(x, w, convs):
    for _ in range(convs // 2):
        x = relu(conv(x, next(w)) + bias(w))
        x = pool(relu(conv(x, next(w)) + bias(w)), 2, 2)
    x = relu(x.reshape(len(x), -1) @ next(w).T + next(w))
    return x @ next(w).T + next(w)


def slow_resnet(x, w):
    x = relu(norm(conv(x, next(w)), w))
    for block in range(8):
        stride = 2 if block in (2, 4, 6) else 1
        y = relu(norm(conv(x, next(w), stride), w))
        y = norm(conv(y, next(w)), w)
        x = relu(y + (norm(conv(x, next(w), stride, 0), w) if stride == 2 else x))
    return x.mean((2, 3)) @ next(w).T + next(w)


def conv(x, weight, stride=1, padding=1):
    k = weight.shape[-1]
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    patches = sliding_window_view(x, (k, k), (2, 3))[:, :, ::stride, ::stride]
    return np.einsum("nihwkl,oikl->nohw", patches, weight)


def bias(w):
    return next(w)[:, None, None]


def relu(x):
    return np.maximum(x, 0)


def pool(x, kernel, stride):
    return sliding_window_view(x, (kernel, kernel), (2, 3))[:, :, ::stride, ::stride].max((4, 5))


def norm(x, w):
    """Batch norm as in evaluation."""
    gain, shift, mean, variance, _ = (next(w) for _ in range(5))
    scaled = (x - mean[:, None, None]) / np.sqrt(variance + 1e-5)[:, None, None]
    return scaled * gain[:, None, None] + shift[:, None, None]
