"""Keeping out of autocast what must not be rounded to half precision."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

# Kinds of devices that know autocast; the meta device does not. Asked once and here, since
# torch.compile cannot trace the question on torch 2.6.
DEVICES = frozenset(
    kind
    for kind in ("cpu", "cuda", "hpu", "mps", "mtia", "xla", "xpu")
    if torch.amp.is_autocast_available(kind)
)
P = ParamSpec("P")
R = TypeVar("R")


def exact(function: Callable[P, R]) -> Callable[P, R]:
    """The function in the precision of its inputs, under autocast too."""

    @functools.wraps(function)
    def outside(*args: P.args, **kwargs: P.kwargs) -> R:
        given = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), None)
        with nullcontext() if given is None else without_autocast(given):
            return function(*args, **kwargs)

    return outside


def without_autocast(x: Tensor) -> AbstractContextManager:
    """A context in which autocast leaves operations on the device of `x` alone."""
    known = x.device.type in DEVICES
    return torch.autocast(x.device.type, enabled=False) if known else nullcontext()
