"""The process in which a submission runs: the only one that runs a line of it.

It executes the notebook's cells and then does what it is asked: say what a name holds, call a
function. It sees no test, writes no result, and is killed when it takes too long.
"""

import errno
import io
import linecache
import os
import resource
import signal
import socket
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.assignments.jupyter import Notebook, plain_python
from tools.assignments.wire import decode, encode, receive

OUTPUT_BYTES = 10 * 2**20  # what one cell or call may print, and the longest file it may write


def close_all_but(kept: int) -> None:
    """What was open in the grader, such as the way to its results, is not for a submission."""
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def limit(memory: int) -> None:
    """At most `memory` bytes beyond what Python and torch hold by now; Linux only."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        pages = statm.read_text(encoding="ascii").split()[0]
        most = int(pages) * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (OUTPUT_BYTES, OUTPUT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class TooLong(KeyboardInterrupt):
    """Raised inside a cell or function; no `except Exception` of the submission's holds it up.

    As in Jupyter, where a cell is stopped by a KeyboardInterrupt: asyncio lets no other error pass.
    """


@contextmanager
def computing_at_most(seconds: float) -> Iterator[None]:
    """Processor time, so that a busy machine takes nothing from a student."""

    def stop(*_: Any) -> None:
        raise TooLong(f"It was stopped after {seconds:g} s of computing. Does it loop for ever?")

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


# ---- what happened, in words for the student ----


def in_words(error: BaseException, memory: int) -> str:
    if isinstance(reason := getattr(error, "reason", None), OSError):  # urllib wraps it
        error = reason
    text = str(error)
    if isinstance(error, TooLong):
        return text
    if isinstance(error, SystemExit):
        return "It called exit() or quit(). A notebook must run to its end."
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return f"It needed more than {memory / 2**30:.2g} GB of memory."
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return f"It printed or wrote more than {OUTPUT_BYTES // 2**20} MB."
    if isinstance(error, OSError) and error.errno in (errno.ENETUNREACH, errno.EADDRNOTAVAIL):
        return "It tried to open a network connection. There is none while a notebook is graded."
    if isinstance(error, socket.gaierror):
        return "It asked the network for an address. There is none while a notebook is graded."
    return f"{type(error).__name__}: {text[:300]}"


# ---- the loop ----


@dataclass
class Submission:
    """What is asked of the notebook, one method a question."""

    memory: int
    names: dict[str, Any] = field(default_factory=dict)
    objects: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        module = types.ModuleType("__main__")  # pickle and dataclasses look it up
        sys.modules["__main__"] = module
        module.__dict__["display"] = print
        self.names = module.__dict__
        self.notebook = Notebook(self.names)

    def cell(self, number: int, source: str) -> None:
        name = f"<cell {number}>"
        source = plain_python(source)
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        self.notebook.run(source, name)

    def get(self, name: str) -> tuple[bool, Any]:
        return name in self.names, self.names.get(name)

    def attribute(self, number: int, name: str) -> Any:
        return getattr(self.objects[number], name)

    def call(self, number: int, arguments: tuple, keywords: dict) -> Any:
        """The result, and the arguments as they are afterwards."""
        result = self.objects[number](*arguments, **keywords)
        return result, arguments, keywords

    def keep(self, value: Any) -> int:
        self.objects.append(value)
        return len(self.objects) - 1

    def find(self, number: int, _: str) -> Any:
        return self.objects[number]


def printer() -> io.TextIOWrapper:
    """Prints any text, whatever the language that this system is set to."""
    return io.TextIOWrapper(open(1, "wb", closefd=False), "utf-8", "backslashreplace")


def serve(connection: socket.socket, memory: int) -> None:
    submission = Submission(memory)
    while True:
        seconds, question, *arguments = decode(*receive(connection), submission.find)
        with open(1, "wb", buffering=0, closefd=False) as output:
            output.seek(0)
            output.truncate()
        try:
            with computing_at_most(seconds):
                answer = getattr(submission, question)(*arguments)
                sys.stdout.flush()
            reply = encode((True, answer), submission.keep)
        except BaseException as error:
            told = (False, type(error).__name__, in_words(error, memory))
            # What is still to be printed would break the limit again.
            sys.stdout = sys.stderr = printer()
            reply = encode(told, submission.keep)
        connection.sendall(reply)


def run(connection: socket.socket, folder: Path, memory: int, isolate: Callable[[], None]) -> None:
    """Never returns."""
    os.setsid()
    close_all_but(connection.fileno())
    isolate()
    connection.sendall(encode(True, id))  # ready
    os.chdir(tempfile.mkdtemp(dir=folder))
    sys.path.insert(0, "")  # as in Jupyter: what a cell writes as a module, the next can import
    with open("printed", "wb") as printed, open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
    sys.stdin = io.StringIO()
    sys.stdout = sys.stderr = printer()
    limit(memory)
    try:
        serve(connection, memory)
    finally:
        os._exit(0)


def template(
    control: socket.socket, folder: Path, memory: int, isolate: Callable[[], None]
) -> None:
    """Waits, with torch imported and nothing else, and becomes a new submission when asked to."""
    close_all_but(control.fileno())
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    while control.recv(1):
        ours, theirs = socket.socketpair()
        if (child := os.fork()) == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            run(theirs, folder, memory, isolate)
        socket.send_fds(control, [child.to_bytes(8, "big")], [ours.fileno()])
        ours.close()
        theirs.close()
    os._exit(0)


def main(number: str, memory: str) -> None:
    """In bubblewrap, which has shut in this process already."""
    import torch

    torch.set_num_threads(1)
    connection = socket.socket(fileno=int(number))
    run(connection, Path(tempfile.gettempdir()), int(memory), isolate=lambda: None)


if __name__ == "__main__":
    main(*sys.argv[1:])
