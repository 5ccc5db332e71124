"""The paper's specialized CNNs at any fold: f C channels in, sqrt(f) times wider, f K logits."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from archbook.checks import require_finite, require_input, require_positive_int
from archbook.shaped import Shaped

# Nets that read text off game screens: League of Legends, Apex Legends, Sea of Thieves.
GAME_CNNS = {
    "lol-gold1": {"height": 22, "width": 52, "classes": 11, "units": 1},
    "lol-gold2": {"height": 22, "width": 52, "classes": 111, "units": 1},
    "lol-time": {"height": 15, "width": 35, "classes": 62, "units": 1},
    "apex-count": {"height": 19, "width": 25, "classes": 22, "units": 1},
    "sot-coin": {"height": 17, "width": 40, "classes": 15, "units": 1},
    "sot-time": {"height": 22, "width": 30, "classes": 27, "units": 2},
}

_FRAME = {"height": 50, "width": 50, "classes": 2}
# Nets that ask whether a frame of a video shows an object: a person, a car, a bus, a car.
NOSCOPE_CNNS = {
    "coral": {**_FRAME, "filters": 16, "dense": 128, "convs": 2},
    "night": {**_FRAME, "filters": 16, "dense": 128, "convs": 2},
    "taipei": {**_FRAME, "filters": 64, "dense": 32, "convs": 2},
    "roundabout": {**_FRAME, "filters": 32, "dense": 32, "convs": 4},
}


def folded_width(width: int, fold: int, round_to: int = 1) -> int:
    """floor(sqrt(fold) width), raised to the next multiple of `round_to`.

    Most sqrt(fold) are no integers, and half-precision kernels pad 45 channels to 48 anyway:
    round_to=8 makes use of them.

    >>> [folded_width(32, fold) for fold in (1, 2, 4)], folded_width(32, 2, round_to=8)
    ([32, 45, 64], 48)
    """
    require_positive_int("width", width)
    require_positive_int("fold", fold)
    require_positive_int("round_to", round_to)
    floor = math.isqrt(width * width * fold)  # in integers, where no rounding can go wrong
    return -(-floor // round_to) * round_to


def conv(inputs: int, outputs: int) -> list[nn.Module]:
    """A 3 x 3 convolution that keeps the size of the image, and its ReLU."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]


def pooled_size(height: int, width: int, pools: Sequence[tuple[int, int]]) -> int:
    """Pixels that (kernel, stride) poolings leave of an image; refuses one that they use up."""
    smallest = 1
    for kernel, stride in reversed(pools):
        smallest = (smallest - 1) * stride + kernel
    for name, size in (("height", height), ("width", width)):
        if size < smallest:
            raise ValueError(
                f"wanted {name} to be at least {smallest} for these pools, given {size}"
            )
    for kernel, stride in pools:
        height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
    return height * width


class FoldedNet(Shaped):
    """A CNN that answers for `fold` images in one pass: `body`, then the linear `head`.

    It reads groups, made by `fold_images`, and gives logits for `unfold_logits`. All images of a
    group share the pass, so each one's answer depends on its neighbours and on its slot.
    Subclasses build body and head; fold = 1 is the ordinary network.
    Errors: ValueError or TypeError for a wrong shape, dtype or device, for NaN.

    >>> class Line(FoldedNet):
    ...     def __init__(self, fold):
    ...         super().__init__(1, 8, 8, classes=3, fold=fold)
    ...         self.body = torch.nn.Sequential(torch.nn.Flatten())
    ...         self.head = torch.nn.Linear(fold * 64, fold * 3)
    >>> Line(fold=2)(torch.rand(5, 2, 8, 8)).shape
    torch.Size([5, 6])
    """

    shaped_by = {name: name for name in ("channels", "height", "width", "classes", "fold")}

    body: nn.Sequential
    head: nn.Linear

    def __init__(self, channels: int, height: int, width: int, *, classes: int, fold: int):
        super().__init__()
        sizes = {"channels": channels, "height": height, "width": width}
        for name, value in (sizes | {"classes": classes, "fold": fold}).items():
            require_positive_int(name, value)
        self.channels, self.height, self.width = channels, height, width
        self.classes, self.fold = classes, fold

    def reset_parameters(self) -> None:
        """Convolutions Xavier-uniform for ReLU, linear layers N(0, 0.01^2), biases 0."""
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.xavier_uniform_(part.weight, nn.init.calculate_gain("relu"))
            elif isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=0.01)
            elif isinstance(part, nn.BatchNorm2d):
                part.reset_parameters()
            if isinstance(part, nn.Conv2d | nn.Linear) and part.bias is not None:
                nn.init.zeros_(part.bias)

    def forward(
        self, x: Float[Tensor, "groups {self.fold}*{self.channels} {self.height} {self.width}"]
    ) -> Float[Tensor, "groups {self.fold}*{self.classes}"]:
        shape = ("groups", self.fold * self.channels, self.height, self.width)
        require_input("x", x, shape, next(self.parameters()))
        require_finite("x", x)
        return self.head(self.body(x))

    def extra_repr(self) -> str:
        image = f"channels={self.channels}, height={self.height}, width={self.width}"
        return f"{image}, classes={self.classes}, fold={self.fold}"


class GameCNN(FoldedNet):
    """The paper's net for colour crops of game screens, with c = 32 sqrt(f), e = 8 sqrt(f).

    conv 3f -> c, pool 3 / 2, `units` times [three convs c -> c, pool 3 / 1], conv c -> e,
    pool 3 / 2, linear -> f K. Every conv is 3 x 3 with ReLU; pools are max, kernel / stride.
    Other `filters` (c = filters sqrt(f), e a quarter of it) and `convs` in a unit than 32 and 3
    make the narrower, wider and shallower nets that a folded one is compared with.

    >>> model = GameCNN(**GAME_CNNS["lol-gold1"], fold=4)
    >>> model(fold_images(torch.rand(8, 3, 22, 52), 4)).shape  # 2 groups, 4 x 11 logits
    torch.Size([2, 44])
    """

    def __init__(
        self,
        height: int,
        width: int,
        classes: int,
        *,
        units: int,
        fold: int = 1,
        round_to: int = 1,
        filters: int = 32,
        convs: int = 3,
    ):
        super().__init__(3, height, width, classes=classes, fold=fold)
        require_positive_int("units", units)
        require_positive_int("convs", convs)
        require_positive_int("filters", filters)
        if filters < 4:
            raise ValueError(
                f"wanted filters to be at least 4, a quarter being one, given {filters}"
            )
        c, e = folded_width(filters, fold, round_to), folded_width(filters // 4, fold, round_to)
        pixels = pooled_size(height, width, [(3, 2), *[(3, 1)] * units, (3, 2)])
        parts = [*conv(3 * fold, c), nn.MaxPool2d(3, 2)]
        for _ in range(units):
            for _ in range(convs):
                parts += conv(c, c)
            parts.append(nn.MaxPool2d(3, 1))
        self.body = nn.Sequential(*parts, *conv(c, e), nn.MaxPool2d(3, 2), nn.Flatten())
        self.head = nn.Linear(e * pixels, fold * classes)
        self.reset_parameters()


class NoScopeCNN(FoldedNet):
    """The paper's net for video frames (from NoScope, Kang et al. 2017), F = filters sqrt(f).

    Two convs C f -> F -> F, pool 2 / 2; with convs=4 two more to 2F and another pool; linear to
    dense sqrt(f), ReLU; linear -> f K.

    >>> model = NoScopeCNN(**NOSCOPE_CNNS["night"])
    >>> model(torch.rand(2, 3, 50, 50)).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        height: int,
        width: int,
        classes: int,
        *,
        filters: int,
        dense: int,
        convs: int = 2,
        channels: int = 3,
        fold: int = 1,
        round_to: int = 1,
    ):
        super().__init__(channels, height, width, classes=classes, fold=fold)
        if convs not in (2, 4):
            raise ValueError(f"wanted convs to be 2 or 4, given {convs}")
        require_positive_int("filters", filters)
        require_positive_int("dense", dense)
        pixels = pooled_size(height, width, [(2, 2)] * (convs // 2))
        last, parts = channels * fold, []
        for block in range(convs // 2):
            F = folded_width(filters * 2**block, fold, round_to)
            parts += [*conv(last, F), *conv(F, F), nn.MaxPool2d(2)]
            last = F
        D = folded_width(dense, fold, round_to)
        linear = nn.Linear(last * pixels, D)
        self.body = nn.Sequential(*parts, nn.Flatten(), linear, nn.ReLU(inplace=True))
        self.head = nn.Linear(D, fold * classes)
        self.reset_parameters()


class Sizes(NamedTuple):
    """What others must know of a folded net."""

    fold: int
    classes: int
    channels: int
    height: int
    width: int


def sizes_of(model: nn.Module) -> Sizes:
    """The sizes that `model` names, as every `FoldedNet` does; refuses one that does not."""
    found = []
    for name in Sizes._fields:
        value = getattr(model, name, None)
        if not isinstance(value, int):
            raise TypeError(
                f"wanted model to have an int {name}, as a FoldedNet has, "
                f"given {type(model).__name__} with {value!r}"
            )
        found.append(value)
    return Sizes(*found)
