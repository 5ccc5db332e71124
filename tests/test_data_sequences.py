"""Signals: against slow loops, against published numbers, and against broken twins."""

import math

import numpy as np
import pytest
import torch

from archbook.data import mackey_glass, nrmse, permuted, prediction_pairs, white_signal


def slow_mackey_glass(history: list[float], units: int, substeps: int) -> list[float]:
    """One series, one number at a time, straight from the equation."""
    past, x, out = list(history), 1.2, []
    for _ in range(units):
        for _ in range(substeps):
            delayed = past.pop(0)
            past.append(x)
            x = x + (0.2 * delayed / (1 + delayed**10) - 0.1 * x) / substeps
        out.append(x)
    return out


@pytest.mark.shapes
@pytest.mark.parametrize(("tau", "substeps", "washout"), [(17, 10, 5), (3, 4, 0), (1, 1, 2)])
def test_mackey_glass_equals_a_slow_loop(tau, substeps, washout):
    settings = {"tau": tau, "substeps": substeps, "washout": washout, "center": False}
    found = mackey_glass(3, 40, **settings, seed=5)
    histories = 1.2 + 0.2 * (np.random.default_rng(5).random((3, tau * substeps)) - 0.5)
    wanted = [slow_mackey_glass(list(h), washout + 40, substeps)[washout:] for h in histories]
    torch.testing.assert_close(
        found, torch.tanh(torch.tensor(wanted).double() - 1), atol=1e-6, rtol=0
    )


def test_mackey_glass_is_float64_of_the_shape_asked_for():
    series = mackey_glass(2, 50)
    assert series.dtype == torch.float64
    assert series.shape == (2, 50)


def test_one_mean_over_all_series_is_removed():
    series = mackey_glass(4, 300)
    assert abs(series.mean()) < 1e-12
    assert series.mean(1).abs().max() > 1e-4  # not each series by itself


def test_the_seed_decides_the_series():
    assert torch.equal(mackey_glass(2, 60, seed=1), mackey_glass(2, 60, seed=1))
    assert not torch.equal(mackey_glass(2, 60, seed=1), mackey_glass(2, 60, seed=2))


def test_a_generator_goes_on_where_it_stopped():
    rng = np.random.default_rng(0)
    assert torch.equal(mackey_glass(2, 60, seed=rng), mackey_glass(2, 60, seed=0))
    assert not torch.equal(mackey_glass(2, 60, seed=rng), mackey_glass(2, 60, seed=0))


def test_more_series_leave_the_first_ones_alone():
    few, many = (mackey_glass(n, 60, center=False) for n in (2, 5))
    assert torch.equal(few, many[:2])


def test_copying_the_input_gives_the_published_error():
    # 1.624: printed by the 2019 notebook; 128 series of 5,000 steps give 1.6242 here as well
    inputs, targets = prediction_pairs(mackey_glass(32, 5015))
    assert nrmse(inputs, targets) == pytest.approx(1.624, abs=0.004)


@pytest.mark.parametrize("name", ["series", "steps", "tau", "substeps"])
def test_mackey_glass_refuses_sizes_below_one(name):
    with pytest.raises(ValueError, match=f"wanted {name} to be at least 1, given 0"):
        mackey_glass(**{name: 0})


def test_mackey_glass_refuses_a_negative_washout():
    with pytest.raises(ValueError, match="wanted washout to be at least 0, given -1"):
        mackey_glass(washout=-1)


def asks_for_the_future(pairs_of) -> bool:
    """Whether the target at t is the series at t + 15, which no input up to t has shown."""
    inputs, targets = pairs_of(torch.arange(60.0).expand(2, 60))
    return bool((targets - inputs == 15).all())


@pytest.mark.shapes
def test_the_target_lies_ahead_of_the_input():
    assert asks_for_the_future(prediction_pairs)


def test_the_check_notices_the_published_swap():
    assert not asks_for_the_future(lambda x: prediction_pairs(x)[::-1])


def test_a_plain_delay_cannot_solve_the_task_but_solves_the_swapped_one():
    inputs, targets = prediction_pairs(mackey_glass(2, 400))
    assert nrmse(inputs[:, :-15], targets[:, 15:]) > 0.5
    assert nrmse(targets[:, :-15], inputs[:, 15:]) == 0  # swapped roles: the past, exactly


def test_pairs_have_one_length():
    inputs, targets = prediction_pairs(torch.zeros(3, 20), ahead=4)
    assert inputs.shape == targets.shape == (3, 16)


@pytest.mark.parametrize(
    ("ahead", "wanted"),
    [(-1, "ahead to be at least 1"), (0, "ahead to be at least 1"), (20, "0 < ahead < 20 .*")],
)
def test_pairs_refuse_a_step_outside_the_series(ahead, wanted):
    with pytest.raises(ValueError, match=f"wanted {wanted}, given {ahead}"):
        prediction_pairs(torch.zeros(3, 20), ahead)


@pytest.mark.shapes
def test_nrmse_of_twice_the_target_is_one():
    target = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
    assert nrmse(2 * target, target) == pytest.approx(1.0)


def test_nrmse_of_the_target_itself_is_zero():
    assert nrmse(torch.ones(3), torch.ones(3)) == 0


def test_nrmse_refuses_shapes_that_would_broadcast():
    with pytest.raises(ValueError, match=r"wanted .*\(3, 4\), given \(3, 1\)"):
        nrmse(torch.zeros(3, 1), torch.zeros(3, 4))


@pytest.mark.shapes
@pytest.mark.parametrize("steps", [2500, 2501])
def test_white_signal_has_power_only_up_to_its_cutoff(steps):
    signal = white_signal(8, steps, dt=0.001, high=10.0)
    spectrum = torch.fft.rfft(signal).abs() / steps
    frequency = torch.fft.rfftfreq(steps, 0.001)
    assert spectrum[:, (frequency > 10) | (frequency == 0)].max() < 1e-12
    assert spectrum[:, (frequency > 0) & (frequency <= 10)].min() > 1e-5


def test_white_signal_keeps_the_cutoff_itself():
    spectrum = torch.fft.rfft(white_signal(4, 1000, dt=0.001, high=10.0)).abs()
    assert spectrum[:, 10].min() > 1e-6
    assert spectrum[:, 11].max() < 1e-9


@pytest.mark.parametrize("rms", [0.5, 2.0])
def test_white_signal_has_the_root_mean_square_asked_for(rms):
    signal = white_signal(2000, 1000, rms=rms)
    assert math.sqrt(signal.square().mean()) == pytest.approx(rms, rel=0.02)


def test_white_signal_is_float64_and_decided_by_its_seed():
    assert white_signal(2, 500).dtype == torch.float64
    assert torch.equal(white_signal(2, 500, seed=3), white_signal(2, 500, seed=3))
    assert not torch.equal(white_signal(2, 500, seed=3), white_signal(2, 500, seed=4))


def test_white_signals_of_a_batch_differ():
    first, second = white_signal(2, 500)
    assert (first - second).abs().max() > 0.1


@pytest.mark.parametrize("setting", [{"dt": 0.0}, {"high": -1.0}, {"rms": 0.0}])
def test_white_signal_refuses_settings_that_are_not_positive(setting):
    with pytest.raises(ValueError, match="wanted dt, high, rms > 0"):
        white_signal(1, 100, **setting)


@pytest.mark.parametrize("high", [0.5, 500.0])
def test_white_signal_refuses_a_band_that_the_steps_cannot_hold(high):
    with pytest.raises(ValueError, match=f"given high = {high:g} Hz"):
        white_signal(1, 1000, dt=0.001, high=high)


def test_white_signal_refuses_an_empty_batch():
    with pytest.raises(ValueError, match="wanted batch to be at least 1, given 0"):
        white_signal(0, 100)


@pytest.mark.shapes
def test_permuted_puts_every_pixel_at_its_fixed_place():
    images = torch.arange(2 * 28 * 28).remainder(256).to(torch.uint8).reshape(2, 28, 28)
    found = permuted(images)
    order = np.random.default_rng(0).permutation(784)
    wanted = images.reshape(2, 784).numpy()[:, order] / np.float32(255)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6)


def test_permuted_takes_another_order_from_another_seed():
    images = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8)
    assert not torch.equal(permuted(images), permuted(images, seed=1))
    assert torch.equal(permuted(images).sort().values, permuted(images, seed=1).sort().values)


def test_permuted_spans_zero_to_one():
    images = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    assert sorted(permuted(images)[0].tolist()) == [0.0, 1.0]


@pytest.mark.parametrize("wrong", [torch.zeros(2, 4, 4), torch.zeros(4, 4, dtype=torch.uint8)])
def test_permuted_refuses_what_is_not_a_batch_of_byte_images(wrong):
    with pytest.raises(ValueError, match="wanted uint8 images of shape"):
        permuted(wrong)
