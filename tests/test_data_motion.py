"""Rotations, forward kinematics and the BVH reader: against scipy, by hand, and by a slow loop."""

import math
import re

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from archbook.data import shipped
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

f64 = torch.float64
ARM = Skeleton(
    ("body", "upper", "lower"), (-1, 0, 1), torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0, 2]])
)
BVH = """HIERARCHY
ROOT hip
{
  OFFSET 1 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation
  JOINT knee
  {
    OFFSET 0 -2 0
    CHANNELS 3 Zrotation Yrotation Xrotation
    End Site
    {
      OFFSET 0 -9 0
    }
  }
  JOINT hand
  {
    OFFSET 0 0 3
    CHANNELS 3 Zrotation Yrotation Xrotation
  }
}
MOTION
Frames: 2
Frame Time: 0.05
5 6 7 0 0 0 0 0 0 0 0 0
5 6 7 90 0 90 0 0 0 0 90 0
"""


def draw_rotations(*shape: int) -> torch.Tensor:
    return rotation_from_quaternion(torch.randn(*shape, 4, dtype=f64))


@pytest.mark.shapes
def test_a_quaternion_is_scipy_s_rotation():
    q = torch.randn(50, 4, dtype=f64)
    wanted = Rotation.from_quat(q.numpy()).as_matrix()
    np.testing.assert_allclose(rotation_from_quaternion(q), wanted, atol=1e-14)


@pytest.mark.shapes
@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_a_turn_about_an_axis_is_scipy_s(axis):
    angle = torch.linspace(-7, 7, 9, dtype=f64)
    wanted = Rotation.from_euler(axis, angle.numpy()[:, None]).as_matrix()
    np.testing.assert_allclose(axis_rotation(angle, axis), wanted, atol=1e-14)


@pytest.mark.shapes
def test_six_numbers_give_the_rotation_back():
    R = draw_rotations(4, 5)
    torch.testing.assert_close(rotation_from_6d(rotation_to_6d(R)), R, atol=1e-14, rtol=0)
    assert torch.equal(rotation_to_6d(R)[..., :3], R[..., 0])


def test_any_six_numbers_give_a_rotation():
    R = rotation_from_6d(torch.randn(100, 6, dtype=f64))
    torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=f64).expand_as(R))
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(100, dtype=f64))


def test_the_gradient_flows_through_six_numbers():
    assert torch.autograd.gradcheck(rotation_from_6d, torch.randn(3, 6, dtype=f64).requires_grad_())


@pytest.mark.shapes
def test_the_shortest_rotation_turns_one_direction_to_another_by_the_angle_between_them():
    a, b = torch.randn(2, 20, 3, dtype=f64)
    R = shortest_rotation(a, b)
    turned = torch.einsum("bij,bj->bi", R, a / a.norm(dim=1, keepdim=True))
    torch.testing.assert_close(turned, b / b.norm(dim=1, keepdim=True))
    angle = torch.from_numpy(Rotation.from_matrix(R.numpy()).magnitude())
    torch.testing.assert_close(angle, torch.cosine_similarity(a, b).acos())


@pytest.mark.shapes
def test_a_part_of_a_rotation_is_scipy_s_power():
    R, shares = draw_rotations(20), torch.tensor([0.0, 0.3, 1.0], dtype=f64)
    found = part_of_rotation(R, shares[:, None])
    for share, part in zip(shares.tolist(), found, strict=True):
        wanted = (Rotation.from_matrix(R.numpy()) ** share).as_matrix()
        np.testing.assert_allclose(part, wanted, atol=1e-12)


def test_a_part_of_no_turn_is_no_turn():
    still = torch.eye(3, dtype=f64)
    assert torch.equal(part_of_rotation(still, torch.tensor(0.5, dtype=f64)), still)


def slow_positions(skeleton, rotations, root) -> torch.Tensor:
    """One frame, by products of 4 x 4 matrices from the root to each joint."""

    def placed(R, t):
        M = torch.eye(4, dtype=f64)
        M[:3, :3], M[:3, 3] = R, t
        return M

    found = []
    for joint in range(len(skeleton.names)):
        chain = placed(torch.eye(3, dtype=f64), torch.zeros(3, dtype=f64))
        while joint >= 0:
            offset = root if skeleton.parents[joint] < 0 else skeleton.offsets[joint]
            chain = placed(rotations[joint], offset) @ chain
            joint = skeleton.parents[joint]
        found.append(chain[:3, 3])
    return torch.stack(found)


@pytest.mark.shapes
def test_forward_kinematics_equals_a_slow_loop():
    skeleton = Skeleton(tuple("abcde"), (-1, 0, 1, 0, 3), torch.randn(5, 3, dtype=f64))
    rotations, root = draw_rotations(3, 5), torch.randn(3, 3, dtype=f64)
    found = Motion(skeleton, rotations, root, 30.0).positions()
    for frame in range(3):
        wanted = slow_positions(skeleton, rotations[frame], root[frame])
        torch.testing.assert_close(found[frame], wanted)


def test_an_arm_by_hand():
    # the body turned a quarter about z points the arm to the left; the lower arm stays upright
    still = torch.eye(3).expand(3, 3, 3).clone()
    still[0] = axis_rotation(torch.tensor(math.pi / 2), "z")
    _, places = forward_kinematics(ARM, still, torch.tensor([0.0, 0, 5]))
    torch.testing.assert_close(places, torch.tensor([[0.0, 0, 5], [0, 1, 5], [0, 1, 7]]))


def test_joints_have_places_by_name():
    assert ARM.place("lower", "body") == [2, 0]


@pytest.mark.parametrize("parents", [(-1, 2, 0), (0, 0, 1), (-1, -1, 0), (-1, 1, 0)])
def test_a_skeleton_whose_parents_do_not_come_first_is_refused(parents):
    with pytest.raises(ValueError, match="parents before children"):
        Skeleton(("a", "b", "c"), parents, torch.zeros(3, 3))


def test_a_skeleton_of_unequal_parts_is_refused():
    with pytest.raises(ValueError, match="3 names, 2 parents and 3 offsets"):
        Skeleton(("a", "b", "c"), (-1, 0), torch.zeros(3, 3))


@pytest.fixture
def written(tmp_path):
    def write(text: str):
        path = tmp_path / "clip.bvh"
        path.write_text(text, encoding="utf-8", newline="")
        return path

    return write


@pytest.mark.shapes
def test_a_bvh_file_by_hand(written):
    clip = read_bvh(written(BVH))
    assert clip.skeleton.names == ("hip", "knee", "hand")
    assert clip.skeleton.parents == (-1, 0, 0)
    assert clip.fps == 20
    # frame 1: first about x by 90 (y to z), then about z by 90 (x to y): -y -> -z, z -> -y -> x
    wanted = [[[5.0, 6, 7], [5, 4, 7], [5, 6, 10]], [[5, 6, 7], [5, 6, 5], [8, 6, 7]]]
    torch.testing.assert_close(clip.positions(), torch.tensor(wanted, dtype=f64))


def test_a_captured_bvh_file_has_scipy_s_angles():
    path = shipped("mocap/cmu_bvh/131_01.bvh")
    text, clip = path.read_text(), read_bvh(path)
    orders = ["".join(axes) for axes in re.findall(r"(\w)rotation (\w)rotation (\w)rotation", text)]
    assert (len(clip), len(clip.skeleton.names), len(orders)) == (994, 31, 31)
    assert clip.fps == pytest.approx(120, abs=0.01)
    frame = text.split("Frame Time:")[1].splitlines()[1 + 494]
    root, *angles = np.array(frame.split(), float).reshape(-1, 3)  # three of each joint
    np.testing.assert_allclose(clip.root[494], root)
    for joint, order in enumerate(orders):
        wanted = Rotation.from_euler(order, angles[joint], degrees=True).as_matrix()
        np.testing.assert_allclose(clip.rotations[494, joint], wanted, atol=1e-13)


SIX = "CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation"


def with_six_channels(offset: str) -> str:
    """The knee moves, by (0, 0, 0) and by (3, -12, 1), and stands at `offset` otherwise."""
    text = BVH.replace("OFFSET 0 -2 0\n    CHANNELS 3 Zrotation Yrotation Xrotation", offset)
    first, second = "5 6 7 0 0 0 0 0 0 0 0 0", "5 6 7 90 0 90 0 0 0 0 90 0"
    text = text.replace(first, "5 6 7 0 0 0 0 0 0 0 0 0 0 0 0")
    return text.replace(second, "5 6 7 90 0 0 3 -12 1 0 0 0 0 90 0")


@pytest.mark.shapes
@pytest.mark.parametrize("offset", ["0 -2 0", "0 0 0"])
def test_position_channels_of_any_joint_move_it_and_stand_for_its_offset(written, offset):
    clip = read_bvh(written(with_six_channels(f"OFFSET {offset}\n{SIX}")))
    # frame 1: the hip turned about z by 90, x to y and y to -x
    wanted = [[[5.0, 6, 7], [5, 6, 7], [5, 6, 10]], [[5, 6, 7], [17, 9, 8], [5, 6, 10]]]
    torch.testing.assert_close(clip.positions(), torch.tensor(wanted, dtype=f64))


def test_an_axis_without_a_position_channel_keeps_its_offset(written):
    text = BVH.replace("CHANNELS 6 Xposition Yposition", "CHANNELS 5 Yposition")
    text = text.replace("5 6 7", "6 7")
    assert read_bvh(written(text)).root.tolist() == [[1, 6, 7]] * 2


def test_what_moves_is_mirrored_and_repeated_with_the_rest(written):
    text = with_six_channels(f"OFFSET 0 0 0\n{SIX}").replace("knee", "left_hand")
    clip = read_bvh(written(text.replace("JOINT hand", "JOINT right_hand")))
    flip = torch.tensor([1.0, -1, 1], dtype=f64)
    torch.testing.assert_close(mirrored(clip).positions(), clip.positions()[:, [0, 2, 1]] * flip)
    torch.testing.assert_close(repeated(clip, 3).positions(), clip.positions()[[0, 0, 0]])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Zrotation Yrotation Xrotation", "ZROTATION yrotation XRotation"),
        ("\n", "\r\n"),
        ("\n  {", " {"),
        ("OFFSET 0 -2 0", "OFFSET\t0 -2.0e0 +.0"),
        ("Frames: 2", "Frames:\t2"),
    ],
)
def test_spellings_of_other_programs_are_read(written, old, new):
    assert old in BVH
    plain, spelt = read_bvh(written(BVH)), read_bvh(written(BVH.replace(old, new)))
    assert torch.equal(spelt.positions(), plain.positions())


@pytest.mark.parametrize("name", ["Toe End", "Left Arm", "左腕", "End"])
def test_the_name_of_a_joint_is_the_rest_of_its_line(written, name):
    text = BVH.replace("JOINT knee\n  {", f"JOINT {name} {{")
    assert read_bvh(written(text)).skeleton.names == ("hip", name, "hand")


def test_a_joint_may_have_no_channel_and_a_clip_no_frame(written):
    text = BVH.replace("CHANNELS 3 Zrotation Yrotation Xrotation", "CHANNELS 0")
    still = read_bvh(written(text.replace(" 0 0 0 0 0 0\n", "\n").replace(" 0 0 0 0 90 0\n", "\n")))
    assert torch.equal(still.rotations[:, 1:], torch.eye(3, dtype=f64).expand(2, 2, 3, 3))
    none = read_bvh(written(BVH.partition("Frames")[0] + "Frames: 0\nFrame Time: 0.05"))
    assert none.positions().shape == (0, 3, 3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("HIERARCHY", "SKELETON", "^clip.bvh, line 1: wanted HIERARCHY, given 'SKELETON'"),
        ("ROOT hip", "JOINT hip", "line 2: wanted ROOT and a name, given 'JOINT hip'"),
        ("ROOT hip", "ROOT", "line 2: wanted a name after ROOT, given 'ROOT'"),
        ("hip\n{", "hip\n", "line 4: wanted '{' after ROOT hip, given 'OFFSET 1 0 0'"),
        ("OFFSET 1 0 0", "OFFSET 1 0", "line 4: wanted for hip an OFFSET of 3 numbers, given 2"),
        ("OFFSET 1 0 0", "OFFSET 1 0 nan", "line 4: wanted a number, given 'nan'"),
        ("OFFSET 1 0 0", "OFFSET 1 0 0,5", "line 4: wanted a number, given '0,5'"),
        ("OFFSET 1 0 0", "OFFSET 1 0 1_0", "line 4: wanted a number, given '1_0'"),
        ("OFFSET 1 0 0", "OFFSET 1 0 1e999", "line 4: wanted a number, given '1e999'"),
        ("  OFFSET 0 0 3\n", "", "line 18: wanted OFFSET and CHANNELS of hand, given '}'"),
        ("CHANNELS 6", "CHANNELS 5", "line 5: wanted for hip as many CHANNELS .*, given '5 X"),
        ("Xposition", "Xrotation", "for hip as many CHANNELS as it says, each once"),
        ("Xposition", "Wposition", "for hip as many CHANNELS as it says, each once"),
        ("CHANNELS 6", "CHANNELS", "for hip as many CHANNELS .*, given 'Xposition"),
        (SIX, "", "line 20: wanted OFFSET and CHANNELS of hip, given '}'"),
        ("End Site\n    {", "End Site\n", "line 12: wanted '{' after End Site, given 'OFFSET"),
        ("OFFSET 0 -9 0", "", "line 13: wanted the OFFSET of End Site, given '}'"),
        ("}\n}\nMOTION", "}\nMOTION", "line 20: wanted '}' after hip, given 'MOTION'"),
        ("}\nMOTION", "}\n}\nMOTION", "line 21: wanted MOTION, given '}'"),
        ("}\nMOTION", "}\nROOT b\nMOTION", "line 21: wanted MOTION, given 'ROOT b'"),
        ("JOINT hand", "Joint hand", "wanted in hip OFFSET and CHANNELS once, JOINT, .* 'Joint ha"),
        ("Frames: 2", "Pictures: 2", r"line 22: wanted 'Frames: \.\.', given 'Pictures: 2'"),
        ("Frames: 2", "Frames: -2", r"wanted 'Frames: \.\.', given 'Frames: -2'"),
        ("Frames: 2", "Frames: 3", "line 26: wanted a frame of 12 numbers, given the end of the"),
        ("Frames: 2", "Frames: 1", "line 25: wanted 1 frames, given '5 6 7 90"),
        ("0.05", "0", "line 23: wanted a Frame Time above 0, given 'Frame Time: 0'"),
        ("0.05", "1e-320", "wanted a Frame Time above 0"),
        ("0.05", "0,05", "line 23: wanted a number, given '0,05'"),
        ("90 0 90 ", "90 90 ", "line 25: wanted a frame of 12 numbers, given 11"),
        ("90 0 90 ", "90 inf 90 ", "line 25: wanted a number, given 'inf'"),
        ("hip", "h\0ip", "line 2: wanted text, given a NUL byte"),
    ],
)
def test_a_file_that_is_no_bvh_clip_is_refused(written, old, new, message):
    assert old in BVH
    with pytest.raises(ValueError, match=message):
        read_bvh(written(BVH.replace(old, new, 1)))


@pytest.mark.parametrize("cut", range(0, len(BVH) - 2, 7))
def test_a_clip_that_is_cut_short_is_refused(written, cut):
    with pytest.raises(ValueError, match="^clip.bvh, line"):
        read_bvh(written(BVH[:cut]))
