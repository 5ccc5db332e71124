"""Families whose contacts we know, because we drew them: does attention find them, and from how few
sequences?

Alignments sampled from Potts models. All families share one table of which letters like each
other; every family has contacts of its own. A network trained on masked letters of many families
is compared, on families it never saw, with methods that fit each family alone. Its maps are read by
the best single head, chosen on validation families, and by the paper's logistic regression, fitted
on twenty families. Training shows alignments of random depth, so that depths differ at test time.

The read-out has seen contacts, so its rivals get the same labels: the same regression on the maps
of an untrained network, and on the frequencies and covariances of a pair's letters (`pair_table`).
Two scores that nobody has to train say what can be known: `true_table` reads the pairs of letters
with the table that made the families, and `profiles` asks that table about two columns' profiles
alone, without a single pair.

Three questions beside: is what the first block's heads like the table that made the families; does
a network that was trained at few rows read many better with a scale that stops growing there; and
where contacts are so strong that partners of partners are correlated, too (INDIRECT), who takes
those for contacts? The last is asked with a table that tells them apart and with one that does not.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from archbook.checks import value_checks
from archbook.data.potts import (
    PottsDesign,
    PottsFamilies,
    coupling_table,
    potts_families,
    shuffle_within_columns,
)
from archbook.dca import (
    mean_field,
    mutual_information,
    precision_at,
    pseudo_likelihood,
)
from archbook.msa_transformer import (
    AxialBlock,
    ContactHead,
    MSATransformer,
    TiedRowAttention,
    contact_features,
    letter_likings,
    mask_tokens,
)
from archbook.running import Run, Ship, fit, main, processes, share, warmed_adamw
from archbook.vocabulary import FIRST_LETTER

DEPTHS = (8, 16, 32, 64, 128, 256)  # rows shown at test time
SEPARATION = 3  # |i - j| of a contact, at least
CONTROL_DEPTH = 64  # of the controls and of the choice of a head
PARTS = {"train": 0, "read": 1, "valid": 2, "test": 3}  # streams of families


@dataclass(frozen=True)
class Config:
    method: str = "sqrt"  # ties of a network; untrained; pair_table; or a per-family method
    families: int = 560  # to train on
    rows: int = 48  # of a family to train on
    least_rows: int = 4  # a step shows between so many and all, evenly in the logarithm
    held_out: int = 40  # families to test, and as many to choose the head
    read_from: int = 20  # families whose contacts the logistic regression sees
    columns: int = 24  # of a family
    letters: int = 6  # of the alphabet
    contacts: int = 18  # of a family
    beta: float = 2.0  # strength of a coupling
    likes: str = "opposite"  # which letters like each other, see `coupling_table`
    steps: int = 1000  # of training
    batch: int = 8  # families a step
    learning_rate: float = 1e-3  # of AdamW at its peak; warmed up, then down a cosine
    layers: int = 3  # blocks
    hidden: int = 64  # width
    heads: int = 4  # a block
    ffn: int = 128  # width of the feed-forward
    mask_rate: float = 0.15  # share of letters to predict


def true_table(rows: Tensor, *, states: int) -> Tensor:
    """The tied map of the first layer, had it the likings that made the families."""
    x = one_hot(rows, states).double()
    return torch.einsum("ria,ab,rjb->ij", x, coupling_table(states), x)


def profiles(rows: Tensor, *, states: int) -> Tensor:
    """The same, had every column's letters been drawn anew from its profile: no pair is seen."""
    p = one_hot(rows, states).double().mean(0)
    return p @ coupling_table(states) @ p.T


PER_FAMILY = {
    "mean_field": mean_field,
    "pseudo_likelihood": pseudo_likelihood,
    "mutual_information": mutual_information,
    "true_table": true_table,
    "profiles": profiles,
}
TIES = ("sqrt", "mean", "none")
GRID = {name: Config(name) for name in (*TIES, "untrained", "pair_table", *PER_FAMILY)}
INDIRECT = {"strong": dict(beta=4.0), "same": dict(beta=4.0, likes="same")}
ASKED = ("sqrt", "untrained", "pair_table", "mean_field", "pseudo_likelihood", "mutual_information")
GRID |= {
    f"{name}.{kind}": Config(name, **design) for kind, design in INDIRECT.items() for name in ASKED
}
TINY = dict(
    families=16,
    rows=8,
    held_out=4,
    read_from=4,
    columns=10,
    letters=4,
    contacts=5,
    steps=6,
    batch=4,
    layers=1,
    hidden=8,
    heads=2,
    ffn=16,
)
SIZES = {
    "tiny": {name: replace(config, **TINY) for name, config in GRID.items()},
    "full": GRID,
}
UNFITTED = [name for name, config in GRID.items() if config.method in ("pair_table", *PER_FAMILY)]
SEEDS = dict.fromkeys(UNFITTED, (0,))


@cache
def families(config: Config, part: str) -> PottsFamilies:
    """One part's families; the same for every method and seed."""
    design = PottsDesign(
        config.columns, config.letters, config.contacts, config.beta, likes=config.likes
    )
    count = {"train": config.families, "read": config.read_from}.get(part, config.held_out)
    rows = config.rows if part == "train" else max(DEPTHS)
    return potts_families(count, design, rows, seed=[46, PARTS[part]])


def arguments(config: Config) -> dict:
    """No positions: the contacts are drawn at random, a place tells nothing."""
    return dict(
        layers=config.layers,
        hidden=config.hidden,
        heads=config.heads,
        ffn=config.ffn,
        row_positions="none",
        column_positions=False,
        start_token=False,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        tie=config.method if config.method in TIES else "sqrt",
    )


def fit_network(config: Config, run: Run) -> tuple[MSATransformer, dict]:
    tokens = families(config, "train").tokens().to(run.device)
    model = MSATransformer(**arguments(config)).to(run.device)
    weights = {"weights": sum(p.numel() for p in model.parameters())}
    if config.method == "untrained":
        return model.eval(), weights
    run.shard(model, model.blocks, "encode")
    draw = torch.Generator().manual_seed(run.seed)
    curve = {"curve_step": [], "curve_loss": []}

    def loss() -> Tensor:
        chosen = torch.randint(config.families, (config.batch,), generator=draw)
        spread = torch.rand((), generator=draw).item()
        depth = round(config.least_rows * (config.rows / config.least_rows) ** spread)
        rows = torch.rand(config.batch, config.rows, generator=draw).argsort(1)[:, :depth]
        shown = tokens[chosen[:, None], rows]
        letters = (4, 4 + config.letters)
        given, masked = mask_tokens(shown.cpu(), draw, config.mask_rate, letters=letters)
        asked = masked.sum().item() / processes()  # letters of the whole batch, an even part
        shown, given, masked = (share(x.to(run.device)) for x in (shown, given, masked))
        logits = model.letter_logits(model.encode(given)[masked])
        return cross_entropy(logits, shown[masked], reduction="sum") / asked

    def look(step: int, losses: list[float]) -> None:
        curve["curve_step"].append(step)
        curve["curve_loss"].append(losses[-1])

    rule = warmed_adamw(model, config.learning_rate, config.steps)
    with value_checks(False):
        fit(
            run,
            model,
            loss,
            steps=config.steps,
            rule=rule,
            clip=1.0,
            look=look,
            every=max(1, config.steps // 50),
            draw=draw,
            curve=curve,
        )
    return model.eval(), weights | curve


Features = Callable[[Tensor], Tensor]  # tokens of families -> (families, columns, columns, n)


def map_features(model: MSATransformer, device: torch.device) -> Features:
    """Contact features of every family, one for each of the layers' heads."""

    @torch.no_grad()
    def features(tokens: Tensor) -> Tensor:
        found = []
        for part in tokens.split(4):
            maps = model(part.to(device), need_attention=True).row_attentions
            found.append(contact_features(maps).cpu())
        return torch.cat(found)

    return features


def pair_features(states: int) -> Features:
    """Of a pair of columns: how often each pair of letters stands there, and how much oftener than
    if the columns were independent."""

    def features(tokens: Tensor) -> Tensor:
        x = one_hot(tokens - FIRST_LETTER, states).float()
        f = x.mean(1)
        pairs = torch.einsum("fria,frjb->fijab", x, x) / x.shape[1]
        alone = torch.einsum("fia,fjb->fijab", f, f)
        return torch.cat([pairs.flatten(3), (pairs - alone).flatten(3)], -1)

    return features


class FrozenScale(TiedRowAttention):
    """The root up to the rows that training has shown, then the mean: evidence grows no further."""

    most: int = Config.rows

    def query_scale(self, x, mask):
        return super().query_scale(x, mask) * min(1.0, (self.most / x.shape[2]) ** 0.5)


def frozen(model: MSATransformer) -> MSATransformer:
    """The same weights, read with `FrozenScale`."""
    model = deepcopy(model)
    for block in model.blocks:
        assert isinstance(block, AxialBlock)
        block.row.__class__ = FrozenScale
    return model


def learned_table(model: MSATransformer, config: Config) -> dict:
    """What the first block's heads like, all together, and its cosine with the true table."""
    likings = letter_likings(model, (FIRST_LETTER, FIRST_LETTER + config.letters)).sum(0).cpu()
    likings, truth = (likings + likings.mT) / 2, coupling_table(config.letters, config.likes)
    cosine = (likings * truth).sum() / (likings.norm() * truth.norm())
    return {"liking": (likings / likings.abs().max()).tolist(), "likeness": cosine.item()}


def two_steps(contacts: Tensor) -> Tensor:
    """Pairs that are no contacts but share a partner."""
    shared = contacts.float() @ contacts.float() > 0
    return shared & ~contacts & ~torch.eye(contacts.shape[-1], dtype=torch.bool)


def precision_at_K(
    scores: Tensor, contacts: Tensor, config: Config, *, order: Tensor | None = None
) -> Tensor:
    """Precision at K, the number of true contacts, of each family; columns may stand in `order`."""
    place = torch.arange(config.columns) if order is None else order
    eligible = (place - place[:, None]).abs() >= SEPARATION
    return precision_at(scores, contacts, config.contacts, valid=eligible)


def summary(name: str, found: Tensor) -> dict:
    """The mean over the families, its standard error, and how many are right in each."""
    error = found.std().item() / len(found) ** 0.5
    each = [round(value, 6) for value in found.tolist()]
    return {f"precision_{name}": found.mean().item(), f"error_{name}": error, f"each_{name}": each}


def indirect(name: str, scores: Tensor, config: Config) -> dict:
    """How many of the K best are two-step pairs, a share."""
    pairs = two_steps(families(config, "test").contacts)
    return {f"indirect_{name}": precision_at_K(scores, pairs, config).mean().item()}


def read_out(
    config: Config, features: Features, regression: ContactHead, late: Features | None = None
) -> dict:
    """Precisions by the best single feature, a head of a network, and by the regression on all,
    which is fitted here.

    late: the same features as another reading gives them, for the depths beyond training.
    """
    read, valid, test = (families(config, part) for part in ("read", "valid", "test"))

    def seen(part: PottsFamilies, depth: int, tokens: Tensor | None = None) -> Tensor:
        tokens = part.tokens() if tokens is None else tokens
        return features(tokens[:, :depth])

    by_head = seen(valid, CONTROL_DEPTH).permute(3, 0, 1, 2)
    score = [precision_at_K(scores, valid.contacts, config).mean().item() for scores in by_head]
    head = int(torch.tensor(score).argmax())
    apart = torch.ones(config.columns, config.columns).triu(SEPARATION).bool()
    regression.fit(
        seen(read, CONTROL_DEPTH)[:, apart].flatten(0, 1), read.contacts[:, apart].flatten()
    )

    @torch.no_grad()
    def scores(of: Tensor) -> dict[str, Tensor]:
        return {"head": of[..., head], "regression": regression.regression(of)[..., 0]}

    metrics = {"head": head, "used_heads": int((regression.regression.weight != 0).sum())}
    for depth in DEPTHS:
        for reader, values in scores(seen(test, depth)).items():
            metrics |= summary(f"{reader}_{depth}", precision_at_K(values, test.contacts, config))
            metrics |= indirect(f"{reader}_{depth}", values, config)
        if late is not None and depth > config.rows:
            for reader, values in scores(late(test.tokens()[:, :depth])).items():
                found = precision_at_K(values, test.contacts, config)
                metrics |= summary(f"{reader}_frozen_{depth}", found)
    draw = torch.Generator().manual_seed(0)
    order = torch.randperm(config.columns, generator=draw)
    uncoupled = families(replace(config, beta=0.0), "test")
    controls = {  # tokens, and the order of their columns
        "uncoupled": (uncoupled.tokens(), None),
        "shuffled": (
            replace(test, sequences=shuffle_within_columns(test.sequences, draw)).tokens(),
            None,
        ),
        "permuted": (test.tokens()[..., order], order),
    }
    for name, (tokens, moved) in controls.items():
        contacts = test.contacts if moved is None else test.contacts[:, moved][:, :, moved]
        for reader, values in scores(seen(test, CONTROL_DEPTH, tokens)).items():
            found = precision_at_K(values, contacts, config, order=moved)
            metrics |= summary(f"{reader}_{name}", found)
    return metrics


def read_families(config: Config) -> dict:
    test = families(config, "test")
    method = partial(PER_FAMILY[config.method], states=config.letters)
    metrics = {}
    for depth in DEPTHS:
        scores = torch.stack([method(x[:depth].long()) for x in test.sequences])
        metrics |= summary(str(depth), precision_at_K(scores, test.contacts, config))
        metrics |= indirect(str(depth), scores, config)
    return metrics


def train(config: Config, run: Run) -> dict:
    if config.method not in GRID:
        raise ValueError(f"wanted method to be one of {', '.join(GRID)}, given {config.method!r}")
    pairs = int(torch.ones(config.columns, config.columns).triu(SEPARATION).sum())
    chance = {"chance": config.contacts / pairs}
    if config.method in PER_FAMILY:
        return read_families(config) | chance
    if config.method == "pair_table":
        head = ContactHead(2 * config.letters**2)
        return read_out(config, pair_features(config.letters), head) | chance
    model, metrics = fit_network(config, run)
    rooted = config.method == "sqrt"
    late = map_features(frozen(model), run.device) if rooted else None
    metrics |= learned_table(model, config) | chance
    metrics |= read_out(config, map_features(model, run.device), model.contact_head, late)
    run.offer(model, **arguments(config))
    return metrics


@torch.no_grad()
def precision_of(network: nn.Module) -> float:
    """The read-out on the forty test families, at 8 rows."""
    assert isinstance(network, MSATransformer)
    test, config = families(Config(), "test"), Config()
    found = map_features(network, torch.device("cpu"))(test.tokens()[:, : DEPTHS[0]])
    scores = network.contact_head.regression(found)[..., 0]
    return precision_at_K(scores, test.contacts, config).mean().item()


SHIP = Ship("sqrt", 0, f"precision_regression_{DEPTHS[0]}", precision_of, digits=2)


if __name__ == "__main__":
    main(__file__, SIZES, train, seeds=SEEDS, ship=SHIP)
