"""Runs several scripts one after the other with the same options: each.py "OPTIONS" SCRIPT ...

Goes on after a failure, so that one run shows all of them, and then ends with exit status 1.
"""

import shlex
import subprocess
import sys
import time


def main() -> int:
    options, *scripts = sys.argv[1:]
    if not scripts:
        print("There is none yet.")
    failed = []
    for number, script in enumerate(scripts, start=1):
        print(f"({number} of {len(scripts)}) {script} {options}", flush=True)
        start = time.monotonic()
        command = [sys.executable, script, *shlex.split(options)]
        if subprocess.run(command, check=False).returncode:
            failed.append(script)
        print(f"    {time.monotonic() - start:.0f} s", flush=True)
    if failed:
        print("FAILED: " + ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
