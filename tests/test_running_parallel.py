"""Several processes train as one does, and whoever of them is killed, the numbers stay the same."""

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import parallel_work
import pytest
import torch
from forked import Forked
from torch.nn.functional import mse_loss

from archbook.running import Run, held_once, main, parallel, share, share_weight

WORK = Path(parallel_work.__file__)
KILLS = int(os.environ.get("KILLS", "2"))  # of the whole job, at random; `make kills` takes ten
TORCHRUN = ("-m", "torch.distributed.run", "--standalone")
KEEPING = {"OMP_NUM_THREADS": "1", "ARCHBOOK_CHECKPOINT_SECONDS": "0"}


def torchrun(processes: int, *command: str) -> subprocess.Popen:
    """As at a command line: launcher and workers are fresh processes."""
    return subprocess.Popen(
        [sys.executable, *TORCHRUN, f"--nproc-per-node={processes}", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | KEEPING,
    )


def forked_torchrun(processes: int, *command: str) -> Forked:
    """The same launcher as a fork, and its workers as forks of it: torch is imported already."""
    forks = ("--run-path", "--start-method=fork", f"--nproc-per-node={processes}")
    return Forked(*TORCHRUN, *forks, *command, **KEEPING)


def ended(process: subprocess.Popen | Forked) -> tuple[int | None, str, str]:
    try:
        out, err = process.communicate()
    finally:
        process.terminate()  # where pytest's limit ended the wait: torchrun then ends its workers
    return process.returncode, out, err


# ---- the same curve ----

needs_fsdp = pytest.mark.skipif(
    not parallel_work.FSDP_ON_CPU, reason="FSDP2 of this torch needs a GPU"
)
SHARDED = [pytest.param(f"{name} sharded", marks=needs_fsdp) for name in parallel_work.SHARDED]


def in_two_processes(what: str, folder: Path) -> dict:
    file = folder / "measured.json"
    code, _, err = ended(forked_torchrun(2, str(WORK), what, str(file)))
    assert code == 0, err
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict:
    return in_two_processes("models", tmp_path_factory.mktemp("models"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*parallel_work.TASKS, *SHARDED])
def test_two_processes_lower_the_loss_as_one_does(models, name):
    torch.set_default_dtype(torch.float64)
    try:
        alone = parallel_work.curve(name.split()[0])
    finally:
        torch.set_default_dtype(torch.float32)
    assert len(alone) == parallel_work.STEPS
    assert models[name] == pytest.approx(alone, abs=1e-6, rel=0)
    assert alone[-1] != pytest.approx(alone[0], abs=1e-3)  # ten steps did something


@pytest.fixture(scope="module")
def experiments(tmp_path_factory) -> dict:
    return in_two_processes("experiments", tmp_path_factory.mktemp("experiments"))


@pytest.mark.slow
@pytest.mark.parametrize("name", parallel_work.EXPERIMENTS)
def test_an_experiment_takes_the_same_steps_in_two_processes_as_in_one(experiments, name):
    assert experiments[name] == pytest.approx(parallel_work.experiment(name), rel=1e-3)


# ---- shares ----


@pytest.fixture
def as_process(monkeypatch):
    """Says which of how many processes this one is."""

    def become(rank: int, processes: int) -> None:
        monkeypatch.setattr(parallel, "rank", lambda: rank)
        monkeypatch.setattr(parallel, "processes", lambda: processes)

    return become


@pytest.mark.parametrize(
    ("batch", "unit", "processes"), [(12, 1, 3), (10, 1, 4), (2, 1, 3), (12, 4, 2)]
)
def test_the_mean_of_the_weighed_parts_is_the_mean_over_the_batch(
    as_process, batch, unit, processes
):
    values, parts = torch.randn(batch, dtype=torch.float64), []
    for rank in range(processes):
        as_process(rank, processes)
        own = share(values, unit)
        assert len(own) % unit == 0
        parts.append(share_weight(values, unit) * mse_loss(own, torch.zeros_like(own)))
    torch.testing.assert_close(sum(parts) / processes, values.square().mean())


def test_a_set_is_made_by_the_first_process_alone(as_process, monkeypatch):
    told = []
    monkeypatch.setattr(parallel, "of_first", lambda value: told.append(value) or told[0])
    monkeypatch.setattr(parallel, "wait_for_all", lambda: None)
    wanted = {"train": (torch.arange(5), torch.ones(2, 3))}
    as_process(0, 2)
    found = held_once(lambda: wanted)
    torch.testing.assert_close(found, wanted)
    assert not Path(told[0]).exists()  # mapped, and of no more use
    folder = Path(told[0])
    folder.mkdir()
    torch.save(wanted, folder / "set.pt")
    as_process(1, 2)
    torch.testing.assert_close(held_once(lambda: pytest.fail("made twice")), wanted)
    (folder / "set.pt").unlink()
    folder.rmdir()


def test_one_process_keeps_the_batch_as_it_is():
    batch = torch.arange(7)
    assert share(batch) is batch
    assert share_weight(batch) == 1.0


def test_the_processes_draw_different_dropout_at_every_step_and_the_same_after_a_restart(
    as_process,
):
    def drawn(rank: int, step: int) -> float:
        as_process(rank, 2)
        parallel.seed_step(0, "fit", step)
        return torch.rand(()).item()

    found = {(rank, step): drawn(rank, step) for rank in (0, 1) for step in (0, 1)}
    assert len(set(found.values())) == 4
    assert found == {key: drawn(*key) for key in found}


# ---- refusals ----

TOY = '''
"""A regression in float64, whose batch of twelve one, two or three processes share."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from archbook.running import main, mean_over_processes, share
from archbook.running.parallel import rank


@dataclass(frozen=True)
class Config:
    steps: int = 40  # of training
    batch: int = 12  # points a step
    pause: float = 0.0  # seconds of rest in a step


def train(config, run):
    Path(f"{os.environ['PIDS']}/{rank()}").write_text(str(os.getpid()))
    x = torch.randn(60, 4, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    network = run.data_parallel(model)
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    shuffle = torch.Generator().manual_seed(run.seed)
    losses = []
    for step in run.steps(config.steps, model=model, adam=adam, shuffle=shuffle, losses=losses):
        batch = x[share(torch.randperm(60, generator=shuffle)[: config.batch])]
        loss = (network(batch) - batch.sum(1, keepdim=True)).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(mean_over_processes(loss))
        print("step", step, flush=True)
        time.sleep(config.pause)
    return {"losses": losses}


if __name__ == "__main__":
    main(__file__, {"tiny": {"toy": Config()}}, train)
'''


def a_toy(folder: Path) -> Path:
    """A repository with one experiment; its processes leave their numbers in `pids`."""
    file = folder / "experiments" / "toy" / "line.py"
    file.parent.mkdir(parents=True)
    file.write_text(TOY)
    (folder / "pids").mkdir()
    return file


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    return a_toy(tmp_path)


def losses_of(toy: Path) -> list[float]:
    (file,) = toy.parents[2].glob(".runs/toy/*/toy-0.json")
    return json.loads(file.read_text())["metrics"]["losses"]


def loaded(toy: Path) -> ModuleType:
    spec = spec_from_file_location("toy_line", toy)
    module = module_from_spec(spec)
    sys.modules["toy_line"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("processes", "alone", "message"),
    [
        (5, None, "wanted a batch that 5 processes share evenly, given 12 for toy"),
        (2, "a closed form", "wanted one process, for a closed form, given 2"),
    ],
)
def test_what_so_many_processes_cannot_run_is_refused_in_a_sentence_and_nothing_is_written(
    toy, as_process, capsys, processes, alone, message
):
    module = loaded(toy)
    as_process(0, processes)
    with pytest.raises(SystemExit):
        main(str(toy), {"tiny": {"toy": module.Config()}}, module.train, alone=alone, argv=[])
    assert capsys.readouterr().err.splitlines()[-1].endswith(message)
    assert not (toy.parents[2] / ".runs").exists()


def test_a_checkpoint_of_another_network_is_refused_in_a_sentence_and_stays(toy, capsys):
    module = loaded(toy)
    folder = toy.parents[2] / ".runs" / "toy" / "line.tiny"
    tag = f"{dict(steps=40, batch=12, pause=0.0)} on cpu"
    other = torch.nn.Linear(9, 9)
    state = dict(model=other, adam=torch.optim.Adam(other.parameters()))
    state |= dict(shuffle=torch.Generator(), losses=[])
    before = Run(folder=folder, cell="toy-0", tag=tag, checkpoint_seconds=0, quiet=True)
    loop = before.steps(3, **state)
    next(loop), next(loop)  # the first step is done and saved
    (file,) = folder.glob("*.pt")
    kept = file.read_bytes()
    with pytest.raises(SystemExit):
        main(str(toy), {"tiny": {"toy": module.Config()}}, module.train, argv=["--device", "cpu"])
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "wanted a checkpoint of this network, given another's" in said[0]
    assert file.read_bytes() == kept


@pytest.mark.slow
def test_what_no_experiment_shards_is_refused_with_fsdp(as_process):
    as_process(0, 2)
    with pytest.raises(parallel.Refused, match="wanted a transformer for --fsdp, given a network"):
        Run(quiet=True, fsdp=True).data_parallel(torch.nn.Linear(1, 1))


# ---- killed ----


def step_of(process: subprocess.Popen | Forked, wanted: int) -> None:
    """Wait until rank 0 says that it has done this step, or a later one."""
    for line in process.stdout:
        if line.startswith("step") and int(line.split()[1]) >= wanted:
            return
    raise AssertionError(f"ended before step {wanted}: {process.stderr.read()}")


def kill(toy: Path, *ranks: int) -> None:
    for rank in ranks:
        os.kill(int((toy.parents[2] / "pids" / str(rank)).read_text()), signal.SIGKILL)


def kill_job(toy: Path, process: subprocess.Popen | Forked, processes: int) -> None:
    """kill -9 of everything; back when the system has freed what the processes held."""
    process.kill()
    kill(toy, *range(processes))
    process.communicate()
    (lock,) = toy.parents[2].glob(".runs/toy/*/toy-0.lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> list[float]:
    """The losses of one process that nobody kills."""
    folder = tmp_path_factory.mktemp("undisturbed")
    file = a_toy(folder)
    code, _, err = ended(Forked(str(file), PIDS=str(folder / "pids")))
    assert code == 0, err
    return losses_of(file)


@pytest.mark.slow
def test_a_worker_dies_and_other_numbers_of_processes_go_on_along_the_same_curve(toy, undisturbed):
    first = torchrun(2, str(toy), "--pause", "0.05")
    step_of(first, 5)
    kill(toy, 1)
    code, _, err = ended(first)
    assert code != 0
    assert err.count(parallel.LOST) == 1
    second = forked_torchrun(3, str(toy), "--pause", "0.05")
    step_of(second, 20)
    kill_job(toy, second, 3)
    code, out, err = ended(Forked(str(toy), "--pause", "0.05"))
    assert code == 0, err
    assert "resumed at step 2" in out  # 20, or a few more
    assert losses_of(toy) == pytest.approx(undisturbed, abs=1e-6, rel=0)


@pytest.mark.slow
def test_a_process_that_is_told_to_end_while_it_ends_says_so_once():
    """Torchrun sends its signal whenever it sees that another worker has died."""
    told = """
import os, signal, sys
from archbook.running import parallel

class Late:
    def write(self, text):
        os.write(2, text.encode())
        os.kill(os.getpid(), signal.SIGTERM)

    def flush(self):
        pass

signal.signal(signal.SIGTERM, parallel._stopped)
sys.__stderr__ = Late()
parallel._stopped()
"""
    code, _, err = ended(Forked("-c", told))
    assert code == 1
    assert err.split("\n")[:-1] == [parallel.LOST]


@pytest.mark.slow
def test_torchrun_brings_a_run_back_whose_worker_was_killed(toy, undisturbed):
    # Fresh processes: only there do those of a restart meet the addresses of the dead.
    process = torchrun(2, "--max-restarts=1", str(toy), "--pause", "0.05")
    step_of(process, 10)
    kill(toy, 1)
    code, out, err = ended(process)
    assert code == 0, err
    assert "resumed at step" in out
    assert "step 5\n" not in out  # what was done before is not done again
    assert losses_of(toy) == pytest.approx(undisturbed, abs=1e-6, rel=0)


@pytest.mark.slow
def test_a_job_that_is_killed_at_random_moments_ends_with_the_same_numbers(toy, undisturbed):
    # `make kills` starts fresh processes, as a command line does.
    start = torchrun if "KILLS" in os.environ else forked_torchrun
    draw = random.Random(KILLS)
    for number in range(KILLS):
        process = start(2, str(toy), "--pause", "0.05")
        step_of(process, 30 * number // KILLS + draw.randrange(30 // KILLS))
        time.sleep(draw.uniform(0, 0.05))
        kill_job(toy, process, 2)
    code, _, err = ended(start(2, str(toy), "--pause", "0.05"))
    assert code == 0, err
    assert losses_of(toy) == pytest.approx(undisturbed, abs=1e-6, rel=0)
