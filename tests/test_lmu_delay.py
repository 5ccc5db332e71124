"""The delay system: its matrices, impulse response and readout against independent answers."""

import numpy as np
import pytest
import scipy.signal
import torch
from drawing import largest, seeded
from numpy.polynomial import legendre
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from archbook.data import nrmse
from archbook.lmu import (
    LegendreMemory,
    LinearMemory,
    impulse_response,
    legendre_delay_matrices,
    legendre_readout,
)


def paper_matrices(order: int, theta: float) -> tuple[Tensor, Tensor]:
    """A and B element by element, then scipy's zero-order hold."""
    A = np.empty((order, order))
    for i in range(order):
        for j in range(order):
            A[i, j] = (2 * i + 1) * (-1 if i < j else (-1) ** (i - j + 1))
    B = np.array([[(2 * i + 1) * (-1.0) ** i] for i in range(order)])
    system = A / theta, B / theta, np.eye(order), np.zeros((order, 1))
    A_bar, B_bar, *_ = scipy.signal.cont2discrete(system, 1.0, "zoh")
    return torch.from_numpy(A_bar), torch.from_numpy(B_bar[:, 0])


@pytest.mark.parametrize(
    ("order", "theta"), [(1, 2.0), (4, 4.0), (7, 3.5), (32, 200.0), (256, 784.0)]
)
def test_the_matrices_equal_the_papers_discretised_by_scipy(order, theta):
    for found, wanted in zip(
        legendre_delay_matrices(order, theta), paper_matrices(order, theta), strict=True
    ):
        assert found.dtype == torch.float64
        assert largest(found, wanted) < 1e-12


def test_the_matrices_equal_the_reference_values():
    A_bar, B_bar = legendre_delay_matrices(4, 4)
    wanted_B = [0.24486969, -0.57417024, 0.46759920, -0.01829987]
    wanted_A = [0.75513031, -0.19139008, -0.09351984, -0.00261427]
    wanted_H = [0.2448696918, 0.2511170509, 0.2792438643, 0.1760346958, 0.0546534138, -0.0001733295]
    assert B_bar.tolist() == pytest.approx(wanted_B, abs=5e-9)
    assert A_bar[0].tolist() == pytest.approx(wanted_A, abs=5e-9)
    assert impulse_response(A_bar, B_bar, 6)[0].tolist() == pytest.approx(wanted_H, abs=5e-11)


def test_euler_is_one_explicit_step_of_the_papers_equation():
    A_bar, B_bar = legendre_delay_matrices(3, 10, discretization="euler")
    A = torch.tensor([[-1.0, -1, -1], [3, -3, -3], [-5, 5, -5]], dtype=torch.float64)
    torch.testing.assert_close(A_bar, torch.eye(3, dtype=torch.float64) + A / 10)
    torch.testing.assert_close(B_bar, torch.tensor([0.1, -0.3, 0.5], dtype=torch.float64))


def test_a_float32_request_rounds_the_float64_matrices_once():
    for single, double in zip(
        legendre_delay_matrices(40, 100, dtype=torch.float32),
        legendre_delay_matrices(40, 100),
        strict=True,
    ):
        assert torch.equal(single, double.float())


@pytest.mark.parametrize(("order", "theta"), [(4, 4.0), (32, 100.0), (256, 784.0)])
def test_a_constant_input_rests_at_e_0(order, theta):
    """A e_0 = -B, so with c = 1 the state (1, 0, ..., 0) is a fixed point."""
    A_bar, B_bar = legendre_delay_matrices(order, theta)
    e_0 = torch.eye(order, dtype=torch.float64)[0]
    assert largest(A_bar @ e_0 + B_bar, e_0) < 1e-12


@pytest.mark.parametrize(("order", "theta"), [(4, 4.0), (64, 784.0), (256, 784.0)])
def test_the_log_determinant_is_minus_order_squared_over_theta(order, theta):
    """From the trace of A. Float64 loses it by order 468, where exp(-279) is left of it."""
    sign, value = torch.linalg.slogdet(legendre_delay_matrices(order, theta)[0])
    assert sign == 1
    assert value.item() == pytest.approx(-(order**2) / theta, rel=1e-9)


@pytest.mark.parametrize(("order", "theta"), [(4, 4.0), (6, 40.0), (32, 100.0)])
def test_the_impulse_response_sums_to_e_0(order, theta):
    H = impulse_response(*legendre_delay_matrices(order, theta), length=int(20 * theta))
    e_0 = torch.eye(order, dtype=torch.float64)[0]
    assert largest(H.sum(-1), e_0) < 1e-9


@pytest.mark.shapes
@pytest.mark.parametrize("length", [1, 2, 3, 64, 101])
def test_doubling_equals_repeated_multiplication(length):
    A_bar, B_bar = legendre_delay_matrices(9, 30.0)
    column, columns = B_bar, []
    for _ in range(length):
        columns.append(column)
        column = A_bar @ column
    assert largest(impulse_response(A_bar, B_bar, length), torch.stack(columns, 1)) < 1e-13


def test_a_batch_of_start_vectors_gives_a_batch_of_responses():
    A_bar, _ = legendre_delay_matrices(5, 20)
    starts = torch.randn(3, 5, generator=seeded(0)).double()
    wanted = torch.stack([impulse_response(A_bar, start, 11) for start in starts])
    torch.testing.assert_close(impulse_response(A_bar, starts, 11), wanted)


@pytest.mark.parametrize(
    ("order", "theta"), [(1, 2.0), (4, 4.0), (20, 2.0), (256, 784.0), (468, 784.0)]
)
def test_zero_order_hold_is_stable(order, theta):
    assert torch.linalg.eigvals(legendre_delay_matrices(order, theta)[0]).abs().max() < 1


def test_the_readout_holds_the_shifted_legendre_polynomials():
    r = torch.linspace(0, 1, 21, dtype=torch.float64)
    wanted = legendre.legvander(2 * r.numpy() - 1, 31)
    torch.testing.assert_close(legendre_readout(32, r), torch.from_numpy(wanted))
    assert legendre_readout(1, r).shape == (21, 1)


def two_sines(t: Tensor) -> Tensor:
    return torch.sin(2 * torch.pi * t / 150) + torch.sin(2 * torch.pi * t / 61)


def delay_error(order: int, theta: int, offset: float) -> float:
    """RMSE of the readout at r = 1 against the sines of amplitude 1 at t - theta + offset."""
    t = torch.arange(2000, dtype=torch.float64)
    states = LegendreMemory(order, theta).double()(two_sines(t)[None, :, None])[0, :, 0]
    delayed = states @ legendre_readout(order, torch.ones(1, dtype=torch.float64))[0]
    return (delayed - two_sines(t - theta + offset))[600:].square().mean().sqrt().item()


def test_the_delayed_signal_is_read_out_better_by_a_higher_order():
    errors = [delay_error(order, 200, offset=1) for order in (6, 12, 32)]
    assert errors == pytest.approx([0.53, 0.13, 0.039], abs=0.005)


def test_a_held_sample_counts_from_the_middle_of_its_step():
    """What is left at order 32 is not the memory's error: u_t is held from t - 1 to t."""
    assert delay_error(32, 200, offset=0.5) < 1e-3


def test_the_transposed_system_is_as_stable_and_holds_another_window():
    """What a mesh grid with the wrong indexing makes."""
    t, errors = torch.arange(600, dtype=torch.float64), []
    euler, B = legendre_delay_matrices(24, 200.0, "euler")
    A = euler - torch.eye(24, dtype=torch.float64)
    block = torch.zeros(25, 25, dtype=torch.float64)
    block[:24, 24] = B
    for matrix in (A, A.mT):
        block[:24, :24] = matrix
        step = torch.linalg.matrix_exp(block)
        m = LinearMemory(step[:24, :24], step[:24, 24]).double()(two_sines(t)[None, :, None])
        r = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
        errors.append(nrmse(legendre_readout(24, r) @ m[0, -1, 0], two_sines(t)[-200:].flip(0)))
    assert errors[0] < 1e-2
    assert errors[1] > 1


# ---- the page's exercises ----


@pytest.mark.parametrize("theta", [190, 200])
def test_eulers_step_is_stable_where_its_condition_says(theta):
    """Stable iff theta > |lambda|^2 / (2 |Re lambda|) for all eigenvalues; 196.9 at order 32."""
    A_bar, _ = legendre_delay_matrices(32, theta, "euler")
    ev = theta * (torch.linalg.eigvals(A_bar) - 1)
    limit = (ev.abs() ** 2 / (2 * ev.real.abs())).max()
    assert limit == pytest.approx(196.85, abs=0.01)
    assert bool(torch.linalg.eigvals(A_bar).abs().max() < 1) == (theta > limit)


def test_a_constant_settles_with_the_hold_and_runs_away_with_euler():
    u = torch.ones(1, 200, 1, dtype=torch.float64)
    hold, euler = (LegendreMemory(32, 50.0, kind).double() for kind in ("zoh", "euler"))
    rest = torch.eye(32, dtype=torch.float64)[0]
    torch.testing.assert_close(hold(u)[0, -1, 0], rest, atol=1e-9, rtol=0)
    assert euler(u, "recurrent").abs().max() > 1e32
    torch.testing.assert_close(euler.step(u[:, 0], rest[None, None])[0, 0], rest)


@pytest.mark.parametrize(
    ("chunk", "order", "hidden", "ratio"),
    [(32, 468, 346, 0.44), (32, 40, 120, 1.12), (64, 6, 120, 7.37)],
)
def test_folding_the_reading_into_the_kernel_costs_what_the_solution_says(
    chunk, order, hidden, ratio
):
    memory = LegendreMemory(order, 100.0).double()
    u = torch.randn(
        1, 4 * chunk, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    U_m = torch.ones(hidden, order, dtype=torch.float64) / order
    kernel = memory._chunk(chunk).unflatten(1, (chunk, order))
    starts = torch.cat([u.new_zeros(1, order), memory(u)[0, chunk - 1 : -1 : chunk, 0]])
    known = torch.cat([u.view(4, chunk), starts], dim=1)
    with FlopCounterMode(display=False) as plain:
        wanted = (known @ kernel.flatten(1)).view(-1, order) @ U_m.mT
    folded_kernel = (kernel @ U_m.mT).flatten(1)
    with FlopCounterMode(display=False) as folded:
        found = known @ folded_kernel
    torch.testing.assert_close(found.view(-1, hidden), wanted)
    spent = folded.get_total_flops() / plain.get_total_flops()
    assert spent == pytest.approx(ratio, abs=0.01)
    assert (spent < 1) == (hidden < order * (chunk + order) / chunk)


# ---- what is refused ----

eye, row = torch.eye(3), torch.ones(3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 4.0), ValueError, "order to be at least 1, given 0"),
        ((-3, 4.0), ValueError, "order to be at least 1, given -3"),
        ((True, 4.0), TypeError, "order to be an int, given True of type bool"),
        ((4.0, 4.0), TypeError, "order to be an int, given 4.0 of type float"),
        ((4, 0.0), ValueError, "theta to be positive and finite .*given 0.0"),
        ((4, -2), ValueError, "theta to be positive and finite .*given -2"),
        ((4, float("nan")), ValueError, "theta to be positive and finite .*given nan"),
        ((4, float("inf")), ValueError, "theta to be positive and finite .*given inf"),
        ((4, True), TypeError, "theta to be a number of steps, given True"),
        ((4, "8"), TypeError, "theta to be a number of steps, given '8'"),
        ((4, 8.0, "tustin"), ValueError, "one of 'zoh', 'euler', given 'tustin'"),
    ],
)
def test_matrices_are_refused_for(arguments, error, message):
    with pytest.raises(error, match=message):
        legendre_delay_matrices(*arguments)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16])
def test_matrices_are_refused_in_a_dtype_that_cannot_hold_them(dtype):
    with pytest.raises(TypeError, match=f"torch.float32 or torch.float64, given {dtype}"):
        legendre_delay_matrices(4, 8.0, dtype=dtype)


@pytest.mark.parametrize("theta", [0.5, 1, 1.99])
def test_a_window_under_two_steps_warns_that_theta_is_in_steps(theta):
    with pytest.warns(UserWarning, match=f"theta is {theta}: .*in steps, not in seconds"):
        legendre_delay_matrices(4, theta)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((eye, row, 0), ValueError, "length to be at least 1, given 0"),
        ((eye, row, 2.0), TypeError, "length to be an int, given 2.0 of type float"),
        ((eye, torch.ones(4), 1), ValueError, r"A_bar to have shape \(4, 4\), given \(3, 3\)"),
        ((eye[0], row, 5), ValueError, r"A_bar to have shape \(3, 3\), given \(3,\)"),
        (([[1.0]], torch.ones(1), 5), TypeError, "A_bar to be a tensor, given list"),
        ((eye.double(), row, 5), TypeError, "B_bar to be torch.float64 like A_bar, given .*32"),
        ((eye, row.to("meta"), 5), ValueError, "B_bar to be on cpu like A_bar, given .*meta"),
    ],
)
def test_an_impulse_response_is_refused_for(arguments, error, message):
    with pytest.raises(error, match=message):
        impulse_response(*arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, torch.zeros(1)), ValueError, "order to be at least 1, given 0"),
        ((3, 0.5), TypeError, "relative_delay to be a tensor, given float"),
        ((3, torch.tensor(0.5)), ValueError, r"relative_delay to have shape \(delays\), given"),
        ((3, torch.tensor([0.0, 1.5])), ValueError, r"to lie in \[0, 1\], given 0 to 1.5"),
        ((3, torch.tensor([-0.1, 1.0])), ValueError, r"to lie in \[0, 1\], given -0.1 to 1"),
        ((3, torch.tensor([float("nan")])), ValueError, r"to lie in \[0, 1\], given nan"),
    ],
)
def test_a_readout_is_refused_for(arguments, error, message):
    with pytest.raises(error, match=message):
        legendre_readout(*arguments)


@pytest.mark.parametrize("theta", [np.float32(12), np.int64(12), np.float64(12)])
def test_numbers_of_numpy_are_numbers(theta):
    found = legendre_delay_matrices(np.int64(4), theta)
    torch.testing.assert_close(found, legendre_delay_matrices(4, 12.0), rtol=0, atol=0)
