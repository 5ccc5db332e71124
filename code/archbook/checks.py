"""Input checks shared by every model: each error names what was wanted and what was given."""

import operator
import threading
from collections.abc import Sequence
from contextlib import ContextDecorator
from typing import SupportsIndex, cast

import torch
from torch import Tensor
from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue]

from archbook.autocast import DEVICES

__all__ = ["value_checks"]  # the requirements themselves are the models' own


class _Switch(threading.local):
    """Of one thread: others go on checking, and none can leave it switched off for all."""

    values = True


_switch = _Switch()


class value_checks(ContextDecorator):
    """Switch the checks that read tensor values (NaN, ranges) on or off in this thread's block.

    Reading a value makes a GPU wait for its queue; a training loop that trusts its data may
    switch them off. Checks of shape, dtype and device cost nothing and always run.
    Under torch.compile and in the transforms of torch.func (vmap, grad) no value is read.

    >>> from archbook.lmu import LMU
    >>> model, x = LMU(1, 4, 1, order=4, theta=16.0), torch.full((1, 20, 1), torch.nan)
    >>> with value_checks(False):
    ...     y = model(x)
    >>> bool(y.isnan().any())
    True
    >>> model(x)
    Traceback (most recent call last):
        ...
    ValueError: wanted x to be finite, given 20 NaN or infinite of 20
    """

    # A class, since torch.compile traces no context made of a generator on torch 2.6.
    def __init__(self, enabled: bool):
        self.enabled, self.before = enabled, True

    def __enter__(self) -> None:
        if not torch.compiler.is_compiling():
            self.before, _switch.values = _switch.values, self.enabled

    def __exit__(self, *_: object) -> None:
        if not torch.compiler.is_compiling():
            _switch.values = self.before


def require_positive_int(name: str, value: SupportsIndex) -> None:
    """Raise unless `value` is an integer of at least 1 (a bool is not an integer here)."""
    as_size(name, value)


def as_size(name: str, value: SupportsIndex | None, least: int = 1) -> int:
    """`value` as an int: anything that `operator.index` takes, but no bool; raise below `least`."""
    try:
        size = None if isinstance(value, bool) else operator.index(cast(SupportsIndex, value))
    except TypeError:
        size = None
    if size is None:
        raise TypeError(
            f"wanted {name} to be an int, given {value!r} of type {type(value).__name__}"
        )
    if size < least:
        raise ValueError(f"wanted {name} to be at least {least}, given {size}")
    return size


def require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(
            f"wanted {name} to be one of {', '.join(map(repr, choices))}, given {value!r}"
        )


def require_tensor(name: str, value: Tensor, shape: Sequence[int | str]) -> None:
    """Raise unless `value` is a tensor of this shape; a word stands for any size of at least 1."""
    if not isinstance(value, Tensor):
        raise TypeError(f"wanted {name} to be a tensor, given {type(value).__name__}")
    given = tuple(value.shape)
    fits = len(given) == len(shape) and all(
        size >= 1 if isinstance(want, str) else size == want
        for want, size in zip(shape, given, strict=True)
    )
    if not fits:
        wanted = "(" + ", ".join(map(str, shape)) + ")"
        reason = " (no axis may be empty)" if 0 in given else ""
        raise ValueError(f"wanted {name} to have shape {wanted}, given {given}{reason}")


def require_like(name: str, value: Tensor, other: str, reference: Tensor) -> None:
    """Raise unless `value` lies on the device of `reference` and has its dtype."""
    if value.device != reference.device:
        raise ValueError(
            f"wanted {name} to be on {reference.device} like {other}, "
            f"given a tensor on {value.device}"
        )
    if value.dtype != reference.dtype:
        raise TypeError(f"wanted {name} to be {reference.dtype} like {other}, given {value.dtype}")


def require_input(name: str, value: Tensor, shape: Sequence[int | str], weight: Tensor) -> None:
    """Raise unless a model's input has this shape and the device and dtype of its weights.

    Under autocast any floating dtype will do: torch casts it.
    """
    require_tensor(name, value, shape)
    kind = weight.device.type
    autocast = kind in DEVICES and torch.is_autocast_enabled(kind)
    if autocast and value.is_floating_point():
        weight = weight.new_empty(0, dtype=value.dtype)
    require_like(name, value, "the weights", weight)


def require_mask(name: str, mask: Tensor, shape: Sequence[int], device: torch.device) -> None:
    """Raise unless `mask` is a bool tensor (True = real) of this shape on this device."""
    require_tensor(name, mask, shape)
    if mask.dtype != torch.bool:
        raise TypeError(f"wanted {name} to be torch.bool (True = real), given {mask.dtype}")
    if mask.device != device:
        raise ValueError(f"wanted {name} to be on {device}, given a tensor on {mask.device}")


def require_finite(name: str, value: Tensor) -> None:
    """Raise if `value` holds NaN or infinity; skipped while compiling and on the meta device."""
    if not _values_are_read(value):
        return
    bad = int(value.numel() - torch.isfinite(value).sum())
    if bad:
        raise ValueError(
            f"wanted {name} to be finite, given {bad} NaN or infinite of {value.numel()}"
        )


def require_between(name: str, value: Tensor, *, low: float | int, high: float | int) -> None:
    """Raise unless all of `value` lies in [low, high], which NaN does not; skipped likewise."""
    if not _values_are_read(value):
        return
    if not bool(((value >= low) & (value <= high)).all()):
        given = f"{value.min():g} to {value.max():g}"
        raise ValueError(f"wanted {name} to lie in [{low:g}, {high:g}], given {given}")


def require_false(
    wish: str,
    bad: Tensor,
    axes: Sequence[str] = (),
    *,
    values: Tensor | None = None,
    given: str | None = None,
) -> None:
    """Raise with `wish` if any of the bool `bad` is true; skipped likewise.

    axes: their names, by which the first true place is told; values: what stands there, if wanted;
    given: what to say in place of the number of true places.
    """
    if not _values_are_read(bad) or not bool(bad.any()):
        return
    where = ""
    if axes:
        place = bad.nonzero()[0].tolist()
        what = "" if values is None else f"{values[tuple(place)]} in "
        named = ", ".join(f"{axis} {i}" for axis, i in zip(axes, place, strict=True))
        where = f"; the first: {what}{named}"
    raise ValueError(f"{wish}, given {int(bad.sum()) if given is None else given}{where}")


def can_be_read(value: Tensor) -> bool:
    """Whether a number can be taken out of `value`: not while compiling, on the meta device, or in
    a transform of torch.func, where it may stand for many.
    """
    return not (torch.compiler.is_compiling() or value.is_meta or inside_torch_func())


def inside_torch_func() -> bool:
    """Whether a transform of torch.func (vmap, grad, jacrev, ...) runs."""
    return _functorch.maybe_current_level() is not None


def _values_are_read(value: Tensor) -> bool:
    return _switch.values and can_be_read(value)
