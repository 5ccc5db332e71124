"""A stream of single images, served folded: what an image waits, and how many a second can come.

Images arrive one by one at random times (a Poisson process). Whenever the server is free it takes
all that have come, at most `most`, and answers every full group; an image that has waited `wait`
seconds for its group has the group filled up and answered. Arrivals run on a clock of their own,
which each call moves on by the time it really took: on the CPU the processor time of the calling
thread, which a busy machine stretches less than the wall's. Loads are told in multiples of the
most that fold 1 can answer, measured at the start of each cell in batches of `most`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from archbook.checks import value_checks
from archbook.folded_cnn import GAME_CNNS, FoldedClassifier, GameCNN
from archbook.running import Run, main, synchronize


@dataclass(frozen=True)
class Config:
    fold: int = 1  # images in a pass
    net: str = "lol-gold1"  # one of the paper's game nets
    loads: tuple[float, ...] = (0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 2.5)
    images: int = 1_200  # that arrive at each load
    most: int = 60  # images a call, at most
    wait: float = 0.05  # seconds that an image waits for its group, at most


SIZES = {
    "tiny": {
        f"f{fold}": Config(fold, loads=(0.2, 1.5), images=60, most=12, wait=0.01) for fold in (1, 4)
    },
    "full": {f"f{fold}": Config(fold) for fold in (1, 2, 3, 4)},
    "paper": {"f4": replace(Config(4), net="sot-time")},
}


def serve(
    push: Callable[[int, int], tuple[int, float]],
    flush: Callable[[], float],
    arrivals: np.ndarray,
    *,
    most: int,
    wait: float,
) -> tuple[np.ndarray, float]:
    """When each image has its answer, and for how long the server worked.

    push(start, stop) takes these images and says how many of all those that wait are answered now,
    and after how many seconds; flush() answers the rest. Both answer in the order of arrival.
    """
    done = np.empty(len(arrivals))
    now = busy = 0.0
    taken = answered = 0
    while answered < len(arrivals):
        come = int(np.searchsorted(arrivals, now, side="right"))
        deadline = arrivals[answered] + wait if answered < taken else np.inf
        if taken < come:
            stop = min(come, taken + most)
            count, seconds = push(taken, stop)
            taken = stop
        elif now >= deadline:
            count, seconds = taken - answered, flush()
        else:
            arrival = arrivals[taken] if taken < len(arrivals) else np.inf
            now = min(arrival, deadline)
            continue
        now, busy = now + seconds, busy + seconds
        done[answered : answered + count] = now
        answered += count
    return done, busy


class Timed:
    """A server's calls, with the seconds that each takes."""

    def __init__(self, server: FoldedClassifier, images: Tensor):
        self.server, self.images = server, images

    def _seconds(self, call: Callable[[], Tensor]) -> tuple[int, float]:
        device = self.images.device
        clock = time.thread_time if device.type == "cpu" else time.perf_counter
        synchronize(device)
        before = clock()
        logits = call()
        synchronize(device)
        return len(logits), max(clock() - before, 1e-9)

    def push(self, start: int, stop: int) -> tuple[int, float]:
        return self._seconds(lambda: self.server.push(self.images[start:stop]))

    def flush(self) -> float:
        return self._seconds(self.server.flush)[1]

    def all(self, most: int) -> float:
        """Seconds for all images, in batches of `most`."""
        parts = self.images.split(most)
        return sum(self._seconds(lambda part=part: self.server(part))[1] for part in parts)


def timed_server(config: Config, fold: int, images: Tensor) -> Timed:
    net: Any = GameCNN(**GAME_CNNS[config.net], fold=fold)  # torch's types: no memory_format
    net = net.to(images.device, memory_format=torch.channels_last).eval()
    return Timed(FoldedClassifier(net), images)


@torch.no_grad()
def measure(config: Config, run: Run) -> dict:
    if config.most % config.fold:
        raise ValueError(
            f"wanted most to be divisible by fold = {config.fold}, given {config.most}"
        )
    shape = GAME_CNNS[config.net]["height"], GAME_CNNS[config.net]["width"]
    images = torch.rand(config.images, 3, *shape).to(run.device, memory_format=torch.channels_last)
    rng = np.random.default_rng(run.seed)
    gaps = rng.exponential(size=config.images)  # the same pattern at every load
    with value_checks(False):
        plain, folded = (timed_server(config, fold, images) for fold in (1, config.fold))
        for server in (plain, folded):
            for _ in range(2):
                server.all(config.most)
        capacity = config.images / min(plain.all(config.most) for _ in range(5))
        most = config.images / min(folded.all(config.most) for _ in range(5))
        curve = {
            name: []
            for name in ("rate", "throughput", "p50_ms", "p95_ms", "p99_ms", "images_a_busy_second")
        }
        for step in run.steps(len(config.loads), curve=curve):
            rate = config.loads[step] * capacity
            arrivals = np.cumsum(gaps) / rate
            done, busy = serve(
                folded.push, folded.flush, arrivals, most=config.most, wait=config.wait
            )
            late = 1e3 * (done - arrivals)
            curve["rate"].append(rate)
            curve["throughput"].append(config.images / float(done.max() - arrivals[0]))
            for percent in (50, 95, 99):
                curve[f"p{percent}_ms"].append(float(np.percentile(late, percent)))
            curve["images_a_busy_second"].append(config.images / float(busy))
    return {"capacity_f1": capacity, "capacity": most, "loads": list(config.loads)} | curve


if __name__ == "__main__":
    main(__file__, SIZES, measure, alone="a stream of images, with nothing to train")
