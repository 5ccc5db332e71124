"""Runs several scripts one after the other: each.py [--fork MODULE,...] "OPTIONS" SCRIPT ...

All get the same options. Goes on after a failure, so that one run shows all of them, and then ends
with exit status 1. With --fork each is a fork of this process, which has imported the modules: of
short scripts, imports are most of what they cost.
"""

import importlib
import os
import runpy
import shlex
import subprocess
import sys
import time
from pathlib import Path


def fresh(script: str, options: list[str]) -> int:
    return subprocess.run([sys.executable, script, *options], check=False).returncode


def forked(script: str, options: list[str]) -> int:
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        sys.argv, sys.path[0] = [script, *options], str(Path(script).parent)
        runpy.run_path(script, run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> int:
    run, given = fresh, sys.argv[1:]
    if given[0] == "--fork":
        run, given = forked, given[2:]
        for module in sys.argv[2].split(","):
            importlib.import_module(module)
    options, *scripts = given
    if not scripts:
        print("There is none yet.")
    failed = []
    for number, script in enumerate(scripts, start=1):
        print(f"({number} of {len(scripts)}) {script} {options}", flush=True)
        start = time.monotonic()
        if run(script, shlex.split(options)):
            failed.append(script)
        print(f"    {time.monotonic() - start:.0f} s", flush=True)
    if failed:
        print("FAILED: " + ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
