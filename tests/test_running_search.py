"""The search of settings: equal care for each candidate, and what forbids a run to judge."""

import dataclasses
from dataclasses import dataclass

from refusals import each_raises

from archbook.running import Search, grid, still_improving


@dataclass(frozen=True)
class Config:
    rate: float = 1.0
    epochs: int = 50


FULL = {"lmu": Config(), "small": Config(epochs=40), "lstm": Config(), "mean": Config(0.0)}
SEARCH = Search(
    "valid",
    "lowest",
    trials={"lmu": grid(rate=(1.0, 2.0)), "lstm": grid(rate=(3.0, 4.0))},
    like={"small": "lmu"},
    untrained=("mean",),
    short={"epochs": 5},
)
BEST = {"lmu+1": 0.3, "lmu+2": 0.2, "lstm+1": 0.1, "lstm+2": 0.4}


def found(scores=BEST, search=SEARCH, seeds=(1000,)) -> dict:
    """The results of the search with these scores, each with every seed."""
    runs = [
        {
            "variant": name,
            "seed": seed,
            "config": dataclasses.asdict(search.cells(FULL)[name]),
            "metrics": {"valid": score + 0.01 * (seed - 1000)},
        }
        for name, score in scores.items()
        for seed in seeds
    ]
    return {"runs": runs}


def run(variant="lmu", curve=(3.0, 2.0, 1.0, *[1.5] * 7), seed=0) -> dict:
    return {"variant": variant, "seed": seed, "metrics": {"curve_valid": list(curve)}}


def test_a_grid_is_every_combination():
    assert grid(a=(1, 2), b=(3,)) == [{"a": 1, "b": 3}, {"a": 2, "b": 3}]


def test_every_trial_is_a_cell_in_the_short_form():
    cells = SEARCH.cells(FULL)
    assert cells["lstm+2"] == Config(4.0, 5)
    assert list(cells) == ["lmu+1", "lmu+2", "lstm+1", "lstm+2"]


def test_each_candidate_takes_its_own_best_and_an_ablation_its_candidate_s():
    settled = SEARCH.settled(FULL, found())
    assert settled == {
        "lmu": Config(2.0),
        "small": Config(2.0, 40),
        "lstm": Config(3.0),
        "mean": Config(0.0),
    }


def test_where_high_is_good_the_highest_is_taken():
    highest = dataclasses.replace(SEARCH, best="highest")
    assert highest.settled(FULL, found())["lmu"] == Config(1.0)


def test_several_seeds_of_a_search_count_by_their_mean():
    runs = found(seeds=(1000, 1001))
    runs["runs"][0]["metrics"]["valid"] = -9.0  # one lucky seed, and one that outweighs it
    runs["runs"][1]["metrics"]["valid"] = 99.0
    assert SEARCH.settled(FULL, runs)["lmu"] == Config(2.0)


def test_a_run_whose_best_point_lies_before_the_last_tenth_may_judge():
    assert SEARCH.faults({"runs": [run(), run("small"), run("lstm")]}) == []


def test_a_run_that_was_still_falling_may_not():
    falling = run("lstm", curve=[3.0 - k / 10 for k in range(20)], seed=2)
    assert SEARCH.faults({"runs": [run(), falling]}) == [
        "lstm seed 2: its best point is among the last tenth of its curve"
    ]


def test_unless_a_reason_is_stated():
    reason = dataclasses.replace(SEARCH, late={"lmu": "the rate ends at zero"})
    assert reason.faults({"runs": [run(curve=[2.0, 1.0])]}) == []


def test_a_reason_that_no_run_needs_is_a_fault():
    reason = dataclasses.replace(SEARCH, late={"lmu": "the rate ends at zero"})
    assert reason.faults({"runs": [run()]}) == ["lmu: a reason in late, but no such run"]


def test_a_run_without_its_curve_may_not_judge():
    bare = {"variant": "lstm", "seed": 0, "metrics": {"valid": 0.1}}
    assert SEARCH.faults({"runs": [bare]}) == ["lstm seed 0: no curve_valid"]


def test_what_is_not_trained_has_no_curve():
    assert SEARCH.faults({"runs": [{"variant": "mean", "seed": 0, "metrics": {}}]}) == []


def test_runs_that_were_still_improving_are_counted_for_all_variants_or_for_some():
    results = {
        "runs": [
            run("small"),
            run("lstm", curve=[3.0, 2.0, 1.0]),
            run("lstm", curve=[3.0, 2.0, 1.0], seed=1),
            {"variant": "mean", "seed": 0, "metrics": {}},  # not trained
        ]
    }
    assert still_improving(results, "valid", "lowest") == (2, 3)
    assert still_improving(results, "valid", "lowest", ["small", "mean"]) == (0, 1)
    assert still_improving(results, "valid", "highest", ["lstm"]) == (0, 2)


def searching(**changes) -> Search:
    return dataclasses.replace(SEARCH, **changes)


test_no_search_is_declared_with = each_raises(
    [
        (lambda: searching(best="least"), ValueError, "lowest or highest, given 'least'"),
        (lambda: searching(trials={}), ValueError, "at least two trials.*given none"),
        (lambda: searching(trials={"lmu": grid(rate=(1.0,))}), ValueError, "two trials.*'lmu': 1"),
        (
            lambda: searching(trials=SEARCH.trials | {"lstm": grid(rate=(1.0, 2.0, 3.0))}),
            ValueError,
            "as many for each candidate, given {'lmu': 2, 'lstm': 3}",
        ),
        (lambda: searching(like={"small": "gru"}), ValueError, r"candidates of trials.*\['gru'\]"),
        (
            lambda: still_improving({"runs": [run()]}, "valid", "lowest", ["gru"]),
            ValueError,
            r"runs of \['gru'\] with curve_valid, given none",
        ),
        (lambda: searching(like={}).cells(FULL), ValueError, "variant of size full once in trials"),
        (lambda: searching(untrained=("mean", "lmu")).cells(FULL), ValueError, "once in trials"),
    ]
)


def other(**changes) -> dict:
    runs = found()
    runs["runs"][0] |= changes
    return runs


test_no_setting_is_taken_from = each_raises(
    [
        (
            lambda: SEARCH.settled(FULL, found({k: BEST[k] for k in list(BEST)[1:]})),
            ValueError,
            r"run --size search again: missing, or of other settings, are \['lmu\+1'\]",
        ),
        (
            lambda: SEARCH.settled(FULL, other(config={"rate": 9.0, "epochs": 5})),
            ValueError,
            r"of other settings, are \['lmu\+1'\]",
        ),
        (
            lambda: SEARCH.settled(FULL, other(variant="gru+1")),
            ValueError,
            r"are \['gru\+1', 'lmu\+1'\]",
        ),
    ]
)
