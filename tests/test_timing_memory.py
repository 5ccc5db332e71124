"""Peak memory of one work: the growth of a fresh process, or what a card has allocated."""

import json
import sys

import pytest
import torch

from archbook.timing import peak_bytes
from archbook.timing.memory import _resident, growth_of, report

WORK = """
import torch


def build(mebibytes, fail=False):
    if fail:
        raise ValueError("no such size")
    print("preparing")
    torch.zeros(50 * 2**18).sum()  # the peak of the preparation does not count
    return lambda: torch.ones(mebibytes * 2**18).sum()
"""


@pytest.fixture
def work(tmp_path):
    file = tmp_path / "work.py"
    file.write_text(WORK)
    return f"{file}:build"


@pytest.mark.slow
def test_the_peak_of_a_fresh_process_is_what_the_work_allocates(work):
    assert 19 * 2**20 < peak_bytes(work, {"mebibytes": 20}) < 25 * 2**20


@pytest.mark.slow
def test_a_failing_process_is_told_with_its_own_words(work):
    with pytest.raises(RuntimeError, match="no such size"):
        peak_bytes(work, {"mebibytes": 20, "fail": True})


@pytest.mark.slow
def test_a_small_work_runs_before_and_does_not_count(work, tmp_path):
    noting = tmp_path / "noting.py"
    noting.write_text(
        "def build(mebibytes):\n"
        "    import torch\n"
        "    return lambda: (print('run with', mebibytes), torch.ones(mebibytes * 2**18).sum())\n"
    )
    found = peak_bytes(f"{noting}:build", {"mebibytes": 20}, before={"mebibytes": 60})
    assert 19 * 2**20 < found < 25 * 2**20


@pytest.mark.parametrize("target", ["module", ":build", "module:"])
def test_a_target_without_a_function_is_refused(target):
    with pytest.raises(ValueError, match='wanted "module:function"'):
        peak_bytes(target, {})


def test_the_fresh_process_prints_one_number_last(work, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["-c", work, json.dumps([{"mebibytes": 8}, None])])
    report()
    assert 0 <= int(capsys.readouterr().out.split()[-1]) < 100 * 2**20


def test_a_target_may_be_an_importable_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["-c", "functools:partial", "[{}, null]"])
    with pytest.raises(TypeError):  # it was found and called
        report()
    monkeypatch.setattr(sys, "argv", ["-c", "/nowhere/x.py:build", "[{}, null]"])
    with pytest.raises(FileNotFoundError):
        report()


@pytest.fixture
def card(monkeypatch):
    for name, value in {
        "is_initialized": True,
        "synchronize": None,
        "reset_peak_memory_stats": None,
        "memory_allocated": 100,
        "max_memory_allocated": 350,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)


def test_after_use_of_a_card_its_allocated_memory_is_what_counts(card):
    assert growth_of(lambda: None) == 250


def test_work_on_a_card_needs_no_process_of_its_own(card, work, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert peak_bytes(work, {"mebibytes": 20}, device="cuda:0") == 250


def test_a_system_that_does_not_tell_its_memory_is_named():
    with pytest.raises(OSError, match="does not tell VmNothing"):
        _resident("VmNothing")
