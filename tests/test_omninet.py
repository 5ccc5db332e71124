"""OmniNet: its equations, its limits, what order and depth do to it, and what never is formed."""

import math

import pytest
import torch
from drawing import gap, normal, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_attention import end_mask, with_gradients
from plain_omninet import (
    BATCH,
    DENSE,
    FORMS,
    HEADS,
    HIDDEN,
    LAYERS,
    METAS,
    PARTITIONS,
    SEQ,
    depths,
    meta_learner,
    omninet,
    redrawn,
    slow_meta,
    slow_network,
    states,
)
from test_attention import Largest
from torch import Tensor, nn

from archbook.attention import BigBird, Full, FullAttention, Performer
from archbook.omninet import (
    AUTO_TOKENS,
    MetaLearner,
    OmniNet,
    Transformer,
    choose_meta,
    index_sort,
    index_unsort,
    meta_flops,
)
from archbook.omninet.stacking import POOLS

every_meta = pytest.mark.parametrize("meta", METAS)
every_form = pytest.mark.parametrize(("meta", "causal"), FORMS)
every_pool = pytest.mark.parametrize("pool", POOLS)
every_partition = pytest.mark.parametrize("partition", PARTITIONS)
X = states()
MASK = end_mask([SEQ, SEQ - 3], SEQ)


# ---- stacking ----


@pytest.mark.shapes
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_stack_holds_all_depths_of_a_token_side_by_side(depth):
    layers = [states(seed=s) for s in range(depth)]
    stacked = index_sort(layers)
    for i in range(SEQ):
        for own in range(depth):
            assert torch.equal(stacked[:, i * depth + own], layers[own][:, i])


def test_unsorting_gives_the_layers_back():
    layers = [states(seed=s) for s in range(3)]
    assert torch.equal(index_unsort(index_sort(layers), 3), torch.stack(layers, 2))


# ---- the equations ----


@pytest.mark.slow
@pytest.mark.shapes
@pytest.mark.parametrize("masked", [False, True], ids=["all tokens", "some tokens"])
@every_form
def test_outputs_and_gradients_equal_the_equations(meta, causal, masked):
    net = omninet(meta, layers=4, causal=causal)
    mask = MASK if masked else None
    found = with_gradients(lambda x: net(x, mask), X)
    wanted = with_gradients(lambda x: slow_network(net, x, mask), X)
    if masked:  # what comes out at padding means nothing
        found, wanted = ([x * MASK[..., None] for x in part] for part in (found, wanted))
        loss = [net(X, mask), slow_network(net, X, mask)]
        assert gap(*(x * MASK[..., None] for x in loss)) < 1e-9
        return
    assert gap(found, wanted) < 1e-9


@pytest.mark.parametrize("query", ["all", "top"])
@every_pool
def test_the_meta_learner_equals_its_equation(pool, query):
    meta = meta_learner(pool=pool, query=query, depth_vectors=True)
    given = depths()
    wanted = slow_meta(meta, [given[:, :, depth] for depth in range(3)], None)
    assert gap(meta(given), wanted) < 1e-10


@every_form
def test_the_gradients_equal_finite_differences(meta, causal):
    net = omninet(meta, layers=2, causal=causal, pool="learned", length=4, ffn=5)
    x = normal(1, 4, HIDDEN, seed=3).requires_grad_()
    weights = list(net.metas.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: net(x), (x, *weights), fast_mode=True)


def test_maximum_pooling_hands_the_gradient_to_one_depth_a_feature():
    meta = meta_learner()
    read = meta.read(depths()).detach().requires_grad_()
    pooled = meta.pooled(read.flatten(1, 2))
    (grad,) = torch.autograd.grad(pooled.sum(), read)
    assert torch.equal(grad.sum(2), torch.ones(BATCH, SEQ, HIDDEN).double())
    assert ((grad == 0) | (grad == 1)).all()


# ---- limits ----


@every_partition
@every_form
def test_a_zeroed_meta_learner_leaves_the_transformer(meta, partition, causal):
    net = omninet(meta, partition, causal=causal)
    plain = redrawn(Transformer(LAYERS, HIDDEN, HEADS, causal=causal))
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if k.startswith("blocks")})
    assert not torch.equal(net(X), plain(X))
    for part in net.metas:
        part.heads.out.weight.data.zero_()
    assert torch.equal(net(X, MASK), plain(X, MASK))
    assert torch.equal(net(X), plain(X))


@every_pool
@pytest.mark.parametrize("meta", ["full", "performer", "relu"])
@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
def test_equal_layers_make_it_plain_attention(causal, meta, pool):
    """Each key is there P times, which cancels in the average; all depths find the same."""
    deep = meta_learner(meta, 3, pool=pool, causal=causal)
    flat = meta_learner(meta, 1, causal=causal)
    shared = {k: v for k, v in deep.state_dict().items() if k != "pool_logits"}
    flat.load_state_dict(shared)
    given = X[:, :, None].expand(-1, -1, 3, -1)
    assert gap(deep(given, MASK), flat(X[:, :, None], MASK)) < 1e-12


@every_pool
def test_a_partition_of_one_is_an_attention_block(pool):
    meta = meta_learner(depth=1, pool=pool)
    heads, y = meta.heads, meta.norm(X)
    k, v = heads.keys_values(y)
    wanted = heads.merge(FullAttention()(heads.queries(y), k, v))
    assert gap(meta(X[:, :, None]), wanted) < 1e-12


@pytest.mark.parametrize(("meta", "causal"), [f for f in FORMS if f[0] in DENSE])
def test_top_queries_are_the_last_depth_of_all(meta, causal):
    """The variant of the authors' code is the cheap way to pool="last"."""
    top, last = (omninet(meta, 3, causal=causal, **o) for o in ({"query": "top"}, {"pool": "last"}))
    top.load_state_dict(dict(last.state_dict()))  # by intent, so unchecked
    assert gap(top(X, MASK), last(X, MASK)) < 1e-10


def test_learned_pooling_begins_as_the_mean():
    learned, mean = (MetaLearner(HIDDEN, HEADS, 3, pool=p).double() for p in ("learned", "mean"))
    learned.load_state_dict(dict(mean.state_dict()), strict=False)
    assert gap(learned(depths()), mean(depths())) < 1e-12


def test_linformer_with_the_identity_is_the_full_meta_learner():
    low, full = meta_learner("linformer"), meta_learner("full")
    low.attention.E.data = torch.eye(3 * SEQ).double()
    low.load_state_dict(dict(full.state_dict()), strict=False)
    assert gap(low(depths()), full(depths())) < 1e-12


def test_bigbird_with_a_wide_window_is_the_full_meta_learner():
    kind = BigBird(block=2, window=9)
    wide = redrawn(MetaLearner(HIDDEN, HEADS, 3, meta=kind, length=SEQ))
    full = meta_learner("full")
    assert gap(wide(depths(), MASK), full(depths(), MASK)) < 1e-12


# ---- symmetries ----

ORDER = torch.tensor([2, 0, 1])


@pytest.mark.parametrize("meta", ["full", "performer", "relu"])
@pytest.mark.parametrize("pool", ["max", "mean"])
def test_the_order_of_depths_does_not_matter(pool, meta):
    learner = meta_learner(meta, pool=pool)
    assert gap(learner(depths()[:, :, ORDER]), learner(depths())) < 1e-12


@pytest.mark.parametrize(
    "options", [{"pool": "last"}, {"pool": "learned"}, {"query": "top"}, {"depth_vectors": True}]
)
def test_the_order_of_depths_matters_where_one_is_marked(options):
    learner = meta_learner(**options)
    assert gap(learner(depths()[:, :, ORDER]), learner(depths())) > 1e-2


@pytest.mark.parametrize("meta", ["full", "performer", "relu"])
def test_renumbered_tokens_renumber_the_outputs(meta):
    net, order = omninet(meta), torch.randperm(SEQ, generator=seeded(4))
    assert gap(net(X[:, order]), net(X)[:, order]) < 1e-10


def test_only_bigbird_and_linformer_see_the_order_of_tokens():
    order = torch.randperm(SEQ, generator=seeded(4))
    for meta in ("bigbird", "linformer"):
        net = omninet(meta)
        assert gap(net(X[:, order]), net(X)[:, order]) > 1e-3


def test_full_attention_finds_the_same_in_layer_major_order():
    """The order decides only where attention has blocks, prefixes or a pooling kernel."""
    learner, given = meta_learner(), depths()
    y = learner.norm(given.transpose(1, 2).flatten(1, 2))
    heads = learner.heads
    k, v = heads.keys_values(y)
    found = heads.merge(FullAttention()(heads.queries(y), k, v)).unflatten(1, (3, SEQ))
    assert gap(found.transpose(1, 2), learner.read(given)) < 1e-12


def test_every_layer_has_a_path_of_length_one_to_its_partitions_output():
    """With what the blocks add cut off, the output still moves with each layer."""
    learner, given = meta_learner(pool="mean"), depths().requires_grad_()
    (grad,) = torch.autograd.grad(learner(given).square().sum(), given)
    assert (grad.abs().amax((0, 1, 3)) > 1e-3).all()


# ---- masks ----


@every_meta
def test_padding_changes_no_real_token(meta):
    net, changed = omninet(meta), X.clone()
    changed[1, SEQ - 3 :] = states(seed=9)[1, SEQ - 3 :] * 1e50
    real = MASK[..., None]
    assert gap(net(changed, MASK) * real, net(X, MASK) * real) < 1e-9


@pytest.mark.parametrize("meta", [m for m in METAS if m != "linformer"])
def test_padding_at_the_end_is_as_if_it_were_not_there(meta):
    net = omninet(meta)
    assert gap(net(X, MASK)[1:, : SEQ - 3], net(X[1:, : SEQ - 3])) < 1e-9


@every_meta
def test_a_mask_without_padding_changes_nothing(meta):
    net = omninet(meta)
    assert gap(net(X, torch.ones(BATCH, SEQ, dtype=torch.bool)), net(X)) < 1e-9


@every_meta
def test_batch_mates_change_nothing(meta):
    net, mates = omninet(meta), X.clone()
    mates[1] *= 1e50
    alone = net(X[:1])
    assert gap(net(X)[:1], alone) < 1e-9
    assert gap(net(mates)[:1], alone) < 1e-9


# ---- pictures ----


@pytest.mark.parametrize("query", ["all", "top"])
def test_depth_weights_are_the_shares_of_full_attention(query):
    learner, given = meta_learner(causal=True, query=query), depths()
    weights = learner.depth_weights(given, MASK)
    assert weights.shape == (BATCH, HEADS, SEQ, 1 if query == "top" else 3, 3)
    assert gap(weights.sum(-1), torch.ones(weights.shape[:-1]).double()) < 1e-12
    # values that name their depth come out as the shares
    learner.heads.kv.weight.data[HIDDEN:] = 0
    named = torch.eye(3, HIDDEN // HEADS).double().repeat(1, HEADS)
    q, k, _ = learner.projected(given, None)
    v = named.repeat(SEQ, 1).unflatten(-1, (HEADS, -1)).transpose(0, 1).expand(BATCH, -1, -1, -1)
    y = FullAttention()(q, k, v, mask=MASK.repeat_interleave(3, 1), group=3)
    assert gap(y[..., :3].unflatten(2, (SEQ, -1)), weights) < 1e-12


def test_the_layers_that_a_meta_learner_reads_are_its_partitions():
    net = omninet(partition=3)
    first, second = net.layer_outputs(X)
    x = X
    for depth, block in enumerate(net.blocks[:3]):
        x = block(x)
        assert torch.equal(first[:, :, depth], x)
    x = x + net.metas[0](first)
    assert torch.equal(second[:, :, 0], net.blocks[3](x))
    assert torch.equal(second[:, :, 2] + net.metas[1](second), net(X))


# ---- choices ----


def test_full_attention_is_chosen_until_it_no_longer_pays():
    assert choose_meta(AUTO_TOKENS) == Full()
    assert choose_meta(AUTO_TOKENS + 1) == Performer()


@every_partition
@every_meta
def test_the_number_of_weights_has_a_formula(meta, partition):
    """A block holds 12 d^2 + 13 d, a meta-learner 4 d^2 + 2 d, and Linformer's E."""
    net, d = omninet(meta, partition), HIDDEN
    wanted = LAYERS * (12 * d**2 + 13 * d) + LAYERS // partition * (4 * d**2 + 2 * d)
    if meta == "linformer":
        wanted += LAYERS // partition * 5 * SEQ * partition
    assert sum(p.numel() for p in net.parameters()) == wanted


def test_the_maps_of_a_meta_learner_start_as_those_of_a_block():
    """Glorot: of deviation sqrt(2 / (in + out))."""
    (meta,) = OmniNet(2, 64, 4, partition=2).metas
    for part in meta.modules():
        if isinstance(part, nn.Linear):
            wanted = math.sqrt(2 / (part.in_features + part.out_features))
            assert part.weight.std().item() == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize("query", ["all", "top"])
def test_learned_pooling_has_no_weight_that_does_nothing(query):
    learner = MetaLearner(HIDDEN, HEADS, 2, meta=Full(), pool="learned", query=query)
    learner(depths(2).float()).square().sum().backward()
    assert all(weight.grad is not None for weight in learner.parameters())


def test_dropout_acts_in_training_alone():
    net = OmniNet(2, HIDDEN, HEADS, partition=2, dropout=0.5)
    x = X.float()
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def largest_tensor(meta: str, seq: int) -> int:
    net = omninet(meta, layers=2, length=seq, causal=meta != "linformer")
    with Largest() as found:
        net(states(1, seq).requires_grad_()).sum().backward()
    return found.numel


@pytest.mark.parametrize("meta", ["performer", "bigbird", "linformer"])
def test_the_largest_tensor_grows_with_the_tokens_not_with_their_square(meta):
    short, long = (largest_tensor(meta, seq) for seq in (300, 600))
    assert long <= 2.1 * short
    assert long < 600**2


@settings(max_examples=15)
@given(
    seq=st.integers(1, 6),
    partition=st.integers(1, 3),
    parts=st.integers(1, 2),
    meta=st.sampled_from(list(METAS)),
    pool=st.sampled_from(POOLS),
    causal=st.booleans(),
    seed=st.integers(0, 10**6),
)
@pytest.mark.shapes
def test_any_size_equals_the_equations(seq, partition, parts, meta, pool, causal, seed):
    causal = causal and meta != "linformer"
    net = omninet(meta, partition, seq, layers=partition * parts, pool=pool, causal=causal)
    x = states(1, seq, seed)
    assert gap(net(x), slow_network(net, x)) < 1e-8


def test_the_equations_notice_a_wrong_root():
    net = omninet(layers=2)
    net.metas[0].heads.q.weight.data *= math.sqrt(2)
    twin = omninet(layers=2)
    assert gap(net(X), slow_network(twin, X)) > 1e-3


# ---- what the page says of memory and of BigBird's cost ----


def kept_for_backward(meta, depth: int, tokens: int = 128, hidden: int = 64) -> float:
    """Numbers that a meta-learner keeps, its weights apart, in units of N P d."""
    net = MetaLearner(hidden, 4, depth, meta=meta)
    own = {p.untyped_storage().data_ptr() for p in (*net.parameters(), *net.buffers())}
    sizes: dict[int, int] = {}
    alive = []

    def keep(saved: Tensor) -> Tensor:
        alive.append(saved)  # no address is used twice
        storage = saved.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes() // 4
        return saved

    x = torch.randn(1, tokens, depth, hidden, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        net(x)
    return sum(sizes.values()) / (tokens * depth * hidden)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_meta_learner_keeps_the_memory_that_the_page_counts(depth):
    full = kept_for_backward(Full(), depth)
    assert full == pytest.approx(7 + 1 / depth, abs=0.2)
    for features in (32, 128):
        extra = kept_for_backward(Performer(features=features), depth) - full
        assert extra == pytest.approx(3 * features * 4 / 64 + 1.2, rel=0.1)


def test_bigbirds_operations_are_the_pages_formula_once_the_sequence_is_long():
    meta, N, P, d = BigBird(block=8), 4096, 2, 64
    blocks = meta.window + 2 * meta.global_blocks + meta.random_blocks
    counted = meta_flops(meta, N, d, heads=4, depth=P) - 8 * N * P * d**2
    assert counted == pytest.approx(4 * N * P * blocks * meta.block * P * d, rel=0.01)
