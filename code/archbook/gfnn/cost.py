"""What one pass costs, counted in multiply-adds."""

import math
from typing import cast

from torch import nn

from archbook.gfnn.baselines import (
    MLP,
    FourierMLP,
    ModeAdaptiveNetwork,
    PhaseFunctionedNetwork,
)
from archbook.gfnn.network import ExpertLinear, GridFunctionedNetwork, GridLinear


def multiply_adds(network: nn.Module) -> int:
    """Of one sample: the matrices' products, and the blending of parameters where there is any.

    `network` is one of this package's; others are refused with a TypeError.

    >>> multiply_adds(MLP(2, (16, 8), 1))  # 2 x 16 + 16 x 8 + 8 x 1
    168
    """
    if isinstance(network, MLP):
        return sum(cast(nn.Linear, layer).weight.numel() for layer in network.layers)
    if isinstance(network, FourierMLP):
        return network.B.numel() + multiply_adds(network.mlp)
    if not isinstance(
        network, GridFunctionedNetwork | PhaseFunctionedNetwork | ModeAdaptiveNetwork
    ):
        raise TypeError(f"wanted a network of archbook.gfnn, given {type(network).__name__}")
    layers = [cast(ExpertLinear, layer) for layer in network.layers]
    product = sum(layer.W[0].numel() for layer in layers)
    one = sum(layer.W[0].numel() + layer.b[0].numel() for layer in layers)
    if isinstance(network, ModeAdaptiveNetwork):
        return len(layers[0].W) * one + product + multiply_adds(network.gate)
    grid = cast(GridLinear, layers[0]).grid
    return math.prod(grid.block) * one + product
