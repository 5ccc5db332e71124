"""Data sets by name and signals by equation; nothing is read or fetched before it is asked for."""

from archbook.data.fetching import DataError, DataSet, cache_dir, fetch
from archbook.data.graphs import GraphSet, community_graphs, erdos_renyi_graphs
from archbook.data.images import (
    ImageSet,
    digits,
    fashion_mnist,
    mnist,
    sign_digits,
    two_digit_crops,
)
from archbook.data.listops import ListOpsDesign, ListOpsSet, listops, root_floor
from archbook.data.locomotion import FramePairs, Gait, frame_pairs, gaits
from archbook.data.manifest import shipped, shipped_names
from archbook.data.nbody import NBodySet, nbody_set
from archbook.data.qm9 import Molecules, qm9_20k, qm9_full
from archbook.data.regressions import RegressionSet, regression_set
from archbook.data.reviews import ReviewSet, imdb
from archbook.data.sequences import (
    mackey_glass,
    nrmse,
    permuted,
    prediction_pairs,
    white_signal,
)
from archbook.data.text import TextSet, shakespeare

__all__ = [
    "DataError",
    "DataSet",
    "FramePairs",
    "Gait",
    "GraphSet",
    "ImageSet",
    "ListOpsDesign",
    "ListOpsSet",
    "Molecules",
    "NBodySet",
    "RegressionSet",
    "ReviewSet",
    "TextSet",
    "cache_dir",
    "community_graphs",
    "digits",
    "erdos_renyi_graphs",
    "fashion_mnist",
    "fetch",
    "frame_pairs",
    "gaits",
    "imdb",
    "listops",
    "mackey_glass",
    "mnist",
    "nbody_set",
    "nrmse",
    "permuted",
    "prediction_pairs",
    "qm9_20k",
    "qm9_full",
    "regression_set",
    "root_floor",
    "shakespeare",
    "shipped",
    "shipped_names",
    "sign_digits",
    "two_digit_crops",
    "white_signal",
]
