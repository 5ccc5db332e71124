"""Orders of images, and what a change of neighbours is found to change."""

import pytest
import torch
from drawing import seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_folded_cnn import images_for, net_of
from torch import Tensor, nn

from archbook.folded_cnn import (
    answers,
    block_diagonal,
    fold_images,
    new_neighbours,
    next_slots,
    regrouping_report,
    stream_order,
    unfold_logits,
)


def groups_of(order: Tensor, fold: int) -> set[frozenset[int]]:
    return {frozenset(part.tolist()) for part in order.split(fold)}


sizes = given(images=st.integers(1, 30), fold=st.integers(1, 5), seed=st.integers(0, 99))
quick = settings(max_examples=40)


# ---- orders ----


@pytest.mark.shapes
@quick
@sizes
def test_new_neighbours_keep_every_slot(images, fold, seed):
    order = torch.randperm(images, generator=seeded(seed))
    found = new_neighbours(order, fold, seeded(seed + 1))
    for slot in range(fold):
        assert sorted(found[slot::fold].tolist()) == sorted(order[slot::fold].tolist())


def test_new_neighbours_are_others_than_before():
    order = torch.arange(400)
    assert len(groups_of(order, 4) & groups_of(new_neighbours(order, 4, seeded()), 4)) < 5


@pytest.mark.shapes
@quick
@sizes
def test_next_slots_keep_every_neighbour(images, fold, seed):
    order = torch.randperm(images, generator=seeded(seed))
    found = next_slots(order, fold)
    assert groups_of(found, fold) == groups_of(order, fold)
    full = images - images % fold
    slot = torch.arange(images) % fold
    moved, before = torch.empty_like(order), torch.empty_like(order)
    moved[found], before[order] = slot, slot
    assert torch.equal(moved[order[:full]], (before[order[:full]] + 1) % fold)
    assert torch.equal(found[full:], order[full:])


@pytest.mark.parametrize("change", [new_neighbours, next_slots])
def test_an_order_is_not_changed_in_place(change):
    order = torch.arange(12)
    change(order, 3)
    assert torch.equal(order, torch.arange(12))


@pytest.mark.shapes
@quick
@given(images=st.integers(1, 60), stay=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_stream_has_every_image_once(images, stay, seed):
    labels = torch.randint(4, (images,), generator=seeded(seed))
    found = stream_order(labels, stay, seeded(seed))
    assert sorted(found.tolist()) == list(range(images))


@pytest.mark.parametrize("stay", [0.0, 0.5, 0.9])
def test_a_stream_stays_in_its_class_as_often_as_asked(stay):
    labels = torch.arange(8000) % 5
    kinds = labels[stream_order(labels, stay, seeded())][:4000]  # at the end classes run out
    same = (kinds[1:] == kinds[:-1]).double().mean().item()
    assert same == pytest.approx(stay + (1 - stay) / 5, abs=0.03)


# ---- answers ----


def slow_answers(net, x: Tensor, order: Tensor) -> Tensor:
    logits = unfold_logits(net(fold_images(x[order], net.fold)), net.fold)
    found = torch.empty(len(x), dtype=torch.int64)
    for place, image in enumerate(order.tolist()):
        found[image] = logits[place].argmax()
    return found


@pytest.mark.shapes
@pytest.mark.parametrize("batch", [3, 6, 480])
def test_answers_are_in_the_images_own_order(batch):
    net = net_of("noscope", 3)
    x, order = images_for(net, 12), torch.randperm(12, generator=seeded())
    assert torch.equal(answers(net, x, order, batch=batch), slow_answers(net, x, order))


def test_the_model_is_left_in_its_mode():
    net = net_of("resnet", 2).train()
    answers(net, images_for(net, 4), torch.arange(4))
    assert net.training


# ---- reports ----


class Leaky(nn.Module):
    """Slot j answers the brightest channel of slot j + `shift`: the neighbour's for shift = 1."""

    fold, classes, channels, height, width = 2, 3, 3, 1, 1

    def __init__(self, shift: int):
        super().__init__()
        self.shift, self.unused = shift, nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).view(-1, 2, 3).roll(-self.shift, 1).flatten(1)


def bright(count: int) -> tuple[Tensor, Tensor]:
    labels = torch.randint(3, (count,), generator=seeded(5))
    return torch.eye(3)[labels].view(count, 3, 1, 1), labels


def test_a_net_that_reads_its_neighbour_is_found_out():
    found = regrouping_report(Leaky(1), *bright(600))
    assert found["accuracy"] == pytest.approx(100 / 3, abs=6)
    assert found["neighbours_class"] == 100
    assert found["strangers_class"] < 70
    assert found["changed_by_neighbours"] == pytest.approx(200 / 3, abs=8)
    assert found["sorted_accuracy"] > 99  # in such a stream it goes unnoticed
    assert found["stream_accuracy"] > found["accuracy"] + 30


def test_a_net_that_reads_its_own_image_is_changed_by_nothing():
    found = regrouping_report(Leaky(0), *bright(60))
    assert found["accuracy"] == found["lowest_accuracy"] == found["highest_accuracy"] == 100
    assert found["slot_accuracy"] == [100, 100]
    assert found["changed_by_both"] == found["changed_by_slot"] == 0


def test_separate_nets_are_changed_by_slots_alone():
    net = block_diagonal([net_of("noscope", seed=10 * slot) for slot in range(3)])
    x = images_for(net, 60)
    labels = torch.randint(3, (60,), generator=seeded())
    found = regrouping_report(net, x, labels)
    assert found["changed_by_neighbours"] == 0
    assert found["changed_by_slot"] > 10
    mean = sum(found["slot_accuracy"]) / 3
    assert found["accuracy"] == pytest.approx(mean)


def test_a_fold_of_one_has_no_neighbours_to_report():
    net = net_of("noscope")
    x = images_for(net, 20)
    labels = net(x).argmax(1)
    found = regrouping_report(net, x, labels)
    assert found["accuracy"] == found["stream_accuracy"] == found["slot_accuracy"][0] == 100
    assert found["neighbours_class"] == found["changed_by_both"] == 0


# ---- refusals ----


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: new_neighbours(torch.ones(2, 2), 2), ValueError, "order to have shape"),
        (lambda: next_slots([0, 1], 2), TypeError, "order to be a tensor, given list"),
        (lambda: next_slots(torch.arange(4), 0), ValueError, "fold to be at least 1, given 0"),
        (lambda: stream_order(torch.arange(4), 1.5), ValueError, r"stay to lie in \[0, 1\]"),
        (
            lambda: answers(net_of("noscope", 2), torch.zeros(2), torch.arange(2), batch=3),
            ValueError,
            "batch to be divisible by fold = 2, given 3",
        ),
        (
            lambda: answers(nn.Linear(1, 1), torch.zeros(2), torch.arange(2)),
            TypeError,
            "model to have an int fold",
        ),
    ],
)
def test_orders_and_answers_refuse(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- repeatable ----


@pytest.mark.parametrize(
    "drawn",
    [
        lambda: new_neighbours(torch.arange(60), 3, seeded(5)),
        lambda: stream_order(torch.arange(60) % 4, 0.5, seeded(5)),
    ],
    ids=["neighbours", "stream"],
)
def test_an_order_hangs_on_its_generator_alone(drawn):
    torch.manual_seed(1)
    first = drawn()
    torch.manual_seed(2)
    assert torch.equal(drawn(), first)


def test_a_report_hangs_on_its_seed():
    net = net_of("noscope", 2).eval()
    images, labels = images_for(net, 30), torch.arange(30) % 3
    first, again, other = (regrouping_report(net, images, labels, seed=s) for s in (1, 1, 2))
    assert first == again != other


def test_answers_leave_a_net_in_training_and_its_running_means_as_they_were():
    net = net_of("resnet", 2).train()
    before = {name: kept.clone() for name, kept in net.state_dict().items()}
    answers(net, images_for(net, 6), torch.arange(6))
    assert net.training
    assert all(torch.equal(kept, before[name]) for name, kept in net.state_dict().items())
