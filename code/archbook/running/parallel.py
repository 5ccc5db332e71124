"""One run in several processes: `torchrun --nproc-per-node 2 experiments/STEM/NAME.py --size full`.

The engine is PyTorch's own. One rule is ours: every process draws the whole batch, from the same
generator, and trains on its `share`. So the batches, and with them the curve, are those of one
process, and no order has to be saved beside the generator. Without torchrun nothing here acts.
"""

import contextlib
import os
import signal
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

Known = TypeVar("Known")

PATIENCE_VARIABLE = "ARCHBOOK_PATIENCE_SECONDS"  # to wait for a process that says nothing
LOST = (
    "this run was stopped, or one of its processes has ended: the same command goes on from the "
    "last checkpoint"
)


class Refused(ValueError):
    """What cannot be run, in one sentence; every process of a run comes to the same."""


def processes() -> int:
    """How many work on this run.

    >>> processes()
    1
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number; 0 keeps what is kept and says what is said."""
    return dist.get_rank() if processes() > 1 else 0


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun started, for the time of the block; only rank 0 speaks.

    What is refused ends the program with its sentence.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        with _sentences():
            yield
        return
    seconds = float(os.environ.get(PATIENCE_VARIABLE, "600"))
    # Numbers and flags go over gloo on any machine; gradients on cards over nccl.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, **_place(), timeout=timedelta(seconds=seconds))
    signal.signal(signal.SIGTERM, _stopped)  # how torchrun ends the others when one has died
    try:
        with _silence() if rank() else contextlib.nullcontext(), _sentences():
            yield
    except SystemExit:  # all refuse alike: none may leave, and be missed, before rank 0 has spoken
        wait_for_all()
        raise
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            _stopped()
        raise
    dist.destroy_process_group()


def _place() -> dict[str, Any]:
    """Rank, world size, and where the processes find each other, as torchrun tells it.

    torchrun's store outlives a restart, and with it the addresses of the dead, where a new process
    would look for its peers (torch 2.13). So each attempt has keys of its own.
    """
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, here, size = next(iter(rendezvous("env://")))
    attempt = f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    return {"rank": here, "world_size": size, "store": PrefixStore(attempt, store)}


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    try:
        yield
    except Refused as refusal:
        print(f"refused: {refusal}", file=sys.stderr, flush=True)
        sys.exit(2)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def _stopped(*_: Any) -> None:
    """Leave at once, with a sentence: the checkpoint is on disk, and nothing else is worth it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun may ask for what happens already
    print(LOST, file=sys.__stderr__, flush=True)
    os._exit(1)


def local_device(device: torch.device) -> torch.device:
    """This process's own card where the run is on cards."""
    if processes() == 1 or device.type != "cuda":
        return device
    card, cards = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if card >= cards:
        raise Refused(f"wanted at most a process for each of {cards} cards, given one more")
    torch.cuda.set_device(card)
    return torch.device("cuda", card)


# ---- what the processes tell each other ----


def of_first(value: Known) -> Known:
    """What rank 0 holds, on every process."""
    if processes() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def mean_over_processes(value: Tensor | float) -> float:
    """The mean over the processes: of `loss()`'s parts, the loss of the whole batch.

    >>> mean_over_processes(2.5)  # of one process
    2.5
    """
    total = torch.as_tensor(value).detach().to("cpu", torch.float64)
    if processes() > 1:
        dist.all_reduce(total)
    return total.item() / processes()


def held_once(make: Callable[[], Known]) -> Known:
    """What `make` returns (tensors, in dicts, lists and tuples), once for all processes.

    Rank 0 makes it, in a file that every process maps: a page of it comes into memory once for the
    machine, when somebody reads it. Not to be written to.

    >>> held_once(lambda: {"x": torch.arange(3)})
    {'x': tensor([0, 1, 2])}
    """
    if processes() == 1:
        return make()
    with contextlib.ExitStack() as kept:
        folder = ""
        if rank() == 0:
            folder = kept.enter_context(tempfile.TemporaryDirectory())
            torch.save(make(), Path(folder, "set.pt"))
        file = Path(of_first(folder), "set.pt")
        found = torch.load(file, mmap=True, weights_only=True)
        wait_for_all()  # before the file is deleted
    return found


def wait_for_all() -> None:
    """Wait for the others."""
    mean_over_processes(0.0)


# ---- the batch ----


def share(batch: Tensor, unit: int = 1) -> Tensor:
    """This process's part of a batch that every process holds: neighbours, in whole units.

    Where a last, short batch has less than a unit for each, a process with none is given the first
    unit, with `share_weight` 0: it has to take part in the step all the same.

    >>> share(torch.arange(4))  # of one process: all of it
    tensor([0, 1, 2, 3])
    """
    if processes() == 1:
        return batch
    own = _own(len(batch) // unit)
    part = batch[own.start * unit : own.stop * unit]
    return part if len(part) else batch[:unit]


def share_weight(batch: Tensor, unit: int = 1) -> float:
    """The factor that makes a mean over this process's share its part of the mean over the batch.

    The engine takes the mean of the parts' gradients. 1 where all shares are equal.

    >>> share_weight(torch.arange(4))
    1.0
    """
    count = len(batch) // unit
    return processes() * len(range(count)[_own(count)]) / count


def _own(count: int) -> slice:
    here, size = rank(), processes()
    return slice(here * count // size, (here + 1) * count // size)


def seed_step(seed: int, desc: str, step: int) -> None:
    """Give each process, at each step, a torch generator of its own for dropout.

    Told by the step alone, so that nobody's generator has to be saved. What all processes must draw
    alike comes from a torch.Generator.
    """
    if processes() > 1:
        torch.manual_seed(zlib.crc32(f"{seed} {desc} {step} {rank()}".encode()))


# ---- the network ----


class Objective(nn.Module):
    """`loss()` as a module's forward, so that the engine sees when a step begins."""

    def __init__(self, model: nn.Module, loss: Any):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self) -> Tensor:
        return self.loss()


def data_parallel(model: nn.Module) -> nn.Module:
    """The model, its gradients the mean over the processes (DDP); same weights, same object."""
    if processes() == 1 or is_sharded(model):
        return model
    device = next(model.parameters()).device
    cards = [device.index] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=cards)


def shard(model: nn.Module, blocks: Iterable[nn.Module], entry: str = "forward") -> None:
    """Share the weights out, a block at a time (FSDP2); before the optimiser is made.

    `entry` is the method of the model that training calls; blocks are called as modules. A table
    that the read-out reads as well is in no block: it is shared out with the rest.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for block in blocks:
        fully_shard(block)
    fully_shard(model)
    register_fsdp_forward_method(model, entry)


def is_sharded(model: nn.Module) -> bool:
    if processes() == 1:
        return False
    from torch.distributed.fsdp import FSDPModule

    return any(isinstance(part, FSDPModule) for part in model.modules())


def gather(model: nn.Module) -> None:
    """Training is over: give every process all weights of a sharded model, for any use."""
    from torch.distributed.fsdp import FSDPModule

    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.set_reshard_after_forward(False)
            part.unshard()


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """`model.state_dict()`, of a sharded model too; then all processes must ask.

    >>> list(whole_weights(torch.nn.Linear(3, 1)))
    ['weight', 'bias']
    """
    return Whole(model).state_dict() if is_sharded(model) else model.state_dict()


class Whole:
    """A sharded model, saved and loaded as if it were not: any number of processes may go on."""

    def __init__(self, model: nn.Module):
        self.model = model

    def state_dict(self) -> dict[str, Any]:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        return get_model_state_dict(self.model, options=StateDictOptions(full_state_dict=True))

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

        set_model_state_dict(self.model, saved, options=StateDictOptions(full_state_dict=True))


class WholeOptimizer:
    """The same of its optimiser.

    Not torch's get_optimizer_state_dict: before the first step it takes one, and counts it.
    """

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        from torch.distributed.tensor import DTensor

        def whole(value: Any) -> Any:
            return value.full_tensor() if isinstance(value, DTensor) else value

        own = self.optimizer.state_dict()
        state = {
            number: {k: whole(v) for k, v in of.items()} for number, of in own["state"].items()
        }
        return own | {"state": state}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        from torch.distributed.tensor import distribute_tensor

        weights: list[Any] = [w for g in self.optimizer.param_groups for w in g["params"]]

        def part(value: Any, like: Any) -> Any:
            if not isinstance(value, Tensor) or value.shape != like.shape:  # the count of steps
                return value
            return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)

        state = {
            number: {k: part(v, weights[number]) for k, v in of.items()}
            for number, of in saved["state"].items()
        }
        self.optimizer.load_state_dict(saved | {"state": state})
