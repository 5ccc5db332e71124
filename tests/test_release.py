"""A release: a wheel that holds all a notebook needs, what keeps it back, what is published."""

import subprocess
import zipfile
from pathlib import Path

import pytest
from tools import release
from tools.address import ROOT, package_version

VERSION = package_version()


def a_wheel(folder: Path, version: str = VERSION) -> Path:
    """Like the one that is built, with empty files."""
    path = folder / f"archbook-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as opened:
        for file in (ROOT / "code" / "archbook").rglob("*"):
            if file.is_file() and file.suffix != ".pyc" and file.name[0] != ".":
                opened.writestr(file.relative_to(ROOT / "code").as_posix(), "")
        for file in ROOT.glob("results/*/*.json"):
            opened.writestr(f"archbook/_results/{file.parent.name}/{file.name}", "")
        opened.writestr(f"archbook-{version}.dist-info/METADATA", "")
    return path


def test_a_wheel_with_code_data_and_results_is_whole(tmp_path: Path):
    assert release.faults_of_wheel(a_wheel(tmp_path)) == []


@pytest.mark.parametrize(
    "name",
    ["archbook/lmu/memory.py", "archbook/py.typed", "archbook/_results/lmu/bench.json"],
)
def test_a_wheel_that_lacks_a_file_is_found(tmp_path: Path, name: str):
    whole = a_wheel(tmp_path)
    lacking = tmp_path / "lacking" / whole.name
    lacking.parent.mkdir()
    with zipfile.ZipFile(whole) as read, zipfile.ZipFile(lacking, "w") as written:
        for held in read.namelist():
            if held != name:
                written.writestr(held, "")
    assert release.faults_of_wheel(lacking) == [f"{whole.name} lacks {name}"]


def test_a_wheel_of_another_version_or_with_more_is_found(tmp_path: Path):
    path = a_wheel(tmp_path, "9.9")
    with zipfile.ZipFile(path, "a") as opened:
        opened.writestr("tests/test_lmu.py", "")
    assert release.faults_of_wheel(path) == [
        f"{path.name} holds tests",
        f"{path.name} is not of version {VERSION}",
    ]


def test_the_notes_of_a_version_are_its_part_of_the_changelog():
    assert release.notes("0.1.0").startswith("### Added\n\n- Six chapters")
    assert "[0.1.0]" not in release.notes("Unreleased")
    assert release.notes("9.9") == ""


# What is out of order: what git says, the changelog's parts, the address; the obstacle.
IN_ORDER = {
    "status": "",
    "tag": "",
    "1.2": "- New.",
    "Unreleased": "",
    "at": "https://a.org/b/c",
    "pdf": __file__,
}
OBSTACLES = {
    "1.2": ("", "CHANGELOG.md says nothing of 1.2"),
    "Unreleased": ("- Newer.", "CHANGELOG.md has changes under Unreleased"),
    "status": (" M README.md", "git status shows changes that are not committed"),
    "tag": ("v1.2", "the tag v1.2 exists"),
    "at": ("https://github.com/OWNER/archbook", "pyproject.toml holds no public address"),
    "pdf": ("nowhere.pdf", "the book is not printed"),
}


def in_a_state(monkeypatch: pytest.MonkeyPatch, state: dict[str, str]) -> None:
    monkeypatch.setattr(release, "git", lambda command, *rest: state[command])
    monkeypatch.setattr(release, "notes", lambda version: state[version])
    monkeypatch.setattr(release, "declared_repository", lambda: state["at"])
    monkeypatch.setattr(release, "PDF", Path(state["pdf"]))


def test_nothing_keeps_a_commit_that_is_in_order(monkeypatch: pytest.MonkeyPatch):
    in_a_state(monkeypatch, IN_ORDER)
    assert release.obstacles("1.2") == []


@pytest.mark.parametrize("what", OBSTACLES)
def test_each_obstacle_is_named(monkeypatch: pytest.MonkeyPatch, what: str):
    given, obstacle = OBSTACLES[what]
    in_a_state(monkeypatch, IN_ORDER | {what: given})
    (found,) = release.obstacles("1.2")
    assert found.startswith(obstacle)


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A forge: a repository to push to, and `gh`, which notes what it is asked."""
    for name in ("notebooks", "assignments"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lmu.ipynb").write_text(name)
        monkeypatch.setattr(release, name.upper(), tmp_path / name)
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "archbook.whl").touch()
    monkeypatch.setattr(release, "DIST", tmp_path / "dist")
    monkeypatch.setattr(release, "ROOT", tmp_path / "here")
    monkeypatch.setattr(release, "notes", lambda version: "- New.")
    for folder, bare in (("forge", ["--bare"]), ("here", [])):
        subprocess.run(["git", "init", "-q", *bare, tmp_path / folder], check=True)
    release.git("remote", "add", "origin", str(tmp_path / "forge"))
    gh = tmp_path / "bin" / "gh"
    gh.parent.mkdir()
    gh.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {tmp_path}/asked\n')
    gh.chmod(0o755)
    monkeypatch.setenv("PATH", str(gh.parent), prepend=":")
    return tmp_path / "forge"


def test_an_upload_replaces_the_branch_of_notebooks_and_makes_the_release(origin: Path):
    (release.NOTEBOOKS / "old.ipynb").touch()
    release.upload("1.1")
    (release.NOTEBOOKS / "old.ipynb").unlink()
    release.upload("1.2")

    def forge(*command: str) -> list[str]:
        return subprocess.check_output(["git", "-C", origin, *command], text=True).splitlines()

    files = forge("ls-tree", "-r", "--name-only", "notebooks")
    assert files == ["assignments/lmu.ipynb", "lmu.ipynb"]
    assert forge("show", "notebooks:lmu.ipynb") == ["notebooks"]
    assert forge("log", "--format=%s", "notebooks") == ["The notebooks of version 1.2"]
    asked = (origin.parent / "asked").read_text().splitlines()
    last = asked[len(asked) // 2 :]
    assert last[:4] == ["release", "create", "v1.2", str(release.DIST / "archbook.whl")]
    assert last[last.index("--notes") + 1] == "- New."
