"""Walking and running, captured: clips on one skeleton, their phase and speed, and pairs of frames.

Six clips of fifteen joints at 30 frames a second. Two captured walks and runs are longer than one
cycle, so that whole stretches can be held out; three are single cycles that close on themselves;
in one the speed changes. Each is used as it is and mirrored. Sources and licences: the README files
beside the data, `archbook/data/sets/mocap`.
"""

import json
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from archbook.data.kept import kept
from archbook.data.manifest import shipped
from archbook.data.motion import (
    Motion,
    Skeleton,
    axis_rotation,
    forward_kinematics,
    mirrored,
    part_of_rotation,
    read_bvh,
    repeated,
    rotation_from_6d,
    rotation_from_quaternion,
    rotation_to_6d,
    shortest_rotation,
)

FPS = 30.0
FEET = ("right_foot", "left_foot")
HANDS = ("right_hand", "left_hand")  # rigid in every clip: no part of a pose
SECONDS = (-0.5, -0.25, 0.25, 0.5)  # of the trajectory that a network is shown, from now
WINDOW = 0.5  # seconds either side: what is averaged for speed, half of it for heading
STEP_LENGTH = 0.3  # metres between the feet that make a step, at least
CONTACT_HEIGHT, CONTACT_SPEED = 0.06, 1.2  # m over the ground, m/s: below both, a foot stands
TOP_SPEED = 4.0  # m/s, the end of the speed axis of a grid
POSE, STATE = 78, 84  # numbers of a pose; with height, velocity (3) and contacts (2)
INPUTS, OUTPUTS = 95, 85

HELD_OUT = {  # clip -> part -> its frames; a clip that is not named is for training
    "walk": {"train": (0, 40), "valid": (40, 51), "test": (51, 77)},
    "run": {"train": (0, 24), "test": (24, 41)},
}
CYCLES = {"slow_walk": "walk", "jog": "jog", "fast_run": "run"}  # -> the name of the source
CYCLE_JOINTS = {  # in the source's order; True: a hinge, one angle
    "pelvis": False,
    "torso": False,
    "head": False,
    "right_thigh": False,
    "right_shin": True,
    "right_foot": False,
    "right_upper_arm": False,
    "right_lower_arm": True,
    "left_thigh": False,
    "left_shin": True,
    "left_foot": False,
    "left_upper_arm": False,
    "left_lower_arm": True,
}
RETARGET = {  # joint -> the capture's joint that turns it
    "pelvis": "Hips",
    "torso": "Chest2",
    "head": "Head",
    "right_upper_arm": "RightShoulder",
    "right_lower_arm": "RightElbow",
    "right_hand": "RightElbow",
    "left_upper_arm": "LeftShoulder",
    "left_lower_arm": "LeftElbow",
    "left_hand": "LeftElbow",
    "right_thigh": "RightHip",
    "right_shin": "RightKnee",
    "right_foot": "RightAnkle",
    "left_thigh": "LeftHip",
    "left_shin": "LeftKnee",
    "left_foot": "LeftAnkle",
}
SPEEDING_UP = slice(516, 724, 4)  # of 131_01's frames, 120 a second: the steps of a plain walk


@dataclass(frozen=True)
class Gait:
    """A clip with what is known of every frame. Phase in turns, not wrapped."""

    name: str
    motion: Motion
    phase: Float[Tensor, " frames"]  # 0: the right foot is furthest forward; 1/2: the left one
    heading: Float[Tensor, " frames"]  # radians, from x towards y
    speed: Float[Tensor, " frames"]  # m/s along the path, averaged over a second
    contacts: Float[Tensor, "frames 2"]  # 1 where the right, the left foot stands
    inside: tuple[int, int]  # frames that are the clip's own; the rest repeats a cycle

    def __len__(self) -> int:
        return self.inside[1] - self.inside[0]


@dataclass(frozen=True)
class FramePairs:
    """What a network sees of a frame, and what it is to say of the next one, float32."""

    x: Float[Tensor, "pairs 95"]  # state, trajectory (4 x 2), cos and sin of the phase, speed
    g: Float[Tensor, "pairs 2"]  # phase in [0, 1), speed / TOP_SPEED
    y: Float[Tensor, "pairs 85"]  # the next state, the advance of the phase in turns

    def __len__(self) -> int:
        return len(self.x)


def frame_pairs(part: str) -> FramePairs:
    """All neighbouring frames that lie both in the part "train", "valid" or "test", mirrored too.

    A state is the rotations of 13 joints in the 6-D form, the pelvis's against the heading; the
    pelvis's height; how it moved since the frame before, along the heading and to the left (m/s)
    and turning (rad/s), seen from that frame; the feet's contacts. The trajectory is where the
    pelvis was and will be on the ground, in metres, seen from now.

    >>> pairs = frame_pairs("test")
    >>> pairs.x.shape[1], pairs.g.shape[1], pairs.y.shape[1]
    (95, 2, 85)
    """
    if part not in ("train", "valid", "test"):
        raise ValueError(f"wanted a part out of train, valid, test, given {part!r}")
    found = []
    for gait in gaits():
        first, last = gait.inside
        if gait.name in HELD_OUT:
            first, last = HELD_OUT[gait.name].get(part, (0, 0))
        elif part != "train":
            continue
        loop = gait.name in CYCLES  # whose last frame is followed by its first
        frames = torch.arange(first, last if loop else max(first, last - 1))
        found.append(_pairs(gait, frames))
    x, g, y = (torch.cat(columns).float() for columns in zip(*found, strict=True))
    return FramePairs(x, g, y)


def _pairs(gait: Gait, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    state = states(gait)
    x = network_input(
        state[frames], trajectory(gait)[frames], gait.phase[frames], speed=gait.speed[frames]
    )
    advance = gait.phase[frames + 1] - gait.phase[frames]
    return (
        x,
        grid_input(gait.phase, gait.speed)[frames],
        torch.cat([state[frames + 1], advance[:, None]], 1),
    )


def network_input(
    state: Float[Tensor, "batch 84"],
    path: Float[Tensor, "batch 4 2"],
    phase: Float[Tensor, " batch"],
    *,
    speed: Float[Tensor, " batch"],
) -> Float[Tensor, "batch 95"]:
    turn = 2 * math.pi * phase
    extra = torch.stack([turn.cos(), turn.sin(), speed], 1)
    return torch.cat([state, path.flatten(1), extra], 1)


def grid_input(
    phase: Float[Tensor, " batch"], speed: Float[Tensor, " batch"]
) -> Float[Tensor, "batch 2"]:
    return torch.stack([phase % 1, speed / TOP_SPEED], 1)


def states(gait: Gait) -> Float[Tensor, "frames 84"]:
    motion, yaw = gait.motion, gait.heading
    rotations = motion.rotations.clone()
    rotations[:, 0] = axis_rotation(-yaw, "z") @ rotations[:, 0]
    pose = rotation_to_6d(rotations[:, _posed(motion.skeleton)]).flatten(1)
    step = motion.root[1:, :2] - motion.root[:-1, :2]
    moved = torch.cat([_seen_from(yaw[:-1], step), (yaw[1:] - yaw[:-1])[:, None]], 1) * FPS
    moved = torch.cat([moved[:1], moved])  # of the frame before the first nothing is known
    return torch.cat([pose, motion.root[:, 2:], moved, gait.contacts], 1)


def pose_positions(
    state: Float[Tensor, "batch 84"],
) -> Float[Tensor, "batch 15 3"]:
    """Where the joints of a state are, the heading being x and the pelvis above the origin."""
    skeleton = humanoid()
    rotations = torch.eye(3, dtype=state.dtype, device=state.device)
    rotations = rotations.repeat(*state.shape[:-1], len(skeleton.names), 1, 1)
    rotations[..., _posed(skeleton), :, :] = rotation_from_6d(
        state[..., :POSE].unflatten(-1, (-1, 6))
    )
    zero = torch.zeros_like(state[..., :1])
    root = torch.cat([zero, zero, state[..., POSE : POSE + 1]], -1)
    return forward_kinematics(skeleton, rotations, root)[1]


def trajectory(gait: Gait) -> Float[Tensor, "frames 4 2"]:
    """The pelvis's way at the SECONDS from each frame; beyond an end of the clip, straight on."""
    path = gait.motion.root[:, :2]
    frames = torch.arange(len(path))
    moved = []
    for seconds in SECONDS:
        wanted = frames + round(seconds * FPS)
        there = wanted.clamp(0, len(path) - 1)
        beyond = (wanted - there)[:, None] / FPS
        ahead = torch.stack([gait.heading[there].cos(), gait.heading[there].sin()], 1)
        place = path[there] + beyond * gait.speed[there, None] * ahead
        moved.append(_seen_from(gait.heading, place - path))
    return torch.stack(moved, 1)


def _seen_from(yaw: Tensor, vector: Tensor) -> Tensor:
    """A vector on the ground in the axes of a heading: along it, to its left."""
    x, y = vector.unbind(-1)
    return torch.stack([yaw.cos() * x + yaw.sin() * y, yaw.cos() * y - yaw.sin() * x], -1)


def _posed(skeleton: Skeleton) -> list[int]:
    return [j for j, name in enumerate(skeleton.names) if name not in HANDS]


# ---- the clips ----


@kept(most=1)
def gaits() -> tuple[Gait, ...]:
    """All clips and their mirror images.

    >>> walk = next(gait for gait in gaits() if gait.name == "walk")
    >>> walk.motion.rotations.shape, walk.contacts.shape
    (torch.Size([77, 15, 3, 3]), torch.Size([77, 2]))
    """
    clips = {name: captured(name) for name in ("walk", "run")}
    clips |= {name: cycle(source) for name, source in CYCLES.items()}
    clips["speeding_up"] = retargeted()
    return tuple(
        describe(name, clip, loop=name in CYCLES)
        for name, motion in clips.items()
        for clip in (motion, mirrored(motion))
    )


def describe(name: str, motion: Motion, loop: bool = False) -> Gait:
    """Ground, heading, speed, contacts and phase of a clip; a loop is measured amid its copies."""
    inside = (0, len(motion))
    if loop:
        inside = (len(motion) - 1, 2 * (len(motion) - 1))
        motion = repeated(motion, 3)
    feet = motion.positions()[:, motion.skeleton.place(*FEET)]
    ground = feet[..., 2].amin(1).quantile(0.2)
    motion = replace(motion, root=motion.root - torch.stack([ground * 0, ground * 0, ground]))
    ahead = _average(motion.rotations[:, 0, :2, 0], round(WINDOW / 2 * FPS))
    heading = torch.atan2(ahead[:, 1], ahead[:, 0])
    apart = _seen_from(heading, (feet[:, 0] - feet[:, 1])[:, :2])[:, 0]
    velocity = (feet[1:] - feet[:-1])[..., :2].norm(dim=-1) * FPS
    velocity = torch.cat([velocity[:1], velocity])
    stands = (feet[..., 2] - ground < CONTACT_HEIGHT) & (velocity < CONTACT_SPEED)
    reach = round(WINDOW * FPS)
    index = torch.arange(len(motion))
    before, after = (index - reach).clamp(min=0), (index + reach).clamp(max=len(motion) - 1)
    way = (motion.root[after] - motion.root[before])[:, :2].norm(dim=1)
    return Gait(
        name=name,
        motion=motion,
        phase=phase_of(apart, STEP_LENGTH),
        heading=heading,
        speed=way / (after - before) * FPS,
        contacts=stands.to(motion.root.dtype),
        inside=inside,
    )


def phase_of(apart: Float[Tensor, " frames"], least: float) -> Float[Tensor, " frames"]:
    """Turns of a swing: whole at its maxima, half at its minima, even steps between them.

    An extreme counts once the signal has turned back by `least`. Beyond the first and the last one
    the phase goes on at the pace of the nearest half turn. Errors: ValueError for fewer than two.
    """
    values = apart.tolist()
    extremes: list[tuple[int, bool]] = []  # frame, and whether a maximum
    high = low = 0
    rising = None
    for t, value in enumerate(values):
        high = t if value > values[high] else high
        low = t if value < values[low] else low
        if rising is not False and value < values[high] - least:
            extremes.append((high, True))
            rising, low = False, t
        elif rising is not True and value > values[low] + least:
            extremes.append((low, False))
            rising, high = True, t
    extremes = [(t, top) for t, top in extremes if 0 < t < len(values) - 1]
    if len(extremes) < 2:
        raise ValueError(f"wanted at least 2 extremes of the swing, given {len(extremes)}")
    start = 0.0 if extremes[0][1] else 0.5
    frames = [t for t, _ in extremes]
    turns = [start + 0.5 * k for k in range(len(frames))]
    begin = turns[0] - frames[0] * 0.5 / (frames[1] - frames[0])
    end = turns[-1] + (len(values) - 1 - frames[-1]) * 0.5 / (frames[-1] - frames[-2])
    known = [0, *frames, len(values) - 1], [begin, *turns, end]
    return torch.from_numpy(np.interp(np.arange(len(values)), *known))


@kept(most=1)
def humanoid() -> Skeleton:
    return captured("walk").skeleton


def captured(name: str) -> Motion:
    """The "walk" or the "run" of CMU's capture. Its 60 frames a second are 30, each stored twice.

    The walk climbs by 8 cm on its 4 m: the line through the pelvis's height is taken out.
    """
    with np.load(shipped(f"mocap/cmu_amp/amp_{name}.npz")) as arrays:
        numbers = {
            key: torch.from_numpy(arrays[key].astype(np.float64))[::2]
            for key in ("local_rotations_xyzw", "root_translation")
        }
        skeleton = Skeleton(
            tuple(map(str, arrays["node_names"])),
            tuple(map(int, arrays["parents"])),
            torch.from_numpy(arrays["offsets"].astype(np.float64)),
        )
    root = numbers["root_translation"]
    centred = torch.arange(len(root), dtype=root.dtype) - (len(root) - 1) / 2
    slope = (centred * root[:, 2]).sum() / centred.square().sum()
    root = torch.cat([root[:, :2], (root[:, 2] - slope * centred)[:, None]], 1)
    return Motion(skeleton, rotation_from_quaternion(numbers["local_rotations_xyzw"]), root, FPS)


def cycle(source: str) -> Motion:
    """One cycle of DeepMimic's "walk", "jog" or "run", made to close: the last pose is the first.

    In the source a gap of several frames' steps is left; every joint gives it back evenly over the
    cycle. Its axes are turned: there y points up and z to the right.
    """
    text = shipped(f"mocap/deepmimic_json/humanoid3d_{source}.txt").read_text(encoding="utf-8")
    frames = torch.tensor(json.loads(text)["Frames"], dtype=torch.float64)
    axes = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
    columns = iter(frames[:, 4:].unbind(1))
    turned = {}
    for joint, hinge in CYCLE_JOINTS.items():
        if hinge:
            R = axis_rotation(next(columns), "z")
        else:
            w, *xyz = (next(columns) for _ in range(4))
            R = rotation_from_quaternion(torch.stack([*xyz, w], -1))
        turned[joint] = axes @ R @ axes.T
    still = torch.eye(3, dtype=torch.float64).expand(len(frames), 3, 3)
    skeleton = humanoid()
    rotations = torch.stack([turned.get(joint, still) for joint in skeleton.names], 1)
    gap = rotations[-1].mT @ rotations[0]
    share = torch.linspace(0, 1, len(frames), dtype=torch.float64)[:, None]
    rotations = rotations @ part_of_rotation(gap, share)
    return Motion(skeleton, rotations, frames[:, 1:4] @ axes.T, 1 / float(frames[0, 0]))


def retargeted() -> Motion:
    """CMU's 131_01 where it speeds up, put on our skeleton: every limb points as the captured one.

    The trunk is turned as the capture's. A limb's rest direction is turned to that of the capture
    by the shortest way, then as the capture turns it. The way is scaled by the legs' lengths.
    """
    clip, skeleton = read_bvh(shipped("mocap/cmu_bvh/131_01.bvh")), humanoid()
    axes = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    world = (axes @ clip.world()[0] @ axes.T)[SPEEDING_UP]
    theirs = clip.skeleton.offsets @ axes.T
    turned, ours, rotations = [], skeleton.offsets, []
    for j, joint in enumerate(skeleton.names):
        R = world[:, clip.skeleton.names.index(RETARGET[joint])]
        children = [k for k, parent in enumerate(skeleton.parents) if parent == j]
        if len(children) == 1 and joint not in ("pelvis", "torso"):
            end = clip.skeleton.names.index(_end_of(clip.skeleton, RETARGET[joint]))
            R = R @ shortest_rotation(ours[children[0]], theirs[end])
        parent = skeleton.parents[j]
        turned.append(turned[parent] if joint in HANDS else R)
        rotations.append(R if parent < 0 else turned[parent].mT @ turned[-1])
    legs = skeleton.place("right_shin", "right_foot"), ("RightKnee", "RightAnkle")
    length = (
        ours[legs[0]].norm(dim=1).sum() / theirs[clip.skeleton.place(*legs[1])].norm(dim=1).sum()
    )
    root = (clip.root @ axes.T)[SPEEDING_UP] * length
    return Motion(skeleton, torch.stack(rotations, 1), root, FPS)


def _end_of(skeleton: Skeleton, joint: str) -> str:
    """The joint at the other end of a limb."""
    return skeleton.names[skeleton.parents.index(skeleton.names.index(joint))]


def _average(values: Tensor, reach: int) -> Tensor:
    """Mean over the frames up to `reach` away on either side, as far as there are any."""
    total = torch.cat([torch.zeros_like(values[:1]), values.cumsum(0)])
    index = torch.arange(len(values))
    before, after = (index - reach).clamp(min=0), (index + reach + 1).clamp(max=len(values))
    return (total[after] - total[before]) / (after - before)[:, None]
