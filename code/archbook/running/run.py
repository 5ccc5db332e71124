"""One cell of an experiment while it runs: its seed, its clock, its resumable loops.

Ours, not Fabric's or accelerate's: those save a folder for one loop of one model; this is one
atomic file for any loop and any torch.Generator, after which a killed run ends in the same bits.
"""

import os
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm  # not tqdm.auto, which warns where ipywidgets is missing

from archbook.running import checkpoint, parallel
from archbook.running.environment import synchronize

CHECKPOINT_VARIABLE = "ARCHBOOK_CHECKPOINT_SECONDS"
LINE_EVERY = 60.0  # seconds between two lines of progress in a log


class Run:
    """What an experiment's `train(config, run)` is given: device, seed, seconds, and `steps`.

    Without a `folder` nothing is saved: so a notebook or a test can call `train` as well.

    >>> run, total = Run(seed=3, quiet=True), 0
    >>> for step in run.steps(4):
    ...     total += step
    >>> total, run.seed, run.seconds > 0
    (6, 3, True)
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        seed: int = 0,
        *,
        folder: Path | None = None,
        cell: str = "run",
        tag: str = "",
        checkpoint_seconds: float | None = None,
        quiet: bool = False,
        fsdp: bool = False,
    ):
        if checkpoint_seconds is None:
            checkpoint_seconds = float(os.environ.get(CHECKPOINT_VARIABLE, "60"))
        self.device = torch.device(device)
        self.seed = seed
        self._folder = folder
        self._cell = cell
        self._tag = tag  # what a checkpoint must agree with: the configuration, the device
        self._every = checkpoint_seconds
        self._quiet = quiet
        self._fsdp = fsdp and parallel.processes() > 1  # weights are shared out too
        self._seconds = 0.0
        self._since: float | None = None  # when the present step began
        self._seen: set[str] = set()
        self._left_early: tuple[Path, bytes] | None = None
        self.offered: tuple[nn.Module, dict[str, Any]] | None = None

    def offer(self, network: nn.Module, **arguments: Any) -> None:
        """Hand over the trained network and what its class is built with, for `Ship` to choose."""
        self.offered = (network, arguments)

    def shard(self, model: nn.Module, blocks: Iterable[nn.Module], entry: str = "forward") -> None:
        """Where --fsdp asks for it, share the weights out (see `parallel.shard`).

        To be said before the optimiser is made. What is sharded is trained by `fit`.
        """
        if self._fsdp:
            parallel.shard(model, blocks, entry)

    def data_parallel(self, model: nn.Module) -> nn.Module:
        """The model as training calls it: in several processes, gradients are their mean."""
        if self._fsdp and not parallel.is_sharded(model):
            raise parallel.Refused(
                "wanted a transformer for --fsdp, given a network of another kind"
            )
        return parallel.data_parallel(model)

    def is_over(self, seconds: float | None) -> bool:
        """Whether training has taken so long; all processes are told the same."""
        return seconds is not None and parallel.of_first(self.seconds > seconds)

    @property
    def seconds(self) -> float:
        """Training seconds so far, summed over resumes; only time inside `steps` loops counts."""
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return self._seconds + running

    def steps(self, total: int, desc: str = "", /, **state: Any) -> Iterator[int]:
        """Count from 0 to total - 1, from where a killed run stopped.

        `state` names all that the loop changes: objects with state_dict and load_state_dict,
        torch.Generators, plain dicts and lists (their items are replaced, so keep no other name
        for what is inside). They are saved about once a minute with the global random
        generators, and put back before the first step. Several loops need different `desc`.
        A loop may be left early; it is then finished, for a resumed run too.
        """
        if not isinstance(total, int) or total < 0:
            raise ValueError(f"wanted a number of steps >= 0, given {total!r}")
        if desc in self._seen:
            raise ValueError(
                f"wanted a different desc for each loop of a run, given {desc!r} again"
            )
        if self._since is not None:
            raise RuntimeError(f"wanted one loop at a time, given {desc!r} inside another loop")
        self._seen.add(desc)
        return self._steps(total, desc, state)

    def _steps(self, total: int, desc: str, state: dict[str, Any]) -> Iterator[int]:
        if self._left_early is not None:  # the code went on: the loop before this was a success
            self._keep(*self._left_early)
            self._left_early = None
        path = self._path(desc)
        first, finished = self._resume(path, state)
        if parallel.rank() and not self._fsdp:
            path = None  # all hold the same; of sharded weights each has to give its part
        if finished:
            return
        saved_at = time.monotonic()
        step = first
        label = " ".join(filter(None, (self._cell, desc)))
        with self._progress(total, first, label) as bar:
            try:
                for step in range(first, total):
                    self._since = time.perf_counter()
                    parallel.seed_step(self.seed, desc, step)
                    yield step
                    self._stop_clock()
                    bar.update()
                    if path and step + 1 < total and self._is_due(saved_at):
                        self._keep(path, self._pack(step + 1, False, state))
                        saved_at = time.monotonic()
            except GeneratorExit:
                # Either a `break` or an exception in the loop's body: they look the same from
                # here. So the state waits in memory until the next loop shows that it was a break.
                self._stop_clock(wait=True)
                if path and not self._fsdp:  # after an exception, none would answer
                    self._left_early = (path, self._pack(step + 1, True, state))
                raise
        before = time.perf_counter()
        synchronize(self.device)  # a GPU still works on the last steps: that is training too
        self._seconds += time.perf_counter() - before
        if path:
            self._keep(path, self._pack(total, True, state))

    def _is_due(self, saved_at: float) -> bool:
        due = time.monotonic() - saved_at >= self._every
        return parallel.of_first(due) if self._fsdp else due

    def _keep(self, path: Path, packed: bytes) -> None:
        if parallel.rank() == 0:
            checkpoint.save(path, packed)

    def _progress(self, total: int, first: int, label: str) -> tqdm:
        """A bar where somebody watches, a line a minute in a log."""
        watched = sys.stderr.isatty()
        pause = 0.1 if watched else LINE_EVERY
        return tqdm(
            total=total,
            initial=first,
            desc=label,
            leave=False,
            disable=self._quiet,
            delay=0 if watched else pause,  # a loop of seconds says nothing in a log
            mininterval=pause,
            maxinterval=max(pause, 10.0),
        )

    def _stop_clock(self, wait: bool = False) -> None:
        if wait:
            synchronize(self.device)
        self._seconds = self.seconds
        self._since = None

    def _path(self, desc: str) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / f"{self._cell}.{zlib.crc32(desc.encode()):08x}.pt"

    def _pack(self, next_step: int, finished: bool, state: dict[str, Any]) -> bytes:
        return checkpoint.pack(
            {
                "next": next_step,
                "finished": finished,
                "seconds": self._seconds,
                "tag": self._tag,
                "random": checkpoint.capture_random(self.device),
                "state": checkpoint.capture(state),
            }
        )

    def _resume(self, path: Path | None, state: dict[str, Any]) -> tuple[int, bool]:
        checkpoint.capture(state)  # refuses at once what could not be saved in a minute
        first = parallel.rank() == 0
        saved = parallel.of_first(checkpoint.load(path) if path and first else None)
        if path is None or saved is None:
            return 0, False
        if saved["tag"] != self._tag:
            self._say("a checkpoint of other settings is there: starting anew")
            return 0, False
        try:
            checkpoint.restore(state, saved["state"])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise parallel.Refused(
                f"wanted a checkpoint of this network, given another's in {path.name}, which stays "
                f"as it is until --again drops it: {reason}"
            ) from None
        checkpoint.restore_random(saved["random"], self.device)
        self._seconds = saved["seconds"]
        self._say(f"resumed at step {saved['next']} after {self._seconds:.0f} s of training")
        return saved["next"], saved["finished"]

    def forget(self) -> None:
        """Delete this cell's checkpoints."""
        if self._folder is not None and parallel.rank() == 0:
            for path in self._folder.glob(f"{self._cell}.????????.pt"):
                path.unlink(missing_ok=True)

    def _say(self, text: str) -> None:
        if not self._quiet:
            print(f"  {self._cell}: {text}", flush=True)
