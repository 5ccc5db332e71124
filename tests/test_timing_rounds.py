"""Candidates in shuffled rounds, and their times compared within each of them."""

import gc

import pytest
import torch

from archbook.timing import timed
from archbook.timing.rounds import interleaved, ratios


class Clock:
    """Stands still but for what a candidate takes."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def taking(self, seconds: float):
        def work() -> tuple[torch.Tensor, ...]:
            self.now += seconds
            return ()

        return work


def test_every_candidate_runs_once_a_round_in_an_order_that_changes():
    calls = []
    candidates = {name: lambda name=name: calls.append(name) for name in "abc"}
    times = interleaved(candidates, rounds=6, warmup=2, seed=1)
    assert [len(seconds) for seconds in times.values()] == [6, 6, 6]
    orders = ["".join(calls[start : start + 3]) for start in range(0, 24, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(set(orders)) > 1


def test_each_candidate_is_told_its_own_seconds():
    clock = Clock()
    candidates = {"long": clock.taking(4.0), "short": clock.taking(0.5)}
    times = interleaved(candidates, 3, 1, clock=clock)
    assert times == {"long": [4.0, 4.0, 4.0], "short": [0.5, 0.5, 0.5]}


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 3), (40.0, 10), (1e6, 31)])
def test_rounds_are_as_many_as_the_seconds_allow_from_3_to_31(seconds: float, rounds: int):
    clock, calls = Clock(), []
    long, short = clock.taking(3.0), clock.taking(1.0)

    def counted() -> tuple[torch.Tensor, ...]:
        calls.append(clock())
        return long()

    works = {"short": short, "long": counted}
    found = timed(works, "short", seconds, device="cpu", clock=clock)
    assert len(calls) == rounds
    assert {name: one["ms"] for name, one in found.items()} == {"short": 1e3, "long": 3e3}
    assert found["long"]["ratio"] == {"median": 3.0, "q1": 3.0, "q3": 3.0}
    assert found["long"]["peak_mib"] is None


def test_the_garbage_collector_rests_only_while_a_candidate_runs():
    seen = []
    interleaved({"a": lambda: seen.append(gc.isenabled())}, rounds=1, warmup=0, device="cpu")
    assert (seen, gc.isenabled()) == ([False], True)
    gc.disable()
    try:
        interleaved({"a": lambda: None}, rounds=1, warmup=0)
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("candidates", "rounds", "warmup"), [({}, 9, 2), ({"a": print}, 0, 0), ({"a": print}, 1, -1)]
)
def test_a_measurement_of_nothing_is_refused(candidates, rounds, warmup):
    with pytest.raises(ValueError, match="wanted"):
        interleaved(candidates, rounds, warmup)


def test_ratios_are_taken_within_each_round():
    # the second round ran on a machine ten times slower: the ratio does not notice
    times = {"loop": [4.0, 60.0, 8.0], "fft": [2.0, 20.0, 2.0]}
    found = ratios(times, "fft")
    assert found["loop"] == {"median": 3.0, "q1": 2.5, "q3": 3.5}
    assert found["fft"] == {"median": 1.0, "q1": 1.0, "q3": 1.0}


def test_a_single_round_is_its_own_quartile():
    assert ratios({"a": [2.0], "b": [1.0]}, "b")["a"] == {"median": 2.0, "q1": 2.0, "q3": 2.0}


@pytest.mark.parametrize(
    ("times", "base"), [({"a": [1.0]}, "b"), ({"a": [1.0], "b": [1.0, 2.0]}, "a"), ({"a": []}, "a")]
)
def test_ratios_without_a_common_base_are_refused(times, base):
    with pytest.raises(ValueError, match="wanted"):
        ratios(times, base)
