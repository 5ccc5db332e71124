"""Single images served by a folded net: every answer, in order, however the images arrive."""

import copy

import pytest
import torch
from drawing import largest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_folded_cnn import NETS, images_for, net_of
from torch import Tensor

from archbook.folded_cnn import FoldedClassifier, block_diagonal, fold_images, unfold_logits

every_net = pytest.mark.parametrize("name", NETS)
every_fold = pytest.mark.parametrize("fold", [1, 2, 3, 4])


def served(name: str = "noscope", fold: int = 3) -> FoldedClassifier:
    return FoldedClassifier(net_of(name, fold)).eval()


def slow_answers(net, x: Tensor, fill=lambda group, j: group[j % len(group)]) -> Tensor:
    """Group by group; place j of a group that is not full is filled with an image of its own."""
    rows = []
    for start in range(0, len(x), net.fold):
        group = list(x[start : start + net.fold])
        real = len(group)
        group += [fill(group[:real], j) for j in range(real, net.fold)]
        logits = unfold_logits(net(fold_images(torch.stack(group), net.fold)), net.fold)
        rows += list(logits[:real])
    return torch.stack(rows)


# ---- batches ----


@pytest.mark.shapes
@pytest.mark.parametrize("images", range(1, 10))
@every_fold
def test_a_batch_of_any_size_gets_its_answers_in_order(fold, images):
    server = served(fold=fold)
    x = images_for(server.model, images)
    found = server(x)
    assert found.shape == (images, 3)
    assert largest(found, slow_answers(server.model, x)) < 1e-12


@every_net
def test_every_net_can_be_served(name):
    server = served(name)
    x = images_for(server.model, 5)
    assert largest(server(x), slow_answers(server.model, x)) < 1e-12


@pytest.mark.parametrize(
    "fill",
    [
        lambda group, j: torch.zeros_like(group[0]),
        lambda group, j: group[-1],
        lambda group, j: group[0],
        lambda group, j: group[(j + 1) % len(group)],
    ],
    ids=["zeros", "last image", "first image", "rotated"],
)
def test_the_answers_notice_what_a_group_is_filled_with(fill):
    server = served(fold=5)
    x = images_for(server.model, 7)
    assert largest(server(x), slow_answers(server.model, x, fill)) > 1e-3


@every_fold
def test_with_separate_nets_nobody_notices_how_images_are_grouped(fold):
    net = net_of("noscope")
    server = FoldedClassifier(block_diagonal([net] * fold))
    x = images_for(net, 7)
    assert largest(server(x), net(x)) < 1e-12


@every_fold
def test_full_groups_are_not_copied(fold):
    seen = []
    server = served(fold=fold)
    server.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].data_ptr()))
    x = images_for(server.model, 2 * fold)
    server(x)
    server.push(x)
    assert seen == [x.data_ptr()] * 2


# ---- streams ----


@pytest.mark.slow
@pytest.mark.shapes
@settings(max_examples=60)
@given(arrivals=st.lists(st.integers(1, 6), min_size=1, max_size=8), fold=st.integers(1, 4))
def test_however_images_arrive_the_answers_are_those_of_one_batch(arrivals, fold):
    server = served(fold=fold)
    x = images_for(server.model, sum(arrivals))
    answers, came = [], 0
    for part in x.split(arrivals):
        answers.append(server.push(part))
        came += len(part)
        assert sum(map(len, answers)) == came - came % fold  # each as soon as it can be
        assert len(server.waiting) == came % fold
    answers.append(server.flush())
    assert len(server.waiting) == 0
    assert largest(torch.cat(answers), server(x)) < 1e-12


@every_fold
def test_one_image_at_a_time_is_answered_with_its_group(fold):
    server = served(fold=fold)
    x = images_for(server.model, 2 * fold)
    answers = [server.push(image[None]) for image in x]
    assert [len(answer) for answer in answers] == [0] * (fold - 1) + [fold] + [0] * (fold - 1) + [
        fold
    ]
    assert largest(torch.cat(answers), server(x)) < 1e-12


def test_after_a_flush_a_new_group_begins():
    server = served(fold=3)
    x = images_for(server.model, 5)
    assert server.push(x[:2]).shape == (0, 3)
    first = server.flush()
    assert server.flush().shape == (0, 3)
    second = server.push(x[2:])
    assert largest(first, server(x[:2])) < 1e-12
    assert largest(second, server(x[2:])) < 1e-12


def test_a_batch_in_between_leaves_those_who_wait_alone():
    server = served(fold=3)
    x = images_for(server.model, 6)
    wanted = server(x[[0, 1, 5]])
    server.push(x[:2])
    assert largest(server(x[2:5]), slow_answers(server.model, x[2:5])) < 1e-12
    assert largest(server.push(x[5:]), wanted) < 1e-12


def test_the_memory_of_a_waiting_image_can_be_used_again():
    server = served(fold=2)
    x = images_for(server.model, 2)
    camera = x[:1].clone()
    server.push(camera)
    camera.copy_(x[1:])
    assert largest(server.push(camera), server(x)) < 1e-12


def test_a_refused_image_does_not_wait():
    server = served(fold=3)
    x = images_for(server.model, 3)
    server.push(x[:1])
    for bad in (x[1:] * float("nan"), x[1:, :1], x[1:].float()):
        with pytest.raises((ValueError, TypeError)):
            server.push(bad)
    assert torch.equal(server.waiting, x[:1])
    assert largest(server.push(x[1:]), server(x)) < 1e-12


def test_who_waits_moves_with_the_model_and_is_no_part_of_its_weights():
    server = served(fold=3)
    x = images_for(server.model, 3)
    server.push(x[:2])
    assert list(server.state_dict()) == [f"model.{key}" for key in server.model.state_dict()]
    twin = copy.deepcopy(server).float()
    server.waiting.zero_()
    found = twin.push(x[2:].float())
    assert found.dtype == torch.float32
    assert largest(found.double(), slow_answers(server.model, x)) < 1e-4


def test_images_pushed_in_inference_mode_can_be_answered_with_gradients():
    server = served(fold=3)
    x = images_for(server.model, 2)
    with torch.inference_mode():
        server.push(x)
    server.flush().sum().backward()
    assert all(value.grad is not None for value in server.parameters())


def test_channels_last_images_get_the_same_answers():
    server = served(fold=3)
    x = images_for(server.model, 7)
    assert largest(server(x.contiguous(memory_format=torch.channels_last)), server(x)) < 1e-12


def test_a_waiting_image_keeps_no_graph_alive():
    server = served(fold=2)
    x = images_for(server.model, 1).requires_grad_()
    server.push(2 * x)
    assert not server.waiting.requires_grad
