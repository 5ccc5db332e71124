"""Sizes of all data functions: any integer, and words for what is none."""

from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import torch

from archbook import data
from archbook.data.listops import ListOpsDesign
from archbook.data.nbody import draw_systems, simulate
from archbook.data.numbers import english, german
from archbook.data.potts import PottsDesign, coupling_table, draw_models, sample_sequences

DESIGN = PottsDesign(columns=6, letters=3, contacts=3)
MODELS = draw_models(2, DESIGN)
SYSTEM = draw_systems(1)
# A function of one size, and the name that the error has for it; 3 is a good size for all of them.
SIZES = {
    "community_graphs": (data.community_graphs, "count"),
    "erdos_renyi_graphs": (data.erdos_renyi_graphs, "count"),
    "two_digit_crops": (data.two_digit_crops, "count"),
    "listops": (data.listops, "count"),
    "ListOpsDesign depth": (lambda n: ListOpsDesign(max_depth=n), "max_depth"),
    "ListOpsDesign arguments": (lambda n: ListOpsDesign(max_args=n), "max_args"),
    "ListOpsDesign shortest": (lambda n: ListOpsDesign(shortest=n), "shortest"),
    "ListOpsDesign longest": (lambda n: ListOpsDesign(shortest=1, longest=n), "longest"),
    "nbody_set": (lambda n: data.nbody_set("valid", n), "systems"),
    "draw_systems": (draw_systems, "systems"),
    "draw_systems particles": (lambda n: draw_systems(1, n), "particles"),
    "draw_systems first": (lambda n: draw_systems(1, first=n), "first"),
    "simulate": (lambda n: simulate(*SYSTEM, steps=n, sample_every=1), "steps"),
    "simulate samples": (lambda n: simulate(*SYSTEM, steps=7, sample_every=n), "sample_every"),
    "PottsDesign columns": (
        lambda n: PottsDesign(columns=n, contacts=1, min_separation=1),
        "columns",
    ),
    "PottsDesign letters": (lambda n: PottsDesign(letters=n), "letters"),
    "PottsDesign contacts": (lambda n: PottsDesign(contacts=n), "contacts"),
    "PottsDesign separation": (lambda n: PottsDesign(min_separation=n), "min_separation"),
    "PottsDesign degree": (lambda n: PottsDesign(max_degree=n), "max_degree"),
    "coupling_table": (coupling_table, "letters"),
    "draw_models": (lambda n: draw_models(n, DESIGN), "count"),
    "sample_sequences": (lambda n: sample_sequences(MODELS, n, 1), "rows"),
    "sample_sequences sweeps": (lambda n: sample_sequences(MODELS, 2, n), "sweeps"),
    "regression_set": (lambda n: data.regression_set("ripple", "train", n), "points"),
    "mackey_glass": (lambda n: data.mackey_glass(n, 5), "series"),
    "mackey_glass steps": (lambda n: data.mackey_glass(2, n), "steps"),
    "mackey_glass tau": (lambda n: data.mackey_glass(2, 5, tau=n), "tau"),
    "mackey_glass substeps": (lambda n: data.mackey_glass(2, 5, substeps=n), "substeps"),
    "mackey_glass washout": (lambda n: data.mackey_glass(2, 5, washout=n), "washout"),
    "prediction_pairs": (lambda n: data.prediction_pairs(torch.arange(9.0), n), "ahead"),
    "white_signal": (lambda n: data.white_signal(n, 1000), "batch"),
    "white_signal steps": (lambda n: data.white_signal(2, n, dt=1, high=0.4), "steps"),
    "english": (english, "number"),
    "german": (german, "number"),
}


def plain(value):
    """Lists of numbers in place of tensors."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if is_dataclass(value):
        return [plain(getattr(value, field.name)) for field in fields(value)]
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


class Index:
    def __index__(self) -> int:
        return 3


@pytest.mark.parametrize(
    "size", [np.int64(3), np.uint8(3), Index()], ids=["int64", "uint8", "index"]
)
@pytest.mark.parametrize("name", SIZES)
def test_a_size_may_be_any_integer(name, size):
    call, _ = SIZES[name]
    assert plain(call(size)) == plain(call(3))


@pytest.mark.parametrize("size", [3.0, "3", True, None, np.float32(3)], ids=repr)
@pytest.mark.parametrize("name", SIZES)
def test_a_size_that_is_no_integer_is_refused_in_words(name, size):
    call, said = SIZES[name]
    with pytest.raises(TypeError, match=f"wanted {said} to be an int, given "):
        call(size)
