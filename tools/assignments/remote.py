"""The submission's process as the grader sees it: asked for values, stopped, and begun again.

The grader never runs a line of the submission: that one runs beside it (`submission.py`) and
answers. It can answer rightly or wrongly, and nothing else it does can bring points.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tools.assignments.cage import Starter
from tools.assignments.wire import Closed, decode, encode, receive


@dataclass(frozen=True)
class Limits:
    """What one submission may use."""

    cell: float = 60  # seconds of computing for one cell
    call: float = 20  # seconds of computing for one call of a function by a test
    patience: float = 3  # seconds on the clock for each of those, for who sleeps or starts others
    total: float = 1800  # seconds on the clock for the whole notebook
    memory: float = 2  # GB beyond what torch needs


class Trouble(Exception):
    """What went wrong on the submission's side, in words for the student."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


# ---- what a test gets in place of the student's function ----


class Remote:
    """Stands for an object of the submission: can be called, and asked for attributes."""

    def __init__(self, running: "Running", number: int, name: str):
        self._running, self._number, self._name = running, number, name

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        question = ("call", self._number, arguments, keywords)
        result, *after = self._running.ask(*question, who=f"`{self._name}`")
        put_back((arguments, keywords), tuple(after))
        if result is None:
            raise Trouble(f"`{self._name}` returned None. Is it still to be written?")
        return result

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._running.ask("attribute", self._number, name, who=f"`{self._name}.{name}`")

    def __bool__(self) -> bool:
        raise Trouble(f"`{self._name}` is no value that can be compared")


def put_back(old: Any, new: Any) -> None:
    """A function that changed its input changed a copy; the test shall see it."""
    if isinstance(old, torch.Tensor | np.ndarray):
        held: Any = old.data if isinstance(old, torch.Tensor) else old
        if isinstance(new, type(old)) and old.shape == new.shape and not bool((held == new).all()):
            held[...] = new
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() & new.keys():
            put_back(old[key], new[key])
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple):
        for one, other in zip(old, new, strict=False):
            put_back(one, other)


# ---- a running submission ----


class Running:
    """The submission's process. What kills it costs the question, and it starts again."""

    def __init__(self, starter: Starter, cells: dict[int, str], limits: Limits):
        self.starter, self.cells, self.limits = starter, cells, limits
        self.deadline = self.end = time.monotonic() + limits.total
        self.stopped: dict[int, str] = {}  # cells that are not run again, and why
        self.complaints: dict[int, str] = {}  # cells that raised an error
        self.connection = None
        while self.connection is None:
            self._begin()

    def _begin(self) -> None:
        """Runs every cell; without a connection afterwards if one of them had to be stopped."""
        self.connection = self.starter.start()
        with at_most(300):  # importing torch, on a busy machine
            receive(self.connection)
        for number, source in self.cells.items():
            if number in self.stopped:
                continue
            self._wait_for(self.limits.cell)
            try:
                self.ask("cell", number, source, who=f"Cell {number}")
            except Trouble as trouble:
                kept = self.complaints if self.connection else self.stopped
                kept[number] = str(trouble)
                if not self.connection:
                    return

    def new_question(self) -> None:
        while self.connection is None:
            self._begin()
        self._wait_for(self.limits.call)

    def _wait_for(self, computing: float) -> None:
        self.computing = computing
        self.deadline = min(time.monotonic() + computing * self.limits.patience, self.end)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None
            self.starter.kill()

    def _receive(self, seconds: float) -> Any:
        assert self.connection is not None
        with at_most(seconds):
            text, body = receive(self.connection)
        return decode(text, body, self._found)

    def _found(self, number: int, kind: str) -> Any:
        if kind == "ellipsis":
            raise Trouble("is still `...`")
        return Remote(self, number, self.asked_for.strip("`"))

    def ask(self, question: str, *arguments: Any, who: str) -> Any:
        if self.connection is None:
            raise Trouble(f"{who} was not asked: the notebook had been stopped before.")
        self.asked_for = who
        message = encode((self.computing, question, *arguments), own_number)
        begun = time.monotonic()
        try:
            with at_most(self.deadline - begun):
                self.connection.sendall(message)
            good, *answer = self._receive(self.deadline - time.monotonic())
        except TimeoutError:
            self.close()
            if time.monotonic() >= self.end:
                raise Trouble(f"The whole notebook took over {self.limits.total:g} s.") from None
            waited = f"{time.monotonic() - begun:.0f} s"
            raise Trouble(f"{who} was stopped after {waited}. Does it wait?") from None
        except (Closed, ConnectionError):
            self.close()
            raise Trouble(
                f"{who} ended the whole Python process (os._exit, a crash, or too much memory)."
            ) from None
        except (ValueError, TypeError, KeyError, IndexError, RuntimeError, RecursionError) as error:
            self.close()
            raise Trouble(f"{who} gave something that cannot be read: {error}") from None
        if good:
            return answer[0]
        raise Trouble(f"{who} failed. {answer[1]}")


def own_number(value: Any) -> int:
    if isinstance(value, Remote):
        return value._number
    raise TypeError(f"a test cannot hand over a {type(value).__name__}")
