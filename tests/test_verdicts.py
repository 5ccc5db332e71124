"""The arithmetic of verdicts, against data of known truth.

What each table of scores is drawn from is known here, so that an interval can be counted right or
wrong: of 2,000 experiments without a difference, and of 2,000 with the smallest visible one.
"""

import numpy as np
import pytest
from refusals import INF, NAN, each_raises
from scipy import stats

from archbook.verdicts import (
    NOT_REPRODUCED,
    NOT_TESTABLE,
    REPRODUCED,
    SMALL_SCALE,
    Interval,
    Part,
    Spread,
    interval,
    interval_of_folds,
    interval_of_means,
    paired,
    share_deviation,
    verdict,
    visible,
)

TRIES = 2000
DESIGNS = [  # seeds, items, and where a score's variance lies
    (3, 60, Spread(seed=1.0)),
    (3, 300, Spread(seed=1.0, item=20.0, rest=5.0)),
    (3, 20, Spread(seed=1.0, item=1.0, rest=1.0)),
    (3, 60, Spread(item=1.0, rest=1.0)),
    (5, 300, Spread(seed=0.01, item=1.0, rest=1.0)),
    (5, 60, Spread(seed=1.0, item=60.0, rest=60.0)),
]


def scores(draw: np.random.Generator, seeds: int, items: int, spread: Spread) -> np.ndarray:
    by_seed = draw.normal(0, spread.seed**0.5, (seeds, 1))
    by_item = draw.normal(0, spread.item**0.5, (1, items))
    return by_seed + by_item + draw.normal(0, spread.rest**0.5, (seeds, items))


def away(found: Interval, shift: float = 0.0) -> bool:
    """Whether the same data, moved by `shift`, would be called a difference."""
    return found.low + shift > 0 or found.high + shift < 0


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_of_2000_null_experiments_at_most_6_percent_are_a_difference_and_77_see_the_visible_one(
    design,
):
    draw = np.random.default_rng(0)
    found = [interval(scores(draw, *design)) for _ in range(TRIES)]
    seeds, items, spread = design
    shift = visible(spread, seeds, items)
    assert np.mean([away(one) for one in found]) <= 0.06
    assert np.mean([away(one, shift) for one in found]) >= 0.77


@pytest.mark.slow
def test_an_error_of_the_seeds_alone_calls_more_than_a_third_of_nothing_a_difference():
    draw = np.random.default_rng(0)
    tables = [scores(draw, 5, 300, Spread(seed=0.01, item=20.0, rest=1.0)) for _ in range(500)]
    assert np.mean([away(interval(table.mean(1, keepdims=True))) for table in tables]) > 0.33
    assert np.mean([away(interval(table)) for table in tables]) <= 0.07


@pytest.mark.slow
def test_two_networks_equally_often_right_differ_in_at_most_6_percent_of_experiments():
    """Accuracy: hard images are hard for both, each seed is a little better or worse."""
    draw = np.random.default_rng(0)
    in_pairs, in_means = [], []
    for _ in range(TRIES):
        easy = draw.normal(2.0, 1.0, 400)  # logit of an image
        skill = draw.normal(0.0, 0.2, (2, 3, 1))  # of a network and seed
        right = draw.random((2, 3, 400)) < 1 / (1 + np.exp(-easy - skill))
        in_pairs.append(away(paired(*right)))
        gap = right[0].mean(1) - right[1].mean(1)
        deviation = share_deviation(right[0].mean(), right[1].mean())
        in_means.append(away(interval_of_means(gap, deviation, 400)))
    assert 0.01 < np.mean(in_pairs) <= 0.06
    assert np.mean(in_means) <= np.mean(in_pairs)  # what was not kept in pairs costs power


@pytest.mark.slow
@pytest.mark.parametrize("spread", [Spread(seed=0.0, item=1.0), Spread(seed=0.004, item=0.5)])
def test_of_2000_null_experiments_in_folds_at_most_6_percent_are_a_difference(spread):
    """Three folds of other sizes; of one fold three seeds, of the others one, as for RNA."""
    draw = np.random.default_rng(0)
    found = [
        interval_of_folds(
            [scores(draw, seeds, items, spread) for seeds, items in ((3, 120), (1, 100), (1, 140))]
        )
        for _ in range(TRIES)
    ]
    assert np.mean([away(one) for one in found]) <= 0.06


def test_one_fold_is_the_mean_over_its_items_and_more_folds_weigh_by_theirs():
    draw = np.random.default_rng(0)
    first, second = draw.normal(size=(3, 30)), draw.normal(size=(1, 90))
    assert interval_of_folds([second]) == interval(second)
    alone = interval_of_folds([first])
    assert alone.mean == pytest.approx(interval(first).mean)
    assert alone.parts[0].variance == pytest.approx(interval(first).parts[0].variance)
    both = interval_of_folds([first, second])
    assert both.mean == pytest.approx((30 * first.mean() + 90 * second.mean()) / 120)
    seed = first.mean(1).var(ddof=1)
    assert both.parts[0].variance == pytest.approx(seed * (0.25**2 / 3 + 0.75**2))
    assert both.parts[0].freedom == 2
    assert len(interval_of_folds([second, second]).parts) == 1  # nobody knows how seeds differ


def test_with_one_item_the_interval_is_the_t_test_s_over_seeds():
    values = np.random.default_rng(0).normal(size=(5, 1))
    found, wanted = interval(values), stats.ttest_1samp(values[:, 0], 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_with_one_row_the_interval_is_the_t_test_s_over_items():
    values = np.random.default_rng(0).normal(size=(1, 30))
    found, wanted = interval(values), stats.ttest_1samp(values[0], 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_the_spread_is_that_of_the_mean_squares_worked_out_by_hand():
    found = interval([[1.0, 3.0, 5.0], [3.0, 5.0, 10.0]])
    # means of rows 3, 6; of columns 2, 4, 7.5; left over ±1/2, ±1/2, ±1
    assert found.mean == 4.5
    assert found.spread.rest == pytest.approx(2 * (0.25 + 0.25 + 1.0) / 2)
    assert found.spread.seed == pytest.approx(4.5 - 1.5 / 3)
    assert found.spread.item == pytest.approx(7.75 - 1.5 / 2)
    assert found.error == pytest.approx((4.5 / 2 + 7.0 / 3) ** 0.5)


def test_spreads_are_found_again_in_a_large_table():
    found = interval(scores(np.random.default_rng(0), 400, 500, Spread(2.0, 3.0, 5.0))).spread
    assert (found.seed, found.item, found.rest) == pytest.approx((2.0, 3.0, 5.0), rel=0.15)


def test_a_control_without_chance_is_compared_with_every_seed():
    draw = np.random.default_rng(0)
    candidate, control = draw.normal(size=(3, 20)), draw.normal(size=(1, 20))
    assert paired(candidate, control) == paired(candidate, control.repeat(3, 0))


def test_pairing_takes_out_what_both_sides_share():
    draw = np.random.default_rng(0)
    hard = draw.normal(0, 10, (1, 50))  # some items are hard for all
    one, other = hard + draw.normal(size=(3, 50)), hard + draw.normal(size=(3, 50))
    assert paired(one, other).half < interval(one).half / 5


@pytest.mark.parametrize("seeds", [2, 3, 5, 30])
def test_the_visible_difference_is_seen_in_four_of_five_tries(seeds):
    """Against the power of the t test, integrated over the error's own distribution."""
    shift = visible(Spread(seed=1.0), seeds, 1) * seeds**0.5
    steps = (np.arange(100_000) + 0.5) / 100_000
    error = np.sqrt(stats.chi2.ppf(steps, seeds - 1) / (seeds - 1))
    bound = stats.t.ppf(0.975, seeds - 1) * error
    missed = stats.norm.cdf(bound - shift) - stats.norm.cdf(-bound - shift)
    assert missed.mean() == pytest.approx(0.2, abs=1e-3)


def test_more_seeds_help_only_as_far_as_the_items_let_them():
    spread = Spread(seed=1.0, item=100.0)
    few, many = visible(spread, 3, 100), visible(spread, 10_000, 100)
    assert few > many > 2.8 * (100.0 / 100) ** 0.5  # 1.96 + 0.84 standard errors of the items


def test_without_variance_any_difference_is_visible():
    assert visible(Spread(), 3, 10) == 0.0
    assert interval([[2.0, 2.0], [2.0, 2.0]]).half == 0.0


def between(low: float, high: float) -> Interval:
    middle, bound = (low + high) / 2, stats.norm.ppf(0.975)
    part = Part(((high - low) / 2 / bound) ** 2, 1e9)
    return Interval(middle, (part,), 1, 10, Spread())


@pytest.mark.parametrize(
    ("low", "high", "better", "close"),
    [
        (0.5, 1.5, SMALL_SCALE, SMALL_SCALE),
        (1.5, 2.5, SMALL_SCALE, SMALL_SCALE),
        (0.1, 0.9, NOT_REPRODUCED, SMALL_SCALE),  # a gain, too small to be worth the name
        (-0.5, 0.5, NOT_REPRODUCED, SMALL_SCALE),
        (-0.5, 1.5, NOT_TESTABLE, SMALL_SCALE),
        (-1.5, 0.5, NOT_REPRODUCED, NOT_TESTABLE),
        (-1.5, 1.5, NOT_TESTABLE, NOT_TESTABLE),
        (-2.5, -1.5, NOT_REPRODUCED, NOT_REPRODUCED),
    ],
)
def test_the_word_for_an_interval_and_a_margin_of_one(low, high, better, close):
    assert verdict(between(low, high), margin=1.0) == better
    assert verdict(between(low, high), margin=1.0, claim="close") == close


def test_a_claim_holds_only_against_every_control():
    strong, weak, unsure = between(0.5, 1.5), between(-2.0, -1.0), between(-2.0, 2.0)
    assert verdict(strong, strong, margin=1.0, scale="paper") == REPRODUCED
    assert verdict(strong, unsure, margin=1.0) == NOT_TESTABLE
    assert verdict(strong, unsure, weak, margin=1.0) == NOT_REPRODUCED


@pytest.mark.parametrize(
    ("low", "high", "said", "how"),
    [
        (0.099, 0.161, "0.130 ± 0.031", {}),
        (0.099, 0.161, "+0.130 ± 0.031", {"signed": True}),
        (-0.161, -0.099, "−13.0 ± 3.1", {"scale": 100}),
        (98.0, 98.4, "98.20 ± 0.20", {}),
        (98.0, 98.4, "98.2 ± 0.2", {"digits": 1}),
        (11_000.0, 13_000.0, "12,000 ± 1,000", {}),
    ],
)
def test_a_table_shows_the_digits_that_the_error_leaves(low, high, said, how):
    assert between(low, high).text(**how).replace("\N{NO-BREAK SPACE}", " ") == said


one = between(0.0, 1.0)
test_no_verdict_comes_from = each_raises(
    [
        (lambda: interval([1.0, 2.0]), ValueError, r"\(seeds, items\), given \(2,\)"),
        (lambda: interval([[1.0]]), ValueError, r"two scores or more.*given \(1, 1\)"),
        (lambda: interval([[1.0, NAN]]), ValueError, "wanted finite scores, given NaN"),
        (
            lambda: paired(np.ones((3, 4)), np.ones((3, 5))),
            ValueError,
            r"same seeds and items.*given \(3, 4\) and \(3, 5\)",
        ),
        (
            lambda: paired(np.ones((3, 4)), np.ones((2, 4))),
            ValueError,
            r"given \(3, 4\) and \(2, 4\)",
        ),
        (lambda: interval_of_folds([]), ValueError, "one table of scores or more, given none"),
        (lambda: interval_of_means([], 1.0, 10), ValueError, "one finite mean for each seed"),
        (lambda: interval_of_means([INF], 1.0, 10), ValueError, "one finite mean for each seed"),
        (lambda: interval_of_means([1.0], 0.0, 10), ValueError, "above 0, .* given 0.0 and 10"),
        (lambda: interval_of_means([1.0], 1.0, 1), ValueError, "at least 2 items, given 1.0 and 1"),
        (lambda: share_deviation(0.5, 1.5), ValueError, r"shares from 0 to 1, given \[1.5\]"),
        (lambda: Spread(seed=-1.0), ValueError, "variance seed to be at least 0, given -1.0"),
        (lambda: visible(Spread(1.0), 0, 5), ValueError, "seeds to be a whole number.*given 0"),
        (lambda: visible(Spread(1.0), 3, 2.5), ValueError, "items to be a whole number.*given 2.5"),
        (lambda: visible(Spread(1.0), 1, 1), ValueError, "more than one seed or more than one"),
        (lambda: verdict(margin=1.0), ValueError, "at least one control, given none"),
        (lambda: verdict(one, margin=0.0), ValueError, "margin above 0, given 0.0"),
        (lambda: verdict(one, margin=1.0, claim="best"), ValueError, "claim to be one of"),
        (lambda: verdict(one, margin=1.0, scale="tiny"), ValueError, "scale to be one of"),
    ]
)
