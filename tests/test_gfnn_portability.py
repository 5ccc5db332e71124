"""The GFNN and its baselines in every dtype, place and form of running that torch knows.

What turns red when the code is broken (each was tried on a copy):
- indices made on the CPU, values checked on the meta device, sorted there:
  test_a_model_built_on_the_meta_device_runs_there_and_can_be_brought_back
- values checked or sorted while compiling:
  test_every_model_compiles_to_one_graph_with_the_same_gradients
- no cast before the sorted product: test_under_autocast_a_model_stays_near_the_float32_one
- weights that stay float32: test_a_bfloat16_model_stays_near_the_float32_one
- the frequencies of the FourierMLP no buffer: test_safetensors_restore_the_outputs_to_the_bit
"""

import copy
import io

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from archbook.gfnn import (
    MLP,
    FourierMLP,
    GridFunctionedNetwork,
    GridLinear,
    ModeAdaptiveNetwork,
    PhaseFunctionedNetwork,
    grid_weights,
)

GRID = ((6, 5), (False, True))


class Sorted(GridFunctionedNetwork):
    """The network in the order that reads values, on any batch."""

    def forward(self, x, g):
        return super().forward(x, g, "cells")


MODELS = {
    "GridLinear": lambda: GridLinear(3, 4, *GRID),
    "GridFunctionedNetwork": lambda: GridFunctionedNetwork(3, (6, 5), 4, *GRID, edges="linear"),
    "Sorted": lambda: Sorted(3, (6, 5), 4, *GRID),
    "PhaseFunctionedNetwork": lambda: PhaseFunctionedNetwork(3, (6, 5), 4),
    "ModeAdaptiveNetwork": lambda: ModeAdaptiveNetwork(3, (6, 5), 4, gate_features=2, experts=3),
    "MLP": lambda: MLP(3, (6, 5), 4),
    "FourierMLP": lambda: FourierMLP(3, (6, 5), 4, frequencies=7),
}
every_model = pytest.mark.parametrize("name", MODELS)
values_unread = pytest.mark.parametrize("name", [name for name in MODELS if name != "Sorted"])


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name]()


def inputs(name: str, batch: int = 20) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    x, g = torch.randn(batch, 3, generator=generator), torch.rand(batch, 2, generator=generator)
    if name.endswith("MLP"):
        return (x,)
    return (x, g[:, 0]) if name.startswith("Phase") else (x, g)


def to(given: tuple[Tensor, ...], where) -> tuple[Tensor, ...]:
    return tuple(value.to(where) for value in given)


def gradients(model: nn.Module, output: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(output.float().square().sum(), list(model.parameters()))


# ---- dtypes ----


@every_model
def test_float64_in_gives_float64_out_near_float32(name):
    model, given = build(name), inputs(name)
    wanted = model(*given)
    found = model.double()(*to(given, torch.float64))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), wanted, atol=1e-5, rtol=1e-5)


@every_model
def test_the_default_dtype_is_followed(name):
    torch.set_default_dtype(torch.float64)
    try:
        model = build(name)
    finally:
        torch.set_default_dtype(torch.float32)
    assert model(*to(inputs(name), torch.float64)).dtype == torch.float64


@every_model
def test_a_bfloat16_model_stays_near_the_float32_one(name):
    """With the numbers that bfloat16 can hold in both."""
    model, given = build(name).bfloat16(), to(inputs(name), torch.bfloat16)
    wanted = copy.deepcopy(model).float()(*to(given, torch.float32))
    found = model(*given)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, atol=0.05, rtol=0.05)
    assert all(grad.isfinite().all() for grad in gradients(model, found))


@every_model
def test_under_autocast_a_model_stays_near_the_float32_one_and_trains(name):
    model, given = build(name), inputs(name)
    wanted = model(*given)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(*given)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, atol=0.05, rtol=0.05)
    for f, w in zip(gradients(model, found), gradients(model, wanted), strict=True):
        assert f.dtype == torch.float32
        torch.testing.assert_close(f, w, atol=0.1 * float(w.abs().max()), rtol=0)


@every_model
def test_under_autocast_inputs_may_be_bfloat16_already(name):
    model, given = build(name), to(inputs(name), torch.bfloat16)
    wanted = model(*to(given, torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        found = model(*given)
    torch.testing.assert_close(found.float(), wanted, atol=0.05, rtol=0.05)


def test_in_bfloat16_the_place_on_a_fine_grid_is_found_in_float32():
    g = torch.linspace(0, 1, 17).bfloat16()[:, None]
    found = grid_weights(g, (100,))
    torch.testing.assert_close(found, grid_weights(g.float(), (100,)).bfloat16())


# ---- storage ----


@every_model
def test_safetensors_restore_the_outputs_to_the_bit(name):
    model, other, given = build(name), build(name), inputs(name)
    for value in other.state_dict().values():
        nn.init.normal_(value)
    other.load_state_dict(load(save(model.state_dict())), strict=True)
    assert torch.equal(other(*given), model(*given))


@every_model
def test_a_state_dict_restores_the_outputs_to_the_bit(name):
    model, other, given = build(name), build(name), inputs(name)
    for value in other.state_dict().values():
        nn.init.normal_(value)
    stored = io.BytesIO()
    torch.save(model.state_dict(), stored)
    stored.seek(0)
    other.load_state_dict(torch.load(stored, weights_only=True), strict=True)
    assert torch.equal(other(*given), model(*given))


@every_model
def test_a_deep_copy_gives_the_same_and_shares_nothing(name):
    model, given = build(name), inputs(name)
    wanted = model(*given)
    twin = copy.deepcopy(model)
    for tensor in model.state_dict().values():
        tensor.zero_()
    assert torch.equal(twin(*given), wanted)


def test_a_printed_layer_names_its_sizes_and_its_grid():
    text = "GridLinear(in_features=3, out_features=4, experts=30, grid_shape=(6, 5), cyclic="
    assert repr(GridLinear(3, 4, *GRID)) == text + "(False, True), edges='clamp')"
    assert "activation='tanh'" in repr(GridFunctionedNetwork(3, 4, 2, (4,), activation="tanh"))


# ---- places ----


@values_unread
def test_a_model_built_on_the_meta_device_runs_there_and_can_be_brought_back(name):
    with torch.device("meta"):
        model = MODELS[name]()
    given = inputs(name)
    output, wanted = model(*to(given, "meta")), build(name)(*given)
    assert output.is_meta
    assert output.shape == wanted.shape
    model.to_empty(device="cpu").load_state_dict(build(name).state_dict())
    assert torch.equal(model(*given), wanted)


def test_a_large_batch_runs_on_the_meta_device_in_every_order_that_reads_no_value():
    model = GridFunctionedNetwork(3, 64, 4, *GRID).to("meta")
    x, g = torch.ones(4096, 3, device="meta"), torch.ones(4096, 2, device="meta")
    for order in ("auto", "blend", "experts"):
        assert model(x, g, order).shape == (4096, 4)


# ---- running ----


@every_model
def test_an_input_is_never_modified_and_two_runs_are_equal_to_the_bit(name):
    model, given = build(name), inputs(name)
    before = copy.deepcopy(given)
    assert torch.equal(model(*given), model(*given))
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


@every_model
def test_a_model_first_run_in_inference_mode_can_be_trained_after(name):
    model = build(name)
    with torch.inference_mode():
        inferred = model(*inputs(name))
    trained = model(*inputs(name))
    assert torch.equal(trained, inferred)
    assert all(grad.isfinite().all() for grad in gradients(model, trained))


@every_model
def test_strided_inputs_give_the_same_as_contiguous_ones(name):
    model, given = build(name), inputs(name)
    strided = [torch.stack([value, value], -1)[..., 0] for value in given]
    torch.testing.assert_close(model(*strided), model(*given))


@every_model
def test_frozen_parameters_get_no_gradient_and_the_inputs_do(name):
    model, given = build(name).requires_grad_(False), inputs(name)
    leaves = [value.clone().requires_grad_() for value in given]
    model(*leaves).square().sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(leaf.grad.any() for leaf in leaves)


# ---- torch.compile ----


def compiled(call, **options):
    torch.compiler.reset()
    return torch.compile(call, fullgraph=True, **{"backend": "eager", **options})


@values_unread
def test_every_model_compiles_to_one_graph_with_the_same_gradients(name):
    model, given = build(name), inputs(name)
    wanted, found = model(*given), compiled(model)(*given)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradients(model, found), gradients(model, wanted))


def test_a_compiled_network_takes_other_batches_even_where_it_would_sort():
    model = GridFunctionedNetwork(3, 32, 4, (8, 8))
    run = compiled(model)
    for batch in (20, 3, 4096):
        given = inputs("GridFunctionedNetwork", batch)
        torch.testing.assert_close(run(*given), model(*given), atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # raised inside inductor
def test_the_layer_compiles_with_inductor():
    layer, given = build("GridLinear"), inputs("GridLinear")
    wanted = layer(*given)
    with torch.no_grad():
        found = compiled(layer, backend="inductor")(*given)
    torch.testing.assert_close(found, wanted)


# ---- CUDA ----


@pytest.mark.gpu
@every_model
def test_on_cuda_a_model_gives_the_outputs_and_gradients_of_the_cpu(name):
    model, given = build(name).double(), to(inputs(name), torch.float64)
    other = copy.deepcopy(model).cuda()
    wanted, found = model(*given), other(*to(given, "cuda"))
    torch.testing.assert_close(found.cpu(), wanted, atol=1e-11, rtol=0)
    wanted.square().sum().backward()
    found.square().sum().backward()
    for f, w in zip(other.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(f.grad.cpu(), w.grad, atol=1e-10, rtol=1e-10)


@pytest.mark.gpu
@pytest.mark.parametrize("order", ["auto", "blend", "experts", "cells"])
def test_on_cuda_every_order_gives_the_outputs_of_the_cpu(order):
    model, given = build("GridFunctionedNetwork").double(), inputs("GridLinear", 4096)
    wanted = model(*to(given, torch.float64))
    found = copy.deepcopy(model).cuda()(*(value.double().cuda() for value in given), order)
    torch.testing.assert_close(found.cpu(), wanted, atol=1e-11, rtol=0)
