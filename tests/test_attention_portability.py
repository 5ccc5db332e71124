"""Every attention in every dtype, place and form of running that torch knows."""

import pytest
import torch
from plain_attention import DENSE, KINDS, SEQ, end_mask, kinds_and_groups, performer, qkv
from portability import Portability, compiled

from archbook.attention import (
    BigBirdAttention,
    FullAttention,
    LinformerAttention,
    PerformerAttention,
    gaussian_projection,
)

every_dense_kind = pytest.mark.parametrize("kind", DENSE)
BARE = {  # as KINDS, but without the generators of the CPU
    "full": FullAttention,
    "softmax": lambda: PerformerAttention(4, 7),
    "relu": lambda: PerformerAttention(4, 7, "relu"),
    "bigbird": lambda: BigBirdAttention(SEQ, 2),
    "linformer": lambda: LinformerAttention(SEQ, 5),
}


def inputs(group: int | None = None, seq: int = SEQ, masked: bool = True) -> dict:
    q, k, v = (x.float() for x in qkv(seq=seq))
    mask = end_mask([seq, seq - 3], seq) if masked else None
    return {"q": q, "k": k, "v": v, "mask": mask, "group": group}


class TestPortability(Portability):
    models = BARE
    cases = [(kind, "causal" if group else "") for kind, group in kinds_and_groups(None, 3)]
    only = {
        Portability.test_every_model_compiles_to_one_graph_with_the_same_gradients: [
            *cases,
            *((kind, f"{form} all keys".strip()) for kind, form in cases),
        ]
    }
    dtype_under_autocast = None  # the Performer stays in float32
    near_gradients = 0.1
    near_on_cuda = (1e-9, 1e-9)

    def build(self, name, seed=0):
        return KINDS[name](SEQ)

    def inputs(self, name, form=""):
        return inputs(3 if "causal" in form else None, masked="all keys" not in form)


# ---- dtypes ----


def test_the_default_dtype_is_that_of_a_drawn_projection():
    torch.set_default_dtype(torch.float64)
    try:
        assert gaussian_projection(2, 3).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("kernel", ["softmax", "relu"])
def test_under_autocast_the_performer_is_exact(kernel):
    """Exponents rounded to 8 bits would be off by percents."""
    layer, given, both_ways = performer(kernel), inputs(3), inputs()
    wanted, wanted_both_ways = layer(**given), layer(**both_ways)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(**given), wanted)
        assert torch.equal(layer(**both_ways), wanted_both_ways)
        q, k, v, _, group = given.values()
        y, state = layer.prefill(q, k, v, group=group)
        found, _ = layer.step(q[:, :, :3], k[:, :, :3], v[:, :, :3], state=state)
    torch.testing.assert_close(y, layer(q, k, v, group=group), atol=0, rtol=0)
    wanted, _ = layer.step(q[:, :, :3], k[:, :, :3], v[:, :, :3], state=state)
    assert torch.equal(found, wanted)


# ---- places ----


@every_dense_kind
def test_steps_run_on_the_meta_device(kind):
    with torch.device("meta"):
        layer = BARE[kind]()
        q = torch.empty(2, 2, 6, 4)
        y, state = layer.prefill(q, q, q, group=3)
        step, _ = layer.step(q[:, :, :3], q[:, :, :3], q[:, :, :3], state=state)
    assert y.is_meta
    assert step.shape == (2, 2, 3, 4)


# ---- sizes ----


@pytest.mark.parametrize(("kind", "group"), kinds_and_groups(None, 3))
def test_one_token_or_one_position_is_enough(kind, group):
    seq = group or 1
    layer = KINDS[kind](seq)
    q, k, v = (x.float() for x in qkv(seq=seq))
    y = layer(q, k, v, group=group)
    assert y.shape == q.shape
    if seq == 1 and kind != "linformer":
        torch.testing.assert_close(y, v)


# ---- torch.compile ----


@pytest.mark.compile
@pytest.mark.parametrize(
    ("kind", "group", "dynamic"),
    [("full", 3, None), ("softmax", None, None), ("softmax", 1, False), ("bigbird", 3, False)],
)
def test_a_compiled_layer_takes_other_lengths(kind, group, dynamic):
    """Chunks and blocks of a symbolic length work as well, and take seconds to trace."""
    layer = KINDS[kind](30)
    fast = compiled(layer, dynamic=dynamic)
    for seq in (12, 30):
        given = inputs(group, seq)
        torch.testing.assert_close(fast(**given), layer(**given))


@pytest.mark.compile
@every_dense_kind
def test_prefill_and_step_compile(kind):
    layer, (q, k, v) = KINDS[kind](SEQ), (x.float() for x in qkv())
    y, state = compiled(layer.prefill)(q, k, v, group=3)
    wanted, wanted_state = layer.prefill(q, k, v, group=3)
    torch.testing.assert_close(y, wanted)
    found, _ = compiled(layer.step)(q[:, :, :3], k[:, :, :3], v[:, :, :3], state=state)
    wanted, _ = layer.step(q[:, :, :3], k[:, :, :3], v[:, :, :3], state=wanted_state)
    torch.testing.assert_close(found, wanted)


# ---- CUDA ----


@pytest.mark.gpu
def test_on_cuda_a_generator_there_draws_there():
    generator = torch.Generator("cuda").manual_seed(0)
    assert PerformerAttention(4, 7, generator=generator).projection.is_cuda
