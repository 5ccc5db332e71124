"""Molecules: band gap, dipole moment and energy at 0 K, from the atoms' kinds and places.

The 20,000 shipped molecules, on our own split. The paper trains seven layers of 128 on 100,000
molecules for 1,000 epochs, a network for each property, in batches of 96. Here one core has
minutes: four layers of 64 learn all three properties at once (`target="all"`: normalised by mean
and mean absolute deviation, the L1 losses added), in batches of 8, which cost no more a molecule
and learn far more in the few epochs. A single name trains for that property alone, as the paper
and `--size paper` do. So these errors do not compare with published ones. Among themselves they
do: EGNN and SchNet have equal weights, epochs and steps.

The energy is that beyond the sum of its atoms, whose energies are fitted to the molecules trained
on. The epoch, and the ridge's width and penalty, are chosen on the validation molecules.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from archbook.checks import value_checks
from archbook.data.qm9 import (
    ELEMENTS,
    HARTREE_IN_MEV,
    Molecules,
    atom_energies,
    atom_features,
    element_counts,
    energies_without_atoms,
    qm9_20k,
    qm9_full,
    split,
)
from archbook.egnn import EGNNRegressor, complete_edges
from archbook.egnn.schnet import SchNet
from archbook.running import Run, main, share, share_weight

UNITS = {"gap": "mev", "mu": "debye", "U0": "mev"}
FEATURES = 15  # of an atom
NEAR, FAR, KNOTS = 0.9, 10.0, 40  # the ridge's histograms: angstrom, and points between
LANDMARKS = 2000  # molecules that its kernel compares with
WIDTHS = (100.0, 200.0, 400.0)  # of its Gaussian kernel
PENALTIES = tuple(10.0**k for k in range(-8, 1))


@dataclass(frozen=True)
class Config:
    model: str = "egnn"  # egnn, schnet, ridge or mean
    molecules: int = 16_000  # to train on
    target: str = "all"  # gap, mu or U0; or all three at once
    epochs: int = 14  # passes over them
    check_every: int = 1  # epochs between two looks at the validation molecules
    learning_rate: float = 1e-3  # of Adam at the start; falls to zero along a cosine
    hidden: int = 64  # width
    layers: int = 4  # depth
    batch: int = 8  # molecules a step
    held_out: int | None = None  # use only so many to validate, and to test
    full_set: bool = False  # of 130,831 molecules, fetched; else the shipped 20,000


EGNN = Config()
SCHNET = replace(EGNN, model="schnet", layers=5)  # as many weights as the EGNN
RIDGE = replace(EGNN, model="ridge", epochs=0)
MEAN = replace(EGNN, model="mean", epochs=0)
SCHEDULE = {  # molecules -> (epochs, check_every): minutes of one core each
    1_000: (54, 6),
    4_000: (26, 2),
    16_000: (14, 1),
}
SIZES = {
    "tiny": {
        name: replace(
            config, molecules=48, batch=16, hidden=8, layers=2, held_out=32, epochs=epochs
        )
        for name, config, epochs in (
            ("egnn", EGNN, 2),
            ("schnet", SCHNET, 2),
            ("egnn_gap", replace(EGNN, target="gap"), 2),
            ("ridge", RIDGE, 0),
            ("mean", MEAN, 0),
        )
    },
    "full": {
        f"{name}_{molecules}": replace(
            config, molecules=molecules, epochs=epochs, check_every=check_every
        )
        for molecules, (epochs, check_every) in SCHEDULE.items()
        for name, config in (("egnn", EGNN), ("schnet", SCHNET))
    }
    | {f"ridge_{molecules}": replace(RIDGE, molecules=molecules) for molecules in SCHEDULE}
    | {"mean": MEAN},
    "paper": {
        "egnn": replace(
            EGNN,
            molecules=100_000,
            target="gap",
            epochs=1000,
            check_every=10,
            hidden=128,
            layers=7,
            batch=96,
            full_set=True,
        )
    },
}
SEEDS = {name: (0,) for name in SIZES["full"] if name.startswith(("ridge", "mean"))}


def load(config: Config) -> dict[str, Molecules]:
    """The parts, cut to what the configuration asks for."""
    parts = split(qm9_full() if config.full_set else qm9_20k())
    wanted = {"train": config.molecules, "valid": config.held_out, "test": config.held_out}
    for part, count in wanted.items():
        if count is not None:
            if not 1 <= count <= len(parts[part]):
                raise ValueError(
                    f"wanted 1 to {len(parts[part]):,} molecules to {part}, given {count:,}"
                )
            parts[part] = parts[part].take(torch.arange(count))
    return parts


def names(config: Config) -> list[str]:
    if config.target != "all" and config.target not in UNITS:
        raise ValueError(
            f"wanted target to be all or one of {', '.join(UNITS)}, given {config.target!r}"
        )
    return list(UNITS) if config.target == "all" else [config.target]


def answers(config: Config, parts: dict[str, Molecules]) -> dict[str, Tensor]:
    """The targets of every part, (molecules, targets) in the UNITS, float64."""
    atoms = atom_energies(parts["train"])
    columns = {
        "gap": lambda molecules: HARTREE_IN_MEV * molecules.of("gap"),
        "mu": lambda molecules: molecules.of("mu"),
        "U0": lambda molecules: energies_without_atoms(molecules, atoms),
    }
    return {
        part: torch.stack([columns[name](molecules) for name in names(config)], 1)
        for part, molecules in parts.items()
    }


class Graphs:
    """Molecules as graphs of all pairs; those of a batch lie one after another, without padding."""

    def __init__(self, molecules: Molecules, y: Tensor, device: torch.device):
        self.molecules, self.device = molecules, device
        self.h = atom_features(molecules.z).to(device)
        self.x = molecules.positions.to(device)
        self.y = y.float().to(device)  # normalised

    def batch(self, which: Tensor) -> tuple[dict, Tensor]:
        """The model's inputs and the answers for the molecules at the places `which`."""
        atoms = self.molecules.atoms_of(which).to(self.device)
        sizes = self.molecules.sizes[which]
        edges = complete_edges(sizes.tolist(), self.device)
        graph = torch.arange(len(which)).repeat_interleave(sizes).to(self.device)
        inputs = {"h": self.h[atoms], "x": self.x[atoms], "edges": edges}
        return inputs | {"graph": graph, "graphs": len(which)}, self.y[which]

    def batches(self, size: int) -> Iterator:
        return map(self.batch, torch.arange(len(self.molecules)).split(size))


def network(config: Config, targets: int) -> nn.Module:
    models = {"egnn": EGNNRegressor, "schnet": SchNet}
    if config.model not in models:
        known = ", ".join([*models, "ridge", "mean"])
        raise ValueError(f"wanted model to be one of {known}, given {config.model!r}")
    return models[config.model](FEATURES, config.hidden, config.layers, out_features=targets)


@torch.no_grad()
def errors(model: nn.Module, graphs: Graphs, size: int) -> Tensor:
    """Mean absolute error of each target, normalised."""
    parts = [(model(**inputs) - y).abs() for inputs, y in graphs.batches(size)]
    return torch.cat(parts).double().mean(0).cpu()


def fit_network(config: Config, run: Run, parts: dict[str, Molecules], *, y: dict[str, Tensor]):
    """(test errors, normalised; further metrics) of the epoch with the least validation error."""
    graphs = {part: Graphs(parts[part], y[part], run.device) for part in parts}
    model = network(config, y["train"].shape[1]).to(run.device)
    trained = run.data_parallel(model)
    chosen = copy.deepcopy(model)
    best = {"valid_error": errors(model, graphs["valid"], config.batch).mean().item(), "epoch": 0}
    curve = {"curve_epoch": [], "curve_valid_error": []}
    optimizer = torch.optim.Adam(
        model.parameters(), config.learning_rate, weight_decay=1e-16, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
    shuffle = torch.Generator().manual_seed(run.seed)
    state = dict(model=model, chosen=chosen, optimizer=optimizer, schedule=schedule)
    with value_checks(False):
        # Not `running.fit`: it counts epochs, of batches that share nothing but their size.
        for epoch in run.steps(config.epochs, best=best, curve=curve, shuffle=shuffle, **state):
            order = torch.randperm(len(graphs["train"].molecules), generator=shuffle)
            for batch in order.split(config.batch):
                inputs, answer = graphs["train"].batch(share(batch))
                loss = share_weight(batch) * (trained(**inputs) - answer).abs().mean(0).sum()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
            schedule.step()
            if (epoch + 1) % config.check_every == 0 or epoch + 1 == config.epochs:
                error = errors(model, graphs["valid"], config.batch).mean().item()
                curve["curve_epoch"].append(epoch + 1)
                curve["curve_valid_error"].append(error)
                if error < best["valid_error"]:
                    best.update(valid_error=error, epoch=epoch + 1)
                    chosen.load_state_dict(model.state_dict())
    weights = sum(p.numel() for p in model.parameters())
    test = errors(chosen, graphs["test"], config.batch)
    return test, best | {"weights": weights} | curve


def fingerprint(molecules: Molecules) -> Tensor:
    """What a sceptic would count: atoms by element, distances by pair of elements and length.

    The histograms' knots are even in 1 / distance; a pair counts for the two knots beside it, the
    nearer one more, so that the fingerprint is continuous in the positions. (molecules, columns).
    """
    known = torch.tensor(list(ELEMENTS.values()))
    counts = torch.zeros(len(molecules) * len(known) ** 2 * KNOTS, dtype=torch.float64)
    for which in torch.arange(len(molecules)).split(2000):
        part = molecules.take(which)
        send, receive = complete_edges(part.sizes.tolist())
        send, receive = send[send < receive], receive[send < receive]  # each pair once
        distance = (part.positions[receive] - part.positions[send]).double().norm(dim=1)
        place = (1 / distance - 1 / FAR) / (1 / NEAR - 1 / FAR) * (KNOTS - 1)
        place = place.clamp(0, KNOTS - 1 - 1e-9)
        element = torch.searchsorted(known, part.z)
        pair = torch.stack([element[send], element[receive]]).sort(0).values
        molecule = which[part.molecule_of_atom()[receive]]
        first = ((molecule * len(known) + pair[0]) * len(known) + pair[1]) * KNOTS + place.long()
        counts.index_add_(0, first, 1 - place.frac())
        counts.index_add_(0, first + 1, place.frac())
    return torch.cat([element_counts(molecules), counts.view(len(molecules), -1)], 1)


def fit_ridge(parts: dict[str, Molecules], y: dict[str, Tensor]):
    """(test errors, normalised; further metrics) of kernel ridge regression on fingerprints.

    f(p) = sum_k a_k exp(-|p - p_k|^2 / (2 width^2)) over landmarks p_k, the first molecules to
    train on; a minimises the squared error on all of them plus penalty * a' K a. In columns
    whitened by K that is a plain ridge, solved for all penalties by one eigendecomposition.
    Width and penalty are chosen for each target.
    """
    p = {part: fingerprint(molecules) for part, molecules in parts.items()}
    landmarks = p["train"][:LANDMARKS]
    valid, test, settings = [], [], []
    for width in WIDTHS:

        def kernel(rows: Tensor, width: float = width) -> Tensor:
            return torch.exp(-torch.cdist(rows, landmarks).square() / (2 * width**2))

        jitter = 1e-10 * torch.eye(len(landmarks), dtype=torch.float64)
        L = torch.linalg.cholesky(kernel(landmarks) + jitter)
        white = {
            part: torch.linalg.solve_triangular(L, kernel(rows).T, upper=False).T
            for part, rows in p.items()
        }
        values, vectors = torch.linalg.eigh(white["train"].T @ white["train"])
        right = vectors.T @ (white["train"].T @ y["train"])
        for penalty in PENALTIES:
            a = vectors @ (right / (values.clamp(min=0)[:, None] + penalty))
            valid.append((white["valid"] @ a - y["valid"]).abs().mean(0))
            test.append((white["test"] @ a - y["test"]).abs().mean(0))
            settings.append([width, penalty])
    valid, test, settings = (
        torch.stack(valid),
        torch.stack(test),
        torch.tensor(settings, dtype=torch.float64),
    )
    choice = valid.argmin(0)
    return test.gather(0, choice[None])[0], {
        "valid_error": valid.amin(0).mean().item(),
        "weights": len(landmarks) * len(choice),
        "width": settings[choice, 0].tolist(),
        "penalty": settings[choice, 1].tolist(),
    }


def train(config: Config, run: Run) -> dict:
    parts = load(config)
    y = answers(config, parts)
    centre = y["train"].mean(0)
    scale = (y["train"] - centre).abs().mean(0)
    normalised = {part: (values - centre) / scale for part, values in y.items()}
    if config.model == "mean":
        valid, test = (normalised[part].abs().mean(0) for part in ("valid", "test"))
        more = {"valid_error": valid.mean().item(), "weights": len(centre)}
    elif config.model == "ridge":
        test, more = fit_ridge(parts, normalised)
    else:
        test, more = fit_network(config, run, parts, y=normalised)
    mae = {
        f"test_mae_{name}_{UNITS[name]}": error
        for name, error in zip(names(config), (test * scale).tolist(), strict=True)
    }
    return mae | more


if __name__ == "__main__":
    main(__file__, SIZES, train, seeds=SEEDS)
