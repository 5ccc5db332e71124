"""Values between the grader and a submission, as bytes that cannot run anything when they are read.

Numbers, text, lists, tuples, dictionaries, tensors and arrays travel by value. Anything else stays
where it is, and its number travels: whoever holds the number can call the thing behind it.
"""

import json
import socket
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

MOST_BYTES = 64 * 2**20  # of one message
HEAD = struct.Struct(">QQ")  # lengths of the text and of the raw numbers behind it


class Closed(ConnectionError):
    """The other side has gone."""


def encode(value: Any, keep: Callable[[Any], int]) -> bytes:
    """`keep` takes what cannot travel by value, and returns its number."""
    blobs: list[bytes] = []

    def raw(data: bytes) -> int:
        blobs.append(data)
        return len(data)

    def pack(value: Any) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, complex):
            return ["complex", value.real, value.imag]
        if isinstance(value, torch.Tensor) and value.layout == torch.strided:
            flat = value.detach().cpu().resolve_conj().contiguous().reshape(-1)
            size = raw(flat.view(torch.uint8).numpy().tobytes() if len(flat) else b"")
            return ["tensor", str(value.dtype).removeprefix("torch."), list(value.shape), size]
        if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
            return ["array", value.dtype.str, list(value.shape), raw(value.tobytes())]
        if isinstance(value, torch.dtype):
            return ["dtype", str(value).removeprefix("torch.")]
        if isinstance(value, list | tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            return [kind, [pack(item) for item in value]]
        if isinstance(value, dict):
            return ["dict", [[pack(key), pack(item)] for key, item in value.items()]]
        return ["object", keep(value), type(value).__name__]

    text = json.dumps(pack(value)).encode()
    body = b"".join(blobs)
    if len(text) + len(body) > MOST_BYTES:
        raise ValueError(f"a value of {len(text) + len(body):,} bytes; at most {MOST_BYTES:,} pass")
    return HEAD.pack(len(text), len(body)) + text + body


def decode(text: bytes, body: bytes, find: Callable[[int, str], Any]) -> Any:
    """The value; `find` returns what stands for an object of the other side."""
    position = 0

    def raw(size: int) -> bytearray:
        nonlocal position
        position += size
        return bytearray(body[position - size : position])

    def dtype(name: str) -> torch.dtype:
        found = getattr(torch, name, None)
        if not isinstance(found, torch.dtype):
            raise ValueError(f"no dtype: {name}")
        return found

    def unpack(packed: Any) -> Any:
        if not isinstance(packed, list):
            return packed
        kind, *rest = packed
        if kind == "complex":
            return complex(*rest)
        if kind == "tensor":
            name, shape, size = rest
            data = raw(size)
            if not data:
                return torch.empty(shape, dtype=dtype(name))
            return torch.frombuffer(data, dtype=dtype(name)).reshape(shape)
        if kind == "array":
            name, shape, size = rest
            return np.frombuffer(raw(size), dtype=np.dtype(name)).reshape(shape)
        if kind == "dtype":
            return dtype(*rest)
        if kind in ("list", "tuple"):
            items = [unpack(item) for item in rest[0]]
            return items if kind == "list" else tuple(items)
        if kind == "dict":
            return {unpack(key): unpack(item) for key, item in rest[0]}
        if kind == "object":
            return find(int(rest[0]), str(rest[1]))
        raise ValueError(f"no kind of value: {kind}")

    return unpack(json.loads(text))


def receive(connection: socket.socket) -> tuple[bytes, bytes]:
    """One message; waits as long as the socket's own timeout says, for each piece."""

    def exactly(size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = connection.recv(min(size - len(data), 2**20))
            if not piece:
                raise Closed("the other side has gone")
            data += piece
        return bytes(data)

    text, body = HEAD.unpack(exactly(HEAD.size))
    if text + body > MOST_BYTES:
        raise ValueError(f"a message of {text + body:,} bytes; at most {MOST_BYTES:,} pass")
    return exactly(text), exactly(body)
