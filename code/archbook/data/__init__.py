"""Data sets by name and signals by equation; nothing is read or fetched before it is asked for."""

from archbook.data.fetching import DataError, DataSet, cache_dir, fetch
from archbook.data.graphs import GraphSet, community_graphs, erdos_renyi_graphs
from archbook.data.images import ImageSet, digits, fashion_mnist, mnist
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

__all__ = [
    "DataError",
    "DataSet",
    "FramePairs",
    "Gait",
    "GraphSet",
    "ImageSet",
    "Molecules",
    "NBodySet",
    "RegressionSet",
    "ReviewSet",
    "cache_dir",
    "community_graphs",
    "digits",
    "erdos_renyi_graphs",
    "fashion_mnist",
    "fetch",
    "frame_pairs",
    "gaits",
    "imdb",
    "mackey_glass",
    "mnist",
    "nbody_set",
    "nrmse",
    "permuted",
    "prediction_pairs",
    "qm9_20k",
    "qm9_full",
    "regression_set",
    "shipped",
    "shipped_names",
    "white_signal",
]
