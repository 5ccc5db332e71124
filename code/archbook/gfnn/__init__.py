"""Grid-functioned neural networks (Dehesa, Vidler, Padget and Lutteroth 2021)."""

from archbook.gfnn.baselines import (
    MLP,
    FourierMLP,
    ModeAdaptiveNetwork,
    PhaseFunctionedNetwork,
)
from archbook.gfnn.cost import multiply_adds
from archbook.gfnn.network import GridFunctionedNetwork, GridLinear
from archbook.gfnn.weights import axis_weights, catmull_rom, grid_weights

__all__ = [
    "MLP",
    "FourierMLP",
    "GridFunctionedNetwork",
    "GridLinear",
    "ModeAdaptiveNetwork",
    "PhaseFunctionedNetwork",
    "axis_weights",
    "catmull_rom",
    "grid_weights",
    "multiply_adds",
]
