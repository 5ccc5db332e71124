"""Graphs without features, encoded to points and rebuilt: who can tell equal nodes apart?

The paper's two families (communities, Erdos-Renyi), 5,000 / 500 / 500 graphs, and its four
encoders, 4 layers of 64, K = 8. The graphs are drawn without the fixed seeds of the authors' files,
which is harder. The full size takes batches of 4 graphs of about one size and a larger rate
instead of single graphs, and a tenth of the epochs. Gradients are cut to a fixed norm, for all
encoders alike: the coordinate updates of an EGNN blow up on random graphs now and then without it.
The epoch is chosen on the validation graphs.
"""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from archbook.checks import value_checks
from archbook.data.graphs import GraphSet, community_graphs, erdos_renyi_graphs
from archbook.egnn.autoencoder import (
    ENCODERS,
    GraphAutoencoder,
    reconstruction_loss,
    reconstruction_scores,
)
from archbook.running import Run, main, mean_over_processes, share, share_weight

FAMILIES = {"community": community_graphs, "erdos_renyi": erdos_renyi_graphs}
PARTS = ("train", "valid", "test")
POOL = 16  # batches that are sorted by size together


@dataclass(frozen=True)
class Config:
    encoder: str = "egnn"  # egnn, gnn, noise_gnn or radial_field
    family: str = "community"  # community or erdos_renyi
    graphs: int = 5000  # to train on
    held_out: int = 500  # to validate, and as many to test
    epochs: int = 10  # passes over the training graphs
    learning_rate: float = 1e-3  # of Adam, lowered to zero along a cosine
    clip: float = 300.0  # largest norm of a gradient
    batch: int = 4  # graphs a step
    hidden: int = 64  # width
    layers: int = 4  # depth
    embedding: int = 8  # K


GRID = {
    f"{encoder}_{family}": Config(encoder, family) for family in FAMILIES for encoder in ENCODERS
}
TINY = dict(graphs=40, held_out=20, epochs=3, hidden=8, layers=2, embedding=4)
PAPER = dict(epochs=100, learning_rate=1e-4, batch=1)
SIZES = {
    "tiny": {name: replace(config, **TINY) for name, config in GRID.items()},
    "full": GRID,
    "paper": {name: replace(config, **PAPER) for name, config in GRID.items()},
}


def graphs_of(config: Config, part: str, device: torch.device) -> GraphSet:
    if config.family not in FAMILIES:
        raise ValueError(
            f"wanted family to be one of {', '.join(FAMILIES)}, given {config.family!r}"
        )
    count = config.graphs if part == "train" else config.held_out
    drawn = FAMILIES[config.family](count, seed=[45, PARTS.index(part)])
    return GraphSet(drawn.adjacency.to(device), drawn.mask.to(device))


def batches_of(size: Tensor, batch: int, generator: torch.Generator) -> list[Tensor]:
    """All graphs in random batches of about one size, so that little of a batch is padding."""
    order = torch.randperm(len(size), generator=generator)
    pools = [pool[size[pool].argsort(stable=True)] for pool in order.split(POOL * batch)]
    batches = [chosen for pool in pools for chosen in pool.split(batch)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator)]


@torch.no_grad()
def scores_of(model: GraphAutoencoder, data: GraphSet, noise_seed: int) -> dict[str, float]:
    """The scores under one draw of noise, the same at every look."""
    generator = torch.Generator().manual_seed(noise_seed)
    parts = zip(data.adjacency.split(100), data.mask.split(100), strict=True)
    logits = torch.cat([model(a, mask, generator=generator) for a, mask in parts])
    return reconstruction_scores(logits, data.adjacency, data.mask)


def train(config: Config, run: Run) -> dict:
    fit, valid, test = (graphs_of(config, part, run.device) for part in PARTS)
    size = fit.mask.sum(1).cpu()
    model = GraphAutoencoder(
        config.encoder, config.hidden, config.layers, embedding=config.embedding
    )
    model = model.to(run.device)
    network = run.data_parallel(model)
    chosen = copy.deepcopy(model)  # the weights of the epoch with the lowest validation loss
    best = {"valid_bce": float("inf"), "epoch": 0}
    curve = {"curve_epoch": [], "curve_train_bce": [], "curve_valid_bce": []}
    optimizer = torch.optim.Adam(
        model.parameters(), config.learning_rate, weight_decay=1e-16, fused=True
    )
    steps = config.epochs * len(size.split(config.batch))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draw = torch.Generator().manual_seed(run.seed)  # of the batches and the noise
    state = dict(model=model, chosen=chosen, optimizer=optimizer, schedule=schedule, draw=draw)
    with value_checks(False):
        # Not `running.fit`: it counts epochs, of batches that are drawn anew for each.
        for epoch in run.steps(config.epochs, best=best, curve=curve, **state):
            total = torch.zeros((), device=run.device)
            for batch in batches_of(size, config.batch, draw):
                nodes, own = int(size[batch].max()), share(batch)
                adjacency, mask = fit.adjacency[own, :nodes, :nodes], fit.mask[own, :nodes]
                noise = None
                if model.noisy:  # of all graphs, so that each has its own in whatever process
                    shape = (len(batch), nodes, config.embedding)
                    noise = share(torch.randn(shape, generator=draw)).to(run.device)
                loss = reconstruction_loss(network(adjacency, mask, noise), adjacency, mask)
                loss = share_weight(batch) * loss
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), config.clip)
                optimizer.step()
                schedule.step()
                total += loss.detach() * len(batch)
            bce = scores_of(model, valid, noise_seed=0)["bce"]
            curve["curve_epoch"].append(epoch + 1)
            curve["curve_train_bce"].append(mean_over_processes(total) / config.graphs)
            curve["curve_valid_bce"].append(bce)
            if bce < best["valid_bce"]:
                best.update(valid_bce=bce, epoch=epoch + 1)
                chosen.load_state_dict(model.state_dict())
    no_edges = reconstruction_scores(
        torch.full(test.adjacency.shape, -1.0, device=run.device), test.adjacency, test.mask
    )
    weights = sum(p.numel() for p in model.parameters())
    found = {f"test_{name}": value for name, value in scores_of(chosen, test, 1).items()}
    more = {"weights": weights, "no_edges_wrong_percent": no_edges["wrong_percent"]}
    return found | best | more | curve


if __name__ == "__main__":
    main(__file__, SIZES, train)
