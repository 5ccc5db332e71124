"""OmniNet in every dtype, place and form of running that torch knows.

What turns red when the code is broken (each was tried on a copy):
- a tensor made on the CPU:
  test_a_model_built_on_the_meta_device_runs_there_and_can_be_brought_back
- values read while compiling: test_every_model_compiles_to_one_graph_with_the_same_gradients
- the skip added in place: test_an_input_is_never_modified_and_two_runs_are_equal_to_the_bit
"""

import copy

import pytest
import torch
from safetensors.torch import load, save
from slow_attention import end_mask
from slow_omninet import HEADS, HIDDEN, METAS, kind
from torch import Tensor, nn

from archbook.omninet import (
    OmniNet,
    OmniNetClassifier,
    OmniNetLM,
    OmniNetTranslator,
    Transformer,
)

SEQ = 7
FULL = {"dropout": 0.0}


def both_ways(meta: str) -> OmniNet:
    return OmniNet(2, HIDDEN, HEADS, 2, **kind(meta, SEQ), **FULL)


def lm(meta: str) -> OmniNetLM:
    return OmniNetLM(9, SEQ, 2, HIDDEN, HEADS, 2, **kind(meta, SEQ), **FULL)


MODELS = {
    **{f"OmniNet-{meta}": lambda meta=meta: both_ways(meta) for meta in METAS},
    **{f"LM-{meta}": lambda meta=meta: lm(meta) for meta in METAS if meta != "linformer"},
    "learned": lambda: OmniNet(2, HIDDEN, HEADS, 2, pool="learned", depth_vectors=True, **FULL),
    "top": lambda: OmniNet(2, HIDDEN, HEADS, 2, query="top", causal=True, **FULL),
    "Transformer": lambda: Transformer(2, HIDDEN, HEADS, **FULL),
    "texts": lambda: OmniNetClassifier(
        3, 2, HIDDEN, HEADS, 2, vocab_size=9, max_length=SEQ, readout="token", **FULL
    ),
    "images": lambda: OmniNetClassifier(3, 2, HIDDEN, HEADS, 2, image=(1, 4, 4), patch=2, **FULL),
    "Translator": lambda: OmniNetTranslator(9, 9, SEQ, 2, HIDDEN, HEADS, 2, **FULL),
}
every_model = pytest.mark.parametrize("name", MODELS)


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name]()


def inputs(name: str, masked: bool = True, seq: int = SEQ, dtype=torch.float32) -> list:
    generator = torch.Generator().manual_seed(1)
    mask = end_mask([seq, seq - 3], seq) if masked else None
    tokens = torch.randint(9, (2, seq), generator=generator)
    if name == "images":
        return [torch.randn(2, 1, 4, 4, generator=generator).to(dtype), None]
    if name == "Translator":
        return [tokens, tokens.flip(1), mask]
    if name.startswith("LM") or name == "texts":
        return [tokens, mask]
    return [torch.randn(2, seq, HIDDEN, generator=generator).to(dtype), mask]


def to(given: list, device: str) -> list:
    return [x.to(device) if isinstance(x, Tensor) else x for x in given]


def gradients(call, model: nn.Module, given: list) -> list[Tensor]:
    y = call(*given)
    return [y.detach(), *torch.autograd.grad(y.float().square().sum(), list(model.parameters()))]


@every_model
def test_float64_in_gives_float64_out_near_float32(name):
    wanted = build(name)(*inputs(name))
    found = build(name).double()(*inputs(name, dtype=torch.float64))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), wanted, atol=1e-4, rtol=1e-4)


@every_model
def test_the_default_dtype_is_followed(name):
    torch.set_default_dtype(torch.float64)
    try:
        model = build(name)
    finally:
        torch.set_default_dtype(torch.float32)
    assert model(*inputs(name, dtype=torch.float64)).dtype == torch.float64


@every_model
def test_under_autocast_the_output_stays_near_the_float32_one_and_trains(name):
    model, given = build(name), inputs(name)
    wanted = model(*given)
    with torch.autocast("cpu", torch.bfloat16):
        found, *grads = gradients(model, model, given)
    torch.testing.assert_close(found.float(), wanted, atol=0.15, rtol=0.1)
    assert all(g.isfinite().all() for g in grads)


@every_model
def test_a_bfloat16_model_runs(name):
    found = build(name).bfloat16()(*inputs(name, dtype=torch.bfloat16))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), build(name)(*inputs(name)), atol=0.3, rtol=0.2)


@every_model
def test_safetensors_restore_the_outputs_to_the_bit(name):
    model, other, given = build(name), build(name), inputs(name)
    for tensor in other.state_dict().values():
        tensor.zero_()
    other.load_state_dict(load(save(model.state_dict())), strict=True)
    assert torch.equal(other(*given), model(*given))


@every_model
def test_a_deep_copy_gives_the_same_and_shares_nothing(name):
    model, given = build(name), inputs(name)
    wanted = model(*given)
    twin = copy.deepcopy(model)
    for tensor in model.state_dict().values():
        tensor.zero_()
    assert torch.equal(twin(*given), wanted)


@every_model
def test_a_model_built_on_the_meta_device_runs_there_and_can_be_brought_back(name):
    real, given = build(name), inputs(name)
    with torch.device("meta"):
        model = MODELS[name]()
    assert model(*to(given, "meta")).is_meta
    assert model(*to(given, "meta")).shape == real(*given).shape
    model.to_empty(device="cpu").load_state_dict(real.state_dict())
    assert torch.equal(model(*given), real(*given))


@pytest.mark.parametrize("name", [n for n in MODELS if n.startswith("LM")])
def test_steps_run_on_the_meta_device(name):
    with torch.device("meta"):
        model = MODELS[name]()
        tokens = torch.zeros(2, 5, dtype=torch.int64)
        state = model.step(tokens[:, 0], model.prefill(tokens))
    assert state.logits.is_meta
    assert state.logits.shape == (2, 9)


@every_model
def test_an_input_is_never_modified_and_two_runs_are_equal_to_the_bit(name):
    model, given = build(name), inputs(name)
    before = copy.deepcopy(given)
    assert torch.equal(model(*given), model(*given))
    for x, old in zip(given, before, strict=True):
        assert x is old if x is None else torch.equal(x, old)


@every_model
def test_a_model_first_run_in_inference_mode_can_be_trained_after(name):
    model, given = build(name), inputs(name)
    with torch.inference_mode():
        inferred = model(*given)
    found, *grads = gradients(model, model, given)
    assert torch.equal(found, inferred)
    assert all(g.isfinite().all() for g in grads)


@pytest.mark.parametrize(
    ("name", "masked"),
    [(name, True) for name in MODELS if "relu" not in name] + [("OmniNet-full", False)],
)
def test_every_model_compiles_to_one_graph_with_the_same_gradients(name, masked):
    model, given = build(name), inputs(name, masked)
    torch.compiler.reset()
    fast = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(gradients(fast, model, given), gradients(model, model, given))


@pytest.mark.parametrize("name", ["LM-full", "LM-performer", "LM-bigbird"])
def test_prefill_and_step_compile(name):
    model = build(name)
    tokens = inputs(name)[0]
    torch.compiler.reset()
    options = {"fullgraph": True, "backend": "eager"}
    with torch.no_grad():
        state = torch.compile(model.prefill, **options)(tokens[:, :4])
        found = torch.compile(model.step, **options)(tokens[:, 4], state)
        wanted = model.step(tokens[:, 4], model.prefill(tokens[:, :4]))
    torch.testing.assert_close(found.logits, wanted.logits)


@pytest.mark.gpu
@every_model
def test_on_cuda_a_model_gives_the_outputs_and_gradients_of_the_cpu(name):
    model, given = build(name).double(), inputs(name, dtype=torch.float64)
    other = copy.deepcopy(model).cuda()
    found = gradients(other, other, to(given, "cuda"))
    wanted = gradients(model, model, given)
    torch.testing.assert_close([x.cpu() for x in found], wanted, atol=1e-9, rtol=1e-9)
