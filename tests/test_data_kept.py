"""Sets that are made once: what a caller does to a copy does nothing to the next one's."""

from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import torch

from archbook import data
from archbook.data import locomotion
from archbook.data.kept import kept

SETS = {
    "nbody_set": lambda: data.nbody_set("train", 4),
    "family": lambda: data.family("PF00327"),
    "gaits": data.gaits,
    "humanoid": locomotion.humanoid,
    "frame_pairs": lambda: data.frame_pairs("test"),
    "qm9_20k": data.qm9_20k,
    "digits": data.digits,
    "sign_digits": data.sign_digits,
    "esm_example": lambda: data.esm_example("5ahw"),
    "shipped_names": data.shipped_names,
}


def parts(value) -> list:
    """The tensors and dictionaries of a set."""
    if is_dataclass(value):
        value = [getattr(value, field.name) for field in fields(value)]
    if isinstance(value, list | tuple):
        return [part for item in value for part in parts(item)]
    return [value] if isinstance(value, torch.Tensor | dict) else []


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_a_caller_changes_only_what_it_was_given(name):
    first = parts(SETS[name]())
    assert first
    before = [part.clone() if isinstance(part, torch.Tensor) else dict(part) for part in first]
    for part in first:
        part.zero_() if isinstance(part, torch.Tensor) else part.clear()
    for found, wanted in zip(parts(SETS[name]()), before, strict=True):
        assert torch.equal(found, wanted) if isinstance(found, torch.Tensor) else found == wanted


def test_a_set_is_made_once_and_the_last_ones_are_kept():
    made = []

    @kept(most=2)
    def squares(count: int) -> torch.Tensor:
        made.append(count)
        return torch.arange(count) ** 2

    for count in (1, 2, 1, 3, 1, 2):
        assert squares(count).tolist() == [i * i for i in range(count)]
    assert made == [1, 2, 3, 2]


def test_what_is_refused_is_refused_though_an_equal_number_was_not():
    data.nbody_set("train", 4)
    data.nbody_set("train", np.int64(4))
    with pytest.raises(TypeError, match="wanted systems to be an int, given 4.0"):
        data.nbody_set("train", 4.0)
