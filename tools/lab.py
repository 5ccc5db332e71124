"""Opens the notebooks in JupyterLab: lab.py. `make lab` builds them first.

What is opened are copies in a folder that git ignores, so running them changes nothing here. A copy
that differs from the book's notebook is never overwritten: it may hold a reader's work.
"""

import os
import secrets
import shutil
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
BUILT = ROOT / "_build" / "html" / "_static" / "notebooks"
COPIES = ROOT / "lab"
PORT = 8888  # the pages' button *JupyterLab* leads there


def sources(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells]


def copy(built: Path, copies: Path) -> list[str]:
    """Copies what is not there yet; returns the names of copies that differ from the book's."""
    copies.mkdir(exist_ok=True)
    differ = []
    for path in sorted(built.glob("*.ipynb")):
        mine = copies / path.name
        if not mine.exists():
            shutil.copyfile(path, mine)
        elif sources(mine) != sources(path):
            differ.append(path.name)
    return differ


def main() -> None:
    for name in copy(BUILT, COPIES):
        print(f"{COPIES.name}/{name} differs from the book's and stays: delete it to get that one.")
    token = secrets.token_hex(16)
    print("Open this link once, in the browser that shows the pages (Ctrl-C here ends it all):")
    print(f"  http://localhost:{PORT}/lab?token={token}", flush=True)
    os.environ["JUPYTER_TOKEN"] = token  # on a command line every user of the machine could read it
    settings = {
        "ServerApp.root_dir": COPIES,
        "ServerApp.port": PORT,
        "ServerApp.port_retries": 0,  # another port would leave the button dead
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.allow_root": hasattr(os, "geteuid") and os.geteuid() == 0,
        "Application.log_level": "WARN",
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *options])


if __name__ == "__main__":
    main()
