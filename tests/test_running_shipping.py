"""Shipping: the runner writes the weights of one run, and only with the number that they give."""

import dataclasses
import json
import sys

import pytest
import torch
from torch import nn

import archbook.running.shipping
from archbook.lmu import LegendreMemory
from archbook.running import Run, Ship, main
from archbook.weights import load, names
from archbook.weights.own import told_by
from archbook.weights.shipped import manifest


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = 3
    scale: float = 1.0  # of the weights


SIZES = {"tiny": {"line": Config()}, "full": {"line": Config(), "wide": Config(4)}}


def score(network: nn.Linear) -> float:
    return network.weight.sum().item()


def measure(config: Config, run: Run) -> dict:
    network = nn.Linear(config.width, 1)
    with torch.no_grad():
        network.weight.copy_(config.scale * torch.arange(1.0, config.width + 1))
    run.offer(network, in_features=config.width, out_features=1)
    return {"score": score(network)}


SHIP = Ship("line", 1, "score", score, digits=3)


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    file = str(tmp_path / "experiments" / "toy" / "line.py")
    monkeypatch.setattr(sys, "argv", [file])

    def run(options="--size full", *, ship=SHIP, measure=measure, sizes=SIZES):
        main(file, sizes, measure, ship=ship, argv=options.split())
        return tmp_path / "code" / "archbook" / "weights"

    return run


def test_the_run_that_is_named_is_shipped_with_its_number(experiment, capsys):
    folder = experiment()
    assert names(folder) == ["toy/line"]
    line = manifest(folder)["toy/line"]
    assert (line.results, line.variant, line.seed) == ("toy/line", "line", 1)
    assert (line.metric, line.value, line.digits) == ("score", 6.0, 3)
    assert score(load("toy/line", folder)) == 6.0
    assert "shipped toy/line" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        "--size tiny",
        "--size full --width 2",
        "--size full --seeds 0",
        "--size full --variants wide",
    ],
)
def test_no_other_run_is_shipped(experiment, options):
    assert not experiment(options).exists()


def test_half_precision_where_the_number_stays_and_single_where_it_would_not(experiment, capsys):
    experiment()
    assert "float16" in capsys.readouterr().out
    precise = {"full": {"line": Config(scale=1.0001), "wide": Config(4)}}
    folder = experiment(sizes=precise, ship=dataclasses.replace(SHIP, digits=4))
    assert "float32" in capsys.readouterr().out
    assert score(load("toy/line", folder)) == pytest.approx(6.0006, abs=1e-6)


def test_weights_that_do_not_give_the_run_s_number_are_not_written(experiment, tmp_path):
    wrong = dataclasses.replace(SHIP, recompute=lambda network: 5.0)
    with pytest.raises(ValueError, match=r"toy/line full line seed 1 to give score 6.0.*give 5.0"):
        experiment(ship=wrong)
    assert not (tmp_path / "code").exists()
    kept = {path.name for path in (tmp_path / ".runs/toy/line.full").glob("*.json")}
    assert "line-1.json" not in kept  # the run is not finished: its number has no weights


def test_a_run_that_offers_nothing_cannot_be_shipped(experiment):
    with pytest.raises(RuntimeError, match=r"line seed 1 to offer its network with run.offer"):
        experiment(measure=lambda config, run: {"score": 1.0})


def test_a_chapter_s_weights_stay_below_the_limit(experiment, monkeypatch, tmp_path):
    monkeypatch.setattr(archbook.running.shipping, "LIMIT", 10)
    with pytest.raises(ValueError, match="wanted at most 10 bytes of weights for toy, given"):
        experiment()
    assert not (tmp_path / "code").exists()


def test_what_is_shipped_already_stays_in_the_manifest(experiment):
    folder = experiment()
    path = folder / "manifest.json"
    lines = json.loads(path.read_text())
    lines["other/net"] = lines["toy/line"] | {"file": "other/net.safetensors"}
    path.write_text(json.dumps(lines))
    experiment("--size full --again")
    assert names(folder) == ["other/net", "toy/line"]


def test_a_shipped_file_tells_what_shapes_its_network(experiment):
    def measure(config: Config, run: Run) -> dict:
        run.offer(LegendreMemory(order=2, theta=8.0), order=2, theta=8.0)
        return {"score": 2.0}

    ship = dataclasses.replace(SHIP, recompute=lambda network: 2.0)
    folder = experiment(ship=ship, measure=measure)
    told = told_by((folder / "toy/line.safetensors").read_bytes())
    assert told == {"": {"order": 2, "theta": 8.0, "discretization": "zoh"}}
    path = folder / "manifest.json"
    lines = json.loads(path.read_text())
    lines["toy/line"]["arguments"]["theta"] = 9.0
    path.write_text(json.dumps(lines))
    with pytest.raises(ValueError, match=r"theta=9.0 for a LegendreMemory, given theta=8.0"):
        load("toy/line", folder)
