"""Bubblewrap shuts a submission in: what it cannot see, write, or leave behind."""

import contextlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from assigned import ROOT
from tools.assignments.cage import ROOT as shown
from tools.assignments.cage import Bubblewrapped, bubblewrap, environment
from tools.assignments.wire import encode, receive

pytestmark = pytest.mark.slow  # each starts processes of its own
needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="bubblewrap is not installed"
)


@needs_bubblewrap
def test_bubblewrap_shows_a_submission_neither_home_nor_environment_nor_processes(monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_LECTURER", "1")
    look = """
import json, os, pathlib
print(json.dumps({
    "environment": sorted(os.environ),
    "of process 1": pathlib.Path("/proc/1/environ").read_text(),
    "processes": [name for name in os.listdir("/proc") if name.isdigit()],
    "root": os.listdir("/"), "book": sorted(os.listdir(pathlib.Path(os.environ["PYTHONPATH"]))),
}))
"""
    done = subprocess.run(
        bubblewrap(sys.executable, "-c", look),
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(done.stdout)
    assert "SECRET_OF_THE_LECTURER" not in seen["environment"]
    assert "SECRET_OF_THE_LECTURER" not in seen["of process 1"]
    assert len(seen["processes"]) == 2  # bubblewrap and itself
    assert "home" not in seen["root"]
    assert set(seen["book"]) <= {"code", "tools", Path(sys.prefix).name}
    assert shown.is_dir()


@needs_bubblewrap
@pytest.mark.parametrize("place", ["/", "/dev", "/usr", "PREFIX", "BOOK"])
def test_in_bubblewrap_nothing_but_the_working_folder_can_be_written(place: str):
    folder = {"PREFIX": sys.prefix, "BOOK": str(ROOT / "tools")}.get(place, place)
    write = f"open({folder!r} + '/archbook-hostile', 'w')"
    done = subprocess.run(
        bubblewrap(sys.executable, "-c", write), capture_output=True, text=True, check=False
    )
    assert "Read-only file system" in done.stderr
    assert not Path(folder, "archbook-hostile").exists()


@needs_bubblewrap
def test_no_process_of_a_submission_outlives_its_grading():
    marker = "archbook-survivor-71a3"
    left = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", {marker!r}],
                 start_new_session=True)
"""
    starter = Bubblewrapped(2**31)
    with starter.start() as connection:
        receive(connection)
        connection.sendall(encode((60, "cell", 1, left), id))
        receive(connection)
        assert comes_to(1, marker)
        starter.kill()
    assert comes_to(0, marker)


def comes_to(count: int, marker: str) -> bool:
    """Whether so many processes have it, within half a minute: a new one has no name at first."""
    end = time.monotonic() + 30
    while processes_with(marker) != count and time.monotonic() < end:
        time.sleep(0.05)
    return processes_with(marker) == count


def processes_with(marker: str) -> int:
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += marker.encode() in path.read_bytes()
    return found
