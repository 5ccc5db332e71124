"""Decoding position by position: prefill and steps are the full pass, for a growing prefix."""

import pytest
import torch
from drawing import gap
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_attention import DENSE, HEAD_DIM, HUGE, STEPPED, bigbird, build, end_mask, performer, qkv
from torch import Tensor

every_dense_kind = pytest.mark.parametrize("kind", DENSE)
every_kind = pytest.mark.parametrize("kind", STEPPED)


def token_slices(case, first: int, last: int, positions: int) -> list[Tensor]:
    """The tokens of the positions from `first` to `last`."""
    return [x[:, :, first * x.shape[2] // positions : last * x.shape[2] // positions] for x in case]


def decoded(layer, case, group: int, prefix: int, mask: Tensor | None = None) -> Tensor:
    """prefill on so many positions, the rest step by step."""
    positions = case[1].shape[2] // group
    mask = None if mask is None else mask[:, : prefix * group]
    y, state = layer.prefill(*token_slices(case, 0, prefix, positions), group=group, mask=mask)
    parts = [y]
    for i in range(prefix, positions):
        y, state = layer.step(*token_slices(case, i, i + 1, positions), state=state)
        parts.append(y)
    return torch.cat(parts, 2)


@pytest.mark.shapes
@pytest.mark.parametrize("prefix", [1, 5, 23])
@pytest.mark.parametrize("group", [1, 3])
@every_kind
def test_prefill_and_steps_are_the_full_pass(kind, group, prefix):
    layer, case = build(kind, 24 * group), qkv(seq=24 * group)
    wanted = layer(*case, group=group)
    assert gap(decoded(layer, case, group, prefix), wanted) < 1e-12
    single = [x.float() for x in case]
    assert gap(decoded(layer.float(), single, group, prefix), wanted.float()) < 1e-4


@every_dense_kind
def test_one_query_to_a_position_steps_as_well(kind):
    layer, case = build(kind), qkv(seq=36, queries=12)
    assert gap(decoded(layer, case, 3, 4), layer(*case, group=3)) < 1e-12


@every_kind
def test_a_padded_prompt_stays_padded(kind):
    layer, case, group = build(kind, 24), qkv(seq=24), 2
    mask = end_mask([24, 24], 24)
    mask[0, 6:10] = mask[1, :4] = False
    wanted = layer(*case, mask=mask, group=group)
    for x in case[1:]:
        x[0, :, 6:10] = HUGE
    assert gap(decoded(layer, case, group, 6, mask), wanted) < 1e-12


@pytest.mark.parametrize("kind", ["softmax", "relu"])
def test_a_long_prefill_hands_its_sums_over(kind):
    layer, case = build(kind), qkv(seq=150)
    assert gap(decoded(layer, case, 1, 140), layer(*case, group=1)) < 1e-12


def test_sums_far_below_one_are_handed_over():
    """Softmax features of long keys are about e^-700; a scale from padding would lose them."""
    layer, (q, _, v) = performer().double(), qkv(1, 1, 71)
    q = 40 * HEAD_DIM**0.25 * q / q.norm(dim=-1, keepdim=True)
    y = layer(q, q, v, group=1)
    assert gap(decoded(layer, (q, q, v), 1, 70), y) < 1e-12
    assert gap(y[:, :, 70], v[:, :, 70]) > 0.1  # earlier keys are read


@every_kind
def test_gradients_pass_through_the_state(kind):
    layer, case = build(kind), [x.requires_grad_() for x in qkv(seq=8)]
    for y in (decoded(layer, case, 2, 2), layer(*case, group=2)):
        y.square().sum().backward()
    grads = [x.grad for x in case]
    for x in case:
        x.grad = None
    layer(*case, group=2).square().sum().backward()
    assert gap(grads, [2 * x.grad for x in case]) < 1e-11


@every_kind
def test_a_step_leaves_the_earlier_state_as_it_is(kind):
    """So that a search may go on from one prefix in several ways."""
    layer, case = build(kind), qkv(seq=4)
    _, state = layer.prefill(*case, group=1)
    before = [part.clone() for part in state]
    first, _ = layer.step(*qkv(seq=1, seed=5), state=state)
    layer.step(*qkv(seq=1, seed=9), state=state)
    again, _ = layer.step(*qkv(seq=1, seed=5), state=state)
    assert torch.equal(first, again)
    assert all(torch.equal(part, old) for part, old in zip(state, before, strict=True))


def test_bigbird_decodes_no_further_than_its_length():
    layer, case = bigbird(8).double(), qkv(seq=8)
    _, state = layer.prefill(*case, group=1)
    with pytest.raises(ValueError, match="at most length = 8 tokens, given 9"):
        layer.step(*qkv(seq=1), state=state)


def test_the_performers_state_does_not_grow():
    layer, case = performer().double(), qkv(seq=9)
    _, state = layer.prefill(*token_slices(case, 0, 2, 9), group=1)
    _, later = layer.prefill(*case, group=1)
    assert [part.shape for part in state] == [part.shape for part in later]
    assert state.sums.shape == (2, 2, 7, HEAD_DIM + 1)


@pytest.mark.slow
def test_a_sum_of_a_thousand_steps_keeps_its_digits():
    """In half precision: the sums are kept in float32."""
    layer = performer().bfloat16()
    ones = torch.ones(1, 1, 1, HEAD_DIM, dtype=torch.bfloat16)
    with torch.no_grad():
        _, state = layer.prefill(ones, ones, 0 * ones, group=1)
        for _ in range(999):
            y, state = layer.step(ones, ones, ones, state=state)
    assert state.sums.dtype == torch.float32
    assert y.dtype == torch.bfloat16
    assert gap(y.float(), torch.full((1, 1, 1, HEAD_DIM), 0.999)) < 0.005


@settings(max_examples=30)
@given(
    kind=st.sampled_from(STEPPED),
    group=st.integers(1, 4),
    positions=st.integers(2, 12),
    where=st.floats(0, 1),
    size=st.sampled_from([0.1, 1.0, 4.0]),
    seed=st.integers(0, 10**6),
)
@pytest.mark.shapes
def test_steps_are_the_full_pass_at_any_size(kind, group, positions, where, size, seed):
    seq = group * positions
    layer, case = build(kind, seq), [size * x for x in qkv(1, 1, seq, seed=seed)]
    prefix = 1 + int(where * (positions - 2))
    found = decoded(layer, case, group, prefix)
    assert gap(found, layer(*case, group=group)) < 1e-10 * size
