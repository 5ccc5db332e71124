"""The Legendre memory: its equations, its laws, and broken twins that must fail them.

What turns red when the heart of the code is broken (each was tried on a copy):
- FFT without padding: test_every_form_gives_the_states_and_gradients_of_the_paper[fft-...]
- A transposed: test_the_matrices_equal_the_papers_discretised_by_scipy
- state not carried between chunks: test_every_form_...[chunked-...]
- B_bar on the previous input: test_every_form_...[recurrent-...], test_a_step_already_holds_...
- H reversed the wrong way in `last`: test_every_form_...[last-...]
"""

from functools import cache

import numpy as np
import pytest
import scipy.linalg
import scipy.signal
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import legendre
from torch import Tensor

from archbook.lmu import (
    LegendreMemory,
    LinearMemory,
    impulse_response,
    legendre_delay_matrices,
    legendre_readout,
)

MODES = ("auto", "recurrent", "fft", "chunked")
SIZES = ((6, 40.0), (256, 784.0), (468, 784.0))  # (order, theta = length)
TOLERANCE = {  # dtype -> order -> largest difference at a scale of one
    torch.float64: {6: 1e-12, 256: 1e-11, 468: 1e-11},
    torch.float32: {6: 1e-5, 256: 1e-4, 468: 1e-4},
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64, rounded to what float32 can hold."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).double()


def paper_matrices(order: int, theta: float, transpose: bool = False) -> tuple[Tensor, Tensor]:
    """A and B element by element, then scipy's zero-order hold."""
    A = np.empty((order, order))
    for i in range(order):
        for j in range(order):
            A[i, j] = (2 * i + 1) * (-1 if i < j else (-1) ** (i - j + 1))
    B = np.array([[(2 * i + 1) * (-1.0) ** i] for i in range(order)])
    system = (A.T if transpose else A) / theta, B / theta, np.eye(order), np.zeros((order, 1))
    A_bar, B_bar, *_ = scipy.signal.cont2discrete(system, 1.0, "zoh")
    return torch.from_numpy(A_bar), torch.from_numpy(B_bar[:, 0])


paper_matrices_once = cache(paper_matrices)


def slow_states(A_bar: Tensor, B_bar: Tensor, u: Tensor, state: Tensor | None = None) -> Tensor:
    """m_t = A_bar m_{t-1} + B_bar u_t, one sequence, one channel and one step at a time."""
    batch, time, channels = u.shape
    rows = []
    for b in range(batch):
        for c in range(channels):
            m = torch.zeros_like(B_bar) if state is None else state[b, c]
            steps = []
            for t in range(time):
                m = A_bar @ m + B_bar * u[b, t, c]
                steps.append(m)
            rows.append(torch.stack(steps))
    return torch.stack(rows).reshape(batch, channels, time, -1).transpose(1, 2)


def stepped(memory: LinearMemory, u: Tensor, state: Tensor | None = None) -> Tensor:
    states = []
    for u_t in u.unbind(1):
        state = memory.step(u_t, state)
        states.append(state)
    return torch.stack(states, dim=1)


def run(form: str, memory: LinearMemory, u: Tensor, state: Tensor | None = None) -> Tensor:
    """All states, (batch, time, channels, order); only the last one for the form "last"."""
    if form == "last":
        return memory.last(u, state)[:, None]
    if form == "step":
        return stepped(memory, u, state)
    return memory(u, form, state)


def largest(difference: Tensor, scale: Tensor) -> float:
    return float(difference.abs().max() / scale.abs().max().clamp(min=1))


def states_and_gradients(compute, u: Tensor, state: Tensor | None, weight: Tensor) -> list[Tensor]:
    """The states, then the gradients by `u` and `state` of their weighted sum."""
    leaves = [x.clone().requires_grad_() for x in (u, state) if x is not None]
    states = compute(*leaves)
    weight = weight[:, -states.shape[1] :].to(states.dtype)
    return [states.detach(), *torch.autograd.grad((states * weight).sum(), leaves)]


@cache
def case(order: int, theta: float, starts: bool, last: bool):
    """Inputs and the slow loop's answer, in float64; `last` weighs the last state only."""
    time = int(theta)
    u = normal(2, time, 1, seed=order)
    state = normal(2, 1, order, seed=order + 1) if starts else None
    weight = normal(2, 1 if last else time, 1, order, seed=order + 2)
    A_bar, B_bar = paper_matrices_once(order, theta)

    def compute(u, state=None):
        states = slow_states(A_bar, B_bar, u, state)
        return states[:, -1:] if last else states

    return u, state, weight, states_and_gradients(compute, u, state, weight)


def law_holds(form: str, memory: LegendreMemory, starts: bool, tolerance: float) -> bool:
    """Whether a form gives the states and the gradients of the slow loop."""
    u, state, weight, wanted = case(memory.order, memory.theta, starts, form == "last")
    dtype = memory.A_bar.dtype
    u, state = u.to(dtype), None if state is None else state.to(dtype)
    found = states_and_gradients(
        lambda u, state=None: run(form, memory, u, state), u, state, weight
    )
    return all(largest(f - w, w) <= tolerance for f, w in zip(found, wanted, strict=True))


# ---- the equations ----


@pytest.mark.parametrize(
    ("order", "theta"), [(1, 2.0), (4, 4.0), (7, 3.5), (32, 200.0), (256, 784.0)]
)
def test_the_matrices_equal_the_papers_discretised_by_scipy(order, theta):
    for found, wanted in zip(
        legendre_delay_matrices(order, theta), paper_matrices_once(order, theta), strict=True
    ):
        assert found.dtype == torch.float64
        assert largest(found - wanted, wanted) < 1e-12


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
    assert largest(A_bar @ e_0 + B_bar - e_0, e_0) < 1e-12


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
    assert largest(H.sum(-1) - e_0, e_0) < 1e-9


@pytest.mark.shapes
@pytest.mark.parametrize("length", [1, 2, 3, 64, 101])
def test_doubling_equals_repeated_multiplication(length):
    A_bar, B_bar = legendre_delay_matrices(9, 30.0)
    column, columns = B_bar, []
    for _ in range(length):
        columns.append(column)
        column = A_bar @ column
    assert largest(impulse_response(A_bar, B_bar, length) - torch.stack(columns, 1), B_bar) < 1e-13


def test_a_batch_of_start_vectors_gives_a_batch_of_responses():
    A_bar, _ = legendre_delay_matrices(5, 20)
    starts = normal(3, 5)
    wanted = torch.stack([impulse_response(A_bar, start, 11) for start in starts])
    torch.testing.assert_close(impulse_response(A_bar, starts, 11), wanted)


@pytest.mark.parametrize(
    ("order", "theta"), [(1, 2.0), (4, 4.0), (20, 2.0), (256, 784.0), (468, 784.0)]
)
def test_zero_order_hold_is_stable(order, theta):
    assert torch.linalg.eigvals(legendre_delay_matrices(order, theta)[0]).abs().max() < 1


# ---- the laws ----


@pytest.mark.shapes
@pytest.mark.parametrize("starts", [False, True], ids=["from-zero", "from-a-state"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("order", "theta"), SIZES)
@pytest.mark.parametrize("form", ["recurrent", "fft", "chunked", "step", "last"])
def test_every_form_gives_the_states_and_gradients_of_the_paper(form, order, theta, dtype, starts):
    memory = LegendreMemory(order, theta).to(dtype)
    assert law_holds(form, memory, starts, TOLERANCE[dtype][order])


problems = st.fixed_dictionaries(
    {
        "order": st.integers(1, 40),
        "theta": st.floats(2, 80),
        "batch": st.integers(1, 3),
        "time": st.integers(1, 150),  # the chunk is 64 steps up to order 32, then 32
        "channels": st.integers(1, 3),
        "dtype": st.sampled_from([torch.float32, torch.float64]),
        "seed": st.integers(0, 10**6),
    }
)


def drawn(problem) -> tuple[LegendreMemory, Tensor, Tensor, float]:
    batch, time, channels = problem["batch"], problem["time"], problem["channels"]
    memory = LegendreMemory(problem["order"], problem["theta"]).to(problem["dtype"])
    u = normal(batch, time, channels, seed=problem["seed"]).to(problem["dtype"])
    state = normal(batch, channels, problem["order"], seed=problem["seed"] + 1).to(problem["dtype"])
    return memory, u, state, 1e-11 if problem["dtype"] == torch.float64 else 1e-4


@pytest.mark.shapes
@settings(deadline=None, max_examples=40, derandomize=True)
@given(problem=problems, form=st.sampled_from(["auto", "fft", "chunked", "last"]), starts=...)
def test_at_any_size_the_parallel_forms_equal_the_recurrence(problem, form, starts: bool):
    memory, u, state, tolerance = drawn(problem)
    start = state if starts else None
    wanted = memory(u, "recurrent", start)
    found = run(form, memory, u, start)
    assert found.dtype == u.dtype
    assert largest(found - wanted[:, -found.shape[1] :], wanted) < tolerance


@pytest.mark.shapes
@settings(deadline=None, max_examples=40, derandomize=True)
@given(problem=problems, mode=st.sampled_from(MODES), data=st.data())
def test_streaming_from_any_cut_continues_the_sequence(problem, mode, data):
    memory, u, state, tolerance = drawn({**problem, "time": problem["time"] + 1})
    cut = data.draw(st.integers(1, u.shape[1] - 1))
    whole = memory(u, mode, state)
    head = memory.last(u[:, :cut], state)
    tail = memory(u[:, cut:], mode, head)
    assert largest(tail - whole[:, cut:], whole) < tolerance
    assert largest(memory.step(u[:, cut], head) - whole[:, cut], whole) < tolerance


@settings(deadline=None, max_examples=25, derandomize=True)
@given(problem=problems, mode=st.sampled_from(MODES), data=st.data())
def test_a_longer_sequence_keeps_its_prefix(problem, mode, data):
    memory, u, _, tolerance = drawn(problem)
    cut = data.draw(st.integers(1, u.shape[1]))
    whole = memory(u, mode)
    assert largest(memory(u[:, :cut], mode) - whole[:, :cut], whole) < tolerance


@pytest.mark.parametrize(("mode", "slack"), [("recurrent", 0), ("fft", 1e-12), ("chunked", 1e-12)])
def test_no_state_depends_on_a_later_input(mode, slack):
    """The FFT leaks rounding backwards, so only the recurrence is held to equality."""
    memory, u = LegendreMemory(12, 50).double(), normal(2, 150, 2)
    changed = u.clone()
    changed[:, 97] += 3
    before, after = memory(u, mode), memory(changed, mode)
    assert largest(after[:, :97] - before[:, :97], before) <= slack
    assert ((after[:, 97] - before[:, 97]).abs() > 1e-3).all()


@pytest.mark.parametrize("mode", MODES)
def test_channels_are_independent_runs(mode):
    memory, u, state = LegendreMemory(8, 30).double(), normal(2, 90, 3), normal(2, 3, 8)
    alone = [memory(u[:, :, c : c + 1], mode, state[:, c : c + 1]) for c in range(3)]
    torch.testing.assert_close(memory(u, mode, state), torch.cat(alone, dim=2))


def test_a_step_already_holds_the_current_input():
    memory = LegendreMemory(5, 20).double()
    torch.testing.assert_close(memory.step(torch.ones(1, 1).double())[0, 0], memory.B_bar)


def test_auto_takes_the_fft_for_few_inputs_and_chunks_for_many_or_from_a_state():
    memory = LegendreMemory(3, 50).double()
    few, many, state = normal(1, 100, 1), normal(2, 5000, 1), normal(1, 1, 3)
    assert torch.equal(memory(few), memory(few, "fft"))
    assert torch.equal(memory(many), memory(many, "chunked"))
    assert torch.equal(memory(few, state=state), memory(few, "chunked", state))


# ---- broken twins: each must fail the law that the memory passes ----


class Wrapping(LegendreMemory):
    """FFT without padding: the end of the signal wraps onto its start."""

    def _fft(self, u, start):
        H = impulse_response(self.A_bar, self.B_bar, u.shape[1])
        spectrum = torch.fft.rfft(u)[:, None] * torch.fft.rfft(H)
        return torch.fft.irfft(spectrum, u.shape[1]).mT


class Forgetful(LegendreMemory):
    """Every chunk starts from an empty memory."""

    def _chunked(self, u, start):
        parts = []
        for part in u.split(64 if self.order <= 32 else 32, dim=1):
            parts.append(super()._chunked(part, None))
        return torch.cat(parts, dim=1)


class Late(LegendreMemory):
    """B_bar multiplies the previous input."""

    def _recurrent(self, u, start):
        return super()._recurrent(F.pad(u, (1, -1)), start)


class Transposed(LegendreMemory):
    """Indices of A swapped, as meshgrid's default does."""

    def __init__(self, order, theta):
        LinearMemory.__init__(self, *paper_matrices(order, theta, transpose=True))
        self.theta = theta


@pytest.mark.parametrize(
    ("twin", "form"),
    [(Wrapping, "fft"), (Forgetful, "chunked"), (Late, "recurrent"), (Transposed, "recurrent")],
)
def test_the_law_notices(twin, form):
    assert law_holds(form, LegendreMemory(256, 784.0).double(), False, 1e-11)
    assert not law_holds(form, twin(256, 784.0).double(), False, 1e-1)


def test_euler_diverges_where_the_window_is_short_and_zero_order_hold_does_not():
    u = normal(1, 200, 1)
    assert LegendreMemory(6, 8).double()(u).abs().max() < 10
    assert LegendreMemory(6, 8, discretization="euler").double()(u).abs().max() > 1e6


# ---- special cases ----


def test_order_one_is_a_leaky_integrator():
    decay, u = np.exp(-1 / 30), normal(1, 100, 1)
    wanted = scipy.signal.lfilter([1 - decay], [1, -decay], u[0, :, 0])
    torch.testing.assert_close(
        LegendreMemory(1, 30).double()(u)[0, :, 0, 0], torch.from_numpy(wanted)
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_diagonal_recurrence_is_a_bank_of_moving_averages(mode):
    decays, u = torch.tensor([0.1, 0.5, 0.9, 0.99], dtype=torch.float64), normal(1, 130, 1)
    bank = LinearMemory(torch.diag(decays), 1 - decays).double()
    averages = [scipy.signal.lfilter([1 - a], [1, -a], u[0, :, 0]) for a in decays.tolist()]
    wanted = torch.from_numpy(np.stack(averages, axis=-1))
    torch.testing.assert_close(bank(u, mode)[0, :, 0], wanted)


def test_the_readout_holds_the_shifted_legendre_polynomials():
    r = torch.linspace(0, 1, 21, dtype=torch.float64)
    wanted = legendre.legvander(2 * r.numpy() - 1, 31)
    torch.testing.assert_close(legendre_readout(32, r), torch.from_numpy(wanted))
    assert legendre_readout(1, r).shape == (21, 1)


def test_the_delayed_signal_is_read_out_better_by_a_higher_order():
    """Two sines of amplitude 1, periods 150 and 61, read at the far end of 200 steps."""
    t = torch.arange(2000, dtype=torch.float64)
    u = torch.sin(2 * torch.pi * t / 150) + torch.sin(2 * torch.pi * t / 61)
    end, errors = torch.ones(1, dtype=torch.float64), []
    for order in (6, 12, 32):
        states = LegendreMemory(order, 200).double()(u[None, :, None])[0, :, 0]
        delayed = states @ legendre_readout(order, end)[0]
        errors.append((delayed[600:] - u[400:-200]).square().mean().sqrt().item())
    assert errors == pytest.approx([0.53, 0.13, 0.039], rel=0.05)


@pytest.mark.parametrize("form", ["recurrent", "fft", "chunked", "step", "last"])
def test_the_gradients_equal_finite_differences(form):
    memory = LegendreMemory(3, 5).double()
    u, state = normal(2, 7, 2).requires_grad_(), normal(2, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda u, m: run(form, memory, u, m), (u, state))
    assert torch.autograd.gradcheck(lambda u: run(form, memory, u), (u,))
