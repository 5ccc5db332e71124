"""Installs into a virtual environment, made here if it is missing: install.py ENV PIP-ARGUMENTS.

Needs nothing but Python: a pip too old for the dependency groups of pyproject.toml, as the one that
Python 3.11 brings, is renewed first. Shows what is downloaded and every error, and leaves out
pip's chatter.
"""

import re
import subprocess
import sys
import time
import venv
from pathlib import Path

OLDEST = (3, 11)
KNOWS_GROUPS = (25, 1)  # the first pip that does
PIP = "pip==26.3"
LARGE = re.compile(r"\(([1-9]\d+(\.\d+)? MB|\d+(\.\d+)? GB)\)")  # 10 MB and more


def make_environment(folder: Path) -> None:
    if sys.version_info < OLDEST:
        wanted, given = ".".join(map(str, OLDEST)), sys.version.split()[0]
        sys.exit(f"Python {wanted} or newer is wanted, this is {given}: make PYTHON=python3.12 ...")
    print(f"Making {folder} with Python {sys.version.split()[0]} ...", flush=True)
    try:
        venv.create(folder, with_pip=True)
    except subprocess.CalledProcessError as error:
        sys.exit(f"{folder} could not be made ({error}). On Debian: apt install python3-venv")


def shortened(line: str) -> str | None:
    """What of pip's line a reader wants to see: large downloads, warnings, the end."""
    text = line.strip()
    if text.startswith("Downloading"):
        return text if LARGE.search(text) else None
    if text.startswith("Installing collected packages:"):
        return f"unpacking {len(text.split()) - 3} packages ..."
    if "error" in text.lower():
        return text
    # Folders named in a pip configuration that do not hold this package.
    known = text.endswith("is ignored: it is neither a file nor a directory.")
    return text if text.startswith("WARNING") and not known else None


def version_of_pip(python: Path) -> tuple[int, ...]:
    command = [str(python), "-c", "import pip; print(pip.__version__)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(int(number) for number in re.findall(r"\d+", done.stdout)[:2])


def install(python: Path, arguments: list[str]) -> int:
    """pip's exit status; shows what `shortened` leaves, or pip's last lines where it fails."""
    start = time.monotonic()
    command = [str(python), "-m", "pip", "install", "--progress-bar", "off", *arguments]
    everything = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            everything.append(line)
            if (text := shortened(line)) is not None:
                print(f"  {text}", flush=True)
    if process.returncode:
        print("".join(everything[-40:]))
        print(f"pip ended with exit status {process.returncode}; its last lines are above.")
    else:
        print(f"  done after {time.monotonic() - start:.0f} s", flush=True)
    return process.returncode


def main() -> int:
    folder, *arguments = sys.argv[1:]
    python = Path(folder) / "bin" / "python"
    if not python.exists():
        make_environment(Path(folder))
    if version_of_pip(python) < KNOWS_GROUPS and (failed := install(python, [PIP])):
        return failed
    print(f"Installing into {folder}: {' '.join(arguments)}", flush=True)
    return install(python, arguments)


if __name__ == "__main__":
    sys.exit(main())
