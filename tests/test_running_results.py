"""Results files: found by name, checked, summarised."""

import copy
import math
import sys

import pytest

from archbook.files import write_json
from archbook.running import (
    check_results,
    environment,
    read_results,
    summarise,
)
from archbook.running.results import results_path


@pytest.fixture
def results():
    run = {"variant": "lmu", "config": {"order": 8}, "seconds": 1.5, "environment": environment()}
    runs = [
        {**run, "seed": seed, "metrics": {"accuracy": value, "curve": [1.0, value]}}
        for seed, value in enumerate([1.0, 2.0, 6.0])
    ]
    return {"experiment": "lmu/psmnist", "size": "full", "runs": runs}


def test_results_lie_in_the_checkout_and_in_a_wheel_beside_the_code(monkeypatch, tmp_path):
    module = sys.modules["archbook.running.results"]
    monkeypatch.setattr(module, "repository_root", lambda: tmp_path)
    assert results_path("lmu", "bench") == tmp_path / "results" / "lmu" / "bench.json"
    monkeypatch.setattr(module, "repository_root", lambda: None)
    packed = results_path("lmu", "psmnist.paper")
    assert packed.parts[-4:] == ("archbook", "_results", "lmu", "psmnist.paper.json")


def test_results_are_read_by_name(monkeypatch, tmp_path):
    monkeypatch.setattr(
        sys.modules["archbook.running.results"], "repository_root", lambda: tmp_path
    )
    write_json(results_path("toy", "a"), {"x": 1})
    assert read_results("toy", "a") == {"x": 1}
    with pytest.raises(FileNotFoundError, match=r"wanted results toy/b, there are \['a'\]"):
        read_results("toy", "b")


def test_a_summary_is_mean_sample_deviation_and_number(results):
    mean, deviation, number = summarise(results, "lmu", "accuracy")
    assert (mean, number) == (3.0, 3)
    assert deviation == pytest.approx(math.sqrt(7.0))  # (4 + 1 + 9) / 2


def test_a_single_seed_has_no_deviation(results):
    results["runs"] = results["runs"][:1]
    mean, deviation, number = summarise(results, "lmu", "accuracy")
    assert (mean, number) == (1.0, 1)
    assert math.isnan(deviation)


@pytest.mark.parametrize(
    ("variant", "metric", "message"),
    [
        ("mlp", "accuracy", r"one of the variants \['lmu'\]"),
        ("lmu", "loss", r"one of the scalar metrics \['accuracy'\]"),
        ("lmu", "curve", r"one of the scalar metrics \['accuracy'\]"),
    ],
)
def test_a_summary_of_what_is_not_there_is_refused(results, variant, metric, message):
    with pytest.raises(ValueError, match=message):
        summarise(results, variant, metric)


def test_complete_results_have_no_fault(results):
    wanted = {("lmu", seed): {"order": 8} for seed in range(3)}
    assert check_results(results) == []
    assert check_results(results, wanted) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda r: r.pop("size"), ": 'size' is a required property"),
        (lambda r: r.update(size="small"), ".size: 'small' is not one of"),
        (lambda r: r.update(experiment="psmnist"), ".experiment: 'psmnist' does not match"),
        (lambda r: r.update(runs=[]), ".runs: [] should be non-empty"),
        (lambda r: r["runs"][0].pop("seconds"), ".runs[0]: 'seconds' is a required property"),
        (lambda r: r["runs"][0].update(seed=True), ".runs[0].seed: True is not of type 'integer'"),
        (lambda r: r["runs"][0].update(config={}), ".runs[0].config: {} should be non-empty"),
        (lambda r: r["runs"][2].update(metrics={}), ".runs[2].metrics: {} should be non-empty"),
        (lambda r: r["runs"][0].update(seconds=0), ".runs[0].seconds: 0 is less than or equal"),
        (lambda r: r["runs"][1]["metrics"].update(accuracy=math.nan), "[1].metrics.accuracy: want"),
        (lambda r: r["runs"][0]["environment"].pop("torch"), ".environment: 'torch' is a required"),
        (lambda r: r["runs"][0].update(environment=None), ".environment: None is not of type"),
        (lambda r: r["runs"][1].update(seed=0), ".runs[1]: ('lmu', 0) is there twice"),
    ],
)
def test_each_fault_of_a_results_file_is_told_with_file_and_place(results, change, fault):
    results = copy.deepcopy(results)
    change(results)
    told, *_ = check_results(results, where="psmnist.json")
    assert told.startswith("psmnist.json")
    assert fault in told


def test_results_that_are_no_dict_are_a_fault():
    assert check_results([]) == ["results: [] is not of type 'object'"]


def test_results_of_other_settings_than_the_codes_are_told(results):
    wanted = {("lmu", 0): {"order": 9}, ("lmu", 1): {"order": 8}, ("mlp", 0): {"order": 8}}
    faults = check_results(results, wanted)
    assert len(faults) == 3
    assert "results: no run of ('mlp', 0)" in faults
    assert "results: ('lmu', 2) is no cell of the experiment" in faults
    assert "now {'order': 9}, the file's is {'order': 8}" in faults[2]
