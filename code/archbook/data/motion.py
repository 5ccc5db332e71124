"""Skeletons that move: rotations in three forms, forward kinematics, and a BVH reader.

World axes: x forward, y to the left, z up; metres and seconds. A rotation matrix acts on columns.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


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
    """A clip: a rotation of every joint in its parent's frame, and the way of the root."""

    skeleton: Skeleton
    rotations: Float[Tensor, "frames joints 3 3"]
    root: Float[Tensor, "frames 3"]
    fps: float

    def __len__(self) -> int:
        return len(self.root)

    def world(self) -> tuple[Float[Tensor, "frames joints 3 3"], Float[Tensor, "frames joints 3"]]:
        return forward_kinematics(self.skeleton, self.rotations, self.root)

    def positions(self) -> Float[Tensor, "frames joints 3"]:
        return self.world()[1]


def forward_kinematics(
    skeleton: Skeleton,
    rotations: Float[Tensor, "*frames joints 3 3"],
    root: Float[Tensor, "*frames 3"],
) -> tuple[Float[Tensor, "*frames joints 3 3"], Float[Tensor, "*frames joints 3"]]:
    """Orientations and positions of all joints in the world, from local rotations.

    Q_j = Q_parent R_j and p_j = p_parent + Q_parent offset_j; Q = R and p = root at the root.
    """
    offsets = skeleton.offsets.to(rotations)
    turned, places = [rotations[..., 0, :, :]], [root]
    for j, parent in enumerate(skeleton.parents[1:], start=1):
        turned.append(turned[parent] @ rotations[..., j, :, :])
        places.append(places[parent] + turned[parent] @ offsets[j])
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
    return replace(motion, rotations=rotations, root=motion.root * flip)


def repeated(motion: Motion, times: int) -> Motion:
    """The cycle several times, every one further on; its last frame, the first again, is left."""
    further = (motion.root[-1] - motion.root[0]) * torch.tensor([1.0, 1.0, 0.0])
    root = torch.cat([motion.root[:-1] + further * k for k in range(times)])
    return replace(motion, rotations=motion.rotations[:-1].repeat(times, 1, 1, 1), root=root)


def read_bvh(path: Path) -> Motion:
    """A clip in BioVision's format, in its own axes and unit of length.

    A joint's angles are applied in the order of its channels, the first one outermost. Ends of
    limbs ("End Site") are left out. Errors: ValueError for a file that is no such clip.
    """
    words = iter(path.read_text(encoding="utf-8").split())
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    channels: list[list[str]] = []
    if next(words, None) != "HIERARCHY":
        raise ValueError(f"{path.name}: wanted a BVH file that begins with HIERARCHY")
    open_joints, end_sites = [-1], 0  # the chain of joints that the reader is inside of
    for word in words:
        if word in ("ROOT", "JOINT"):
            parents.append(open_joints[-1])
            open_joints.append(len(names))
            names.append(next(words))
        elif word == "End":
            end_sites = 1
        elif word == "OFFSET":
            offset = [float(next(words)) for _ in range(3)]
            if not end_sites:
                offsets.append(offset)
        elif word == "CHANNELS":
            channels.append([next(words) for _ in range(int(next(words)))])
        elif word == "}":
            if not end_sites:
                open_joints.pop()
            end_sites = 0
        elif word == "MOTION":
            break
    frames, seconds = _header(words, path)
    numbers = np.array(list(words), np.float64)
    width = sum(map(len, channels))
    if len(numbers) != frames * width:
        raise ValueError(
            f"{path.name}: wanted {frames} frames of {width} numbers, given {len(numbers)} numbers"
        )
    values = torch.from_numpy(numbers.reshape(frames, width))
    columns = iter(values.unbind(1))
    rotations = []
    root = torch.tensor(offsets[0], dtype=torch.float64).expand(frames, 3).clone()
    for joint, joint_channels in enumerate(channels):
        turned = torch.eye(3, dtype=torch.float64).expand(frames, 3, 3)
        for channel, column in zip(joint_channels, columns, strict=False):
            axis = channel[0].lower()
            if channel.endswith("rotation"):
                turned = turned @ axis_rotation(column * math.pi / 180, axis)
            elif joint == 0:
                root[:, "xyz".index(axis)] += column
        rotations.append(turned)
    skeleton = Skeleton(tuple(names), tuple(parents), torch.tensor(offsets, dtype=torch.float64))
    return Motion(skeleton, torch.stack(rotations, 1), root, 1 / seconds)


def _header(words: Iterator[str], path: Path) -> tuple[int, float]:
    """Frames: 994 Frame Time: .0083333"""
    header = [next(words, "") for _ in range(5)]
    match = re.fullmatch(r"Frames: (\d+) Frame Time: (\S+)", " ".join(header))
    if match is None:
        raise ValueError(f"{path.name}: wanted 'Frames: .. Frame Time: ..', given {header}")
    return int(match[1]), float(match[2])
