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
        (lambda: catmull_rom(0.5), TypeError, "m must be a tensor, got float"),
        (lambda: catmull_rom(ones(2).long()), TypeError, "m must be floating, got torch.int64"),
        (lambda: axis_weights([0.5], 4), TypeError, "u must be a tensor, got list"),
        (lambda: axis_weights(ones(2).int(), 4), TypeError, "u must be floating, got torch.int32"),
        (lambda: axis_weights(ones(2), 0), ValueError, "nodes must be at least 1, got 0"),
        (lambda: axis_weights(ones(2), 2.5), TypeError, "nodes must be an int, got 2.5"),
        (lambda: axis_weights(ones(2), 4, edges="wrap"), ValueError, "'linear', got 'wrap'"),
        (lambda: axis_weights(spoiled(NAN, 4), 4), ValueError, "u must be finite, got 1 .*of 4"),
        (lambda: axis_weights(spoiled(INF, 4), 4, True), ValueError, "u must be finite, got 1"),
        (lambda: grid_weights(g, 4), TypeError, "shape must be a sequence of int, got 4"),
        (lambda: grid_weights(g, ()), ValueError, "at least 1 axis, got 0"),
        (lambda: grid_weights(g, (4, 0)), ValueError, "nodes of grid axis 1 .*least 1, got 0"),
        (lambda: grid_weights(g, (4, True)), TypeError, "grid axis 1 must be an int, got True"),
        (lambda: grid_weights(g, (4, 4), (True,)), ValueError, "cyclic must have 2 .*got 1"),
        (lambda: grid_weights(g, (4, 4), True), TypeError, "a sequence of bool, got True"),
        (lambda: grid_weights(g, (4, 4), (1, 0)), TypeError, r"of bool, got \(1, 0\)"),
        (lambda: grid_weights(g, (4, 4), edges="x"), ValueError, "'clamp', 'linear', got 'x'"),
        (lambda: grid_weights(g, (4,)), ValueError, r"g .*\(batch, 1\), got \(9, 2\)"),
        (lambda: grid_weights(g[0], (4, 4)), ValueError, r"\(batch, 2\), got \(2,\)"),
        (lambda: grid_weights(g[:0], (4, 4)), ValueError, r"\(0, 2\) \(no axis may be empty"),
        (lambda: grid_weights(g.long(), (4, 4)), TypeError, "g must be floating, got .*int64"),
        (lambda: grid_weights(g * NAN, (4, 4)), ValueError, "g must be finite, got 18"),
    ]
)


test_no_module_is_built_from = each_raises(
    [
        (lambda: GridLinear(0, 4, (4,)), ValueError, "in_features must be at least 1, got 0"),
        (lambda: GridLinear(3, 4.0, (4,)), TypeError, "out_features must be an int, got 4.0"),
        (lambda: GridLinear(3, 4, (4, 0)), ValueError, "grid axis 1 must be at least 1, got 0"),
        (lambda: GridLinear(3, 4, 4), TypeError, "a sequence of int, got 4"),
        (lambda: GridLinear(3, 4, (4,), (True, False)), ValueError, "have 1 entries.*got 2"),
        (lambda: GridLinear(3, 4, (4,), edges="x"), ValueError, "edges must be one of.*got 'x'"),
        (lambda: GridLinear(3, 4, (4,), init="x"), ValueError, "'independent', 'tied', got 'x'"),
        (
            lambda: GridFunctionedNetwork(3, 8, 2, (4,), activation="swish"),
            ValueError,
            "activation must be one of 'elu', .*got 'swish'",
        ),
        (lambda: GridFunctionedNetwork(3, 0, 2, (4,)), ValueError, "hidden .*least 1, got 0"),
        (lambda: GridFunctionedNetwork(3, (8, 0), 2, (4,)), ValueError, "hidden .*1, got 0"),
        (lambda: GridFunctionedNetwork(3, 8.0, 2, (4,)), TypeError, "hidden must be an int.*8.0"),
        (lambda: GridFunctionedNetwork(3, True, 2, (4,)), TypeError, "hidden must be an int.*True"),
        (lambda: GridFunctionedNetwork(0, 8, 2, (4,)), ValueError, "in_features .*1, got 0"),
        (lambda: GridFunctionedNetwork(3, 8, 0, (4,)), ValueError, "out_features .*1, got 0"),
        (lambda: GridFunctionedNetwork(3, 8, 2, ()), ValueError, "at least 1 axis, got 0"),
        (lambda: GridFunctionedNetwork(3, 8, 2, (4,), init="x"), ValueError, "init .*got 'x'"),
        (lambda: PhaseFunctionedNetwork(3, -8, 2), ValueError, "hidden .*least 1, got -8"),
        (lambda: MLP(0, 8, 2), ValueError, "in_features must be at least 1, got 0"),
        (lambda: MLP(3, 8, 0), ValueError, "out_features must be at least 1, got 0"),
        (lambda: MLP(3, "8", 2), TypeError, "hidden must be an int, got '8'"),
        (lambda: MLP(3, 8, 2, "x"), ValueError, "activation must be one of .*got 'x'"),
        (lambda: FourierMLP(0, 8, 2), ValueError, "in_features must be at least 1, got 0"),
        (lambda: FourierMLP(3, 8, 2, 0), ValueError, "frequencies must be at least 1, got 0"),
        (lambda: FourierMLP(3, 8, 2, scale=0), ValueError, "scale must be positive .*got 0"),
        (lambda: FourierMLP(3, 8, 2, scale=NAN), ValueError, "scale must be .*got nan"),
        (lambda: FourierMLP(3, 8, 2, scale=math.inf), ValueError, "scale must be .*got inf"),
        (lambda: FourierMLP(3, 8, 2, activation="x"), ValueError, "activation .*got 'x'"),
        (lambda: ModeAdaptiveNetwork(3, 8, 2, 0), ValueError, "gate_features .*least 1, got 0"),
        (lambda: ModeAdaptiveNetwork(3, 8, 2, 2, 0), ValueError, "experts .*least 1, got 0"),
        (lambda: ModeAdaptiveNetwork(0, 8, 2, 2), ValueError, "in_features .*least 1, got 0"),
        (lambda: ModeAdaptiveNetwork(3, 8, 2, 2, 8, 0), ValueError, "hidden .*least 1, got 0"),
        (
            lambda: ModeAdaptiveNetwork(3, 8, 2, 2, activation="x"),
            ValueError,
            "activation must be one of .*got 'x'",
        ),
    ]
)


layer = GridLinear(3, 2, (5, 4))
network = GridFunctionedNetwork(3, 8, 2, (5, 4))


@pytest.mark.parametrize("module", [layer, network], ids=["layer", "network"])
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (([[1.0]], g), TypeError, "x must be a tensor, got list"),
        ((ones(9, 4), g), ValueError, r"x must have shape \(batch, 3\), got \(9, 4\)"),
        ((ones(3), g), ValueError, r"x must have shape \(batch, 3\), got \(3,\)"),
        ((ones(0, 3), g[:0]), ValueError, r"x .*got \(0, 3\) \(no axis may be empty\)"),
        ((x, ones(8, 2)), ValueError, r"g must have shape \(9, 2\), got \(8, 2\)"),
        ((x, ones(9, 3)), ValueError, r"g must have shape \(9, 2\), got \(9, 3\)"),
        ((x, ones(9)), ValueError, r"g must have shape \(9, 2\), got \(9,\)"),
        ((x, [[0.5, 0.5]] * 9), TypeError, "g must be a tensor, got list"),
        ((x.double(), g), TypeError, "x must be torch.float32 like the weights, got .*float64"),
        ((x, g.double()), TypeError, "g must be torch.float32 like the weights, got .*float64"),
        ((x, g.long()), TypeError, "g must be torch.float32 like the weights, got torch.int64"),
        ((x.to("meta"), g), ValueError, "x must be on cpu like the weights, .* on meta"),
        ((x, g.to("meta")), ValueError, "g must be on cpu like the weights, .* on meta"),
        ((spoiled(NAN, 9, 3), g), ValueError, "x must be finite, got 1 NaN or infinite of 27"),
        ((spoiled(-INF, 9, 3), g), ValueError, "x must be finite, got 1 NaN or infinite of 27"),
        ((x, spoiled(NAN, 9, 2)), ValueError, "g must be finite, got 1 NaN or infinite of 18"),
        ((x, spoiled(INF, 9, 2)), ValueError, "g must be finite, got 1 NaN or infinite of 18"),
        ((x, g, "fast"), ValueError, "'blend', 'experts', 'cells', got 'fast'"),
        ((x, g, None), ValueError, "order must be one of .*got None"),
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
        (lambda: pfnn(x, g), ValueError, r"phase must have shape \(batch\), got \(9, 2\)"),
        (lambda: pfnn(x, ones(8)), ValueError, r"g must have shape \(9, 1\), got \(8, 1\)"),
        (lambda: pfnn(x, 0.5), TypeError, "phase must be a tensor, got float"),
        (lambda: pfnn(x, spoiled(NAN, 9)), ValueError, "g must be finite, got 1"),
        (lambda: mann(ones(9, 4), g), ValueError, r"x must have shape \(batch, 3\), got \(9, 4\)"),
        (lambda: mann(x, ones(9, 3)), ValueError, r"z must have shape \(9, 2\), got \(9, 3\)"),
        (lambda: mann(x, ones(1, 2)), ValueError, r"z must have shape \(9, 2\), got \(1, 2\)"),
        (lambda: mann(x, g.double()), TypeError, "z must be torch.float32 like the weights"),
        (lambda: mann(x * NAN, g), ValueError, "x must be finite, got 27"),
        (lambda: mann(x, g * NAN), ValueError, "z must be finite, got 18"),
        (lambda: mann.omega(ones(9, 3)), ValueError, r"x .*\(batch, 2\), got \(9, 3\)"),
        (lambda: mlp(ones(9, 4)), ValueError, r"x must have shape \(batch, 3\), got \(9, 4\)"),
        (lambda: mlp(x.double()), TypeError, "x must be torch.float32 like the weights"),
        (lambda: mlp(x * NAN), ValueError, "x must be finite, got 27"),
        (lambda: fourier(ones(9, 4)), ValueError, r"x must have shape \(batch, 3\), got \(9, 4"),
        (lambda: fourier(x.double()), TypeError, "x must be torch.float32 like the weights"),
        (lambda: fourier(x * INF), ValueError, "x must be finite, got 27"),
    ]
)


# ---- where values cannot be read, and where they are not to be ----


def test_the_order_that_reads_values_is_refused_on_the_meta_device():
    meta = GridLinear(3, 2, (5, 4)).to("meta")
    with pytest.raises(ValueError, match="'blend' or 'experts' .*meta device, got 'cells'"):
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
        (lambda: layer(x.long(), g), TypeError, "x must be torch.float32 .*got torch.int64"),
        (lambda: layer(x, g.long()), TypeError, "g must be torch.float32 .*got torch.int64"),
        (lambda: mann(x, g.to("meta")), ValueError, "z must be on cpu .* on meta"),
    ],
    under=torch.autocast("cpu", torch.bfloat16),
)


@pytest.mark.parametrize("order", ["blend", "experts"])
def test_nan_in_one_sample_stays_there_where_value_checks_are_off(order):
    with value_checks(False):
        found = layer(spoiled(NAN, 9, 3), g, order)
    assert found[-1].isnan().all()
    assert found[:-1].isfinite().all()
    with pytest.raises(ValueError, match="x must be finite"):
        layer(spoiled(NAN, 9, 3), g, order)
