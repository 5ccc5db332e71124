"""Runs one check and puts its name before every line: step.py NAME COMMAND ...

Checks run side by side (`make test`), so a line without a name would not say whose it is.
"""

import subprocess
import sys
import time


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
    ending = "done" if process.returncode == 0 else f"FAILED (exit status {process.returncode})"
    print(f"[{name}] {ending} after {time.monotonic() - start:.0f} s", flush=True)
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
