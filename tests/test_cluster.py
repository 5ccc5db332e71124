"""One experiment as an array of jobs, on the launcher's local executor."""

import json
from pathlib import Path

import pytest
from tools import cluster

SCRIPT = '''
"""A toy experiment."""
from dataclasses import dataclass
from archbook.running import main

@dataclass(frozen=True)
class Config:
    order: int = 1  # an order

def measure(config, run):
    if config.order == 13:
        raise RuntimeError("an unlucky order")
    return {"order": float(config.order)}

if __name__ == "__main__":
    main(__file__, {"tiny": {"a": Config(1), "b": Config(2), "c": Config(3)}}, measure)
'''


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "experiments/toy").mkdir(parents=True)
    (tmp_path / "experiments/toy/line.py").write_text(SCRIPT)
    monkeypatch.setattr(cluster, "ROOT", tmp_path)
    return tmp_path


def submit(options: str) -> int:
    return cluster.main(["experiments/toy/line.py", "--cluster", "local", *options.split()])


@pytest.mark.slow
def test_the_jobs_share_the_cells_and_write_one_results_file(place: Path, capsys):
    assert submit("--jobs 2 -- --size tiny") == 0
    results = json.loads((place / ".runs/toy/line.tiny/results.json").read_text())
    assert [run["variant"] for run in results["runs"]] == ["a", "b", "c"]
    assert capsys.readouterr().out.startswith("2 jobs on local: ")


@pytest.mark.slow
def test_a_job_that_fails_is_named_and_the_others_finish(place: Path, capsys):
    (place / "experiments/toy/line.py").write_text(SCRIPT.replace("Config(2)", "Config(13)"))
    assert submit("--jobs 2 -- --size tiny") == 1
    kept = {path.name for path in (place / ".runs/toy/line.tiny").glob("*.json")}
    assert kept == {"a-0.json", "c-0.json"}
    said = capsys.readouterr().out
    assert said.count("FAILED: job") == 1
    (log,) = (place / line.split("see ")[1] for line in said.splitlines() if "FAILED" in line)
    assert "an unlucky order" in log.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--jobs 0", "wanted at least 1 job, given 0"),
        ("--jobs 2 --set gpus", r"wanted KEY=VALUE after --set, given ['gpus']"),
        ("", "the following arguments are required: --jobs"),
    ],
)
def test_a_wrong_command_line_ends_with_a_clear_message(place: Path, capsys, options, message):
    with pytest.raises(SystemExit):
        submit(options)
    assert message in capsys.readouterr().err


def test_an_experiment_that_is_not_there_is_refused(place: Path, capsys):
    with pytest.raises(SystemExit):
        cluster.main(["experiments/toy/curve.py", "--jobs", "2"])
    assert "given 'experiments/toy/curve.py'" in capsys.readouterr().err


def test_settings_reach_the_scheduler_as_numbers_and_words(place: Path, monkeypatch):
    seen: dict = {}

    class Executor:
        cluster = "slurm"

        def __init__(self, **_):
            pass

        def update_parameters(self, **parameters):
            seen.update(parameters)

        def map_array(self, share, shards):
            seen["shards"] = shards
            return []

    monkeypatch.setattr(cluster, "AutoExecutor", Executor)
    assert submit("--jobs 3 --minutes 5 --set slurm_partition=gpu gpus_per_node=1") == 0
    assert seen == {
        "name": "line",
        "timeout_min": 5,
        "slurm_partition": "gpu",
        "gpus_per_node": 1,
        "shards": ["1/3", "2/3", "3/3"],
    }
