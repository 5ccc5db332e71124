"""Runs one check and puts its name before every line: step.py NAME COMMAND ...

Checks run side by side (`make test`), so a line without a name would not say whose it is. How long
each took, and how much of a processor, stands in `_build/times/` for `tools/times.py`.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

TIMES = Path("_build/times")


def main() -> int:
    name, *command = sys.argv[1:]
    start = time.monotonic()
    print(f"[{name}] starts", flush=True)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"[{name}] {line.rstrip()}", flush=True)
    seconds = time.monotonic() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = used.ru_utime + used.ru_stime  # of the command and of what it started and waited for
    ending = "done" if process.returncode == 0 else f"FAILED (exit status {process.returncode})"
    print(f"[{name}] {ending} after {seconds:.0f} s", flush=True)
    TIMES.mkdir(parents=True, exist_ok=True)
    (TIMES / f"{name}.txt").write_text(f"{seconds:.1f} {busy:.1f}\n", encoding="utf-8")
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
