"""Film reviews byte by byte, the first 1,000 bytes of each, as the Long Range Arena reads them.

The split is our own (see `archbook.data.imdb`): no number here compares with a published one. Full
omnidirectional attention reads 2,000 tokens for each of 2,000, about three times the Performer's
time, so only the Performer is tried, beside a plain Transformer and one with as many weights.
`--size paper` has the Arena's model and number of steps.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from archbook.checks import value_checks
from archbook.data import imdb
from archbook.omninet import Classifier, Design, TokenEmbedding, equal_weights
from archbook.running import Run, fit, main, share, warmed_adamw

PADDING, VOCABULARY = 0, 257  # bytes are 1 to 256


@dataclass(frozen=True)
class Config(Design):
    length: int = 1000  # bytes read, the first of a review
    batch: int = 16  # reviews a step
    steps: int = 500  # of training
    learning_rate: float = 2e-3  # of AdamW at its peak; warmed up, then down a cosine
    reviews: int | None = None  # use only so many of each part
    held_out: int | None = None  # score only so many of each part


FULL = Config(layers=2, hidden=32, heads=2, ffn=128, features=32, held_out=1000)
TINY = replace(
    FULL, hidden=8, ffn=16, features=4, length=64, batch=4, steps=3, reviews=40, held_out=20
)
LRA = replace(
    FULL,
    layers=4,
    hidden=256,
    heads=4,
    ffn=1024,
    features=256,
    batch=32,
    steps=20_000,
    learning_rate=3e-4,
    held_out=None,
)


def variants(base: Config) -> dict[str, Config]:
    omni = replace(base, partition=2, meta="performer")
    return {"base": base, "equal_weights": equal_weights(base, 2), "performer_2": omni}


SIZES = {"tiny": variants(TINY), "full": variants(FULL), "paper": variants(LRA)}


def encode(texts: tuple[str, ...], length: int) -> Tensor:
    """(reviews, length) byte numbers from 1 on, padding behind."""
    rows = torch.full((len(texts), length), PADDING)
    for row, text in zip(rows, texts, strict=True):
        ids = torch.tensor(list(text.encode()[:length])) + 1
        row[: len(ids)] = ids
    return rows


@torch.no_grad()
def accuracy(model: Classifier, tokens: Tensor, labels: Tensor) -> float:
    """Percent right."""
    model.eval()
    found = torch.cat([model(part, part != PADDING).argmax(-1) for part in tokens.split(50)])
    model.train()
    return 100 * (found == labels).float().mean().item()


def train(config: Config, run: Run) -> dict:
    data = imdb()
    parts = {}
    for name, last in (
        ("train", config.reviews),
        ("valid", config.held_out),
        ("test", config.held_out),
    ):
        texts, labels = getattr(data, f"{name}_texts"), getattr(data, f"{name}_labels")
        tokens = encode(texts[:last], config.length)
        parts[name] = tokens.to(run.device), labels[:last].to(run.device)
    tokens, labels = parts["train"]
    embed = TokenEmbedding(VOCABULARY, config.length, config.hidden)
    body = config.stack(config.length)
    model = Classifier(embed, body, 2, dropout=config.dropout).to(run.device)
    run.shard(model, body.blocks)
    draw = torch.Generator().manual_seed(run.seed)

    def loss() -> Tensor:
        chosen = share(torch.randint(len(labels), (config.batch,), generator=draw))
        chosen = chosen.to(run.device)
        given = tokens[chosen]
        return cross_entropy(model(given, given != PADDING), labels[chosen])

    with value_checks(False):
        rule = warmed_adamw(model, config.learning_rate, config.steps)
        curve = fit(run, model, loss, steps=config.steps, rule=rule, clip=1.0, draw=draw)
        found = {f"{name}_accuracy": accuracy(model, *parts[name]) for name in ("valid", "test")}
    weights = sum(p.numel() for p in model.parameters())
    majority = 100 * parts["test"][1].bincount().max().item() / len(parts["test"][1])
    more = {"weights": weights, "flops": config.flops(config.length), "majority": majority}
    return found | more | curve


if __name__ == "__main__":
    main(__file__, SIZES, train)
