"""E(n)-equivariant graph neural networks (Satorras, Hoogeboom and Welling 2021)."""

from archbook.egnn.baselines import GNN, RadialField
from archbook.egnn.graphs import complete_edges, nearest_edges, radius_edges
from archbook.egnn.layer import EGCL
from archbook.egnn.nbody import NBodyEGNN
from archbook.egnn.network import EGNN, EGNNRegressor, sum_by_graph
from archbook.egnn.schnet import SchNet

__all__ = [
    "EGCL",
    "EGNN",
    "GNN",
    "EGNNRegressor",
    "NBodyEGNN",
    "RadialField",
    "SchNet",
    "complete_edges",
    "nearest_edges",
    "radius_edges",
    "sum_by_graph",
]
