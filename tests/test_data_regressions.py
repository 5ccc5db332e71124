"""The four regressions: values by hand, scale, zones, and points that do not repeat."""

import math

import pytest
import torch

from archbook.data.regressions import REGRESSIONS, regression_set

f64 = torch.float64
NAMES = list(REGRESSIONS)


def value(name: str, u: float, v: float) -> float:
    return REGRESSIONS[name].value(torch.tensor(u, dtype=f64), torch.tensor(v, dtype=f64)).item()


def test_the_ripple_by_hand():
    # u = 13/24: the swell is 3 sin(13 pi / 24) cos(pi / 2) = 0; sin(6.5 pi) = 1
    near = math.exp(-((1 / 24) ** 2) / 0.02)
    assert value("ripple", 13 / 24, 0.5) == pytest.approx(0.3 * near)
    assert value("ripple", 0.5, 0.0) == pytest.approx(3)


def test_the_ridge_by_hand():
    assert value("ridge", 0.7, 0.25) == pytest.approx(0)
    assert value("ridge", 0.725, 0.25) == pytest.approx(math.tanh(1))


def test_the_chirp_by_hand():
    assert value("chirp", 0.25, 0.0) == pytest.approx(1)
    assert value("chirp", 0.25, 0.5) == pytest.approx(0)
    assert value("chirp", 0.25, 2 / 3) == pytest.approx(1)


def test_the_cycle_by_hand():
    assert value("cycle", 0.25, 0.0) == pytest.approx(1 - 0.1)
    assert value("cycle", 0.25, 0.125) == pytest.approx(-0.1)


@pytest.mark.parametrize("v", [0.0, 0.3, 0.9])
def test_the_cycle_closes_in_value_and_slope(v):
    step = 1e-6
    assert value("cycle", 0.0, v) == pytest.approx(value("cycle", 1.0, v))
    slopes = [value("cycle", u + step, v) - value("cycle", u, v) for u in (0.0, 1.0)]
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-3)


@pytest.mark.shapes
@pytest.mark.parametrize("name", NAMES)
def test_targets_have_mean_zero_and_variance_one(name):
    found = regression_set(name, "train")
    assert found.y.mean() == pytest.approx(0, abs=0.03)
    assert found.y.var() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("name", "share"),
    [("ripple", 0.03 * math.pi), ("ridge", 0.1), ("chirp", 0.25), ("cycle", 0.0638)],
)
def test_a_zone_has_the_area_of_its_formula(name, share):
    assert regression_set(name, "test").zone.double().mean() == pytest.approx(share, abs=0.006)


def test_the_ripple_lies_in_its_zone():
    u, v = torch.rand(2, 20_000, dtype=f64)
    swell = 3 * (math.pi * u).sin() * (math.pi * v).cos()
    ripple = (REGRESSIONS["ripple"].value(u, v) - swell).square()
    zone = REGRESSIONS["ripple"].zone(u, v)
    assert ripple[zone].sum() > 0.9 * ripple.sum()


def test_train_and_test_share_no_point_and_repeat_themselves():
    train, test = (regression_set("ripple", part, 500) for part in ("train", "test"))
    assert torch.cdist(train.g, test.g).min() > 0
    assert torch.equal(train.g, regression_set("chirp", "train", 500).g)


@pytest.mark.parametrize(("name", "part"), [("wave", "train"), ("ripple", "valid")])
def test_unknown_names_are_refused(name, part):
    with pytest.raises(ValueError, match=f"given '{name if name == 'wave' else part}'"):
        regression_set(name, part)
