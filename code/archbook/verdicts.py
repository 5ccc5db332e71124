"""What a comparison may say: a paired difference, an error that holds seeds and test set, a word.

Other seeds and another test set of the same size would have given another mean, so both belong in
the error. Scores of S seeds on the same N test items follow the two-way random effects model

    y[s, i] = mean + a[s] + b[i] + e[s, i],

whose mean has the variance Va / S + Vb / N + Ve / (S N). The three are estimated from the table of
scores by mean squares (Searle, Casella, McCulloch: Variance Components, 1992, chapter 4). The two
parts of that variance, of seeds and of items, have degrees of freedom of their own; Student's
bounds of both are averaged with the parts as weights (Cochran and Cox: Experimental Designs, 1957).
With three seeds Satterthwaite's degrees of freedom, the usual choice, call up to 7 in 100
differences of nothing a difference.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import optimize, special, stats

__all__ = [
    "NOT_REPRODUCED",
    "NOT_TESTABLE",
    "REPRODUCED",
    "SMALL_SCALE",
    "Interval",
    "Part",
    "Spread",
    "interval",
    "interval_of_folds",
    "interval_of_means",
    "paired",
    "share_deviation",
    "verdict",
    "visible",
]

LEVEL = 0.95
POWER = 0.8
STEPS = 300  # of each distribution that is integrated over

REPRODUCED = "reproduced"
SMALL_SCALE = "reproduced at small scale"
NOT_REPRODUCED = "not reproduced"
NOT_TESTABLE = "not testable here"
WORDS = (REPRODUCED, SMALL_SCALE, NOT_REPRODUCED, NOT_TESTABLE)


@dataclass(frozen=True)
class Part:
    """A variance and its degrees of freedom.

    >>> Part(variance=4.0, freedom=9).over(2)
    Part(variance=2.0, freedom=9)
    """

    variance: float
    freedom: float

    def over(self, count: int) -> "Part":
        """Of the mean of so many."""
        return Part(self.variance / count, self.freedom)


@dataclass(frozen=True)
class Spread:
    """Variances of one score: between seeds, between test items, and of what is left.

    >>> spread = Spread(seed=1.0, item=4.0)
    >>> sum(part.variance for part in spread.of_mean(seeds=4, items=400))  # 1/4 + 4/400
    0.26
    """

    seed: float = 0.0
    item: float = 0.0
    rest: float = 0.0

    def __post_init__(self):
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"wanted the variance {name} to be at least 0, given {value}")

    def of_mean(self, seeds: int, items: int) -> "tuple[Part, ...]":
        """The parts of the variance of a mean over so many seeds and items."""
        for name, count in (("seeds", seeds), ("items", items)):
            if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
                raise ValueError(f"wanted {name} to be a whole number of at least 1, given {count}")
        if seeds == items == 1:
            raise ValueError("wanted more than one seed or more than one item, given one of each")
        if seeds == 1:  # what is left cannot be told from the items' part, nor from the seeds'
            return (Part(self.item + self.rest, items - 1).over(items),)
        if items == 1:
            return (Part(self.seed + self.rest, seeds - 1).over(seeds),)
        return (
            Part(self.seed + self.rest / items, seeds - 1).over(seeds),
            Part(self.item, items - 1).over(items),
        )


@dataclass(frozen=True)
class Interval:
    """A mean with its standard error; `low` and `high` hold the truth in 95 of 100 cases.

    >>> found = interval([[1.0, 2.0, 3.0], [1.5, 2.5, 3.5]])  # two seeds, three items
    >>> found.mean, round(found.half, 2)  # 2.25 ± 3.54
    (2.25, 3.54)
    """

    mean: float
    parts: tuple[Part, ...]  # of the variance of the mean: of the seeds, of the items
    seeds: int
    items: int
    spread: Spread  # of one score: `visible` tells from it what another design would see

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return math.sqrt(sum(part.variance for part in self.parts))

    @property
    def half(self) -> float:
        """Half the width: what stands behind ±."""
        return float(
            _half([part.variance for part in self.parts], [part.freedom for part in self.parts])
        )

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    @property
    def visible(self) -> float:
        """The smallest difference that this design, used again, sees in four of five tries."""
        return visible(self.spread, self.seeds, self.items)

    def cell(self, digits: int | None = None) -> str:
        """A signed difference ± half the width, and in brackets the smallest visible one."""
        digits = _digits(self.half) if digits is None else digits
        return f"{self.text(digits, signed=True)} ({self.visible:,.{digits}f})"

    def factor(self) -> str:
        """Where the scores are logarithms: how many times, and the two ends of the interval."""

        def said(log: float) -> str:
            times = math.exp(log)
            return f"{times:,.0f}" if times >= 100 else f"{times:.2g}"

        return f"{said(self.mean)} [{said(self.low)}, {said(self.high)}]"

    def text(self, digits: int | None = None, *, signed: bool = False, scale: float = 1) -> str:
        """The mean ± half the width, for a table; digits as the width asks for, unless given."""
        half = abs(scale) * self.half
        digits = _digits(half) if digits is None else max(0, digits)
        sign = "+" if signed else ""
        mean = f"{scale * self.mean:{sign},.{digits}f}".replace("-", "\N{MINUS SIGN}")
        return f"{mean}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{half:,.{digits}f}"


def interval(scores: Any) -> Interval:
    """Of a table of scores, (seeds, items): every seed's score on every test item.

    A method without chance in it has one row, and then the items alone make the error.

    >>> found = interval([[0.81, 0.79, 0.85], [0.83, 0.80, 0.84]])
    >>> round(found.mean, 2), found.low < found.mean < found.high
    (0.82, True)
    """
    table = _table(scores)
    seeds, items = table.shape
    mean = float(table.mean())
    if seeds == 1 or items == 1:
        variance = float(table.var(ddof=1))
        spread = Spread(item=variance) if seeds == 1 else Spread(seed=variance)
        return Interval(mean, spread.of_mean(seeds, items), seeds, items, spread)
    by_seed, by_item = table.mean(1, keepdims=True), table.mean(0, keepdims=True)
    rest = float(((table - by_seed - by_item + mean) ** 2).sum()) / ((seeds - 1) * (items - 1))
    seed, item = float(by_seed.var(ddof=1)), float(by_item.var(ddof=1))
    own = max(0.0, item - rest / seeds)  # below what is left is chance: no variance is negative
    parts = (Part(seed, seeds - 1).over(seeds), Part(own, items - 1).over(items))
    spread = Spread(seed=max(0.0, seed - rest / items), item=own, rest=rest)
    return Interval(mean, parts, seeds, items, spread)


def paired(candidate: Any, control: Any) -> Interval:
    """Of the difference candidate - control, both (seeds, items): same seeds, same test items.

    A side without chance in it, such as nearest neighbours, has one row, compared with each seed.

    >>> candidate = [[3.0, 4.1, 6.0, 3.9], [3.1, 4.0, 6.2, 4.0]]  # two seeds, four items
    >>> control = [[1.0, 2.0, 4.0, 2.1], [1.1, 2.1, 4.0, 2.0]]
    >>> gain = paired(candidate, control)
    >>> round(gain.mean, 2), round(gain.half, 2)
    (2.0, 0.32)
    """
    one, other = _table(candidate), _table(control)
    if one.shape[1] != other.shape[1] or (
        one.shape[0] != other.shape[0] and 1 not in (one.shape[0], other.shape[0])
    ):
        raise ValueError(
            "wanted a candidate and a control of the same seeds and items (or one row), "
            f"given {one.shape} and {other.shape}"
        )
    return interval(one - other)


def interval_of_means(means: Sequence[float], deviation: float, items: int) -> Interval:
    """Where only each seed's mean over the items is known, and the deviation of a single item.

    For a share of right answers `share_deviation` tells the deviation. A difference of two means
    whose items were not kept in pairs takes the deviations of both, squared and added: too wide
    rather than too narrow, since both methods find the same items hard.

    >>> found = interval_of_means([0.81, 0.83, 0.82], share_deviation(0.82), items=2400)
    >>> round(100 * found.mean, 1), round(100 * found.half, 1)  # 82.0 ± 2.7 %
    (82.0, 2.7)
    """
    values = np.asarray(means, dtype=float)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"wanted one finite mean for each seed, given {means!r}")
    if not (math.isfinite(deviation) and deviation > 0) or items < 2:
        raise ValueError(
            "wanted the deviation of an item to be above 0, and at least 2 items, "
            f"given {deviation} and {items}"
        )
    seeds = len(values)
    spread = Spread(seed=float(values.var(ddof=1)) if seeds > 1 else 0.0, item=deviation**2)
    return Interval(float(values.mean()), spread.of_mean(seeds, items), seeds, items, spread)


def interval_of_folds(tables: Sequence[Any]) -> Interval:
    """Of the mean over all items, where every fold of them was tested by networks of its own.

    tables: (seeds, items) of each fold. Networks of two folds have nothing in common, so their
    chances add up like independent ones: with the folds' shares w_k of the items, sum_k w_k^2 Vs /
    seeds_k. How much seeds differ, Vs, is pooled from the folds that have several; where none has,
    the error is that of the items alone.

    >>> first, second = [[0.5, 0.7, 0.6], [0.6, 0.7, 0.5]], [[0.4, 0.8, 0.7]]
    >>> found = interval_of_folds([first, second])
    >>> round(found.mean, 3), found.items, len(found.parts)
    (0.617, 6, 2)
    """
    folds = [_table(table) for table in tables]
    if not folds:
        raise ValueError("wanted one table of scores or more, given none")
    every = np.concatenate([fold.mean(0) for fold in folds])
    items, item = len(every), float(every.var(ddof=1))
    parts = [Part(item, items - 1).over(items)]
    freedom = sum(len(fold) - 1 for fold in folds)
    seed = 0.0
    if freedom:
        squares = sum(float(((f.mean(1) - f.mean()) ** 2).sum()) for f in folds)
        seed = squares / freedom
        share = sum((fold.shape[1] / items) ** 2 / len(fold) for fold in folds)
        parts.insert(0, Part(share * seed, freedom))
    seeds = max(len(fold) for fold in folds)
    return Interval(float(every.mean()), tuple(parts), seeds, items, Spread(seed=seed, item=item))


def share_deviation(*shares: float) -> float:
    """Deviation of one right or wrong answer; of several shares, of their sum or difference.

    >>> share_deviation(0.5), round(share_deviation(0.9), 2)
    (0.5, 0.3)
    """
    if bad := [share for share in shares if not 0 <= share <= 1]:
        raise ValueError(f"wanted shares from 0 to 1, given {bad}")
    return math.sqrt(sum(share * (1 - share) for share in shares))


def visible(spread: Spread, seeds: int, items: int) -> float:
    """The smallest difference that a design sees in four of five tries (two-sided, 5 %).

    >>> spread = Spread(seed=1.0)
    >>> [round(visible(spread, seeds, items=1), 1) for seeds in (3, 5, 20)]
    [3.3, 1.7, 0.7]
    """
    parts = [part for part in spread.of_mean(seeds, items) if part.variance > 0]
    if not parts:
        return 0.0
    # What the parts may be found to be: their chi-squared distributions, at equal steps.
    steps = (np.arange(STEPS) + 0.5) / STEPS
    found = np.meshgrid(
        *(part.variance * stats.chi2.ppf(steps, part.freedom) / part.freedom for part in parts)
    )
    half = _half(found, [part.freedom for part in parts])
    error = math.sqrt(sum(part.variance for part in parts))

    def unseen(shift: float) -> float:
        ends = special.ndtr((half - shift) / error) - special.ndtr((-half - shift) / error)
        return float(ends.mean()) - (1 - POWER)

    return optimize.root_scalar(unseen, bracket=(0.0, 20 * float(half.max()))).root


def verdict(
    *differences: Interval,
    margin: float,
    claim: Literal["better", "close"] = "better",
    scale: Literal["paper", "small"] = "small",
) -> str:
    """One of four words, from the differences to every control (positive: the paper is right).

    "better" claims a gain, and a gain of less than `margin` is not worth the name; "close" claims
    a loss of at most `margin`. A claim holds when it holds against each control, fails when it
    fails against one, and where an interval allows both, this design cannot tell.

    >>> gain = interval_of_means([2.1, 1.9, 2.0], deviation=1.0, items=1000)
    >>> verdict(gain, margin=0.5), verdict(gain, margin=3.0)
    ('reproduced at small scale', 'not reproduced')
    """
    if not differences:
        raise ValueError("wanted the difference to at least one control, given none")
    if not (math.isfinite(margin) and margin > 0):
        raise ValueError(f"wanted a margin above 0, given {margin}")
    for name, given, known in (
        ("claim", claim, ("better", "close")),
        ("scale", scale, ("paper", "small")),
    ):
        if given not in known:
            raise ValueError(f"wanted {name} to be one of {known}, given {given!r}")
    holds, fails = (0.0, margin) if claim == "better" else (-margin, -margin)
    if any(difference.high < fails for difference in differences):
        return NOT_REPRODUCED
    if all(difference.low > holds for difference in differences):
        return REPRODUCED if scale == "paper" else SMALL_SCALE
    return NOT_TESTABLE


def _table(scores: Any) -> np.ndarray:
    table = np.asarray(scores, dtype=float)
    if table.ndim != 2 or table.size < 2:
        raise ValueError(f"wanted two scores or more, of shape (seeds, items), given {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError("wanted finite scores, given NaN or infinity")
    return table


def _digits(half: float) -> int:
    return max(0, 1 - math.floor(math.log10(half))) if half > 0 else 3


def _half(variances: Sequence[Any], freedoms: Sequence[float]) -> Any:
    """Half the width for a sum of variances, each with its own degrees of freedom."""
    bounds = stats.t.ppf((1 + LEVEL) / 2, freedoms)
    total = sum(variances)
    weighted = sum(bound * variance for bound, variance in zip(bounds, variances, strict=True))
    return weighted / np.sqrt(np.maximum(total, np.finfo(float).tiny))
