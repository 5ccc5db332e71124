"""The EGNN and its baselines in every dtype, place and form of running that torch knows.

What turns red when the code is broken (each was tried on a copy):
- indices made on the CPU, values checked on the meta device:
  test_a_model_built_on_the_meta_device_runs_there_and_can_be_brought_back
- values checked while compiling: test_every_model_compiles_to_one_graph_with_the_same_gradients
- sums that stay float32: test_a_bfloat16_model_stays_near_the_float32_one
- zeros of the default dtype: test_float64_in_gives_float64_out_near_float32
"""

import copy
import io

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from archbook.egnn import (
    EGCL,
    EGNN,
    GNN,
    EGNNRegressor,
    RadialField,
    SchNet,
    complete_edges,
    sum_by_graph,
)

OPTIONS = {"velocity": True, "attention": True, "normalize": True}
SIZES = [4, 2]  # nodes of two graphs
MODELS = {
    "EGCL": lambda: EGCL(5, 2, **OPTIONS),
    "EGCL-dense": lambda: EGCL(5, 2, **OPTIONS),
    "EGNN": lambda: EGNN(5, 6, 2, 3, edge_features=2, **OPTIONS),
    "EGNN-dense": lambda: EGNN(5, 6, 2, 3, edge_features=2, **OPTIONS),
    "EGNNRegressor": lambda: EGNNRegressor(5, 6, 2),
    "SchNet": lambda: SchNet(5, 6, 2),
    "GNN": lambda: GNN(5, 6, 2, 3, edge_features=2),
    "GNN-dense": lambda: GNN(5, 6, 2, 3, edge_features=2),
    "RadialField": lambda: RadialField(6, 2, edge_features=2, velocity=True),
    "RadialField-dense": lambda: RadialField(6, 2, edge_features=2, velocity=True),
}
every_model = pytest.mark.parametrize("name", MODELS)


def build(name: str) -> nn.Module:
    """The model with weights that hide no path (phi_x starts near zero)."""
    torch.manual_seed(0)
    model = MODELS[name]()
    for part in model.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
    return model


def inputs(name: str, sizes=SIZES) -> dict[str, Tensor | int]:
    """What the model takes, on the graphs of these sizes: an edge list, or a padded batch."""
    generator = torch.Generator().manual_seed(1)
    dense = name.endswith("dense")
    nodes = (len(sizes), max(sizes)) if dense else (sum(sizes),)
    pairs = (*nodes, max(sizes)) if dense else (sum(size * (size - 1) for size in sizes),)
    given = {
        "h": torch.randn(*nodes, 5, generator=generator),
        "x": torch.randn(*nodes, 3, generator=generator),
        "v": torch.randn(*nodes, 3, generator=generator),
        "edge_attr": torch.randn(*pairs, 2, generator=generator),
    }
    if dense:
        given["mask"] = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
    else:
        given["edges"] = complete_edges(sizes)
    if name in ("EGNNRegressor", "SchNet"):
        given["graph"] = torch.repeat_interleave(torch.tensor(sizes))
        given["graphs"] = len(sizes)
    unused = {
        "GNN": ("x", "v"),
        "RadialField": ("h",),
        "EGNNRegressor": ("v", "edge_attr"),
        "SchNet": ("v", "edge_attr"),
    }
    for key in unused.get(name.removesuffix("-dense"), ()):
        del given[key]
    return given


def to(given: dict, where) -> dict:
    """Tensors to a device, or the floating ones to a dtype."""

    def moved(value):
        floating = isinstance(value, Tensor) and value.is_floating_point()
        return value.to(where) if floating or not isinstance(where, torch.dtype) else value

    return {k: moved(value) if isinstance(value, Tensor) else value for k, value in given.items()}


def run(model: nn.Module, given: dict) -> tuple[Tensor, ...]:
    out = model(**given)
    return out if isinstance(out, tuple) else (out,)


def same(found, wanted) -> bool:
    return all(torch.equal(f, w) for f, w in zip(found, wanted, strict=True))


def gradients(model: nn.Module, outputs) -> tuple[Tensor, ...]:
    total = sum(out.float().square().sum() for out in outputs)
    return torch.autograd.grad(total, list(model.parameters()))


# ---- dtypes ----


@every_model
def test_float64_in_gives_float64_out_near_float32(name):
    model, given = build(name), inputs(name)
    wanted = run(model, given)
    found = run(model.double(), to(given, torch.float64))
    assert all(out.dtype == torch.float64 for out in found)
    torch.testing.assert_close([f.float() for f in found], list(wanted), atol=1e-4, rtol=1e-4)


@every_model
def test_the_default_dtype_is_followed(name):
    torch.set_default_dtype(torch.float64)
    try:
        model = build(name)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(out.dtype == torch.float64 for out in run(model, to(inputs(name), torch.float64)))


@every_model
def test_a_bfloat16_model_stays_near_the_float32_one(name):
    model, given = build(name), to(inputs(name), torch.bfloat16)
    wanted = run(model, to(given, torch.float32))
    found = run(model.bfloat16(), given)
    assert all(out.dtype == torch.bfloat16 for out in found)
    torch.testing.assert_close([f.float() for f in found], list(wanted), atol=0.1, rtol=0.1)


@every_model
def test_under_autocast_a_model_stays_near_the_float32_one_and_trains(name):
    model, given = build(name), inputs(name)
    wanted = run(model, given)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(model, given)
    torch.testing.assert_close([f.float() for f in found], list(wanted), atol=0.1, rtol=0.1)
    assert all(grad.isfinite().all() for grad in gradients(model, found))


@pytest.mark.parametrize("name", ["EGCL", "EGCL-dense", "EGNN", "RadialField"])
def test_under_autocast_positions_stay_float32(name):
    """Rounded to bfloat16, a point at 100 could only move by steps of a half."""
    model, given = build(name), inputs(name)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = run(model, given)
    positions = outputs[0] if name == "RadialField" else outputs[1]
    assert positions.dtype == torch.float32


# ---- storage ----


@every_model
def test_safetensors_restore_the_outputs_to_the_bit(name):
    model, other, given = build(name), build(name), inputs(name)
    for weight in other.parameters():
        nn.init.normal_(weight)
    other.load_state_dict(load(save(model.state_dict())), strict=True)
    assert same(run(other, given), run(model, given))


@every_model
def test_a_state_dict_restores_the_outputs_to_the_bit(name):
    model, other, given = build(name), build(name), inputs(name)
    for weight in other.parameters():
        nn.init.normal_(weight)
    stored = io.BytesIO()
    torch.save(model.state_dict(), stored)
    stored.seek(0)
    other.load_state_dict(torch.load(stored, weights_only=True), strict=True)
    assert same(run(other, given), run(model, given))


@every_model
def test_a_deep_copy_gives_the_same_and_shares_nothing(name):
    model, given = build(name), inputs(name)
    wanted = run(model, given)
    twin = copy.deepcopy(model)
    for tensor in model.parameters():
        tensor.data.zero_()
    assert same(run(twin, given), wanted)


# ---- places ----


@every_model
def test_a_model_built_on_the_meta_device_runs_there_and_can_be_brought_back(name):
    with torch.device("meta"):
        model = MODELS[name]()
    given = inputs(name)
    outputs = run(model, to(given, "meta"))
    wanted = run(build(name), given)
    assert all(out.is_meta for out in outputs)
    assert [out.shape for out in outputs] == [out.shape for out in wanted]
    model.to_empty(device="cpu").load_state_dict(build(name).state_dict())
    assert same(run(model, given), wanted)


# ---- running ----


@every_model
def test_an_input_is_never_modified_and_two_runs_are_equal_to_the_bit(name):
    model, given = build(name), inputs(name)
    before = copy.deepcopy(given)
    assert same(run(model, given), run(model, given))
    tensors = [key for key, value in given.items() if isinstance(value, Tensor)]
    assert all(torch.equal(given[key], before[key]) for key in tensors)


@every_model
def test_a_model_first_run_in_inference_mode_can_be_trained_after(name):
    model = build(name)
    with torch.inference_mode():
        inferred = run(model, inputs(name))
    trained = run(model, inputs(name))
    assert same(trained, inferred)
    assert all(grad.isfinite().all() for grad in gradients(model, trained))


@every_model
def test_strided_inputs_give_the_same_as_contiguous_ones(name):
    model, given = build(name), inputs(name)
    strided = {
        key: torch.stack([value, value], -1)[..., 0] if isinstance(value, Tensor) else value
        for key, value in given.items()
    }
    torch.testing.assert_close(run(model, strided), run(model, given))


# ---- torch.compile ----


def compiled(call, **options):
    torch.compiler.reset()
    return torch.compile(call, fullgraph=True, **{"backend": "eager", **options})


@every_model
def test_every_model_compiles_to_one_graph_with_the_same_gradients(name):
    model, given = build(name), inputs(name)
    wanted, found = run(model, given), run(compiled(model), given)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradients(model, found), gradients(model, wanted))


@pytest.mark.parametrize("name", ["EGCL", "EGCL-dense"])
def test_a_compiled_model_takes_graphs_of_other_sizes(name):
    model = build(name)
    fast = compiled(model)
    for sizes in ([4, 2], [6, 3], [2, 7]):
        given = inputs(name, sizes)
        torch.testing.assert_close(run(fast, given), run(model, given))


def test_the_sum_of_a_compiled_graph_is_the_same():
    h, graph = torch.randn(5, 2), torch.tensor([0, 2, 2, 0, 1])
    torch.testing.assert_close(compiled(sum_by_graph)(h, graph, 3), sum_by_graph(h, graph, 3))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # raised inside inductor
def test_the_layer_compiles_with_inductor():
    layer, given = EGCL(4), to(inputs("EGCL"), "cpu")
    h, x, edges = given["h"][:, :4].contiguous(), given["x"], given["edges"]
    wanted = layer(h, x, edges)
    with torch.no_grad():
        found = compiled(layer, backend="inductor")(h, x, edges)
    torch.testing.assert_close(found, wanted)


# ---- CUDA ----


@pytest.mark.gpu
@every_model
def test_on_cuda_a_model_gives_the_outputs_and_gradients_of_the_cpu(name):
    model, given = build(name).double(), to(inputs(name), torch.float64)
    other = copy.deepcopy(model).cuda()
    wanted, found = run(model, given), run(other, to(given, "cuda"))
    torch.testing.assert_close([f.cpu() for f in found], list(wanted), atol=1e-10, rtol=0)
    sum(out.square().sum() for out in wanted).backward()
    sum(out.square().sum() for out in found).backward()
    for f, w in zip(other.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(f.grad.cpu(), w.grad, atol=1e-9, rtol=1e-9)


@pytest.mark.gpu
def test_edges_are_built_on_the_gpu():
    assert torch.equal(complete_edges([3, 1, 4], "cuda").cpu(), complete_edges([3, 1, 4]))


@pytest.mark.gpu
def test_on_cuda_a_thousand_messages_are_summed_in_bfloat16():
    """A sum that is kept in bfloat16 stops at 256 ones."""
    layer, nodes = EGCL(2), 1001
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    nn.init.ones_(layer.phi_e[2].bias)  # every message is (0.73, 0.73)
    nn.init.eye_(layer.phi_h[0].weight[:, 2:])
    nn.init.eye_(layer.phi_h[2].weight)
    edges = torch.stack([torch.arange(1, nodes), torch.zeros(nodes - 1, dtype=torch.int64)])
    h, x = torch.zeros(nodes, 2), torch.zeros(nodes, 3)
    wanted = layer(h, x, edges)[0]
    with torch.autocast("cuda", torch.bfloat16):
        found = layer.cuda()(h.cuda(), x.cuda(), edges.cuda())[0]
    assert wanted[0].min() > 700
    torch.testing.assert_close(found.cpu().float(), wanted, atol=0.1, rtol=0.02)
