"""Timing that survives a busy machine: candidates interleaved, compared within each round.

Our own, since torch.utils.benchmark, pytest-benchmark and asv time one candidate after the other.
"""

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from archbook.running.environment import synchronize
from archbook.timing.works import Work

Clock = Callable[[], float]  # seconds

ROUNDS = (3, 31)  # at least, at most
CARD_SHARE = 1 / 20  # of the seconds, for a card: its small steps are fast
CARD_ROUNDS = 9  # at least


def interleaved(
    candidates: Mapping[str, Callable[[], Any]],
    rounds: int = 9,
    warmup: int = 2,
    *,
    seed: int = 0,
    device: torch.device | str | None = None,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each candidate in each round; the order is shuffled anew in every round.

    What slows the machine for a while slows all candidates of that round, so that their ratio
    stays. The candidates take no arguments. On a GPU each is waited for. `clock` tells the seconds.
    """
    if not candidates:
        raise ValueError("wanted at least one candidate, given none")
    if rounds < 1 or warmup < 0:
        raise ValueError(f"wanted rounds >= 1 and warmup >= 0, given {rounds} and {warmup}")
    order = list(candidates)
    shuffle = random.Random(seed).shuffle
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(warmup + rounds):
        shuffle(order)
        gc.collect()  # the collector rests while a candidate runs, so it works here
        for name in order:
            seconds = _time_once(candidates[name], device, clock)
            if number >= warmup:
                times[name].append(seconds)
    return times


def _time_once(call: Callable[[], Any], device: torch.device | str | None, clock: Clock) -> float:
    collected = gc.isenabled()
    gc.disable()
    try:
        synchronize(device)
        before = clock()
        call()
        synchronize(device)
        return clock() - before
    finally:
        if collected:
            gc.enable()


def ratios(times: Mapping[str, Sequence[float]], base: str) -> dict[str, dict[str, float]]:
    """Time of each candidate over the base's in the same round: median and quartiles."""
    if base not in times:
        raise ValueError(f"wanted one of {list(times)} as base, given {base!r}")
    lengths = {name: len(seconds) for name, seconds in times.items()}
    if len(set(lengths.values())) != 1 or not lengths[base]:
        raise ValueError(f"wanted equally many rounds of each candidate, given {lengths}")
    return {
        name: _quartiles([own / other for own, other in zip(seconds, times[base], strict=True)])
        for name, seconds in times.items()
    }


def _quartiles(values: list[float]) -> dict[str, float]:
    if len(values) == 1:
        return dict.fromkeys(("median", "q1", "q3"), values[0])
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "q1": q1, "q3": q3}


def timed(
    works: Mapping[str, Work],
    base: str,
    seconds: float,
    *,
    device: str,
    clock: Clock = time.perf_counter,
) -> dict:
    """Median milliseconds and within-round ratios; as many rounds as the seconds allow.

    Whoever ran every work once has warmed up the CPU; a GPU is warmed up here.

    >>> x = torch.randn(64, 64)
    >>> works = {"once": lambda: (x @ x,), "twice": lambda: (x @ x @ x,)}
    >>> found = timed(works, "once", seconds=0, device="cpu")
    >>> found["once"]["ratio"]["median"], sorted(found["twice"])
    (1.0, ['ms', 'peak_mib', 'ratio'])
    """
    gpu = device != "cpu"
    first = interleaved(works, rounds=1, warmup=3 if gpu else 0, device=device, clock=clock)
    seconds, least = (seconds * CARD_SHARE, CARD_ROUNDS) if gpu else (seconds, ROUNDS[0])
    rounds = int(seconds / sum(times[0] for times in first.values()))
    rounds = max(least, min(ROUNDS[1], rounds)) - 1
    warmup = min(rounds, 10) if gpu else 0
    more = interleaved(works, rounds, warmup, seed=1, device=device, clock=clock)
    times = {name: first[name] + more[name] for name in works}
    return {
        name: {"ms": 1e3 * statistics.median(times[name]), "ratio": ratio, "peak_mib": None}
        for name, ratio in ratios(times, base).items()
    }
