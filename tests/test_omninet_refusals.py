"""What OmniNet refuses, with the wanted and the given named.

What turns red when a check is taken out (each was tried on a copy):
- of the partition, of the length, of a causal Linformer: test_nothing_is_built_from
- of the mask, of NaN, of positions: test_nothing_is_computed_from
"""

import pytest
import torch

from archbook.checks import value_checks
from archbook.omninet import (
    Classifier,
    Decoder,
    EncoderDecoder,
    LanguageModel,
    MetaLearner,
    MetaOptions,
    OmniNet,
    OmniNetClassifier,
    OmniNetLM,
    OmniNetTranslator,
    PatchEmbedding,
    TokenEmbedding,
    Transformer,
    choose_meta,
    index_sort,
    index_unsort,
)

ones = torch.ones
X = ones(2, 6, 8)
MASK = ones(2, 6, dtype=torch.bool)
TOKENS = ones(2, 6, dtype=torch.int64)
LENGTH = MetaOptions(length=6)


def net(layers=4, hidden=8, heads=2, partition=2, **options) -> OmniNet:
    return OmniNet(layers, hidden, heads, partition, **options)


def lm(vocab_size=9, max_length=6, **options) -> OmniNetLM:
    return OmniNetLM(vocab_size, max_length, 2, 8, 2, 2, **options)


def classifier(classes=3, **options) -> OmniNetClassifier:
    return OmniNetClassifier(classes, 2, 8, 2, 2, **options)


def texts(**options) -> OmniNetClassifier:
    return classifier(vocab_size=9, max_length=6, **options)


def translator() -> OmniNetTranslator:
    return OmniNetTranslator(9, 7, 6, 2, 8, 2, 2)


def refused(cases):
    return pytest.mark.parametrize(("call", "error", "message"), cases)


@refused(
    [
        (lambda: net(layers=0), ValueError, "layers to be at least 1, given 0"),
        (lambda: net(layers=2.0), TypeError, "layers to be an int, given 2.0"),
        (lambda: net(hidden=-8), ValueError, "hidden to be at least 1, given -8"),
        (lambda: net(heads=3), ValueError, "heads that divide hidden = 8, given 3"),
        (lambda: net(heads=0), ValueError, "heads to be at least 1, given 0"),
        (lambda: net(partition=3), ValueError, "partition that divides layers = 4, given 3"),
        (lambda: net(partition=0), ValueError, "partition to be at least 1, given 0"),
        (lambda: net(partition=8), ValueError, "partition that divides layers = 4, given 8"),
        (lambda: net(ffn=0), ValueError, "ffn to be at least 1, given 0"),
        (lambda: net(dropout=2.0), ValueError, "between 0 and 1, but got 2.0"),
        (lambda: net(meta="longformer"), ValueError, "meta to be one of .*'longformer'"),
        (lambda: net(pool="sum"), ValueError, "'max', 'mean', 'last', 'learned', given 'sum'"),
        (lambda: net(query="first"), ValueError, "'all', 'top', given 'first'"),
        (lambda: net(meta="linformer"), ValueError, r"MetaOptions\(length=\.\.\.\)"),
        (lambda: net(meta="bigbird"), ValueError, r"'bigbird' is made for one length"),
        (lambda: net(meta="auto"), ValueError, r"'auto' is made for one length"),
        (
            lambda: net(meta="linformer", causal=True, options=LENGTH),
            ValueError,
            "cannot be causal",
        ),
        (
            lambda: net(meta="bigbird", query="top", options=LENGTH),
            ValueError,
            "query='all' with pool='last', given query='top'",
        ),
        (
            lambda: net(meta="performer", options=MetaOptions(features=0)),
            ValueError,
            "features to be at least 1, given 0",
        ),
        (
            lambda: net(meta="performer", options=MetaOptions(kernel="exp")),
            ValueError,
            "kernel to be one of 'softmax', 'relu', given 'exp'",
        ),
        (
            lambda: net(meta="linformer", options=MetaOptions(length=6, rank=0)),
            ValueError,
            "rank to be at least 1, given 0",
        ),
        (
            lambda: net(meta="bigbird", options=MetaOptions(length=6, block=0)),
            ValueError,
            "block to be at least 1, given 0",
        ),
        (
            lambda: net(meta="bigbird", options=MetaOptions(length=0)),
            ValueError,
            "length to be at least 1, given 0",
        ),
        (lambda: Transformer(2, 8, 3), ValueError, "heads that divide hidden = 8, given 3"),
        (lambda: MetaLearner(8, 2, 0), ValueError, "depth to be at least 1, given 0"),
        (lambda: choose_meta(0), ValueError, "tokens to be at least 1, given 0"),
        (lambda: lm(vocab_size=0), ValueError, "vocab_size to be at least 1, given 0"),
        (lambda: lm(max_length=0), ValueError, "max_length to be at least 1, given 0"),
        (lambda: lm(meta="linformer"), ValueError, "cannot be causal"),
        (
            lambda: LanguageModel(Transformer(1, 8, 2), 9, 6),
            ValueError,
            "causal stack, given causal=False",
        ),
        (lambda: texts(classes=0), ValueError, "classes to be at least 1, given 0"),
        (lambda: texts(readout="cls"), ValueError, "'mean', 'token', given 'cls'"),
        (lambda: texts(causal=True, readout="token"), ValueError, "reads nothing: wanted 'mean'"),
        (lambda: classifier(), ValueError, "vocab_size and max_length, or image and patch"),
        (lambda: classifier(vocab_size=9), ValueError, "given vocab_size=9, max_length=None"),
        (lambda: texts(patch=2), ValueError, "image=None, patch=2"),
        (
            lambda: Classifier(TokenEmbedding(9, 6, 4), Transformer(1, 8, 2), 3),
            ValueError,
            "embedding as wide as 8, given 4",
        ),
        (lambda: PatchEmbedding((1, 4, 6), 4, 8), ValueError, "height and width 4 x 6, given 4"),
        (lambda: PatchEmbedding((1, 4, 4), 0, 8), ValueError, "patch to be at least 1, given 0"),
        (lambda: PatchEmbedding((0, 4, 4), 2, 8), ValueError, "channels to be at least 1, given 0"),
        (lambda: PatchEmbedding((4, 4), 2, 8), ValueError, r"\(channels, height, width\), given"),
        (lambda: Decoder(9, 6, 0, 8, 2, 0.0), ValueError, "layers to be at least 1, given 0"),
        (
            lambda: EncoderDecoder(
                TokenEmbedding(9, 6, 8), Transformer(1, 8, 2, True), Decoder(9, 6, 1, 8, 2, 0.0)
            ),
            ValueError,
            "reads both ways, given causal=True",
        ),
    ]
)
def test_nothing_is_built_from(call, error, message):
    with pytest.raises(error, match=message):
        call()


@refused(
    [
        (lambda: net()([[1.0]]), TypeError, "x to be a tensor, given list"),
        (lambda: net()(X[0]), ValueError, r"x to have shape \(batch, seq, 8\), given \(6, 8\)"),
        (lambda: net()(X[..., :5]), ValueError, r"\(batch, seq, 8\), given \(2, 6, 5\)"),
        (lambda: net()(X[:, :0]), ValueError, r"given \(2, 0, 8\) \(no axis may be empty\)"),
        (
            lambda: net()(X.double()),
            TypeError,
            "torch.float32 like the weights, given torch.float64",
        ),
        (lambda: net()(X.to("meta")), ValueError, "on cpu like the weights, .* on meta"),
        (lambda: net()(X * torch.nan), ValueError, "x to be finite, given 96 NaN"),
        (lambda: net()(X, MASK[:1]), ValueError, r"mask to have shape \(2, 6\), given \(1, 6\)"),
        (lambda: net()(X, MASK.float()), TypeError, "mask to be torch.bool"),
        (lambda: net()(X, ~MASK), ValueError, "a real token in every example; .* given 2"),
        (lambda: Transformer(1, 8, 2)(X, ~MASK), ValueError, "a real token in every example"),
        (lambda: net().prefill(X), ValueError, "causal=True to decode step by step"),
        (
            lambda: net().metas[0](X),
            ValueError,
            r"depths .*\(batch, seq, 2, 8\), given \(2, 6, 8\)",
        ),
        (lambda: net().metas[0](X[:, :, None]), ValueError, r"\(batch, seq, 2, 8\), given"),
        (lambda: net().metas[0].prefill(X[:, :, None].repeat(1, 1, 2, 1)), ValueError, "causal="),
        (
            lambda: net(meta="linformer", options=LENGTH)(X[:, :5]),
            ValueError,
            "the 6 tokens of E, given 5",
        ),
        (
            lambda: net(meta="bigbird", options=LENGTH)(ones(2, 7, 8)),
            ValueError,
            "at most length = 6 tokens, given 7",
        ),
        (
            lambda: net(meta="performer").metas[0].depth_weights(ones(2, 6, 2, 8)),
            ValueError,
            "full attention, which has weights, given 'performer'",
        ),
        (lambda: lm()(TOKENS.float()), TypeError, "tokens to be torch.int64, given torch.float32"),
        (lambda: lm()(TOKENS[0]), ValueError, r"tokens to have shape \(batch, seq\), given \(6,\)"),
        (lambda: lm()(9 * TOKENS), ValueError, r"tokens to lie in \[0, 8\], given 9 to 9"),
        (lambda: lm()(-TOKENS), ValueError, r"tokens to lie in \[0, 8\], given -1 to -1"),
        (lambda: lm()(TOKENS.to("meta")), ValueError, "on cpu like the weights, .* on meta"),
        (
            lambda: lm()(ones(2, 7, dtype=torch.int64)),
            ValueError,
            "at most max_length = 6 tokens, given 7",
        ),
        (lambda: lm()(TOKENS, ~MASK), ValueError, "a real token in every example"),
        (lambda: lm().prefill(TOKENS, MASK[:1]), ValueError, "mask to have shape"),
        (
            lambda: lm().step(TOKENS[:, 0], lm().prefill(TOKENS)),
            ValueError,
            "at most max_length = 6 tokens, given 7",
        ),
        (
            lambda: lm().step(TOKENS, lm().prefill(TOKENS)),
            ValueError,
            r"token to have shape \(2\), given \(2, 6\)",
        ),
        (lambda: texts()(TOKENS, ~MASK), ValueError, "a real token in every example"),
        (lambda: texts(readout="token")(TOKENS, ~MASK), ValueError, "a real token in every"),
        (lambda: texts()(X), ValueError, r"tokens to have shape \(batch, seq\)"),
        (
            lambda: classifier(image=(1, 4, 4), patch=2)(ones(2, 3, 4, 4)),
            ValueError,
            r"images to have shape \(batch, 1, 4, 4\), given \(2, 3, 4, 4\)",
        ),
        (
            lambda: classifier(image=(1, 4, 4), patch=2)(ones(2, 1, 4, 4) / 0),
            ValueError,
            "images to be finite, given 32",
        ),
        (lambda: translator()(TOKENS, 7 * TOKENS), ValueError, r"lie in \[0, 6\], given 7 to 7"),
        (lambda: translator()(TOKENS, TOKENS, ~MASK), ValueError, "a real token in every"),
        (lambda: translator().translate(TOKENS, 0, 1, 0), ValueError, "length to be at least 1"),
        (lambda: translator().translate(TOKENS, 0, 1, 7), ValueError, "max_length = 6 .* given 7"),
        (lambda: index_sort([]), ValueError, "at least one layer, given none"),
        (
            lambda: index_sort([X, X[:, :5]]),
            ValueError,
            r"layer 1 .*\(2, 6, 8\), given \(2, 5, 8\)",
        ),
        (lambda: index_sort([X, X.double()]), TypeError, "layer 1 to be torch.float32"),
        (lambda: index_unsort(X, 4), ValueError, "depth that divides the 6 tokens, given 4"),
        (lambda: index_unsort(X, 0), ValueError, "depth to be at least 1, given 0"),
    ]
)
def test_nothing_is_computed_from(call, error, message):
    torch.manual_seed(0)
    with pytest.raises(error, match=message):
        call()


def test_values_are_not_read_where_the_checks_are_off():
    with value_checks(False):
        assert net()(X * torch.nan).isnan().all()
        with pytest.raises(TypeError, match="torch.int64"):
            lm()(TOKENS.float())
