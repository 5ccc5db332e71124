"""FLOPs, bytes, intensity: the paper's tables to the printed digit, torch's counter, formulas."""

import dataclasses
import math

import pytest
import torch
from plain_folded_cnn import NETS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from archbook.folded_cnn import (
    GAME_CNNS,
    NOSCOPE_CNNS,
    FoldedNet,
    FoldedResNet18,
    GameCNN,
    NoScopeCNN,
    cost,
)

# net: intensity at N = 1024 and fold 1 to 4, then FLOPs of one group of f images
PAPER = {
    "lol-gold1": (
        ("87.33", "126.73", "158.38", "187.79"),
        (16_654_512, 34_552_752, 53_426_934, 74_548_608),
        ("1.0373", "1.0693", "1.1190"),
    ),
    "apex-count": (
        ("88.63", "128.36", "160.12", "189.44"),
        (7_119_552, 14_753_616, 22_795_542, 31_778_304),
        ("1.0361", "1.0673", "1.1159"),
    ),
    "sot-coin": (
        ("88.15", "127.79", "159.55", "188.97"),
        (10_053_888, 20_845_380, 32_219_460, 44_931_072),
        ("1.0367", "1.0682", "1.1173"),
    ),
    "sot-time": (
        ("102.27", "146.46", "181.30", "213.03"),
        (14_470_272, 29_558_304, 45_220_248, 62_456_832),
        ("1.0213", "1.0417", "1.0791"),
    ),
    "coral": (
        ("58.70", "82.44", "101.34", "118.75"),
        (16_240_512, 32_698_948, 51_201_402, 73_604_096),
        ("1.0067", "1.0509", "1.1330"),
    ),
    "night": (
        ("58.70", "82.44", "101.34", "118.75"),
        (16_240_512, 32_698_948, 51_201_402, 73_604_096),
        ("1.0067", "1.0509", "1.1330"),
    ),
    "taipei": (
        ("185.16", "262.37", "321.82", "374.64"),
        (195_520_128, 393_862_860, 596_613_160, 816_641_024),
        ("1.0072", "1.0171", "1.0442"),
    ),
    "roundabout": (
        ("151.52", "214.13", "262.52", "305.94"),
        (120_109_952, 241_129_260, 364_330_560, 497_720_320),
        ("1.0038", "1.0111", "1.0360"),
    ),
}
FOLDS = (1, 2, 3, 4)
every_paper_net = pytest.mark.parametrize("name", PAPER)
every_net = pytest.mark.parametrize("name", NETS)


def paper_net(name: str, fold: int = 1) -> FoldedNet:
    with torch.device("meta"):  # no weights to draw
        if name in GAME_CNNS:
            return GameCNN(**GAME_CNNS[name], fold=fold)
        return NoScopeCNN(**NOSCOPE_CNNS[name], fold=fold)


class OneConv(FoldedNet):
    """A single convolution channels -> outputs without bias, as the page derives it."""

    def __init__(self, channels, outputs, height=10, width=25, groups=1):
        super().__init__(channels, height, width, classes=1, fold=1)
        conv = nn.Conv2d(channels, outputs, 3, padding=1, bias=False, groups=groups)
        self.body = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(outputs, 1)


# ---- the paper's tables ----


@every_paper_net
def test_the_table_of_intensities_is_the_papers_to_the_printed_digit(name):
    found = tuple(f"{cost(paper_net(name, fold), 1024).intensity:.2f}" for fold in FOLDS)
    assert found == PAPER[name][0]


@every_paper_net
def test_the_table_of_flops_is_exact(name):
    flops = [cost(paper_net(name, fold), fold).flops for fold in FOLDS]
    assert tuple(flops) == PAPER[name][1]
    assert all(isinstance(count, int) for count in flops)
    ratios = (n / (fold * flops[0]) for fold, n in zip(FOLDS[1:], flops[1:], strict=True))
    assert tuple(f"{ratio:.4f}" for ratio in ratios) == PAPER[name][2]


@pytest.mark.parametrize(
    ("name", "one", "many", "limit"),
    [
        ("lol-gold1", "64.60", "87.33", "87.36"),
        ("coral", "5.74", "58.70", "59.24"),
        ("taipei", "53.04", "185.16", "185.61"),
    ],
)
def test_more_images_raise_the_intensity_to_its_limit(name, one, many, limit):
    net = paper_net(name)
    found = (cost(net, 1).intensity, cost(net, 1024).intensity, cost(net, 7).intensity_limit)
    assert tuple(f"{value:.2f}" for value in found) == (one, many, limit)


def test_activation_bytes_an_image_are_the_papers():
    found = [cost(paper_net("lol-gold1", fold), fold).activation_bytes / fold for fold in FOLDS]
    assert found == [191_350, 136_533, 112_460, 99_118]
    assert cost(paper_net("coral"), 1).activation_bytes == 275_516
    assert cost(paper_net("coral", 4), 1).activation_bytes == 145_260


class Downscaled(FoldedNet):
    """The authors' baseline: a game net that is narrower, shallower and sees less (EfficientNet).

    Width / 1.1, resolution / 1.15, and, as in their code, depth / 1.1 where 1.2 was meant: with the
    last convolution gone, its pool goes, too.
    """

    def __init__(self, height, width, classes, units):
        super().__init__(3, int(height / 1.15), int(width / 1.15), classes=classes, fold=1)
        c, convs = int(32 / 1.1), int((2 + 3 * units) / 1.1)
        assert convs == 1 + 3 * units
        parts = [nn.Conv2d(3, c, 3, padding=1), nn.MaxPool2d(3, 2)]
        for _ in range(units):
            parts += [*(nn.Conv2d(c, c, 3, padding=1) for _ in range(3)), nn.MaxPool2d(3, 1)]
        self.body = nn.Sequential(*parts, nn.Flatten())
        features = self.body(torch.zeros(1, 3, self.height, self.width)).shape[1]
        self.head = nn.Linear(features, classes)


@pytest.mark.parametrize(
    ("name", "intensity"),
    [("lol-gold1", "79.24"), ("apex-count", "77.90"), ("sot-coin", "76.87"), ("sot-time", "93.00")],
)
def test_scaling_a_net_down_lowers_its_intensity_as_in_the_papers_table(name, intensity):
    """Their script divides the 1024 images by its `fold`, which is 2 for this column."""
    assert f"{cost(Downscaled(**GAME_CNNS[name]), 512).intensity:.2f}" == intensity


# ---- independent counts ----


@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize("name", [*PAPER, "resnet"])
def test_flops_equal_those_of_torchs_counter(name, fold):
    with torch.device("meta"):
        net = FoldedResNet18(10, fold=fold) if name == "resnet" else paper_net(name, fold)
        group = torch.empty(1, fold * 3, net.height, net.width)
    with FlopCounterMode(display=False) as counter:
        net(group)
    assert cost(net, fold).flops == counter.get_total_flops()


def game_layers(height, width, classes, units, fold):
    """(outputs of a channel, k^2, inputs, outputs) of every layer, from the paper's list."""
    c, e, layers = int(32 * fold**0.5), int(8 * fold**0.5), []
    layers.append((height * width, 9, 3 * fold, c))
    height, width = (height - 3) // 2 + 1, (width - 3) // 2 + 1
    for _ in range(units):
        layers += [(height * width, 9, c, c)] * 3
        height, width = height - 2, width - 2
    layers.append((height * width, 9, c, e))
    height, width = (height - 3) // 2 + 1, (width - 3) // 2 + 1
    return [*layers, (1, 1, e * height * width, fold * classes)]


@pytest.mark.shapes
@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize("name", GAME_CNNS)
def test_every_layer_costs_what_the_formulas_say(name, fold):
    """FLOPs = 2 N HW k^2 Ci Co (+ N HW Co), bytes = b [N HW (Ci + Co) + k^2 Ci Co]."""
    found, groups = cost(paper_net(name, fold), 5 * fold, torch.float32), 5
    wanted = game_layers(**GAME_CNNS[name], fold=fold)
    for layer, (pixels, k2, c_in, c_out) in zip(found.layers, wanted, strict=True):
        assert layer.flops == 2 * groups * pixels * k2 * c_in * c_out
        assert layer.bias_flops == groups * pixels * c_out
        assert layer.activation_bytes == 4 * groups * pixels * (c_in + c_out)
        assert layer.weight_bytes == 4 * k2 * c_in * c_out
        assert layer.bytes == layer.activation_bytes + layer.weight_bytes
        assert layer.intensity == (layer.flops + layer.bias_flops) / layer.bytes
        assert layer.images == 5 * fold


def test_layers_are_named_and_summed():
    found = cost(paper_net("coral", 2), 1024)
    assert [layer.name for layer in found.layers] == ["body.0", "body.2", "body.6", "head"]
    for key in ("flops", "bias_flops", "activation_bytes", "weight_bytes", "bytes"):
        assert getattr(found, key) == sum(getattr(layer, key) for layer in found.layers)
    mean = sum(layer.intensity for layer in found.layers) / 4
    assert found.intensity == (found.flops + found.bias_flops) / found.bytes
    assert abs(found.intensity - mean) > 1  # a ratio of sums is no mean of ratios


def test_layers_without_bias_and_grouped_ones_are_counted_as_such():
    plain, grouped = (cost(OneConv(8, 8, groups=groups), 3).layers[0] for groups in (1, 4))
    assert plain.bias_flops == grouped.bias_flops == 0
    assert plain.flops == 4 * grouped.flops
    assert plain.weight_bytes == 4 * grouped.weight_bytes
    assert plain.activation_bytes == grouped.activation_bytes


def test_images_are_counted_singly_also_where_the_fold_does_not_divide_them():
    net = paper_net("lol-gold1", 3)
    one, three, thousand = (cost(net, images) for images in (1, 3, 1000))
    assert three.flops == 53_426_934
    assert one.flops == 53_426_934 // 3  # a whole number, by chance
    assert thousand.flops == pytest.approx(1000 * three.flops / 3, rel=1e-12)
    assert one.weight_bytes == three.weight_bytes == thousand.weight_bytes
    assert isinstance(three.bias_flops, int)
    assert cost(net, 4).bias_flops == pytest.approx(4 * three.bias_flops / 3, rel=1e-12)


def test_the_dtype_changes_the_bytes_alone():
    half, single = (cost(paper_net("coral"), 9, dtype) for dtype in (torch.half, torch.float))
    assert cost(paper_net("coral"), 9) == half
    assert single.flops == half.flops
    assert single.bytes == 2 * half.bytes
    assert single.intensity == half.intensity / 2
    assert cost(paper_net("coral"), 9, torch.int8).bytes == half.bytes / 2


@pytest.mark.slow
@every_net
def test_counting_runs_nothing_and_leaves_the_model_as_it_was(name):
    net = NETS[name](2).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    first = cost(net, 8)
    assert cost(net, 8) == first
    after = net.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert not any(part._forward_hooks for part in net.modules())
    assert net.double().eval() is net
    assert cost(net, 8) == first


def test_a_model_that_fails_keeps_no_hooks():
    net = NETS["noscope"]()
    net.body.append(nn.Linear(99, 1))
    with pytest.raises(RuntimeError):
        cost(net, 1)
    assert not any(part._forward_hooks for part in net.modules())


# ---- limits, half-points, the best fold, the ratio of FLOPs ----


@pytest.mark.parametrize(("channels", "limit"), [(32, 144.0), (16, 72.0)])
def test_the_limit_of_a_3x3_convolution_is_k2_c_over_b(channels, limit):
    conv = cost(OneConv(channels, channels), 3).layers[0]
    assert conv.intensity_limit == limit
    assert cost(OneConv(channels, channels), 10**7).layers[0].intensity == pytest.approx(limit)


@pytest.mark.parametrize("fold", [1, 4])
@every_paper_net
def test_at_n_half_the_intensity_is_half_of_its_limit(name, fold):
    net = paper_net(name, fold)
    half = cost(net, 1024).half_images
    assert cost(net, 10).half_images == pytest.approx(half, rel=1e-12)
    flops, activations = (getattr(cost(net, fold), k) / fold for k in ("flops", "activation_bytes"))
    flops += cost(net, fold).bias_flops / fold
    at_half = flops * half / (activations * half + cost(net, 1).weight_bytes)
    assert at_half == pytest.approx(cost(net, 1).intensity_limit / 2, rel=1e-12)


def test_convolutions_are_half_way_at_one_image_and_dense_layers_at_a_hundred():
    conv = cost(OneConv(32, 32), 1).layers[0]
    assert conv.half_images == pytest.approx(9 * 32 / (2 * 250))  # k^2 C / (2 HW) = 0.58
    assert cost(paper_net("coral"), 1).layers[2].half_images == pytest.approx(1.28e6 / 10_128)


@pytest.mark.parametrize("images", [1, 64, 1024])
def test_the_best_fold_moves_the_fewest_bytes(images):
    conv = cost(OneConv(32, 32), images).layers[0]
    f = conv.best_fold
    assert f == pytest.approx((images * 250 / (9 * 32)) ** (2 / 3))

    def moved(fold):
        return conv.activation_bytes / math.sqrt(fold) + fold * conv.weight_bytes

    assert moved(f) < min(moved(0.99 * f), moved(1.01 * f))


@every_paper_net
def test_folding_by_4_leaves_a_quarter_of_the_best_fold_to_a_middle_layer(name):
    plain, folded = (cost(paper_net(name, fold), 1024).layers[1] for fold in (1, 4))
    assert folded.best_fold == pytest.approx(plain.best_fold / 4, rel=1e-12)


@pytest.mark.parametrize("fold", [2, 3, 4, 9, 16])
@pytest.mark.parametrize("images", [1, 16, 1024])
def test_a_middle_layer_gains_at_most_the_square_root_of_the_fold(images, fold):
    plain, folded = (cost(paper_net("sot-time", f), images).layers[2] for f in (1, fold))
    assert folded.intensity < math.sqrt(fold) * plain.intensity


def test_where_weights_are_most_of_the_bytes_folding_loses():
    """One image, a dense layer of 10,000 x 128: N H W is far below k^2 C."""
    plain, folded = (cost(paper_net("coral", fold), 1).layers[2] for fold in (1, 4))
    assert folded.intensity < 0.3 * plain.intensity
    plain, folded = (cost(paper_net("coral", fold), 10**5).layers[2] for fold in (1, 4))
    assert folded.intensity > 1.9 * plain.intensity


@pytest.mark.parametrize("fold", [4, 9, 16])
@every_paper_net
def test_middle_layers_cost_the_same_at_square_folds(name, fold):
    plain, folded = (cost(paper_net(name, f), fold) for f in (1, fold))
    middle = [layer.flops for layer in folded.layers[1:-1]]
    assert middle == [layer.flops for layer in plain.layers[1:-1]]
    for edge in (0, -1):
        assert folded.layers[edge].flops == math.isqrt(fold) * plain.layers[edge].flops


@pytest.mark.slow
@pytest.mark.parametrize("fold", [1, 4, 9, 16])
@pytest.mark.parametrize("name", [*PAPER, "resnet"])
def test_the_ratio_of_flops_is_the_formula_at_square_folds(name, fold):
    if name == "resnet":
        plain, folded = (cost(FoldedResNet18(10, 16, f), fold) for f in (1, fold))
    else:
        plain, folded = (cost(paper_net(name, f), fold) for f in (1, fold))
    assert plain.flops_ratio(fold) == pytest.approx(folded.flops / plain.flops, rel=1e-9)


def test_the_edges_of_coral_are_an_eighth_of_its_work():
    assert f"{cost(paper_net('coral'), 1).flops_ratio(4):.4f}" == "1.1330"


# ---- the roofline ----


def test_below_the_ridge_bandwidth_limits_and_above_it_arithmetic():
    conv = cost(OneConv(32, 32), 10**6).layers[0]  # 144 FLOPs a byte
    assert conv.roofline(1e12, 1e9) == pytest.approx(144e9, rel=1e-3)
    assert conv.roofline(1e12, 1e10) == 1e12
    assert conv.roofline(conv.intensity * 1e10, 1e10) == conv.intensity * 1e10


def test_the_ceilings_of_an_h100_are_those_of_the_activations():
    """989 TFLOP/s and 3350 GB/s: millions of images a second for lol-gold1."""

    def ceiling(fold, bandwidth):
        net = dataclasses.replace(cost(paper_net("lol-gold1", fold), 1), weight_bytes=0)
        return net.roofline(989e12, bandwidth) / (net.flops + net.bias_flops) / 1e6

    assert f"{ceiling(1, 3350e9):.1f}" == "17.5"
    assert f"{ceiling(4, 3350e9):.1f}" == "33.8"
    assert f"{ceiling(1, 1e16):.0f}" == "59"
