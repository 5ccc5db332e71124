"""Folding: its equations, its laws, and broken twins that must fail them."""

import pytest
import torch
from drawing import largest, normal
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_folded_cnn import NETS, images_for, net_of, slow_answers, slow_fold
from torch import Tensor

from archbook.folded_cnn import (
    block_diagonal,
    cost,
    curriculum_classes,
    fold_images,
    folded_cross_entropy,
    unfold_logits,
)

every_net = pytest.mark.parametrize("name", NETS)
every_fold = pytest.mark.parametrize("fold", [1, 2, 3, 4])
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
every_format = pytest.mark.parametrize("form", FORMATS)


def answers(net, x: Tensor, fold=fold_images, unfold=unfold_logits) -> Tensor:
    """The logits of each image, with these ways to fold and unfold."""
    return unfold(net(fold(x, net.fold)), net.fold)


# ---- the fold itself ----


@every_format
def test_image_i_f_plus_j_is_channel_block_j_of_group_i(form):
    """Every number says where it came from: 100 image + 10 channel + pixel."""
    image, channel, pixel = torch.meshgrid(
        torch.arange(6), torch.arange(2), torch.arange(6), indexing="ij"
    )
    x = (100 * image + 10 * channel + pixel).reshape(6, 2, 2, 3).float()
    folded = fold_images(x.contiguous(memory_format=FORMATS[form]), 3)
    assert folded.shape == (2, 6, 2, 3)
    firsts = folded[:, :, 0, 0].tolist()
    assert firsts == [[0, 10, 100, 110, 200, 210], [300, 310, 400, 410, 500, 510]]
    assert folded[1, 5].tolist() == [[510, 511, 512], [513, 514, 515]]


@pytest.mark.shapes
@settings(max_examples=60)
@given(
    fold=st.integers(1, 6),
    groups=st.integers(1, 4),
    channels=st.integers(1, 4),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    dtype=st.sampled_from([torch.uint8, torch.float16, torch.float32, torch.float64]),
    form=st.sampled_from(list(FORMATS)),
)
def test_at_any_size_the_fold_equals_the_loop_and_comes_apart_again(
    fold, groups, channels, height, width, dtype, form
):
    x = (100 * normal(fold * groups, channels, height, width)).abs().to(dtype)
    folded = fold_images(x.contiguous(memory_format=FORMATS[form]), fold)
    assert folded.dtype == dtype
    assert torch.equal(folded, slow_fold(x, fold))
    assert torch.equal(unfold_logits(folded.flatten(1), fold), x.flatten(1))


def test_contiguous_images_and_logits_are_not_copied():
    x, logits = normal(6, 3, 4, 5), normal(2, 12)
    assert fold_images(x, 3).data_ptr() == x.data_ptr()
    assert unfold_logits(logits, 3).data_ptr() == logits.data_ptr()


def test_channels_last_images_stay_channels_last():
    x = normal(6, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    assert fold_images(x, 3).is_contiguous(memory_format=torch.channels_last)
    assert fold_images(x, 1).data_ptr() == x.data_ptr()


# ---- the loss ----


@pytest.mark.shapes
@every_fold
def test_the_loss_is_the_mean_over_images_and_the_mean_over_slots(fold):
    logits, labels = normal(3, fold * 5), torch.randint(5, (3 * fold,))
    found = folded_cross_entropy(logits, labels, fold)
    by_image, by_slot = [], []
    for j in range(fold):
        slot = logits[:, 5 * j : 5 * (j + 1)].log_softmax(1)  # over the K classes of one image
        losses = [-slot[i, labels[i * fold + j]] for i in range(3)]
        by_image += losses
        by_slot.append(sum(losses) / 3)
    assert found.item() == pytest.approx(sum(by_image).item() / (3 * fold), rel=1e-12)
    assert found.item() == pytest.approx(sum(by_slot).item() / fold, rel=1e-12)


def test_the_gradient_of_the_loss_equals_finite_differences():
    labels = torch.tensor([2, 0, 1, 1])
    logits = normal(2, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: folded_cross_entropy(z, labels, 2), logits)


# ---- the networks on folded images ----


@pytest.mark.shapes
@every_fold
@every_net
def test_a_folded_net_equals_the_papers_layers_in_numpy(name, fold):
    net = net_of(name, fold)
    x = images_for(net, 2 * fold)
    assert largest(answers(net, x), slow_answers(net, x)) < 1e-12


@every_net
def test_both_memory_formats_give_the_same_answers(name):
    net = net_of(name, 2)
    x = images_for(net, 4)
    last = net.to(memory_format=torch.channels_last)
    found = answers(last, x.contiguous(memory_format=torch.channels_last))
    assert largest(found, answers(net, x)) < 1e-12


# ---- the oracle: blocks on the diagonal are separate nets ----


def separate(name: str, fold: int) -> list:
    return [net_of(name, seed=100 * j) for j in range(fold)]


def block_error(name: str, fold: int, twin_fold=fold_images, twin_unfold=unfold_logits) -> float:
    """How far f nets in one are from the f nets one by one."""
    nets = separate(name, fold)
    x = images_for(nets[0], 2 * fold)
    wanted = torch.cat([nets[n % fold](x[n : n + 1]) for n in range(2 * fold)])
    return largest(answers(block_diagonal(nets), x, twin_fold, twin_unfold), wanted)


@pytest.mark.shapes
@every_fold
@every_net
def test_a_block_diagonal_net_is_f_separate_nets(name, fold):
    assert block_error(name, fold) < 1e-12


@pytest.mark.parametrize(
    "twin",
    [
        {"twin_fold": lambda x, f: rearrange(x, "(b f) c h w -> b (c f) h w", f=f)},
        {"twin_fold": lambda x, f: rearrange(x, "(f b) c h w -> b (f c) h w", f=f)},
        {"twin_fold": lambda x, f: fold_images(x.flip(1), f)},
        {"twin_unfold": lambda z, f: rearrange(z, "b (k f) -> (b f) k", f=f)},
        {"twin_unfold": lambda z, f: rearrange(z, "b (f k) -> (f b) k", f=f)},
    ],
    ids=["channels interleaved", "strided groups", "colours", "logits interleaved", "slot-major"],
)
@every_net
def test_the_law_notices(name, twin):
    assert block_error(name, 3, **twin) > 1e-2


def test_a_block_diagonal_net_does_f_times_the_work_and_shares_no_memory():
    nets = separate("resnet", 3)
    merged = block_diagonal(nets)
    assert cost(merged, 3).flops == 9 * cost(nets[0], 1).flops
    mine = {value.data_ptr() for value in merged.state_dict().values()}
    assert not mine & {value.data_ptr() for net in nets for value in net.state_dict().values()}
    assert "Conv2d(9, 9," in repr(merged)
    assert "fold=3" in repr(merged)


@every_net
def test_a_block_diagonal_net_trains_like_its_nets(name):
    """In training mode, batch norm included: the means of a slot are those of its images."""
    nets = [net.train() for net in separate(name, 2)]
    x, labels = images_for(nets[0], 6), torch.tensor([0, 1, 1, 0, 0, 1])
    merged = block_diagonal(nets)
    logits = merged(fold_images(x, 2))
    folded_cross_entropy(logits, labels, 2).backward()
    alone = torch.stack([net(x[j::2]) for j, net in enumerate(nets)], 1).flatten(0, 1)
    assert largest(unfold_logits(logits, 2), alone) < 1e-12
    torch.nn.functional.cross_entropy(alone, labels).backward()
    kernels = zip(*(net.parameters() for net in (merged, *nets)), strict=True)
    for whole, *parts in kernels:
        rows = whole.grad.chunk(2)
        blocks = [row.chunk(2, 1)[j] if row.ndim > 1 else row for j, row in enumerate(rows)]
        for block, part in zip(blocks, parts, strict=True):
            assert largest(block, part.grad) < 1e-12


# ---- what slots see of each other ----


def influence(net, x: Tensor) -> Tensor:
    """[n, m]: the largest gradient of answer n by image m."""
    x = x.requires_grad_()
    scores = (answers(net, x) * normal(len(x), net.classes, seed=5)).sum(1)
    rows = [torch.autograd.grad(score, x, retain_graph=True)[0] for score in scores]
    return torch.stack(rows).abs().amax((2, 3, 4))


@every_net
def test_in_a_folded_net_all_images_of_a_group_matter_and_no_others(name):
    net = net_of(name, 3)
    seen = influence(net, images_for(net, 6))
    group = torch.block_diag(torch.ones(3, 3), torch.ones(3, 3)).bool()
    assert (seen[group] > 1e-6).all()
    assert (seen[~group] == 0).all()


@every_net
def test_in_a_block_diagonal_net_each_image_matters_to_itself_only(name):
    nets = separate(name, 3)
    seen = influence(block_diagonal(nets), images_for(nets[0], 6))
    itself = torch.eye(6).bool()
    assert (seen[itself] > 1e-6).all()
    assert (seen[~itself] == 0).all()


@every_net
def test_two_images_that_change_places_change_their_logits(name):
    net, swap = net_of(name, 3), [1, 0, 2]
    x = images_for(net, 3)
    before, after = answers(net, x), answers(net, x[swap])
    assert (after - before[swap]).abs().amax(1).min() > 1e-4  # the one that stayed, too
    same = block_diagonal([net_of(name)] * 3)
    assert largest(answers(same, x[swap]), answers(same, x)[swap]) < 1e-12


@every_net
def test_groups_that_change_places_only_change_places(name):
    net, swap = net_of(name, 2), [4, 5, 0, 1, 2, 3]
    x = images_for(net, 6)
    assert largest(answers(net, x[swap]), answers(net, x)[swap]) < 1e-12


# ---- the curriculum ----


@pytest.mark.shapes
def test_the_curriculum_of_22_classes_at_fold_4_is_complete_in_epoch_540():
    found = [curriculum_classes(epoch, 22, 4) for epoch in range(0, 700, 60)]
    assert found == [4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 22, 22]
    assert [curriculum_classes(epoch, 22, 4) for epoch in (59, 60, 539, 540)] == [4, 6, 20, 22]


def test_the_curriculum_of_lol_time_at_fold_4():
    found = [
        curriculum_classes(epoch, 62, 4, parts=20, gap=120) for epoch in (0, 119, 120, 240, 10**4)
    ]
    assert found == [4, 4, 7, 10, 62]


def test_a_curriculum_of_few_classes_begins_with_f_and_never_has_more_than_all():
    assert [curriculum_classes(epoch, 5, 3) for epoch in (0, 60, 120, 180)] == [3, 4, 5, 5]
    assert curriculum_classes(0, 2, 4) == 2
    assert curriculum_classes(0, 111, 2) == 11
