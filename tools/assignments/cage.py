"""Where a submission is shut in: bubblewrap where it is installed, else Linux name spaces by hand.

Bubblewrap shows the submission what Python needs, read-only, and nothing else of the disk: no home,
no neighbours, no archive, no environment, no network, no process but its own. Without it the
fallback (`namespaces.py`) hides a list of folders. Where neither works a submission is only run
for a lecturer who says so.
"""

import os
import shutil
import signal
import site
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tools.assignments import namespaces, submission

ROOT = Path(__file__).parents[2]
MB = 2**20
# What a program needs to start, on the usual Linux systems; what is not there is passed over.
SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
KEPT = ("LANG", "LC_ALL", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def needed() -> list[Path]:
    """The folders that Python, torch and the code of this book are read from."""
    folders = [Path(sys.prefix), Path(sys.base_prefix), ROOT / "code", ROOT / "tools"]
    folders += map(Path, site.getsitepackages())
    return sorted({folder.resolve() for folder in folders if folder.is_dir()})


def environment() -> dict[str, str]:
    """What bubblewrap itself is started with: it is process 1 in there, and can be read."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    own = {"HOME": "/tmp", "TMPDIR": "/tmp", "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    return kept | own


def bubblewrap(*command: str) -> list[str]:
    """The command line that runs `command` with nothing of this machine but what it needs."""
    shown = [option for place in SYSTEM for option in ("--ro-bind-try", place, place)]
    shown += [option for place in needed() for option in ("--ro-bind", str(place), str(place))]
    return [
        shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--new-session",
        # The working folder first: what is shown may lie in it, as a checkout in /tmp does.
        "--size", str(256 * MB), "--tmpfs", "/tmp", *shown, "--proc", "/proc", "--dev", "/dev",
        "--size", str(64 * MB), "--tmpfs", "/dev/shm", "--remount-ro", "/dev", "--remount-ro", "/",
        "--chdir", "/tmp", *command,
    ]  # fmt: skip


@dataclass(frozen=True)
class Cage:
    """`kind` is "bubblewrap", "namespaces" or "open"; `why` says why it is open."""

    kind: str
    why: str = ""


@cache
def best_cage() -> Cage:
    """The closest cage that works here; each is tried, since half of one is worse than none."""
    if shutil.which("bwrap") is None:
        reason = "bwrap is not installed"
    else:
        tried = bubblewrap(sys.executable, "-c", "import torch, tools.assignments.submission")
        done = subprocess.run(tried, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return Cage("bubblewrap")
        reason = f"bwrap: {(done.stderr.strip().splitlines() or ['failed'])[-1]}"
    if closed := namespaces.why_open([]):
        return Cage("open", f"{reason}; name spaces: {closed}")
    return Cage("namespaces")


class Bubblewrapped:
    """A submission in bubblewrap: a Python of its own, which ends with all that it has started."""

    def __init__(self, memory: int):
        self.memory = memory
        self.process = None

    def start(self) -> socket.socket:
        """The connection to a new process; the one before was killed."""
        ours, theirs = socket.socketpair()
        module = [sys.executable, "-m", "tools.assignments.submission"]
        self.process = subprocess.Popen(
            bubblewrap(*module, str(theirs.fileno()), str(self.memory)),
            env=environment(),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        return ours

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    end = kill


class Forked:
    """A submission as a fork of a process with torch imported and nothing else (a template).

    So a restart costs milliseconds, and what the grader has read since is not in its memory.
    """

    def __init__(self, folder: Path, memory: int, isolate: Callable[[], None]):
        self.control, theirs = socket.socketpair()
        self.number = 0
        if os.fork() == 0:
            try:
                submission.template(theirs, folder, memory, isolate)
            finally:
                os._exit(1)
        theirs.close()

    def start(self) -> socket.socket:
        self.control.sendall(b"1")
        number, descriptors, _, _ = socket.recv_fds(self.control, 8, 1)
        self.number = int.from_bytes(number, "big")
        return socket.socket(fileno=descriptors[0])

    def kill(self) -> None:
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError):
                kill(self.number, signal.SIGKILL)

    def end(self) -> None:
        self.control.close()


Starter = Bubblewrapped | Forked


def starter(cage: Cage, folder: Path, hidden: list[Path], memory: int) -> Starter:
    """What starts the processes of one submission, with `memory` bytes beyond what torch needs."""
    if cage.kind == "bubblewrap":
        return Bubblewrapped(memory)
    shut_in = cage.kind == "namespaces"
    return Forked(folder, memory, lambda: namespaces.isolate(hidden) if shut_in else None)
