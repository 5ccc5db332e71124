"""Programs that work with torch, each a fork of one process that has imported it.

To import torch takes three seconds of a processor, and most of what the tests start needs a tenth
of that. What a fork cannot show, such as what a command prints as it starts, needs a fresh process.
"""

import multiprocessing
import os
import runpy
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

from tools.chapters import chapters

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "torch.distributed.run",
        "torch._dynamo",
        "archbook.running",
        *(f"archbook.{stem}" for stem in chapters()),
    ]
)


def become(said: Connection, errors: str, settings: dict[str, str], command: list[str]) -> None:
    """What follows `python` on a command line: a file, or -m or -c, and arguments."""
    os.dup2(said.fileno(), 1)
    said.close()
    with Path(errors).open("ab") as file:
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(settings)
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    elif command[0] == "-c":
        sys.argv = ["-c", *command[2:]]
        exec(command[1], {"__name__": "__main__"})
    else:
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")


class Forked:
    """A program on one thread, and as much of subprocess.Popen as the tests use."""

    def __init__(self, *command: str, **more: str):
        ours, theirs = FORKS.Pipe(duplex=False)
        self.stdout = os.fdopen(os.dup(ours.fileno()), encoding="utf-8")
        self.stderr = tempfile.NamedTemporaryFile("r", encoding="utf-8")  # noqa: SIM115
        settings = {**os.environ, "OMP_NUM_THREADS": "1", **more}
        given = (theirs, self.stderr.name, settings, list(command))
        self.process = FORKS.Process(target=become, args=given)
        self.process.start()
        self.kill, self.terminate = self.process.kill, self.process.terminate
        theirs.close()
        ours.close()

    def communicate(self) -> tuple[str, str]:
        with self.stdout, self.stderr:
            out = self.stdout.read()
            self.process.join()
            return out, self.stderr.read()

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode
