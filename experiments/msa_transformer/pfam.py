"""Forty real families with known structures: contacts learned from alignments alone.

Networks are trained on masked letters of 24 families; no structure is shown. Their row maps are
read by a logistic regression, fitted on the structures of eight of these families, for the other
sixteen ("seen") and for ten families of other folds, whose alignments nobody has seen ("unseen").
Beside them: the same network with untrained weights, networks trained on single rows, and
methods that fit each family alone. Choices were made on six more families ("valid").

A regression alone can learn which *kinds* of columns touch: the core of a fold is greasy. So the
simplest rivals see nothing but columns one by one: the product of two columns' greasy shares, which
has no parameter, and the same regression on five numbers of a pair's profiles. And every precision,
of every method, is also measured with the letters of each column shuffled over the rows, which
leaves the kinds and removes all covariation.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot, pad

from archbook.checks import value_checks
from archbook.data.alphabet import GAP, LETTERS
from archbook.data.families import Family, family, split_families
from archbook.data.potts import shuffle_within_columns
from archbook.dca import (
    mean_field,
    precision_at,
    precision_ceiling,
    pseudo_likelihood,
)
from archbook.msa_transformer import (
    ContactHead,
    MSATransformer,
    contact_features,
    diversity_subsample,
    mask_tokens,
)
from archbook.running import (
    Run,
    fit,
    main,
    mean_over_processes,
    processes,
    share,
    warmed_adamw,
    whole_weights,
)
from archbook.vocabulary import AMINO_ACIDS, FIRST_LETTER, PADDING

DEPTHS = (16, 32, 64, 128, 256)  # rows shown at test time
READ_AT = (16, 64)  # rows shown when the regression is fitted
CHOICES_AT = 64  # rows of the comparison between diverse, random and nearest ones
SEPARATION = 6  # |i - j| of a pair that counts, at least; 24 for long range
MOST_COLUMNS = 138  # of a family
GREASY = [LETTERS.index(letter) for letter in "AVILMFWYC"]  # chosen once, from textbooks
PICTURE = "PF00013"  # an unseen family of 63 columns: its map is kept


@dataclass(frozen=True)
class Config:
    model: str = "msa"  # msa, single (one row at a time), untrained; profile; a per-family method
    steps: int = 12_000  # of training
    batch: int = 2  # alignments a step
    least_rows: int = 8  # a step shows between so many rows and most_rows, evenly in the logarithm
    most_rows: int = 32
    columns: int = 64  # of a stretch shown in training
    learning_rate: float = 2e-3  # of AdamW at its peak; warmed up, then down a cosine
    layers: int = 4  # blocks
    hidden: int = 64  # width
    heads: int = 16  # a block
    mask_rate: float = 0.15  # share of letters to predict
    dropout: float = 0.1  # everywhere but on the maps
    looks: int = 24  # batches of a look at the validation loss
    families: int = 24  # to train on, at most
    tested: int = 16  # of each kind, at most
    deepest: int = 256  # rows shown at test time, at most


def greasy_product(rows: Tensor, *, states: int, gap: int) -> Tensor:
    """h_i h_j, h_i being the share of greasy letters in column i: no pair of letters is looked at.

    Gaps are letters that are not greasy.
    """
    share = frequencies(rows, states)[:, GREASY].sum(1)
    return share[:, None] * share


def frequencies(rows: Tensor, states: int) -> Tensor:
    """Of the letters in each column, (columns, states)."""
    return one_hot(rows, states).double().mean(0)


PER_FAMILY = {
    "mean_field": mean_field,
    "pseudo_likelihood": pseudo_likelihood,
    "greasy": greasy_product,
}
GRID = {
    "msa": Config(),
    "untrained": Config("untrained"),
    "single": Config("single", steps=600),
    "single_wide": Config("single", steps=600, hidden=128),
    "profile": Config("profile"),
    **{name: Config(name) for name in PER_FAMILY},
}
TINY = dict(steps=4, batch=2, least_rows=2, most_rows=6, columns=16, layers=1, hidden=8, heads=2)
TINY |= dict(families=3, tested=1, deepest=16, looks=1)
SIZES = {
    "tiny": {name: replace(config, **TINY) for name, config in GRID.items()},
    "full": GRID,
}
SEEDS = dict.fromkeys(["profile", *PER_FAMILY], (0,))


@cache
def kinds(config: Config) -> dict[str, tuple[str, ...]]:
    """Names of families: to train on, to read from (some of those), seen, valid, unseen."""
    split = split_families()
    train = split["train"][: config.families]
    read = train[::3]
    parts = {"seen": [name for name in train if name not in read]}
    parts |= {"valid": split["valid"], "unseen": split["test"]}
    tested = {kind: tuple(names[: config.tested]) for kind, names in parts.items()}
    return {"train": train, "read": read} | tested


def states(tokens: Tensor) -> Tensor:
    """Twenty residues, and a state for gaps and all other letters."""
    letters = tokens - FIRST_LETTER
    return torch.where(letters < AMINO_ACIDS, letters, AMINO_ACIDS)


def per_family(method, tokens: Tensor) -> Tensor:
    """Scores of DCA; gaps are a state of their own, and left out of a pair's score."""
    return method(states(tokens), states=AMINO_ACIDS + 1, gap=AMINO_ACIDS)


def stretch(tokens: Tensor, rows: int, columns: int, *, draw: torch.Generator) -> Tensor:
    """Random rows of a family, in a random stretch of so many columns, padded to the right."""
    chosen = torch.randperm(len(tokens), generator=draw)[:rows]
    first = int(torch.randint(max(1, tokens.shape[1] - columns + 1), (), generator=draw))
    part = tokens[chosen, first : first + columns]
    return pad(part, (0, columns - part.shape[1]), value=PADDING)


def batches(config: Config, names: tuple[str, ...], draw: torch.Generator):
    """Endless batches (batch, rows, columns) of alignments, or (many, 1, columns) of rows."""
    data = [family(name).tokens for name in names]
    while True:
        spread = torch.rand((), generator=draw).item()
        rows = round(config.least_rows * (config.most_rows / config.least_rows) ** spread)
        size = (config.batch, rows, config.columns)
        if config.model == "single":  # as many places, each row by itself, all its columns
            singles = math.ceil(config.batch * rows * config.columns / MOST_COLUMNS)
            size = (singles, 1, MOST_COLUMNS)
        chosen = torch.randint(len(data), size[:1], generator=draw).tolist()
        yield torch.stack([stretch(data[i], *size[1:], draw=draw) for i in chosen])


def network(config: Config) -> MSATransformer:
    """No positions, so that nothing but the letters tells columns apart; a single row needs them,
    or it would be a bag of letters."""
    return MSATransformer(
        layers=config.layers,
        hidden=config.hidden,
        heads=config.heads,
        ffn=4 * config.hidden,
        max_columns=MOST_COLUMNS,
        row_positions="none",
        column_positions=config.model == "single",
        start_token=False,
        dropout=config.dropout,
        attention_dropout=0.0,
        activation_dropout=config.dropout,
    )


def loss_of(
    model: MSATransformer, tokens: Tensor, config: Config, *, draw: torch.Generator, device
) -> Tensor:
    """Mean surprise at hidden letters, in nats; where a sequence has a gap is not asked."""
    given, hidden = mask_tokens(tokens, draw, config.mask_rate)
    hidden &= tokens != GAP
    asked = hidden.sum().item() / processes()  # letters of the whole batch, an even part
    tokens, given, hidden = (share(x.to(device)) for x in (tokens, given, hidden))
    with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
        logits = model.letter_logits(model.encode(given)[hidden])
    return cross_entropy(logits.float(), tokens[hidden], reduction="sum") / asked


def fit_network(config: Config, run: Run) -> tuple[MSATransformer, dict]:
    """The weights of the lowest loss on the alignments of the families kept for choices."""
    torch.manual_seed(run.seed)
    model = network(config).to(run.device)
    metrics: dict = {"weights": sum(p.numel() for p in model.parameters())}
    if config.model == "untrained":
        return model.eval(), metrics
    draw = torch.Generator().manual_seed(run.seed)
    shown = batches(config, kinds(config)["train"], draw)
    chosen = copy.deepcopy(model)
    run.shard(model, model.blocks, "encode")
    best = {"valid_loss": float("inf"), "step": 0}
    curve = {"curve_step": [], "curve_loss": [], "curve_valid": []}

    def loss() -> Tensor:
        return loss_of(model, next(shown), config, draw=draw, device=run.device)

    def look(step: int, losses: list[float]) -> None:
        valid = valid_loss(model, config, run.device)
        curve["curve_step"].append(step)
        curve["curve_loss"].append(losses[-1])
        curve["curve_valid"].append(valid)
        if valid < best["valid_loss"]:
            best.update(valid_loss=valid, step=step)
            chosen.load_state_dict(whole_weights(model))

    rule = warmed_adamw(model, config.learning_rate, config.steps, betas=(0.9, 0.98))
    with value_checks(False):
        fit(
            run,
            model,
            loss,
            steps=config.steps,
            rule=rule,
            clip=1.0,
            look=look,
            every=max(1, config.steps // 25),
            draw=draw,
            best=best,
            curve=curve,
            chosen=chosen,
        )
    return chosen.eval(), metrics | best | curve


@torch.no_grad()
def valid_loss(model: MSATransformer, config: Config, device: torch.device) -> float:
    """Over the same alignments, rows and hidden letters each time."""
    draw = torch.Generator().manual_seed(0)
    shown = batches(config, kinds(config)["valid"], draw)
    model.eval()
    losses = [
        mean_over_processes(loss_of(model, next(shown), config, draw=draw, device=device))
        for _ in range(config.looks)
    ]
    model.train()
    return sum(losses) / len(losses)


def shown_at(one: Family, depth: int, choice: str = "") -> Tensor:
    """The rows of a family that every method is given, the query first: diverse ones.

    choice: "shuffled" shuffles the letters of each column over these rows; "random" and "nearest"
    take other rows.
    """
    draw = torch.Generator().manual_seed(0)
    if choice == "random":
        others = 1 + torch.randperm(one.depth - 1, generator=draw)[: depth - 1]
        return torch.cat([one.tokens[:1], one.tokens[others]])
    tokens = diversity_subsample(one.tokens, depth, farthest=choice != "nearest")
    return shuffle_within_columns(tokens, draw) if choice == "shuffled" else tokens


def counted(one: Family, separation: int) -> Tensor:
    """Pairs (columns, columns) whose distance is known, so far apart in the chain."""
    place = torch.arange(one.columns)
    far = (place - place[:, None]).abs() >= separation
    return far & one.valid & one.valid[:, None]


Features = Callable[[Tensor], Tensor]  # rows as tokens -> (columns, columns, features)


class Reader:
    """Scores of pairs: the paper's regression on their features, fitted on a few structures."""

    def __init__(self, features: Features, config: Config, depths: tuple[int, ...] = READ_AT):
        self.features = features
        seen, contacts = [], []
        for name in kinds(config)["read"]:
            one = family(name)
            pairs = counted(one, SEPARATION).triu()
            for depth in depths:
                seen.append(features(shown_at(one, min(depth, config.deepest)))[pairs])
                contacts.append(one.contacts[pairs])
        self.head = ContactHead(seen[0].shape[1])
        self.head.fit(torch.cat(seen), torch.cat(contacts))

    @torch.no_grad()
    def __call__(self, tokens: Tensor) -> Tensor:
        return self.head.regression(self.features(tokens))[..., 0]


def map_features(model: MSATransformer, *, single: bool, device: torch.device) -> Features:
    """A network's row maps, symmetrised and corrected."""

    @torch.no_grad()
    def features(tokens: Tensor) -> Tensor:
        tokens = tokens[:1] if single else tokens
        return contact_features(model.row_attentions(tokens[None].to(device)))[0].cpu()

    return features


def profile_features(tokens: Tensor) -> Tensor:
    """Five numbers of two columns, none of which looks at a pair of letters: sums and products of
    their greasy shares and entropies, and the sum of their shares of gaps."""
    found = frequencies(states(tokens), AMINO_ACIDS + 1)
    greasy, gaps = found[:, GREASY].sum(1), found[:, AMINO_ACIDS]
    entropy = -torch.special.xlogy(found, found).sum(1)
    both = [one[:, None] + one for one in (greasy, entropy, gaps)]
    return torch.stack([*both, *(one[:, None] * one for one in (greasy, entropy))], -1).float()


def precisions_at_L(
    score, config: Config, depth: int, *, choice: str = ""
) -> dict[str, list[float]]:
    """By kind and measure, the precision of each of its families."""
    found: dict[str, list[float]] = {}
    for kind in ("seen", "valid", "unseen"):
        for name in kinds(config)[kind]:
            one = family(name)
            scores = score(shown_at(one, depth, choice))
            for separation in (SEPARATION, 24):
                valid = counted(one, separation)
                for label, part in (("L", 1), ("L2", 2), ("L5", 5)):
                    value = precision_at(scores, one.contacts, one.columns // part, valid=valid)
                    found.setdefault(f"{kind}_{label}_{separation}", []).append(value.item())
    return found


def measure(score, config: Config, depths: tuple[int, ...]) -> dict:
    """Means of `precisions_at_L` at every depth, and each family's for the top L at SEPARATION."""
    metrics: dict = {}
    for depth in sorted({min(depth, config.deepest) for depth in depths}):
        other_rows = ("random", "nearest") if depth == CHOICES_AT else ()
        for choice in ("", "shuffled", *other_rows):
            for measured, values in precisions_at_L(score, config, depth, choice=choice).items():
                name = f"{choice}_{measured}_{depth}".lstrip("_")
                metrics[name] = sum(values) / len(values)
                if measured.endswith(f"_L_{SEPARATION}"):
                    metrics[f"each_{name}"] = values
    return metrics


def ceilings(config: Config) -> dict:
    """The mean over families of min(1, contacts / L), and of the share of pairs in contact."""
    metrics = {}
    for kind in ("seen", "valid", "unseen"):
        for separation in (SEPARATION, 24):
            best, chance = [], []
            for name in kinds(config)[kind]:
                one = family(name)
                valid = counted(one, separation)
                best.append(precision_ceiling(one.contacts, one.columns, valid=valid).item())
                chance.append(one.contacts[valid].double().mean().item())
            metrics[f"ceiling_{kind}_L_{separation}"] = sum(best) / len(best)
            metrics[f"chance_{kind}_L_{separation}"] = sum(chance) / len(chance)
    return metrics


def picture(reader: Reader, model: MSATransformer, config: Config) -> dict:
    """One unseen family: its scores, and the head of the largest weight before and after APC."""
    tokens = shown_at(family(PICTURE), min(64, config.deepest))
    weight = reader.head.regression.weight[0].detach()
    size = reader.features(tokens).flatten(0, 1).std(0)
    head = int((weight * size).argmax())
    device = next(model.parameters()).device
    with torch.no_grad():
        maps = model.row_attentions(tokens[None].to(device))[0].flatten(0, 1).cpu()
    kept = {
        "picture_score": reader(tokens),
        "picture_before": maps[head] + maps[head].T,
        "picture_after": reader.features(tokens)[..., head],
    }
    rounded = {
        name: [[round(value, 4) for value in row] for row in values.tolist()]
        for name, values in kept.items()
    }
    return rounded | {"picture_head": head}


def train(config: Config, run: Run) -> dict:
    if config.model in PER_FAMILY:
        score = partial(per_family, PER_FAMILY[config.model])
        return measure(score, config, DEPTHS) | ceilings(config)
    if config.model == "profile":
        return measure(Reader(profile_features, config), config, DEPTHS)
    model, metrics = fit_network(config, run)
    single = config.model == "single"
    features = map_features(model, single=single, device=run.device)
    reader = Reader(features, config, READ_AT[:1] if single else READ_AT)
    metrics["used_heads"] = int((reader.head.regression.weight != 0).sum())
    metrics |= measure(reader, config, (1,) if single else DEPTHS)
    if config.model == "msa" and run.seed == 0:
        metrics |= picture(reader, model, config)
    return metrics


if __name__ == "__main__":
    main(__file__, SIZES, train, seeds=SEEDS)
