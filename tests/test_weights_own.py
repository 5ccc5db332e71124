"""Weights of one's own in a file: back to the bit, and only into a network that was built alike."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from archbook.lmu import LMU, LMUClassifier
from archbook.omninet import OmniNetLM
from archbook.weights import load_weights, save_weights
from archbook.weights.own import told_by


def classifier(theta: float = 20.0) -> LMUClassifier:
    return LMUClassifier(1, 4, 3, order=5, theta=theta)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.safetensors"


def test_weights_come_back_to_the_bit(path: Path):
    model, other = classifier(), classifier()
    save_weights(model, path)
    load_weights(other, str(path))
    for name, weight in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], weight)


def test_a_network_around_a_model_is_kept_with_what_shapes_the_model(path: Path):
    save_weights(nn.Sequential(LMU(1, 4, 1, order=3, theta=20.0), nn.Linear(4, 2)), path)
    told = told_by(path.read_bytes())
    assert told is not None
    assert told["0.memory"] == {"order": 3, "theta": 20.0, "discretization": "zoh"}
    with pytest.raises(ValueError, match=r"theta=30.0 for 0.memory .*, given theta=20.0"):
        load_weights(nn.Sequential(LMU(1, 4, 1, order=3, theta=30.0), nn.Linear(4, 2)), path)


def test_a_refused_file_leaves_the_network_as_it_was(path: Path):
    save_weights(classifier(30.0), path)
    model = classifier()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(ValueError, match="theta=20.0"):
        load_weights(model, path)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


def test_a_file_that_tells_nothing_is_refused(path: Path):
    safetensors.torch.save_file(classifier().state_dict(), path)
    with pytest.raises(ValueError, match=r"tells what shapes its network, .*safetensors without"):
        load_weights(classifier(), path)


def test_a_file_that_tells_nothing_of_one_part_is_refused(path: Path):
    save_weights(nn.Linear(2, 2), path)
    with pytest.raises(ValueError, match="wanted weights of .* given some without"):
        load_weights(OmniNetLM(11, 20, 2, hidden=16, heads=2, partition=2), path)


def test_weights_of_other_sizes_are_refused_as_torch_does(path: Path):
    save_weights(nn.Linear(2, 2), path)
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_weights(nn.Linear(3, 2), path)


def test_other_readers_of_safetensors_read_the_file(path: Path):
    model = classifier()
    save_weights(model, path)
    assert safetensors.torch.load_file(path).keys() == model.state_dict().keys()
