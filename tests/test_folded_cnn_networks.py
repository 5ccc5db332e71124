"""The folded networks: widths, the paper's sizes, how they start, and that they learn.

That they compute the paper's layers stands in test_folded_cnn.py.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from drawing import largest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_folded_cnn import NETS, images_for, net_of, with_drawn_statistics
from torch import nn

from archbook.folded_cnn import (
    GAME_CNNS,
    NOSCOPE_CNNS,
    FoldedNet,
    FoldedResNet18,
    GameCNN,
    NoScopeCNN,
    fold_images,
    folded_cross_entropy,
    folded_width,
    unfold_logits,
)

every_net = pytest.mark.parametrize("name", NETS)
every_kind = pytest.mark.parametrize("kind", ["game", "noscope", "resnet"])


def wide(kind: str, fold: int = 1, round_to: int = 1) -> FoldedNet:
    """Nets of the paper's widths, on the meta device: only their shapes are asked for."""
    with torch.device("meta"):
        return {
            "game": lambda: GameCNN(22, 52, 11, units=1, fold=fold, round_to=round_to),
            "noscope": lambda: NoScopeCNN(
                50, 50, 2, filters=32, dense=32, convs=4, channels=3, fold=fold, round_to=round_to
            ),
            "resnet": lambda: FoldedResNet18(10, fold=fold, round_to=round_to),
        }[kind]()


# ---- widths ----


def test_widths_grow_by_the_square_root_of_the_fold_and_are_cut_off():
    assert [folded_width(32, fold) for fold in (1, 2, 3, 4)] == [32, 45, 55, 64]
    assert [folded_width(8, fold) for fold in (1, 2, 3, 4)] == [8, 11, 13, 16]
    assert [folded_width(16, fold) for fold in (1, 2, 3, 4)] == [16, 22, 27, 32]


def test_widths_are_rounded_up_to_a_multiple():
    assert [folded_width(32, fold, 8) for fold in (1, 2, 3, 4)] == [32, 48, 56, 64]
    assert [folded_width(8, fold, 8) for fold in (1, 2, 3, 4)] == [8, 16, 16, 16]


@pytest.mark.shapes
@settings(max_examples=60)
@given(
    width=st.integers(1, 10**9),
    fold=st.integers(1, 100),
    round_to=st.integers(1, 64),
)
def test_a_width_is_the_largest_whose_square_fits_then_the_next_multiple(width, fold, round_to):
    cut = folded_width(width, fold)
    assert cut**2 <= fold * width**2 < (cut + 1) ** 2
    rounded = folded_width(width, fold, round_to)
    assert rounded % round_to == 0
    assert 0 <= rounded - cut < round_to


@every_kind
def test_rounding_reaches_all_layers_but_the_images_and_the_logits(kind):
    shapes = [value.shape for value in wide(kind, 3, 8).parameters() if value.ndim > 1]
    assert shapes[0][1] == 9
    assert shapes[-1][0] == 3 * wide(kind).classes
    inner = [shape[0] for shape in shapes[:-1]] + [shape[1] for shape in shapes[1:]]
    assert all(size % 8 == 0 for size in inner)
    unrounded = [value.shape[0] for value in wide(kind, 3).parameters() if value.ndim > 1]
    assert any(size % 8 for size in unrounded[:-1])


# ---- the paper's sizes ----


def parameters(net: nn.Module) -> int:
    return sum(value.numel() for value in net.parameters())


@pytest.mark.parametrize(
    ("name", "plain", "folded"),
    [
        ("lol-gold1", 33_867, 150_268),
        ("apex-count", 33_086, 143_976),
        ("sot-coin", 32_887, 142_412),
        ("sot-time", 60_451, 251_708),
        ("coral", 1_283_154, 5_135_048),
        ("taipei", 1_318_818, 5_282_120),
        ("roundabout", 360_578, 1_445_576),
    ],
)
def test_the_papers_nets_have_as_many_parameters_at_folds_1_and_4(name, plain, folded):
    kind, sizes = (GameCNN, GAME_CNNS) if name in GAME_CNNS else (NoScopeCNN, NOSCOPE_CNNS)
    assert parameters(kind(**sizes[name])) == plain
    assert parameters(kind(**sizes[name], fold=4)) == folded


def test_a_resnet_18_for_ten_classes_has_11173962_parameters():
    assert parameters(wide("resnet")) == 11_173_962


def test_the_layers_of_a_game_net_are_those_of_the_authors_in_their_order():
    net = GameCNN(**GAME_CNNS["sot-time"], fold=2)
    kinds = [type(part).__name__ for part in net.body]
    conv = ["Conv2d", "ReLU"]
    unit = [*conv * 3, "MaxPool2d"]
    assert kinds == [*conv, "MaxPool2d", *unit * 2, *conv, "MaxPool2d", "Flatten"]
    shapes = [tuple(part.weight.shape[:2]) for part in net.body if isinstance(part, nn.Conv2d)]
    assert shapes == [(45, 6), *[(45, 45)] * 6, (11, 45)]
    assert net.head.weight.shape == (54, 11 * 2 * 4)


@pytest.mark.parametrize("fold", [1, 4])
def test_other_filters_and_convs_change_the_widths_and_the_units_alone(fold):
    net = GameCNN(22, 52, 11, units=2, fold=fold, filters=22, convs=1)
    shapes = [tuple(part.weight.shape[:2]) for part in net.body if isinstance(part, nn.Conv2d)]
    c, e = folded_width(22, fold), folded_width(5, fold)  # a quarter, cut off
    assert shapes == [(c, 3 * fold), (c, c), (c, c), (e, c)]
    assert sum(isinstance(part, nn.MaxPool2d) for part in net.body) == 4
    assert net(torch.ones(1, 3 * fold, 22, 52)).shape == (1, 11 * fold)


@pytest.mark.parametrize(
    ("build", "height", "width"),
    [
        (lambda h, w: GameCNN(h, w, 2, units=1), 11, 11),
        (lambda h, w: GameCNN(h, w, 2, units=3), 19, 19),
        (lambda h, w: NoScopeCNN(h, w, 2, filters=1, dense=1), 2, 2),
        (lambda h, w: NoScopeCNN(h, w, 2, filters=1, dense=1, convs=4), 4, 4),
    ],
)
def test_the_smallest_image_is_one_pixel_at_the_end(build, height, width):
    net = build(height, width)
    assert net(torch.ones(1, 3, height, width)).shape == (1, 2)
    with pytest.raises(ValueError, match=f"height to be at least {height} .*, given {height - 1}"):
        build(height - 1, width)
    with pytest.raises(ValueError, match=f"width to be at least {width} .*, given {width - 1}"):
        build(height, width - 1)


def test_a_printed_net_names_its_sizes():
    text = "channels=2, height=5, width=7, classes=3, fold=2"
    assert text in repr(NETS["noscope"](2))


# ---- a fold of one ----


def test_a_fold_of_one_is_the_ordinary_cnn():
    net = net_of("noscope")
    x = images_for(net, 3)
    w = list(net.parameters())
    y = F.relu(F.conv2d(x, w[0], w[1], padding=1))
    y = F.max_pool2d(F.relu(F.conv2d(y, w[2], w[3], padding=1)), 2)
    y = F.linear(F.relu(F.linear(y.flatten(1), w[4], w[5])), w[6], w[7])
    found = unfold_logits(net(fold_images(x, 1)), 1)
    assert torch.equal(found, net(x))
    assert largest(found, y) < 1e-12


# ---- how they start ----


def test_weights_start_as_the_authors_do():
    net = NoScopeCNN(20, 20, 10, filters=32, dense=64)
    for part in net.modules():
        if isinstance(part, nn.Conv2d):
            fans = 9 * (part.in_channels + part.out_channels)
            bound = math.sqrt(2) * math.sqrt(6 / fans)
            assert 0.97 * bound < part.weight.abs().max() <= bound
        if isinstance(part, nn.Linear):
            assert part.weight.std().item() == pytest.approx(0.01, rel=0.1)
        if isinstance(part, nn.Conv2d | nn.Linear):
            assert (part.bias == 0).all()


def test_parameters_can_be_drawn_anew_batch_norm_included():
    net = with_drawn_statistics(FoldedResNet18(3, 4)).float()
    net.reset_parameters()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert (part.weight == 1).all()
            assert (part.bias == 0).all()
            assert (part.running_mean == 0).all()
            assert (part.running_var == 1).all()
    assert net.head.weight.abs().max() < 0.06


# ---- gradients, and it learns ----


def test_the_gradients_equal_finite_differences():
    net = with_drawn_statistics(NoScopeCNN(4, 4, 2, filters=2, dense=3, channels=1, fold=2))
    x = images_for(net, 4).requires_grad_()

    def answers(x, *_):
        return unfold_logits(net(fold_images(x, 2)), 2)

    assert torch.autograd.gradcheck(answers, (x, *net.parameters()))


@every_net
def test_every_weight_of_a_folded_net_has_a_gradient(name):
    net = net_of(name, 2).train()
    net(fold_images(images_for(net, 8), 2)).square().sum().backward()
    assert all(value.grad is not None and value.grad.any() for value in net.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["noscope", "resnet"])
def test_a_handful_of_folded_images_gets_its_labels(name):
    net = with_drawn_statistics(NETS[name](2)).float().train()
    x = images_for(net, 8).float()
    labels = torch.tensor([0, 2, 1, 0, 1, 2, 2, 0])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)

    def loss_of():
        return folded_cross_entropy(net(fold_images(x, 2)), labels, 2)

    assert loss_of() > 0.5
    for _ in range(40):
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss_of() < 0.1
    assert unfold_logits(net(fold_images(x, 2)), 2).argmax(1).tolist() == labels.tolist()
