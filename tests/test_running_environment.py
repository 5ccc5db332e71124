"""Device, seed, and what a results file says about machine and code."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from archbook.running import environment as package_environment
from archbook.running import pick_device, seed_everything
from archbook.running.environment import (
    available_devices,
    command_line,
    device_name,
    git_commit,
    repository_root,
    synchronize,
)


def test_without_a_name_the_cpu_is_picked_where_there_is_no_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device() == torch.device("cpu")


def test_without_a_name_a_card_is_picked_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device() == torch.device("cuda")


def test_a_named_device_is_taken():
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:77", "toaster", 3.5])
def test_a_device_that_is_not_there_is_refused_with_the_list_of_those_that_are(name):
    with pytest.raises(ValueError, match="wanted one of the devices.*cpu"):
        pick_device(name)


def test_the_list_of_devices_names_every_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert available_devices() == ["cpu", "cuda:0", "cuda:1", "mps"]


def test_a_seed_fixes_all_three_global_generators():
    def draw():
        seed_everything(7)
        # the global NumPy generator is the one under test
        return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002

    assert draw() == draw()


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (2**32, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_a_bad_seed_is_refused(seed, error):
    with pytest.raises(error, match="wanted (a )?seed"):
        seed_everything(seed)


def test_the_environment_holds_no_folder_of_the_machine():
    found = package_environment("cpu")
    text = " ".join(map(str, found.values()))
    assert str(Path.home()) + "/" not in text
    assert str(Path(sys.prefix)) not in text
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()


def test_the_command_is_told_relative_to_the_repository(monkeypatch, tmp_path):
    script = tmp_path / "experiments" / "toy.py"
    words = [str(script), "--size", "full", "--out=/somewhere/else/x.json"]
    monkeypatch.setattr(sys, "argv", words)
    assert command_line(tmp_path) == "python experiments/toy.py --size full --out=x.json"


def test_outside_a_repository_only_the_scripts_name_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "toy.py")])
    assert command_line(None) == "python toy.py"


def test_the_commit_of_a_folder_outside_git_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit(tmp_path) == "unknown"
    assert git_commit(None) == "unknown"


def test_a_changed_file_makes_the_commit_dirty_and_a_new_result_does_not(tmp_path):
    def git(*words):
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", tmp_path, *who, *words], check=True, capture_output=True)

    code = tmp_path / "code"
    code.mkdir()
    (code / "model.py").write_text("a = 1\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    (tmp_path / "results.json").write_text("{}")
    clean = git_commit(tmp_path)
    (code / "model.py").write_text("a = 2\n")
    assert len(clean) == 40
    assert git_commit(tmp_path) == f"{clean}+dirty"


def test_the_checkout_is_found_only_when_the_package_runs_from_it(monkeypatch):
    module = sys.modules["archbook.running.environment"]
    monkeypatch.setattr(module, "__file__", "/x/code/archbook/running/environment.py")
    assert repository_root() == Path("/x").resolve()
    monkeypatch.setattr(module, "__file__", "/x/site-packages/archbook/running/environment.py")
    assert repository_root() is None


def test_a_card_is_named_by_its_driver(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device.index}")
    assert device_name("cuda:1") == "card 1"


def test_a_machine_without_cpuinfo_still_has_a_name(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert device_name("cpu")


def test_a_cpu_is_not_waited_for_and_a_device_is(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: waited.append(str(device)))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    for device in (None, "cpu", "cuda", "mps"):
        synchronize(device)
    assert waited == ["cuda", "mps"]
