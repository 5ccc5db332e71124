"""The folded nets in every dtype, place and form of running that torch knows."""

import pytest
import torch
from drawing import seeded
from plain_folded_cnn import NETS, with_drawn_statistics
from portability import Portability, compiled
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

    def forward(self, images: Tensor) -> Tensor:
        return unfold_logits(self.net(fold_images(images, self.net.fold)), self.net.fold)


MODELS = {
    "game": lambda: Folding(NETS["game"](2)),
    "noscope": lambda: Folding(NETS["noscope"](2)),
    "resnet": lambda: Folding(NETS["resnet"](2)),
    "separate": lambda: Folding(block_diagonal([NETS["noscope"]() for _ in range(2)])),
    "classifier": lambda: FoldedClassifier(NETS["noscope"](2)),
}
every_model = pytest.mark.parametrize("name", MODELS)


def build(name: str, seed: int = 0) -> nn.Module:
    """The model in float32 and evaluation, with weights that hide no path."""
    return with_drawn_statistics(MODELS[name](), seed).float()


def net_in(model: nn.Module) -> nn.Module:
    return model.model if isinstance(model, FoldedClassifier) else model.net


def inputs(name: str, images: int = 4) -> Tensor:
    with torch.device("meta"):
        net = net_in(MODELS[name]())
    generator = seeded(1)
    return torch.randn(images, net.channels, net.height, net.width, generator=generator)


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


class TestPortability(Portability):
    models = MODELS
    layouts = (*Portability.layouts, channels_last)

    def build(self, name, seed=6):  # whose ResNet's logits stay near ten
        return build(name, seed)

    def inputs(self, name, form=""):
        return {"images": inputs(name, 5 if name == "classifier" else 4)}  # 5 is no multiple


# ---- dtypes ----


def test_the_loss_under_autocast_is_float32():
    model, x, labels = build("noscope"), inputs("noscope"), torch.tensor([0, 1, 2, 0])
    with torch.autocast("cpu", torch.bfloat16):
        loss = folded_cross_entropy(model.net(fold_images(x, 2)), labels, 2)
    assert loss.dtype == torch.float32


# ---- places ----


def test_a_stream_runs_on_the_meta_device():
    with torch.device("meta"):
        server = MODELS["classifier"]()
    x = inputs("classifier", 3).to("meta")
    assert [len(server.push(x)), len(server.flush())] == [2, 1]


# ---- torch.compile ----


@pytest.mark.compile
def test_a_compiled_classifier_takes_batches_of_other_sizes_and_formats():
    model = build("classifier")
    fast = compiled(model)
    for images in (4, 6, 3, 5):  # the second makes the shape symbolic, the third is no multiple
        x = inputs("classifier", images)
        torch.testing.assert_close(fast(x), model(x))
    torch.testing.assert_close(fast(channels_last(x)), model(x))


@pytest.mark.compile
def test_the_loss_compiles_to_one_graph():
    logits, labels = torch.randn(2, 6), torch.tensor([0, 2, 1, 1])
    found = compiled(folded_cross_entropy)(logits, labels, 2)
    torch.testing.assert_close(found, folded_cross_entropy(logits, labels, 2))


@pytest.mark.compile
def test_a_compiled_net_can_be_served():
    model = build("noscope").net
    server = FoldedClassifier(compiled(model))
    x = inputs("noscope", 3)
    torch.testing.assert_close(server(x), FoldedClassifier(model)(x))


@pytest.mark.compile
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
def test_on_cuda_a_channels_last_model_in_half_precision_stays_near_the_cpu(name):
    model, x = build(name), inputs(name)
    wanted = model(x)
    fast = model.cuda().to(torch.float16, memory_format=torch.channels_last)
    found = fast(channels_last(x.cuda().half()))
    torch.testing.assert_close(found.cpu().float(), wanted, atol=0.02, rtol=0.02)


@pytest.mark.gpu
def test_on_cuda_a_stream_waits_on_the_gpu():
    server = build("classifier").cuda()
    x = inputs("classifier", 3).cuda()
    answers = torch.cat([server.push(x), server.flush()])
    torch.testing.assert_close(answers, server(x))
