"""The memory and its networks in every dtype, place and form of running that torch knows.

What turns red when the code is broken (each was tried on a copy):
- a cast that rounds the matrices: test_a_cast_there_and_back_restores_the_exact_matrices
- tables kept over a cast: test_a_cast_also_renews_the_tables
- tables made in inference mode: test_a_module_first_run_in_inference_mode_can_be_trained_after
- matrices in the state_dict: test_the_fixed_matrices_are_neither_parameters_nor_in_the_state_dict
- autocast not switched off: test_under_autocast_the_memory_is_as_exact_as_without
"""

import copy
import io

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from archbook.lmu import LMU, LegendreMemory, LinearMemory, LMUCell, legendre_delay_matrices

MODES = ("auto", "recurrent", "fft", "chunked")


class Unrolled(nn.Module):
    """The cell of 2019 as a layer, so that all three modules are called alike."""

    def __init__(self):
        super().__init__()
        self.cell = LMUCell(2, 5, 4, 12.0)

    def forward(self, x):
        return self.cell.unroll(x)


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return {
        "memory": lambda: LegendreMemory(4, 12.0),
        "LMU": lambda: LMU(2, 5, 3, 4, 12.0),
        "LMU-last": lambda: LMU(2, 5, 3, 4, 12.0, return_sequences=False),
        "LMUCell": Unrolled,
    }[name]()


NAMES = ("memory", "LMU", "LMU-last", "LMUCell")
every_module = pytest.mark.parametrize("name", NAMES)
every_network = pytest.mark.parametrize("name", NAMES[1:])


def signal(time: int = 70, seed: int = 1) -> Tensor:
    return torch.randn(2, time, 2, generator=torch.Generator().manual_seed(seed))


def memories(module: nn.Module) -> list[LegendreMemory]:
    return [part for part in module.modules() if isinstance(part, LegendreMemory)]


# ---- dtypes ----


@every_module
def test_a_cast_there_and_back_restores_the_exact_matrices(name):
    A_bar, B_bar = legendre_delay_matrices(4, 12.0)
    for memory in memories(build(name).double().float().bfloat16().double()):
        assert torch.equal(memory.A_bar, A_bar)
        assert torch.equal(memory.B_bar, B_bar)


def test_a_cast_also_renews_the_tables():
    memory, u = LegendreMemory(6, 40.0), signal(100)
    memory(u, "chunked")
    fresh = LegendreMemory(6, 40.0).double()
    assert torch.equal(memory.double()(u.double(), "chunked"), fresh(u.double(), "chunked"))


def test_nobody_else_can_change_the_matrices():
    memory = LegendreMemory(4, 12.0).double()
    memory.A_bar.zero_()
    assert torch.equal(memory.float().A_bar, legendre_delay_matrices(4, 12.0)[0].float())


@every_module
def test_the_default_dtype_is_followed(name):
    torch.set_default_dtype(torch.float64)
    try:
        module = build(name)
    finally:
        torch.set_default_dtype(torch.float32)
    assert module(signal().double()).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mode", MODES)
def test_a_half_precision_signal_is_remembered_in_float32(dtype, mode):
    memory, u = LegendreMemory(4, 12.0), signal().to(dtype)
    states = memory.to(dtype)(u, mode)
    assert memory.A_bar.dtype == states.dtype == torch.float32
    torch.testing.assert_close(states, memory(u.float(), mode))


@every_network
def test_a_bfloat16_network_stays_near_the_float32_one(name):
    module, x = build(name), signal().bfloat16()
    wanted = module(x.float())
    found = module.bfloat16()(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, atol=0.05, rtol=0.05)


@every_network
def test_under_autocast_a_network_stays_near_the_float32_one_and_trains(name):
    module, x = build(name), signal()
    wanted = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = module(x)
    found.float().square().sum().backward()
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, atol=0.05, rtol=0.05)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_under_autocast_the_memory_is_as_exact_as_without():
    memory, u = LegendreMemory(32, 784.0), signal(500)
    wanted = memory(u), memory.last(u), memory.step(u[:, 0])
    with torch.autocast("cpu", torch.bfloat16):
        found = memory(u), memory.last(u), memory.step(u[:, 0])
    assert all(torch.equal(f, w) for f, w in zip(found, wanted, strict=True))


def test_streaming_in_bfloat16_equals_the_parallel_form():
    """A state carried in bfloat16 would forget what each step of a long window adds."""
    torch.manual_seed(0)
    model, x = LMU(1, 8, 1, 32, 784.0).bfloat16(), signal(1500)[:, :, :1].bfloat16()
    state, outputs = None, []
    with torch.no_grad():
        for x_t in x.unbind(1):
            o_t, state = model.step(x_t, state)
            outputs.append(o_t)
        torch.testing.assert_close(torch.stack(outputs, 1), model(x), atol=0.01, rtol=0.01)


# ---- storage ----


@every_module
def test_the_fixed_matrices_are_neither_parameters_nor_in_the_state_dict(name):
    module = build(name)
    module(signal())
    names = [*module.state_dict(), *(name for name, _ in module.named_parameters())]
    assert not [name for name in names if "memory" in name or "_bar" in name]


@every_network
def test_a_state_dict_restores_the_outputs_to_the_bit(name):
    module, other, x = build(name), build(name), signal()
    for weight in other.parameters():
        nn.init.normal_(weight)
    stored = io.BytesIO()
    torch.save(module.state_dict(), stored)
    stored.seek(0)
    other.load_state_dict(torch.load(stored, weights_only=True), strict=True)
    assert torch.equal(other(x), module(x))


@every_network
def test_safetensors_restore_the_outputs_to_the_bit(name):
    module, other, x = build(name), build(name), signal()
    for weight in other.parameters():
        nn.init.normal_(weight)
    other.load_state_dict(load(save(module.state_dict())), strict=True)
    assert torch.equal(other(x), module(x))


@every_module
def test_a_deep_copy_gives_the_same_and_shares_nothing(name):
    module, x = build(name), signal()
    wanted = module(x)
    twin = copy.deepcopy(module)
    for tensor in [*module.parameters(), *module.buffers()]:
        tensor.data.zero_()
    assert torch.equal(twin(x), wanted)
    assert torch.equal(twin.double().float()(x), wanted)


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


@every_module
def test_a_module_built_on_the_meta_device_runs_there_and_can_be_brought_back(name):
    with torch.device("meta"):
        module = build(name)
        assert module(torch.ones(2, 70, 2)).is_meta
    module.to_empty(device="cpu").load_state_dict(build(name).state_dict())
    assert torch.equal(module(signal()), build(name)(signal()))


# ---- running ----


@every_module
def test_an_input_is_never_modified_and_two_runs_are_equal_to_the_bit(name):
    module, x = build(name), signal()
    before = x.clone()
    first, second = module(x), module(x)
    assert torch.equal(x, before)
    assert torch.equal(first, second)


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


@every_module
@pytest.mark.parametrize("mode", ["fft", "chunked"])
def test_a_module_first_run_in_inference_mode_can_be_trained_after(name, mode):
    module, x = build(name), signal().requires_grad_()
    options = {} if name == "LMUCell" else {"mode": mode}
    with torch.inference_mode():
        inferred = module(signal(), **options)
    trained = module(x, **options)
    trained.sum().backward()
    assert torch.equal(trained, inferred)
    assert x.grad.isfinite().all()


def test_a_strided_signal_gives_the_same_as_a_contiguous_one():
    memory, u = LegendreMemory(4, 12.0), signal()
    strided = u.transpose(0, 1).contiguous().transpose(0, 1)
    for mode in MODES:
        torch.testing.assert_close(memory(strided, mode), memory(u, mode))


# ---- torch.compile ----


def compiled(call, **options):
    torch.compiler.reset()
    return torch.compile(call, fullgraph=True, **{"backend": "eager", **options})


@pytest.mark.parametrize("starts", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_every_form_of_the_memory_compiles_to_one_graph(mode, starts):
    memory, u = LegendreMemory(4, 12.0), signal(20)
    state = signal(4).mT.contiguous() if starts else None
    torch.testing.assert_close(compiled(memory)(u, mode, state), memory(u, mode, state))


def test_last_and_step_compile_to_one_graph():
    memory, u = LegendreMemory(4, 12.0), signal(20)
    state = compiled(memory.last)(u)
    torch.testing.assert_close(state, memory.last(u))
    torch.testing.assert_close(compiled(memory.step)(u[:, 0], state), memory.step(u[:, 0], state))


@every_network
def test_every_network_compiles_to_one_graph_with_the_same_gradients(name):
    module, x = build(name), signal(5)
    wanted, found = module(x), compiled(module)(x)
    torch.testing.assert_close(found, wanted)
    weights = list(module.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(found.square().sum(), weights),
        torch.autograd.grad(wanted.square().sum(), weights),
    )


def test_a_compiled_network_takes_other_lengths_batches_and_a_mask():
    model = build("LMU")
    run = compiled(model)
    for time, batch in ((8, 2), (13, 2), (13, 1)):
        x, mask = signal(time)[:batch], torch.arange(time).expand(batch, time) >= 3
        torch.testing.assert_close(run(x, mask=mask), model(x, mask=mask))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # raised inside inductor
def test_the_chunked_network_compiles_with_inductor():
    model, x = LMU(1, 3, 1, 4, 12.0), signal(70)[:, :, :1]
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


@pytest.mark.gpu
@every_network
def test_on_cuda_a_network_gives_the_outputs_and_gradients_of_the_cpu(name):
    module, x = build(name).double(), signal().double()
    other = copy.deepcopy(module).cuda()
    wanted, found = module(x), other(x.cuda())
    torch.testing.assert_close(found.cpu(), wanted, atol=1e-11, rtol=0)
    wanted.square().sum().backward()
    found.square().sum().backward()
    for f, w in zip(other.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(f.grad.cpu(), w.grad, atol=1e-10, rtol=1e-10)
