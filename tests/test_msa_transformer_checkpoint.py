"""Files in the layout of the published weights, written here by hand, become our model again.

The same with their own code, by `make parity`: test_msa_transformer_parity.py.
"""

import argparse
import re

import pytest
import torch
from drawing import gap, order_one
from plain_msa_transformer import SMALL, alignment
from torch import Tensor

from archbook.msa_transformer import MSATransformer, load_esm_msa1b

D = SMALL["hidden"]
ARGUMENTS = {
    "layers": 2,
    "embed_dim": D,
    "ffn_embed_dim": 20,
    "attention_heads": 3,
    "max_positions": 16,
    "dropout": 0.2,
    "attention_dropout": 0.4,
    "activation_dropout": 0.3,
}
BODY = "encoder.sentence_encoder."
FC1 = BODY + "layers.0.feed_forward_layer.layer.fc1.weight"
TABLE, POSITIONS = BODY + "embed_tokens.weight", BODY + "embed_positions.weight"
# their name of each side in a file is that of the other
SIDES = {"row": "column_self_attention", "column": "row_self_attention"}


def ours(**options) -> MSATransformer:
    """Random numbers that float32 holds, so that nothing is lost in a file."""
    return order_one(MSATransformer(**{**SMALL, **options})).float().eval()


def written(net: MSATransformer) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(model, read-out) under the names of the published files."""
    body = {
        TABLE: net.letters.weight,
        POSITIONS: torch.cat([torch.full((2, D), 9.0), net.column_positions]),
        "encoder.lm_head.weight": net.letters.weight,
        "encoder.lm_head.bias": net.letter_head.bias,
    }

    def put(name: str, part: torch.nn.Module) -> None:
        body[name + ".weight"], body[name + ".bias"] = part.weight, part.bias

    put("encoder.lm_head.dense", net.letter_head.dense)
    put("encoder.lm_head.layer_norm", net.letter_head.norm)
    put(BODY + "emb_layer_norm_before", net.norm_before)
    put(BODY + "emb_layer_norm_after", net.norm_after)
    if net.row_positions is not None:
        rows = torch.zeros(1024, D)
        rows[: len(net.row_positions)] = net.row_positions
        body[BODY + "msa_position_embedding"] = rows[None, :, None]
    for n, block in enumerate(net.blocks):
        layer = f"{BODY}layers.{n}."
        for side, theirs in SIDES.items():
            attention = getattr(block, side)
            put(f"{layer}{theirs}.layer_norm", getattr(block, f"{side}_norm"))
            put(f"{layer}{theirs}.layer.out_proj", attention.out)
            for p, letter in enumerate("qkv"):
                name, rows = f"{layer}{theirs}.layer.{letter}_proj", slice(p * D, (p + 1) * D)
                body[name + ".weight"] = attention.qkv.weight[rows]
                body[name + ".bias"] = attention.qkv.bias[rows]
        put(layer + "feed_forward_layer.layer_norm", block.ffn_norm)
        put(layer + "feed_forward_layer.layer.fc1", block.ffn.fc1)
        put(layer + "feed_forward_layer.layer.fc2", block.ffn.fc2)
    regression = net.contact_head.regression
    head = {"weight": regression.weight, "bias": regression.bias}
    body = {name: value.detach().clone() for name, value in body.items()}
    return body, {f"contact_head.regression.{k}": v.detach().clone() for k, v in head.items()}


def files(folder, body: dict, head: dict, prefix: str = "encoder_", **arguments):
    """Paths of the two files."""
    args = {k if k == "layers" else prefix + k: v for k, v in {**ARGUMENTS, **arguments}.items()}
    path, read_out = folder / "model.pt", folder / "read_out.pt"
    torch.save({"args": argparse.Namespace(**args), "model": body}, path)
    torch.save({"model": head}, read_out)
    return path, read_out


def outputs(net: MSATransformer, contacts: bool = True) -> list[Tensor]:
    out = net(alignment(2, 5, 9), need_attention=True, return_contacts=contacts)
    return [part for part in out if part is not None]


@pytest.mark.parametrize("prefix", ["encoder_", ""])
@pytest.mark.parametrize("positions", ["learned", "none"])
def test_a_written_model_comes_back(tmp_path, positions, prefix):
    net = ours(row_positions=positions)
    found = load_esm_msa1b(*files(tmp_path, *written(net), prefix))
    assert not found.training
    assert gap(outputs(found), outputs(net)) == 0
    assert (found.row_positions is None) == (positions == "none")


def test_the_settings_are_those_that_act_there(tmp_path):
    """They accept attention_dropout and give `dropout` to the maps."""
    found = load_esm_msa1b(*files(tmp_path, *written(ours())))
    assert found.blocks[0].row.dropout == found.blocks[1].column.dropout == 0.2
    assert found.drop.p == found.blocks[0].drop.p == 0.2
    assert found.blocks[0].ffn.drop.p == 0.3
    assert (found.max_rows, found.max_columns, found.vocab_size) == (1024, 16, 33)


def test_without_a_read_out_the_rest_is_loaded_and_contacts_are_refused(tmp_path):
    net = ours()
    found = load_esm_msa1b(files(tmp_path, *written(net))[0])
    assert gap(outputs(found, contacts=False), outputs(net, contacts=False)) == 0
    with pytest.raises(ValueError, match="given one that was never fitted"):
        outputs(found)


def test_a_read_out_within_the_file_is_taken(tmp_path):
    net = ours()
    body, head = written(net)
    found = load_esm_msa1b(files(tmp_path, body | head, head)[0])
    assert gap(outputs(found), outputs(net)) == 0


def test_names_that_are_not_exchanged_load_and_give_another_model(tmp_path):
    """All shapes fit, so only the numbers tell."""
    net = ours()
    body, head = written(net)
    swap = {"row": "column", "column": "row"}
    plain = {
        re.sub("row(?=_self)|column(?=_self)", lambda m: swap[m[0]], k): v for k, v in body.items()
    }
    wrong = load_esm_msa1b(*files(tmp_path, plain, head))
    assert gap(outputs(wrong)[0], outputs(net)[0]) > 0.1


def test_row_positions_of_one_number_are_left_out(tmp_path):
    """The first release: the norm that follows removes them."""
    net = ours(row_positions="none")
    body, head = written(net)
    body[BODY + "msa_position_embedding"] = torch.randn(1, 1024, 1, 1)
    found = load_esm_msa1b(*files(tmp_path, body, head))
    assert found.row_positions is None
    assert gap(outputs(found), outputs(net)) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop(TABLE), "missing .*embed_tokens.weight"),
        (lambda m: m.pop(POSITIONS), "missing .*embed_positions.weight"),
        (lambda m: m.pop(FC1), r"missing \['blocks.0.ffn.fc1.weight'\], unknown \[\]"),
        (
            lambda m: m.pop(BODY + "layers.0.row_self_attention.layer.q_proj.bias"),
            r"missing \['blocks.0.column.qkv.bias'\]",
        ),
        (
            lambda m: m.pop(BODY + "layers.1.column_self_attention.layer.v_proj.weight"),
            r"missing \['blocks.1.row.qkv.weight'\]",
        ),
        (lambda m: m.update(extra=torch.ones(1)), r"missing \[\], unknown \['extra'\]"),
        (
            lambda m: m.update({FC1: torch.ones(3, 3)}),
            r"the shapes that args ask for .*blocks.0.ffn.fc1.weight.*\[3, 3\]",
        ),
        (
            lambda m: m.update({"encoder.lm_head.weight": torch.ones(33, D)}),
            "lm_head.weight to be embed_tokens.weight .* given another",
        ),
    ],
)
def test_missing_unknown_and_misshapen_entries_are_named(tmp_path, change, message):
    body, head = written(ours())
    change(body)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load_esm_msa1b(*files(tmp_path, body, head))


def test_a_missing_argument_is_named(tmp_path):
    path, _ = files(tmp_path, *written(ours()))
    saved = torch.load(path, weights_only=False)
    del saved["args"].encoder_attention_heads
    torch.save(saved, path)
    with pytest.raises(ValueError, match="missing .*'attention_heads'"):
        load_esm_msa1b(path)


def test_a_read_out_without_a_model_is_refused(tmp_path):
    path, read_out = files(tmp_path, *written(ours()))
    torch.save({"weights": {}}, read_out)
    with pytest.raises(ValueError, match=r"a dict with model in .*, given \['weights'\]"):
        load_esm_msa1b(path, read_out)
