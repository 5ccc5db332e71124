"""What attention refuses, with the wanted and the given named."""

import numpy as np
import pytest
import torch
from plain_attention import CAUSAL, DENSE, KINDS, bigbird, linformer, performer
from refusals import each_raises

from archbook.attention import (
    Attention,
    BigBird,
    BigBirdAttention,
    FullAttention,
    Linformer,
    LinformerAttention,
    Performer,
    PerformerAttention,
    gaussian_projection,
    relu_features,
    softmax_features,
)
from archbook.checks import value_checks

ones = torch.ones
X = ones(2, 3, 12, 4)
MASK = ones(2, 12, dtype=torch.bool)
W = ones(7, 4)


def check(call, error, message):
    with pytest.raises(error, match=message):
        call()


def with_nan():
    x = X.clone()
    x[1, 2, 3, 0] = torch.nan
    return x


# ---- constructors ----


test_nothing_is_built_from = each_raises(
    [
        (lambda: PerformerAttention(0, 7), ValueError, "head_dim to be at least 1, given 0"),
        (lambda: PerformerAttention(4.0, 7), TypeError, "head_dim to be an int, given 4.0"),
        (lambda: PerformerAttention(4, 0), ValueError, "features to be at least 1, given 0"),
        (lambda: PerformerAttention(4, True), TypeError, "features to be an int, given True"),
        (lambda: PerformerAttention(4, 7, "exp"), ValueError, "'softmax', 'relu', given 'exp'"),
        (lambda: LinformerAttention(0), ValueError, "keys to be at least 1, given 0"),
        (lambda: LinformerAttention(12, 0), ValueError, "rank to be at least 1, given 0"),
        (lambda: LinformerAttention(12, 2.5), TypeError, "rank to be an int, given 2.5"),
        (lambda: BigBirdAttention(0, 2), ValueError, "length to be at least 1, given 0"),
        (lambda: BigBirdAttention(12, -2), ValueError, "block to be at least 1, given -2"),
        (lambda: BigBirdAttention(12, 2, 0), ValueError, "window to be at least 1, given 0"),
        (lambda: BigBirdAttention(12, 2, 4), ValueError, "odd window, .* given 4"),
        (
            lambda: BigBirdAttention(12, 2, global_blocks=-1),
            ValueError,
            "global_blocks to be at least 0, given -1",
        ),
        (
            lambda: BigBirdAttention(12, 2, random_blocks=0.5),
            TypeError,
            "random_blocks to be an int, given 0.5",
        ),
        (lambda: gaussian_projection(0, 4), ValueError, "features to be at least 1, given 0"),
        (lambda: gaussian_projection(7, -1), ValueError, "dim to be at least 1, given -1"),
        (lambda: gaussian_projection(7, 4.0), TypeError, "dim to be an int, given 4.0"),
    ]
)


test_no_kind_is_made_of = each_raises(
    [
        (lambda: Performer(-1), ValueError, "features to be at least 1, given -1"),
        (lambda: Performer("64"), TypeError, "features to be an int, given '64'"),
        (lambda: Performer(kernel="nonsense"), ValueError, "'softmax', 'relu', given 'nonsense'"),
        (lambda: Linformer(-5), ValueError, "rank to be at least 1, given -5"),
        (lambda: Linformer(True), TypeError, "rank to be an int, given True"),
        (lambda: BigBird(0), ValueError, "block to be at least 1, given 0"),
        (lambda: BigBird(window=2), ValueError, "wanted an odd window, .* given 2"),
        (lambda: BigBird(window=1.0), TypeError, "window to be an int, given 1.0"),
        (lambda: BigBird(global_blocks=-1), ValueError, "global_blocks to be at least 0, given -1"),
        (lambda: BigBird(random_blocks=None), TypeError, "random_blocks to be an int, given None"),
        (lambda: Linformer().build(4), TypeError, "length to be an int, given None"),
        (lambda: BigBird().build(4, 2, 0), ValueError, "length to be at least 1, given 0"),
    ]
)


def test_sizes_are_whatever_counts_as_an_integer():
    size = np.int64(3)
    kinds = Performer(size), Linformer(size), BigBird(size, size, size, size)
    assert kinds == (Performer(3), Linformer(3), BigBird(3, 3, 3, 3))
    assert all(type(number) is int for kind in kinds for number in list(vars(kind).values())[:1])
    assert BigBird(global_blocks=0, random_blocks=0).build(4, 2, 6).random.shape == (1, 0)


# ---- what every kind refuses ----

FOR_ALL = [
    (([[1.0]], X, X), TypeError, "q to be a tensor, given list"),
    ((X[0], X, X), ValueError, r"q .*\(batch, heads, queries, head_dim\), given \(3, 12, 4\)"),
    ((X[:0], X, X), ValueError, r"q .*given \(0, 3, 12, 4\) \(no axis may be empty\)"),
    ((X[:, :, :0], X, X), ValueError, r"q .*given \(2, 3, 0, 4\) \(no axis may be empty\)"),
    ((X.long(), X, X), TypeError, r"wanted .*\bq\b.*, given torch.int64"),
    ((X, X[:1], X), ValueError, r"k to have shape \(2, 3, keys, 4\), given \(1, 3, 12, 4\)"),
    ((X, X[:, :1], X), ValueError, r"k to have shape \(2, 3, keys, 4\), given \(2, 1, 12, 4\)"),
    ((X, X[..., :2], X), ValueError, r"k to have shape \(2, 3, keys, 4\), given \(2, 3, 12, 2\)"),
    ((X, X[:, :, :0], X), ValueError, r"k .*given \(2, 3, 0, 4\) \(no axis may be empty\)"),
    ((X, None, X), TypeError, "k to be a tensor, given NoneType"),
    ((X, X, X[..., :2]), ValueError, r"v to have shape \(2, 3, 12, 4\), given \(2, 3, 12, 2\)"),
    ((X, X, X[:, :, 1:]), ValueError, r"v to have shape \(2, 3, 12, 4\), given \(2, 3, 11, 4\)"),
    ((X, X.double(), X), TypeError, "k to be torch.float32 like q, given torch.float64"),
    ((X, X, X.half()), TypeError, "v to be torch.float32 like q, given torch.float16"),
    ((X, X.to("meta"), X), ValueError, "k to be on cpu like q, given a tensor on meta"),
    ((X, X, X.to("meta")), ValueError, "v to be on cpu like q, given a tensor on meta"),
    ((with_nan(), X, X), ValueError, "q to be finite, given 1 NaN or infinite of 288"),
    ((X, with_nan(), X), ValueError, "k to be finite, given 1 NaN"),
    ((X, X, with_nan()), ValueError, "v to be finite, given 1 NaN"),
    ((X, X, X / 0), ValueError, "v to be finite, given 288 NaN or infinite of 288"),
    ((X, X, X, MASK[0]), ValueError, r"mask to have shape \(2, 12\), given \(12,\)"),
    ((X, X, X, MASK[:, 1:]), ValueError, r"mask to have shape \(2, 12\), given \(2, 11\)"),
    ((X, X, X, MASK.float()), TypeError, r"mask to be torch.bool \(True = real\), given .*float32"),
    ((X, X, X, MASK.to("meta")), ValueError, "mask to be on cpu, given a tensor on meta"),
    ((X, X, X, [True]), TypeError, "mask to be a tensor, given list"),
    ((X, X, X, ~MASK), ValueError, "a real key in every example; examples without one, given 2"),
    (
        (X, X, X, MASK & torch.tensor([[True], [False]])),
        ValueError,
        "a real key in every example; examples without one, given 1",
    ),
]


@pytest.mark.parametrize(("given", "error", "message"), FOR_ALL)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_refuses(kind, given, error, message):
    q, k, v, *mask = given
    check(lambda: KINDS[kind](12)(q, k, v, mask=mask[0] if mask else None), error, message)


FOR_GROUPS = [
    (X, 0, ValueError, "group to be at least 1, given 0"),
    (X, -3, ValueError, "group to be at least 1, given -3"),
    (X, 2.0, TypeError, "group to be an int, given 2.0"),
    (X, True, TypeError, "group to be an int, given True"),
    (X, 5, ValueError, "a group that divides the number of keys, 12, given 5"),
    (X, 24, ValueError, "a group that divides the number of keys, 12, given 24"),
    (X[:, :, :7], 3, ValueError, "as many queries for each of 4 positions, given 7"),
    (X[:, :, :2], 3, ValueError, "as many queries for each of 4 positions, given 2"),
]


@pytest.mark.parametrize(("q", "group", "error", "message"), FOR_GROUPS)
@pytest.mark.parametrize("kind", CAUSAL)
def test_every_causal_kind_refuses_a_group(kind, q, group, error, message):
    check(lambda: KINDS[kind](12)(q, X, X, group=group), error, message)


def test_the_interface_alone_attends_to_nothing():
    with pytest.raises(NotImplementedError):
        Attention()(X, X, X)


# ---- what one kind refuses ----


test_one_kind_refuses = each_raises(
    [
        (
            lambda: linformer()(X, X, X, group=3),
            ValueError,
            "a mixture of all keys cannot be causal: wanted group=None, given 3",
        ),
        (
            lambda: linformer()(X, X[:, :, 1:], X[:, :, 1:]),
            ValueError,
            "wanted the 12 tokens that E mixes, given 11",
        ),
        (lambda: linformer(13)(X, X, X), ValueError, "wanted the 13 tokens that E mixes, given 12"),
        (
            lambda: linformer()(*[X.double()] * 3),
            TypeError,
            "q to be torch.float32 like the weights, given torch.float64",
        ),
        (lambda: linformer()(*[X.to("meta")] * 3), ValueError, "q to be on cpu .* on meta"),
        (
            lambda: bigbird()(X[:, :, :6], X, X),
            ValueError,
            r"q to have shape \(2, 3, 12, 4\), given \(2, 3, 6, 4\)",
        ),
        (lambda: bigbird(11)(X, X, X), ValueError, "at most length = 11 tokens, given 12"),
        (
            lambda: bigbird()(*[X.to("meta")] * 3),
            ValueError,
            "q to be on cpu like the random blocks, given a tensor on meta",
        ),
        (
            lambda: performer(dim=5)(X, X, X),
            ValueError,
            r"q to have shape \(2, 3, 12, 5\), given \(2, 3, 12, 4\)",
        ),
        (
            lambda: performer()(*[X.double()] * 3),
            TypeError,
            "q to be torch.float32 like the weights, given torch.float64",
        ),
        (lambda: performer()(*[X.to("meta")] * 3), ValueError, "q to be on cpu .* on meta"),
    ]
)


# ---- the features ----


@pytest.mark.parametrize("features", [softmax_features, relu_features])
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ((X, W.T), ValueError, r"x to have shape \(2, 3, 12, 7\), given \(2, 3, 12, 4\)"),
        ((X, W[0]), ValueError, r"projection to have shape \(features, dim\), given \(4,\)"),
        ((X, W[:0]), ValueError, r"projection .*given \(0, 4\) \(no axis may be empty\)"),
        ((X, [[1.0]]), TypeError, "projection to be a tensor, given list"),
        (([1.0], W), TypeError, "x to be a tensor, given list"),
        ((X.double(), W), TypeError, "x to be torch.float32 like projection, given torch.float64"),
        ((X.to("meta"), W), ValueError, "x to be on cpu like projection, given .* on meta"),
    ],
)
def test_features_refuse(features, given, error, message):
    check(lambda: features(*given), error, message)


# ---- steps ----

ONE = X[:, :, :2]


def cache(**changed):
    _, state = FullAttention().prefill(X, X, X, group=2)
    return state._replace(**changed)


def sums(**changed):
    _, state = performer().prefill(X, X, X, group=2)
    return state._replace(**changed)


def full_step(**changed):
    return FullAttention().step(ONE, ONE, ONE, state=cache(**changed))


def performer_step(**changed):
    return performer().step(ONE, ONE, ONE, state=sums(**changed))


test_a_step_refuses_a_state = each_raises(
    [
        (lambda: full_step(k=X[:1]), ValueError, r"state.k .*\(2, 3, keys, 4\), given \(1, 3, 12"),
        (lambda: full_step(v=ONE), ValueError, r"state.v .*\(2, 3, 12, 4\), given \(2, 3, 2, 4\)"),
        (lambda: full_step(k=X.double()), TypeError, "state.k to be torch.float32 like k"),
        (lambda: full_step(v=X.double()), TypeError, "state.v to be torch.float32 like k"),
        (lambda: full_step(real=MASK[:, 1:]), ValueError, r"state.real .*\(2, 12\), given \(2, 11"),
        (lambda: full_step(real=MASK.int()), TypeError, "state.real to be torch.bool"),
        (
            lambda: performer_step(sums=ones(2, 3, 6, 5)),
            ValueError,
            r"state.sums to have shape \(2, 3, 7, 5\), given \(2, 3, 6, 5\)",
        ),
        (
            lambda: performer_step(scale=ones(2, 1, 1, 1)),
            ValueError,
            r"state.scale to have shape \(2, 3, 1, 1\), given \(2, 1, 1, 1\)",
        ),
        (
            lambda: performer_step(sums=ones(2, 3, 7, 5).double()),
            TypeError,
            "state.sums to be torch.float32 like the features, given torch.float64",
        ),
    ]
)


@pytest.mark.parametrize("kind", DENSE)
def test_a_step_refuses_what_forward_refuses(kind):
    layer = KINDS[kind](12)
    _, state = layer.prefill(X, X, X, group=2)
    check(lambda: layer.step(ONE, ONE, ONE[0], state=state), ValueError, "v to have shape")
    check(lambda: layer.step(ONE, ONE / 0, ONE, state=state), ValueError, "k to be finite")


@pytest.mark.parametrize("kind", DENSE)
def test_prefill_wants_a_group(kind):
    layer = KINDS[kind](12)
    check(lambda: layer.prefill(X, X, X, group=None), TypeError, "group to be an int, given None")
    check(lambda: layer.prefill(X, X, X, group=5), ValueError, "a group that divides .* given 5")
    check(
        lambda: layer.prefill(X, X, X, group=2, mask=~MASK),
        ValueError,
        "a real key in every example",
    )


# ---- what may be switched off ----


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_not_read_where_checks_are_off(kind):
    layer = KINDS[kind](12)
    with value_checks(False):
        assert layer(with_nan(), X, X).shape == X.shape
        assert layer(X, X, X, mask=~MASK).shape == X.shape
        check(lambda: layer(X, X, X[:1]), ValueError, "v to have shape")
