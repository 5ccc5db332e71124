"""The networks around the memory: the parallel LMU of 2021 and the cell of 2019."""

import pytest
import torch
import torch.nn.functional as F
from drawing import largest, normal, order_one, trainable
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from archbook.lmu import LMU, LMUCell, legendre_delay_matrices


def parallel_model(return_sequences: bool = True, write=torch.relu, **options) -> LMU:
    options |= dict(return_sequences=return_sequences, write_activation=write)
    return order_one(LMU(3, 5, 2, order=4, theta=12.0, **options))


def slow_outputs(model: LMU, x: Tensor, theta: float = 12.0) -> Tensor:
    """Eqs. 18 to 20, one sequence, one step and one channel at a time."""
    A_bar, B_bar = legendre_delay_matrices(model.memory.order, theta)
    sequences = []
    for sequence in x:
        memory = [torch.zeros_like(B_bar) for _ in range(model.memory_size)]
        outputs = []
        for x_t in sequence:
            u = torch.relu(model.U_x.weight @ x_t + model.U_x.bias)
            memory = [A_bar @ m + B_bar * u_c for m, u_c in zip(memory, u, strict=True)]
            read = model.U_m.weight @ torch.cat(memory)
            outputs.append(torch.relu(read + model.W_x.weight @ x_t + model.W_x.bias))
        sequences.append(torch.stack(outputs))
    return torch.stack(sequences)


def slow_cell(cell: LMUCell, x: Tensor, theta: float) -> Tensor:
    """The 2019 equations, one sequence and one step at a time."""
    A_bar, B_bar = legendre_delay_matrices(cell.memory.order, theta)
    sequences = []
    for sequence in x:
        h, m = torch.zeros_like(cell.e_h.weight[0]), torch.zeros_like(B_bar)
        outputs = []
        for x_t in sequence:
            u = cell.e_x.weight[0] @ x_t + cell.e_h.weight[0] @ h + cell.e_m.weight[0] @ m
            m = A_bar @ m + B_bar * u
            h = torch.tanh(cell.W_x.weight @ x_t + cell.W_h.weight @ h + cell.W_m.weight @ m)
            outputs.append(h)
        sequences.append(torch.stack(outputs))
    return torch.stack(sequences)


def gradients(output: Tensor, module: nn.Module, *inputs: Tensor) -> list[Tensor]:
    weight = normal(*output.shape, seed=9).to(output.dtype)
    return list(torch.autograd.grad((output * weight).sum(), [*module.parameters(), *inputs]))


def streamed(model: LMU, x: Tensor, state: Tensor | None = None) -> Tensor:
    outputs = []
    for x_t in x.unbind(1):
        o_t, state = model.step(x_t, state)
        outputs.append(o_t)
    return torch.stack(outputs, dim=1)


# ---- the equations ----


@pytest.mark.shapes
@pytest.mark.parametrize("mode", ["auto", "recurrent", "fft", "chunked"])
def test_the_parallel_model_equals_the_paper(mode):
    model, x = parallel_model(), normal(2, 90, 3).requires_grad_()
    wanted, found = slow_outputs(model, x), model(x, mode=mode)
    torch.testing.assert_close(found, wanted, atol=1e-11, rtol=0)
    for f, w in zip(gradients(found, model, x), gradients(wanted, model, x), strict=True):
        torch.testing.assert_close(f, w, atol=1e-10, rtol=1e-10)


@pytest.mark.shapes
def test_the_cell_equals_the_paper():
    cell, x = order_one(LMUCell(3, 5, 4, theta=12.0)), normal(2, 30, 3).requires_grad_()
    wanted, found = slow_cell(cell, x, 12.0), cell.unroll(x)
    torch.testing.assert_close(found, wanted, atol=1e-11, rtol=0)
    for f, w in zip(gradients(found, cell, x), gradients(wanted, cell, x), strict=True):
        torch.testing.assert_close(f, w, atol=1e-10, rtol=1e-10)


# ---- one set of weights, three ways to run it ----


@pytest.mark.slow
@pytest.mark.shapes
@settings(max_examples=25)
@given(
    time=st.integers(2, 100), starts=..., seed=st.integers(0, 10**6), dtype=st.sampled_from("fd")
)
def test_streaming_from_any_cut_equals_the_parallel_outputs(time, starts: bool, seed, dtype):
    dtype, tolerance = {"f": (torch.float32, 1e-4), "d": (torch.float64, 1e-11)}[dtype]
    model = order_one(LMU(2, 4, 2, order=6, theta=20.0), seed).to(dtype)
    x, state = normal(2, time, 2, seed=seed).to(dtype), None
    if starts:
        state = normal(2, 2, 6, seed=seed + 1).to(dtype)
    cut = 1 + seed % (time - 1)
    whole = model(x, state)
    found = torch.cat(
        [
            model(x[:, :cut], state),
            streamed(model, x[:, cut:], model.final_state(x[:, :cut], state)),
        ],
        dim=1,
    )
    assert largest(found, whole) < tolerance


@pytest.mark.parametrize("starts", [False, True])
def test_the_last_output_alone_equals_the_last_of_all(starts):
    every, last = parallel_model(), parallel_model(return_sequences=False)
    x, state = normal(4, 70, 3).requires_grad_(), normal(4, 2, 4) if starts else None
    wanted, found = every(x, state)[:, -1], last(x, state)
    torch.testing.assert_close(found, wanted, atol=1e-11, rtol=0)
    for f, w in zip(gradients(found, last, x), gradients(wanted, every, x), strict=True):
        torch.testing.assert_close(f, w, atol=1e-10, rtol=1e-10)


def test_the_final_state_is_where_a_step_goes_on():
    model, x = parallel_model(), normal(2, 41, 3)
    o_t, state = model.step(x[:, -1], model.final_state(x[:, :-1]))
    torch.testing.assert_close(o_t, model(x)[:, -1])
    torch.testing.assert_close(state, model.final_state(x))


@pytest.mark.parametrize("cut", [1, 7, 29])
def test_the_cell_goes_on_from_any_state(cut):
    cell, x = order_one(LMUCell(3, 5, 4, theta=12.0)), normal(2, 30, 3)
    state = None
    for x_t in x[:, :cut].unbind(1):
        state = cell(x_t, state)
    torch.testing.assert_close(cell.unroll(x[:, cut:], state), cell.unroll(x)[:, cut:])


@pytest.mark.parametrize("run", [lambda m, x: m(x, mode="fft"), lambda m, x: m(x, mode="chunked")])
def test_no_output_depends_on_a_later_input(run):
    model, x = parallel_model(), normal(2, 100, 3)
    changed = x.clone()
    changed[:, 66] += 3
    before, after = run(model, x), run(model, changed)
    assert (before - after)[:, :66].abs().max() < 1e-12 * before.abs().max()
    assert (before - after)[:, 66].abs().max() > 1e-3


# ---- padding ----


@pytest.mark.parametrize("return_sequences", [True, False])
@pytest.mark.parametrize("junk", [0.0, 100.0])
def test_padding_in_front_changes_no_real_output(return_sequences, junk):
    model, x, lengths = parallel_model(return_sequences), normal(3, 50, 3), (50, 31, 1)
    mask = torch.stack([torch.arange(50) >= 50 - length for length in lengths])
    padded = x.masked_fill(~mask[..., None], junk)
    outputs, states = model(padded, mask=mask), model.final_state(padded, mask=mask)
    for i, length in enumerate(lengths):
        alone = x[i : i + 1, -length:]
        real = outputs[i : i + 1, -length:] if return_sequences else outputs[i : i + 1]
        torch.testing.assert_close(real, model(alone), atol=1e-11, rtol=0)
        torch.testing.assert_close(states[i : i + 1], model.final_state(alone))


def test_padding_gets_no_gradient_through_the_memory():
    model, x = parallel_model(return_sequences=False), normal(1, 20, 3).requires_grad_()
    model(x, mask=torch.arange(20)[None] >= 8).sum().backward()
    assert (x.grad[:, :8] == 0).all()
    assert (x.grad[:, 8:] != 0).any()


def test_padding_at_the_end_is_refused_where_the_last_output_alone_is_wanted():
    model, mask = parallel_model(return_sequences=False), torch.arange(20)[None] < 15
    with pytest.raises(ValueError, match="the last step to be real .*in front.*given 1"):
        model(normal(1, 20, 3), mask=mask)
    assert parallel_model()(normal(1, 20, 3), mask=mask).shape == (1, 20, 5)


# ---- what is written, at the start ----


def starts_dead(**options) -> int:
    """Of 50 seeds, how many write the same number whatever they read in [0, 1]."""
    dead, inputs = 0, torch.linspace(0, 1, 100)[:, None]
    for seed in range(50):
        torch.manual_seed(seed)
        written = LMU(1, 16, 1, order=8, theta=50.0, **options).write(inputs)
        dead += bool((written == written[0]).all())
    return dead


def test_no_seed_starts_with_a_dead_write_unless_a_relu_is_asked_for():
    assert starts_dead() == 0
    assert starts_dead(write_activation=torch.relu) > 10


# ---- broken twins: each must fail the comparison with the paper ----


class NoWriteBias(LMU):
    def write(self, x):
        return self.f_1(F.linear(x, self.U_x.weight))


class ReadsTheWritten(LMU):
    """Order before channels when the memory is flattened."""

    def read(self, m, x):
        return super().read(m.transpose(-1, -2).reshape(m.shape), x)


class SkipsTheInput(LMU):
    def read(self, m, x):
        return super().read(m, torch.zeros_like(x))


@pytest.mark.parametrize("twin", [NoWriteBias, ReadsTheWritten, SkipsTheInput])
def test_the_comparison_notices(twin):
    model = order_one(twin(3, 5, 2, order=4, theta=12.0, write_activation=torch.relu))
    x = normal(2, 30, 3)
    assert (model(x) - slow_outputs(model, x)).abs().max() > 1e-2


# ---- special cases and the papers' numbers ----


def test_without_activations_and_weights_of_one_the_model_is_the_memory():
    model = LMU(
        1, 4, 1, order=4, theta=12.0, write_activation=nn.Identity(), activation=nn.Identity()
    ).double()
    x = normal(2, 40, 1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.U_x.weight.fill_(1)
        model.U_m.weight.copy_(torch.eye(4))
    torch.testing.assert_close(model(x), model.memory(x)[:, :, 0])


def test_the_psmnist_model_has_166092_weights():
    assert trainable(LMU(1, 346, 1, order=468, theta=784), nn.Linear(346, 10)) == 166_092


def test_the_psmnist_model_of_2019_has_102027_weights():
    assert trainable(LMUCell(1, 212, 256, theta=784), nn.Linear(212, 10)) == 102_027


def test_the_mackey_glass_model_has_about_18000_weights():
    dense = nn.Linear(120, 120), nn.Linear(120, 1)
    assert trainable(LMU(1, 120, 1, order=40, theta=50), *dense) == 19_683


def test_the_cell_starts_as_in_2019():
    torch.manual_seed(0)
    cell = LMUCell(300, 200, 100, theta=50)
    assert (cell.e_m.weight == 0).all()
    for encoder in (cell.e_x, cell.e_h):  # uniform with variance 1 / inputs
        bound = (3 / encoder.in_features) ** 0.5
        assert 0.95 * bound < encoder.weight.abs().max() <= bound
    for kernel in (cell.W_x, cell.W_h, cell.W_m):
        wanted = (2 / sum(kernel.weight.shape)) ** 0.5
        assert kernel.weight.std().item() == pytest.approx(wanted, rel=0.02)


# ---- it learns ----


def fitted_loss(network: nn.Module, head: nn.Linear) -> float:
    """Cross-entropy after a short fit of eight sequences that differ in their first steps only."""
    x, labels = normal(8, 20, 1).float(), torch.arange(8) % 2
    x[:, 5:] = 0.1
    optimiser = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=0.03)
    for _ in range(100):
        loss = F.cross_entropy(head(network(x)), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return loss.item()


class LastHidden(nn.Module):
    def __init__(self, cell: LMUCell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        return self.cell.unroll(x)[:, -1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [
        lambda: LMU(1, 16, 4, order=8, theta=20.0, return_sequences=False),
        lambda: LastHidden(LMUCell(1, 16, 8, theta=20.0)),
    ],
    ids=["LMU", "LMUCell"],
)
def test_a_handful_of_sequences_is_fitted(build):
    torch.manual_seed(0)
    assert fitted_loss(build(), nn.Linear(16, 2)) < 0.05


@pytest.mark.parametrize(
    "build", [parallel_model, lambda: LastHidden(order_one(LMUCell(3, 5, 4, theta=12.0)))]
)
def test_every_parameter_has_a_gradient(build):
    model = build()
    model(normal(2, 20, 3)).square().sum().backward()
    assert all(p.grad is not None and (p.grad != 0).any() for p in model.parameters())


@pytest.mark.parametrize("return_sequences", [True, False])
def test_the_gradients_of_the_parallel_model_equal_finite_differences(return_sequences):
    model = parallel_model(return_sequences, write=torch.tanh, activation=torch.tanh)
    inputs = normal(2, 6, 3).requires_grad_(), normal(2, 2, 4).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, m, *weights: model(x, m), [*inputs, *model.parameters()]
    )


def test_the_gradients_of_the_cell_equal_finite_differences():
    cell = order_one(LMUCell(2, 3, 4, theta=6.0))
    inputs = [normal(2, n).requires_grad_() for n in (2, 3, 4)]
    assert torch.autograd.gradcheck(
        lambda x, h, m, *weights: cell(x, (h, m)), [*inputs, *cell.parameters()]
    )
