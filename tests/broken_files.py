"""A small whole file for each reader, and ways to break files, byte by byte and line by line."""

import random
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch

from archbook.data import shipped
from archbook.data.alignments import read_a3m, read_fasta, read_stockholm
from archbook.data.images import read_idx
from archbook.data.motion import read_bvh
from archbook.data.structures import read_pdb

READERS: dict[str, Callable[[Path], Any]] = {
    "a3m": read_a3m,
    "fasta": read_fasta,
    "stockholm": read_stockholm,
    "pdb": lambda path: read_pdb(path, "A"),
    "bvh": read_bvh,
    "idx": read_idx,
}

A3M = b""">query one
ACDEF
GHIK
>b
A-aDE.F
gGHIK
>c
------HIK
"""
FASTA = b""">query one
ACDEF
G.HIK
>b
ACDEF
GkHIK
>c
--~~_
--HIK
"""
STOCKHOLM = b"""# STOCKHOLM 1.0
#=GF ID toy

query/1-9   ACDE
#=GR b SS   HH.C
b           A-.D
#=GC RF     xx.x

query/1-9   FGHIK
#=GR b SS   HHHHH
b           FGhIK
#=GC RF     xxxxx
//
"""
IDX = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, *range(24)])


def sample(name: str) -> bytes:
    """A shipped file, cut to few atoms and few frames, or one written by hand."""
    if name == "pdb":
        lines = shipped("msa/pfam40/structures/PF00708_3BR8_A.pdb").read_bytes().splitlines(True)
        return b"".join(lines[:40]) + b"END\n"
    if name == "bvh":
        text = shipped("mocap/cmu_bvh/131_01.bvh").read_text(encoding="utf-8")
        head, _, motion = text.partition("Frames:")
        rows = motion.splitlines()[1:6]
        return "\n".join([f"{head}Frames: 4", *rows, ""]).encode()
    return {"a3m": A3M, "fasta": FASTA, "stockholm": STOCKHOLM, "idx": IDX}[name]


def broken(data: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """As many broken copies: bytes changed, dropped, doubled or put in, lines likewise, cuts."""
    rng = random.Random(seed)
    likely = bytes(sorted(set(data)))
    ends = b"\n"

    def byte() -> bytes:
        return bytes([rng.choice(likely) if rng.random() < 0.5 else rng.randrange(256)])

    def once(data: bytes) -> bytes:
        at = rng.randrange(len(data) + 1)
        way = rng.choice(["change", "drop", "put in", "cut", "line"])
        if way == "change":
            return data[:at] + byte() + data[at + 1 :]
        if way == "drop":
            return data[:at] + data[at + rng.randrange(1, 4) :]
        if way == "put in":
            return data[:at] + byte() + data[at:]
        if way == "cut":
            return data[:at]
        lines = data.split(ends)
        line = rng.randrange(len(lines))
        return ends.join(
            [*lines[:line], *lines[line : line + 1] * rng.choice([0, 2]), *lines[line + 1 :]]
        )

    for _ in range(count):
        spoiled = data
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            spoiled = once(spoiled)
        yield spoiled


def plain(value: Any) -> Any:
    """Lists and numbers in place of tensors, "nan" in place of what does not equal itself."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, torch.Tensor):
        return [list(value.shape), [str(number) for number in value.flatten().tolist()]]
    return value
