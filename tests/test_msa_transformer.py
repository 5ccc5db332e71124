"""The two attentions: their equations, their laws, and broken twins that must fail them."""

import itertools
import math

import pytest
import torch
from drawing import gap, normal, order_one, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_msa_transformer import (
    HEADS,
    HIDDEN,
    TIES,
    attention_of,
    block_mask,
    gradients,
    slow_column,
    slow_row,
)
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from archbook.msa_transformer import AxialBlock, ColumnAttention, TiedRowAttention

every_tie = pytest.mark.parametrize("tie", TIES)
both_forms = pytest.mark.parametrize("need", [True, False], ids=["map", "fused"])
LAYERS = {
    **{tie: lambda tie=tie: attention_of(TiedRowAttention, tie=tie) for tie in TIES},
    "column": lambda: attention_of(ColumnAttention),
    "block": lambda: order_one(AxialBlock(HIDDEN, HEADS, 7)),
    "untied block": lambda: order_one(AxialBlock(HIDDEN, HEADS, 7, tie="none")),
}
every_layer = pytest.mark.parametrize("kind", LAYERS)
X = normal(1, 4, 5, HIDDEN)  # (batch, rows, columns, hidden)


def tied(tie: str = "sqrt", cls=TiedRowAttention) -> TiedRowAttention:
    return attention_of(cls, tie=tie)


def seen(outputs) -> Tensor:
    """One number that depends on everything a layer returns."""
    kept = [out for out in outputs if out is not None]
    return sum((out * normal(*out.shape, seed=9 + k)).sum() for k, out in enumerate(kept))


# ---- the equations ----


@pytest.mark.shapes
@both_forms
@every_tie
def test_row_attention_equals_the_papers_loops(tie, need):
    layer = tied(tie)
    found, wanted = layer(X, need_weights=need), slow_row(layer, X[0], tie)
    assert gap(found[0][0], wanted[0]) < 1e-12
    assert (found[1] is not None) == need
    assert not need or gap(found[1][0], wanted[1]) < 1e-12


@pytest.mark.shapes
@both_forms
def test_column_attention_equals_the_papers_loops(need):
    layer = attention_of(ColumnAttention)
    found, wanted = layer(X, need_weights=need), slow_column(layer, X[0])
    assert gap(found[0][0], wanted[0]) < 1e-12
    assert not need or gap(found[1][0], wanted[1]) < 1e-12


@both_forms
@pytest.mark.parametrize("kind", [*TIES, "column"])
def test_the_gradients_are_those_of_the_loops(kind, need):
    layer = LAYERS[kind]()
    x, x_slow = X.clone().requires_grad_(), X[0].clone().requires_grad_()
    y, weights = layer(x, need_weights=need)
    y_slow, slow = slow_column(layer, x_slow) if kind == "column" else slow_row(layer, x_slow, kind)
    total = seen([y[0], weights[0] if need else None])
    total_slow = seen([y_slow, slow if need else None])
    found = [*torch.autograd.grad(total, [x, *layer.parameters()])]
    wanted = [*torch.autograd.grad(total_slow, [x_slow, *layer.parameters()])]
    assert gap([found[0][0], *found[1:]], wanted) < 1e-11


def flattened_attention(layer: TiedRowAttention, x: Tensor) -> Tensor:
    """Ordinary scaled dot-product attention with heads of width rows x head width."""
    _, rows, columns, _ = x.shape
    q, k, v = (
        layer.qkv(x).view(-1, rows, columns, 3, HEADS, HIDDEN // HEADS).permute(3, 0, 4, 2, 1, 5)
    )
    y = scaled_dot_product_attention(q.flatten(3), k.flatten(3), v.flatten(3))  # the default scale
    y = y.view(-1, HEADS, columns, rows, HIDDEN // HEADS)
    return layer.out(y.permute(0, 3, 2, 1, 4).flatten(3))


@both_forms
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_tied_attention_is_ordinary_attention_on_flattened_features(rows, need):
    layer, x = tied(), normal(2, rows, 5, HIDDEN)
    assert gap(layer(x, need_weights=need)[0], flattened_attention(layer, x)) < 1e-12


@both_forms
@every_tie
def test_row_attention_over_one_row_is_multi_head_attention(tie, need):
    layer, x = tied(tie), normal(2, 1, 5, HIDDEN)
    known = nn.MultiheadAttention(HIDDEN, HEADS, batch_first=True).double()
    known.in_proj_weight, known.in_proj_bias = layer.qkv.weight, layer.qkv.bias
    known.out_proj.weight, known.out_proj.bias = layer.out.weight, layer.out.bias
    y, weights = known(x[:, 0], x[:, 0], x[:, 0], average_attn_weights=False)
    found, found_weights = layer(x, need_weights=need)
    assert gap(found[:, 0], y) < 1e-12
    assert not need or gap(found_weights, weights) < 1e-12


@both_forms
def test_column_attention_over_one_row_only_projects(need):
    layer, x = attention_of(ColumnAttention), normal(2, 1, 5, HIDDEN)
    values = x @ layer.qkv.weight[2 * HIDDEN :].T + layer.qkv.bias[2 * HIDDEN :]
    y, weights = layer(x, need_weights=need)
    assert gap(y, layer.out(values)) < 1e-12
    assert not need or gap(weights, torch.ones(2, HEADS, 5, 1, 1).double()) == 0


@pytest.mark.parametrize("kind", [*TIES, "column"])
def test_the_gradients_equal_finite_differences(kind):
    layer, x = LAYERS[kind](), normal(2, 2, 3, HIDDEN).requires_grad_()
    mask = block_mask([(2, 3), (1, 2)], 2, 3)

    def outputs(x, *_):  # at padding they mean nothing
        y, weights = layer(x, mask, need_weights=True)
        return y[mask], weights[0]

    assert torch.autograd.gradcheck(outputs, (x, *layer.parameters()), fast_mode=True)


# ---- symmetries ----


def row_law_error(layer, x: Tensor, column: bool = False) -> float:
    """How far permuted rows give anything but permuted rows and, tied, the same map."""
    order = torch.randperm(x.shape[1], generator=seeded(3))
    y, weights = layer(x, need_weights=True)
    moved, moved_weights = layer(x[:, order], need_weights=True)
    weights = weights[..., order, :][..., order] if column else weights
    return gap([moved, moved_weights], [y[:, order], weights])


@pytest.mark.parametrize("kind", [*TIES, "column"])
def test_permuted_rows_give_permuted_outputs(kind):
    assert row_law_error(LAYERS[kind](), X, kind == "column") < 1e-12


@pytest.mark.parametrize("kind", [*TIES, "column"])
def test_permuted_columns_give_permuted_outputs_and_maps(kind):
    layer, order = LAYERS[kind](), torch.tensor([3, 0, 4, 1, 2])
    y, weights = layer(X, need_weights=True)
    moved, moved_weights = layer(X[:, :, order], need_weights=True)
    weights = weights[:, :, order] if kind == "column" else weights[:, :, order][..., order]
    assert gap([moved, moved_weights], [y[:, :, order], weights]) < 1e-12


class ReadsItsPlace(TiedRowAttention):
    """A broken twin: the first row weighs double."""

    def query_scale(self, x, mask):
        return (1 + (torch.arange(x.shape[2]) == 0)) * super().query_scale(x, mask) + x.new_zeros(
            len(x), 1
        )


def test_the_row_law_notices_a_row_that_weighs_more():
    assert row_law_error(tied(cls=ReadsItsPlace), X) > 1e-2


def centred_logits(weights: Tensor) -> Tensor:
    """The scores that a map was made of, up to a constant for each query."""
    logits = weights.log()
    return logits - logits.mean(-1, keepdim=True)


def growth_error(layer: TiedRowAttention, factor: float) -> float:
    """How far the scores of an alignment with all rows doubled are from `factor` times its own."""
    _, once = layer(X, need_weights=True)
    _, twice = layer(torch.cat([X, X], 1), need_weights=True)
    return gap(centred_logits(twice), factor * centred_logits(once))


@pytest.mark.parametrize(("tie", "factor"), [("sqrt", math.sqrt(2)), ("mean", 1.0), ("none", 1.0)])
def test_doubled_rows_multiply_the_scores_by(tie, factor):
    assert tie == "none" or growth_error(tied(tie), factor) < 1e-11
    y, _ = tied(tie)(X)
    again, _ = tied(tie)(torch.cat([X, X], 1))
    assert (gap(again[:, :4], y) < 1e-12) == (factor == 1)


def test_doubled_rows_leave_column_attention_as_it_is():
    layer = attention_of(ColumnAttention)
    y, _ = layer(X)
    assert gap(layer(torch.cat([X, X], 1))[0], torch.cat([y, y], 1)) < 1e-12


def test_copies_of_one_row_sharpen_its_map_by_the_root_of_their_number():
    layer, row = tied(), X[:, :1]
    _, alone = layer(row, need_weights=True)
    _, copies = layer(row.expand(-1, 9, -1, -1), need_weights=True)
    assert gap(copies, (3 * alone.log()).softmax(-1)) < 1e-12


@both_forms
def test_rows_and_columns_of_maps_sum_to_one(need):
    mask = block_mask([(4, 5), (2, 3)], 4, 5)
    x = normal(2, 4, 5, HIDDEN)
    for kind in [*TIES, "column"]:
        for given_mask in (None, mask):
            _, weights = LAYERS[kind]()(x, given_mask, need_weights=True)
            assert gap(weights.sum(-1), torch.ones_like(weights[..., 0])) < 1e-12


# ---- the scale ----


class PlainSum(TiedRowAttention):
    """A broken twin: scores are a sum over rows, and their number is not divided out."""

    def query_scale(self, x, mask):
        return 1 / math.sqrt(self.hidden // self.heads)


def deviations(layer: TiedRowAttention, depths: list[int]) -> list[float]:
    """The standard deviation of the scores of independent rows, at each depth.

    Queries are the inputs, keys the inputs turned by a right angle: a column's score with itself
    is zero, and shows what the softmax has taken away.
    """
    eye, turn = torch.eye(HIDDEN), torch.zeros(HIDDEN, HIDDEN)
    for first in range(0, HIDDEN, 2):
        turn[first, first + 1], turn[first + 1, first] = 1, -1
    layer.qkv.weight.data = torch.cat([eye, turn, eye]).double()
    layer.qkv.bias.data.zero_()
    found = []
    for depth in depths:
        with torch.no_grad():
            _, weights = layer(normal(24, depth, 40, HIDDEN, seed=depth), need_weights=True)
        logits = weights.log()
        scores = logits - logits.diagonal(dim1=-2, dim2=-1)[..., None]
        found.append(float(scores[:, :, ~torch.eye(40, dtype=torch.bool)].std()))
    return found


DEPTHS = [1, 4, 16, 64]


def test_under_the_root_rule_the_scores_keep_their_spread_at_any_depth():
    assert all(abs(spread - 1) < 0.05 for spread in deviations(tied("sqrt"), DEPTHS))


def test_under_the_mean_rule_the_scores_flatten_with_the_root_of_the_depth():
    found = deviations(tied("mean"), DEPTHS)
    slopes = [math.log(b / a) / math.log(4) for a, b in itertools.pairwise(found)]
    assert all(abs(slope + 0.5) < 0.05 for slope in slopes)


def test_the_laws_of_scale_notice_a_plain_sum():
    spread = deviations(tied(cls=PlainSum), DEPTHS)
    assert spread[-1] > 7
    assert growth_error(tied(cls=PlainSum), math.sqrt(2)) > 1e-2
    assert gap(tied(cls=PlainSum)(X)[0], flattened_attention(tied(), X)) > 1e-2


# ---- what flows where ----


def reached_rows(layer, loss_row: int) -> list[bool]:
    """Which rows of the input get a gradient from the outputs of one row."""
    x = X.clone().requires_grad_()
    y, _ = layer(x)
    (grad,) = torch.autograd.grad(seen([y[:, loss_row]]), x)
    return [bool(grad[0, m].any()) for m in range(x.shape[1])]


def test_a_rows_values_come_from_that_row_alone():
    """Without queries and keys the map is a constant, and only the values are left."""
    layer = tied()
    layer.qkv.weight.data[: 2 * HIDDEN] = 0
    assert reached_rows(layer, 1) == [False, True, False, False]


@pytest.mark.parametrize("tie", ["sqrt", "mean"])
def test_queries_and_keys_of_all_rows_reach_every_row(tie):
    assert reached_rows(tied(tie), 1) == [True] * 4


def test_untied_rows_are_strangers():
    assert reached_rows(tied("none"), 1) == [False, True, False, False]


def test_columns_are_strangers_in_column_attention():
    layer, x = attention_of(ColumnAttention), X.clone().requires_grad_()
    (grad,) = torch.autograd.grad(seen([layer(x)[0][:, :, 2]]), x)
    assert [bool(grad[:, :, i].any()) for i in range(5)] == [False, False, True, False, False]
    assert grad[0, :, 2].any(-1).all()


def map_numbers(layer, rows: int, columns: int = 11) -> int:
    """How many numbers the backward pass keeps in columns x columns matrices."""
    kept: dict[int, int] = {}

    def pack(tensor):
        if tensor.shape[-2:] == (columns, columns):
            kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(normal(1, rows, columns, HIDDEN), need_weights=True)
    return sum(kept.values())


def test_the_tied_maps_take_memory_that_the_rows_do_not_change():
    assert map_numbers(tied(), 3) == map_numbers(tied(), 12) > 0
    assert map_numbers(tied("none"), 12) == 4 * map_numbers(tied("none"), 3)
    _, weights = tied()(X, need_weights=True)
    assert weights.shape == (1, HEADS, 5, 5)


# ---- padding ----


def example_error(layer, sizes, rows: int, columns: int, chunk=None, need=True) -> float:
    """How far examples in a padded batch are from themselves alone: outputs, maps, gradients."""
    x = normal(len(sizes), rows, columns, HIDDEN, seed=5)  # junk at padding
    mask = block_mask(sizes, rows, columns)
    together = layer(x, mask, need, chunk=chunk)
    worst, total, total_alone = 0.0, 0.0, 0.0
    for b, (r, c) in enumerate(sizes):
        alone = layer(x[b : b + 1, :r, :c], None, need)
        inside = [together[0][b : b + 1, :r, :c]]
        for out, own in zip(together[1:], alone[1:], strict=True):
            if own is not None:
                columnwise = own.ndim == 5
                inside.append(
                    out[b : b + 1, :, :c, :r, :r] if columnwise else out[b : b + 1, :, :c, :c]
                )
        alone = [out for out in alone if out is not None]
        worst = max(worst, gap(inside, alone))
        total, total_alone = total + seen(inside), total_alone + seen(alone)
    found, wanted = gradients(layer, total), gradients(layer, total_alone)
    return max(worst, gap(found.values(), wanted.values()))


SIZES = [(4, 5), (2, 5), (4, 3), (1, 1), (3, 4)]


@pytest.mark.parametrize("chunk", [None, 1, 7])
@both_forms
@every_layer
def test_a_padded_example_is_what_it_is_alone(kind, need, chunk):
    assert example_error(LAYERS[kind](), SIZES, 5, 6, chunk, need) < 1e-9


@pytest.mark.slow
@pytest.mark.shapes
@settings(max_examples=30)
@given(
    kind=st.sampled_from(list(LAYERS)),
    sizes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3),
    more=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    chunk=st.none() | st.integers(1, 40),
    need=...,
)
def test_at_any_size_a_padded_example_is_what_it_is_alone(kind, sizes, more, chunk, need: bool):
    rows, columns = (max(s[axis] for s in sizes) + more[axis] for axis in (0, 1))
    assert example_error(LAYERS[kind](), sizes, rows, columns, chunk, need) < 1e-9


@both_forms
@every_layer
def test_what_stands_at_padding_changes_nothing_and_gets_no_gradient(kind, need):
    layer, mask = LAYERS[kind](), block_mask([(3, 4), (2, 2)], 4, 5)
    x = normal(2, 4, 5, HIDDEN)
    other = torch.where(mask[..., None], x, 100 * normal(2, 4, 5, HIDDEN, seed=8)).requires_grad_()
    y, z = layer(x, mask, need)[0], layer(other, mask, need)[0]
    assert gap(y[mask], z[mask]) < 1e-12
    (grad,) = torch.autograd.grad(seen([z[mask]]), other)
    assert not grad[~mask].any()
    assert all(out.isfinite().all() for out in layer(x, mask, True))


class CountsPadding(TiedRowAttention):
    """A broken twin, as published: padded rows are counted in the scale."""

    def query_scale(self, x, mask):
        scale = super().query_scale(x, mask)
        return scale if mask is None else mask.rows * super().query_scale(x, None)


class PaddingAsks(TiedRowAttention):
    """A broken twin: queries of padded rows are not zeroed before the sum."""

    def query_scale(self, x, mask):
        scale = super().query_scale(x, mask)
        return scale if mask is None else scale.amax(1, keepdim=True).expand_as(scale)


class PaddingAnswers(ColumnAttention):
    """A broken twin: padded rows are keys like others."""

    def attend(self, x, mask, need_weights, *, chunk):
        return super().attend(x, None, need_weights, chunk=chunk)


@pytest.mark.parametrize("need", [True, False])
@pytest.mark.parametrize("twin", [CountsPadding, PaddingAsks, PaddingAnswers])
def test_the_law_of_padding_notices(twin, need):
    assert example_error(attention_of(twin), [(4, 5), (2, 5)], 4, 5, None, need) > 1e-3


# ---- chunks ----


@pytest.mark.parametrize("chunk", [1, 5, 6, 13, 1000])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "padded"])
@both_forms
@every_layer
def test_chunks_change_nothing(kind, need, masked, chunk):
    layer = LAYERS[kind]()
    x = normal(2, 4, 5, HIDDEN).requires_grad_()
    mask = block_mask([(4, 5), (2, 3)], 4, 5) if masked else None
    results = []
    for size in (None, chunk):
        outputs = [out for out in layer(x, mask, need, chunk=size) if out is not None]
        grads = torch.autograd.grad(seen(outputs), [x, *layer.parameters()])
        results.append([*outputs, *grads])
    assert gap(*results) < 1e-11


def test_in_chunks_the_backward_pass_keeps_less():
    layer, x = tied(), normal(1, 64, 5, HIDDEN)

    def kept(chunk) -> int:
        sizes = {}

        def pack(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            layer(x, chunk=chunk)
        return sum(sizes.values())

    assert kept(20) < kept(None) / 2


# ---- dropout ----


@pytest.mark.parametrize("chunk", [None, 6])
@both_forms
@pytest.mark.parametrize("kind", [*TIES, "column"])
def test_dropout_changes_training_and_not_evaluation(kind, need, chunk):
    layer = LAYERS[kind]()
    wanted, _ = layer(X, None, need, chunk=chunk)
    layer.dropout = 0.5
    assert gap(layer(X, None, need, chunk=chunk)[0], wanted) > 1e-3
    assert gap(layer.eval()(X, None, need, chunk=chunk)[0], wanted) < 1e-12


@pytest.mark.parametrize("chunk", [None, 6])
@pytest.mark.parametrize("kind", [*TIES, "column"])
def test_dropout_thins_what_is_read_not_the_map_that_is_returned(kind, chunk):
    layer = LAYERS[kind]()
    _, wanted = layer(X, need_weights=True)
    layer.dropout = 0.5
    assert gap(layer(X, None, True, chunk=chunk)[1], wanted) < 1e-12


@pytest.mark.parametrize("chunk", [None, 6])
@both_forms
@every_tie
def test_dropout_keeps_the_mean(tie, need, chunk):
    """E Y = Y: what is left of a map is scaled up."""
    layer = tied(tie)
    with torch.no_grad():
        wanted, _ = layer(X)
        layer.dropout = 0.3
        mean = layer(X.expand(3000, -1, -1, -1), None, need, chunk=chunk)[0].mean(0, keepdim=True)
    assert gap(mean, wanted) < 0.2 * float(wanted.std())


@pytest.mark.parametrize("chunk", [None, 6])
@both_forms
@pytest.mark.parametrize("tie", ["sqrt", "mean"])
def test_dropout_drops_one_map_for_all_rows(tie, need, chunk):
    layer = tied(tie)
    layer.dropout = 0.5
    y, _ = layer(X[:, :1].expand(-1, 4, -1, -1), None, need, chunk=chunk)
    assert gap(y, y[:, :1].expand_as(y)) < 1e-12


@every_layer
def test_in_chunks_the_backward_pass_drops_what_the_forward_pass_dropped(kind):
    layer = LAYERS[kind]()
    for part in layer.modules():
        if hasattr(part, "dropout"):
            part.dropout = 0.4
        if isinstance(part, nn.Dropout):
            part.p = 0.4

    def total(x: Tensor) -> Tensor:
        torch.manual_seed(1)
        return seen(layer(x, None, False, chunk=6))

    x, step = X.clone().requires_grad_(), 1e-5 * normal(*X.shape, seed=4)
    (grad,) = torch.autograd.grad(total(x), x)
    with torch.no_grad():
        wanted = (total(X + step) - total(X - step)) / 2
    assert gap((grad * step).sum(), wanted) < 1e-9
