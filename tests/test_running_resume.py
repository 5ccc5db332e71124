"""A killed experiment goes on from its checkpoint and ends with the very same numbers."""

import json
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from forked import Forked

pytestmark = pytest.mark.slow  # they kill and start experiments in processes of their own

EXPERIMENT = '''
"""A toy with everything that has a state: dropout, Adam, a scheduler, generators, two loops."""

import random
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from archbook.running import main


@dataclass(frozen=True)
class Config:
    steps: int = 12  # steps of each loop
    pause: float = 0.0  # seconds of rest in a step


SIZES = {"tiny": {"toy": Config()}}


def train(config, run):
    x = torch.randn(64, 4)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, 0.01, total_steps=2 * config.steps + 1)
    shuffle = torch.Generator().manual_seed(run.seed)
    losses, best = [], {"loss": 1e9, "weights": None}
    state = dict(model=model, adam=adam, schedule=schedule, shuffle=shuffle, losses=losses)
    for loop in ("first", "second"):
        for step in run.steps(config.steps, loop, best=best, **state):
            if step == 9 and loop == "first":
                break
            batch = x[torch.randperm(64, generator=shuffle)[:16]]
            noise = random.random() + np.random.rand()
            loss = (model(batch) - batch.sum(1, keepdim=True)).square().mean() + 0.1 * noise
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
            losses.append(loss.item())
            if losses[-1] < best["loss"]:
                best.update(loss=losses[-1], weights=model.state_dict()["0.weight"].sum().item())
            print("step", loop, step, flush=True)
            time.sleep(config.pause)
        torch.rand(3)  # what happens between the loops draws numbers too
    return {"losses": losses, "best": best["loss"], "weights": best["weights"]}


if __name__ == "__main__":
    main(__file__, SIZES, train)
'''


def start(folder):
    """Start the experiment in a repository of its own."""
    file = folder / "experiments" / "toy" / "noisy.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(EXPERIMENT)
    return Forked(str(file), "--pause", "0.01", ARCHBOOK_CHECKPOINT_SECONDS="0")


def kill_at(process, line):
    for said in process.stdout:
        if said.strip() == line:
            break
    process.kill()
    process.communicate()
    return process.returncode


@dataclass
class Outcome:
    said: str  # what the last process printed
    left: list  # checkpoints after the kills
    folder: Path

    @property
    def metrics(self):
        (file,) = self.folder.glob(".runs/toy/*/toy-0.json")
        return json.loads(file.read_text())["metrics"]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """One run from start to end, and beside it one that is killed in its second loop."""
    whole, killed = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("killed")
    undisturbed = start(whole)
    try:
        assert kill_at(start(killed), "step second 4") == -signal.SIGKILL
        left = list(killed.glob(".runs/toy/*/*.pt"))
        last = start(killed)
        said, _ = last.communicate()
    finally:
        text, _ = undisturbed.communicate()
    assert (undisturbed.returncode, last.returncode) == (0, 0)
    return Outcome(text, [], whole), Outcome(said, left, killed)


def test_a_killed_run_ends_with_the_numbers_of_an_undisturbed_one(outcomes):
    whole, killed = outcomes
    assert len(whole.metrics["losses"]) == 9 + 12
    assert killed.metrics == whole.metrics  # bit for bit


def test_a_loop_that_was_left_early_is_not_entered_again(outcomes):
    whole, killed = outcomes
    assert "step first 0" in whole.said
    assert "step first" not in killed.said


def test_a_killed_loop_goes_on_where_it_was_saved(outcomes):
    _, killed = outcomes
    assert "step second 3" not in killed.said
    assert "step second 6" in killed.said


def test_checkpoints_are_deleted_when_the_cell_is_finished(outcomes):
    _, killed = outcomes
    assert len(killed.left) == 2  # one a loop
    assert list(killed.folder.glob(".runs/toy/*/*.pt")) == []
