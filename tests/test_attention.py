"""Every attention: its equation, its mask, its causality, and broken twins that must fail them."""

import itertools
import math

import pytest
import torch
from drawing import gap, normal, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_attention import (
    BATCH,
    CAUSAL,
    DENSE,
    HEAD_DIM,
    HUGE,
    KINDS,
    SEQ,
    bigbird,
    build,
    end_mask,
    kinds_and_groups,
    linformer,
    performer,
    qkv,
    reads,
    slow,
    with_gradients,
)
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from archbook.attention import (
    BigBird,
    FullAttention,
    Linformer,
    LinformerAttention,
    PerformerAttention,
)
from archbook.attention.features import softmax_exponents
from archbook.checks import value_checks

every_kind = pytest.mark.parametrize("kind", KINDS)
every_causal_kind = pytest.mark.parametrize("kind", CAUSAL)
every_group = pytest.mark.parametrize("group", [1, 2, 3])
Q, K, V = qkv()
LONG = 150  # more than two chunks of a prefix sum


def scattered_mask() -> Tensor:
    """Padding anywhere; the first example begins with it."""
    mask = torch.rand(BATCH, SEQ, generator=seeded(3)) > 0.4
    mask[0, :4], mask[1, 0] = False, True
    return mask


# ---- the equations ----


@pytest.mark.shapes
@pytest.mark.parametrize("masked", [False, True], ids=["all keys", "some keys"])
@pytest.mark.parametrize(
    ("kind", "group"),
    kinds_and_groups(None, 1, 3),
)
def test_outputs_and_gradients_equal_the_double_loop(kind, group, masked):
    layer, mask = build(kind), scattered_mask() if masked else None
    found = with_gradients(lambda *case: layer(*case, mask=mask, group=group), Q, K, V)
    wanted = with_gradients(lambda *case: slow(layer, *case, mask, group), Q, K, V)
    assert gap(found, wanted) < 1e-11


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "group"),
    kinds_and_groups(None, 3),
)
def test_the_gradients_equal_finite_differences(kind, group):
    seq = 6
    layer, case = build(kind, seq), [x.requires_grad_() for x in qkv(1, 1, seq)]
    weights = list(layer.parameters())
    assert torch.autograd.gradcheck(lambda *x: layer(*x[:3], group=group), (*case, *weights))


@pytest.mark.parametrize("group", [None, 3])
@pytest.mark.parametrize("kind", DENSE)
def test_queries_may_be_fewer_than_keys(kind, group):
    """One query to a position, of the last layer, reads all depths."""
    layer, case = build(kind), qkv(queries=4)
    assert gap(layer(*case, group=group), slow(layer, *case, None, group)) < 1e-12


@pytest.mark.parametrize("kernel", ["softmax", "relu"])
@pytest.mark.parametrize("masked", [False, True], ids=["all keys", "some keys"])
@pytest.mark.parametrize("group", [None, 1, 3, 75, 150])
@pytest.mark.parametrize("span", [1, 2, 64])
def test_over_many_chunks_the_performer_is_its_dense_formula(
    kernel, group, masked, span, monkeypatch
):
    monkeypatch.setattr("archbook.attention.linear.SPAN", span)
    layer, (q, k, v) = performer(kernel).double(), qkv(seq=LONG)
    mask = end_mask([LONG, 101], LONG) if masked else torch.ones(2, LONG, dtype=torch.bool)
    root = HEAD_DIM**0.25
    if kernel == "softmax":
        phi = [softmax_exponents(x / root, layer.projection).exp() for x in (q, k)]
    else:
        phi = [(x / root @ layer.projection.T).relu() + 1e-3 for x in (q, k)]
    weights = phi[0] @ phi[1].mT * mask[:, None, None]
    if group is not None:
        position = torch.arange(LONG) // group
        weights = weights * (position[:, None] >= position)
    wanted = weights / weights.sum(-1, keepdim=True) @ v
    assert gap(layer(q, k, v, mask=mask if masked else None, group=group), wanted) < 1e-12


@pytest.mark.parametrize("group", [None, 2])
def test_features_far_apart_in_size_are_the_dense_formula(group):
    """Lengths between 0 and 20: the features differ by e^200, and no epsilon hides the small."""
    layer, case = performer().double(), qkv(1, 1)
    q, k, v = (x * torch.linspace(0, 10, SEQ).double()[:, None] for x in case)
    assert gap(layer(q, k, v, group=group), slow(layer, q, k, v, None, group)) < 1e-9
    single = layer.float()(q.float(), k.float(), v.float(), group=group)
    assert single.isfinite().all()


@pytest.mark.parametrize("masked", [False, True], ids=["all keys", "some keys"])
@pytest.mark.parametrize(("group", "queries"), [(1, 12), (1, 24), (2, 12), (3, 12), (2, 6), (4, 3)])
def test_full_attention_in_chunks_is_the_double_loop(group, queries, masked, monkeypatch):
    monkeypatch.setattr("archbook.attention.full.CHUNK", 5)
    layer, mask = FullAttention(), scattered_mask() if masked else None
    case = qkv(queries=queries)
    found = with_gradients(lambda *x: layer(*x, mask=mask, group=group), *case)
    assert gap(found, with_gradients(lambda *x: slow(layer, *x, mask, group), *case)) < 1e-11


# ---- limits: a special case is a known function ----


@pytest.mark.parametrize("group", [None, 1])
def test_full_attention_is_torchs(group):
    wanted = scaled_dot_product_attention(Q, K, V, is_causal=group is not None)
    assert gap(FullAttention()(Q, K, V, group=group), wanted) < 1e-12


@pytest.mark.parametrize("seq", [SEQ, SEQ - 1])
def test_linformer_with_the_identity_is_full_attention(seq):
    layer, case = linformer(seq, seq).double(), qkv(seq=seq)
    layer.E.data = torch.eye(seq).double()
    mask = end_mask([seq, seq], seq)
    assert gap(layer(*case), FullAttention()(*case)) < 1e-12
    assert gap(layer(*case, mask=mask), FullAttention()(*case)) < 1e-12


@pytest.mark.parametrize("group", [None, 1, 3])
@pytest.mark.parametrize("masked", [False, True], ids=["all keys", "some keys"])
@pytest.mark.parametrize(
    "blocks",
    [
        {"window": 11, "global_blocks": 0, "random_blocks": 0},
        {"window": 1, "global_blocks": 6, "random_blocks": 0},
        {"window": 1, "global_blocks": 0, "random_blocks": 5},
        {"window": 3, "global_blocks": 2, "random_blocks": 3},
        {"window": 99, "global_blocks": 99, "random_blocks": 99},
    ],
    ids=["window", "global", "random", "together", "too many"],
)
def test_bigbird_whose_blocks_cover_everything_is_full_attention(blocks, masked, group):
    layer, mask = bigbird(**blocks), scattered_mask() if masked else None
    found = with_gradients(lambda *case: layer(*case, mask=mask, group=group), Q, K, V)
    wanted = with_gradients(lambda *case: FullAttention()(*case, mask=mask, group=group), Q, K, V)
    assert gap(found, wanted) < 1e-11


@every_causal_kind
def test_one_position_of_all_tokens_is_not_causal(kind):
    """Apart from BigBird's global blocks, which only then read everything."""
    layer = bigbird(global_blocks=0) if kind == "bigbird" else build(kind)
    assert gap(layer(Q, K, V, group=SEQ), layer(Q, K, V)) < 1e-12


@every_kind
def test_equal_values_come_out_as_they_are(kind):
    """The weights of every query sum to one."""
    layer, v = build(kind), normal(2, 2, 1, HEAD_DIM).expand_as(V)
    if kind == "linformer":
        layer.E.data /= layer.E.data.sum(1, keepdim=True)
    assert gap(layer(Q, K, v), v) < 1e-12


@pytest.mark.parametrize("kind", DENSE)
def test_renumbered_keys_change_nothing_and_renumbered_queries_renumber_outputs(kind):
    layer = build(kind)
    order, other = (torch.randperm(SEQ, generator=seeded(s)) for s in (1, 2))
    found = layer(Q[:, :, order], K[:, :, other], V[:, :, other])
    assert gap(found, layer(Q, K, V)[:, :, order]) < 1e-12


@pytest.mark.parametrize("kind", DENSE)
def test_keys_repeated_p_times_change_nothing(kind):
    layer = build(kind)
    k, v = (x.repeat_interleave(3, 2) for x in (K, V))
    for group in (None, 1):
        wanted = layer(Q, K, V, group=group)
        assert gap(layer(Q, k, v, group=group and 3), wanted) < 1e-12


# ---- who reads whom ----


def read_by(layer, group: int | None, mask: Tensor | None = None) -> Tensor:
    """(queries, keys): whether the value of a key reaches the output of a query, in example 0."""
    jacobian = torch.autograd.functional.jacobian(
        lambda v: layer(Q, K, v, mask=mask, group=group)[0, 0], V
    )
    return jacobian[:, :, 0, 0].abs().sum((1, 3)) > 0


@pytest.mark.parametrize("group", [None, 1, 2, 3, 4, 12])
@every_causal_kind
def test_a_query_reads_all_keys_of_its_position_and_before_and_no_other(kind, group):
    layer, mask = build(kind), scattered_mask()
    for given_mask in (None, mask):
        wanted = torch.zeros(SEQ, SEQ, dtype=torch.bool)
        for t, j in itertools.product(range(SEQ), range(SEQ)):
            past = group is None or j // group <= t // group
            real = given_mask is None or bool(mask[0, j])
            wanted[t, j] = past and real and reads(layer, t, j, SEQ, causal=group is not None)
        assert torch.equal(read_by(layer, group, given_mask), wanted)


# ---- causality ----


def leak(call, group: int, size: float = HUGE, cut: int = 90, seed: int = 0) -> float:
    """How far the outputs before `cut` move when all that comes from there on is huge."""
    case = qkv(2, 1, LONG, seed=seed)
    changed = [x.clone() for x in case]
    for x in changed:
        x[:, :, cut:] = x[:, :, cut:].sign() * size
    return gap(*(call(*given, group=group)[:, :, :cut] for given in (changed, case)))


@pytest.mark.shapes
@every_group
@every_causal_kind
def test_the_future_changes_nothing(kind, group):
    layer = build(kind, LONG)
    assert leak(layer, group) < 1e-12
    assert leak(layer, group, size=3) < 1e-12


@every_group
@every_causal_kind
def test_the_gradient_by_the_future_is_exactly_zero(kind, group):
    layer, case = build(kind, LONG), qkv(1, 1, LONG)
    for x in case:
        x[:, :, 90:] = x[:, :, 90:].sign() * HUGE
        x.requires_grad_()
    seen = layer(*case, group=group)[:, :, :90].square().sum()
    for grad in torch.autograd.grad(seen, case):
        assert grad.isfinite().all()
        assert grad[:, :, :90].abs().max() > 1e-3
        assert (grad[:, :, 90:] == 0).all()


@every_group
@pytest.mark.parametrize("span", [1, 64])
def test_short_keys_after_long_ones_change_nothing(group, span, monkeypatch):
    """Their softmax features are e^800 times as large: any scale in common would lose the past."""
    monkeypatch.setattr("archbook.attention.linear.SPAN", span)
    layer, (q, _, v) = performer().double(), qkv(1, 1, LONG)
    long = 40 * HEAD_DIM**0.25 * q / q.norm(dim=-1, keepdim=True)
    q = torch.cat([long[:, :, :90], q[:, :, 90:] / 10], 2)
    y = layer(q, q, v, group=group)
    alone = layer(q[:, :, :90], q[:, :, :90], v[:, :, :90], group=group)
    assert gap(y[:, :, :90], alone) < 1e-12
    assert (alone.abs().amax(-1) > 1e-6).all()
    single = [x[:, :, :1] for x in (q, q, v)]
    assert gap(layer(*single), single[2]) < 1e-12


@every_group
def test_a_future_whose_square_overflows_changes_nothing(group):
    """|k|^2 / 2 is infinite in float32, and infinity minus infinity would be NaN."""
    layer, case = performer(), [x.float() for x in qkv(1, 1, LONG)]
    wanted = layer(*case, group=group)
    for x in case:
        x[:, :, 90:] = x[:, :, 90:].sign() * 1e25
        x.requires_grad_()
    y = layer(*case, group=group)
    assert y.isfinite().all()
    assert gap(y[:, :, :90], wanted[:, :, :90]) < 1e-6
    for grad in torch.autograd.grad(y[:, :, :90].square().sum(), case):
        assert grad.isfinite().all()
        assert (grad[:, :, 90:] == 0).all()


@every_group
def test_a_future_whose_sums_overflow_changes_nothing(group):
    """Each value is finite, their sum over a chunk is not, and zero times infinity would be NaN."""
    layer, (q, k, v) = performer().double(), qkv(1, 1, LONG)
    wanted = layer(q, k, v, group=group)
    v[:, :, 90:] = 0.9 * torch.finfo(v.dtype).max
    assert gap(layer(q, k, v, group=group)[:, :, :90], wanted[:, :, :90]) < 1e-12


@every_group
@every_causal_kind
def test_what_is_cut_off_changes_nothing(kind, group):
    layer, case = build(kind, LONG), qkv(seq=LONG)
    whole = layer(*case, group=group)
    for seq in (6, 66, 132):
        assert gap(layer(*(x[:, :, :seq] for x in case), group=group), whole[:, :, :seq]) < 1e-12


@pytest.mark.parametrize(("kind", "group"), kinds_and_groups(None, 3))
def test_batch_mates_change_nothing(kind, group):
    layer, mates = build(kind), [x.clone() for x in (Q, K, V)]
    for x in mates:
        x[1] = x[1].sign() * HUGE
    alone = layer(*(x[:1] for x in mates), group=group)
    assert gap(layer(*mates, group=group)[:1], alone) < 1e-12
    assert gap(layer(Q, K, V, group=group)[:1], alone) < 1e-12


@settings(max_examples=40)
@given(
    kind=st.sampled_from(CAUSAL),
    group=st.integers(1, 4),
    positions=st.integers(2, 40),
    where=st.floats(0, 1),
    size=st.sampled_from([1.0, 30.0, 1e4, HUGE]),
    seed=st.integers(0, 10**6),
)
@pytest.mark.shapes
def test_the_future_changes_nothing_at_any_size(kind, group, positions, where, size, seed):
    seq = group * positions
    cut = group * (1 + int(where * (positions - 2)))
    layer, case = build(kind, seq), qkv(1, 1, seq, seed=seed)
    changed = [torch.cat([x[:, :, :cut], x[:, :, cut:].sign() * size], 2) for x in case]
    found, wanted = (layer(*given, group=group)[:, :, :cut] for given in (changed, case))
    assert gap(found, wanted) < 1e-9


# ---- broken twins of causality ----


def dense_performer(stabilizer, eps: float):
    """Causal FAVOR+ of a public package: exp(. - stabilizer) + eps, by its dense formula."""
    layer = performer(features=16).double()

    def call(q, k, v, group):
        u, w = (softmax_exponents(x / HEAD_DIM**0.25, layer.projection) for x in (q, k))
        phi_q = (u - u.amax(-1, keepdim=True)).exp() + eps
        phi_k = (w - stabilizer(w)).exp() + eps
        position = torch.arange(q.shape[2]) // group
        weights = phi_q @ phi_k.mT * (position[:, None] >= position)
        return weights / weights.sum(-1, keepdim=True) @ v

    return call


def test_the_law_notices_a_stabiliser_over_all_keys():
    """Its maximum holds later keys, and cancels only where no epsilon is added."""

    def over_all(w):
        return w.amax((-2, -1), keepdim=True)

    def of_each_key(w):
        return w.amax(-1, keepdim=True)

    leaks = [leak(dense_performer(over_all, eps=1e-4), 3, size=3, seed=s) for s in range(10)]
    assert max(leaks) > 1e-2
    assert leak(dense_performer(over_all, eps=0), 3, size=3) < 1e-12
    assert leak(dense_performer(of_each_key, eps=1e-4), 3, size=3) < 1e-12


def test_the_law_notices_features_drawn_from_a_sum_over_queries():
    def redrawn(q, k, v, group):
        generator = seeded(int(q.sum().abs() * 1000) % 2**31)
        return PerformerAttention(HEAD_DIM, 16, generator=generator).double()(q, k, v, group=group)

    assert leak(redrawn, 1, size=3) > 1e-2


def test_the_law_notices_blocks_that_are_not_intersected_with_the_past():
    layer = bigbird(LONG)
    assert leak(lambda q, k, v, group: layer(q, k, v), 1, size=3) > 1e-2


def test_the_law_notices_a_mixture_of_all_keys():
    layer = linformer(LONG).double()
    assert leak(lambda q, k, v, group: layer(q, k, v), 1, size=3) > 1e-2


# ---- masks ----


@pytest.mark.shapes
@pytest.mark.parametrize(("kind", "group"), kinds_and_groups(None, 1, 3))
def test_padded_keys_change_neither_outputs_nor_gradients(kind, group):
    """Not even the largest finite numbers, whose products are infinite."""
    layer, mask = build(kind), scattered_mask()
    padded = ~mask[:, None, :, None]
    changed = [x.where(~padded, x.sign() * torch.finfo(x.dtype).max) for x in (K, V)]
    found = with_gradients(lambda *case: layer(*case, mask=mask, group=group), Q, *changed)
    wanted = with_gradients(lambda *case: layer(*case, mask=mask, group=group), Q, K, V)
    assert gap(found, wanted) == 0
    for grad in found[2:]:
        assert (grad.where(padded, 0) == 0).all()


@every_kind
def test_padding_at_the_end_is_as_if_it_were_not_there(kind):
    layer, seq = build(kind), 7
    short = [x[:, :, :seq] for x in (Q, K, V)]
    shorter = layer
    if kind == "linformer":
        shorter = LinformerAttention(seq).double()
        shorter.E.data = layer.E.data[:, :seq]
    found = layer(Q, K, V, mask=end_mask([seq, seq]))[:, :, :seq]
    assert gap(found, shorter(*short)) < 1e-12


@every_kind
def test_a_mask_without_padding_changes_nothing(kind):
    layer, mask = build(kind), torch.ones(BATCH, SEQ, dtype=torch.bool)
    assert gap(layer(Q, K, V, mask=mask), layer(Q, K, V)) < 1e-12


@every_causal_kind
def test_a_query_that_may_read_no_real_key_gets_zero(kind):
    mask = torch.ones(BATCH, SEQ, dtype=torch.bool)
    mask[0, :4] = False
    y, *grads = with_gradients(lambda *case: build(kind)(*case, mask=mask, group=2), Q, K, V)
    assert (y[0, :, :4] == 0).all()
    assert (y[0, :, 4:].abs().amax(-1) > 1e-6).all()
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("kind", ["full", "bigbird"])
def test_no_kernel_is_asked_for_a_softmax_over_nothing(kind, monkeypatch):
    """What comes out then differs from one kernel to another; here it is NaN."""

    def strict(q, k, v, allowed):
        scores = (q @ k.mT / math.sqrt(HEAD_DIM)).masked_fill(~allowed, -torch.inf)
        return scores.softmax(-1) @ v

    layer, mask = build(kind), scattered_mask()
    wanted = with_gradients(lambda *case: layer(*case, mask=mask, group=2), Q, K, V)
    monkeypatch.setattr("archbook.attention.full.scaled_dot_product_attention", strict)
    found = with_gradients(lambda *case: layer(*case, mask=mask, group=2), Q, K, V)
    assert gap(found, wanted) < 1e-12


@every_kind
def test_unchecked_an_example_without_a_real_key_gets_zero(kind):
    mask = end_mask([SEQ, 0])
    with value_checks(False):
        y = build(kind)(Q, K, V, mask=mask)
    assert (y[1] == 0).all()
    assert y[0].isfinite().all()


# ---- what is never formed ----


class Largest(TorchDispatchMode):
    """Notes the elements of the largest tensor that an operation returns, and of all together."""

    def __init__(self):
        super().__init__()
        self.numel = self.total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for part in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(part, Tensor):
                self.numel = max(self.numel, part.numel())
                self.total += part.numel()
        return out


def largest_tensor(layer, seq: int, group: int | None) -> int:
    case = [x.requires_grad_() for x in qkv(1, 1, seq)]
    with Largest() as found:
        layer(*case, group=group).sum().backward()
    return found.numel


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "group"),
    [*kinds_and_groups(None, 1), ("full", 3), ("softmax", 3), ("relu", 3), ("bigbird", 3)],
)
def test_the_largest_tensor_grows_with_the_tokens_not_with_their_square(kind, group):
    short, long = (largest_tensor(build(kind, seq), seq, group) for seq in (510, 1020))
    assert long <= 2.1 * short
    assert long < 1020**2 / 3


@pytest.mark.slow
@pytest.mark.parametrize("group", [None, 1, 3])
@pytest.mark.parametrize("kind", ["softmax", "relu"])
def test_all_tensors_together_grow_with_the_tokens(kind, group):
    """Forward and backward: a loop whose every step makes a tensor of full length would not."""
    totals = []
    for seq in (1536, 3072):
        case = [x.requires_grad_() for x in qkv(1, 1, seq)]
        with Largest() as found:
            build(kind)(*case, group=group).sum().backward()
        totals.append(found.total)
    assert totals[1] <= 2.05 * totals[0]


def test_the_check_of_sizes_notices_a_map():
    def mapped(q, k, v, group):
        return (q @ k.mT / math.sqrt(HEAD_DIM)).softmax(-1) @ v

    assert largest_tensor(mapped, 256, None) == 256**2


def test_the_sizes_that_nobody_names_are_those_of_the_docstrings():
    assert BigBird() == BigBird(block=8, window=3, global_blocks=1, random_blocks=1)
    assert Linformer() == Linformer(rank=16)
