"""Keeping out of autocast what must not be rounded to half precision."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(x: Tensor) -> AbstractContextManager:
    """A context in which autocast leaves operations on the device of `x` alone."""
    known = torch.amp.is_autocast_available(x.device.type)  # the meta device is not
    return torch.autocast(x.device.type, enabled=False) if known else nullcontext()
