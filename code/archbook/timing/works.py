"""A candidate's work: a call without arguments, shown equal to the others', or one CUDA graph."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Work = Callable[[], tuple[Tensor, ...]]


def assert_same_results(results: Mapping[str, tuple[Tensor, ...]], tolerance: float = 1e-3) -> None:
    """Fail unless every candidate's tensors equal the first's, relative to the largest entry.

    >>> x = torch.rand(5)
    >>> assert_same_results({"plain": (x,), "fast": (x + 1e-6,)})
    >>> assert_same_results({"plain": (x,), "wrong": (-x,)})
    Traceback (most recent call last):
        ...
    AssertionError: wrong differs from plain by 2.0e+00
    """
    first, *others = results
    for name in others:
        for wanted, given in zip(results[first], results[name], strict=True):
            error = float((given - wanted).abs().max() / wanted.abs().max())
            if not error < tolerance:  # NaN fails too
                raise AssertionError(f"{name} differs from {first} by {error:.1e}")


def run_once(
    works: Mapping[str, Work], alike: Iterable[Sequence[str]], tolerance: float = 1e-3
) -> None:
    """Run every work once, which warms up and compiles; show equal what computes the same.

    alike: groups of names that do; the rest are only run. Names that `works` lacks are passed
    over. One by one, since results may take a gigabyte.

    >>> x = torch.rand(5)
    >>> works = {"plain": lambda: (x.sum(),), "fast": lambda: (x.mean() * 5,)}
    >>> run_once(works, alike=[("plain", "fast")])
    """
    rest = set(works)
    for group in alike:
        present = [name for name in group if name in works]
        rest -= set(present)
        if present:
            first, *others = present
            wanted = works[first]()
            for name in others:
                assert_same_results({first: wanted, name: works[name]()}, tolerance)
            del wanted
    for name in works:
        if name in rest:
            works[name]()


def captured(work: Work) -> Work:
    """The same work as a single launch: its CUDA graph, replayed into the same results.

    >>> if torch.cuda.is_available():  # a graph wants a card
    ...     x = torch.ones(3, device="cuda")
    ...     work = captured(lambda: (2 * x,))
    ...     assert work()[0].tolist() == [2, 2, 2]
    """
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):  # nothing may be compiled or tuned while a graph is captured
            work()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = work()
    return _Replay(graph, results, work)


@dataclass(frozen=True)
class _Replay:
    graph: torch.cuda.CUDAGraph
    results: tuple[Tensor, ...]
    work: Work  # lives on: the graph reads its inputs where they lay

    def __call__(self) -> tuple[Tensor, ...]:
        self.graph.replay()
        return self.results
