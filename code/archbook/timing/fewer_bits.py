"""What a card makes of a forward pass: its launches and kernels, and the price of fewer bits."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from archbook.timing.rounds import timed
from archbook.timing.tables import FORWARD, bench_row, bench_table
from archbook.timing.works import Work

PRECISIONS = ("float32", "TF32", "bfloat16")
KERNELS = 3  # of which the names are kept, the longest running first


def precisions(work: Work, seconds: float, *, device: str) -> dict:
    """The candidates of a row: a pass in float32, with TF32 products, under autocast in bfloat16.

    `work` gives a float32 pass's tensors, the output first. Each candidate also has `error`, the
    largest difference from the float32 output over the largest entry of that; on a card
    `launches`, how many kernels and copies the pass starts, and `kernels`, the names of the
    longest running ones, which tell the backend.

    >>> x = torch.randn(32, 32)
    >>> found = precisions(lambda: (x @ x,), seconds=0, device="cpu")
    >>> list(found), found["bfloat16"]["error"] < 0.02
    (['float32', 'TF32', 'bfloat16'], True)
    """
    works = {name: _in_precision(work, name, device) for name in PRECISIONS}
    outputs = {name: one()[0].float() for name, one in works.items()}
    exact = outputs[PRECISIONS[0]]
    candidates = timed(works, PRECISIONS[0], seconds, device=device)
    for name, one in candidates.items():
        one["error"] = float((outputs[name] - exact).abs().max() / exact.abs().max())
        if torch.device(device).type == "cuda":
            one["launches"], one["kernels"] = launches(works[name])
    return candidates


def precision_tables(
    title: str, passes: Iterable[tuple[dict, Work]], seconds: float, *, device: str
) -> list[dict]:
    """The table `precision` of a benchmark, on a card alone: a CPU has no TF32 and no launches.

    passes: a size and its work for each row; drawn from, one by one, only on a card.

    >>> passes = [({"n": 3}, lambda: (torch.ones(3),))]
    >>> precision_tables("Bits", passes, seconds=1, device="cpu")  # a card's
    []
    """
    if torch.device(device).type == "cpu":
        return []
    print(title)
    rows = [
        bench_row(size, FORWARD, precisions(work, seconds, device=device)) for size, work in passes
    ]
    return [bench_table("precision", title, rows, baseline=PRECISIONS[0])]


def launches(work: Callable[[], object]) -> tuple[int, list[str]]:
    """How many kernels and copies the work starts on the card; the names that run longest."""
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as trace:
        work()
        torch.cuda.synchronize()
    events = [e for e in trace.key_averages() if e.device_type.name == "CUDA"]
    longest = sorted(events, key=lambda e: e.self_device_time_total, reverse=True)[:KERNELS]
    return sum(e.count for e in events), [e.key[:80] for e in longest]


def _in_precision(work: Work, name: str, device: str) -> Work:
    def run() -> tuple[Tensor, ...]:
        with _precision(name, device), torch.no_grad():
            return work()

    return run


@contextmanager
def _precision(name: str, device: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if name == "TF32" else "highest")
    torch.backends.cudnn.allow_tf32 = name == "TF32"
    kind = torch.device(device).type
    try:
        with torch.autocast(kind, torch.bfloat16, enabled=name == "bfloat16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
