"""The runner: from a command line to finished cells and a results file."""

import dataclasses
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from archbook.files import write_json
from archbook.running import Search, check_results, grid, main, wanted_cells
from archbook.running.cells import Cell, Place


@dataclass(frozen=True)
class Config:
    order: int = 4  # an order
    widths: tuple[int, ...] = (1, 2)  # some widths

    def __post_init__(self):
        if self.order < 1:
            raise ValueError(f"wanted order >= 1, given {self.order}")


SIZES = {
    "tiny": {"lmu": Config(order=1), "mlp": Config(order=2)},
    "full": {"lmu": Config(), "mlp": Config(order=5)},
    "paper": {"lmu": Config(order=8)},
}
SEEDS = {"mlp": (0,)}


@dataclass
class Experiment:
    """A toy experiment in a repository of its own; notes every cell that was trained."""

    root: Path
    trained: list = field(default_factory=list)

    def train(self, config, run):
        self.trained.append((config.order, run.seed))
        drawn = [torch.rand(()).item() for _ in run.steps(2, "fit")]
        return {"drawn": drawn, "order": float(config.order)}

    def __call__(self, options="", sizes=SIZES, seeds=SEEDS, train=None, search=None):
        self.trained.clear()
        file = self.root / "experiments" / "toy" / "line.py"
        known = dict(seeds=seeds, search=search)
        main(str(file), sizes, train or self.train, **known, argv=options.split())
        return list(self.trained)

    def read(self, path):
        return json.loads((self.root / path).read_text())


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "experiments" / "toy" / "line.py")])
    return Experiment(tmp_path)


def test_a_full_run_writes_complete_results(experiment, capsys):
    assert experiment("--size full") == [(4, 0), (5, 0), (4, 1), (4, 2)]  # seed by seed
    results = experiment.read("results/toy/line.json")
    assert check_results(results, wanted_cells(SIZES, "full", SEEDS)) == []
    assert (results["experiment"], results["size"]) == ("toy/line", "full")
    assert results["runs"][0]["environment"]["command"] == "python experiments/toy/line.py"
    said = capsys.readouterr().out
    assert "[1/4] toy/line full lmu seed 0: started at" in said
    assert "order 4" in said
    assert "results: results/toy/line.json" in said


def test_a_finished_cell_is_not_run_again(experiment):
    assert len(experiment("--size full")) == 4
    assert experiment("--size full") == []


def test_the_committed_results_alone_spare_a_run(experiment):
    experiment("--size full")
    for file in experiment.root.glob(".runs/toy/line.full/*.json"):
        file.unlink()
    assert experiment("--size full") == []


def test_again_runs_finished_cells_anew(experiment):
    first = experiment("--size full --variants mlp")
    assert experiment("--size full --variants mlp --again") == first == [(5, 0)]


def test_the_newest_run_of_a_cell_counts(experiment):
    experiment("--size paper")
    results = experiment.read("results/toy/line.paper.json")
    results["runs"][0]["environment"]["date"] = "2999-01-01T00:00:00+00:00"
    write_json(experiment.root / "results/toy/line.paper.json", results)
    experiment("--size paper")
    assert experiment.read("results/toy/line.paper.json") == results


def test_a_changed_configuration_is_run_again_and_the_others_are_not(experiment):
    experiment("--size full")
    changed = {"full": {"lmu": Config(), "mlp": Config(order=6)}}
    assert experiment("--size full", sizes=changed) == [(6, 0)]
    results = experiment.read("results/toy/line.json")
    assert check_results(results, wanted_cells(changed, "full", SEEDS)) == []


def test_the_same_seed_gives_the_same_numbers(experiment):
    experiment("--size full --variants lmu --seeds 1")
    first = experiment.read(".runs/toy/line.full/lmu-1.json")["metrics"]
    torch.rand(5)
    experiment("--size full --variants lmu --seeds 1 --again")
    assert experiment.read(".runs/toy/line.full/lmu-1.json")["metrics"] == first


def test_unfinished_results_are_not_written(experiment, capsys):
    experiment("--size full --variants lmu --seeds 0 1")
    assert not (experiment.root / "results").exists()
    assert "2 cells are missing (lmu-2, mlp-0)" in capsys.readouterr().out


def test_tiny_results_stay_out_of_the_committed_folder(experiment):
    assert experiment() == [(1, 0), (2, 0)]
    assert not (experiment.root / "results").exists()
    assert len(experiment.read(".runs/toy/line.tiny/results.json")["runs"]) == 2


def test_paper_results_have_a_file_and_one_seed_of_their_own(experiment):
    assert experiment("--size paper") == [(8, 0)]
    assert experiment.read("results/toy/line.paper.json")["size"] == "paper"


def test_a_changed_setting_makes_a_run_kept_apart(experiment):
    options = "--size full --variants lmu --seeds 3 --order 9 --widths 3 4"
    assert experiment(options) == [(9, 3)]
    assert not (experiment.root / "results").exists()
    results = experiment.read(".runs/toy/line.full,order=9,widths=_3_4_/results.json")
    assert results["runs"][0]["config"] == {"order": 9, "widths": [3, 4]}


def test_the_folder_of_many_changes_has_a_name_of_bounded_length(tmp_path):
    file = str(tmp_path / "experiments" / "toy" / "line.py")
    first = Place.of(file, "full", {"widths": tuple(range(100))})
    second = Place.of(file, "full", {"widths": tuple(range(101))})
    assert len(first.folder.name) < 120
    assert first.folder != second.folder


def test_a_cell_that_another_process_works_on_is_left_to_it(experiment, capsys):
    place = Place.of(str(experiment.root / "experiments/toy/line.py"), "full", {})
    cell = Cell(place, "mlp", 0, config=Config(order=5), settings={})
    with cell.claim() as ours:
        assert ours
        assert experiment("--size full --seeds 0") == [(4, 0)]
    assert "mlp seed 0: another process is at it" in capsys.readouterr().out
    assert experiment("--size full --seeds 0") == [(5, 0)]


def test_whoever_finishes_the_last_variant_writes_the_results(experiment):
    assert experiment("--size full --variants mlp") == [(5, 0)]
    assert experiment("--size full --variants lmu") == [(4, 0), (4, 1), (4, 2)]
    assert len(experiment.read("results/toy/line.json")["runs"]) == 4


def test_shards_run_every_cell_once_and_the_last_one_writes_the_results(experiment):
    first, second, third = (experiment(f"--size full --shard {k}/3") for k in (2, 3, 1))
    assert sorted([*first, *second, *third]) == [(4, 0), (4, 1), (4, 2), (5, 0)]
    assert len(first) == len(second) == 1
    assert len(experiment.read("results/toy/line.json")["runs"]) == 4


def test_a_shard_of_a_changed_setting_waits_for_the_others(experiment):
    place = ".runs/toy/line.full,order=9/results.json"
    experiment("--size full --order 9 --shard 1/2")
    assert not (experiment.root / place).exists()
    experiment("--size full --order 9 --shard 2/2")
    assert len(experiment.read(place)["runs"]) == 4


def test_more_shards_than_cells_leave_some_without_work(experiment):
    assert experiment("--size full --shard 9/9") == []


SEARCH = Search(
    "valid",
    "lowest",
    trials={"lmu": grid(order=(1, 3)), "mlp": grid(order=(2, 7))},
    short={"widths": (1,)},
)


def worst_is_one(config, run):
    """An error that falls with the order, up to seven."""
    return {"valid": 1.0 / config.order, "curve_valid": [2.0, *[1.0 / config.order] * 10]}


def test_full_runs_take_what_the_search_liked_best(experiment):
    experiment("--size search", search=SEARCH, train=worst_is_one)
    found = experiment.read("results/toy/line.search.json")
    assert {run["seed"] for run in found["runs"]} == {1000}  # of no full run
    assert [run["config"]["widths"] for run in found["runs"]] == [[1]] * 4  # the short form
    experiment("--size full", search=SEARCH, train=worst_is_one)
    runs = experiment.read("results/toy/line.json")["runs"]
    assert {run["variant"]: run["config"]["order"] for run in runs} == {"lmu": 3, "mlp": 7}
    assert {tuple(run["config"]["widths"]) for run in runs} == {(1, 2)}  # not the short form
    wanted = wanted_cells(SIZES, "full", SEEDS, search=SEARCH, found=found)
    assert check_results({"experiment": "toy/line", "size": "full", "runs": runs}, wanted) == []


def test_the_results_of_a_search_are_checked_like_any_other(experiment):
    experiment("--size search", search=SEARCH, train=worst_is_one)
    found = experiment.read("results/toy/line.search.json")
    wanted = wanted_cells(SIZES, "search", SEEDS, search=SEARCH)
    assert check_results(found, wanted) == []
    assert check_results(found | {"runs": found["runs"][1:]}, wanted) != []


def test_the_tiny_size_needs_no_search(experiment):
    assert experiment("--size tiny", search=SEARCH) == [(1, 0), (2, 0)]


def test_no_full_run_before_its_search(experiment, capsys):
    with pytest.raises(SystemExit):
        experiment("--size full", search=SEARCH)
    assert "wanted the results of --size search before those of full" in capsys.readouterr().err


def test_no_full_run_after_the_search_of_another_grid(experiment, capsys):
    experiment("--size search", search=SEARCH, train=worst_is_one)
    other = dataclasses.replace(SEARCH, short={"widths": (1, 3)})
    with pytest.raises(SystemExit):
        experiment("--size full", search=other, train=worst_is_one)
    said = capsys.readouterr().err
    assert "of other settings, are ['lmu+1', 'lmu+2', 'mlp+1', 'mlp+2']" in said


def test_an_experiment_without_a_search_has_no_such_size(experiment, capsys):
    with pytest.raises(SystemExit):
        experiment("--size search")
    assert "invalid choice: 'search'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--shard 0/3", "wanted k/n with 1 <= k <= n, given '0/3'"),
        ("--shard 4/3", "wanted k/n with 1 <= k <= n, given '4/3'"),
        ("--shard 2", "wanted k/n with 1 <= k <= n, given '2'"),
        ("--variants lmu cnn", "wanted variants out of ['lmu', 'mlp'], given ['cnn']"),
        ("--seeds 0 -1", "wanted seeds from 0 to 2**32 - 1, given [-1]"),
        ("--device cuda:77", "wanted one of the devices"),
        ("--order 0", "wanted order >= 1, given 0"),
        ("--size huge", "invalid choice: 'huge'"),
    ],
)
def test_a_wrong_command_line_ends_with_a_clear_message(experiment, capsys, options, message):
    with pytest.raises(SystemExit):
        experiment(options)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ({"small": {"lmu": Config()}}, ValueError, "wanted sizes out of"),
        ({}, ValueError, "wanted sizes out of"),
        ({"tiny": {"lmu": {"order": 4}}}, TypeError, "of one dataclass"),
        ({"tiny": {"a/b": Config()}}, ValueError, "wanted a variant named with letters"),
    ],
)
def test_malformed_sizes_are_refused(experiment, sizes, error, message):
    with pytest.raises(error, match=message):
        experiment(sizes=sizes)


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        (None, TypeError, "to return a dict"),
        ({}, TypeError, "to return a dict"),
        ({"loss": float("nan")}, ValueError, "metrics.loss: wanted a finite number"),
        ({"loss": torch.ones(())}, TypeError, "metrics.loss: wanted a number"),
    ],
)
def test_metrics_that_a_file_cannot_hold_are_refused(experiment, metrics, error, message):
    with pytest.raises(error, match=message):
        experiment(train=lambda config, run: metrics)
    assert list(experiment.root.glob("**/*.json")) == []


def test_a_run_without_loops_counts_its_whole_time(experiment, capsys):
    experiment("--variants lmu", train=lambda config, run: {"curve": [sum(range(1000))]})
    assert experiment.read(".runs/toy/line.tiny/lmu-0.json")["seconds"] >= 0
    assert "no single numbers to show" in capsys.readouterr().out


def test_an_experiment_outside_its_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="wanted a file at experiments/STEM/NAME.py"):
        main(str(tmp_path / "line.py"), SIZES, Experiment(tmp_path).train, argv=[])
