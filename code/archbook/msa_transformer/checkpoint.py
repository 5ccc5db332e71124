"""The published weights, or any model saved in their layout, into ours."""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from archbook.msa_transformer.network import MSATransformer

PREFIXES = ("encoder.", "sentence_encoder.")
ARGUMENTS = {"layers", "attention_heads", "ffn_embed_dim", "dropout", "activation_dropout"}
TABLES = {"embed_tokens.weight", "embed_positions.weight"}


def load_esm_msa1b(path: str | Path, regression_path: str | Path | None = None) -> MSATransformer:
    """The model of a fair-esm file, in evaluation mode on the CPU; any size.

    path: a dict of "args" and "model", such as esm_msa1b_t12_100M_UR50S.pt; regression_path: the
    second file, with the contact head; without it and without a head in the first, the model
    refuses to tell contacts. The file calls rows columns and columns rows; we turn the names back.
    Loaded with weights_only=True: nothing in the file is executed. The first release's row
    positions are one number a row, which the norm that follows removes: such a model gets
    row_positions="none". Errors: ValueError that names missing, unknown or misshapen entries.

    >>> load_esm_msa1b("esm_msa1b_t12_100M_UR50S.pt")  # where it is not
    Traceback (most recent call last):
        ...
    FileNotFoundError: [Errno 2] No such file or directory: 'esm_msa1b_t12_100M_UR50S.pt'
    """
    saved = _read(path, "args", "model")
    weights = {_plain(key): value for key, value in saved["model"].items()}
    if regression_path is not None:
        weights |= _read(regression_path, "model")["model"]
    args = {name.removeprefix("encoder_"): value for name, value in vars(saved["args"]).items()}
    if lacking := (ARGUMENTS - args.keys()) | (TABLES - weights.keys()):
        raise ValueError(f"wanted exactly the entries of this layout in {path}; missing {lacking}")
    table = weights["embed_tokens.weight"]
    if not torch.equal(weights.get("lm_head.weight", table), table):
        raise ValueError(
            f"wanted lm_head.weight to be embed_tokens.weight in {path}, given another"
        )
    row_positions = weights.pop("msa_position_embedding", None)
    if row_positions is not None and row_positions.shape[-1] == 1:
        row_positions = None
    columns = weights.pop("embed_positions.weight")[2:]  # the first two rows stand for padding
    model = MSATransformer(
        vocab_size=len(table),
        layers=args["layers"],
        hidden=table.shape[1],
        heads=args["attention_heads"],
        ffn=args["ffn_embed_dim"],
        max_rows=1024 if row_positions is None else row_positions.shape[1],
        max_columns=len(columns),
        row_positions="none" if row_positions is None else "learned",
        dropout=args["dropout"],
        attention_dropout=args["dropout"],  # theirs is ignored: the maps get this one
        activation_dropout=args["activation_dropout"],
    )
    ours = {"column_positions": columns}
    if row_positions is not None:
        ours["row_positions"] = row_positions[0, :, 0]
    ours |= renamed(weights)
    if "contact_head.regression.weight" not in ours:
        head = model.contact_head.state_dict()
        ours |= {f"contact_head.{name}": value for name, value in head.items()}
    try:
        found = model.load_state_dict(ours, strict=False)
    except RuntimeError as error:
        raise ValueError(f"wanted the shapes that args ask for in {path}: {error}") from None
    if found.missing_keys or found.unexpected_keys:
        raise ValueError(
            f"wanted exactly the entries of this layout in {path}; missing {found.missing_keys}, "
            f"unknown {found.unexpected_keys}"
        )
    return model.eval()


def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries under fair-esm's public names -> ours: queries, keys and values stacked."""
    words = {
        "embed_tokens.weight": "letters.weight",
        "emb_layer_norm_before": "norm_before",
        "emb_layer_norm_after": "norm_after",
        "lm_head.layer_norm": "letter_head.norm",
        "lm_head.": "letter_head.",
        "layers.": "blocks.",
        "row_self_attention.layer_norm": "row_norm",
        "column_self_attention.layer_norm": "column_norm",
        "feed_forward_layer.layer_norm": "ffn_norm",
        "row_self_attention.layer.": "row.",
        "column_self_attention.layer.": "column.",
        "feed_forward_layer.layer.": "ffn.",
        "out_proj": "out",
    }
    ours: dict[str, Tensor] = {}
    for key, value in weights.items():
        if key == "lm_head.weight" or ".k_proj." in key or ".v_proj." in key:
            continue  # the embedding's table; taken with the queries
        name = key
        for theirs, new in words.items():
            name = name.replace(theirs, new)
        if ".q_proj." in key:
            all_three = [key.replace("q_proj", part) for part in ("q_proj", "k_proj", "v_proj")]
            if not weights.keys() >= set(all_three):
                continue  # it will be found missing
            name = name.replace("q_proj", "qkv")
            value = torch.cat([weights[part] for part in all_three])
        ours[name] = value
    return ours


def _read(path: str | Path, *wanted: str) -> dict:
    with torch.serialization.safe_globals([argparse.Namespace]):
        saved = torch.load(path, map_location="cpu", weights_only=True)
    given = sorted(saved) if isinstance(saved, dict) else type(saved).__name__
    if not isinstance(saved, dict) or not saved.keys() >= set(wanted):
        raise ValueError(f"wanted a dict with {' and '.join(wanted)} in {path}, given {given}")
    return saved


def _plain(key: str) -> str:
    """A saved name -> fair-esm's public one: prefixes dropped, row and column exchanged."""
    for prefix in PREFIXES:
        key = key.removeprefix(prefix)
    for theirs, public in (("row", "\0"), ("column", "row"), ("\0", "column")):
        key = key.replace(theirs, public)
    return key
