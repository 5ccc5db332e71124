"""A language model of characters: does attending over the layers lower the bits per character?

Tiny Shakespeare; the last twentieth is the test, the twentieth before it validation. Every variant
sees the same windows in the same order. Beside each OmniNet stand a plain Transformer, one with as
many weights and one with as many operations (its feed-forward is wider). A character is scored with
at least half a window of text before it.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from archbook.checks import value_checks
from archbook.data import shakespeare
from archbook.omninet import Design, LanguageModel, grid
from archbook.running import Run, fit, main, share, warmed_adamw

NATS = 0.6931471805599453  # in a bit


@dataclass(frozen=True)
class Config(Design):
    context: int = 128  # characters of a window
    batch: int = 16  # windows a step
    steps: int = 1_600  # of training
    learning_rate: float = 4e-3  # of AdamW at its peak; warmed up, then down a cosine
    held_out: int | None = None  # score only so many characters


FULL = Config(dropout=0.0)  # no character is read more than a few times
TINY = Config(layers=2, hidden=16, heads=2, ffn=32, features=8, context=32, batch=4, steps=4)
SIZES = {
    "tiny": grid(replace(TINY, held_out=200), TINY.context, causal=True),
    "full": grid(FULL, FULL.context, causal=True),
    "paper": {  # the corpora of the paper are not here: its model's size on this text, for a GPU
        name: replace(
            design,
            hidden=512,
            heads=8,
            ffn=2048,
            layers=6,
            features=256,
            context=512,
            batch=64,
            steps=5_000,
            learning_rate=5e-4,
            dropout=0.1,
        )
        for name, design in (
            ("base", FULL),
            ("full_2", replace(FULL, partition=2)),
            ("performer_2", replace(FULL, partition=2, meta="performer")),
        )
    },
}


@torch.no_grad()
def bits(model: LanguageModel, tokens: Tensor, context: int) -> float:
    """Bits per character, windows half over half, the later half of each scored."""
    model.eval()
    half, total, count = context // 2, 0.0, 0
    windows = tokens.unfold(0, context + 1, half)
    for part in windows.split(64):
        logits = model(part[:, :-1])[:, half:]
        wanted = part[:, 1 + half :]
        total += cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="sum").item()
        count += wanted.numel()
    model.train()
    return total / count / NATS


def train(config: Config, run: Run) -> dict:
    text = shakespeare()
    train_text, valid, test = (
        x[: config.held_out].to(run.device) if x is not text.train else x.to(run.device)
        for x in (text.train, text.valid, text.test)
    )
    body = config.stack(config.context, causal=True)
    vocabulary = len(text.characters)
    model = LanguageModel(body, vocabulary, config.context, dropout=config.dropout)
    model = model.to(run.device)
    run.shard(model, body.blocks)
    draw = torch.Generator().manual_seed(run.seed)
    inside = torch.arange(config.context + 1)

    def loss() -> Tensor:
        last = len(train_text) - config.context
        starts = share(torch.randint(last, (config.batch, 1), generator=draw))
        windows = train_text[(starts + inside).to(run.device)]
        return cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())

    with value_checks(False):
        rule = warmed_adamw(model, config.learning_rate, config.steps)
        curve = fit(run, model, loss, steps=config.steps, rule=rule, clip=1.0, draw=draw)
        found = {
            f"{name}_bits": bits(model, part, config.context)
            for name, part in (("valid", valid), ("test", test))
        }
    weights = sum(p.numel() for p in model.parameters())
    return found | {"weights": weights, "flops": config.flops(config.context)} | curve


if __name__ == "__main__":
    main(__file__, SIZES, train)
