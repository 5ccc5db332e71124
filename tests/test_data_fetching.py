"""The cache: a verified file in its place or a clear message, and never half a file."""

import gzip
import hashlib
import http.server
import io
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import Forked

from archbook.data import DataError, DataSet, cache_dir, fetch
from archbook.data.sources import GzipMirror, SourceError

WHOLE = b"a few bytes of data" * 200
DIGEST = hashlib.sha256(WHOLE).hexdigest()


class Stub:
    """A source that gives the same bytes, or the same exception, for every name."""

    def __init__(self, gives):
        self.gives = gives
        self.asked = []

    def __str__(self):
        return "stub"

    def streams(self, names, folder):
        for name in names:
            self.asked.append(name)
            if isinstance(self.gives, BaseException):
                raise self.gives
            yield name, io.BytesIO(self.gives)


class Interrupted(io.BytesIO):
    """A stream that the reader stops with Ctrl-C after its first bytes."""

    def read(self, size=-1, /):
        if self.tell():
            raise KeyboardInterrupt
        return super().read(7)


def data_set(*sources, name="toy", files=("a", "b")) -> DataSet:
    return DataSet(name=name, files=dict.fromkeys(files, DIGEST), sources=sources)


def everything_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ARCHBOOK_DATA", str(tmp_path / "cache"))
    for name in ("no_proxy", "NO_PROXY"):  # the loopback server is reached directly
        monkeypatch.setenv(name, "*")
    return tmp_path / "cache"


class Answer(http.server.BaseHTTPRequestHandler):
    """Serves WHOLE gzipped; the path says how the transfer goes wrong."""

    release = threading.Event()

    def do_GET(self):
        packed = gzip.compress(WHOLE)
        if "absent" in self.path:
            self.send_error(404)
            return
        body = b"<html>please log in</html>" if "portal" in self.path else packed
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if "cut" in self.path:
            self.wfile.write(body[:-10])
        elif "stalled" in self.path:
            self.wfile.write(body[:20])
            self.wfile.flush()
            self.release.wait(20)
        else:
            self.wfile.write(body)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Answer.release.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/"
        Answer.release.set()
        running.shutdown()
        thread.join()


def test_the_environment_variable_chooses_the_cache(cache):
    assert cache_dir() == cache


def test_a_home_sign_in_the_environment_variable_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("ARCHBOOK_DATA", "~/here")
    assert cache_dir() == Path.home() / "here"


@pytest.mark.parametrize(
    ("system", "variable", "folder"),
    [("Linux", "XDG_CACHE_HOME", ".cache"), ("Windows", "LOCALAPPDATA", "AppData/Local")],
)
def test_the_platform_names_the_default_cache(monkeypatch, tmp_path, system, variable, folder):
    monkeypatch.setenv("ARCHBOOK_DATA", "")
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setenv(variable, str(tmp_path))
    assert cache_dir() == tmp_path / "archbook"
    monkeypatch.delenv(variable)
    assert cache_dir() == Path.home() / folder / "archbook"


def test_a_mac_keeps_the_cache_in_its_library(monkeypatch):
    monkeypatch.delenv("ARCHBOOK_DATA")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert cache_dir() == Path.home() / "Library" / "Caches" / "archbook"


def test_the_first_working_source_fills_the_cache(cache):
    assert fetch(data_set(Stub(WHOLE))) == cache / "toy"
    assert everything_under(cache) == ["toy/a", "toy/b"]
    assert (cache / "toy" / "a").read_bytes() == WHOLE


def test_a_full_cache_asks_no_source():
    fetch(data_set(Stub(WHOLE)))
    second = Stub(WHOLE)
    fetch(data_set(second))
    assert second.asked == []


def test_only_missing_files_are_asked_for(cache):
    fetch(data_set(Stub(WHOLE)))
    (cache / "toy" / "a").unlink()
    second = Stub(WHOLE)
    fetch(data_set(second))
    assert second.asked == ["a"]


def test_a_damaged_file_in_the_cache_is_fetched_again(cache):
    fetch(data_set(Stub(WHOLE)))
    (cache / "toy" / "a").write_bytes(WHOLE[:-1])
    fetch(data_set(Stub(WHOLE)))
    assert (cache / "toy" / "a").read_bytes() == WHOLE


def test_the_reader_is_told_what_is_fetched_from_where(capsys):
    fetch(data_set(Stub(WHOLE)))
    assert capsys.readouterr().err == "archbook: fetching toy from stub\n"


def test_the_next_source_is_tried_after_a_failure(cache):
    fetch(data_set(Stub(SourceError("no npm")), Stub(WHOLE)))
    assert everything_under(cache) == ["toy/a", "toy/b"]


def test_files_that_one_source_gave_are_kept_for_the_next():
    class First(Stub):
        def streams(self, names, folder):
            yield "a", io.BytesIO(WHOLE)
            raise SourceError("only one file here")

    second = Stub(WHOLE)
    fetch(data_set(First(None), second))
    assert second.asked == ["b"]


def test_a_wrong_checksum_is_refused_and_leaves_nothing(cache):
    with pytest.raises(DataError, match=f"wrong checksum, wanted sha256 {DIGEST}, given"):
        fetch(data_set(Stub(b"something else")))
    assert everything_under(cache) == []


def test_failure_names_every_source_and_the_way_by_hand(cache):
    with pytest.raises(DataError) as caught:
        fetch(data_set(Stub(SourceError("npm is not installed")), Stub(OSError()), files=("a",)))
    message = str(caught.value)
    assert "stub: npm is not installed" in message
    assert "stub: OSError" in message
    assert str(cache / "toy") in message
    assert f"a  sha256 {DIGEST}" in message
    assert "ARCHBOOK_DATA" in message


def test_a_wrong_file_put_by_hand_is_named(cache):
    (cache / "toy").mkdir(parents=True)
    (cache / "toy" / "a").write_bytes(b"another version")
    with pytest.raises(DataError, match="The a that is there now has another checksum"):
        fetch(data_set(Stub(SourceError("no network"))))


def test_a_right_file_put_by_hand_is_taken(cache):
    (cache / "toy").mkdir(parents=True)
    (cache / "toy" / "a").write_bytes(WHOLE)
    assert fetch(data_set(files=("a",))) == cache / "toy"


def test_ctrl_c_leaves_no_half_file(cache):
    class Slow(Stub):
        def streams(self, names, folder):
            yield "a", Interrupted(WHOLE)

    with pytest.raises(KeyboardInterrupt):
        fetch(data_set(Slow(None)))
    assert list((cache / "toy").iterdir()) == []


def test_a_cache_that_cannot_be_made_is_reported(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ARCHBOOK_DATA", str(tmp_path / "file"))
    with pytest.raises(DataError, match="cannot write to the data cache .* ARCHBOOK_DATA"):
        fetch(data_set(Stub(WHOLE)))


def refuse(*args, **kwargs):
    raise PermissionError(13, "Permission denied")


def test_a_read_only_cache_is_reported(monkeypatch):
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(DataError, match="cannot write to the data cache .*Permission denied"):
        fetch(data_set(Stub(WHOLE)))


def test_a_read_only_cache_that_is_full_can_be_used(monkeypatch, cache):
    fetch(data_set(Stub(WHOLE)))
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    assert fetch(data_set(Stub(WHOLE))) == cache / "toy"


def test_what_a_killed_process_left_is_swept_after_a_day(cache):
    old, new = cache / "toy" / ".fetch-old", cache / "toy" / ".fetch-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "part").write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    fetch(data_set(Stub(WHOLE)))
    assert not old.exists()
    assert new.exists()  # it may belong to a process that is still at work


def test_a_mirror_gives_unpacked_files(cache, server):
    fetch(data_set(GzipMirror(server)))
    assert (cache / "toy" / "b").read_bytes() == WHOLE


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("cut/", r"a: the download stopped after [\d,]+ bytes"),
        ("stalled/", "timed out"),
        ("absent/", "404"),
        ("portal/", "Not a gzipped file"),
    ],
)
def test_a_mirror_that_fails_is_reported_and_leaves_nothing(cache, server, path, complaint):
    with pytest.raises(DataError, match=complaint):
        fetch(data_set(GzipMirror(server + path, silence=0.3)))
    assert everything_under(cache) == []


def test_no_network_is_reported(cache):
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9/: .*refused"):
        fetch(data_set(GzipMirror("http://127.0.0.1:9/")))  # nobody listens at port 9
    assert everything_under(cache) == []


CHILD = f"""
import sys
from archbook.data import DataSet, fetch
from archbook.data.sources import GzipMirror
fetch(DataSet("toy", {{"a": {DIGEST!r}, "b": {DIGEST!r}}}, (GzipMirror(sys.argv[1]),)))
"""


def child(url: str) -> Forked:
    return Forked("-c", CHILD, url)


@pytest.mark.slow
def test_two_processes_fetch_the_same_set_at_once(cache, server):
    both = [child(server), child(server)]
    endings = [process.communicate() and process.returncode for process in both]
    assert endings == [0, 0]
    assert everything_under(cache) == ["toy/a", "toy/b"]


@pytest.mark.slow
def test_a_killed_process_leaves_no_half_file_in_place(cache, server):
    process = child(server + "stalled/")
    try:
        for _ in range(3000):
            if list(cache.glob("toy/.fetch-*/part")):
                break
            time.sleep(0.01)
        process.kill()
    finally:
        process.communicate()
    assert list(cache.glob("toy/.fetch-*/part"))
    assert not (cache / "toy" / "a").exists()
    fetch(data_set(GzipMirror(server)))
    assert (cache / "toy" / "a").read_bytes() == WHOLE
