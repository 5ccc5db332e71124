"""Parity with fair-esm 2.0.0, the authors' own code, on random weights, and its file layout.

It runs in an environment of its own: `make parity`. Logits, maps, contacts and gradients in
float64; measured: 1e-14 at logits of size 20. A file of a random model in the published layout is
read by their loader and by ours. Where they differ, on padded rows, both answers are shown.
"""

import argparse
import copy

import pytest
import torch
from drawing import gap, normal
from plain_msa_transformer import alignment
from torch import Tensor

from archbook.msa_transformer import MSATransformer, load_esm_msa1b, pad_alignments

# A warning of their import would be an error in our test run.
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

SETTINGS = {
    "layers": 2,
    "embed_dim": 12,
    "ffn_embed_dim": 20,
    "attention_heads": 3,
    "dropout": 0.2,
    "attention_dropout": 0.4,
    "activation_dropout": 0.3,
    "max_tokens": 2**14,
    "max_positions": 32,
    "embed_positions_msa": True,
    "embed_positions_msa_dim": 12,
}
EVERYTHING = {"repr_layers": [2], "need_head_weights": True, "return_contacts": True}
ALL = {"need_attention": True, "return_contacts": True}


@pytest.fixture(scope="module")
def esm():
    pytest.importorskip("esm.pretrained", reason="fair-esm is not installed: see `make parity`")
    import esm

    return esm


def their_model(esm, **settings):
    """A random model of theirs in float64, evaluation mode."""
    torch.manual_seed(0)
    args = argparse.Namespace(**{**SETTINGS, **settings})
    alphabet = esm.data.Alphabet.from_architecture("msa_transformer")
    theirs = esm.model.msa_transformer.MSATransformer(args, alphabet).double().eval()
    for i, (name, weight) in enumerate(theirs.named_parameters()):
        if weight.ndim == 1:  # biases and norms start at zero and one, which hides mistakes
            weight.data += 0.1 * normal(*weight.shape, seed=i)
        if "contact_head" in name:
            weight.data *= 10
    return theirs


def exchanged(name: str) -> str:
    return name.replace("row", "\0").replace("column", "row").replace("\0", "column")


def entries(theirs, swap: bool = True) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(model, read-out) under the names of the published files."""
    body, head = {}, {}
    for name, value in theirs.state_dict().items():
        if name.startswith("contact_head"):
            head[name] = value
            continue
        prefix = "encoder." if name.startswith("lm_head") else "encoder.sentence_encoder."
        body[prefix + (exchanged(name) if swap else name)] = value
    return body, head


def files(theirs, folder, arguments: str = "encoder_", swap: bool = True):
    """Paths of the two files."""
    body, head = entries(theirs, swap)
    args = {k if k == "layers" else arguments + k: v for k, v in vars(theirs.args).items()}
    args["arch"] = "msa_transformer"
    path, read_out = folder / "model.pt", folder / "model-contact-regression.pt"
    torch.save({"args": argparse.Namespace(**args), "model": body}, path)
    torch.save({"model": head}, read_out)
    return path, read_out


def loaded(*paths) -> MSATransformer:
    """By our loader, with all digits of the file."""
    torch.set_default_dtype(torch.float64)
    try:
        return load_esm_msa1b(*paths)
    finally:
        torch.set_default_dtype(torch.float32)


def their_outputs(theirs, tokens: Tensor) -> list[Tensor]:
    out = theirs(tokens, **EVERYTHING)
    names = ("logits", "row_attentions", "col_attentions", "contacts")
    return [*(out[name] for name in names), out["representations"][2]]


def our_outputs(ours: MSATransformer, tokens: Tensor) -> list[Tensor]:
    out = ours(tokens, **ALL)
    maps = [out.logits, out.row_attentions, out.column_attentions, out.contacts]
    return [*maps, ours.encode(tokens)]


@pytest.fixture
def both(esm, tmp_path):
    theirs = their_model(esm)
    return theirs, loaded(*files(theirs, tmp_path))


# ---- the same numbers ----


@pytest.mark.parametrize("rows", [1, 5])
def test_logits_maps_contacts_and_states_equal_theirs(both, rows):
    theirs, ours = both
    tokens = alignment(2, rows, 9)
    found, wanted = our_outputs(ours, tokens), their_outputs(theirs, tokens)
    assert gap(found, wanted) < 1e-10
    assert wanted[0].abs().max() > 1
    assert wanted[3].std() > 0.01


def test_masked_and_rare_tokens_give_the_same_too(both):
    theirs, ours = both
    tokens = torch.randint(2, 33, (2, 4, 9))
    tokens[..., 0] = 0
    assert gap(our_outputs(ours, tokens), their_outputs(theirs, tokens)) < 1e-10


def test_gradients_equal_theirs(both):
    """By every weight, under their names: the loader's renaming, run on gradients."""
    theirs, ours = both
    ours.contact_head.requires_grad_(True)
    tokens = alignment(2, 5, 9)
    out, wanted = ours(tokens, return_contacts=True), theirs(tokens, **EVERYTHING)
    weights = [normal(*part.shape, seed=7) for part in (out.logits, out.contacts)]
    ((out.logits * weights[0]).sum() + (out.contacts * weights[1]).sum()).backward()
    ((wanted["logits"] * weights[0]).sum() + (wanted["contacts"] * weights[1]).sum()).backward()
    their_grads = {name: p.grad for name, p in theirs.named_parameters()}
    compared = {
        "letters.weight": their_grads["embed_tokens.weight"],
        "column_positions": their_grads["embed_positions.weight"][2:],
        "row_positions": their_grads["msa_position_embedding"][0, :, 0],
        "letter_head.bias": their_grads["lm_head.bias"],
        "contact_head.regression.weight": their_grads["contact_head.regression.weight"],
    }
    for n in range(2):
        layer, block = f"layers.{n}.", f"blocks.{n}."
        for side in ("row", "column"):
            attention = f"{layer}{side}_self_attention.layer"
            for kind in ("weight", "bias"):
                stacked = [their_grads[f"{attention}.{p}_proj.{kind}"] for p in "qkv"]
                compared[f"{block}{side}.qkv.{kind}"] = torch.cat(stacked)
                compared[f"{block}{side}.out.{kind}"] = their_grads[f"{attention}.out_proj.{kind}"]
        for part in ("fc1", "fc2"):
            name = f"{layer}feed_forward_layer.layer.{part}.weight"
            compared[f"{block}ffn.{part}.weight"] = their_grads[name]
    grads = {name: p.grad for name, p in ours.named_parameters()}
    found, wanted = zip(*((grads[name], compared[name]) for name in compared), strict=True)
    scale = max(float(w.abs().max()) for w in wanted)
    assert gap(found, wanted) < 1e-10
    assert scale > 1


def test_columns_padded_behind_give_the_same_logits_and_maps(both):
    """Contacts are another matter: see below."""
    theirs, ours = both
    tokens = pad_alignments([alignment(1, 4, 9)[0], alignment(1, 4, 6)[0]])
    real = tokens != 1
    found, wanted = our_outputs(ours, tokens), their_outputs(theirs, tokens)
    assert gap(found[0][real], wanted[0][real]) < 1e-10
    assert gap(found[1][1, ..., :6, :6], wanted[1][1, ..., :6, :6]) < 1e-10
    assert gap(found[2][1, :, :, :6], wanted[2][1, :, :, :6]) < 1e-10


# ---- where we differ, on purpose ----


def test_padded_rows_change_their_answer_and_not_ours(both):
    """They count padded rows in the root (issue 491); with the true number it agrees."""
    theirs, ours = both
    tokens = alignment(1, 4, 9)
    more = pad_alignments([tokens[0]], rows=9)
    alone, batched = their_outputs(theirs, tokens), their_outputs(theirs, more)
    assert gap(batched[0][:, :4], alone[0]) > 1e-2
    assert gap(batched[1], alone[1]) > 1e-3
    found = our_outputs(ours, more)
    assert gap(found[0][:, :4], alone[0]) < 1e-10
    assert gap(found[1], alone[1]) < 1e-10
    assert gap(found[3], alone[3]) < 1e-10


def test_padded_columns_change_their_contacts_and_not_ours(both):
    """They take the background over padding, too."""
    theirs, ours = both
    tokens = alignment(1, 4, 7)
    more = pad_alignments([tokens[0]], columns=12)
    alone, batched = their_outputs(theirs, tokens)[3], their_outputs(theirs, more)[3]
    assert gap(batched[:, :6, :6], alone) > 1e-4
    assert gap(our_outputs(ours, more)[3][:, :6, :6], alone) < 1e-10


# ---- files ----


def test_a_file_gives_what_their_loader_gives(esm, tmp_path):
    path, read_out = files(their_model(esm), tmp_path)
    saved, head = (torch.load(p, weights_only=False) for p in (path, read_out))
    theirs, _ = esm.pretrained.load_model_and_alphabet_core("esm_msa1b_small", saved, head)
    ours, tokens = load_esm_msa1b(path, read_out), alignment(2, 5, 9)
    assert not ours.training
    assert next(ours.parameters()).dtype == torch.float32
    found = our_outputs(ours.double(), tokens)
    assert gap(found, their_outputs(theirs.double().eval(), tokens)) < 1e-10


@pytest.mark.parametrize("arguments", ["encoder_", ""])
def test_names_of_arguments_may_have_a_prefix_or_none(esm, tmp_path, arguments):
    theirs, tokens = their_model(esm), alignment(1, 3, 6)
    ours = loaded(*files(theirs, tmp_path, arguments))
    assert gap(our_outputs(ours, tokens), their_outputs(theirs, tokens)) < 1e-10


def test_the_settings_are_those_that_act_there(both):
    """They accept attention_dropout and give `dropout` to the maps."""
    theirs, ours = both
    assert {theirs.layers[0].row_self_attention.layer.dropout_module.p} == {0.2}
    assert ours.blocks[0].row.dropout == ours.blocks[1].column.dropout == 0.2
    assert ours.drop.p == ours.blocks[0].drop.p == 0.2
    assert ours.blocks[0].ffn.drop.p == 0.3
    assert (ours.max_rows, ours.max_columns) == (1024, 32)


def test_in_training_they_also_thin_the_row_maps_by_dropout(both):
    theirs, _ = both
    attention = theirs.layers[0].row_self_attention.layer.train()
    x = normal(4, 5, 1, 12)
    with torch.no_grad():
        assert gap(attention(x)[0], attention(x)[0]) > 1e-3


def test_without_a_read_out_the_rest_is_loaded_and_contacts_are_refused(esm, tmp_path):
    theirs, tokens = their_model(esm), alignment(1, 3, 6)
    path, _ = files(theirs, tmp_path)
    ours = loaded(path)
    out = ours(tokens, need_attention=True)
    found = [out.logits, out.row_attentions, out.column_attentions]
    assert gap(found, their_outputs(theirs, tokens)[:3]) < 1e-10
    with pytest.raises(ValueError, match="given one that was never fitted"):
        ours(tokens, return_contacts=True)


def test_a_read_out_within_the_file_is_taken(esm, tmp_path):
    theirs, tokens = their_model(esm), alignment(1, 3, 6)
    path, read_out = files(theirs, tmp_path)
    saved = torch.load(path, weights_only=False)
    saved["model"].update(torch.load(read_out, weights_only=True)["model"])
    torch.save(saved, path)
    assert gap(our_outputs(loaded(path), tokens), their_outputs(theirs, tokens)) < 1e-10


def test_names_that_are_not_exchanged_load_and_give_another_model(esm, tmp_path):
    """All shapes fit, so only the numbers tell."""
    theirs, tokens = their_model(esm), alignment(1, 5, 9)
    wrong = loaded(*files(theirs, tmp_path, swap=False))
    assert gap(our_outputs(wrong, tokens)[0], their_outputs(theirs, tokens)[0]) > 0.1


def test_the_first_release_has_one_number_a_row_which_does_nothing(esm, tmp_path):
    theirs, tokens = their_model(esm, embed_positions_msa_dim=1), alignment(1, 5, 9)
    assert theirs.msa_position_embedding.shape == (1, 1024, 1, 1)
    ours = loaded(*files(theirs, tmp_path))
    assert ours.row_positions is None
    theirs.msa_position_embedding.data *= 100
    assert gap(our_outputs(ours, tokens), their_outputs(theirs, tokens)) < 1e-8


def test_a_model_without_row_positions_can_be_loaded(esm, tmp_path):
    theirs, tokens = their_model(esm, embed_positions_msa=False), alignment(1, 5, 9)
    ours = loaded(*files(theirs, tmp_path))
    assert ours.row_positions is None
    assert gap(our_outputs(ours, tokens), their_outputs(theirs, tokens)) < 1e-10


LAYER = "encoder.sentence_encoder.layers.0."
TABLE = "encoder.sentence_encoder.embed_tokens.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop(TABLE), "missing .*embed_tokens.weight"),
        (lambda m: m.pop("encoder.sentence_encoder.embed_positions.weight"), "embed_positions"),
        (lambda m: m.pop(LAYER + "row_self_attention.layer.q_proj.bias"), "column.qkv.bias"),
        (lambda m: m.pop(LAYER + "row_self_attention.layer.k_proj.bias"), "column.qkv.bias"),
        (lambda m: m.pop(LAYER + "feed_forward_layer.layer.fc1.weight"), "blocks.0.ffn.fc1.weight"),
        (lambda m: m.update(extra=torch.ones(1)), r"unknown \['extra'\]"),
        (lambda m: m.update({TABLE: torch.ones(33, 24)}), "lm_head.weight to be embed_tokens"),
        (
            lambda m: m.update({LAYER + "feed_forward_layer.layer.fc1.weight": torch.ones(3, 3)}),
            r"shapes that args ask for .*blocks.0.ffn.fc1.weight.*\[3, 3\]",
        ),
        (
            lambda m: m.update({"encoder.lm_head.weight": torch.ones(33, 12)}),
            "lm_head.weight to be embed_tokens.weight",
        ),
    ],
)
def test_missing_unknown_and_misshapen_entries_are_named(esm, tmp_path, change, message):
    path, read_out = files(their_model(esm), tmp_path)
    saved = torch.load(path, weights_only=False)
    saved["model"] = copy.copy(saved["model"])
    change(saved["model"])
    torch.save(saved, path)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load_esm_msa1b(path, read_out)


@pytest.mark.parametrize("argument", ["layers", "attention_heads", "ffn_embed_dim", "dropout"])
def test_a_missing_argument_is_named(esm, tmp_path, argument):
    path, _ = files(their_model(esm), tmp_path, arguments="")
    saved = torch.load(path, weights_only=False)
    delattr(saved["args"], argument)
    torch.save(saved, path)
    with pytest.raises(ValueError, match=f"missing .*'{argument}'"):
        load_esm_msa1b(path)


def test_a_read_out_without_a_model_is_refused(esm, tmp_path):
    path, read_out = files(their_model(esm), tmp_path)
    torch.save({"weights": {}}, read_out)
    with pytest.raises(ValueError, match=r"a dict with model in .*, given \['weights'\]"):
        load_esm_msa1b(path, read_out)
