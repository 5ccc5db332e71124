"""Committed ratios measured anew: what is compared, what is out, and what a second look spares."""

import json
from pathlib import Path

import pytest
from tools import bench_check

from archbook.files import write_json


def bench(**medians: float) -> dict:
    candidates = {"ours": {"ratio": {"median": 1.0}}}
    candidates |= {name: {"ratio": {"median": value}} for name, value in medians.items()}
    row = {"size": {"n": 4}, "pass": "forward", "candidates": candidates}
    return {"tables": [{"name": "one", "baseline": "ours", "rows": [row]}]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "_toc.yml").write_text(
        "parts: [{caption: Architectures, chapters: [{file: book/toy}]}]"
    )
    write_json(tmp_path / "results/toy/bench.json", bench(peer=2.0, form=0.5))
    return tmp_path


@pytest.fixture
def check(root, monkeypatch):
    """Runs the check with what is measured first, second, ..."""

    def run(*measured: dict, options: str = "") -> int:
        left = [bench_check.ratios(one) for one in measured]
        monkeypatch.setattr(bench_check, "measure", lambda root, stem: left.pop(0))
        code = bench_check.main(options.split(), root)
        assert not left
        return code

    return run


def test_ratios_within_the_band_pass(check, capsys):
    assert check(bench(peer=2.4, form=0.42)) == 0
    assert capsys.readouterr().out == "toy: 2 ratios compared, 0 beyond 25%\n"


@pytest.mark.parametrize("peer", [2.6, 1.5])
def test_a_ratio_beyond_the_band_twice_fails(check, capsys, peer):
    assert check(bench(peer=peer, form=0.5), bench(peer=peer, form=0.5)) == 1
    said = capsys.readouterr().out
    assert f'one {{"n": 4}} forward peer: {peer:.3f} here, 2.000 committed' in said


def test_a_ratio_beyond_the_band_once_passes(check):
    assert check(bench(peer=3.0), bench(peer=2.1)) == 0


def test_the_band_is_the_caller_s(check):
    assert check(bench(peer=2.4), bench(peer=2.4), options="--band 0.1") == 1


def test_a_candidate_that_is_not_here_is_not_compared(check):
    assert check(bench(form=0.5)) == 0


def test_a_benchmark_of_other_sizes_compares_nothing_and_fails(check):
    other = json.loads(json.dumps(bench(peer=2.0)).replace('"n": 4', '"n": 5'))
    assert check(other) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [("hyena", "given ['hyena']"), ("--band 0", "wanted a band above 0, given 0.0")],
)
def test_a_wrong_command_line_ends_with_a_clear_message(check, capsys, options, message):
    with pytest.raises(SystemExit):
        check(options=options)
    assert message in capsys.readouterr().err
