"""Results files: written whole or not at all, checked, summarised."""

import copy
import json
import math
import os
import sys

import pytest

from archbook.running import (
    check_results,
    environment,
    read_results,
    results_path,
    summarise,
    write_json,
)
from archbook.running.results import check_environment


@pytest.fixture
def results():
    run = {"variant": "lmu", "config": {"order": 8}, "seconds": 1.5, "environment": environment()}
    runs = [
        {**run, "seed": seed, "metrics": {"accuracy": value, "curve": [1.0, value]}}
        for seed, value in enumerate([1.0, 2.0, 6.0])
    ]
    return {"experiment": "lmu/psmnist", "size": "full", "runs": runs}


def test_what_is_written_is_read_back(tmp_path):
    value = {"a": [1, 2.5, None], "b": {"c": "π [\n 1,\n 2]", "d": True}, "e": [], "f": [[1], [2]]}
    write_json(tmp_path / "deep" / "x.json", value)
    assert json.loads((tmp_path / "deep" / "x.json").read_text()) == value


def test_a_list_of_numbers_takes_one_line(tmp_path):
    write_json(tmp_path / "x.json", {"curve": list(range(1000))})
    assert len((tmp_path / "x.json").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("value", "error", "place"),
    [
        ({"a": [1.0, math.nan]}, ValueError, r"a\[1\]: wanted a finite number"),
        ({"a": math.inf}, ValueError, "a: wanted a finite number"),
        ({"a": {1, 2}}, TypeError, "a: wanted a number.*given set"),
        ({1: "a"}, TypeError, "wanted text as key, given 1"),
    ],
)
def test_what_json_cannot_hold_is_refused_and_its_place_is_named(tmp_path, value, error, place):
    with pytest.raises(error, match=place):
        write_json(tmp_path / "x.json", value)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_while_writing_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_a_results_file(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    assert (tmp_path / "x.json").stat().st_mode & 0o777 == 0o644


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
        (lambda r: r.pop("size"), "no 'size'"),
        (lambda r: r.update(runs=[]), "no 'runs'"),
        (lambda r: r["runs"][0].pop("seconds"), "run 0: no ['seconds']"),
        (lambda r: r["runs"][0].update(config={}), "config is empty"),
        (lambda r: r["runs"][0].update(metrics={}), "no metrics"),
        (lambda r: r["runs"][0].update(seconds=0), "wanted seconds > 0"),
        (lambda r: r["runs"][0]["metrics"].update(accuracy=math.nan), "finite"),
        (lambda r: r["runs"][0]["environment"].pop("torch"), "lacks ['torch']"),
        (lambda r: r["runs"][0].update(environment=None), "not a dict"),
        (lambda r: r["runs"][1].update(seed=0), "twice"),
    ],
)
def test_each_fault_of_a_results_file_is_told(results, change, fault):
    results = copy.deepcopy(results)
    change(results)
    assert fault in "; ".join(check_results(results))


def test_results_that_are_no_dict_are_a_fault():
    assert check_results([]) == ["wanted a dict, given list"]


def test_results_of_other_settings_than_the_codes_are_told(results):
    wanted = {("lmu", 0): {"order": 9}, ("lmu", 1): {"order": 8}, ("mlp", 0): {"order": 8}}
    faults = check_results(results, wanted)
    assert len(faults) == 3
    assert "no run of ('mlp', 0)" in faults
    assert "('lmu', 2) is no cell of the experiment" in faults
    assert "now {'order': 9}, the file's is {'order': 8}" in faults[2]


def test_an_environment_of_this_machine_is_complete():
    assert check_environment(environment()) == []
