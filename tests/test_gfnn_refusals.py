"""What the GFNN, its layers, weights and baselines refuse, with the wanted and the given named."""

import math

import pytest
import torch
from refusals import INF, NAN, each_raises, spoiled

from archbook.checks import value_checks
from archbook.gfnn import (
    MLP,
    FourierMLP,
    GridFunctionedNetwork,
    GridLinear,
    ModeAdaptiveNetwork,
    PhaseFunctionedNetwork,
    axis_weights,
    catmull_rom,
    grid_weights,
)

ones = torch.ones
x, g = ones(9, 3), ones(9, 2)


test_no_weights_come_from = each_raises(
    [
        (lambda: catmull_rom(0.5), TypeError, "m to be a tensor, given float"),
        (lambda: catmull_rom(ones(2).long()), TypeError, "m to be floating, given torch.int64"),
        (lambda: axis_weights([0.5], 4), TypeError, "u to be a tensor, given list"),
        (lambda: axis_weights(ones(2).int(), 4), TypeError, "u to be floating, given torch.int32"),
        (lambda: axis_weights(ones(2), 0), ValueError, "nodes to be at least 1, given 0"),
        (lambda: axis_weights(ones(2), 2.5), TypeError, "nodes to be an int, given 2.5"),
        (lambda: axis_weights(ones(2), 4, edges="wrap"), ValueError, "'linear', given 'wrap'"),
        (lambda: axis_weights(spoiled(NAN, 4), 4), ValueError, "u to be finite, given 1 .*of 4"),
        (lambda: axis_weights(spoiled(INF, 4), 4, True), ValueError, "u to be finite, given 1"),
        (lambda: grid_weights(g, 4), TypeError, "shape to be a sequence of int, given 4"),
        (lambda: grid_weights(g, ()), ValueError, "at least 1 axis, given 0"),
        (lambda: grid_weights(g, (4, 0)), ValueError, "nodes of grid axis 1 .*least 1, given 0"),
        (lambda: grid_weights(g, (4, True)), TypeError, "grid axis 1 to be an int, given True"),
        (lambda: grid_weights(g, (4, 4), (True,)), ValueError, "cyclic to have 2 .*given 1"),
        (lambda: grid_weights(g, (4, 4), True), TypeError, "a sequence of bool, given True"),
        (lambda: grid_weights(g, (4, 4), (1, 0)), TypeError, r"of bool, given \(1, 0\)"),
        (lambda: grid_weights(g, (4, 4), edges="x"), ValueError, "'clamp', 'linear', given 'x'"),
        (lambda: grid_weights(g, (4,)), ValueError, r"g .*\(batch, 1\), given \(9, 2\)"),
        (lambda: grid_weights(g[0], (4, 4)), ValueError, r"\(batch, 2\), given \(2,\)"),
        (lambda: grid_weights(g[:0], (4, 4)), ValueError, r"\(0, 2\) \(no axis may be empty"),
        (lambda: grid_weights(g.long(), (4, 4)), TypeError, "g to be floating, given .*int64"),
        (lambda: grid_weights(g * NAN, (4, 4)), ValueError, "g to be finite, given 18"),
    ]
)


test_no_module_is_built_from = each_raises(
    [
        (lambda: GridLinear(0, 4, (4,)), ValueError, "in_features to be at least 1, given 0"),
        (lambda: GridLinear(3, 4.0, (4,)), TypeError, "out_features to be an int, given 4.0"),
        (lambda: GridLinear(3, 4, (4, 0)), ValueError, "grid axis 1 to be at least 1, given 0"),
        (lambda: GridLinear(3, 4, 4), TypeError, "a sequence of int, given 4"),
        (
            lambda: GridLinear(3, 4, (4,), cyclic=(True, False)),
            ValueError,
            "have 1 entries.*given 2",
        ),
        (lambda: GridLinear(3, 4, (4,), edges="x"), ValueError, "edges to be one of.*given 'x'"),
        (lambda: GridLinear(3, 4, (4,), init="x"), ValueError, "'independent', 'tied', given 'x'"),
        (
            lambda: GridFunctionedNetwork(3, 8, 2, grid_shape=(4,), activation="swish"),
            ValueError,
            "activation to be one of 'elu', .*given 'swish'",
        ),
        (
            lambda: GridFunctionedNetwork(3, 0, 2, grid_shape=(4,)),
            ValueError,
            "hidden .*least 1, given 0",
        ),
        (
            lambda: GridFunctionedNetwork(3, (8, 0), 2, grid_shape=(4,)),
            ValueError,
            "hidden .*1, given 0",
        ),
        (
            lambda: GridFunctionedNetwork(3, 8.0, 2, grid_shape=(4,)),
            TypeError,
            "hidden to be an int.*8.0",
        ),
        (
            lambda: GridFunctionedNetwork(3, True, 2, grid_shape=(4,)),
            TypeError,
            "hidden to be an int.*True",
        ),
        (
            lambda: GridFunctionedNetwork(0, 8, 2, grid_shape=(4,)),
            ValueError,
            "in_features .*1, given 0",
        ),
        (
            lambda: GridFunctionedNetwork(3, 8, 0, grid_shape=(4,)),
            ValueError,
            "out_features .*1, given 0",
        ),
        (
            lambda: GridFunctionedNetwork(3, 8, 2, grid_shape=()),
            ValueError,
            "at least 1 axis, given 0",
        ),
        (
            lambda: GridFunctionedNetwork(3, 8, 2, grid_shape=(4,), init="x"),
            ValueError,
            "init .*given 'x'",
        ),
        (lambda: PhaseFunctionedNetwork(3, -8, 2), ValueError, "hidden .*least 1, given -8"),
        (lambda: MLP(0, 8, 2), ValueError, "in_features to be at least 1, given 0"),
        (lambda: MLP(3, 8, 0), ValueError, "out_features to be at least 1, given 0"),
        (lambda: MLP(3, "8", 2), TypeError, "hidden to be an int, given '8'"),
        (lambda: MLP(3, 8, 2, activation="x"), ValueError, "activation to be one of .*given 'x'"),
        (lambda: FourierMLP(0, 8, 2), ValueError, "in_features to be at least 1, given 0"),
        (
            lambda: FourierMLP(3, 8, 2, frequencies=0),
            ValueError,
            "frequencies to be at least 1, given 0",
        ),
        (lambda: FourierMLP(3, 8, 2, scale=0), ValueError, "scale to be positive .*given 0"),
        (lambda: FourierMLP(3, 8, 2, scale=NAN), ValueError, "scale to be .*given nan"),
        (lambda: FourierMLP(3, 8, 2, scale=math.inf), ValueError, "scale to be .*given inf"),
        (lambda: FourierMLP(3, 8, 2, activation="x"), ValueError, "activation .*given 'x'"),
        (
            lambda: ModeAdaptiveNetwork(3, 8, 2, gate_features=0),
            ValueError,
            "gate_features .*least 1, given 0",
        ),
        (
            lambda: ModeAdaptiveNetwork(3, 8, 2, gate_features=2, experts=0),
            ValueError,
            "experts .*least 1, given 0",
        ),
        (
            lambda: ModeAdaptiveNetwork(0, 8, 2, gate_features=2),
            ValueError,
            "in_features .*least 1, given 0",
        ),
        (
            lambda: ModeAdaptiveNetwork(3, 8, 2, gate_features=2, experts=8, gate_hidden=0),
            ValueError,
            "hidden .*least 1, given 0",
        ),
        (
            lambda: ModeAdaptiveNetwork(3, 8, 2, gate_features=2, activation="x"),
            ValueError,
            "activation to be one of .*given 'x'",
        ),
    ]
)


layer = GridLinear(3, 2, (5, 4))
network = GridFunctionedNetwork(3, 8, 2, grid_shape=(5, 4))


@pytest.mark.parametrize("module", [layer, network], ids=["layer", "network"])
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (([[1.0]], g), TypeError, "x to be a tensor, given list"),
        ((ones(9, 4), g), ValueError, r"x to have shape \(batch, 3\), given \(9, 4\)"),
        ((ones(3), g), ValueError, r"x to have shape \(batch, 3\), given \(3,\)"),
        ((ones(0, 3), g[:0]), ValueError, r"x .*given \(0, 3\) \(no axis may be empty\)"),
        ((x, ones(8, 2)), ValueError, r"g to have shape \(9, 2\), given \(8, 2\)"),
        ((x, ones(9, 3)), ValueError, r"g to have shape \(9, 2\), given \(9, 3\)"),
        ((x, ones(9)), ValueError, r"g to have shape \(9, 2\), given \(9,\)"),
        ((x, [[0.5, 0.5]] * 9), TypeError, "g to be a tensor, given list"),
        ((x.double(), g), TypeError, "x to be torch.float32 like the weights, given .*float64"),
        ((x, g.double()), TypeError, "g to be torch.float32 like the weights, given .*float64"),
        ((x, g.long()), TypeError, "g to be torch.float32 like the weights, given torch.int64"),
        ((x.to("meta"), g), ValueError, "x to be on cpu like the weights, .* on meta"),
        ((x, g.to("meta")), ValueError, "g to be on cpu like the weights, .* on meta"),
        ((spoiled(NAN, 9, 3), g), ValueError, "x to be finite, given 1 NaN or infinite of 27"),
        ((spoiled(-INF, 9, 3), g), ValueError, "x to be finite, given 1 NaN or infinite of 27"),
        ((x, spoiled(NAN, 9, 2)), ValueError, "g to be finite, given 1 NaN or infinite of 18"),
        ((x, spoiled(INF, 9, 2)), ValueError, "g to be finite, given 1 NaN or infinite of 18"),
        ((x, g, "fast"), ValueError, "'blend', 'experts', 'cells', given 'fast'"),
        ((x, g, None), ValueError, "order to be one of .*given None"),
    ],
)
def test_the_layer_and_the_network_refuse(module, call, error, message):
    with pytest.raises(error, match=message):
        module(*call)


pfnn = PhaseFunctionedNetwork(3, 8, 2)
mann = ModeAdaptiveNetwork(3, 8, 2, gate_features=2)
mlp, fourier = MLP(3, 8, 2), FourierMLP(3, 8, 2)


test_the_baselines_refuse = each_raises(
    [
        (lambda: pfnn(x, g), ValueError, r"phase to have shape \(9\), given \(9, 2\)"),
        (lambda: pfnn(x, ones(8)), ValueError, r"phase to have shape \(9\), given \(8,\)"),
        (lambda: pfnn(x, 0.5), TypeError, "phase to be a tensor, given float"),
        (lambda: pfnn(x, spoiled(NAN, 9)), ValueError, "phase to be finite, given 1"),
        (lambda: mann(ones(9, 4), g), ValueError, r"x to have shape \(batch, 3\), given \(9, 4\)"),
        (lambda: mann(x, ones(9, 3)), ValueError, r"z to have shape \(9, 2\), given \(9, 3\)"),
        (lambda: mann(x, ones(1, 2)), ValueError, r"z to have shape \(9, 2\), given \(1, 2\)"),
        (lambda: mann(x, g.double()), TypeError, "z to be torch.float32 like the weights"),
        (lambda: mann(x * NAN, g), ValueError, "x to be finite, given 27"),
        (lambda: mann(x, g * NAN), ValueError, "z to be finite, given 18"),
        (lambda: mann.omega(ones(9, 3)), ValueError, r"z .*\(batch, 2\), given \(9, 3\)"),
        (lambda: mlp(ones(9, 4)), ValueError, r"x to have shape \(batch, 3\), given \(9, 4\)"),
        (lambda: mlp(x.double()), TypeError, "x to be torch.float32 like the weights"),
        (lambda: mlp(x * NAN), ValueError, "x to be finite, given 27"),
        (lambda: fourier(ones(9, 4)), ValueError, r"x to have shape \(batch, 3\), given \(9, 4"),
        (lambda: fourier(x.double()), TypeError, "x to be torch.float32 like the weights"),
        (lambda: fourier(x * INF), ValueError, "x to be finite, given 27"),
    ]
)


# ---- where values cannot be read, and where they are not to be ----


def test_the_order_that_reads_values_is_refused_on_the_meta_device():
    meta = GridLinear(3, 2, (5, 4)).to("meta")
    with pytest.raises(ValueError, match="'blend' or 'experts' .*meta device .*, given 'cells'"):
        meta(x.to("meta"), g.to("meta"), "cells")


@pytest.mark.compile
def test_the_order_that_reads_values_is_refused_while_compiling():
    torch.compiler.reset()
    run = torch.compile(layer, fullgraph=True, backend="eager")
    with pytest.raises(Exception, match="'blend' or 'experts' while compiling"):
        run(x, g, "cells")


def test_a_place_outside_a_grid_is_not_refused():
    assert layer(x, 3 * g).isfinite().all()
    assert grid_weights(-g, (5, 4)).isfinite().all()


test_under_autocast_they_still_refuse = each_raises(
    [
        (lambda: layer(x.long(), g), TypeError, "x to be torch.float32 .*given torch.int64"),
        (lambda: layer(x, g.long()), TypeError, "g to be torch.float32 .*given torch.int64"),
        (lambda: mann(x, g.to("meta")), ValueError, "z to be on cpu .* on meta"),
    ],
    under=torch.autocast("cpu", torch.bfloat16),
)


@pytest.mark.parametrize("order", ["blend", "experts"])
def test_nan_in_one_sample_stays_there_where_value_checks_are_off(order):
    with value_checks(False):
        found = layer(spoiled(NAN, 9, 3), g, order)
    assert found[-1].isnan().all()
    assert found[:-1].isfinite().all()
    with pytest.raises(ValueError, match="x to be finite"):
        layer(spoiled(NAN, 9, 3), g, order)
