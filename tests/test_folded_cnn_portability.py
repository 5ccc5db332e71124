"""The folded nets in every dtype, place and form of running that torch knows."""

import copy
import io

import pytest
import torch
from safetensors.torch import load, save
from slow_folded_cnn import NETS, order_one
from torch import Tensor, nn

from archbook.folded_cnn import (
    FoldedClassifier,
    block_diagonal,
    fold_images,
    folded_cross_entropy,
    unfold_logits,
)


class Folding(nn.Module):
    """A net between its fold and unfold, so that all models take single images."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return unfold_logits(self.net(fold_images(x, self.net.fold)), self.net.fold)


MODELS = {
    "game": lambda: Folding(NETS["game"](2)),
    "noscope": lambda: Folding(NETS["noscope"](2)),
    "resnet": lambda: Folding(NETS["resnet"](2)),
    "separate": lambda: Folding(block_diagonal([NETS["noscope"]() for _ in range(2)])),
    "classifier": lambda: FoldedClassifier(NETS["noscope"](2)),
}
every_model = pytest.mark.parametrize("name", MODELS)


def build(name: str) -> nn.Module:
    """The model in float32 and evaluation, with weights that hide no path."""
    return order_one(MODELS[name]()).float()


def net_in(model: nn.Module) -> nn.Module:
    return model.model if isinstance(model, FoldedClassifier) else model.net


def inputs(name: str, images: int = 4) -> Tensor:
    with torch.device("meta"):
        net = net_in(MODELS[name]())
    generator = torch.Generator().manual_seed(1)
    return torch.randn(images, net.channels, net.height, net.width, generator=generator)


def gradients(model: nn.Module, out: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(out.float().square().sum(), list(model.parameters()))


# ---- dtypes ----


@every_model
def test_float64_in_gives_float64_out_near_float32(name):
    model, x = build(name), inputs(name)
    wanted = model(x)
    found = model.double()(x.double())
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), wanted, atol=1e-4, rtol=1e-4)


@every_model
def test_the_default_dtype_is_followed(name):
    torch.set_default_dtype(torch.float64)
    try:
        model = MODELS[name]()
    finally:
        torch.set_default_dtype(torch.float32)
    assert model(inputs(name).double()).dtype == torch.float64


@every_model
def test_a_bfloat16_model_stays_near_the_float32_one(name):
    model, x = build(name), inputs(name).bfloat16()
    wanted = model(x.float())
    found = model.bfloat16()(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, atol=0.1, rtol=0.1)


@every_model
def test_under_autocast_a_model_stays_near_the_float32_one_and_trains(name):
    model, x = build(name), inputs(name)
    wanted = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, atol=0.1, rtol=0.1)
    assert all(grad.isfinite().all() for grad in gradients(model, found))


def test_the_loss_under_autocast_is_float32():
    model, x, labels = build("noscope"), inputs("noscope"), torch.tensor([0, 1, 2, 0])
    with torch.autocast("cpu", torch.bfloat16):
        loss = folded_cross_entropy(model.net(fold_images(x, 2)), labels, 2)
    assert loss.dtype == torch.float32


# ---- storage ----


@every_model
def test_safetensors_restore_the_outputs_to_the_bit(name):
    model, other, x = build(name), build(name), inputs(name)
    for weight in other.parameters():
        nn.init.normal_(weight)
    other.load_state_dict(load(save(model.state_dict())), strict=True)
    assert torch.equal(other(x), model(x))


@every_model
def test_a_state_dict_restores_the_outputs_to_the_bit(name):
    model, other, x = build(name), build(name), inputs(name)
    for weight in other.parameters():
        nn.init.normal_(weight)
    stored = io.BytesIO()
    torch.save(model.state_dict(), stored)
    stored.seek(0)
    other.load_state_dict(torch.load(stored, weights_only=True), strict=True)
    assert torch.equal(other(x), model(x))


@every_model
def test_a_deep_copy_gives_the_same_and_shares_nothing(name):
    model, x = build(name), inputs(name)
    wanted = model(x)
    twin = copy.deepcopy(model)
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data.zero_()
    assert torch.equal(twin(x), wanted)


# ---- places ----


@every_model
def test_a_model_built_on_the_meta_device_runs_there_and_can_be_brought_back(name):
    with torch.device("meta"):
        model = MODELS[name]().eval()
    x = inputs(name)
    wanted = build(name)(x)
    out = model(x.to("meta"))
    assert out.is_meta
    assert out.shape == wanted.shape
    model.to_empty(device="cpu").load_state_dict(build(name).state_dict())
    assert torch.equal(model(x), wanted)


def test_a_stream_runs_on_the_meta_device():
    with torch.device("meta"):
        server = MODELS["classifier"]()
    x = inputs("classifier", 3).to("meta")
    assert [len(server.push(x)), len(server.flush())] == [2, 1]


# ---- running ----


@every_model
def test_an_input_is_never_modified_and_two_runs_are_equal_to_the_bit(name):
    model, x = build(name), inputs(name)
    before = x.clone()
    assert torch.equal(model(x), model(x))
    assert torch.equal(x, before)


@every_model
def test_a_model_first_run_in_inference_mode_can_be_trained_after(name):
    model = build(name)
    with torch.inference_mode():
        inferred = model(inputs(name))
    trained = model(inputs(name))
    assert torch.equal(trained, inferred)
    assert all(grad.isfinite().all() for grad in gradients(model, trained))


@every_model
def test_strided_and_channels_last_inputs_give_the_same_as_contiguous_ones(name):
    model, x = build(name), inputs(name)
    wanted = model(x)
    for other in (torch.stack([x, x], -1)[..., 0], x.contiguous(memory_format=torch.channels_last)):
        torch.testing.assert_close(model(other), wanted)


# ---- torch.compile ----


def compiled(call, **options):
    torch.compiler.reset()
    return torch.compile(call, fullgraph=True, **{"backend": "eager", **options})


@every_model
def test_every_model_compiles_to_one_graph_with_the_same_gradients(name):
    model, x = build(name), inputs(name)
    wanted, found = model(x), compiled(model)(x)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradients(model, found), gradients(model, wanted))


def test_a_compiled_classifier_takes_batches_of_other_sizes_and_formats():
    model = build("classifier")
    fast = compiled(model)
    for images in (4, 6, 3, 5):  # the second makes the shape symbolic, the third is no multiple
        x = inputs("classifier", images)
        torch.testing.assert_close(fast(x), model(x))
    last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(fast(last), model(x))


def test_the_loss_compiles_to_one_graph():
    logits, labels = torch.randn(2, 6), torch.tensor([0, 2, 1, 1])
    found = compiled(folded_cross_entropy)(logits, labels, 2)
    torch.testing.assert_close(found, folded_cross_entropy(logits, labels, 2))


def test_a_compiled_net_can_be_served():
    model = build("noscope").net
    server = FoldedClassifier(compiled(model))
    x = inputs("noscope", 3)
    torch.testing.assert_close(server(x), FoldedClassifier(model)(x))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # raised inside inductor
def test_the_classifier_compiles_with_inductor():
    model, x = build("classifier"), inputs("classifier", 3)
    wanted = model(x)
    with torch.no_grad():
        found = compiled(model, backend="inductor")(x)
    torch.testing.assert_close(found, wanted)


# ---- CUDA ----


@pytest.mark.gpu
@every_model
def test_on_cuda_a_model_gives_the_outputs_and_gradients_of_the_cpu(name):
    model, x = build(name).double(), inputs(name, 5 if name == "classifier" else 4).double()
    other = copy.deepcopy(model).cuda()
    wanted, found = model(x), other(x.cuda())
    torch.testing.assert_close(found.cpu(), wanted, atol=1e-10, rtol=0)
    wanted.square().sum().backward()
    found.square().sum().backward()
    for f, w in zip(other.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(f.grad.cpu(), w.grad, atol=1e-9, rtol=1e-9)


@pytest.mark.gpu
@every_model
def test_on_cuda_a_channels_last_model_in_half_precision_stays_near_the_cpu(name):
    model, x = build(name), inputs(name)
    wanted = model(x)
    fast = model.cuda().to(torch.float16, memory_format=torch.channels_last)
    found = fast(x.cuda().half().contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found.cpu().float(), wanted, atol=0.02, rtol=0.02)


@pytest.mark.gpu
def test_on_cuda_a_stream_waits_on_the_gpu():
    server = build("classifier").cuda()
    x = inputs("classifier", 3).cuda()
    answers = torch.cat([server.push(x), server.flush()])
    torch.testing.assert_close(answers, server(x))
