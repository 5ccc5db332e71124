"""The tables of a benchmark: who runs, who is absent and why, whose peak memory is measured."""

from pathlib import Path

import pytest
import torch

from archbook.timing import FORWARD, STEP, Candidates, Plan, Table, run_once

PLAN = Plan(sizes={"part": ({"n": 2, "unseen": 1}, {"n": 3, "unseen": 1})}, seconds={"part": 0.0})


def prepare(name: str, size: dict, device: str, *, backward: bool = True, scale: float = 1.0):
    value = scale * size["n"] + (name == "unlike")
    return lambda: (torch.full((2,), value),)


def check(works, table, size, *, backward, device):
    run_once(works, [list(works)])


def tables_of(table: Table, plan: Plan = PLAN, **more) -> dict:
    candidates = Candidates(prepare=prepare, check=check, **more)
    (made,) = candidates.parts({"part": {"one": table}})["part"](plan, "cpu")
    return made


def test_a_table_has_a_row_for_each_size_and_pass():
    made = tables_of(Table("Title", ("a", "b"), peaks=False), hidden=("unseen",))
    assert [(row["size"], row["pass"]) for row in made["rows"]] == [
        ({"n": 2}, STEP),
        ({"n": 2}, FORWARD),
        ({"n": 3}, STEP),
        ({"n": 3}, FORWARD),
    ]
    assert (made["name"], made["title"], made["baseline"]) == ("one", "Title", "a")
    assert made.keys() == {"name", "title", "baseline", "rows"}
    assert all(row.keys() == {"size", "pass", "candidates", "limit"} for row in made["rows"])


def test_a_row_tells_how_many_times_its_limit_each_candidate_takes():
    for row in tables_of(Table("Title", ("a", "b"), peaks=False))["rows"]:
        assert row["limit"]["ms"] == max(row["limit"]["products_ms"], row["limit"]["traffic_ms"])
        for one in row["candidates"].values():
            assert one["of_limit"] == pytest.approx(one["ms"] / row["limit"]["ms"])


def test_a_candidate_unlike_the_others_is_not_timed():
    with pytest.raises(AssertionError, match="unlike differs from a"):
        tables_of(Table("Title", ("a", "unlike")))


def test_who_is_absent_is_told_with_the_reason():
    made = tables_of(
        Table("Title", ("a", "peer", "huge"), passes=(FORWARD,)),
        needs={"peer": ("no-such-library",)},
        why_absent=lambda name, size: f"too large at {size['n']}" if name == "huge" else None,
    )
    absent = [row["absent"] for row in made["rows"]]
    peer = {"peer": "no-such-library is not installed"}
    assert absent == [peer | {"huge": "too large at 2"}, peer | {"huge": "too large at 3"}]
    assert made["peers"] == {}
    assert list(made["rows"][0]["candidates"]) == ["a"]


def test_a_table_s_own_size_and_case_reach_the_candidates_and_its_rows():
    seen = []

    def noted(name, size, device, **case):
        seen.append((size["layers"], case))
        return prepare(name, size, device)

    table = Table("Title", ("a",), case={"wide": True}, size={"layers": 4}, passes=(STEP,))
    candidates = Candidates(prepare=noted, check=check)
    plan = Plan(sizes={}, seconds={"part": 0.0}, thorough=False)
    row = candidates.row(table, {"n": 1}, STEP, plan=plan, part="part", device="cpu")
    assert seen == [(4, {"backward": True, "wide": True})]
    assert row["size"] == {"n": 1, "layers": 4}


@pytest.mark.parametrize(
    ("table", "thorough", "measured"),
    [
        (Table("Title", ("a", "compiled")), True, {STEP: ["a"], FORWARD: []}),
        (Table("Title", ("a", "compiled"), peaks=False), True, {STEP: [], FORWARD: []}),
        (Table("Title", ("a", "compiled")), False, {STEP: [], FORWARD: []}),
    ],
)
def test_peaks_are_those_of_training_steps(table, thorough, measured, monkeypatch):
    asked = []

    def fake_peak(target, given, *, before, device):
        asked.append((target, given, before))
        return 3 * 2**20

    monkeypatch.setattr("archbook.timing.tables.peak_bytes", fake_peak)
    plan = Plan(sizes={"part": ({"n": 5},)}, seconds={"part": 0.0}, thorough=thorough)
    made = tables_of(table, plan, without_peak=("compiled",), small={"n": 1})
    peaks = {
        row["pass"]: [name for name, one in row["candidates"].items() if one["peak_mib"] == 3.0]
        for row in made["rows"]
    }
    assert peaks == measured
    given = {"name": "a", "size": {"n": 5}, "device": "cpu"}
    wanted = (f"{Path(__file__)}:prepare", given, given | {"size": {"n": 1}})
    assert asked == ([wanted] if measured[STEP] else [])


def test_further_fields_follow_from_the_rows():
    made = tables_of(
        Table("Title", ("a",), passes=(FORWARD,)),
        more=lambda name, rows: {"exponents": {name: len(rows)}},
    )
    assert made["exponents"] == {"one": 2}
