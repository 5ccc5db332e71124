"""The paper's experiment in miniature: base pairs of a thousand RNA families, clans never seen.

What decides, at 4, 8, 16, 32, 64 and 128 rows, over families of clans that were not trained on,
with a 95 % interval that holds seeds and groups of families:

* with labels: logistic regressions on the network's maps against the same regressions on the pair
  table (`archbook.dca.pair_table`), fitted on the structures of the same LABELLED families. Both
  sides come "plain" (the paper's read-out; shares, covariances and mutual information), with
  logarithms, and with the neighbours in a stem; and each again fitted on many families;
* without a label: one head, the mean of the heads chosen by their stems, and the mean of all,
  against every method that looks at a family alone. All of them come summed along stems, too
  (`along_stems`), which whoever knows RNA would do: over three and five stacked pairs, and these
  rivals over seven as well. The strongest of them in a pilot is the share of rows that hold a base
  pair plus twice its covariance.

Measured is the share of right ones among the K best pairs, |i - j| >= 4, K being the number of
annotated pairs. Controls: columns shuffled within themselves, for every method; the untrained
network; families without structure; families whose structure was published; R-scape's calls at full
depth. In the pilots two methods' difference spread by about 0.09 from family to family, with which
1,038 families see 0.01 at 4 and 8 rows and the 77 of 128 rows 0.03; groups and the networks' own
spread let the design see less. Size "more" holds the pseudo-likelihood, the single rows, and
networks built or fed otherwise.

Three folds of whole groups (`archbook.data.rna_folds`): each family is tested once, by networks
that saw none of its relatives. On the page the families of a group count as one: two groups, of
microRNAs and of small nucleolar RNAs, hold four families in ten. How much the seeds differ is seen
on the first fold. The rate was chosen on families taken out of the training folds. On such families
a pilot of 800 steps also found that it is no gain to hide whole columns rather than letters (the
read-outs lost 0.05 to 0.10).
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from archbook.checks import value_checks
from archbook.data.potts import shuffle_within_columns
from archbook.data.rna import GAP, RNAFamily, rna_families
from archbook.data.rna_folds import folds, rna_groups
from archbook.dca import (
    BASE_PAIRS,
    mean_field,
    mutual_information,
    pair_table,
    pairing_covariance,
    pairing_share,
    precision_at,
    pseudo_likelihood,
    stem_neighbours,
    sums_along_stems,
)
from archbook.dca.base_pairs import PLAIN
from archbook.msa_transformer import (
    AxialBlock,
    ContactHead,
    MSATransformer,
    NeighbourEmbedding,
    contact_features,
    diversity_subsample,
    mask_tokens,
    pad_alignments,
)
from archbook.running import Run, Search, Ship, fit_best, grid, main, warmed_adamw
from archbook.vocabulary import FIRST_LETTER

DEPTHS = (4, 8, 16, 32, 64, 128)  # rows shown at test time
READ_AT = (8, 32)  # rows shown where a read-out is fitted
CHOSEN_AT = 16  # rows shown where heads are chosen without a label
CHOSEN = 8  # heads, as many as a block has
FAINT = 1e-5  # added to a map before its logarithm is taken
STEPS = 1000  # of a read-out's fit, at most
SEPARATION = 4  # |i - j| of a pair that counts, at least
FEWEST_PAIRS = 4  # of a family that is tested
FEWEST_ROWS = 8
COLUMNS = (16, 200)  # of a family that is tested
BASES = (FIRST_LETTER, FIRST_LETTER + 4)
FOLDS = (0, 1, 2)


@dataclass(frozen=True)
class Config:
    model: str = "msa"  # msa, single (one row at a time), untrained; table, or a per-family method
    fold: int = 0  # whose families are tested
    steps: int = 3000  # of training
    places: int = 4000  # rows x columns of a step, about
    least_rows: int = 4  # a step shows between so many rows and most_rows, evenly in the logarithm
    most_rows: int = 64
    columns: int = 128  # of a stretch shown in training, at most
    learning_rate: float = 3e-3  # of AdamW at its peak; warmed up, then down a cosine
    layers: int = 4  # blocks
    hidden: int = 64  # width
    heads: int = 8  # a block
    neighbours: int = 1  # letters on either side that a place's embedding holds
    mask_rate: float = 0.2  # share of letters to predict
    tie: str = "sqrt"  # of the rows, see TiedRowAttention
    column_attention: bool = True
    families: int = 3000  # to train on, at most
    labelled: int = 20  # families whose structures a read-out is fitted on
    many: int = 200  # of the read-out that is fitted on many
    valid: int = 60  # families to choose by, of those that would be tested
    looks: int = 12  # batches of a look at the validation loss
    tested: int = 3000  # families, at most
    deepest: int = 128  # rows shown at test time, at most
    search: bool = False  # a trial of the search: the loss on the families to choose by is enough


PER_FOLD = {
    "per_family": Config("per_family"),
    "pseudo_likelihood": Config("pseudo_likelihood"),  # apart: 0.6 s a family, rows and choice
    "table": Config("table"),
    "msa": Config(),
    "untrained": Config("untrained"),
}
GRID = {f"{name}.{k}": replace(config, fold=k) for name, config in PER_FOLD.items() for k in FOLDS}
WHOLE = Config("single", columns=COLUMNS[1])  # its positions are trained to the last column
MORE = {  # what else one would like to know, each half an hour or more of one core
    "plain.0": Config(neighbours=0),
    "untied.0": Config(tie="none"),
    "mean.0": Config(tie="mean"),
    "no_columns.0": Config(column_attention=False),
    "single.0": WHOLE,
    "single_wide.0": replace(WHOLE, hidden=128),
    **{f"families_{count}.0": Config(families=count) for count in (10, 30, 100, 300)},
}
SMALL = [name for name in GRID | MORE if name.endswith(".0") and "families" not in name]
TINY = dict(steps=4, places=200, least_rows=2, most_rows=6, columns=24, layers=1, hidden=8, heads=2)
TINY |= dict(labelled=2, many=3, valid=3, looks=1, tested=1, deepest=8)
SIZES = {
    "tiny": {name: replace((GRID | MORE)[name], **TINY) for name in SMALL},
    "full": GRID,
    "more": MORE,
    "card": {"msa.0": Config(steps=12_000, places=60_000, layers=8, hidden=192, heads=12)},
}
FITTED = [name for name, config in GRID.items() if config.model == "msa"]  # trained
UNFITTED = [name for name in GRID if name not in FITTED]
SEEDS = dict.fromkeys([name for name in (*GRID, *MORE) if name[:3] != "msa"], (0,))
CANDIDATES = ["msa.0"]
FLAT = "its rate has come down to zero; the last 300 steps lowered the loss by less than 0.003"
SEARCH = Search(
    "valid_loss",
    "lowest",
    trials=dict.fromkeys(CANDIDATES, grid(learning_rate=(1e-3, 3e-3))),
    like={name: "msa.0" for name in FITTED if name not in CANDIDATES},
    untrained=UNFITTED,
    short=dict(steps=150, places=2000, search=True),
    late=dict.fromkeys(FITTED, FLAT),
)


@dataclass(frozen=True)
class Fold:
    """Places in `cores()` of families to train on, to choose by, to read from, and tested ones."""

    train: tuple[int, ...]
    valid: tuple[int, ...]
    labelled: tuple[int, ...]  # of train, in random order: the read-outs take the first ones
    tested: tuple[int, ...]
    bare: tuple[int, ...]  # tested ones without a structure


@cache
def cores() -> tuple[RNAFamily, ...]:
    return tuple(one.core() for one in rna_families())


def counted_pairs(one: RNAFamily) -> Tensor:
    return one.pairs[one.pairs[:, 1] - one.pairs[:, 0] >= SEPARATION]


def fits(one: RNAFamily) -> bool:
    """Whether its size is that of a tested family."""
    return one.depth >= FEWEST_ROWS and COLUMNS[0] <= one.columns <= COLUMNS[1]


@cache
def fold_of(number: int, valid: int) -> Fold:
    """Families to choose by are whole groups out of the training folds, in random order."""
    all_of, groups = cores(), rna_groups()
    usable = [len(counted_pairs(one)) >= FEWEST_PAIRS and fits(one) for one in all_of]
    folded = folds(groups, usable)
    inside = [i for i, one in enumerate(all_of) if folded[i] == number and fits(one)]
    others = [
        i for i, one in enumerate(all_of) if folded[i] != number and one.columns >= COLUMNS[0]
    ]
    order = torch.randperm(len(all_of), generator=torch.Generator().manual_seed(number)).tolist()
    size = Counter(groups[i] for i in others)
    chosen: set[int] = set()
    taken = 0
    for group in order:
        if taken < valid and 0 < size[group] <= valid // 3:
            chosen.add(group)
            taken += sum(usable[i] for i in others if groups[i] == group)
    train = [i for i in others if groups[i] not in chosen and all_of[i].depth >= 4]
    return Fold(
        train=tuple(sorted(train, key=order.__getitem__)),
        valid=tuple(i for i in others if groups[i] in chosen and usable[i]),
        labelled=tuple(
            i
            for i in sorted(train, key=order.__getitem__)
            if usable[i] and all_of[i].depth >= 2 * FEWEST_ROWS
        ),
        tested=tuple(i for i in inside if usable[i]),
        bare=tuple(i for i in inside if not len(all_of[i].pairs)),
    )


def tokens_of(one: RNAFamily) -> Tensor:
    return one.rows.long() + FIRST_LETTER


def stretch(one: RNAFamily, rows: int, columns: int, draw: torch.Generator) -> Tensor:
    """Random rows of a family, in a random stretch of columns."""
    chosen = torch.randperm(one.depth, generator=draw)[:rows]
    first = int(torch.randint(max(1, one.columns - columns + 1), (), generator=draw))
    return tokens_of(one)[chosen, first : first + columns]


def batches(config: Config, families: Sequence[int], draw: torch.Generator):
    """Endless batches: (families, rows, columns), or (many, 1, columns) of single rows."""
    all_of = cores()
    while True:
        spread = torch.rand((), generator=draw).item()
        rows = round(config.least_rows * (config.most_rows / config.least_rows) ** spread)
        if config.model == "single":
            rows = 1
        size = max(1, round(config.places / (rows * config.columns)))
        chosen = torch.randint(len(families), (size,), generator=draw).tolist()
        parts = [stretch(all_of[families[i]], rows, config.columns, draw) for i in chosen]
        yield pad_alignments(parts)


class NoAttention(nn.Module):
    """In place of a block's column attention: adds nothing."""

    def forward(self, x, mask=None, need_weights=False, *, chunk=None):
        return torch.zeros_like(x), None


def network(config: Config) -> MSATransformer:
    """Single rows need positions, or they would be bags of letters; the others have none.

    Without column attention the feed-forward is wider, so that there are as many weights.
    """
    model = MSATransformer(**arguments(config))
    if not config.column_attention:
        for block in model.blocks:
            block.column = NoAttention()
    return model


def arguments(config: Config) -> dict:
    return dict(
        layers=config.layers,
        hidden=config.hidden,
        heads=config.heads,
        ffn=(4 if config.column_attention else 6) * config.hidden,
        max_columns=COLUMNS[1],
        row_positions="none",
        column_positions=config.model == "single",
        start_token=False,
        dropout=0.0,  # families are many, passes over them few
        attention_dropout=0.0,
        activation_dropout=0.0,
        tie=config.tie,
        neighbours=config.neighbours,
    )


def loss_of(
    model: MSATransformer, tokens: Tensor, config: Config, *, draw: torch.Generator, device
) -> Tensor:
    """Mean surprise at hidden bases, in nats; gaps and unsure letters are not asked."""
    given, hidden = mask_tokens(tokens, draw, config.mask_rate, letters=BASES)
    hidden &= (tokens >= BASES[0]) & (tokens < BASES[1])
    tokens, given, hidden = (x.to(device) for x in (tokens, given, hidden))
    with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
        logits = model.letter_logits(model.encode(given)[hidden])
    return cross_entropy(logits.float(), tokens[hidden])


def fit_network(config: Config, run: Run) -> tuple[MSATransformer, dict]:
    """The weights of the lowest loss on the families to choose by."""
    torch.manual_seed(run.seed)
    model = network(config).to(run.device)
    metrics: dict = {"weights": sum(p.numel() for p in model.parameters())}
    if config.model == "untrained":
        return model.eval(), metrics
    draw = torch.Generator().manual_seed(run.seed)
    families = fold_of(config.fold, config.valid).train[: config.families]
    shown = batches(config, families, draw)

    def loss() -> Tensor:
        return loss_of(model, next(shown), config, draw=draw, device=run.device)

    with value_checks(False):
        chosen, found = fit_best(
            run,
            model,
            loss,
            lambda: valid_loss(model, config, run.device),
            steps=config.steps,
            rule=warmed_adamw(model, config.learning_rate, config.steps, betas=(0.9, 0.98)),
            clip=1.0,
            draw=draw,
        )
    return chosen, metrics | found


def valid_loss(model: MSATransformer, config: Config, device: torch.device) -> float:
    """Over the same alignments, rows and hidden letters each time."""
    draw = torch.Generator().manual_seed(0)
    shown = batches(config, fold_of(config.fold, config.valid).valid, draw)
    losses = [
        loss_of(model, next(shown), config, draw=draw, device=device).item()
        for _ in range(config.looks)
    ]
    return sum(losses) / len(losses)


# ---- scores of the pairs of columns ----

Scores = Callable[[Tensor], dict[str, Tensor]]  # rows as states -> name -> (columns, columns)


def states(rows: Tensor) -> Tensor:
    """Four bases, and one state for gaps and unsure letters: what all rivals are given."""
    return rows.long().clamp(max=GAP)


PER_FAMILY: dict[str, Callable[[Tensor], Tensor]] = {
    "mutual_information": partial(mutual_information, states=GAP + 1),
    "mean_field": partial(mean_field, states=GAP + 1, gap=GAP),
    "pairing_covariance": pairing_covariance,
    "pairing_share": pairing_share,
    # The weight was chosen on tested families, in this rival's favour.
    "pairing": lambda rows: pairing_share(rows) + 2 * pairing_covariance(rows),
}
SLOW: dict[str, Callable[[Tensor], Tensor]] = {
    "pseudo_likelihood": partial(pseudo_likelihood, states=GAP + 1, gap=GAP)
}


STACKED = {"stacked": 3, "stem": 5}  # pairs of a stem
LONGER = STACKED | {"long": 7}


def per_family(methods: dict[str, Callable[[Tensor], Tensor]]) -> Scores:
    return lambda rows: along_stems({name: f(states(rows)) for name, f in methods.items()}, LONGER)


def along_stems(scores: dict[str, Tensor], sums: dict[str, int] = STACKED) -> dict[str, Tensor]:
    """Each score also summed along a stem, as anyone would who knows stems."""
    found = dict(scores)
    for name, score in scores.items():
        found |= {f"{name}_{kind}": sums_along_stems(score, n) for kind, n in sums.items()}
    return found


def stem(features: Tensor) -> Tensor:
    """Features of a pair, of its two neighbours in a stem, and of the two beyond these."""
    inside, around = stem_neighbours(features)
    beyond = stem_neighbours(inside)[0], stem_neighbours(around)[1]
    return torch.cat([features, inside, around, *beyond], -1)


def upper(columns: int) -> Tensor:
    """Pairs i < j that count."""
    return torch.triu_indices(columns, columns, SEPARATION)


def contacts_of(one: RNAFamily) -> Tensor:
    contacts = torch.zeros(one.columns, one.columns, dtype=torch.bool)
    contacts[tuple(counted_pairs(one).T)] = True
    return contacts | contacts.T


def shown_at(one: RNAFamily, depth: int, *, shuffled: bool = False) -> Tensor:
    """The rows that every method is given: diverse ones. Shuffled: within each column."""
    rows = diversity_subsample(one.rows, depth)
    if shuffled:
        rows = shuffle_within_columns(rows, torch.Generator().manual_seed(0))
    return rows


class Readouts:
    """Logistic regressions on features of pairs, the same for networks and for the pair table.

    "few" are fitted on `labelled` families, "many" on `many`: "plain" on the first `plain` features
    (the paper's read-out, where these are the maps), then on all, then, "stacked", on those of
    the neighbours in a stem, too, and last, "stem", of five stacked pairs. All base pairs are seen,
    and of the other pairs a random share, the same for every candidate.
    """

    SHARE = {"few": 0.2, "many": 0.02}

    def __init__(self, features: Callable[[Tensor], Tensor], plain: int, config: Config):
        self.features = features
        self.heads: dict[str, ContactHead] = {}
        labelled = fold_of(config.fold, config.valid).labelled
        for name, count in (("few", config.labelled), ("many", config.many)):
            seen, contacts = self.sample(labelled[:count], self.SHARE[name], config.deepest)
            every = seen.shape[1]
            kinds = {"_plain": plain, "": every // 5, "_stacked": 3 * every // 5, "_stem": every}
            for kind, first in kinds.items():
                self.heads[name + kind] = head = ContactHead(first)
                head.fit(seen[:, :first], contacts, steps=STEPS, tolerance=1e-4)
                with torch.no_grad():  # as if all other pairs had been shown
                    head.regression.bias.add_(math.log(self.SHARE[name]))

    def sample(self, families: Sequence[int], share: float, deepest: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(0)
        seen, contacts = [], []
        for one in (cores()[i] for i in families):
            i, j = upper(one.columns)
            for depth in READ_AT:
                right = contacts_of(one)[i, j]
                kept = right | (torch.rand(len(i), generator=draw) < share)
                features = self.features(shown_at(one, min(depth, deepest)))
                seen.append(stem(features)[i[kept], j[kept]])
                contacts.append(right[kept])
        return torch.cat(seen), torch.cat(contacts)

    @torch.no_grad()
    def scores(self, features: Tensor) -> dict[str, Tensor]:
        """Log odds of the pairs."""
        whole = stem(features)
        found = {
            name: head.regression(whole[..., : head.regression.in_features])[..., 0].triu()
            for name, head in self.heads.items()
        }
        return {name: odds + odds.T for name, odds in found.items()}  # read where i < j


class NetworkScores:
    """What a network says of pairs: by its read-outs, and without a label.

    "average" is the mean of all corrected maps, each over its deviation; "chosen" is that of the
    CHOSEN maps that run along stems most on families of training (`stems`), "head" the first of
    these.
    """

    def __init__(self, model: MSATransformer, config: Config, device: torch.device):
        self.model, self.single, self.device = model, config.model == "single", device
        self.chosen = self.choose(config)
        maps = config.layers * config.heads
        self.readouts = Readouts(lambda rows: torch.cat(self.features(rows), -1), maps, config)

    @torch.no_grad()
    def features(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Maps after symmetrising and APC, and their logarithms less those of rows and columns.

        Each (columns, columns, heads).
        """
        tokens = rows[: 1 if self.single else None].long() + FIRST_LETTER
        maps = self.model.row_attentions(tokens[None].to(self.device))
        logs = (maps.cpu()[0].flatten(0, 1) + FAINT).log()
        return contact_features(maps)[0].cpu(), centred(logs + logs.mT).permute(1, 2, 0)

    def choose(self, config: Config) -> list[int]:
        """The order of the heads, best first; no structure is looked at."""
        families = [cores()[i] for i in fold_of(config.fold, config.valid).train]
        deep = [one for one in families if one.depth >= CHOSEN_AT and fits(one)]
        found = [
            stems(self.features(shown_at(one, min(CHOSEN_AT, config.deepest)))[0])
            for one in deep[: config.labelled]
        ]
        return torch.stack(found).mean(0).argsort(descending=True)[:CHOSEN].tolist()

    def __call__(self, rows: Tensor) -> dict[str, Tensor]:
        maps, logs = self.features(rows)
        labelled = self.readouts.scores(torch.cat([maps, logs], -1))
        free = {
            "head": maps[..., self.chosen[0]],
            "chosen": average(maps[..., self.chosen]),
            "average": average(maps),
        }
        return labelled | along_stems(free)


def average(maps: Tensor) -> Tensor:
    """The mean of the maps, each over the deviation of its entries."""
    spread = maps.flatten(0, 1).std(0)
    return (maps / torch.where(spread > 0, spread, 1)).mean(-1)


def stems(maps: Tensor) -> Tensor:
    """How much alike a map is at (i, j) and (i + 1, j - 1), which may be stacked in one stem, less
    how much at (i, j) and (i + 1, j + 1), which never are: correlations over the pairs that count.
    """
    i, j = upper(len(maps))
    inside, kept = j - i >= SEPARATION + 2, j + 1 < len(maps)
    i, j = i[inside & kept], j[inside & kept]
    z = maps - maps[i, j].mean(0)
    z = z / z[i, j].square().mean(0).sqrt().clamp(min=FAINT)
    return (z[i, j] * (z[i + 1, j - 1] - z[i + 1, j + 1])).mean(0)


def table_features(rows: Tensor) -> Tensor:
    return pair_table(states(rows))


def table_scores(config: Config) -> Scores:
    """The simplest rival with labels: the same read-outs of the pair table."""
    readouts = Readouts(table_features, PLAIN, config)
    return lambda rows: readouts.scores(table_features(rows))


# ---- what is measured ----


def measure(scores: Scores, config: Config) -> dict:
    """For every name, depth and choice: each family's right pairs among its K best, and the mean.

    The families of a depth are those of `tested` that have so many rows, in their order.
    """
    metrics: dict = {}
    tested = [cores()[i] for i in fold_of(config.fold, config.valid).tested[: config.tested]]
    depths = DEPTHS[:1] if config.model == "single" else DEPTHS
    for depth in sorted({min(depth, config.deepest) for depth in depths}):
        for choice in ("", "_shuffled"):
            hits: dict[str, list[int]] = {}
            shares: dict[str, list[float]] = {}
            for one in tested:
                if one.depth < depth:
                    continue
                contacts, k = contacts_of(one), len(counted_pairs(one))
                rows = shown_at(one, depth, shuffled=bool(choice))
                for name, map_ in scores(rows).items():
                    right = precision_at(map_, contacts, k, min_separation=SEPARATION).item()
                    hits.setdefault(f"hits_{name}{choice}_{depth}", []).append(round(right * k))
                    shares.setdefault(f"{name}{choice}_{depth}", []).append(right)
            metrics |= hits
            metrics |= {name: sum(values) / len(values) for name, values in shares.items()}
    return metrics


def claimed_pairs(scores: Scores, config: Config) -> dict:
    """Pairs of log odds above zero, per 100 columns: with a structure, and without one."""
    fold = fold_of(config.fold, config.valid)
    metrics: dict = {}
    for kind, places in (("paired", fold.tested), ("bare", fold.bare)):
        count: Counter = Counter()
        columns = 0
        for one in (cores()[i] for i in places[: config.tested]):
            i, j = upper(one.columns)
            columns += one.columns
            for name, map_ in scores(shown_at(one, FEWEST_ROWS)).items():
                if name.startswith(("few", "many")):  # the others are no log odds
                    count[name] += int((map_[i, j] > 0).sum())
        metrics |= {f"claimed_{kind}_{name}": 100 * n / columns for name, n in count.items()}
    return metrics


def families_of(config: Config) -> dict:
    """Who is tested, in the order of all hits, and what R-scape found at full depth."""
    tested = [cores()[i] for i in fold_of(config.fold, config.valid).tested[: config.tested]]
    metrics: dict = {
        "accessions": [one.accession for one in tested],
        "pairs": [len(counted_pairs(one)) for one in tested],
        "rows": [one.depth for one in tested],
        "published": [int(one.published) for one in tested],
    }
    for one in tested:
        contacts = contacts_of(one)
        calls = one.calls[one.calls[:, 1] - one.calls[:, 0] >= SEPARATION]
        right = contacts[tuple(calls.T)]
        metrics.setdefault("rscape_calls", []).append(len(calls))
        metrics.setdefault("rscape_right", []).append(int(right.sum()))
        best = right[: len(counted_pairs(one))]
        metrics.setdefault("hits_rscape", []).append(int(best.sum()))
    return metrics


def likings(model: MSATransformer) -> dict:
    """Of each head of the first block: which bases ask for which, symmetric and centred.

    "same" is about the letters of the two columns, "stacked" about the one before i and the one
    after j; "likeness" is the cosine with the table of Watson-Crick and wobble pairs.
    """
    block = model.blocks[0]
    assert isinstance(block, AxialBlock)
    wanted = torch.zeros(4, 4)
    for a, b in BASE_PAIRS:
        wanted[a, b] = wanted[b, a] = 1
    tables = {"same": (model.letters.weight, model.letters.weight)}
    if isinstance(model.letters, NeighbourEmbedding):
        k = model.letters.neighbours
        tables["stacked"] = (model.letters.near[k - 1], model.letters.near[k])
    scale = model.norm_before.weight * block.row_norm.weight
    query, key, _ = block.row.qkv.weight.unflatten(0, (3, block.row.heads, -1))
    metrics: dict = {}
    for name, (left, right) in tables.items():
        x, y = (
            (t[slice(*BASES)] - t[slice(*BASES)].mean(1, keepdim=True)) * scale
            for t in (left, right)
        )
        table = torch.einsum("ax,hdx,hdy,by->hab", x, query, key, y)
        table = centred(table + table.mT)
        likeness = torch.einsum("hab,ab->h", table, centred(wanted))
        likeness = likeness / (table.norm(dim=(1, 2)) * centred(wanted).norm())
        metrics[f"liking_{name}"] = rounded(table / table.abs().amax())
        metrics[f"likeness_{name}"] = rounded(likeness)
    return metrics


def centred(table: Tensor) -> Tensor:
    return (
        table
        - table.mean(-1, keepdim=True)
        - table.mean(-2, keepdim=True)
        + table.mean((-2, -1), keepdim=True)
    )


def rounded(values: Tensor) -> list:
    return torch.round(values.detach().double().cpu(), decimals=4).tolist()


def train(config: Config, run: Run) -> dict:
    if config.model == "per_family":
        return measure(per_family(PER_FAMILY), config) | families_of(config)
    if config.model in SLOW:
        return measure(per_family(SLOW), config)
    if config.model == "table":
        table = table_scores(config)
        return measure(table, config) | claimed_pairs(table, config)
    model, metrics = fit_network(config, run)
    if config.search:
        return metrics
    read = NetworkScores(model, config, run.device)
    metrics |= measure(read, config) | claimed_pairs(read, config) | likings(model)
    metrics |= {"chosen": read.chosen}
    model.contact_head.load_state_dict(read.readouts.heads["few_plain"].state_dict())
    run.offer(model, **arguments(config))
    return metrics


@torch.no_grad()
def precision_of(network: nn.Module) -> float:
    """The paper's read-out on the tested families of the first fold, at 8 rows: half a minute."""
    shares = []
    for one in (cores()[i] for i in fold_of(0, Config.valid).tested):
        tokens = shown_at(one, FEWEST_ROWS).long() + FIRST_LETTER
        found = network(tokens[None], return_contacts=True).contacts[0]
        k = len(counted_pairs(one))
        shares.append(precision_at(found, contacts_of(one), k, min_separation=SEPARATION).item())
    return sum(shares) / len(shares)


SHIP = Ship("msa.0", 0, f"few_plain_{FEWEST_ROWS}", precision_of, digits=2)

if __name__ == "__main__":
    alone = "a batch holds as many families as fit; share the cells out with --shard"
    main(__file__, SIZES, train, search=SEARCH, seeds=SEEDS, ship=SHIP, alone=alone)
