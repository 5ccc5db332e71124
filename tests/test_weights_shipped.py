"""Shipped weights: every file gives its number again, and a changed file gives none."""

import dataclasses
import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
import safetensors.torch
import torch
from refusals import each_raises
from scripts import ROOT, script
from torch import nn

from archbook.data import DataError
from archbook.running import read_results
from archbook.shaped import records
from archbook.weights import describe, load, names
from archbook.weights.own import told_by
from archbook.weights.shipped import FOLDER, as_lines, build, manifest

PUBLISHED = names()


def test_some_weights_are_shipped():
    assert "lmu/psmnist" in PUBLISHED


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_file_gives_the_number_of_its_run_on_the_real_test_set(name):
    line = describe(name)
    ship = script(f"experiments/{line.results}.py").SHIP
    assert (ship.variant, ship.seed, ship.metric) == (line.variant, line.seed, line.metric)
    (run,) = [
        run
        for run in read_results(*line.results.split("/"))["runs"]
        if (run["variant"], run["seed"]) == (line.variant, line.seed)
    ]
    assert run["metrics"][line.metric] == line.value
    try:
        found = ship.recompute(load(name))
    except DataError as error:  # some test sets are fetched, and no registry may answer
        pytest.skip(f"its test set is out of reach: {str(error).splitlines()[0]}")
    assert round(found, line.digits) == round(line.value, line.digits)


def test_the_folder_holds_what_the_manifest_names_and_no_chapter_more_than_a_megabyte_and_a_half():
    there = sorted(FOLDER.rglob("*.safetensors"))
    assert there == sorted(FOLDER / line.file for line in manifest().values())
    for chapter in {path.parent for path in there}:
        assert sum(path.stat().st_size for path in chapter.iterdir()) <= 1_500_000


def test_every_network_is_a_public_class_of_the_package():
    for line in manifest().values():
        assert line.network.startswith("archbook."), line


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_file_tells_what_shapes_its_network(name):
    """As other programs read it: the manifest is not all that knows theta."""
    line = describe(name)
    told = told_by((FOLDER / line.file).read_bytes())
    assert told == records(build(line))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of weights with one network in it."""
    shutil.copytree(FOLDER, tmp_path / "weights")
    return tmp_path / "weights"


def test_a_network_comes_in_evaluation_mode_and_in_single_precision():
    network = load("lmu/psmnist")
    assert not network.training
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}
    assert network(torch.zeros(2, 784, 1)).shape == (2, 10)


def test_loading_leaves_the_random_numbers_as_they_were():
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    load("lmu/psmnist")
    assert torch.equal(torch.rand(2), wanted)


def test_two_networks_of_a_name_share_no_weights():
    one, other = load("lmu/psmnist"), load("lmu/psmnist")
    nn.init.zeros_(one.head.weight)
    assert other.head.weight.any()


def test_a_changed_file_is_refused(folder):
    path = folder / "lmu/psmnist.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(ValueError, match=r"lmu/psmnist.safetensors was changed: wanted sha256"):
        load("lmu/psmnist", folder)


def test_the_weights_of_another_network_are_refused(folder):
    line = describe("lmu/psmnist")
    other = dataclasses.replace(line, arguments=line.arguments | {"hidden_size": 5})
    (folder / "manifest.json").write_text(json.dumps(as_lines({"lmu/psmnist": other})))
    with pytest.raises(RuntimeError, match="size mismatch"):
        load("lmu/psmnist", folder)


def test_the_checksum_is_of_the_bytes_that_lie_there():
    for line in manifest().values():
        assert sha256((FOLDER / line.file).read_bytes()).hexdigest() == line.sha256


def test_a_file_that_does_not_tell_what_shapes_its_network_is_refused(folder):
    line = describe("lmu/psmnist")
    path = folder / line.file
    path.write_bytes(content := safetensors.torch.save(safetensors.torch.load_file(path)))
    bare = dataclasses.replace(line, sha256=sha256(content).hexdigest())
    (folder / "manifest.json").write_text(json.dumps(as_lines({"lmu/psmnist": bare})))
    with pytest.raises(ValueError, match=r"what shapes its network, .*psmnist.safetensors without"):
        load("lmu/psmnist", folder)


def test_an_empty_folder_ships_nothing(tmp_path):
    assert names(tmp_path) == []


test_no_network_is_loaded_by = each_raises(
    [
        (lambda: load("lmu/psmnst"), ValueError, r"such as \['lmu/psmnist'\], given 'lmu/psmnst'"),
        (lambda: load("nothing like it"), ValueError, "wanted a shipped network, such as"),
        (lambda: describe(""), ValueError, "given ''"),
    ]
)


def test_the_wheel_carries_the_weights():
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"weights/**"' in declared
