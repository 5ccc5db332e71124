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
from archbook.data.alignments import read_stockholm
from archbook.data.qm9 import atom_features, qm9_20k
from archbook.data.rna import BASES, GAP, rna_stockholm, rna_tokens
from archbook.dca import (
    BASE_PAIRS,
    contact_scores,
    frequencies,
    mean_field,
    precision_at,
    sums_along_stems,
    top_pairs,
)
from archbook.egnn import EGNN, GNN
from archbook.msa_transformer import MSATransformer, diverse_rows, letter_likings
from archbook.vocabulary import FIRST_LETTER
from archbook.weights import load

FOLDER = Path(__file__).parents[1] / "book" / "_static" / "live"
HIDDEN = 8  # a sixteenth of the paper's: the weights travel with the page
MOLECULE = 138  # 2-pyrimidinone, flat: the one of Fig. 2.1
RIBOSWITCH = "RF01831"  # of tetrahydrofolate: the one of the chapter's figure of arcs
ROWS = (4, 64)  # shown at first, and at most
SCORES = ("learned likings", "covariance", "mean field")  # of two columns, as msa_pair.js has them
LETTERS = "ACGU-"  # by their states
SEPARATION = 4  # columns of a ranked pair lie as far apart, at least


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


def msa_pair() -> dict:
    """The riboswitch's rows, each the one that differs most from those before it; its structure;
    the table of letters that the shipped network has learned; and how often each score is right.

    The two columns shown at first are those that the learned table ranks first.
    """
    family = read_stockholm(rna_stockholm(RIBOSWITCH)).on_query()
    states = (rna_tokens(family.rows) - FIRST_LETTER).clamp(max=GAP)
    order: list[int] = []
    for count in range(1, ROWS[1] + 1):
        order += set(diverse_rows(states, count)).difference(order)
    states = states[order]
    likings = torch.tensor(rounded(learned_likings()), dtype=torch.float64)
    liked = pair_scores(states[: ROWS[0]], likings)[0]
    first, second = top_pairs(liked, 1, SEPARATION)[0].tolist()
    column = {"min": 0, "max": states.shape[1] - 1, "step": 1}
    depths = [2**k for k in range(1, ROWS[1].bit_length())]
    pairs = family.base_pairs()
    right = torch.stack([right_shares(states[:count], likings, pairs) for count in depths], -1)
    return {
        "rows": ["".join(LETTERS[state] for state in row) for row in states.tolist()],
        "pairs": pairs.tolist(),
        "likings": likings.tolist(),
        "separation": SEPARATION,
        "first": column | {"value": first},
        "second": column | {"value": second},
        "depth": {"min": 2, "max": ROWS[1], "step": 1, "value": ROWS[0]},
        "depths": depths,
        "curves": rounded(right),
    }


def pair_scores(states: Tensor, likings: Tensor) -> Tensor:
    """What each of SCORES says of every pair of columns, (scores, columns, columns).

    The learned likings are asked of the covariation, as covariance is: of the tied map's score
    what is left without the terms of single columns. All rows count the same.
    """
    single, pair = frequencies(states, GAP + 1, torch.ones(len(states)).double())
    covariance = pair - single[:, None, :, None] * single[None, :, None, :]
    liked = (covariance[..., :BASES, :BASES] * likings).sum((2, 3)).fill_diagonal_(0)
    coupled = mean_field(states, GAP + 1, identity=None, gap=GAP)
    found = torch.stack([liked, contact_scores(covariance, GAP), coupled])
    return found.round(decimals=9)  # equal ones stay in reading order, whoever computes them


def along_stems(score: Tensor) -> Tensor:
    """Added up over five stacked pairs, each in their middle."""
    return sums_along_stems(score, 5).round(decimals=9)


def right_shares(states: Tensor, likings: Tensor, pairs: Tensor) -> Tensor:
    """The share of base pairs among as many best ones: (without and with stems, scores)."""
    contacts = torch.zeros(states.shape[1], states.shape[1], dtype=torch.bool)
    contacts[tuple(pairs.T)] = True
    plain = pair_scores(states, likings)
    stacked = torch.stack([along_stems(score) for score in plain])
    return precision_at(
        torch.stack([plain, stacked]),
        (contacts | contacts.T).expand(2, *plain.shape),
        len(pairs),
        min_separation=SEPARATION,
    )


@torch.no_grad()
def learned_likings() -> Tensor:
    """W(a, b) of the head of the first block that is likest to the six base pairs; symmetric, its
    largest entry 1. Of a letter by itself: what its neighbours in the row add is left out."""
    network = load("msa_transformer/rna").double()
    assert isinstance(network, MSATransformer)
    network.letters = nn.Embedding.from_pretrained(network.letters.weight)
    tables = letter_likings(network, (FIRST_LETTER, FIRST_LETTER + BASES))
    tables = tables + tables.mT
    known = torch.zeros(BASES, BASES, dtype=torch.float64)
    for a, b in BASE_PAIRS:
        known[a, b] = known[b, a] = 1
    known = known - known.mean(0) - known.mean(1, keepdim=True) + known.mean()
    likeness = torch.cosine_similarity(tables.flatten(1), known.flatten(), dim=1)
    table = tables[likeness.argmax()]
    return table / table.max()


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


FIGURES = {"lmu_window": lmu_window, "egnn_turn": egnn_turn, "msa_pair": msa_pair}


def text_of(name: str) -> str:
    return json.dumps(FIGURES[name](), separators=(",", ":")) + "\n"


def write_live() -> None:
    for name in FIGURES:
        (FOLDER / f"{name}.json").write_text(text_of(name), encoding="utf-8")


if __name__ == "__main__":
    write_live()
