"""The published weights on the three alignments of the authors' contact notebook.

`--size paper` fetches the weights (0.5 GB) and three structures where the network allows, loads
them with our own loader, and measures the precision of the contacts as the authors' notebook does:
128 diverse rows, pairs at least 24 apart. Beside each stands what that notebook prints. It places
every C-beta by the backbone, that of glycine, too; ours is the file's, and glycine's C-alpha, so a
few contacts near 8 angstroms differ. `--size tiny` walks the same way with small random weights and
points on a line for structures.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from archbook.data.alignments import esm_example
from archbook.data.alphabet import with_start
from archbook.data.fetching import cache_dir
from archbook.data.structures import Chain, read_pdb
from archbook.dca import precision_at
from archbook.msa_transformer import MSATransformer, diversity_subsample, load_esm_msa1b
from archbook.running import Run, main

NAME = "esm_msa1b_t12_100M_UR50S"
FILES = {
    f"{NAME}.pt": f"https://dl.fbaipublicfiles.com/fair-esm/models/{NAME}.pt",
    f"{NAME}-contact-regression.pt": (
        f"https://dl.fbaipublicfiles.com/fair-esm/regression/{NAME}-contact-regression.pt"
    ),
    "1a3a.pdb": "https://files.rcsb.org/download/1A3A.pdb",
    "5ahw.pdb": "https://files.rcsb.org/download/5AHW.pdb",
    "1xcr.pdb": "https://files.rcsb.org/download/1XCR.pdb",
}
SEPARATION = 24  # of long-range pairs
PARTS = {"L": 1, "L2": 2, "L5": 5}  # the best L, L / 2 and L / 5 pairs
AUTHORS = {  # precisions of these three, from esm/examples/contact_prediction.ipynb
    "1a3a": (0.724, 0.861, 0.897),
    "5ahw": (0.896, 0.968, 1.000),
    "1xcr": (0.770, 0.891, 0.968),
}


@dataclass(frozen=True)
class Config:
    rows: int = 128  # of each alignment, chosen to be diverse
    pretend: bool = False  # small random weights, points on a line for a structure


SIZES = {"tiny": {"published": Config(8, True)}, "paper": {"published": Config()}}


def fetched(name: str) -> Path:
    """A file of FILES in the data cache, downloaded where it is not there yet."""
    path = cache_dir() / "esm_msa1b" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(FILES[name], str(path))  # whole, or not at all
    return path


def network(pretend: bool) -> MSATransformer:
    if pretend:
        torch.manual_seed(0)
        model = MSATransformer(layers=1, hidden=8, heads=2, ffn=16).eval()
        nn.init.normal_(model.contact_head.regression.weight)  # as if it had been fitted
        return model
    return load_esm_msa1b(*(fetched(name) for name in list(FILES)[:2]))


def structure(code: str, query: str, pretend: bool) -> Chain:
    if pretend:
        steps = torch.arange(len(query), dtype=torch.float64)[:, None]
        return Chain(query, steps % 30 * torch.tensor([1.0, 0.0, 0.0]))
    return read_pdb(fetched(f"{code}.pdb"), "A").on_query(query)


def precisions_at_L(scores: Tensor, chain: Chain) -> dict[str, float]:
    """Among the best L, L / 2 and L / 5 long-range pairs."""
    length = len(chain.sequence)
    place = torch.arange(length)
    valid = (place - place[:, None]).abs() >= SEPARATION
    valid &= chain.valid() & chain.valid()[:, None]
    return {
        name: precision_at(scores, chain.contacts(), length // part, valid=valid).item()
        for name, part in PARTS.items()
    }


@torch.no_grad()
def measure(config: Config, run: Run) -> dict:
    model = network(config.pretend).to(run.device)
    metrics = {}
    for code, printed in AUTHORS.items():
        alignment = esm_example(code)
        tokens = with_start(diversity_subsample(alignment.tokens(), config.rows))
        contacts = model(tokens[None].to(run.device), return_contacts=True).contacts[0].cpu()
        chain = structure(code, alignment.rows[0], config.pretend)
        found = precisions_at_L(contacts, chain)
        metrics |= {f"precision_{code}_{name}": value for name, value in found.items()}
        metrics |= {f"authors_{code}_{n}": value for n, value in zip(PARTS, printed, strict=True)}
    return metrics


if __name__ == "__main__":
    main(__file__, SIZES, measure, alone="published weights, with nothing to train")
