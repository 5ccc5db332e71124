"""Every attention in every dtype, place and form of running that torch knows.

What turns red when the code is broken (each was tried on a copy):
- autocast not kept out: test_under_autocast_the_performer_is_exact
- a buffer that is not stored, indices made on the CPU, values read on the meta device:
  test_a_layer_built_on_the_meta_device_runs_there_and_can_be_brought_back
"""

import copy
import io

import pytest
import torch
from safetensors.torch import load, save
from slow_attention import DENSE, KINDS, SEQ, end_mask, kinds_and_groups, performer, qkv
from torch import Tensor

from archbook.attention import Attention, PerformerAttention, gaussian_projection

every_kind = pytest.mark.parametrize("kind", KINDS)
every_form = pytest.mark.parametrize(("kind", "group"), kinds_and_groups(None, 3))
every_dense_kind = pytest.mark.parametrize("kind", DENSE)


def build(kind: str) -> Attention:
    return KINDS[kind](SEQ)


def inputs(group: int | None = None, masked: bool = True, seq: int = SEQ, dtype=torch.float32):
    mask = end_mask([seq, seq - 3], seq) if masked else None
    return [*(x.to(dtype) for x in qkv(seq=seq)), mask, group]


def to(given: list, device: str) -> list:
    return [x.to(device) if isinstance(x, Tensor) else x for x in given]


def outputs_and_gradients(call, layer: Attention, given: list) -> list[Tensor]:
    inputs = [x.detach().requires_grad_() for x in given[:3]]
    y = call(*inputs, *given[3:])
    leaves = [*inputs, *layer.parameters()]
    return [y.detach(), *torch.autograd.grad(y.float().square().sum(), leaves)]


# ---- dtypes ----


@every_form
def test_float64_in_gives_float64_out_near_float32(kind, group):
    wanted = build(kind)(*inputs(group))
    found = build(kind).double()(*inputs(group, dtype=torch.float64))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), wanted, atol=1e-4, rtol=1e-4)


@every_kind
def test_the_default_dtype_is_followed(kind):
    torch.set_default_dtype(torch.float64)
    try:
        layer = build(kind)
        assert gaussian_projection(2, 3).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert layer(*inputs(dtype=torch.float64)).dtype == torch.float64


@every_form
def test_in_bfloat16_the_output_stays_near_the_float32_one(kind, group):
    layer = build(kind)
    given = inputs(group, dtype=torch.bfloat16)
    if isinstance(layer, PerformerAttention):
        layer.projection = layer.projection.bfloat16().float()  # what the half module can hold
    wanted = layer(*(x.float() for x in given[:3]), *given[3:])
    found = layer.bfloat16()(*given)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, atol=0.1, rtol=0.1)


@every_form
def test_under_autocast_the_output_stays_near_the_float32_one_and_trains(kind, group):
    layer, given = build(kind), inputs(group)
    wanted = layer(*given)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(*given)
        half = layer(*(x.bfloat16() for x in given[:3]), *given[3:])
        trained = outputs_and_gradients(layer, layer, given)
    torch.testing.assert_close(found.float(), wanted, atol=0.1, rtol=0.1)
    torch.testing.assert_close(half.float(), wanted, atol=0.1, rtol=0.1)
    assert all(x.isfinite().all() for x in trained)


@pytest.mark.parametrize("kernel", ["softmax", "relu"])
def test_under_autocast_the_performer_is_exact(kernel):
    """Exponents rounded to 8 bits would be off by percents."""
    layer, given = performer(kernel), inputs(3)
    wanted = layer(*given)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(*given), wanted)
        q, k, v, _, group = given
        y, state = layer.prefill(q, k, v, group)
        found, _ = layer.step(q[:, :, :3], k[:, :, :3], v[:, :, :3], state)
    torch.testing.assert_close(y, layer(q, k, v, None, group), atol=0, rtol=0)
    wanted, _ = layer.step(q[:, :, :3], k[:, :, :3], v[:, :, :3], state)
    assert torch.equal(found, wanted)


# ---- storage ----


def other_draw(kind: str) -> Attention:
    """The same layer with other numbers in it."""
    layer = build(kind)
    for tensor in layer.state_dict().values():
        tensor.zero_()
    return layer


@every_kind
def test_safetensors_restore_the_outputs_to_the_bit(kind):
    layer, other, given = build(kind), other_draw(kind), inputs()
    other.load_state_dict(load(save(layer.state_dict())), strict=True)
    assert torch.equal(other(*given), layer(*given))


@every_kind
def test_a_state_dict_restores_the_outputs_to_the_bit(kind):
    layer, other, given = build(kind), other_draw(kind), inputs()
    stored = io.BytesIO()
    torch.save(layer.state_dict(), stored)
    stored.seek(0)
    other.load_state_dict(torch.load(stored, weights_only=True), strict=True)
    assert torch.equal(other(*given), layer(*given))


@every_kind
def test_a_deep_copy_gives_the_same_and_shares_nothing(kind):
    layer, given = build(kind), inputs()
    wanted = layer(*given)
    twin = copy.deepcopy(layer)
    for tensor in layer.state_dict().values():
        tensor.zero_()
    assert torch.equal(twin(*given), wanted)


# ---- places ----


@every_form
def test_a_layer_built_on_the_meta_device_runs_there_and_can_be_brought_back(kind, group):
    real = build(kind)
    with torch.device("meta"):
        layer = type(real)(**META[kind])
    given = inputs(group)
    assert layer(*to(given, "meta")).is_meta
    assert layer(*to(given, "meta")).shape == real(*given).shape
    layer.to_empty(device="cpu").load_state_dict(real.state_dict())
    assert torch.equal(layer(*given), real(*given))


META = {
    "full": {},
    "softmax": {"head_dim": 4, "features": 7},
    "relu": {"head_dim": 4, "features": 7, "kernel": "relu"},
    "bigbird": {"length": SEQ, "block": 2},
    "linformer": {"keys": SEQ, "rank": 5},
}


@every_dense_kind
def test_steps_run_on_the_meta_device(kind):
    with torch.device("meta"):
        layer = type(build(kind))(**META[kind])
        q = torch.empty(2, 2, 6, 4)
        y, state = layer.prefill(q, q, q, 3)
        step, _ = layer.step(q[:, :, :3], q[:, :, :3], q[:, :, :3], state)
    assert y.is_meta
    assert step.shape == (2, 2, 3, 4)


# ---- running ----


@every_form
def test_an_input_is_never_modified_and_two_runs_are_equal_to_the_bit(kind, group):
    layer, given = build(kind), inputs(group)
    before = copy.deepcopy(given)
    assert torch.equal(layer(*given), layer(*given))
    assert all(torch.equal(x, old) for x, old in zip(given[:4], before[:4], strict=True))


@every_form
def test_a_layer_first_run_in_inference_mode_can_be_trained_after(kind, group):
    layer, given = build(kind), inputs(group)
    with torch.inference_mode():
        inferred = layer(*given)
    assert torch.equal(layer(*given), inferred)
    assert all(x.isfinite().all() for x in outputs_and_gradients(layer, layer, given))


@every_form
def test_strided_inputs_give_the_same_as_contiguous_ones(kind, group):
    layer, given = build(kind), inputs(group)
    strided = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in given[:3]]
    assert not strided[0].is_contiguous()
    torch.testing.assert_close(layer(*strided, *given[3:]), layer(*given))


@every_form
def test_one_token_or_one_position_is_enough(kind, group):
    seq = group or 1
    layer = KINDS[kind](seq)
    q, k, v, _, _ = inputs(group, masked=False, seq=seq)
    y = layer(q, k, v, None, group)
    assert y.shape == q.shape
    if seq == 1 and kind != "linformer":
        torch.testing.assert_close(y, v)


# ---- torch.compile ----


def compiled(call, **options):
    torch.compiler.reset()
    return torch.compile(call, fullgraph=True, **{"backend": "eager", **options})


@pytest.mark.parametrize("masked", [False, True], ids=["all keys", "some keys"])
@every_form
def test_every_layer_compiles_to_one_graph_with_the_same_gradients(kind, group, masked):
    layer, given = build(kind), inputs(group, masked)
    found, wanted = (outputs_and_gradients(call, layer, given) for call in (compiled(layer), layer))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("kind", "group", "dynamic"),
    [("full", 3, None), ("softmax", None, None), ("softmax", 1, False), ("bigbird", 3, False)],
)
def test_a_compiled_layer_takes_other_lengths(kind, group, dynamic):
    """Chunks and blocks of a symbolic length work as well, and take seconds to trace."""
    layer = KINDS[kind](30)
    fast = compiled(layer, dynamic=dynamic)
    for seq in (12, 30):
        given = inputs(group, seq=seq)
        torch.testing.assert_close(fast(*given), layer(*given))


@every_dense_kind
def test_prefill_and_step_compile(kind):
    layer, (q, k, v, _, _) = build(kind), inputs()
    y, state = compiled(layer.prefill)(q, k, v, 3)
    wanted, wanted_state = layer.prefill(q, k, v, 3)
    torch.testing.assert_close(y, wanted)
    found, _ = compiled(layer.step)(q[:, :, :3], k[:, :, :3], v[:, :, :3], state)
    wanted, _ = layer.step(q[:, :, :3], k[:, :, :3], v[:, :, :3], wanted_state)
    torch.testing.assert_close(found, wanted)


# ---- CUDA ----


@pytest.mark.gpu
@every_form
def test_on_cuda_a_layer_gives_the_outputs_and_gradients_of_the_cpu(kind, group):
    layer, given = build(kind).double(), inputs(group, dtype=torch.float64)
    other = copy.deepcopy(layer).cuda()
    found = outputs_and_gradients(other, other, to(given, "cuda"))
    wanted = outputs_and_gradients(layer, layer, given)
    torch.testing.assert_close([x.cpu() for x in found], wanted, atol=1e-9, rtol=1e-9)


@pytest.mark.gpu
def test_on_cuda_a_generator_there_draws_there():
    generator = torch.Generator("cuda").manual_seed(0)
    assert PerformerAttention(4, 7, generator=generator).projection.is_cuda
