"""How far a piece of work is from what its machine could do: its products alone, its bytes alone.

Ours: the profilers at hand count operations and divide by a data sheet, where thin matrices never
reach it. Here every product that the work makes is run again alone, at its own shapes.
"""

import math
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from archbook.running.environment import synchronize
from archbook.timing.works import Work

# What a model cannot do without: products of matrices, convolutions, fused attention.
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward", "_scaled_dot")
COPY = 2**26  # bytes of the copy that tells the bandwidth: beyond every cache of a core
TRIES = 5


@dataclass(frozen=True)
class Limit:
    """Seconds below which a piece of work cannot fall on this machine, each alone."""

    products: float  # every matrix product, run alone
    traffic: float  # what it reads from outside and leaves, at the bandwidth of a copy
    launches: int  # operations that torch was asked for
    launch: float  # seconds of the smallest of them

    @property
    def seconds(self) -> float:
        return max(self.products, self.traffic)

    def told(self) -> dict[str, float]:
        """As a row of a table holds it, in milliseconds."""
        return {
            "products_ms": 1e3 * self.products,
            "traffic_ms": 1e3 * self.traffic,
            "ms": 1e3 * self.seconds,
            "launches": self.launches,
            "launch_us": 1e6 * self.launch,
        }


def limit_of(work: Work, device: torch.device | str = "cpu") -> Limit:
    """Measured now, on this machine, with its threads: where both change, so does the limit.

    >>> x = torch.randn(64, 64)
    >>> limit = limit_of(lambda: (x @ x,))
    >>> limit.launches, limit.seconds > 0
    (1, True)
    """
    seen = _Seen()
    with seen:
        results = work()
    left = sum(_bytes(result) for result in results)
    products = math.fsum(
        count * _seconds(lambda call=call: call(), device) for call, count in seen.alone()
    )
    ones = torch.ones(COPY // 4, device=device)
    copy = torch.empty_like(ones)
    bandwidth = 2 * COPY / _seconds(lambda: copy.copy_(ones), device)  # read and written
    one = torch.ones(1, device=device)
    return Limit(
        products=products,
        traffic=(seen.read() + left) / bandwidth,
        launches=seen.launches,
        launch=_seconds(lambda: one.add_(1), device),
    )


class _Seen(TorchDispatchMode):
    """What passes below autograd: so the products of the backward pass too."""

    def __init__(self):
        super().__init__()
        self.products: Counter[tuple] = Counter()
        self.examples: dict[tuple, tuple] = {}
        self.launches = 0
        self._made: set[int] = set()  # storages that the work itself filled
        self._outside: dict[int, int] = {}  # storages that were there before -> bytes

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.launches += 1
        for tensor in _tensors((args, kwargs)):
            if (at := tensor.untyped_storage().data_ptr()) not in self._made:
                self._outside[at] = tensor.untyped_storage().nbytes()
        name = function.overloadpacket.__name__
        if name in PRODUCTS or name.startswith(PRODUCTS[-1]):
            form = (function, _form((args, kwargs)))
            self.products[form] += 1
            self.examples.setdefault(form, (args, kwargs))
        made = function(*args, **kwargs)
        for tensor in _tensors(made):
            if (at := tensor.untyped_storage().data_ptr()) not in self._outside:
                self._made.add(at)  # for good: what is made later at this place is made too
        return made

    def read(self) -> int:
        """Bytes of weights and inputs, each once."""
        return sum(self._outside.values())

    def alone(self) -> Iterator[tuple[Any, int]]:
        """Each kind of product as a call on its own operands, and how often it was made."""
        for form, count in self.products.items():
            args, kwargs = self.examples[form]
            function = form[0]
            yield lambda f=function, a=args, k=kwargs: f(*a, **k), count


def _form(value: Any) -> str:
    """Shapes, strides and types, and every other argument: what decides how long it takes."""
    told = tree_map(
        lambda x: (tuple(x.shape), x.stride(), x.dtype) if isinstance(x, Tensor) else x, value
    )
    return repr(told)


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    tree_map(lambda x: found.append(x) if isinstance(x, Tensor) else None, value)
    return found


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _seconds(call: Any, device: torch.device | str) -> float:
    """The median of a few tries after a first one; short calls are repeated within a try."""
    with torch.no_grad():
        call()
        synchronize(device)
        start = time.perf_counter()
        call()
        synchronize(device)
        repeats = max(1, min(100, int(1e-3 / max(1e-9, time.perf_counter() - start))))
        tries = []
        for _ in range(TRIES):
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            synchronize(device)
            tries.append((time.perf_counter() - start) / repeats)
    return statistics.median(tries)
