"""The six gaits: their sources, phase, speed and contacts, and the pairs of frames made of them."""

import math

import numpy as np
import pytest
import torch

from archbook.data import locomotion as L
from archbook.data import shipped
from archbook.data.motion import read_bvh

f64 = torch.float64
LIMBS = {("thigh", "shin", "foot"): 1, ("upper_arm", "lower_arm", "hand"): -1}  # how they bend


def gait(name: str, mirror: bool = False) -> L.Gait:
    return [one for one in L.gaits() if one.name == name][mirror]


@pytest.mark.parametrize("name", ["walk", "run"])
def test_the_sources_sixty_frames_are_thirty_each_stored_twice(name):
    with np.load(shipped(f"mocap/cmu_amp/amp_{name}.npz")) as arrays:
        quaternions = arrays["local_rotations_xyzw"]
    assert np.array_equal(quaternions[::2], quaternions[1::2])


@pytest.mark.parametrize("source", ["walk", "jog", "run"])
def test_a_cycle_closes(source):
    clip = L.cycle(source)
    torch.testing.assert_close(clip.rotations[-1], clip.rotations[0])
    assert clip.fps == pytest.approx(30, abs=0.01)
    assert clip.root[-1, 2] == pytest.approx(clip.root[0, 2].item(), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "speed"),
    [("walk", 1.53), ("run", 3.45), ("slow_walk", 0.98), ("jog", 2.80), ("fast_run", 3.56)],
)
def test_speeds_are_those_that_the_sources_state(name, speed):
    one = gait(name)
    assert one.speed[slice(*one.inside)].mean() == pytest.approx(speed, rel=0.02)
    assert one.heading.abs().max() < 0.2  # straight along x


def test_one_clip_speeds_up():
    speed = gait("speeding_up").speed
    assert speed[0] < 1.1 < 1.25 < speed.max()


def test_feet_stand_on_the_ground_and_swing_above_it():
    for one in L.gaits():
        feet = one.motion.positions()[:, one.motion.skeleton.place(*L.FEET)]
        stands = one.contacts.bool()
        assert feet[..., 2].min() > -0.04
        assert feet[..., 2][stands].max() < L.CONTACT_HEIGHT
        assert feet[..., 2].amax() > 0.15


def test_knees_bend_backwards_and_elbows_forwards():
    for one in L.gaits():
        places = one.motion.positions()
        for side in ("right", "left"):
            for joints, sign in LIMBS.items():
                a, b, c = one.motion.skeleton.place(*(f"{side}_{joint}" for joint in joints))
                upper, lower = places[:, b] - places[:, a], places[:, c] - places[:, b]
                bend = sign * torch.linalg.cross(upper, lower)[:, 1]  # about the axis to the left
                bend = bend / upper.norm(dim=1) / lower.norm(dim=1)
                assert bend.min() > -0.3
                assert bend.max() > 0.3


def test_runs_fly_and_walks_do_not():
    flying = {name: (gait(name).contacts.sum(1) == 0).double().mean() for name in ("walk", "run")}
    assert flying["run"] > 0.4
    assert flying["walk"] < 0.15


def test_a_retargeted_limb_points_as_the_captured_one():
    theirs = read_bvh(shipped("mocap/cmu_bvh/131_01.bvh"))
    their_places, clip = theirs.positions()[L.SPEEDING_UP], L.retargeted()
    our_places = clip.positions()
    for ours, captured in {
        ("left_thigh", "left_shin"): ("LeftHip", "LeftKnee"),
        ("left_shin", "left_foot"): ("LeftKnee", "LeftAnkle"),
        ("right_lower_arm", "right_hand"): ("RightElbow", "RightWrist"),
    }.items():
        a, b = clip.skeleton.place(*ours)
        found = our_places[:, b] - our_places[:, a]
        a, b = theirs.skeleton.place(*captured)
        wanted = (their_places[:, b] - their_places[:, a])[:, [2, 0, 1]]  # z forward, x left
        torch.testing.assert_close(
            found / found.norm(dim=1, keepdim=True), wanted / wanted.norm(dim=1, keepdim=True)
        )


@pytest.mark.shapes
def test_a_mirror_image_is_the_reflection_of_every_joint():
    clip = L.captured("walk")
    places, seen = clip.positions(), L.mirrored(clip).positions()
    for name in clip.skeleton.names:
        swap = {"right": "left", "left": "right"}
        other = "_".join(swap.get(word, word) for word in name.split("_"))
        j, k = clip.skeleton.place(name, other)
        torch.testing.assert_close(seen[:, j], places[:, k] * torch.tensor([1.0, -1, 1]).double())


def test_the_phase_of_a_mirror_image_is_half_a_turn_off():
    apart = (gait("walk").phase - gait("walk", mirror=True).phase) % 1
    torch.testing.assert_close(apart, torch.full_like(apart, 0.5))


def test_the_right_foot_is_ahead_at_phase_zero():
    for one in L.gaits():
        places = one.motion.positions()
        right, left = one.motion.skeleton.place(*L.FEET)
        ahead = places[:, right, 0] - places[:, left, 0]
        turn = one.phase % 1
        assert ahead[(turn < 0.05) | (turn > 0.95)].min() > 0.3
        assert ahead[(turn - 0.5).abs() < 0.05].max() < -0.3


@pytest.mark.shapes
def test_the_phase_of_a_sine_is_its_argument():
    t = torch.arange(100, dtype=f64)
    found = L.phase_of((2 * math.pi * t / 20).cos() + 0.02 * (2.9 * t).sin(), least=0.3)
    torch.testing.assert_close(found - found[0].round(), t / 20, atol=0.06, rtol=0)


@pytest.mark.parametrize("values", [torch.zeros(9), torch.linspace(0, 9, 9)])
def test_a_swing_without_extremes_is_refused(values):
    with pytest.raises(ValueError, match="at least 2 extremes of the swing, given 0"):
        L.phase_of(values.double(), 0.3)


@pytest.mark.shapes
def test_pairs_have_the_stated_widths_and_places():
    sizes = {part: len(L.frame_pairs(part)) for part in ("train", "valid", "test")}
    pairs = L.frame_pairs("train")
    assert pairs.x.shape[1:] == (L.INPUTS,)
    assert pairs.y.shape[1:] == (L.OUTPUTS,)
    assert pairs.g.min() >= 0
    assert pairs.g.max() < 1
    assert sizes["valid"] == 2 * (51 - 40 - 1)
    assert sizes["test"] == 2 * (77 - 51 - 1 + 41 - 24 - 1)


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="train, valid, test, given 'all'"):
        L.frame_pairs("all")


def test_held_out_stretches_do_not_overlap():
    for parts in L.HELD_OUT.values():
        frames = [set(range(*stretch)) for stretch in parts.values()]
        assert sum(map(len, frames)) == len(set.union(*frames))


def test_no_held_out_frame_is_among_those_to_train():
    train = L.frame_pairs("train")
    seen = {tuple(row.tolist()) for row in torch.cat([train.x[:, : L.POSE], train.y[:, : L.POSE]])}
    for part in ("valid", "test"):
        pairs = L.frame_pairs(part)
        held_out = torch.cat([pairs.x[:, : L.POSE], pairs.y[:, : L.POSE]])
        assert not seen & {tuple(row.tolist()) for row in held_out}


def test_a_target_is_the_next_input():
    pairs = L.frame_pairs("valid")  # one clip and its mirror image, ten pairs each
    torch.testing.assert_close(pairs.y[:9, : L.STATE], pairs.x[1:10, : L.STATE])
    turn = 2 * math.pi * (pairs.g[:9, 0] + pairs.y[:9, L.STATE])
    torch.testing.assert_close(turn.cos(), pairs.x[1:10, -3])
    torch.testing.assert_close(turn.sin(), pairs.x[1:10, -2])


def test_a_cycle_s_last_frame_is_followed_by_its_first():
    one = gait("jog")
    first, last = one.inside
    states = L.states(one)
    torch.testing.assert_close(states[last], states[first], atol=1e-3, rtol=0)
    assert one.phase[last] - one.phase[first] == pytest.approx(1)


@pytest.mark.shapes
def test_the_joints_of_a_state_are_those_of_the_clip_seen_from_its_heading():
    one = gait("walk")
    found = L.pose_positions(L.states(one))
    frame, yaw = 20, one.heading[20]
    places = one.motion.positions()[frame] - one.motion.root[frame] * torch.tensor([1.0, 1, 0])
    back = torch.stack([yaw.cos(), yaw.sin(), -yaw.sin(), yaw.cos()]).view(2, 2)
    wanted = torch.cat([places[:, :2] @ back.T, places[:, 2:]], 1)
    hands = one.motion.skeleton.place(*L.HANDS)
    torch.testing.assert_close(found[frame], wanted)
    assert len(hands) == 2


def test_velocities_add_up_to_the_way():
    one = gait("run")
    place, yaw = one.motion.root[0, :2].tolist(), one.heading[0].item()
    for forward, left, turn in L.states(one)[1:, L.POSE + 1 : L.POSE + 4].tolist():
        place[0] += (math.cos(yaw) * forward - math.sin(yaw) * left) / 30
        place[1] += (math.sin(yaw) * forward + math.cos(yaw) * left) / 30
        yaw += turn / 30
    assert place == pytest.approx(one.motion.root[-1, :2].tolist())
    assert yaw == pytest.approx(one.heading[-1].item())


def test_the_trajectory_is_where_the_pelvis_was_and_will_be():
    one = gait("walk")
    way, root, frame = L.trajectory(one), one.motion.root, 30
    yaw = one.heading[frame]
    for k, seconds in enumerate(L.SECONDS):
        dx, dy = (root[frame + round(30 * seconds)] - root[frame])[:2]
        wanted = torch.stack([yaw.cos() * dx + yaw.sin() * dy, yaw.cos() * dy - yaw.sin() * dx])
        torch.testing.assert_close(way[frame, k], wanted)


def test_beyond_the_end_of_a_clip_the_trajectory_goes_straight_on():
    one = gait("run")
    last = L.trajectory(one)[-1]
    torch.testing.assert_close(last[3], torch.stack([one.speed[-1] / 2, 0 * one.speed[-1]]))
