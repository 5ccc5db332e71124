"""The Legendre memory: its equations, its laws, and broken twins that must fail them."""

import copy
import io
from collections.abc import Iterable
from functools import cache

import numpy as np
import pytest
import scipy.signal
import torch
import torch.nn.functional as F
from drawing import largest, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from archbook.lmu import (
    LegendreMemory,
    LinearMemory,
    impulse_response,
    legendre_delay_matrices,
)
from archbook.lmu.memory import MOST_TABLES

MODES = ("auto", "recurrent", "fft", "chunked")
SIZES = ((6, 40.0), (256, 784.0), (468, 784.0))  # (order, theta = length)
TOLERANCE = {  # dtype -> order -> largest difference at a scale of one
    torch.float64: {6: 1e-12, 256: 1e-11, 468: 1e-11},
    torch.float32: {6: 1e-5, 256: 1e-4, 468: 1e-4},
}


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


def states_and_gradients(compute, u: Tensor, state: Tensor | None, weight: Tensor) -> list[Tensor]:
    """The states, then the gradients by `u` and `state` of their weighted sum."""
    leaves = [x.clone().requires_grad_() for x in (u, state) if x is not None]
    states = compute(*leaves)
    weight = weight[:, -states.shape[1] :].to(states.dtype)
    return [states.detach(), *torch.autograd.grad((states * weight).sum(), leaves)]


@cache
def memory_of(order: int, theta: float, dtype: torch.dtype) -> LegendreMemory:
    """One memory a size, because its tables cost more than a test."""
    return LegendreMemory(order, theta).to(dtype)


@cache
def case(order: int, theta: float, starts: bool, last: bool):
    """Inputs and the slow loop's answer, in float64; `last` weighs the last state only."""
    time = int(theta)
    u = normal(2, time, 1, seed=order)
    state = normal(2, 1, order, seed=order + 1) if starts else None
    weight = normal(2, 1 if last else time, 1, order, seed=order + 2)
    A_bar, B_bar = legendre_delay_matrices(order, theta)

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
    return all(largest(f, w) <= tolerance for f, w in zip(found, wanted, strict=True))


# ---- the laws ----


@pytest.mark.slow
@pytest.mark.shapes
@pytest.mark.parametrize("starts", [False, True], ids=["from-zero", "from-a-state"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("order", "theta"), SIZES)
@pytest.mark.parametrize("form", ["recurrent", "fft", "chunked", "step", "last"])
def test_every_form_gives_the_states_and_gradients_of_the_paper(form, order, theta, dtype, starts):
    assert law_holds(form, memory_of(order, theta, dtype), starts, TOLERANCE[dtype][order])


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


def case_of(problem) -> tuple[LegendreMemory, Tensor, Tensor, float]:
    batch, time, channels = problem["batch"], problem["time"], problem["channels"]
    memory = LegendreMemory(problem["order"], problem["theta"]).to(problem["dtype"])
    u = normal(batch, time, channels, seed=problem["seed"]).to(problem["dtype"])
    state = normal(batch, channels, problem["order"], seed=problem["seed"] + 1).to(problem["dtype"])
    return memory, u, state, 1e-11 if problem["dtype"] == torch.float64 else 1e-4


@pytest.mark.shapes
@settings(max_examples=40)
@given(problem=problems, form=st.sampled_from(["auto", "fft", "chunked", "last"]), starts=...)
def test_at_any_size_the_parallel_forms_equal_the_recurrence(problem, form, starts: bool):
    memory, u, state, tolerance = case_of(problem)
    start = state if starts else None
    wanted = memory(u, "recurrent", start)
    found = run(form, memory, u, start)
    assert found.dtype == u.dtype
    assert largest(found, wanted[:, -found.shape[1] :]) < tolerance


@pytest.mark.shapes
@settings(max_examples=40)
@given(problem=problems, mode=st.sampled_from(MODES), data=st.data())
def test_streaming_from_any_cut_continues_the_sequence(problem, mode, data):
    memory, u, state, tolerance = case_of({**problem, "time": problem["time"] + 1})
    cut = data.draw(st.integers(1, u.shape[1] - 1))
    whole = memory(u, mode, state)
    head = memory.last(u[:, :cut], state)
    tail = memory(u[:, cut:], mode, head)
    assert largest(tail, whole[:, cut:]) < tolerance
    assert largest(memory.step(u[:, cut], head), whole[:, cut]) < tolerance


@settings(max_examples=25)
@given(problem=problems, mode=st.sampled_from(MODES), data=st.data())
def test_a_longer_sequence_keeps_its_prefix(problem, mode, data):
    memory, u, _, tolerance = case_of(problem)
    cut = data.draw(st.integers(1, u.shape[1]))
    whole = memory(u, mode)
    assert largest(memory(u[:, :cut], mode), whole[:, :cut]) < tolerance


@pytest.mark.parametrize(("mode", "slack"), [("recurrent", 0), ("fft", 1e-12), ("chunked", 1e-12)])
def test_no_state_depends_on_a_later_input(mode, slack):
    """The FFT leaks rounding backwards, so only the recurrence is held to equality."""
    memory, u = LegendreMemory(12, 50).double(), normal(2, 150, 2)
    changed = u.clone()
    changed[:, 97] += 3
    before, after = memory(u, mode), memory(changed, mode)
    assert largest(after[:, :97], before[:, :97]) <= slack
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

    def fft(self, u, start):
        H = impulse_response(self.A_bar, self.B_bar, u.shape[1])
        spectrum = torch.fft.rfft(u)[:, None] * torch.fft.rfft(H)
        return torch.fft.irfft(spectrum, u.shape[1]).mT


class Forgetful(LegendreMemory):
    """Every chunk starts from an empty memory."""

    def chunked(self, u, start):
        parts = u.split(64 if self.order <= 32 else 32, dim=1)
        return torch.cat([super(Forgetful, self).chunked(part, None) for part in parts], dim=1)


class Late(LegendreMemory):
    """B_bar multiplies the previous input."""

    def recurrent(self, u, start):
        return super().recurrent(F.pad(u, (1, -1)), start)


class Transposed(LegendreMemory):
    """Rows and columns of A swapped, as meshgrid's default does."""

    def __init__(self, order, theta):
        super().__init__(order, theta)
        i = torch.arange(order)
        A = torch.where(i < i[:, None], -1.0, (-1.0) ** (i[:, None] - i + 1)) * (2 * i + 1)
        B = (2 * i + 1) * (-1.0) ** i
        system = torch.cat([A, B[:, None]], dim=1).double() / theta
        step = torch.linalg.matrix_exp(F.pad(system, (0, 0, 0, 1)))
        LinearMemory.__init__(self, step[:-1, :-1], step[:-1, -1])
        self.theta = theta


@pytest.mark.parametrize(
    ("twin", "form"),
    [(Wrapping, "fft"), (Forgetful, "chunked"), (Late, "recurrent"), (Transposed, "recurrent")],
)
def test_the_law_notices(twin, form):
    assert law_holds(form, memory_of(12, 150.0, torch.float64), False, 1e-12)
    assert not law_holds(form, twin(12, 150.0).double(), False, 1e-2)


def test_euler_diverges_where_the_window_is_short_and_zero_order_hold_does_not():
    u = normal(1, 200, 1)
    assert LegendreMemory(6, 8).double()(u).abs().max() < 10
    assert LegendreMemory(6, 8, discretization="euler").double()(u).abs().max() > 1e6


@pytest.mark.slow
def test_forms_agree_at_order_1000():
    memory, u = LegendreMemory(1000, 2000.0).double(), normal(1, 300, 1)
    expected = memory(u, "recurrent")
    for mode in ("fft", "chunked"):
        assert largest(memory(u, mode), expected) < 1e-11
    assert largest(memory.last(u), expected[:, -1]) < 1e-11


@pytest.mark.slow
def test_in_float32_the_parallel_forms_are_closer_to_the_exact_states_than_the_recurrence():
    memory, u = LegendreMemory(64, 5000.0), normal(1, 20_000, 1)
    exact = memory.double()(u)
    memory.float()
    error = {mode: largest(memory(u.float(), mode), exact) for mode in MODES}
    assert max(error["fft"], error["chunked"]) < error["recurrent"]


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


@pytest.mark.slow
@pytest.mark.parametrize("form", ["recurrent", "fft", "chunked", "step", "last"])
def test_the_gradients_equal_finite_differences(form):
    memory = LegendreMemory(3, 5).double()
    u, state = normal(2, 7, 2).requires_grad_(), normal(2, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda u, m: run(form, memory, u, m), (u, state))
    assert torch.autograd.gradcheck(lambda u: run(form, memory, u), (u,))


# ---- tables ----


def held(memory: LinearMemory) -> int:
    """Bytes of all tensors that are not weights or matrices."""
    tables = [*memory._tables.values(), *memory._longest.values()]
    return sum(table.numel() * table.element_size() for table in tables)


@pytest.mark.parametrize("call", ["last", "fft", "chunked"])
def test_sequences_of_any_lengths_fill_no_memory(call):
    def after(lengths: Iterable[int]) -> int:
        memory = LegendreMemory(16, 40.0)
        for length in lengths:
            u = normal(1, length, 1).float()
            memory.last(u) if call == "last" else memory(u, call)
        return held(memory)

    assert after(range(1, 61)) <= MOST_TABLES * after([60])


def test_a_shorter_sequence_reads_the_end_of_the_longest_table():
    memory, fresh, u = LegendreMemory(6, 40.0), LegendreMemory(6, 40.0), normal(2, 30, 1).float()
    memory.last(normal(1, 50, 1).float())
    torch.testing.assert_close(memory.last(u), fresh.last(u), rtol=0, atol=0)


def test_copies_and_files_go_without_tables():
    memory, u = LegendreMemory(16, 40.0), normal(1, 60, 1).float()
    wanted, before = memory(u, "fft"), io.BytesIO()
    torch.save(LegendreMemory(16, 40.0), before)
    after = io.BytesIO()
    torch.save(memory, after)
    assert abs(after.tell() - before.tell()) < 100
    twin = copy.deepcopy(memory)
    assert held(twin) == 0 < held(memory)
    assert torch.equal(twin(u, "fft"), wanted)


def test_a_replica_on_another_device_makes_its_own_tables():
    """As DataParallel makes them: a shallow copy whose buffers lie elsewhere."""
    memory, u = LegendreMemory(16, 40.0), normal(1, 60, 1).float()
    memory(u, "fft")
    replica = memory._replicate_for_data_parallel()
    replica.A_bar, replica.B_bar = memory.A_bar.to("meta"), memory.B_bar.to("meta")
    assert replica(u.to("meta"), "fft").is_meta
    assert not memory(u, "fft").is_meta
