"""Two variants of a results file, set against each other in one line."""

import numpy as np
import pytest
from refusals import each_raises

from archbook.comparisons import Score, lead
from archbook.verdicts import interval, interval_of_means, paired, share_deviation


def file(**metrics: dict) -> dict:
    """Results of variants, each {metric: value of each seed}."""
    return {
        "runs": [
            {"variant": name, "seed": seed, "metrics": {k: v[seed] for k, v in values.items()}}
            for name, values in metrics.items()
            for seed in range(len(next(iter(values.values()))))
        ]
    }


RESULTS = file(
    new={"mse": [1.0, 2.0, 4.0], "right": [90.0, 92.0, 91.0], "se": [0.3, 0.4, 0.5]},
    old={"mse": [2.0, 2.5, 5.5], "right": [88.0, 89.0, 90.0], "se": [0.4, 0.3, 0.4]},
    once={"mse": [3.0], "right": [50.0], "se": [0.1]},
    perfect={"mse": [0.0] * 3, "right": [100.0] * 3, "se": [0.0] * 3},
)
MSE, RIGHT = Score("mse", lower=True), Score("right", items=500, share_of=100.0)


def test_less_of_an_error_is_a_lead_and_seeds_are_paired():
    found = lead(RESULTS, "new", "old", MSE)
    assert found == interval(np.array([[1.0], [0.5], [1.5]]))


def test_shares_of_right_answers_bring_the_test_set_in():
    found = lead(RESULTS, "new", "old", RIGHT)
    deviation = 100 * share_deviation(0.91, 0.89)
    assert found == interval_of_means([2.0, 3.0, 1.0], deviation, 500)
    assert found.error > lead(RESULTS, "new", "old", Score("right")).error  # the broken twin


def test_a_published_number_has_no_spread_of_its_own():
    found = lead(RESULTS, "new", 90.0, RIGHT)
    assert found == interval_of_means([0.0, 2.0, 1.0], 100 * share_deviation(0.91), 500)


def test_kept_standard_errors_are_those_of_both():
    found = lead(RESULTS, "new", "old", Score("mse", error="se", items=40))
    squares = (0.09 + 0.16 + 0.25) / 3 + (0.16 + 0.09 + 0.16) / 3
    assert found.spread.item == pytest.approx(40 * squares)
    assert found.mean == pytest.approx(-1.0)


def test_every_items_score_is_compared_with_its_own():
    results = file(
        new={"each": [[1.0, 2.0, 0.0], [3.0, 4.0, 1.0]]},
        old={"each": [[0.0, 2.0, 1.0], [3.0, 1.0, 1.0]]},
    )
    one, other = (
        np.array([r["metrics"]["each"] for r in runs])
        for runs in (results["runs"][:2], results["runs"][2:])
    )
    assert lead(results, "new", "old", Score("", each="each")) == paired(one, other)


def test_one_run_stands_against_every_seed_only_where_it_has_no_chance_in_it():
    assert lead(RESULTS, "new", "once", MSE, fixed=True).seeds == 3
    assert lead(RESULTS, "new", "once", RIGHT).seeds == 1  # one pair: the items alone


def test_a_unit_scales_mean_and_error():
    found = lead(RESULTS, "new", "old", RIGHT, scale=10)
    plain = lead(RESULTS, "new", "old", RIGHT)
    assert (found.mean, found.half) == pytest.approx((10 * plain.mean, 10 * plain.half))


def test_errors_over_orders_of_magnitude_are_compared_as_factors():
    results = file(new={"mse": [1e-4, 2e-4]}, old={"mse": [4e-3, 8e-3]})
    found = lead(results, "new", "old", Score("mse", lower=True, factor=True))
    assert found.factor() == "40 [40, 40]"
    wider = lead(RESULTS, "new", "old", Score("mse", lower=True, factor=True))
    ends = np.exp((wider.low, wider.high))
    assert wider.factor() == f"{np.exp(wider.mean):.2g} [{ends[0]:.2g}, {ends[1]:.2g}]"
    assert ends[0] < 1 < ends[1]
    far = file(new={"mse": [1e-4, 2e-4]}, old={"mse": [0.4, 0.8]})
    found = lead(far, "new", "old", Score("mse", lower=True, factor=True))
    assert found.factor() == "4,000 [4,000, 4,000]"


def test_a_perfect_score_is_no_sure_one():
    assert lead(RESULTS, "perfect", 100.0, RIGHT).half > 0


def test_a_cell_says_the_smallest_visible_difference():
    found = lead(RESULTS, "new", "old", MSE)
    assert found.cell() == f"+1.0\u00a0±\u00a01.2 ({found.visible:.1f})"
    assert found.cell(2) == f"+1.00\u00a0±\u00a01.24 ({found.visible:.2f})"


test_refused_are = each_raises(
    [
        (lambda: Score("right", items=500), ValueError, "wanted items with share_of"),
        (lambda: Score("right", share_of=100.0), ValueError, "given items 1 and"),
        (lambda: Score("a", factor=True, each="b"), ValueError, "wanted factor alone"),
        (lambda: Score("a", each="b", error="c", items=3), ValueError, "given items 3 and"),
        (lambda: lead(RESULTS, "new", "none", MSE), ValueError, "wanted one of the variants"),
        (
            lambda: lead(RESULTS, "new", "old", Score("mae")),
            ValueError,
            "one of the scalar metrics",
        ),
        (lambda: lead(RESULTS, "new", "old", MSE, fixed=True), ValueError, "given 3"),
        (lambda: lead(RESULTS, "new", 1.0, Score("", each="e")), ValueError, "given a number"),
        (lambda: lead(RESULTS, "new", "once", MSE), ValueError, "wanted two scores or more"),
        (
            lambda: lead(
                {"runs": [*RESULTS["runs"][:1], *RESULTS["runs"][4:5]]}, "new", "old", MSE
            ),
            ValueError,
            "wanted a seed that both have",
        ),
    ]
)
