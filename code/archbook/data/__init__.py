"""Data sets by name and signals by equation; nothing is read or fetched before it is asked for."""

from archbook.data.fetching import DataError, DataSet, cache_dir, fetch
from archbook.data.images import ImageSet, digits, fashion_mnist, mnist
from archbook.data.manifest import shipped, shipped_names
from archbook.data.reviews import ReviewSet, imdb
from archbook.data.sequences import (
    mackey_glass,
    nrmse,
    permuted,
    prediction_pairs,
    white_signal,
)

__all__ = [
    "DataError",
    "DataSet",
    "ImageSet",
    "ReviewSet",
    "cache_dir",
    "digits",
    "fashion_mnist",
    "fetch",
    "imdb",
    "mackey_glass",
    "mnist",
    "nrmse",
    "permuted",
    "prediction_pairs",
    "shipped",
    "shipped_names",
    "white_signal",
]
