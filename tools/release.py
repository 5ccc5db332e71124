"""Makes all that a release gives out, in dist/: wheel, sdist, plain notebooks, pages, PDF.

python -m tools.release           builds and looks it through; nothing leaves this machine
python -m tools.release --tag     also tags this commit and pushes the tag, if all is in order
python -m tools.release --upload  what the forge does with that tag: the release, and the branch
                                  from which Colab opens the notebooks
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from tools.address import (
    NOTEBOOKS_BRANCH,
    PLACEHOLDER,
    ROOT,
    declared_repository,
    package_version,
)
from tools.printed import PDF

DIST = ROOT / "dist"
HTML = ROOT / "_build" / "html"
NOTEBOOKS = HTML / "_static" / "notebooks"
ASSIGNMENTS = HTML / "_static" / "assignments"


def git(*arguments: str, **environment: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout.strip()


# ---- what is built ----


def build(dist: Path) -> None:
    """The sdist, and from it the wheel; notebooks and pages as archives; the PDF, if printed."""
    shutil.rmtree(dist, ignore_errors=True)
    command = [sys.executable, "-m", "build", "--outdir", str(dist), str(ROOT)]
    try:
        subprocess.check_output(command, stderr=subprocess.STDOUT, text=True)
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error.output}\npython -m build ended with exit status {error.returncode}")
    name = f"archbook-{package_version()}"
    pack(dist / f"{name}-notebooks.zip", NOTEBOOKS.glob("*.ipynb"), NOTEBOOKS)
    pages = (path for path in HTML.rglob("*") if path.is_file() and path.name != ".built")
    pack(dist / f"{name}-pages.zip", pages, HTML)
    if PDF.exists():
        shutil.copyfile(PDF, dist / f"{name}.pdf")


def pack(archive: Path, files: Iterable[Path], folder: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(files):
            packed.write(path, path.relative_to(folder))


def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


def faults_of_wheel(package: Path) -> list[str]:
    """What a notebook alone would miss."""
    with zipfile.ZipFile(package) as opened:
        held = set(opened.namelist())
    code = ROOT / "code"
    files = {path.relative_to(code) for path in code.rglob("archbook/**/*") if path.is_file()}
    files = {path for path in files if path.suffix != ".pyc" and path.name[0] != "."}
    results = {path.relative_to(ROOT / "results") for path in ROOT.glob("results/*/*.json")}
    wanted = {path.as_posix() for path in files}
    wanted |= {f"archbook/_results/{path.as_posix()}" for path in results}
    found = [f"{package.name} lacks {name}" for name in sorted(wanted - held)]
    strangers = {name.split("/")[0] for name in held} - {"archbook"}
    found += [f"{package.name} holds {name}" for name in strangers if ".dist-info" not in name]
    if package.name.split("-")[1] != package_version():
        found.append(f"{package.name} is not of version {package_version()}")
    return found


# ---- what is published ----


def notes(version: str) -> str:
    """What the changelog says of this version."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    parts = re.split(r"^## \[(.+?)\].*$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True)).get(version, "").strip()


def obstacles(version: str) -> list[str]:
    """What keeps this commit from being a release."""
    found = []
    if not notes(version):
        found.append(f"CHANGELOG.md says nothing of {version}")
    if notes("Unreleased"):
        found.append("CHANGELOG.md has changes under Unreleased: give them a version")
    if git("status", "--porcelain"):
        found.append("git status shows changes that are not committed")
    if not PDF.exists():
        found.append("the book is not printed, for lack of Chromium")
    if git("tag", "--list", f"v{version}"):
        found.append(f"the tag v{version} exists: raise __version__ in code/archbook/__init__.py")
    if PLACEHOLDER in declared_repository():
        found.append("pyproject.toml holds no public address yet, and the wheel would say so")
    return found


def push_notebooks(version: str) -> None:
    """The branch holds nothing but the notebooks of this version, and no history."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(NOTEBOOKS, tree)
        shutil.copytree(ASSIGNMENTS, tree / "assignments")
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index"), "GIT_WORK_TREE": str(tree)}
        git("add", "--all", "--force", str(tree), **index)
        identity = ("archbook", "archbook@example.org")
        who = {
            f"GIT_{role}_{part}": value
            for role in ("AUTHOR", "COMMITTER")
            for part, value in zip(("NAME", "EMAIL"), identity, strict=True)
        }
        written = git("write-tree", **index)
        commit = git("commit-tree", written, "-m", f"The notebooks of version {version}", **who)
    git("push", "--force", "origin", f"{commit}:refs/heads/{NOTEBOOKS_BRANCH}")


def upload(version: str) -> None:
    """The notebooks first: a release whose notebooks lag would open old ones with its package."""
    push_notebooks(version)
    files = [str(path) for path in sorted(DIST.iterdir())]
    about = ["--title", f"archbook {version}", "--notes", notes(version), "--verify-tag"]
    subprocess.run(["gh", "release", "create", f"v{version}", *files, *about], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Makes all that a release gives out.")
    parser.add_argument("--tag", action="store_true", help="then tag this commit and push the tag")
    parser.add_argument("--upload", action="store_true", help="then publish it (the forge does)")
    arguments = parser.parse_args()
    version = package_version()
    build(DIST)
    for path in sorted(DIST.iterdir()):
        print(f"dist/{path.name}: {path.stat().st_size / 1e6:.1f} MB")
    if faults := faults_of_wheel(wheel(DIST)):
        sys.exit("\n".join(faults))
    if arguments.upload:
        upload(version)
        return 0
    left = obstacles(version)
    for obstacle in left:
        print(f"before a release: {obstacle}")
    if not arguments.tag:
        print("Nothing was tagged or published. `make release TAG=1` does it.")
        return 0
    if left:
        return 1
    git("tag", "--annotate", f"v{version}", "--message", f"archbook {version}")
    git("push", "origin", f"v{version}")
    print(f"The tag v{version} is pushed: the forge makes the release from it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
