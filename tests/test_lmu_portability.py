"""The memory and its networks in every dtype, place and form of running that torch knows."""

import pytest
import torch
from drawing import seeded
from portability import Portability, compiled
from torch import Tensor, nn

from archbook.lmu import (
    LMU,
    LegendreMemory,
    LinearMemory,
    LMUCell,
    LMUClassifier,
    legendre_delay_matrices,
)

MODES = ("auto", "recurrent", "fft", "chunked")
NETWORKS = [(name, mode) for name in ("LMU", "LMU-last") for mode in ("", "fft", "chunked")]
NETWORKS += [("LMUCell", ""), ("LMUClassifier", "")]


class Unrolled(nn.Module):
    """The cell of 2019 as a layer, so that all three modules are called alike."""

    def __init__(self):
        super().__init__()
        self.cell = LMUCell(2, 5, 4, theta=12.0)

    def forward(self, x):
        return self.cell.unroll(x)


def signal(time: int = 70, seed: int = 1) -> Tensor:
    return torch.randn(2, time, 2, generator=seeded(seed))


def time_first(x: Tensor) -> Tensor:
    return x.transpose(0, 1).contiguous().transpose(0, 1)


class TestPortability(Portability):
    models = {
        "memory": lambda: LegendreMemory(4, 12.0),
        "LMU": lambda: LMU(2, 5, 3, order=4, theta=12.0),
        "LMU-last": lambda: LMU(2, 5, 3, order=4, theta=12.0, return_sequences=False),
        "LMUCell": Unrolled,
        "LMUClassifier": lambda: LMUClassifier(2, 5, 3, order=4, theta=12.0),
    }
    cases = [*(("memory", mode) for mode in ("", *MODES[1:])), *NETWORKS]
    only = {  # the memory stays in float32: see below
        Portability.test_a_bfloat16_model_stays_near_the_float32_one: NETWORKS,
        Portability.test_under_autocast_a_model_stays_near_the_float32_one_and_trains: NETWORKS,
        Portability.test_every_model_compiles_to_one_graph_with_the_same_gradients: [
            (name, "") for name in ("LMU", "LMU-last", "LMUCell", "LMUClassifier")
        ],
    }
    layouts = (*Portability.layouts, time_first)
    near_gradients = 0.1
    not_called = {"LMUCell": ("cell.memory",)}  # it takes one step at a time
    near_on_cuda = (1e-11, 1e-10)

    def inputs(self, name, form=""):
        given = {"u" if name == "memory" else "x": signal()}
        return given | {"mode": form} if form else given

    def to_compile(self, name, form):
        return self.build(name), {"x": signal(5)}

    def test_a_cast_there_and_back_restores_the_exact_matrices(self, name):
        A_bar, B_bar = legendre_delay_matrices(4, 12.0)
        model = self.build(name).double().float().bfloat16().double()
        for memory in (part for part in model.modules() if isinstance(part, LegendreMemory)):
            assert torch.equal(memory.A_bar, A_bar)
            assert torch.equal(memory.B_bar, B_bar)

    def test_the_fixed_matrices_are_neither_parameters_nor_in_the_state_dict(self, name):
        model = self.build(name)
        model(signal())
        names = [*model.state_dict(), *(name for name, _ in model.named_parameters())]
        assert not [name for name in names if "memory" in name or "_bar" in name]


# ---- dtypes ----


def test_a_cast_also_renews_the_tables():
    memory, u = LegendreMemory(6, 40.0), signal(100)
    memory(u, "chunked")
    fresh = LegendreMemory(6, 40.0).double()
    assert torch.equal(memory.double()(u.double(), "chunked"), fresh(u.double(), "chunked"))


def test_nobody_else_can_change_the_matrices():
    memory = LegendreMemory(4, 12.0).double()
    memory.A_bar.zero_()
    assert torch.equal(memory.float().A_bar, legendre_delay_matrices(4, 12.0)[0].float())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mode", MODES)
def test_a_half_precision_signal_is_remembered_in_float32(dtype, mode):
    memory, u = LegendreMemory(4, 12.0), signal().to(dtype)
    states = memory.to(dtype)(u, mode)
    assert memory.A_bar.dtype == states.dtype == torch.float32
    torch.testing.assert_close(states, memory(u.float(), mode))


def test_under_autocast_the_memory_is_as_exact_as_without():
    memory, u = LegendreMemory(32, 784.0), signal(500)
    state = memory.last(u)

    def run() -> list[Tensor]:
        everywhere = [memory(u, mode) for mode in MODES]
        return [*everywhere, memory.last(u), memory.step(u[:, 0], state)]

    wanted = run()
    with torch.autocast("cpu", torch.bfloat16):
        found = run()
    assert all(torch.equal(f, w) for f, w in zip(found, wanted, strict=True))


@pytest.mark.slow
def test_streaming_in_bfloat16_equals_the_parallel_form():
    """A state carried in bfloat16 would forget what each step of a long window adds."""
    torch.manual_seed(0)
    model, x = LMU(1, 8, 1, order=32, theta=784.0).bfloat16(), signal(1500)[:, :, :1].bfloat16()
    state, outputs = None, []
    with torch.no_grad():
        for x_t in x.unbind(1):
            o_t, state = model.step(x_t, state)
            outputs.append(o_t)
        torch.testing.assert_close(torch.stack(outputs, 1), model(x), atol=0.01, rtol=0.01)


# ---- printing ----


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (LegendreMemory(4, 12.0), "LegendreMemory(order=4, theta=12)"),
        (LegendreMemory(6, 40.5), "LegendreMemory(order=6, theta=40.5)"),
        (LinearMemory(torch.eye(2), torch.ones(2)), "LinearMemory(order=2)"),
    ],
)
def test_a_printed_memory_names_its_order_and_window(module, text):
    assert repr(module) == text


# ---- places ----


@pytest.mark.parametrize("mode", MODES)
def test_the_memory_runs_on_the_meta_device_in_every_form(mode):
    memory, u = LegendreMemory(4, 12.0).to("meta"), signal().to("meta")
    state = memory.last(u)
    assert state.is_meta
    assert memory(u, mode).shape == memory(u, mode, state).shape == (2, 70, 2, 4)
    assert memory.step(u[:, 0], state).shape == (2, 2, 4)


# ---- running ----


@pytest.mark.parametrize("form", ["recurrent", "fft", "chunked", "last", "step"])
def test_a_state_is_never_modified(form):
    memory, u = LegendreMemory(4, 12.0), signal()
    state = memory.last(signal(9))
    before = state.clone()
    if form == "last":
        memory.last(u, state)
    elif form == "step":
        memory.step(u[:, 0], state)
    else:
        memory(u, form, state)
    assert torch.equal(state, before)


# ---- torch.compile ----


@pytest.mark.compile
@pytest.mark.parametrize("starts", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_every_form_of_the_memory_compiles_to_one_graph(mode, starts):
    memory, u = LegendreMemory(4, 12.0), signal(20)
    state = signal(4).mT.contiguous() if starts else None
    torch.testing.assert_close(compiled(memory)(u, mode, state), memory(u, mode, state))


@pytest.mark.compile
def test_last_and_step_compile_to_one_graph():
    memory, u = LegendreMemory(4, 12.0), signal(20)
    state = compiled(memory.last)(u)
    torch.testing.assert_close(state, memory.last(u))
    torch.testing.assert_close(compiled(memory.step)(u[:, 0], state), memory.step(u[:, 0], state))


@pytest.mark.compile
def test_a_compiled_network_takes_other_lengths_batches_and_a_mask():
    model = LMU(2, 5, 3, order=4, theta=12.0)
    run = compiled(model)
    for time, batch in ((8, 2), (13, 2), (13, 1)):
        x, mask = signal(time)[:batch], torch.arange(time).expand(batch, time) >= 3
        torch.testing.assert_close(run(x, mask=mask), model(x, mask=mask))


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # raised inside inductor
def test_the_chunked_network_compiles_with_inductor():
    model, x = LMU(1, 3, 1, order=4, theta=12.0), signal(70)[:, :, :1]
    wanted = model(x, mode="chunked")
    with torch.no_grad():
        found = compiled(model, backend="inductor")(x, mode="chunked")
    torch.testing.assert_close(found, wanted)


# ---- CUDA ----


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("order", "theta"), [(6, 40.0), (256, 784.0), (468, 784.0)])
def test_on_cuda_every_form_equals_the_recurrence_on_the_cpu(order, theta, dtype):
    memory = LegendreMemory(order, theta)
    u, start = signal(int(theta)).double(), 0.1 * torch.randn(2, 2, order).double()
    wanted = memory.double()(u, "recurrent", start)
    memory = memory.to("cuda", dtype)
    u, start = u.to("cuda", dtype), start.to("cuda", dtype)
    tolerance = 1e-11 if dtype == torch.float64 else 1e-4
    found = {mode: memory(u, mode, start).cpu().double() for mode in MODES}
    assert all((f - wanted).abs().max() < tolerance * wanted.abs().max() for f in found.values())
    last = memory.last(u, start).cpu().double()
    assert (last - wanted[:, -1]).abs().max() < tolerance * wanted.abs().max()
