"""OmniNet reads no later token, decodes what the full pass gives, and the seven traps."""

import pytest
import torch
from drawing import gap, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_omninet import (
    CAUSAL,
    HEADS,
    HIDDEN,
    HUGE,
    METAS,
    PARTITIONS,
    SEQ,
    leak,
    meta_learner,
    omninet,
    redrawn,
    states,
)

from archbook.attention import FullAttention
from archbook.omninet import LanguageModel, OmniNet, OmniNetLM, Transformer
from archbook.omninet.stacking import POOLS
from archbook.omninet.traps import (
    CUT,
    MOVED,
    TRAPS,
    layer_major_pooling,
    outcome,
    pooled,
)

every_meta = pytest.mark.parametrize("meta", CAUSAL)
every_partition = pytest.mark.parametrize("partition", PARTITIONS)
VOCAB = 9


def causal_net(meta: str, partition: int, length: int = SEQ, **options) -> OmniNet:
    return omninet(meta, partition, length, causal=True, **options)


# ---- later tokens ----


@pytest.mark.shapes
@pytest.mark.parametrize("size", [3.0, HUGE])
@every_partition
@every_meta
def test_later_tokens_change_nothing(meta, partition, size):
    assert leak(causal_net(meta, partition), size=size) < 1e-9


@every_partition
@every_meta
def test_the_gradient_by_later_tokens_is_exactly_zero(meta, partition):
    net, x = causal_net(meta, partition), states().requires_grad_()
    (grad,) = torch.autograd.grad(net(x)[:, :4].square().sum(), x)
    assert (grad[:, 4:] == 0).all()
    assert (grad[:, :4].abs().amax(-1) > 1e-6).all()


@every_partition
@every_meta
def test_what_is_cut_off_changes_nothing(meta, partition):
    net, x = causal_net(meta, partition), states()
    for seq in (1, 4, SEQ - 1):
        assert gap(net(x[:, :seq]), net(x)[:, :seq]) < 1e-9


@every_partition
@every_meta
def test_batch_mates_change_nothing(meta, partition):
    net, x = causal_net(meta, partition), states()
    mates = x.clone()
    mates[1] *= HUGE
    assert gap(net(mates)[:1], net(x[:1])) < 1e-9


@every_meta
def test_a_token_reads_all_depths_of_its_own_position(meta):
    """Not only those before it in the stack: the first layer's token reads the last layer's."""
    learner = meta_learner(meta, causal=True)
    given = torch.randn(1, SEQ, 3, HIDDEN).double().requires_grad_()
    read = learner.read(given)[0]  # (seq, depth, hidden)
    for i in (0, 4):
        for depth in range(3):
            (grad,) = torch.autograd.grad(read[i, depth].square().sum(), given, retain_graph=True)
            reached = grad[0].abs().amax(-1) > 0
            assert reached[i].all()
            assert not reached[i + 1 :].any()


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("query", ["all", "top"])
def test_every_pool_and_query_is_causal(pool, query):
    assert leak(causal_net("full", 3, pool=pool, query=query)) < 1e-9


@pytest.mark.slow
@settings(max_examples=40)
@given(
    meta=st.sampled_from(CAUSAL),
    partition=st.integers(1, 3),
    seq=st.integers(2, 20),
    where=st.floats(0, 1),
    size=st.sampled_from([1.0, 30.0, HUGE]),
    scale=st.sampled_from([0.1, 1.0, 10.0]),
    pool=st.sampled_from(POOLS),
    seed=st.integers(0, 10**6),
)
@pytest.mark.shapes
def test_later_tokens_change_nothing_at_any_size(
    meta, partition, seq, where, size, scale, pool, seed
):
    """Weights too: ten times larger ones make scores of hundreds."""
    net = causal_net(meta, partition, seq, layers=2 * partition, scale=scale, pool=pool)
    cut = 1 + int(where * (seq - 2))
    reach = net(states(seq=seq, seed=seed)).abs().max().item()
    assert leak(net, cut, size, seq, seed) < 1e-9 * max(1, reach)


def test_the_law_notices_a_meta_learner_that_reads_both_ways():
    net = causal_net("full", 2)
    net.metas[1].group = None
    assert leak(net, size=3) > 1e-2


def test_the_law_notices_a_block_that_reads_both_ways():
    net = causal_net("full", 2)
    net.blocks[5].group = None
    assert leak(net, size=3) > 1e-2


# ---- decoding ----


def language_model(meta: str, partition: int = 2, length: int = 12, **options) -> OmniNetLM:
    torch.manual_seed(0)
    stack = {"partition": partition, "meta": METAS[meta]} | options
    return redrawn(OmniNetLM(VOCAB, length, 6, hidden=HIDDEN, heads=HEADS, **stack))


def tokens(batch: int = 2, seq: int = 12) -> torch.Tensor:
    return torch.randint(VOCAB, (batch, seq), generator=seeded(3))


def decoded(model: LanguageModel, given: torch.Tensor, prefix: int) -> torch.Tensor:
    """Logits from the last token of the prefix on."""
    state = model.prefill(given[:, :prefix])
    found = [state.logits]
    for token in given[:, prefix:].unbind(1):
        state = model.step(token, state)
        found.append(state.logits)
    return torch.stack(found, 1)


@pytest.mark.shapes
@pytest.mark.parametrize("prefix", [1, 5, 11])
@every_partition
@every_meta
def test_prefill_and_steps_are_the_full_pass(meta, partition, prefix):
    model, given = language_model(meta, partition), tokens()
    assert gap(decoded(model, given, prefix), model(given)[:, prefix - 1 :]) < 1e-9


@pytest.mark.parametrize("options", [{"pool": p} for p in POOLS] + [{"query": "top"}])
def test_every_pool_and_query_decodes(options):
    model, given = language_model("full", 3, depth_vectors=True, **options), tokens()
    assert gap(decoded(model, given, 4), model(given)[:, 3:]) < 1e-9


@every_meta
def test_in_float32_steps_stay_near_the_full_pass(meta):
    model, given = language_model(meta).float(), tokens()
    torch.testing.assert_close(decoded(model, given, 5), model(given)[:, 4:], atol=1e-4, rtol=1e-4)


def test_a_plain_transformer_decodes_as_well():
    model = redrawn(LanguageModel(Transformer(3, HIDDEN, HEADS, causal=True), VOCAB, 12))
    assert gap(decoded(model, tokens(), 5), model(tokens())[:, 4:]) < 1e-9


@every_meta
def test_a_padded_beginning_of_the_stack_stays_padded(meta):
    """Hidden states have no positions of their own: what is left out may lie anywhere."""
    body, x = language_model(meta).body, states(2)
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[1, :2] = False
    y, state = body.prefill(x[:, :5], mask)
    other = x.clone()
    other[1, :2] += 1
    changed, after = body.prefill(other[:, :5], mask)
    assert gap(changed[:, 2:], y[:, 2:]) < 1e-9
    found, wanted = (body.step(x[:, 5:6], one)[0] for one in (after, state))
    assert gap(found, wanted) < 1e-9
    longer = torch.ones(2, 6, dtype=torch.bool)
    longer[:, :5] = mask
    assert gap(wanted, body(x[:, :6], longer)[:, 5:]) < 1e-9


@every_meta
def test_a_step_leaves_the_earlier_state_as_it_is(meta):
    """A search may go on from one prompt in several ways."""
    model = language_model(meta)
    state = model.prefill(tokens(seq=4))
    first = model.step(tokens()[:, 5], state).logits
    model.step(tokens()[:, 6], state)
    assert torch.equal(model.step(tokens()[:, 5], state).logits, first)


def test_the_performers_meta_state_does_not_grow():
    model = language_model("performer")
    short, long = (model.prefill(tokens(seq=n)).stack.metas for n in (3, 9))
    for one, other in zip(short, long, strict=True):
        assert [x.shape for x in one] == [x.shape for x in other]


# ---- the seven traps ----


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_a_trap_is_seen(trap):
    assert outcome(trap.broken).verdict == trap.wrong


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_the_form_beside_a_trap_holds(trap):
    found = outcome(trap.right)
    assert found.verdict == "holds"
    assert found.later < 1e-12
    assert found.mate < 1e-12


def test_pooling_neighbours_is_wrong_without_causality_too():
    """It mixes positions: with values that name their position, foreign names come out."""
    x = torch.randn(2, 32, 2, 8, generator=seeded(0)).double()
    moved = x.clone()
    moved[:, CUT + 1] += 1  # changes what position CUT + 1 finds, and by causality none before
    wrong, right = (form(moved) - form(x) for form in (layer_major_pooling, pooled))
    assert right[:, : CUT + 1].abs().max() < 1e-12
    assert wrong[:, : CUT + 1].abs().max() > MOVED


def test_stricter_rules_read_fewer_pairs_of_a_position():
    """P (P + 1) / 2 of the P^2 pairs of a position's depths."""
    v = torch.eye(6).double()[None, None]
    q = torch.zeros(1, 1, 6, 1).double().expand(1, 1, 6, 6)
    strict, rule = (FullAttention()(q, q, v, group=group)[0, 0] > 0 for group in (1, 3))
    own = torch.block_diag(torch.ones(3, 3), torch.ones(3, 3)).bool()
    assert int((strict & own).sum()) == 2 * 6
    assert int((rule & own).sum()) == 2 * 9
