"""What OmniNet refuses, with the wanted and the given named."""

import pytest
import torch

from archbook.attention import BigBird, Linformer, Performer
from archbook.checks import value_checks
from archbook.omninet import (
    Classifier,
    Decoder,
    EncoderDecoder,
    LanguageModel,
    MetaLearner,
    OmniNet,
    OmniNetLM,
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
LATE = torch.arange(6).expand(2, 6) > 1
TOKENS = ones(2, 6, dtype=torch.int64)


def net(layers=4, hidden=8, heads=2, partition=2, **options) -> OmniNet:
    return OmniNet(layers, hidden, heads, partition=partition, **options)


def lm(vocab_size=9, max_length=6, **options) -> OmniNetLM:
    return OmniNetLM(vocab_size, max_length, 2, hidden=8, heads=2, partition=2, **options)


def classifier(classes=3, readout="mean", **options) -> Classifier:
    embed = TokenEmbedding(9, 6, 8)
    return Classifier(embed, Transformer(2, 8, 2, **options), classes, readout=readout)


def decoder(layers=1) -> Decoder:
    return Decoder(7, 6, layers, hidden=8, heads=2)


def translator() -> EncoderDecoder:
    return EncoderDecoder(TokenEmbedding(9, 6, 8), Transformer(1, 8, 2), decoder())


def images(*image, patch=2) -> PatchEmbedding:
    return PatchEmbedding(image, patch, 8)


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
        (lambda: net(meta="full"), TypeError, r"Full\(\), .* as meta, given 'full'"),
        (lambda: net(meta=Performer), TypeError, "another Kind as meta, given <class"),
        (lambda: net(metas=Performer()), TypeError, "unexpected keyword argument 'metas'"),
        (lambda: net(pool="sum"), ValueError, "'max', 'mean', 'last', 'learned', given 'sum'"),
        (lambda: net(query="first"), ValueError, "'all', 'top', given 'first'"),
        (lambda: net(meta=Linformer()), TypeError, "length to be an int, given None"),
        (lambda: net(meta=BigBird()), TypeError, "length to be an int, given None"),
        (lambda: net(meta=BigBird(), length=0), ValueError, "length to be at least 1, given 0"),
        (
            lambda: net(meta=Linformer(), length=6, causal=True),
            ValueError,
            r"can be causal, given Linformer\(rank=16\)",
        ),
        (
            lambda: net(meta=BigBird(), length=6, query="top"),
            ValueError,
            r"query='all' with pool='last' .* given query='top' for BigBird\(block=8",
        ),
        (lambda: Transformer(2, 8, 3), ValueError, "heads that divide hidden = 8, given 3"),
        (lambda: MetaLearner(8, 2, 0), ValueError, "depth to be at least 1, given 0"),
        (lambda: choose_meta(0), ValueError, "tokens to be at least 1, given 0"),
        (lambda: lm(vocab_size=0), ValueError, "vocab_size to be at least 1, given 0"),
        (lambda: lm(max_length=0), ValueError, "max_length to be at least 1, given 0"),
        (lambda: lm(meta=Linformer()), ValueError, "can be causal, given Linformer"),
        (
            lambda: LanguageModel(Transformer(1, 8, 2), 9, 6),
            ValueError,
            "causal stack, given causal=False",
        ),
        (lambda: classifier(classes=0), ValueError, "classes to be at least 1, given 0"),
        (lambda: classifier(readout="cls"), ValueError, "'mean', 'token', given 'cls'"),
        (
            lambda: classifier(causal=True, readout="token"),
            ValueError,
            "reads nothing: wanted 'mean'",
        ),
        (
            lambda: Classifier(TokenEmbedding(9, 6, 4), Transformer(1, 8, 2), 3),
            ValueError,
            "embedding as wide as 8, given 4",
        ),
        (lambda: images(1, 4, 6, patch=4), ValueError, "height and width 4 x 6, given 4"),
        (lambda: images(1, 4, 4, patch=0), ValueError, "patch to be at least 1, given 0"),
        (lambda: images(0, 4, 4), ValueError, "channels to be at least 1, given 0"),
        (lambda: images(4, 4), ValueError, r"\(channels, height, width\), given"),
        (lambda: decoder(layers=0), ValueError, "layers to be at least 1, given 0"),
        (
            lambda: EncoderDecoder(
                TokenEmbedding(9, 6, 8), Transformer(1, 8, 2, causal=True), decoder()
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
            lambda: net(causal=True).step(X[:, :1] * torch.nan, net(causal=True).prefill(X)[1]),
            ValueError,
            "x to be finite, given 16 NaN",
        ),
        (
            lambda: net().metas[0](X),
            ValueError,
            r"depths .*\(batch, seq, 2, 8\), given \(2, 6, 8\)",
        ),
        (lambda: net().metas[0](X[:, :, None]), ValueError, r"\(batch, seq, 2, 8\), given"),
        (lambda: net().metas[0].prefill(X[:, :, None].repeat(1, 1, 2, 1)), ValueError, "causal="),
        (
            lambda: net(meta=Linformer(), length=6)(X[:, :5]),
            ValueError,
            "the 6 tokens that E mixes, given 5",
        ),
        (
            lambda: net(meta=BigBird(), length=6)(ones(2, 7, 8)),
            ValueError,
            "at most length = 6 tokens, given 7",
        ),
        (
            lambda: net(meta=Performer()).metas[0].depth_weights(ones(2, 6, 2, 8)),
            ValueError,
            "full attention, which has weights, given Performer",
        ),
        (lambda: lm()(TOKENS.float()), TypeError, "tokens to be torch.int64, given torch.float32"),
        (lambda: lm()(TOKENS[0]), ValueError, r"tokens to have shape \(batch, seq\), given \(6,\)"),
        (lambda: lm()(9 * TOKENS), ValueError, r"tokens to lie in \[0, 8\], given 9 to 9"),
        (lambda: lm()(-TOKENS), ValueError, r"tokens to lie in \[0, 8\], given -1 to -1"),
        (
            lambda: lm()(TOKENS.to("meta")),
            ValueError,
            "tokens to be on cpu like the weights, .* on meta",
        ),
        (
            lambda: lm()(ones(2, 7, dtype=torch.int64)),
            ValueError,
            "at most max_length = 6 tokens, given 7",
        ),
        (lambda: lm()(TOKENS, ~MASK), ValueError, "a real token in every example"),
        (lambda: lm()(TOKENS, MASK[:1]), ValueError, "mask to have shape"),
        (
            lambda: lm()(TOKENS, LATE),
            ValueError,
            "padding after the last real token only; .*the first: example ., position 1",
        ),
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
        (lambda: classifier()(TOKENS, ~MASK), ValueError, "a real token in every example"),
        (lambda: classifier(readout="token")(TOKENS, ~MASK), ValueError, "a real token in every"),
        (lambda: classifier()(X), ValueError, r"tokens to have shape \(batch, seq\)"),
        (
            lambda: images(1, 4, 4)(ones(2, 3, 4, 4)),
            ValueError,
            r"images to have shape \(batch, 1, 4, 4\), given \(2, 3, 4, 4\)",
        ),
        (
            lambda: images(1, 4, 4)(ones(2, 1, 4, 4) / 0),
            ValueError,
            "images to be finite, given 32",
        ),
        (lambda: translator()(TOKENS, 7 * TOKENS), ValueError, r"lie in \[0, 6\], given 7 to 7"),
        (lambda: translator()(TOKENS, TOKENS, ~MASK), ValueError, "a real token in every"),
        (
            lambda: translator().translate(TOKENS, 0, 1, length=0),
            ValueError,
            "length to be at least 1",
        ),
        (
            lambda: translator().translate(TOKENS, 0, 1, length=7),
            ValueError,
            "max_length = 6 .* given 7",
        ),
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
