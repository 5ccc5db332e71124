"""Timing that survives a busy machine: candidates interleaved, compared within each round."""

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from archbook.running.environment import synchronize


def interleaved(
    candidates: Mapping[str, Callable[[], Any]],
    rounds: int = 9,
    warmup: int = 2,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> dict[str, list[float]]:
    """Seconds of each candidate in each round; the order is shuffled anew in every round.

    What slows the machine for a while slows all candidates of that round, so that their ratio
    stays. The candidates take no arguments. On a GPU each is waited for.
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
            seconds = _time_once(candidates[name], device)
            if number >= warmup:
                times[name].append(seconds)
    return times


def _time_once(call: Callable[[], Any], device: torch.device | str | None) -> float:
    collected = gc.isenabled()
    gc.disable()
    try:
        synchronize(device)
        before = time.perf_counter()
        call()
        synchronize(device)
        return time.perf_counter() - before
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
