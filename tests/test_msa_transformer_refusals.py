"""What the MSA Transformer refuses, with the wanted and the given named, and the place.

Ragged rows, unknown letters, insertions in lower case and a query of gaps never become tokens:
see test_data_alignments.py.
"""

import argparse
import pickle
import re

import pytest
import torch
from plain_msa_transformer import SMALL, alignment, block_mask
from refusals import each_raises
from torch import Tensor

from archbook.checks import value_checks
from archbook.msa_transformer import (
    AxialBlock,
    ColumnAttention,
    ContactHead,
    MSATransformer,
    TiedRowAttention,
    diversity_subsample,
    load_esm_msa1b,
    mask_tokens,
    pad_alignments,
)

ones = torch.ones
X = ones(2, 3, 4, 6)
MASK = ones(2, 3, 4, dtype=torch.bool)
TOKENS = alignment(2, 3, 4)
NET = MSATransformer(**SMALL).eval()
torch.nn.init.normal_(NET.contact_head.regression.weight)  # as if fitted


def changed(tokens: Tensor, *place: int, to: int) -> Tensor:
    """A copy with another token at (example, row, column)."""
    tokens = tokens.clone()
    tokens[place] = to
    return tokens


def with_token(to: int, *place: int):
    return NET(changed(TOKENS, *place, to=to))


def net(**options) -> MSATransformer:
    return MSATransformer(**{**SMALL, **options})


# ---- constructors ----


test_no_model_is_built_from = each_raises(
    [
        (lambda: TiedRowAttention(0, 1), ValueError, "hidden to be at least 1, given 0"),
        (lambda: TiedRowAttention(6.0, 1), TypeError, "hidden to be an int, given 6.0"),
        (lambda: TiedRowAttention(6, 0), ValueError, "heads to be at least 1, given 0"),
        (lambda: TiedRowAttention(6, True), TypeError, "heads to be an int, given True"),
        (lambda: TiedRowAttention(6, 4), ValueError, "heads that divide hidden = 6, given 4"),
        (lambda: TiedRowAttention(6, 3, 1.0), ValueError, "0 <= dropout < 1, given 1.0"),
        (lambda: TiedRowAttention(6, 3, -0.1), ValueError, "0 <= dropout < 1, given -0.1"),
        (
            lambda: TiedRowAttention(6, 3, tie="sum"),
            ValueError,
            "'sqrt', 'mean', 'none', given 'sum'",
        ),
        (lambda: ColumnAttention(6, 5), ValueError, "heads that divide hidden = 6, given 5"),
        (lambda: ColumnAttention(-6, 3), ValueError, "hidden to be at least 1, given -6"),
        (lambda: AxialBlock(6, 4, 8), ValueError, "heads that divide hidden = 6, given 4"),
        (lambda: AxialBlock(6, 3, 0), ValueError, "ffn to be at least 1, given 0"),
        (lambda: AxialBlock(6, 3, 8, dropout=2.0), ValueError, "between 0 and 1, but got 2.0"),
        (lambda: ContactHead(0), ValueError, "features to be at least 1, given 0"),
        (lambda: net(layers=0), ValueError, "layers to be at least 1, given 0"),
        (lambda: net(layers=1.5), TypeError, "layers to be an int, given 1.5"),
        (lambda: net(heads=5), ValueError, "heads that divide hidden = 12, given 5"),
        (lambda: net(hidden=0), ValueError, "hidden to be at least 1, given 0"),
        (lambda: net(ffn=-1), ValueError, "ffn to be at least 1, given -1"),
        (lambda: net(max_rows=0), ValueError, "max_rows to be at least 1, given 0"),
        (lambda: net(max_columns=0), ValueError, "max_columns to be at least 1, given 0"),
        (lambda: net(vocab_size=0), ValueError, "vocab_size to be at least 1, given 0"),
        (lambda: net(vocab_size=1), ValueError, "vocab_size above the padding id 1, given 1"),
        (lambda: net(row_positions="both"), ValueError, "'query', 'none', given 'both'"),
        (lambda: net(tie="max"), ValueError, "'sqrt', 'mean', 'none', given 'max'"),
        (lambda: net(attention_dropout=1.0), ValueError, "0 <= dropout < 1, given 1.0"),
    ]
)


# ---- tokens ----


test_the_network_refuses = each_raises(
    [
        (lambda: NET([[[0, 4]]]), TypeError, "tokens to be a tensor, given list"),
        (lambda: NET(TOKENS[0]), ValueError, r"\(batch, rows, columns\), given \(3, 4\)"),
        (lambda: NET(TOKENS[None]), ValueError, r"columns\), given \(1, 2, 3, 4\)"),
        (lambda: NET(TOKENS[:0]), ValueError, r"given \(0, 3, 4\) \(no axis may be empty\)"),
        (lambda: NET(TOKENS[:, :0]), ValueError, r"given \(2, 0, 4\) \(no axis may be empty\)"),
        (lambda: NET(TOKENS[..., :0]), ValueError, r"given \(2, 3, 0\) \(no axis may be empty\)"),
        (lambda: NET(TOKENS.float()), TypeError, "tokens to be torch.int64, given torch.float32"),
        (lambda: NET(TOKENS.int()), TypeError, "tokens to be torch.int64, given torch.int32"),
        (lambda: NET(TOKENS.to("meta")), ValueError, "on cpu like the weights, .* on meta"),
        (
            lambda: with_token(33, 1, 2, 3),
            ValueError,
            r"tokens in \[0, 32\]; tokens outside, given 1; .*: 33 in example 1, row 2, column 3",
        ),
        (lambda: with_token(-1, 0, 1, 2), ValueError, "-1 in example 0, row 1, column 2"),
        (
            lambda: net(vocab_size=20)(TOKENS),
            ValueError,
            r"in \[0, 19\]; .* 24 in example 0, row 0, column 2",
        ),
        (
            lambda: with_token(4, 1, 2, 0),
            ValueError,
            "start token 0 in column 0 of every row; rows without it, given 1; .*example 1, row 2",
        ),
        (lambda: NET(TOKENS[..., 1:]), ValueError, "rows without it, given 6; .*example 0, row 0"),
        (lambda: NET.encode(TOKENS[..., 1:]), ValueError, "start token 0 in column 0"),
        (lambda: NET.encode(TOKENS.float()), TypeError, "tokens to be torch.int64"),
        (
            lambda: NET(alignment(1, 17, 4)),
            ValueError,
            "wanted at most max_rows = 16 rows, given 17",
        ),
        (
            lambda: NET(alignment(1, 3, 17)),
            ValueError,
            "wanted at most max_columns = 16 columns, given 17",
        ),
        (lambda: NET(TOKENS, chunk=0), ValueError, "chunk to be at least 1, given 0"),
        (lambda: NET(TOKENS, chunk=-5), ValueError, "chunk to be at least 1, given -5"),
        (lambda: NET(TOKENS, chunk=2.0), TypeError, "chunk to be an int, given 2.0"),
        (lambda: NET.encode(TOKENS, chunk=-5), ValueError, "chunk to be at least 1, given -5"),
        (lambda: NET.row_attentions(TOKENS, chunk=0), ValueError, "chunk to be at least 1"),
        (
            lambda: net()(TOKENS, return_contacts=True),
            ValueError,
            "from `ContactHead.fit` or a file, given one that was never fitted",
        ),
        (
            lambda: NET.representations(TOKENS, [3]),
            ValueError,
            r"layers, each out of 0 to 2, given \[3\]",
        ),
        (lambda: NET.representations(TOKENS, []), ValueError, r"layers, .* given \[\]"),
        (
            lambda: NET.representations(TOKENS, [-1]),
            ValueError,
            "layers to be at least 0, given -1",
        ),
        (lambda: NET.representations(TOKENS, [0.5]), TypeError, "layers to be an int, given 0.5"),
        (
            lambda: NET(TOKENS[..., :1], return_contacts=True),
            ValueError,
            r"attentions to have shape .*given \(2, 2, 3, 0, 0\) \(no axis may be empty\)",
        ),
    ]
)


@pytest.mark.parametrize("rows", [1, 16])
def test_one_row_and_as_many_as_the_table_holds_are_welcome(rows):
    assert NET(alignment(1, rows, 16), return_contacts=True).contacts.isfinite().all()


def test_without_tables_there_is_no_limit():
    free = net(row_positions="none", column_positions=False).eval()
    assert free(alignment(1, 17, 18)).logits.shape == (1, 17, 18, 33)


# ---- padding ----

RAGGED = pad_alignments([TOKENS[0], alignment(1, 5, 6)[0]])  # 3 x 4 and 5 x 6, in 5 x 6


test_padding_is_refused_where = each_raises(
    [
        (
            lambda: NET(changed(RAGGED, 1, 2, 3, to=1)),
            ValueError,
            "rows of an example to end at one column; tokens against it, given 1; "
            "the first: example 1, row 2, column 3",
        ),
        (
            lambda: NET(changed(RAGGED, 0, 1, 3, to=1)),  # a row that ends early
            ValueError,
            "end at one column; .*given 1; the first: example 0, row 1, column 3",
        ),
        (
            lambda: NET(changed(RAGGED, 0, 1, 4, to=7)),  # a row that ends late
            ValueError,
            "end at one column; .*given 2; the first: example 0, row 0, column 4",
        ),
        (
            lambda: NET(changed(RAGGED, 1, 2, slice(None), to=1)),
            ValueError,
            "padding after the last real row only; rows before a real one, given 1; "
            "the first: example 1, row 2",
        ),
        (
            lambda: NET(changed(RAGGED, 1, slice(None), 4, to=1)),
            ValueError,
            "padding after the last real column only; columns before a real one, given 1; "
            "the first: example 1, column 4",
        ),
        (
            lambda: NET(changed(RAGGED, 0, slice(0, 2), slice(None), to=1)),
            ValueError,
            "padding after the last real row only; .*example 0, row 1",
        ),
        (
            lambda: NET(changed(RAGGED, 1, slice(None), slice(None), to=1)),
            ValueError,
            "a real token in every example; examples without one, given 1; the first: example 1",
        ),
        (
            lambda: NET(changed(RAGGED, 0, 2, 0, to=5)),
            ValueError,
            "rows without it, given 1; the first: example 0, row 2",
        ),
    ]
)


TAKES_MASK = {
    "TiedRowAttention": lambda mask: TiedRowAttention(6, 3)(X, mask),
    "ColumnAttention": lambda mask: ColumnAttention(6, 3)(X, mask),
    "AxialBlock": lambda mask: AxialBlock(6, 3, 8)(X, mask),
    "MSATransformer": lambda mask: NET(TOKENS, mask),
    "encode": lambda mask: NET.encode(TOKENS, mask),
}
BAD_MASKS = [
    ([[True]], TypeError, "mask to be a tensor, given list"),
    (MASK[0], ValueError, r"mask to have shape \(2, 3, 4\), given \(3, 4\)"),
    (MASK[:1], ValueError, r"mask to have shape \(2, 3, 4\), given \(1, 3, 4\)"),
    (MASK[..., :3], ValueError, r"mask to have shape \(2, 3, 4\), given \(2, 3, 3\)"),
    (MASK[:, 0], ValueError, r"mask to have shape \(2, 3, 4\), given \(2, 4\)"),
    (MASK.long(), TypeError, r"mask to be torch.bool \(True = real\), given torch.int64"),
    (MASK.float(), TypeError, r"mask to be torch.bool \(True = real\), given torch.float32"),
    (MASK.to("meta"), ValueError, "mask to be on cpu, given a tensor on meta"),
    (block_mask([(3, 4), (0, 4)], 3, 4), ValueError, "without one, given 1; .*example 1"),
    (
        ~block_mask([(1, 4), (1, 4)], 3, 4),
        ValueError,
        "last real row .*given 2; .*example 0, row 0",
    ),
    (~block_mask([(3, 1), (3, 1)], 3, 4), ValueError, "last real column .*example 0, column 0"),
    (~block_mask([(1, 1), (1, 1)], 3, 4), ValueError, "one column; .*example 0, row 0, column 0"),
]


@pytest.mark.parametrize("model", TAKES_MASK)
@pytest.mark.parametrize(("mask", "error", "message"), BAD_MASKS)
def test_every_part_refuses_the_mask(model, mask, error, message):
    with pytest.raises(error, match=message):
        TAKES_MASK[model](mask)


# ---- hidden states ----

TAKES_STATES = {
    "TiedRowAttention": lambda x, **options: TiedRowAttention(6, 3)(x, **options),
    "ColumnAttention": lambda x, **options: ColumnAttention(6, 3)(x, **options),
    "AxialBlock": lambda x, **options: AxialBlock(6, 3, 8)(x, **options),
}
SHAPE = r"x to have shape \(batch, rows, columns, 6\), given "


@pytest.mark.parametrize("model", TAKES_STATES)
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([1.0], TypeError, "x to be a tensor, given list"),
        (X[0], ValueError, SHAPE + r"\(3, 4, 6\)"),
        (X[..., :5], ValueError, SHAPE + r"\(2, 3, 4, 5\)"),
        (X[:, :0], ValueError, SHAPE + r"\(2, 0, 4, 6\) \(no axis may be empty\)"),
        (X[:, :, :0], ValueError, SHAPE + r"\(2, 3, 0, 6\) \(no axis may be empty\)"),
        (X.double(), TypeError, "x to be torch.float32 like the weights, given torch.float64"),
        (X.long(), TypeError, "x to be torch.float32 like the weights, given torch.int64"),
        (X.to("meta"), ValueError, "x to be on cpu like the weights, given a tensor on meta"),
        (X / 0, ValueError, "x to be finite, given 144 NaN or infinite of 144"),
    ],
)
def test_every_layer_refuses_the_states(model, x, error, message):
    with pytest.raises(error, match=message):
        TAKES_STATES[model](x)


@pytest.mark.parametrize("model", TAKES_STATES)
@pytest.mark.parametrize(("chunk", "error"), [(0, ValueError), (-3, ValueError), (1.5, TypeError)])
def test_every_layer_refuses_the_chunk(model, chunk, error):
    with pytest.raises(error, match=f"chunk to be .*given {chunk}"):
        TAKES_STATES[model](X, chunk=chunk)


# ---- contacts, masking, rows ----

maps = ones(2, 2, 3, 4, 4)
PAIRS = torch.tensor([True, False, True, False, False])
PAIR_FEATURES = ones(5, 2)


def fit(features: Tensor = PAIR_FEATURES, contacts: Tensor = PAIRS, **settings) -> None:
    ContactHead(2).fit(features, contacts, **settings)


test_the_other_parts_refuse = each_raises(
    [
        (lambda: ContactHead(6)(maps[0]), ValueError, r"attentions to have shape .*\(2, 3, 4, 4"),
        (lambda: ContactHead(5)(maps), ValueError, r"layers x heads = 5 maps, given \(2, 3\)"),
        (
            lambda: ContactHead(6)(maps[..., :3]),
            ValueError,
            r"\(2, 2, 3, 3, 3\), given \(2, 2, 3, 4, 3\)",
        ),
        (lambda: ContactHead(6)(maps[:0]), ValueError, "no axis may be empty"),
        (lambda: ContactHead(6)([1.0]), TypeError, "attentions to be a tensor, given list"),
        (lambda: ContactHead(6)(maps, maps), ValueError, r"columns to have shape \(2, 4\), given"),
        (lambda: ContactHead(6)(maps, ones(2, 4)), TypeError, "columns to be torch.bool"),
        (lambda: fit(ones(5, 3)), ValueError, r"features .*\(pairs, 2\), given \(5, 3\)"),
        (lambda: fit(ones(0, 2)), ValueError, "no axis may be empty"),
        (lambda: fit(contacts=PAIRS[:, None]), ValueError, r"contacts .*\(5\), given \(5, 1\)"),
        (lambda: fit(contacts=PAIRS.float()), TypeError, "contacts to be torch.bool"),
        (lambda: fit(ones(5, 2) * torch.nan), ValueError, "features to be finite, given 10"),
        (
            lambda: fit(contacts=PAIRS & False),
            ValueError,
            "contacts and others among the 5 pairs, given 0 contacts",
        ),
        (lambda: fit(contacts=PAIRS | True), ValueError, "the 5 pairs, given 5 contacts"),
        (lambda: fit(penalty=-1.0), ValueError, "penalty >= 0, given -1.0"),
        (lambda: fit(steps=0), ValueError, "steps to be at least 1, given 0"),
        (
            lambda: mask_tokens(TOKENS.float()),
            TypeError,
            "tokens to be torch.int64, given torch.fl",
        ),
        (lambda: mask_tokens(TOKENS, rate=0.0), ValueError, "0 < rate <= 1.* given 0.0, 0.8 and"),
        (lambda: mask_tokens(TOKENS, rate=1.1), ValueError, "given 1.1, 0.8 and 0.1"),
        (lambda: mask_tokens(TOKENS, masked=-0.1), ValueError, "given 0.15, -0.1 and 0.1"),
        (lambda: mask_tokens(TOKENS, swapped=0.3), ValueError, "given 0.15, 0.8 and 0.3"),
        (lambda: mask_tokens(TOKENS, letters=(5, 5)), ValueError, r"letters .*given \(5, 5\)"),
        (lambda: mask_tokens(TOKENS, letters=(-1, 5)), ValueError, "letters to be .*given -1"),
        (lambda: mask_tokens(TOKENS, letters=(4, 400)), ValueError, r"mask 32, given \(4, 400\)"),
        (lambda: mask_tokens(TOKENS, letters=(4, 33)), ValueError, r"mask 32, given \(4, 33\)"),
        (lambda: mask_tokens(TOKENS, letters=(4, 9.0)), TypeError, "letters to be an int"),
        (lambda: diversity_subsample(TOKENS[0], 0), ValueError, "rows to be at least 1, given 0"),
        (lambda: diversity_subsample(TOKENS[0], 2.0), TypeError, "rows to be an int, given 2.0"),
        (
            lambda: diversity_subsample(TOKENS, 2),
            ValueError,
            r"\(rows, columns\), given \(2, 3, 4\)",
        ),
        (lambda: diversity_subsample(TOKENS[0, :0], 2), ValueError, "no axis may be empty"),
        (lambda: diversity_subsample([[1]], 2), TypeError, "an Alignment or a tensor, given list"),
        (lambda: pad_alignments([]), ValueError, "at least one alignment, given none"),
        (
            lambda: pad_alignments([TOKENS[0], TOKENS]),
            ValueError,
            r"alignment 1 to have shape \(rows, columns\), given \(2, 3, 4\)",
        ),
        (lambda: pad_alignments([TOKENS[0, :0]]), ValueError, "no axis may be empty"),
        (
            lambda: pad_alignments([TOKENS[0], TOKENS[1].int()]),
            TypeError,
            "alignment 1 to be torch.int64 like the first, given torch.int32",
        ),
    ]
)


# ---- checks switched off ----


def test_places_are_not_searched_where_value_checks_are_off():
    with value_checks(False):
        assert NET(TOKENS[..., 1:]).logits.shape == (2, 3, 3, 33)
        assert NET(changed(RAGGED, 1, 2, 3, to=1)).logits.shape == (2, 5, 6, 33)
        with pytest.raises(TypeError, match="torch.int64"):
            NET(TOKENS.float())
    with pytest.raises(ValueError, match="start token"):
        NET(TOKENS[..., 1:])


# ---- files ----


def a_file(tmp_path, **entries):
    path = tmp_path / "model.pt"
    torch.save(entries, path)
    return path


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"model": {}}, r"a dict with args and model in .*, given \['model'\]"),
        ({"args": argparse.Namespace()}, r"a dict with args and model in .*, given \['args'\]"),
        (
            {"args": argparse.Namespace(layers=1), "model": {}},
            "missing .*embed_tokens.weight|missing .*attention_heads",
        ),
    ],
)
def test_a_file_without_its_parts_is_refused(tmp_path, entries, message):
    with pytest.raises(ValueError, match=message):
        load_esm_msa1b(a_file(tmp_path, **entries))


def test_a_file_that_holds_no_dict_is_refused(tmp_path):
    torch.save(ones(2), tmp_path / "tensor.pt")
    with pytest.raises(ValueError, match=r"a dict with args and model in .*, given Tensor"):
        load_esm_msa1b(tmp_path / "tensor.pt")


class Bomb:
    """What it names is called when the file is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return type(self.target).touch, (self.target,)


@pytest.mark.parametrize("where", ["model", "args"])
def test_nothing_in_a_file_is_executed(tmp_path, where):
    victim = tmp_path / "was_here"
    entries = {"args": argparse.Namespace(), "model": {}}
    entries[where] = Bomb(victim) if where == "model" else argparse.Namespace(layers=Bomb(victim))
    path = a_file(tmp_path, **entries)
    with pytest.raises(pickle.UnpicklingError, match=re.escape("Weights only load failed")):
        load_esm_msa1b(path)
    assert not victim.exists()
    torch.load(path, weights_only=False)  # the bomb is live
    assert victim.exists()
