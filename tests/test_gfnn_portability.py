"""The GFNN and its baselines in every dtype, place and form of running that torch knows."""

import copy

import pytest
import torch
from drawing import seeded
from portability import Portability, as_leaves, compiled, to
from torch import Tensor

from archbook.gfnn import (
    MLP,
    FourierMLP,
    GridFunctionedNetwork,
    GridLinear,
    ModeAdaptiveNetwork,
    PhaseFunctionedNetwork,
    grid_weights,
)

GRID = {"grid_shape": (6, 5), "cyclic": (False, True)}


class Sorted(GridFunctionedNetwork):
    """The network in the order that reads values, on any batch."""

    def forward(self, x, g):
        return super().forward(x, g, "cells")


MODELS = {
    "GridLinear": lambda: GridLinear(3, 4, **GRID),
    "GridFunctionedNetwork": lambda: GridFunctionedNetwork(3, (6, 5), 4, edges="linear", **GRID),
    "Sorted": lambda: Sorted(3, (6, 5), 4, **GRID),
    "PhaseFunctionedNetwork": lambda: PhaseFunctionedNetwork(3, (6, 5), 4),
    "ModeAdaptiveNetwork": lambda: ModeAdaptiveNetwork(3, (6, 5), 4, gate_features=2, experts=3),
    "MLP": lambda: MLP(3, (6, 5), 4),
    "FourierMLP": lambda: FourierMLP(3, (6, 5), 4, frequencies=7, scale=0.2),
}


def batch_of(size: int) -> dict[str, Tensor]:
    generator = seeded(1)
    x, g = torch.randn(size, 3, generator=generator), torch.rand(size, 2, generator=generator)
    return {"x": x, "g": g}


class TestPortability(Portability):
    models = MODELS
    only = {
        test: [(name, "") for name in MODELS if name != "Sorted"]
        for test in (
            Portability.test_a_model_built_on_the_meta_device_runs_there_and_can_be_brought_back,
            Portability.test_every_model_compiles_to_one_graph_with_the_same_gradients,
        )
    }
    not_vmapped = ("Sorted",)
    near_float64 = 1e-5
    near_gradients = 0.1
    near_on_cuda = (1e-11, 1e-10)

    def inputs(self, name, form=""):
        x, g = batch_of(20).values()
        if name.endswith("MLP"):
            return {"x": x}
        if name == "PhaseFunctionedNetwork":
            return {"x": x, "phase": g[:, 0]}
        return {"x": x, "z" if name == "ModeAdaptiveNetwork" else "g": g}

    def test_frozen_parameters_get_no_gradient_and_the_inputs_do(self, name):
        model, given = self.build(name).requires_grad_(False), as_leaves(self.inputs(name))
        model(**given).square().sum().backward()
        assert all(p.grad is None for p in model.parameters())
        assert all(leaf.grad.any() for leaf in given.values())


# ---- dtypes ----


def test_in_bfloat16_the_place_on_a_fine_grid_is_found_in_float32():
    g = torch.linspace(0, 1, 17).bfloat16()[:, None]
    found = grid_weights(g, (100,))
    torch.testing.assert_close(found, grid_weights(g.float(), (100,)).bfloat16())


# ---- printing ----


def test_a_printed_layer_names_its_sizes_and_its_grid():
    text = "GridLinear(in_features=3, out_features=4, experts=30, grid_shape=(6, 5), cyclic="
    assert repr(GridLinear(3, 4, **GRID)) == text + "(False, True), edges='clamp')"
    assert "activation='tanh'" in repr(
        GridFunctionedNetwork(3, 4, 2, grid_shape=(4,), activation="tanh")
    )


# ---- places ----


def test_a_large_batch_runs_on_the_meta_device_in_every_order_that_reads_no_value():
    model = GridFunctionedNetwork(3, 64, 4, **GRID).to("meta")
    x, g = torch.ones(4096, 3, device="meta"), torch.ones(4096, 2, device="meta")
    for order in ("auto", "blend", "experts"):
        assert model(x, g, order).shape == (4096, 4)


# ---- torch.compile ----


@pytest.mark.compile
def test_a_compiled_network_takes_other_batches_even_where_it_would_sort():
    model = GridFunctionedNetwork(3, 32, 4, grid_shape=(8, 8))
    fast = compiled(model)
    for size in (20, 3, 4096):
        x, g = batch_of(size).values()
        torch.testing.assert_close(fast(x, g), model(x, g), atol=1e-5, rtol=1e-5)


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # raised inside inductor
def test_the_layer_compiles_with_inductor():
    layer, given = GridLinear(3, 4, **GRID), batch_of(20)
    wanted = layer(**given)
    with torch.no_grad():
        found = compiled(layer, backend="inductor")(**given)
    torch.testing.assert_close(found, wanted)


# ---- CUDA ----


@pytest.mark.gpu
@pytest.mark.parametrize("order", ["auto", "blend", "experts", "cells"])
def test_on_cuda_every_order_gives_the_outputs_of_the_cpu(order):
    model, given = MODELS["GridFunctionedNetwork"]().double(), to(batch_of(4096), torch.float64)
    wanted = model(**given)
    found = copy.deepcopy(model).cuda()(**to(given, "cuda"), order=order)
    torch.testing.assert_close(found.cpu(), wanted, atol=1e-11, rtol=0)
