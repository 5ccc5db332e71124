"""Files of weights and the manifest that says what each is: written by the runner, read here."""

import dataclasses
import importlib
import json
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from archbook.weights.own import require_records

FOLDER = Path(__file__).parent
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Shipped:
    """A line of the manifest: what a file of weights is, and the number that it must give.

    >>> shipped = describe("lmu/psmnist")
    >>> shipped.network, shipped.arguments["order"], shipped.metric
    ('archbook.lmu.LMUClassifier', 468, 'test_accuracy')
    """

    file: str  # below the folder of the manifest, lmu/psmnist.safetensors
    sha256: str  # of the file's bytes
    network: str  # the class to build, "archbook.lmu.LMUClassifier"
    arguments: dict[str, Any]  # to build it with
    results: str  # the file of the run, "lmu/psmnist" for results/lmu/psmnist.json
    variant: str
    seed: int
    metric: str  # of that run, recomputed from the file as written ...
    value: float
    digits: int  # ... and equal to the run's to so many decimals


def names(folder: Path = FOLDER) -> list[str]:
    """Every shipped network, as CHAPTER/NAME.

    >>> "lmu/psmnist" in names()
    True
    """
    return sorted(manifest(folder))


def describe(name: str, folder: Path = FOLDER) -> Shipped:
    """What the network is, where it comes from, and its number on the test set.

    >>> shipped = describe("lmu/psmnist")
    >>> f"{shipped.metric} {shipped.value}, seed {shipped.seed} of {shipped.results}"
    'test_accuracy 98.64, seed 0 of lmu/psmnist'
    """
    known = manifest(folder)
    if name not in known:
        close = get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)
        raise ValueError(f"wanted a shipped network, such as {close}, given {name!r}")
    return known[name]


def load(name: str, folder: Path = FOLDER) -> nn.Module:
    """The network, in evaluation mode, float32, on the CPU.

    Errors: ValueError for a name that is not shipped, and for a file whose bytes are not those of
    the manifest or that tells of other arguments.

    >>> model = load("lmu/psmnist")
    >>> model(torch.rand(2, 784, 1)).shape
    torch.Size([2, 10])
    """
    shipped = describe(name, folder)
    content = (folder / shipped.file).read_bytes()
    if (found := sha256(content).hexdigest()) != shipped.sha256:
        raise ValueError(
            f"{shipped.file} was changed: wanted sha256 {shipped.sha256}, given {found}; "
            "install archbook again"
        )
    network = build(shipped)
    require_records(network, content, shipped.file)
    weights = safetensors.torch.load(content)
    network.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return network.eval()


def build(shipped: Shipped) -> nn.Module:
    """The network of a line of the manifest, its weights not yet loaded; draws nothing."""
    module, _, name = shipped.network.rpartition(".")
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
        return getattr(importlib.import_module(module), name)(**shipped.arguments)


def manifest(folder: Path = FOLDER) -> dict[str, Shipped]:
    """Every line, by name; none where nothing was ever written."""
    path = folder / MANIFEST
    if not path.exists():
        return {}
    lines = json.loads(path.read_text(encoding="utf-8"))
    return {name: Shipped(**line) for name, line in lines.items()}


def as_lines(known: dict[str, Shipped]) -> dict[str, Any]:
    """The manifest as its file holds it."""
    return {name: dataclasses.asdict(known[name]) for name in sorted(known)}
