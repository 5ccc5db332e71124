"""Writes what the figures that a reader can change start from: book/_static/live/*.json.

One function a figure, of its name. The constants come from the package, so that what moves on the
page is what the chapter computes; tests/test_live.py sets the figures in a browser and compares
with torch. `make notebooks` calls `write_live`.
"""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from archbook.data import white_signal
from archbook.data.qm9 import atom_features, qm9_20k
from archbook.egnn import EGNN, GNN

FOLDER = Path(__file__).parents[1] / "book" / "_static" / "live"
HIDDEN = 8  # a sixteenth of the paper's: the weights travel with the page
MOLECULE = 138  # 2-pyrimidinone, flat: the one of Fig. 2.1


def lmu_window() -> dict:
    """The range of each slider, and 600 steps of noise with a period of 40 steps or more."""
    steps = 600
    (noise,) = white_signal(1, steps, dt=1 / steps, high=15, rms=0.8, seed=0)
    return {
        "steps": steps,
        "shown": 320,
        "noise": rounded(noise),
        "order": {"min": 1, "max": 48, "step": 1, "value": 24},
        "theta": {"min": 50, "max": 300, "step": 10, "value": 200},
        "period": {"min": 10, "max": 150, "step": 5, "value": 60},
    }


def egnn_turn() -> dict:
    """The molecule in its plane, and two networks with random weights."""
    molecule = qm9_20k().take(torch.tensor([MOLECULE]))
    x = molecule.positions.double()
    x = x - x.mean(0)
    flat = torch.linalg.svd(x)[2][:2]
    x = x @ flat.T
    h = atom_features(molecule.z)
    torch.manual_seed(0)
    gnn = GNN(h.shape[1] + 2, HIDDEN, 2, out_features=2)
    egnn = EGNN(h.shape[1], HIDDEN, 2)
    for name, weight in egnn.named_parameters():
        if name.endswith("phi_x.2.weight"):  # they start near zero; here the arrows shall show
            nn.init.normal_(weight, std=0.5)
    return {
        "x": rounded(x),
        "h": rounded(h),
        "z": molecule.z.tolist(),
        "bonds": (torch.cdist(x, x) < 1.6).triu(1).nonzero().tolist(),
        "networks": {"gnn": weights(gnn), "egnn": weights(egnn)},
    }


def weights(network: nn.Module) -> dict | list:
    """Every linear map of a network under its name; a perceptron is the list of its maps."""
    if isinstance(network, nn.Linear):
        return {name: rounded(value) for name, value in network.named_parameters()}
    if isinstance(network, nn.Sequential | nn.ModuleList):
        return [weights(part) for part in network if list(part.parameters())]
    return {
        name: weights(part) for name, part in network.named_children() if list(part.parameters())
    }


def rounded(values: Tensor) -> list:
    """Three digits, which a reader of the file can compare; the test loads the same ones."""
    return (values.detach().double() * 1000).round().div(1000).add(0.0).tolist()


FIGURES = {"lmu_window": lmu_window, "egnn_turn": egnn_turn}


def text_of(name: str) -> str:
    return json.dumps(FIGURES[name](), separators=(",", ":")) + "\n"


def write_live() -> None:
    for name in FIGURES:
        (FOLDER / f"{name}.json").write_text(text_of(name), encoding="utf-8")


if __name__ == "__main__":
    write_live()
