"""Files that are written whole or not at all, and JSON that comes back as it was."""

import json
import math
import os

import pytest

from archbook.files import write_json


def test_what_is_written_is_read_back(tmp_path):
    value = {"a": [1, 2.5, None], "b": {"c": "π [\n 1,\n 2]", "d": True}, "e": [], "f": [[1], [2]]}
    write_json(tmp_path / "deep" / "x.json", value)
    assert json.loads((tmp_path / "deep" / "x.json").read_text()) == value


def test_a_list_of_numbers_takes_one_line(tmp_path):
    write_json(tmp_path / "x.json", {"curve": list(range(1000))})
    assert len((tmp_path / "x.json").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("value", "error", "place"),
    [
        ({"a": [1.0, math.nan]}, ValueError, r"a\[1\]: wanted a finite number"),
        ({"a": math.inf}, ValueError, "a: wanted a finite number"),
        ({"a": {1, 2}}, TypeError, "a: wanted a number.*given set"),
        ({1: "a"}, TypeError, "wanted text as key, given 1"),
    ],
)
def test_what_json_cannot_hold_is_refused_and_its_place_is_named(tmp_path, value, error, place):
    with pytest.raises(error, match=place):
        write_json(tmp_path / "x.json", value)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_while_writing_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_a_results_file(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    assert (tmp_path / "x.json").stat().st_mode & 0o777 == 0o644
