"""The state of a training run in one file: saved, and put back exactly.

Ours for the reason that stands at the head of `run.py`.
"""

import io
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from archbook.files import write_bytes

Stateful = Any  # state_dict and load_state_dict, or a torch.Generator, or a dict, or a list


def capture(states: Mapping[str, Stateful]) -> dict[str, Any]:
    """What each object must be given back to go on as if nothing had happened."""
    return {name: _state_of(name, thing) for name, thing in states.items()}


def restore(states: Mapping[str, Stateful], saved: Mapping[str, Any]) -> None:
    """Put saved states back into the same objects, in place."""
    if set(states) != set(saved):
        raise ValueError(f"wanted states {sorted(saved)} as saved, given {sorted(states)}")
    for name, thing in states.items():
        if isinstance(thing, dict):
            thing.clear()
            thing.update(saved[name])
        elif isinstance(thing, list):
            thing[:] = saved[name]
        elif isinstance(thing, torch.Generator):
            thing.set_state(saved[name])
        else:
            thing.load_state_dict(saved[name])


def _state_of(name: str, thing: Stateful) -> Any:
    if isinstance(thing, torch.Generator):
        return thing.get_state()
    if isinstance(thing, dict | list):
        return thing
    if hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict"):
        return thing.state_dict()
    wanted = "an object with state_dict and load_state_dict, a torch.Generator, a dict or a list"
    raise TypeError(f"state {name!r}: wanted {wanted}, given {type(thing).__name__}")


def capture_random(device: torch.device) -> dict[str, Any]:
    """The global generators of Python, NumPy and torch, as plain values and tensors."""
    # the global NumPy generator is the one that libraries draw from
    legacy: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    kind, keys, *rest = legacy
    states = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_random(states: Mapping[str, Any], device: torch.device) -> None:
    """Put the global generators back."""
    random.setstate(states["python"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states["mps"])


def pack(content: dict[str, Any]) -> bytes:
    """The bytes of a checkpoint, made sure to open again without unpickling foreign code."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        torch.load(io.BytesIO(buffer.getvalue()), map_location="cpu", weights_only=True)
    except Exception as error:
        raise TypeError(
            "wanted states of tensors, numbers, text, lists and dicts alone, given something that "
            f"a checkpoint cannot hold safely: {str(error).strip().splitlines()[-1]}"
        ) from None
    return buffer.getvalue()


def save(path: Path, packed: bytes) -> None:
    """Replace the checkpoint in one step."""
    write_bytes(path, packed)


def load(path: Path) -> dict[str, Any] | None:
    """The checkpoint, its tensors on the CPU; None where there is none."""
    if not path.exists():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)
