"""Translation in miniature: numbers in English words to the parts of the German word.

German turns tens and ones round, in the thousands too. Trained on numbers below a million, tested
on others; a translation counts when all of it is right. A thousand numbers are enough for every
network; of 150 the plain one learns to translate about three in four (chosen on validation numbers,
after the thousand had left nothing to tell apart). Of WMT, C4 and LM1B, which the paper uses, none
is here: they take days of a card each.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from archbook.checks import value_checks
from archbook.data.numbers import LARGEST, english, german, vocabulary
from archbook.omninet import Decoder, Design, EncoderDecoder, TokenEmbedding, controls
from archbook.running import Run, fit, main, processes, share, warmed_adamw

PADDING, START, STOP = 0, 1, 2
LENGTH = 14  # parts of the longest number, start and stop


@dataclass(frozen=True)
class Config(Design):
    numbers: int = 1_000  # to train on
    held_out: int = 1_000  # to validate, and as many to test
    batch: int = 64  # numbers a step
    steps: int = 1_000  # of training
    learning_rate: float = 1e-3  # of AdamW at its peak; warmed up, then down a cosine


def variants(base: Config) -> dict[str, Config]:
    omni = {
        f"full_{partition}": replace(base, partition=partition) for partition in (2, base.layers)
    }
    omni["performer_2"] = replace(base, partition=2, meta="performer")
    return controls(base, LENGTH) | omni


TASKS = {"many": Config(features=32), "few": Config(features=32, numbers=150)}
TINY = Config(layers=2, hidden=16, heads=2, ffn=32, numbers=50, held_out=20, batch=8, steps=4)
SIZES = {
    "tiny": variants(replace(TINY, features=8)),
    "full": {
        f"{task}.{name}": config
        for task, base in TASKS.items()
        for name, config in variants(base).items()
    },
}


def encode(words: list[list[str]], language: str, start: bool) -> Tensor:
    """(numbers, LENGTH) token numbers, padding behind."""
    index = {word: i for i, word in enumerate(vocabulary(language))}
    rows = torch.full((len(words), LENGTH), PADDING)
    for row, parts in zip(rows, words, strict=True):
        ids = [START] * start + [index[part] for part in parts] + [STOP] * start
        row[: len(ids)] = torch.tensor(ids)
    return rows


def load(config: Config) -> list[tuple[Tensor, Tensor]]:
    """English and German of the numbers to train on, to validate, to test; none is in two parts."""
    total = config.numbers + 2 * config.held_out
    chosen = np.random.default_rng(46).choice(LARGEST + 1, total, replace=False).tolist()
    source = encode([english(n) for n in chosen], "english", start=False)
    target = encode([german(n) for n in chosen], "german", start=True)
    sizes = [config.numbers, config.held_out, config.held_out]
    return list(zip(source.split(sizes), target.split(sizes), strict=True))


def exact(model: EncoderDecoder, source: Tensor, target: Tensor) -> float:
    """Percent of numbers translated without any mistake."""
    model.eval()
    right = 0
    for given, wanted in zip(source.split(250), target.split(250), strict=True):
        found = model.translate(given, START, STOP, length=LENGTH - 1, mask=given != PADDING)
        wanted = wanted[:, 1:].masked_fill(wanted[:, 1:] == PADDING, STOP)
        right += int((found == wanted).all(1).sum())
    model.train()
    return 100 * right / len(source)


def train(config: Config, run: Run) -> dict:
    parts = [(s.to(run.device), t.to(run.device)) for s, t in load(config)]
    source, target = parts[0]
    words = {language: len(vocabulary(language)) for language in ("english", "german")}
    embed = TokenEmbedding(words["english"], LENGTH, config.hidden)
    sizes = {"hidden": config.hidden, "heads": config.heads, "dropout": config.dropout}
    decoder, body = Decoder(words["german"], LENGTH, config.layers, **sizes), config.stack(LENGTH)
    model = EncoderDecoder(embed, body, decoder).to(run.device)
    run.shard(model, body.blocks)
    draw = torch.Generator().manual_seed(run.seed)

    def loss() -> Tensor:
        chosen = torch.randint(len(source), (config.batch,), generator=draw).to(run.device)
        given, wanted = source[chosen], target[chosen]
        parts = (wanted[:, 1:] != PADDING).sum() / processes()  # of the whole batch, an even part
        given, wanted = share(given), share(wanted)
        logits = model(given, wanted[:, :-1], given != PADDING).flatten(0, 1)
        loss = cross_entropy(logits, wanted[:, 1:].flatten(), ignore_index=PADDING, reduction="sum")
        return loss / parts

    with value_checks(False):
        rule = warmed_adamw(model, config.learning_rate, config.steps)
        curve = fit(run, model, loss, steps=config.steps, rule=rule, clip=1.0, draw=draw)
        found = {
            f"{name}_exact": exact(model, *part)
            for name, part in zip(("valid", "test"), parts[1:], strict=True)
        }
    weights = sum(p.numel() for p in model.parameters())
    return found | {"weights": weights, "flops": config.flops(LENGTH)} | curve


if __name__ == "__main__":
    main(__file__, SIZES, train)
