"""Skeletons that move: rotations in three forms, forward kinematics, and a BVH reader.

World axes: x forward, y to the left, z up; metres and seconds. A rotation matrix acts on columns.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from archbook.data.reading import as_path, fault, lines_of, number, read_text

_CHANNELS = {axis + kind for axis in "xyz" for kind in ("position", "rotation")}


@dataclass(frozen=True)
class Skeleton:
    """Joints, parents first; `offsets` say where a joint sits in its parent's frame."""

    names: tuple[str, ...]
    parents: tuple[int, ...]  # -1 of the root, which comes first
    offsets: Float[Tensor, "joints 3"]

    def __post_init__(self):
        if not len(self.names) == len(self.parents) == len(self.offsets):
            raise ValueError(
                f"wanted as many parents and offsets as names, given {len(self.names)} names, "
                f"{len(self.parents)} parents and {len(self.offsets)} offsets"
            )
        wrong = [j for j, parent in enumerate(self.parents) if not -1 <= parent < j]
        if wrong or self.parents.count(-1) != 1:
            raise ValueError(f"wanted one root and parents before children, given {self.parents}")

    def place(self, *names: str) -> list[int]:
        return [self.names.index(name) for name in names]


@dataclass(frozen=True)
class Motion:
    """A clip: a rotation of every joint in its parent's frame, and the way of the root.

    `offsets` is given where joints move in their parents' frames, and stands for the skeleton's.
    """

    skeleton: Skeleton
    rotations: Float[Tensor, "frames joints 3 3"]
    root: Float[Tensor, "frames 3"]
    fps: float
    offsets: Float[Tensor, "frames joints 3"] | None = None

    def __len__(self) -> int:
        return len(self.root)

    def world(self) -> tuple[Float[Tensor, "frames joints 3 3"], Float[Tensor, "frames joints 3"]]:
        return forward_kinematics(self.skeleton, self.rotations, self.root, self.offsets)

    def positions(self) -> Float[Tensor, "frames joints 3"]:
        return self.world()[1]


def forward_kinematics(
    skeleton: Skeleton,
    rotations: Float[Tensor, "*frames joints 3 3"],
    root: Float[Tensor, "*frames 3"],
    offsets: Float[Tensor, "*frames joints 3"] | None = None,
) -> tuple[Float[Tensor, "*frames joints 3 3"], Float[Tensor, "*frames joints 3"]]:
    """Orientations and positions of all joints in the world, from local rotations.

    Q_j = Q_parent R_j and p_j = p_parent + Q_parent offset_j; Q = R and p = root at the root.
    Offsets are the skeleton's, or those of each frame.
    """
    offsets = (skeleton.offsets if offsets is None else offsets).to(rotations)
    turned, places = [rotations[..., 0, :, :]], [root]
    for j, parent in enumerate(skeleton.parents[1:], start=1):
        turned.append(turned[parent] @ rotations[..., j, :, :])
        places.append(places[parent] + (turned[parent] @ offsets[..., j, :, None])[..., 0])
    return torch.stack(turned, -3), torch.stack(places, -2)


def rotation_to_6d(R: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """The first two columns of a rotation: continuous, where Euler angles and quaternions are not
    (Zhou et al. 2019)."""
    return R[..., :2].mT.flatten(-2)


def rotation_from_6d(d: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation whose first two columns come of two vectors by Gram and Schmidt.

    Of any six numbers but a zero or two parallel vectors; of a rotation's own columns, itself.
    """
    a, b = d.unflatten(-1, (2, 3)).unbind(-2)
    x = torch.nn.functional.normalize(a, dim=-1)
    y = torch.nn.functional.normalize(b - (x * b).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)


def rotation_from_quaternion(q: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Of x, y, z, w, of any length but zero."""
    x, y, z, w = torch.nn.functional.normalize(q, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def axis_rotation(angle: Float[Tensor, "*batch"], axis: str) -> Float[Tensor, "*batch 3 3"]:
    """A turn by `angle` radians about the axis x, y or z, counter-clockwise seen from its tip."""
    quaternion = angle.new_zeros(*angle.shape, 4)
    quaternion[..., "xyz".index(axis)] = (angle / 2).sin()
    quaternion[..., 3] = (angle / 2).cos()
    return rotation_from_quaternion(quaternion)


def shortest_rotation(
    a: Float[Tensor, "*batch 3"], b: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 3 3"]:
    """The smallest turn that brings the direction of a to that of b; they must not be opposite."""
    a, b = torch.nn.functional.normalize(a, dim=-1), torch.nn.functional.normalize(b, dim=-1)
    w = 1 + (a * b).sum(-1, keepdim=True)
    return rotation_from_quaternion(torch.cat([torch.linalg.cross(a, b), w], -1))


def part_of_rotation(
    R: Float[Tensor, "*batch 3 3"], share: Float[Tensor, "*shares"]
) -> Float[Tensor, "*both 3 3"]:
    """The turn about the same axis by a share of the angle, which is less than half a turn."""
    angle = ((R.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1).acos()
    skew = (R - R.mT) / (2 * torch.sinc(angle / math.pi))[..., None, None]  # the logarithm of R
    return torch.linalg.matrix_exp(share[..., None, None] * skew)


def mirrored(motion: Motion) -> Motion:
    """Left for right: seen in a mirror on the plane of x and z."""
    flip = torch.tensor([1.0, -1, 1], dtype=motion.root.dtype)
    swap = {"right": "left", "left": "right"}
    names = motion.skeleton.names
    other = [
        names.index("_".join([swap.get(word, word) for word in name.split("_")])) for name in names
    ]
    rotations = flip[:, None] * motion.rotations[:, other] * flip
    offsets = None if motion.offsets is None else motion.offsets[:, other] * flip
    return replace(motion, rotations=rotations, root=motion.root * flip, offsets=offsets)


def repeated(motion: Motion, times: int) -> Motion:
    """The cycle several times, every one further on; its last frame, the first again, is left."""
    further = (motion.root[-1] - motion.root[0]) * torch.tensor([1.0, 1.0, 0.0])
    root = torch.cat([motion.root[:-1] + further * k for k in range(times)])
    rotations = motion.rotations[:-1].repeat(times, 1, 1, 1)
    offsets = None if motion.offsets is None else motion.offsets[:-1].repeat(times, 1, 1)
    return replace(motion, rotations=rotations, root=root, offsets=offsets)


def read_bvh(path: Path | str) -> Motion:
    """A clip in BioVision's format, in its own axes and unit of length.

    A joint's angles are applied in the order of its channels, the first one outermost. Its position
    channels, in any joint, stand for its OFFSET. A name is the rest of its line. Ends of limbs
    ("End Site") are left out. Errors: ValueError with file and line for all that is no such clip.
    """
    path = as_path(path)
    lines = _Lines(path.name, lines_of(path.name, read_text(path)))
    if lines.next() != "HIERARCHY":
        raise lines.fault("HIERARCHY")
    joints = _hierarchy(lines)
    frames, seconds = _header(lines)
    width = sum(len(joint.channels or ()) for joint in joints)
    rows = [lines.numbers(lines.next(), width, "a frame of ") for _ in range(frames)]
    if lines.next():
        raise lines.fault(f"{frames} frames")
    values = torch.tensor(rows, dtype=torch.float64).reshape(frames, width)
    columns = iter(values.unbind(1))
    offsets = torch.tensor([joint.offset for joint in joints], dtype=torch.float64)
    placed, rotations = offsets.repeat(frames, 1, 1), []
    for j, joint in enumerate(joints):
        turned = torch.eye(3, dtype=torch.float64).expand(frames, 3, 3)
        for channel, column in zip(joint.channels or (), columns, strict=False):
            if channel.endswith("rotation"):
                turned = turned @ axis_rotation(column * math.pi / 180, channel[0])
            else:
                placed[:, j, "xyz".index(channel[0])] = column
        rotations.append(turned)
    moves = any(name.endswith("position") for joint in joints[1:] for name in joint.channels or ())
    return Motion(
        Skeleton(tuple(j.name for j in joints), tuple(j.parent for j in joints), offsets),
        torch.stack(rotations, 1),
        placed[:, 0],
        1 / seconds,
        placed if moves else None,
    )


@dataclass
class _Joint:
    name: str
    parent: int
    offset: list[float] | None = None
    channels: list[str] | None = None


@dataclass
class _Lines:
    """The lines of a file one by one, without blank ones; a brace is a line of its own."""

    name: str
    lines: list[str]

    def __post_init__(self) -> None:
        self.number, self.text = 1, ""
        self._rest: Iterator[tuple[int, str]] = (
            (number, piece.strip())
            for number, line in enumerate(self.lines, start=1)
            for piece in re.split("([{}])", line)
            if piece.strip()
        )

    def next(self) -> str:
        """The next one; an empty text at the end."""
        self.number, self.text = next(self._rest, (len(self.lines), ""))
        return self.text

    def fault(self, wanted: str, given: str = "") -> ValueError:
        given = given or (repr(self.text[:60]) if self.text else "the end of the file")
        return fault(self.name, f"wanted {wanted}, given {given}", self.number)

    def expect(self, text: str, what: str) -> None:
        if self.next() != text:
            raise self.fault(f"{text!r} {what}")

    def numbers(self, text: str, count: int, what: str) -> list[float]:
        words = text.split()
        if len(words) != count:
            raise self.fault(f"{what}{count} numbers", str(len(words)) if text else "")
        try:
            return [number(word) for word in words]
        except ValueError as error:
            raise fault(self.name, str(error), self.number) from None


def _hierarchy(lines: _Lines) -> list[_Joint]:
    """The joints up to MOTION, parents first."""
    joints: list[_Joint] = []
    inside: list[int] = []  # the chain of joints that the reader is in
    while (text := lines.next()) != "MOTION":
        word, rest = (*text.split(None, 1), "", "")[:2]
        joint = joints[inside[-1]] if inside else None
        if word == ("ROOT" if not joints else "JOINT") and (joint is not None or not joints):
            if not rest:
                raise lines.fault(f"a name after {word}")
            joints.append(_Joint(rest, inside[-1] if inside else -1))
            inside.append(len(joints) - 1)
            lines.expect("{", f"after {word} {rest}")
        elif joint is None:
            raise lines.fault("MOTION" if joints else "ROOT and a name")
        elif word == "OFFSET" and joint.offset is None:
            joint.offset = lines.numbers(rest, 3, f"for {joint.name} an OFFSET of ")
        elif word == "CHANNELS" and joint.channels is None:
            joint.channels = _channels(lines, joint.name, rest)
        elif word == "End":
            lines.expect("{", f"after {text}")
            if not lines.next().startswith("OFFSET"):
                raise lines.fault(f"the OFFSET of {text}")
            lines.numbers(lines.text.removeprefix("OFFSET"), 3, "an OFFSET of ")
            lines.expect("}", f"after the OFFSET of {text}")
        elif text == "}":
            if joint.offset is None or joint.channels is None:
                raise lines.fault(f"OFFSET and CHANNELS of {joint.name}")
            inside.pop()
        else:
            known = "OFFSET and CHANNELS once, JOINT, End Site or '}'"
            raise lines.fault(f"in {joint.name} {known}")
    if inside or not joints:
        raise lines.fault(f"'}}' after {joints[inside[-1]].name}" if inside else "a ROOT")
    return joints


def _channels(lines: _Lines, joint: str, text: str) -> list[str]:
    """3 Zrotation Xrotation Yrotation"""
    count, *names = text.lower().split() or [""]
    if count != str(len(names)) or not _CHANNELS.issuperset(names) or len(set(names)) < len(names):
        wanted = f"for {joint} as many CHANNELS as it says, each once, such as Xrotation"
        raise lines.fault(wanted, repr(text))
    return names


def _header(lines: _Lines) -> tuple[int, float]:
    """Frames: 994, then Frame Time: .0083333"""
    frames = re.fullmatch(r"Frames:\s*(\d{1,9})", lines.next(), re.ASCII)
    if frames is None:
        raise lines.fault("'Frames: ..'")
    time = re.fullmatch(r"Frame Time:\s*(\S+)", lines.next())
    if time is None:
        raise lines.fault("'Frame Time: ..'")
    (seconds,) = lines.numbers(time[1], 1, "")
    if not 0 < seconds < math.inf or not math.isfinite(1 / seconds):
        raise lines.fault("a Frame Time above 0")
    return int(frames[1]), seconds
