"""Files fetched once into a cache: any source may fail, only the checksum is trusted."""

import hashlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from archbook.data.checksums import sha256_of
from archbook.data.sources import Source, SourceError, Stream

CHUNK = 1 << 20  # bytes held in memory at a time
STALE = 24 * 3600  # seconds after which a killed process's scratch folder is swept away


class DataError(RuntimeError):
    """Data are missing, changed or out of reach; the message says what to do about it.

    >>> fetch(DataSet(name="mine", files={"x.csv": 64 * "0"}, sources=()))
    Traceback (most recent call last):
        ...
    archbook.data.fetching.DataError: the data set 'mine' lacks x.csv; tried:
    ...
    """


@dataclass(frozen=True)
class DataSet:
    """Files that belong together: their checksums, and where they may be had, in order.

    >>> own = DataSet(name="mine", files={"x.csv": 64 * "0"}, sources=())
    >>> own.name, sorted(own.files)
    ('mine', ['x.csv'])
    """

    name: str  # folder inside the cache
    files: Mapping[str, str]  # file name -> SHA-256 of the unpacked file
    sources: tuple[Source, ...]


def cache_dir() -> Path:
    """The folder for fetched data: `ARCHBOOK_DATA` where set, else the user's cache folder.

    >>> import os
    >>> os.environ["ARCHBOOK_DATA"] = "/data"
    >>> cache_dir().as_posix()
    '/data'
    """
    if chosen := os.environ.get("ARCHBOOK_DATA"):
        return Path(chosen).expanduser().absolute()
    system = platform.system()
    if system == "Windows":
        default, variable = Path.home() / "AppData" / "Local", "LOCALAPPDATA"
    elif system == "Darwin":
        default, variable = Path.home() / "Library" / "Caches", ""
    else:
        default, variable = Path.home() / ".cache", "XDG_CACHE_HOME"
    return Path(os.environ.get(variable) or default) / "archbook"


def fetch(data: DataSet) -> Path:
    """The folder that holds every file of `data`, fetching what is missing or damaged.

    Each file is written to a scratch folder beside its place, verified there and renamed, so that
    other processes see a whole file or none, and may fetch the same set at the same time.

    >>> own = DataSet(name="mine", files={}, sources=())
    >>> fetch(own) == cache_dir() / "mine"  # nothing is missing
    True
    """
    folder = cache_dir() / data.name
    missing = [name for name, digest in data.files.items() if not _holds(folder / name, digest)]
    if not missing:
        return folder
    scratch = _scratch_in(folder)
    failures = []
    try:
        for source in data.sources:
            print(f"archbook: fetching {data.name} from {source}", file=sys.stderr, flush=True)
            try:
                for name, stream in source.streams(tuple(missing), scratch):
                    _store(stream, scratch / "part", folder / name, digest=data.files[name])
                    missing.remove(name)
            except Exception as error:  # whatever went wrong, the next source may still work
                failures.append(f"{source}: {str(error) or type(error).__name__}")
            if not missing:
                return folder
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    raise DataError(_out_of_reach(data, folder, missing, failures=failures))


def _holds(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_of(path) == digest


def _scratch_in(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(".fetch-*"):
            with suppress(OSError):  # another process may sweep it first
                if time.time() - old.stat().st_mtime > STALE:
                    shutil.rmtree(old)
        return Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder))
    except OSError as error:
        raise DataError(
            f"cannot write to the data cache {folder} ({error}); set the environment variable "
            "ARCHBOOK_DATA to a folder that can be written"
        ) from error


def _store(stream: Stream, part: Path, place: Path, *, digest: str) -> None:
    found, size = hashlib.sha256(), 0
    with part.open("wb") as file:
        try:
            while chunk := stream.read(CHUNK):
                file.write(chunk)
                found.update(chunk)
                size += len(chunk)
        except EOFError:
            raise SourceError(f"{place.name}: the download stopped after {size:,} bytes") from None
    if found.hexdigest() != digest:
        raise SourceError(
            f"{place.name}: wrong checksum, wanted sha256 {digest}, given {found.hexdigest()} "
            f"({size:,} bytes)"
        )
    part.replace(place)


def _out_of_reach(data: DataSet, folder: Path, missing: list[str], *, failures: list[str]) -> str:
    wrong = [name for name in missing if (folder / name).exists()]
    lines = [
        f"the data set {data.name!r} lacks {', '.join(missing)}; tried:",
        *(f"  - {failure}" for failure in failures),
        f"To put them in place by hand, save these files, unpacked, in {folder}",
        "(or set ARCHBOOK_DATA to a folder that holds "
        f"{data.name}{os.sep} with them); no half file was left there:",
        *(f"  {name}  sha256 {data.files[name]}" for name in missing),
        *(f"The {name} that is there now has another checksum." for name in wrong),
    ]
    return "\n".join(lines)
