"""Data sets by name and signals by equation; nothing is read or fetched before it is asked for.

Here are the functions that give data, and what fetching needs. The types they return, the rules by
which a set was made and its constants are imported from the set's own file.
"""

from archbook.data.alignments import esm_example
from archbook.data.families import family, split_families
from archbook.data.fetching import DataError, DataSet, cache_dir, fetch
from archbook.data.graphs import community_graphs, erdos_renyi_graphs
from archbook.data.images import digits, fashion_mnist, mnist, sign_digits, two_digit_crops
from archbook.data.listops import listops
from archbook.data.locomotion import frame_pairs, gaits
from archbook.data.manifest import shipped, shipped_names
from archbook.data.nbody import nbody_set
from archbook.data.potts import potts_families
from archbook.data.qm9 import qm9_20k, qm9_full
from archbook.data.regressions import regression_set
from archbook.data.reviews import imdb
from archbook.data.rna import rna_families
from archbook.data.sequences import (
    mackey_glass,
    nrmse,
    permuted,
    prediction_pairs,
    white_signal,
)
from archbook.data.text import shakespeare

__all__ = [
    "DataError",
    "DataSet",
    "cache_dir",
    "community_graphs",
    "digits",
    "erdos_renyi_graphs",
    "esm_example",
    "family",
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
    "potts_families",
    "prediction_pairs",
    "qm9_20k",
    "qm9_full",
    "regression_set",
    "rna_families",
    "shakespeare",
    "shipped",
    "shipped_names",
    "sign_digits",
    "split_families",
    "two_digit_crops",
    "white_signal",
]
