"""Weights of your own as safetensors, with what shapes their network in the file's header."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn

from archbook.shaped import Shaped, records, require_record

HEADER = "archbook.shaped_by"  # the entry of the file's metadata


def save_weights(network: nn.Module, path: Path | str) -> None:
    """Write the weights of a network, or of anything around one, and the arguments that shape it.

    >>> from archbook.lmu import LMU
    >>> save_weights(LMU(1, 4, 1, order=3, theta=20.0), "lmu.safetensors")
    >>> load_weights(LMU(1, 4, 1, order=3, theta=20.0), "lmu.safetensors")
    """
    weights = {name: kept.detach().contiguous() for name, kept in network.state_dict().items()}
    Path(path).write_bytes(safetensors.torch.save(weights, metadata=header(network)))


def load_weights(network: nn.Module, path: Path | str) -> None:
    """Load what `save_weights` wrote into a network that was built alike.

    Errors: ValueError for weights of other arguments (theta, heads, a grid, ...), and for a file
    that does not tell them; the network then is as it was. RuntimeError as in `load_state_dict`.

    >>> from archbook.lmu import LMU
    >>> save_weights(LMU(1, 4, 1, order=3, theta=20.0), "lmu.safetensors")
    >>> load_weights(LMU(1, 4, 1, order=3, theta=30.0), "lmu.safetensors")
    Traceback (most recent call last):
        ...
    ValueError: wanted weights of theta=30.0 for memory (LegendreMemory), given theta=20.0
    """
    content = Path(path).read_bytes()
    require_records(network, content, path)
    network.load_state_dict(safetensors.torch.load(content))


def header(network: nn.Module) -> dict[str, str]:
    """The metadata of the network's file."""
    return {HEADER: json.dumps(records(network))}


def told_by(content: bytes) -> dict[str, dict[str, Any]] | None:
    """What a file's bytes tell of its network; None where they do not."""
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    return json.loads(metadata[HEADER]) if HEADER in metadata else None


def require_records(network: nn.Module, content: bytes, path: Path | str) -> None:
    """Raise unless every part of the network is shaped as the file's bytes tell."""
    told = told_by(content)
    if told is None:
        raise ValueError(
            f"wanted a file that tells what shapes its network, as save_weights writes it, given "
            f"{path} without"
        )
    for name, part in network.named_modules():
        if isinstance(part, Shaped):
            require_record(part, told.get(name, {}), name)
