"""FLOPs, bytes and their ratio: what a network costs, known before it runs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from archbook.checks import require_positive_int
from archbook.folded_cnn.networks import Sizes, sizes_of


@dataclass(frozen=True, kw_only=True)
class Work:
    """The FLOPs and bytes of a step of `images` images, every tensor being moved once.

    flops: 2 a multiply-add. bias_flops: 1 an output that has a bias. activation_bytes: what a layer
    reads and writes. weight_bytes: its weights without the biases, read once a step.
    """

    images: int
    flops: int | float
    bias_flops: int | float
    activation_bytes: int | float
    weight_bytes: int

    @property
    def bytes(self) -> int | float:
        return self.activation_bytes + self.weight_bytes

    @property
    def intensity(self) -> float:
        """I(N) = FLOPs / bytes."""
        return (self.flops + self.bias_flops) / self.bytes

    @property
    def intensity_limit(self) -> float:
        """I(N) for N to infinity, where nobody pays for the weights: more images cannot help."""
        return (self.flops + self.bias_flops) / self.activation_bytes

    @property
    def half_images(self) -> float:
        """N_half, at which I(N) is half of its limit: weights are then half of the bytes."""
        return self.images * self.weight_bytes / self.activation_bytes

    def roofline(self, peak_flops: float, bandwidth: float) -> float:
        """FLOP/s that can be reached, min(peak_flops, I bandwidth), with bandwidth in bytes/s.

        Below the ridge, I = peak_flops / bandwidth, memory is the limit; above, arithmetic.
        """
        for name, value in (("peak_flops", peak_flops), ("bandwidth", bandwidth)):
            if not 0 < value < math.inf:
                raise ValueError(f"wanted {name} to be positive and finite, given {value}")
        return min(peak_flops, self.intensity * bandwidth)


@dataclass(frozen=True, kw_only=True)
class LayerCost(Work):
    """The work of one convolution or linear layer.

    >>> layer = cost(GameCNN(**GAME_CNNS["lol-gold1"]), images=64).layers[1]
    >>> layer.name, layer.flops, round(layer.intensity)
    ('body.3', 294912000, 143)
    >>> layer.roofline(peak_flops=1e12, bandwidth=2e9) < 1e12  # memory is the limit
    True
    """

    name: str

    @property
    def best_fold(self) -> float:
        """f*, where a middle layer moves the fewest bytes, activations / sqrt(f) + f weights.

        The derivative is zero at f* = (activations / (2 weights))^(2/3), for a conv C -> C
        (N H W / (k^2 C))^(2/3). Counted from the present width: below 1, it is folded too far.
        """
        return (self.activation_bytes / (2 * self.weight_bytes)) ** (2 / 3)


@dataclass(frozen=True, kw_only=True)
class Cost(Work):
    """The sums over all layers, and the layers. A network's intensity is a ratio of sums.

    >>> found = cost(GameCNN(**GAME_CNNS["lol-gold1"]), images=64)
    >>> len(found.layers), f"{found.intensity:.0f} FLOPs a byte"
    (6, '87 FLOPs a byte')
    >>> round(found.flops_ratio(4), 2)  # folded four times, an image costs more by
    1.12
    """

    layers: tuple[LayerCost, ...]

    def flops_ratio(self, fold: int) -> float:
        """r(f) = 1 + (sqrt(f) - 1) s: FLOPs an image after folding f times, over those before.

        s is the share of the first and last layer, whose work grows by sqrt(f); that of all others
        stays. Exact where sqrt(f) is an integer, else widths are cut off.
        """
        require_positive_int("fold", fold)
        s = (self.layers[0].flops + self.layers[-1].flops) / self.flops
        return 1 + (math.sqrt(fold) - 1) * s


def cost(model: nn.Module, images: int, dtype: torch.dtype = torch.float16) -> Cost:
    """Count the convolutions and linear layers of a folded net, on the meta device: nothing runs.

    Images are counted singly, whatever the fold: a step of N has N / f groups, also where that is
    no integer. What is whole is an int. ReLU, pools, batch norm and skips are left out: fused into
    the layer before, they move nothing. `dtype` is that of the numbers moved, not the model's.

    >>> net = GameCNN(**GAME_CNNS["lol-gold1"])
    >>> one, many = cost(net, images=1), cost(net, images=1024)
    >>> f"{one.intensity:.0f} to {many.intensity:.0f}, limit {one.intensity_limit:.0f}"
    '65 to 87, limit 87'
    """
    sizes = sizes_of(model)
    require_positive_int("images", images)
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"wanted dtype to be a torch.dtype, given {dtype!r}")
    counts = _counts(model, sizes)

    def step(group: Sequence[int], weights: int) -> dict[str, Any]:
        flops, bias_flops, activations = (n * images for n in group)
        return {
            "images": images,
            "flops": _share(flops, sizes.fold),
            "bias_flops": _share(bias_flops, sizes.fold),
            "activation_bytes": _share(activations * dtype.itemsize, sizes.fold),
            "weight_bytes": weights * dtype.itemsize,
        }

    layers = tuple(LayerCost(name=c.name, **step(c.group, c.weights)) for c in counts)
    totals = [sum(column) for column in zip(*(c.group for c in counts), strict=True)]
    return Cost(layers=layers, **step(totals, sum(c.weights for c in counts)))


class _Count(NamedTuple):
    """One layer: FLOPs, FLOPs of biases and numbers read and written a group; its weights."""

    name: str
    group: tuple[int, int, int]
    weights: int


@torch.no_grad()
def _counts(model: nn.Module, sizes: Sizes) -> list[_Count]:
    """One group through the model, with weights and running means that have no values."""
    counts: list[_Count] = []

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def count(layer, inputs, output) -> None:
            flops = 2 * output.numel() * layer.weight[0].numel()  # each output: one filter
            bias_flops = 0 if layer.bias is None else output.numel()
            activations = inputs[0].numel() + output.numel()
            group = (flops, bias_flops, activations)
            counts.append(_Count(name, group, layer.weight.numel()))

        return count

    handles = [
        part.register_forward_hook(hook(name))
        for name, part in model.named_modules()
        if isinstance(part, nn.Conv2d | nn.Linear)
    ]
    state = {name: value.to("meta") for name, value in model.named_parameters()}
    state |= {name: value.to("meta") for name, value in model.named_buffers()}
    like = next(iter(state.values()))
    group = like.new_empty(1, sizes.fold * sizes.channels, sizes.height, sizes.width)
    try:
        functional_call(model, state, (group,))
    finally:
        for handle in handles:
            handle.remove()
    return counts


def _share(total: int, fold: int) -> int | float:
    return total / fold if total % fold else total // fold
