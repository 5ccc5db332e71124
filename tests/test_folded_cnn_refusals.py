"""What folding, the nets, their cost and their server refuse, with wanted and given named."""

import pytest
import torch
from refusals import INF, NAN, each_raises, spoiled
from torch import nn

from archbook.checks import value_checks
from archbook.folded_cnn import (
    FoldedClassifier,
    FoldedResNet18,
    GameCNN,
    NoScopeCNN,
    block_diagonal,
    cost,
    curriculum_classes,
    fold_images,
    folded_cross_entropy,
    folded_width,
    unfold_logits,
)

ones = torch.ones


# ---- folding ----

x, logits = ones(6, 3, 4, 5), ones(2, 6)
labels = torch.zeros(4, dtype=torch.int64)


def loss(labels, logits=logits, fold=2):
    return folded_cross_entropy(logits, labels, fold)


test_folding_refuses = each_raises(
    [
        (lambda: fold_images(x, 0), ValueError, "fold to be at least 1, given 0"),
        (lambda: fold_images(x, -2), ValueError, "fold to be at least 1, given -2"),
        (lambda: fold_images(x, 2.0), TypeError, "fold to be an int, given 2.0 of type float"),
        (lambda: fold_images(x, True), TypeError, "fold to be an int, given True of type bool"),
        (lambda: fold_images(x, 4), ValueError, "images divisible by fold = 4, given 6"),
        (lambda: fold_images(x[:1], 2), ValueError, "images divisible by fold = 2, given 1"),
        (lambda: fold_images([1], 2), TypeError, "x to be a tensor, given list"),
        (
            lambda: fold_images(x[0], 2),
            ValueError,
            r"\(batch, channels, height, width\), given \(3",
        ),
        (lambda: fold_images(x[:0], 2), ValueError, "no axis may be empty"),
        (lambda: fold_images(x[:, :0], 2), ValueError, "no axis may be empty"),
        (lambda: unfold_logits(logits, 0), ValueError, "fold to be at least 1, given 0"),
        (lambda: unfold_logits(logits, 1.5), TypeError, "fold to be an int, given 1.5"),
        (lambda: unfold_logits(logits, 4), ValueError, "logits divisible by fold = 4, given 6"),
        (lambda: unfold_logits(x, 2), ValueError, r"logits to have shape \(groups, fold \* cl"),
        (lambda: unfold_logits(ones(0, 6), 2), ValueError, "no axis may be empty"),
        (lambda: unfold_logits(None, 2), TypeError, "logits to be a tensor, given NoneType"),
    ]
)


test_the_loss_refuses = each_raises(
    [
        (lambda: loss(labels[:3]), ValueError, r"labels to have shape \(4\), given \(3,\)"),
        (lambda: loss(labels[:2]), ValueError, r"labels to have shape \(4\), given \(2,\)"),
        (lambda: loss(labels.view(2, 2)), ValueError, r"labels .*\(4\), given \(2, 2\)"),
        (lambda: loss([0] * 4), TypeError, "labels to be a tensor, given list"),
        (lambda: loss(labels.int()), TypeError, "labels to be torch.int64, given torch.int32"),
        (lambda: loss(labels.float()), TypeError, "labels to be torch.int64, given torch.float32"),
        (lambda: loss(labels.to("meta")), ValueError, "labels to be on cpu, .* on meta"),
        (lambda: loss(labels + 3), ValueError, r"labels to lie in \[0, 2\], given 3 to 3"),
        (lambda: loss(labels - 1), ValueError, r"labels to lie in \[0, 2\], given -1 to -1"),
        (lambda: loss(labels - 100), ValueError, r"labels to lie in \[0, 2\], given -100"),
        (lambda: loss(labels, fold=4), ValueError, "logits divisible by fold = 4, given 6"),
    ]
)


def test_labels_are_not_read_where_value_checks_are_off():
    """torch itself ignores the label -100."""
    with value_checks(False):
        assert loss(torch.tensor([-100, 0, 0, 0])).isfinite()


# ---- constructors ----


test_constructors_and_schedules_refuse = each_raises(
    [
        (lambda: GameCNN(0, 52, 11, units=1), ValueError, "height to be at least 1, given 0"),
        (lambda: GameCNN(22, 52.0, 11, units=1), TypeError, "width to be an int, given 52.0"),
        (lambda: GameCNN(22, 52, 0, units=1), ValueError, "classes to be at least 1, given 0"),
        (lambda: GameCNN(22, 52, 11, units=0), ValueError, "units to be at least 1, given 0"),
        (
            lambda: GameCNN(22, 52, 11, units=1, fold=0),
            ValueError,
            "fold to be at least 1, given 0",
        ),
        (lambda: GameCNN(22, 52, 11, units=1, fold=2.0), TypeError, "fold to be an int, given 2.0"),
        (
            lambda: GameCNN(22, 52, 11, units=1, fold=2, round_to=0),
            ValueError,
            "round_to to be at least 1, given 0",
        ),
        (
            lambda: GameCNN(22, 52, 11, units=1, filters=3),
            ValueError,
            "filters to be at least 4,.*given 3",
        ),
        (
            lambda: GameCNN(22, 52, 11, units=1, filters=8.0),
            TypeError,
            "filters to be an int, given 8.0",
        ),
        (
            lambda: GameCNN(22, 52, 11, units=1, convs=0),
            ValueError,
            "convs to be at least 1, given 0",
        ),
        (lambda: GameCNN(10, 52, 11, units=1), ValueError, "height to be at least 11 .*, given 10"),
        (lambda: GameCNN(22, 10, 11, units=1), ValueError, "width to be at least 11 .*, given 10"),
        (lambda: GameCNN(14, 52, 11, units=2), ValueError, "height to be at least 15 .*, given 14"),
        (
            lambda: NoScopeCNN(1, 9, 2, filters=4, dense=4),
            ValueError,
            "height to be at least 2 .*, given 1",
        ),
        (
            lambda: NoScopeCNN(9, 3, 2, filters=4, dense=4, convs=4),
            ValueError,
            "width to be at least 4 .*, given 3",
        ),
        (
            lambda: NoScopeCNN(9, 9, 2, filters=4, dense=4, convs=3),
            ValueError,
            "convs to be 2 or 4, given 3",
        ),
        (
            lambda: NoScopeCNN(9, 9, 2, filters=0, dense=4),
            ValueError,
            "filters to be at least 1, given 0",
        ),
        (
            lambda: NoScopeCNN(9, 9, 2, filters=4, dense=0),
            ValueError,
            "dense to be at least 1, given 0",
        ),
        (
            lambda: NoScopeCNN(9, 9, 2, filters=4, dense=4, channels=0),
            ValueError,
            "channels to be at least 1",
        ),
        (
            lambda: NoScopeCNN(9, 9, 2, filters=4, dense=4, fold=0),
            ValueError,
            "fold to be at least 1, given 0",
        ),
        (lambda: FoldedResNet18(0), ValueError, "classes to be at least 1, given 0"),
        (lambda: FoldedResNet18(10, 0), ValueError, "filters to be at least 1, given 0"),
        (lambda: FoldedResNet18(10, 8, 1.0), TypeError, "fold to be an int, given 1.0"),
        (
            lambda: FoldedResNet18(10, 8, 2, round_to=-8),
            ValueError,
            "round_to to be at least 1, given -8",
        ),
        (lambda: folded_width(0, 1), ValueError, "width to be at least 1, given 0"),
        (lambda: folded_width(8, 0), ValueError, "fold to be at least 1, given 0"),
        (lambda: folded_width(8, 1, 0), ValueError, "round_to to be at least 1, given 0"),
        (lambda: curriculum_classes(-1, 5, 2), ValueError, "epoch to be at least 0, given -1"),
        (lambda: curriculum_classes(1.0, 5, 2), TypeError, "epoch to be an int, given 1.0"),
        (lambda: curriculum_classes(True, 5, 2), TypeError, "epoch to be an int, given True"),
        (lambda: curriculum_classes(0, 0, 2), ValueError, "classes to be at least 1, given 0"),
        (lambda: curriculum_classes(0, 5, 0), ValueError, "fold to be at least 1, given 0"),
        (
            lambda: curriculum_classes(0, 5, 2, parts=0),
            ValueError,
            "parts to be at least 1, given 0",
        ),
        (
            lambda: curriculum_classes(0, 5, 2, parts=1, gap=0),
            ValueError,
            "gap to be at least 1, given 0",
        ),
    ]
)


# ---- forward ----

net = NoScopeCNN(4, 5, 3, filters=2, dense=2, channels=2, fold=3)
groups = ones(2, 6, 4, 5)


test_a_net_refuses = each_raises(
    [
        (lambda: net([1.0]), TypeError, "x to be a tensor, given list"),
        (lambda: net(ones(6, 2, 4, 5)), ValueError, r"\(groups, 6, 4, 5\), given \(6, 2, 4, 5\)"),
        (lambda: net(ones(2, 9, 4, 5)), ValueError, r"\(groups, 6, 4, 5\), given \(2, 9, 4, 5\)"),
        (lambda: net(ones(2, 6, 5, 4)), ValueError, r"\(groups, 6, 4, 5\), given \(2, 6, 5, 4\)"),
        (lambda: net(groups[0]), ValueError, r"\(groups, 6, 4, 5\), given \(6, 4, 5\)"),
        (lambda: net(groups[:0]), ValueError, "no axis may be empty"),
        (lambda: net(groups.double()), TypeError, "x to be torch.float32 like the weights"),
        (lambda: net(groups.byte()), TypeError, "x to be torch.float32 .*given torch.uint8"),
        (lambda: net(groups.to("meta")), ValueError, "x to be on cpu like the weights"),
        (lambda: net(spoiled(NAN, 2, 6, 4, 5)), ValueError, "x to be finite, given 1 .* of 240"),
        (lambda: net(spoiled(-INF, 2, 6, 4, 5)), ValueError, "x to be finite, given 1 .* of 240"),
    ]
)


test_under_autocast_a_net_still_refuses = each_raises(
    [
        (lambda: net(groups.long()), TypeError, "x to be torch.float32 .*given torch.int64"),
        (lambda: net(ones(2, 2, 4, 5)), ValueError, r"\(groups, 6, 4, 5\), given \(2, 2, 4, 5\)"),
    ],
    under=torch.autocast("cpu", torch.bfloat16),
)


def test_nan_passes_through_where_value_checks_are_off():
    with value_checks(False):
        assert net(spoiled(NAN, 2, 6, 4, 5))[1].isnan().any()
    with pytest.raises(ValueError, match="x to be finite"):
        net(spoiled(NAN, 2, 6, 4, 5))


# ---- separate nets, the server, the cost ----

server = FoldedClassifier(net)
image = ones(1, 2, 4, 5)
small, other = NoScopeCNN(4, 5, 3, filters=2, dense=2), NoScopeCNN(4, 5, 3, filters=2, dense=3)
double, strided = (
    NoScopeCNN(4, 5, 3, filters=2, dense=2).double(),
    NoScopeCNN(4, 5, 3, filters=2, dense=2),
)
strided.body[4].stride = 1


test_separate_nets_must_be_alike = each_raises(
    [
        (lambda: block_diagonal([]), ValueError, "wanted networks of fold 1, given none"),
        (lambda: block_diagonal([net]), ValueError, "fold 1, given NoScopeCNN of 3"),
        (lambda: block_diagonal([nn.Linear(1, 1)]), ValueError, "fold 1, given Linear of None"),
        (lambda: block_diagonal([small, other]), ValueError, "wanted networks built alike"),
        (lambda: block_diagonal([small, double]), ValueError, "wanted networks built alike"),
        (lambda: block_diagonal([small, strided]), ValueError, "wanted networks built alike"),
    ]
)


test_the_server_and_the_cost_refuse = each_raises(
    [
        (
            lambda: FoldedClassifier(nn.Linear(1, 1)),
            TypeError,
            "int fold, .* given Linear with None",
        ),
        (lambda: cost(nn.Linear(1, 1), 1), TypeError, "int fold, as a FoldedNet has, given Linear"),
        (
            lambda: server(ones(1, 6, 4, 5)),
            ValueError,
            r"images .*\(batch, 2, 4, 5\), given \(1, 6",
        ),
        (lambda: server(image[:0]), ValueError, "no axis may be empty"),
        (lambda: server(image[0]), ValueError, r"\(batch, 2, 4, 5\), given \(2, 4, 5\)"),
        (lambda: server(image.double()), TypeError, "images to be torch.float32 like the wei"),
        (lambda: server(image.to("meta")), ValueError, "images to be on cpu like the weights"),
        (lambda: server(image * NAN), ValueError, "images to be finite, given 40 .* of 40"),
        (lambda: server.push(image[0]), ValueError, r"\(batch, 2, 4, 5\), given \(2, 4, 5\)"),
        (lambda: server.push(image[:0]), ValueError, "no axis may be empty"),
        (lambda: server.push(image * INF), ValueError, "images to be finite, given 40 .* of 40"),
        (lambda: cost(net, 0), ValueError, "images to be at least 1, given 0"),
        (lambda: cost(net, 1.5), TypeError, "images to be an int, given 1.5"),
        (lambda: cost(net, 1, 2), TypeError, "dtype to be a torch.dtype, given 2"),
        (lambda: cost(net, 1).flops_ratio(0), ValueError, "fold to be at least 1, given 0"),
        (lambda: cost(net, 1).flops_ratio(2.0), TypeError, "fold to be an int, given 2.0"),
        (lambda: cost(net, 1).roofline(0.0, 1.0), ValueError, "peak_flops to be positive .*0"),
        (lambda: cost(net, 1).roofline(INF, 1.0), ValueError, "peak_flops to be .* given inf"),
        (lambda: cost(net, 1).roofline(1.0, -1.0), ValueError, "bandwidth to be pos.* given -1.0"),
        (lambda: cost(net, 1).roofline(1.0, NAN), ValueError, "bandwidth to be pos.* given nan"),
    ]
)
