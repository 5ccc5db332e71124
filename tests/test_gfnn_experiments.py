"""What the experiments of the GFNN measure: roll-outs, sliding, warped axes, multiply-adds."""

from types import ModuleType

import pytest
import torch
from scripts import script

from archbook.data import locomotion
from archbook.gfnn import MLP, multiply_adds


@pytest.fixture(scope="module")
def motion() -> ModuleType:
    return script("experiments/gfnn/motion.py")


@pytest.fixture(scope="module")
def regressions() -> ModuleType:
    return script("experiments/gfnn/regressions.py")


def test_a_roll_out_of_a_clip_s_own_frames_is_the_clip(motion: ModuleType):
    clip = locomotion.gaits()[0]
    states, speed = locomotion.states(clip).float(), clip.speed.float()
    advance = clip.phase.diff().float()
    frames = iter(range(40))

    def told(x, g):  # a network that knows the clip by heart, and sees the clip's own states
        frame = next(frames)
        torch.testing.assert_close(x[0, :84], states[frame], atol=1e-4, rtol=0)
        if frame >= 15:  # the way before the start is not the clip's
            wanted = locomotion.trajectory(clip)[frame, :2].flatten().float()
            torch.testing.assert_close(x[0, 84:88], wanted, atol=1e-4, rtol=0)
        return torch.cat([states[frame + 1], advance[frame, None]])[None]

    out = motion.roll_out(
        told,
        states[:1],
        clip.phase[:1].float(),
        speed_before=speed[:1],
        command=lambda frame: speed[frame, None],
        frames=40,
    )
    places = clip.motion.positions() - clip.motion.root[0] * torch.tensor([1.0, 1, 0])
    flat = motion.turned(places[..., :2], -clip.heading[0].expand(places.shape[:2]))
    wanted = torch.cat([flat, places[..., 2:]], -1)[1:41].float()
    torch.testing.assert_close(out.joints[:, 0], wanted, atol=1e-4, rtol=0)


def standing(frames: int, height: float, step: float) -> torch.Tensor:
    """Joints (frames, 1, 15, 3) that move by `step` a frame along the ground at one height."""
    joints = torch.zeros(frames, 1, 15, 3)
    joints[..., 0] = step * torch.arange(frames)[:, None, None]
    joints[..., 2] = height
    return joints


def test_a_foot_on_the_ground_slides_by_its_way(motion: ModuleType):
    assert motion.sliding(standing(9, 0.0, 0.02)).item() == pytest.approx(2.0, rel=1e-4)


def test_a_foot_in_the_air_does_not_slide(motion: ModuleType):
    assert motion.sliding(standing(9, 0.03, 0.02)).item() == 0
    half = motion.sliding(standing(9, 0.0125, 0.02)).item()
    assert half == pytest.approx(2.0 * (2 - 2**0.5), rel=1e-4)


def test_a_known_pose_is_not_strange(motion: ModuleType):
    known = torch.randn(5, 15, 3)
    moved = known[2:4] + torch.tensor([0.3, 0.0, 0.0])
    assert motion.strangeness(known[None, 1:3], known).max() < 1e-3
    torch.testing.assert_close(motion.strangeness(moved[None], known), torch.full((1, 2), 0.3))


@pytest.mark.parametrize("gather", [4.0, -4.0])
def test_a_warped_axis_keeps_ends_and_middle_and_rises(regressions: ModuleType, gather: float):
    u = torch.linspace(0, 1, 101, dtype=torch.float64)
    warped = regressions.warp(u, gather)
    torch.testing.assert_close(warped[[0, 50, 100]], u[[0, 50, 100]])
    assert warped.diff().min() > 0
    assert (warped.diff()[50] > warped.diff()[0]) == (gather > 0)


def test_gathering_and_keeping_out_undo_each_other(regressions: ModuleType):
    u = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(regressions.warp(regressions.warp(u, 4.0), -4.0), u)


def test_multiply_adds_are_those_of_the_page_s_table(regressions: ModuleType):
    P, M = 337, 304  # of one expert, 2-16-16-1
    for name, wanted in {
        "gfnn_2x2": 4 * P + M,
        "gfnn_8x8": 16 * P + M,
        "mlp_hidden": M,
        "pfnn": 4 * P + M,
        "mann": 8 * P + M + 2 * 32 + 32 * 32 + 32 * 8,
    }.items():
        model = regressions.Model(regressions.MATCHED[name])
        assert multiply_adds(model.body) == wanted
    with pytest.raises(TypeError, match="wanted a network of archbook.gfnn, given Linear"):
        multiply_adds(MLP(2, 3, 1).layers[0])


def test_the_matched_walker_stores_what_the_grid_does(motion: ModuleType):
    pairs = locomotion.frame_pairs("valid")
    stored = {
        name: sum(p.numel() for p in motion.Character(motion.FULL[name], pairs).parameters())
        for name in ("gfnn", "mlp_matched", "fourier")
    }
    assert stored["mlp_matched"] == pytest.approx(stored["gfnn"], rel=0.01)
    assert stored["fourier"] == pytest.approx(stored["gfnn"], rel=0.01)
