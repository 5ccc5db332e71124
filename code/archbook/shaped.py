"""What shapes a model's function but none of its weights: stored with them, checked on loading."""

import re
from collections.abc import Mapping
from numbers import Integral, Real
from operator import attrgetter
from typing import Any, ClassVar

from torch import nn

RECORD = "shaped_by"  # its place in the metadata of a module's weights


class Shaped(nn.Module):
    """A module whose `state_dict` remembers the arguments that no weight shows.

    Two models with equal weights may be two functions: an LMU of another theta, an attention of
    other heads. `shaped_by` names such arguments, each with the attribute that holds it. They
    travel in the metadata of the state_dict, beside torch's own version number: keys and tensors
    stay as they are, and `torch.save` and `torch.load` keep them. `load_state_dict` refuses, with a
    ValueError, weights of other arguments; as after torch's own refusals, some may be loaded then.
    A dict without metadata cannot be checked; see `archbook.weights.save_weights`.
    """

    shaped_by: ClassVar[Mapping[str, str]] = {}

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if hasattr(destination, "_metadata"):  # none in a dict of the caller's own
            destination._metadata[prefix[:-1]][RECORD] = record(self)

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: dict,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        if RECORD in local_metadata:
            require_record(self, local_metadata[RECORD], prefix[:-1])
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def record(module: Shaped) -> dict[str, Any]:
    """The module's arguments, as plain values."""
    return {name: _plain(attrgetter(at)(module)) for name, at in module.shaped_by.items()}


def records(network: nn.Module) -> dict[str, dict[str, Any]]:
    """Those of all parts of a network that have some, by the part's name."""
    parts = network.named_modules()
    return {name: record(part) for name, part in parts if isinstance(part, Shaped)}


def require_record(module: Shaped, given: Mapping[str, Any], name: str) -> None:
    """Raise unless weights of these arguments are the module's."""
    kind = type(module).__name__
    where = f"{name} ({kind})" if name else f"a {kind}"
    for argument, wanted in record(module).items():
        if argument not in given:
            raise ValueError(
                f"wanted weights of {argument}={wanted!r} for {where}, "
                f"given some without {argument}"
            )
        if given[argument] != wanted:
            raise ValueError(
                f"wanted weights of {argument}={wanted!r} for {where}, "
                f"given {argument}={given[argument]!r}"
            )


def _plain(value: Any) -> Any:
    """A number, a text, a list of such, or how a function or a module is called."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    name = getattr(value, "__name__", None)
    return name or re.sub(r" at 0x[0-9a-f]+", "", repr(value))
