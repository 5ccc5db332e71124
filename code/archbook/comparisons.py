"""Learned numbers of a results file set against each other: what one line of a table needs."""

from dataclasses import dataclass

import numpy as np

from archbook.running import by_seed
from archbook.verdicts import Interval, interval, interval_of_means, paired, share_deviation


@dataclass(frozen=True)
class Score:
    """A metric, and what its results file knows of the test set behind it.

    Three ways lead to the test set's part of the error: a share of right answers tells it, every
    item's score was kept, or its standard error was. Without them the error is that of the seeds
    alone, and the page has to say so.
    """

    metric: str
    lower: bool = False  # whether less is better
    factor: bool = False  # of errors over orders of magnitude: differences of their logarithms
    items: int = 1  # of the test set
    share_of: float = 0.0  # 100 for right answers in per cent
    each: str = ""  # the metric that holds every item's score
    error: str = ""  # the metric that holds the standard error over the items

    def __post_init__(self):
        ways = [way for way in ("share_of", "each", "error") if getattr(self, way)]
        if self.factor and ways:
            raise ValueError(f"wanted factor alone, given it with {ways}")
        if len(ways) > 1 or (self.items > 1) != bool({"share_of", "error"} & set(ways)):
            raise ValueError(
                "wanted items with share_of or with error, or each alone, or nothing, "
                f"given items {self.items} and {ways}"
            )


def lead(
    results: dict,
    candidate: str,
    control: str | float,
    score: Score,
    *,
    fixed: bool = False,
    scale: float = 1.0,
) -> Interval:
    """By how much the candidate is better than the control, over the seeds that both have.

    A control without chance in it (`fixed`) has one run, which stands against every seed; a number
    is a published result. `scale` turns the unit of the file into that of the table.
    """
    sign = -scale if score.lower else scale
    if score.each:
        if isinstance(control, int | float):
            raise ValueError(
                "wanted a variant where every item's score is compared, given a number"
            )
        one, other = (by_seed(results, name, score.each) for name in (candidate, control))
        seeds, other_seeds = _common(one, other, fixed)
        rows = (
            np.array([found[seed] for seed in those], dtype=float) * sign
            for found, those in ((one, seeds), (other, other_seeds))
        )
        return paired(*rows)
    one = by_seed(results, candidate, score.metric)
    other = (
        dict.fromkeys(one, float(control))
        if isinstance(control, int | float)
        else by_seed(results, control, score.metric)
    )
    seeds, other_seeds = _common(one, other, fixed)
    ours, theirs = np.array([one[s] for s in seeds]), np.array([other[s] for s in other_seeds])
    means = np.log(ours) - np.log(theirs) if score.factor else ours - theirs
    if score.items == 1:
        return interval(sign * means[:, None])
    names = [candidate] if isinstance(control, int | float) else [candidate, control]
    deviation = abs(scale) * _deviation(results, names, score)
    return interval_of_means(list(sign * means), deviation, score.items)


def _common(one: dict, other: dict, fixed: bool) -> tuple[list[int], list[int]]:
    """The seeds to pair: of the candidate, of the control."""
    if fixed:
        if len(other) != 1:
            raise ValueError(f"wanted one run of a control without chance, given {len(other)}")
        return list(one), list(other)
    seeds = [seed for seed in one if seed in other]
    if not seeds:
        raise ValueError(f"wanted a seed that both have, given {list(one)} and {list(other)}")
    return seeds, seeds


def _deviation(results: dict, names: list[str], score: Score) -> float:
    """Of one item's difference, as if the two methods found other items hard: rather too wide."""
    if score.error:
        errors = [by_seed(results, name, score.error).values() for name in names]
        return float(np.sqrt(sum(np.mean(np.square(list(e))) for e in errors) * score.items))
    least = 0.5 / score.items  # no share is known to be nearer to none or all than half an item
    shares = [
        float(np.mean(list(by_seed(results, name, score.metric).values()))) / score.share_of
        for name in names
    ]
    return score.share_of * share_deviation(*np.clip(shares, least, 1 - least))
