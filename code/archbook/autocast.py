"""Keeping out of autocast what must not be rounded to half precision."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

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
    known = torch.amp.is_autocast_available(x.device.type)  # the meta device is not
    return torch.autocast(x.device.type, enabled=False) if known else nullcontext()
