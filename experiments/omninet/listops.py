"""ListOps: does attending over the layers help to evaluate nested expressions?

Short expressions from the exact grammar of the Long Range Arena (`--size paper`: the Arena's own
lengths of 500 to 2,000). Beside every accuracy stands the floor of knowing the outermost operator
alone. Steps draw expressions of about one length, so that little of a batch is padding; Linformer,
which knows one length, pads all to the longest.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from archbook.checks import value_checks
from archbook.data.listops import VOCABULARY, ListOpsDesign, ListOpsSet, listops, root_floor
from archbook.omninet import Classifier, Design, TokenEmbedding, grid
from archbook.running import Run, fit, main, share, warmed_adamw


@dataclass(frozen=True)
class Config(Design):
    max_depth: int = 4  # levels of an expression
    max_args: int = 5  # children of an operator
    shortest: int = 16  # tokens, not included
    longest: int = 64  # tokens, not included
    expressions: int = 20_000  # to train on
    held_out: int = 2_000  # to validate, and as many to test
    batch: int = 48  # expressions a step
    steps: int = 1_500  # of training
    learning_rate: float = 1e-3  # of AdamW at its peak; warmed up, then down a cosine

    @property
    def positions(self) -> int:
        """Tokens of the longest expression, and the one that is read."""
        return self.longest


TYPICAL = 27  # tokens of a batch, for equal operations: the mean length, and the padding beside it
FULL = Config()
TINY = Config(
    layers=2,
    hidden=16,
    heads=2,
    ffn=32,
    features=8,
    rank=4,
    expressions=100,
    held_out=40,
    batch=8,
    steps=4,
)
LONG = replace(
    FULL,
    max_depth=10,
    max_args=10,
    shortest=500,
    longest=2000,
    expressions=96_000,
    batch=32,
    steps=5_000,
    layers=4,
    hidden=512,
    heads=8,
    ffn=1024,
    features=256,
    block=32,
    rank=128,
    learning_rate=3e-4,
)
SIZES = {
    "tiny": grid(TINY, TYPICAL, causal=False),
    "full": grid(FULL, TYPICAL, causal=False),
    "paper": {
        "base": LONG,
        "full_2": replace(LONG, partition=2),
        "performer_2": replace(LONG, partition=2, meta="performer"),
    },
}


def load(config: Config) -> tuple[ListOpsSet, ListOpsSet, ListOpsSet]:
    """The same expressions for every variant and seed."""
    design = ListOpsDesign(config.max_depth, config.max_args, config.shortest, config.longest)
    total = config.expressions + 2 * config.held_out
    drawn = listops(total, design, seed=46)
    first, second = config.expressions, config.expressions + config.held_out
    return drawn.part(0, first), drawn.part(first, second), drawn.part(second, total)


def trimmed(tokens: Tensor, meta: str) -> tuple[Tensor, Tensor]:
    """Tokens up to the longest of these, and which are real."""
    mask = tokens > 0
    last = tokens.shape[1] if meta == "linformer" else int(mask.sum(1).max())
    return tokens[:, :last], mask[:, :last]


@torch.no_grad()
def accuracy(model: Classifier, part: ListOpsSet, config: Config, *, device: torch.device) -> float:
    """Percent right."""
    model.eval()
    order = part.mask.sum(1).argsort()
    right = 0
    for chosen in order.split(100):
        tokens, mask = trimmed(part.tokens[chosen], config.meta if config.partition else "full")
        found = model(tokens.to(device), mask.to(device)).argmax(-1).cpu()
        right += int((found == part.labels[chosen]).sum())
    model.train()
    return 100 * right / len(part.labels)


def train(config: Config, run: Run) -> dict:
    train_part, valid, test = load(config)
    embed = TokenEmbedding(VOCABULARY, config.longest - 1, config.hidden)
    body = config.stack(config.positions)
    model = Classifier(embed, body, 10, readout="token", dropout=config.dropout).to(run.device)
    run.shard(model, body.blocks)
    draw = torch.Generator().manual_seed(run.seed)
    by_length = train_part.mask.sum(1).argsort(stable=True)
    kind = config.meta if config.partition else "full"

    def loss() -> Tensor:
        first = torch.randint(len(by_length) - config.batch + 1, (), generator=draw)
        chosen = share(by_length[first : first + config.batch])
        tokens, mask = trimmed(train_part.tokens[chosen], kind)
        found = model(tokens.to(run.device), mask.to(run.device))
        return cross_entropy(found, train_part.labels[chosen].to(run.device))

    with value_checks(False):
        rule = warmed_adamw(model, config.learning_rate, config.steps)
        curve = fit(run, model, loss, steps=config.steps, rule=rule, clip=1.0, draw=draw)
        found = {
            f"{name}_accuracy": accuracy(model, part, config, device=run.device)
            for name, part in (("valid", valid), ("test", test))
        }
    floors = {
        "root_floor": root_floor(train_part, test),
        "majority": 100 * test.labels.bincount().max().item() / len(test.labels),
    }
    weights = sum(p.numel() for p in model.parameters())
    return found | floors | {"weights": weights, "flops": config.flops(TYPICAL)} | curve


if __name__ == "__main__":
    main(__file__, SIZES, train)
