"""What the experiments decide by themselves: who is trained with whom, and who is served when."""

import itertools
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from drawing import seeded
from scripts import script
from torch import nn


@pytest.fixture(scope="module")
def accuracy() -> ModuleType:
    return script("experiments/folded_cnn/accuracy.py")


@pytest.fixture(scope="module")
def serving() -> ModuleType:
    return script("experiments/folded_cnn/serving.py")


# ---- training ----


def test_a_curriculum_brings_classes_in_and_takes_none_back(accuracy):
    config = replace(accuracy.Config(), fold=4, curriculum=True, epochs=24)
    labels = torch.arange(2_000) % 100
    order = accuracy.Order(config, labels, 100, generator=seeded())
    seen = [set(labels[order(epoch)].tolist()) for epoch in range(24)]
    sizes = [10 * (1 + epoch // 2) for epoch in range(18)]
    assert [len(one) for one in seen] == [*sizes, *[100] * 6]
    assert all(earlier <= later for earlier, later in itertools.pairwise(seen))
    assert [order.all_in(epoch) for epoch in range(24)] == [False] * 18 + [True] * 6


def test_the_papers_epochs_have_the_papers_curriculum(accuracy):
    config = accuracy.SIZES["paper"]["numbers_f4"]
    order = accuracy.Order(config, torch.arange(100), 100, generator=seeded())
    steps = [e for e in range(1, 1500) if order.classes(e) != order.classes(e - 1)]
    assert steps == list(range(60, 541, 60))


@pytest.mark.parametrize("curriculum", [False, True])
def test_an_epoch_has_as_many_images_with_few_classes_as_with_all(accuracy, curriculum):
    config = replace(accuracy.Config(), fold=4, curriculum=curriculum)
    order = accuracy.Order(config, torch.arange(2_000) % 100, 100, generator=seeded())
    assert len(order(0)) == 2_000


def groups(order: torch.Tensor) -> set[tuple[int, ...]]:
    return {tuple(group) for group in order.view(-1, 4).tolist()}


def test_fixed_groups_meet_again_in_every_epoch(accuracy):
    config = replace(accuracy.Config(), fold=4, grouping="fixed")
    order = accuracy.Order(config, torch.arange(400) % 10, 10, generator=seeded())
    first, second = order(0), order(1)
    assert groups(first) == groups(second)
    assert not torch.equal(first, second)


def test_groups_are_drawn_anew_in_every_epoch(accuracy):
    config = replace(accuracy.Config(), fold=4)
    order = accuracy.Order(config, torch.arange(400) % 10, 10, generator=seeded())
    assert len(groups(order(0)) & groups(order(1))) < 3


def test_no_image_is_in_two_parts(accuracy):
    config = accuracy.SIZES["tiny"]["signs_f2"]
    parts = accuracy.load(config)
    seen = [{one.numpy().tobytes() for one in images} for images, _ in parts.values()]
    assert [len(labels) for _, labels in parts.values()] == [240, 192, 192]
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_the_scaled_down_and_the_narrow_net_have_equal_flops(accuracy):
    sizes = accuracy.SIZES["full"]
    flops = [
        accuracy.cost(accuracy.build(c, c.resolution, c.resolution, classes=10), 1).flops
        for c in (sizes["scaled_down"], sizes["narrow"])
    ]
    assert flops[0] == pytest.approx(flops[1], rel=0.04)


def test_the_start_is_the_one_that_is_asked_for(accuracy):
    config = accuracy.SIZES["full"]["signs_f4"]
    torch.manual_seed(0)
    spread = {
        start: accuracy.build(replace(config, start=start), 32, 32, classes=10)
        .head.weight.std()
        .item()
        for start in ("authors", "torch")
    }
    assert spread["authors"] == pytest.approx(0.01, rel=0.1)
    assert spread["torch"] == pytest.approx(256**-0.5 / 3**0.5, rel=0.1)


def test_a_batch_that_the_fold_does_not_divide_is_refused(accuracy):
    config = replace(accuracy.SIZES["tiny"]["f3"], batch=32)
    with pytest.raises(ValueError, match="batch to be divisible by fold = 3, given 32"):
        accuracy.train(config, accuracy.Run(quiet=True))


# ---- serving ----


class Counted:
    """A server of a fold with fixed seconds a group, that answers nothing."""

    def __init__(self, fold: int, seconds: float):
        self.fold, self.seconds, self.waiting, self.calls = fold, seconds, 0, []

    def push(self, start: int, stop: int) -> tuple[int, float]:
        self.calls.append((start, stop))
        groups, self.waiting = divmod(self.waiting + stop - start, self.fold)
        return groups * self.fold, groups * self.seconds

    def flush(self) -> float:
        assert self.waiting > 0
        self.waiting = 0
        return self.seconds


def test_by_hand_two_wait_for_the_third_and_the_fourth_for_the_clock(serving):
    server = Counted(3, 0.5)
    done, busy = serving.serve(
        server.push, server.flush, np.array([0.0, 1.0, 2.0, 2.1]), most=6, wait=4.0
    )
    assert done.tolist() == pytest.approx([2.5, 2.5, 2.5, 6.6])
    assert busy == pytest.approx(1.0)


@pytest.mark.parametrize("fold", [1, 2, 3, 4])
@pytest.mark.parametrize("rate", [1.0, 100.0])
def test_nobody_is_answered_before_coming_or_later_than_the_wait_and_the_work_allow(
    serving, fold, rate
):
    arrivals = np.cumsum(np.random.default_rng(0).exponential(size=200)) / rate
    server = Counted(fold, 1e-4)
    done, busy = serving.serve(server.push, server.flush, arrivals, most=12, wait=0.3)
    assert (np.diff(done) >= 0).all()
    assert (done > arrivals).all()
    assert (done - arrivals).max() < 0.3 + busy
    assert [start for start, _ in server.calls] == [0, *(stop for _, stop in server.calls[:-1])]
    assert max(stop - start for start, stop in server.calls) <= 12


def test_a_busy_server_lets_a_queue_build_up_and_takes_it_in_large_calls(serving):
    server = Counted(1, 1.0)
    serving.serve(server.push, server.flush, np.zeros(50) + 0.1, most=20, wait=1.0)
    assert server.calls == [(0, 20), (20, 40), (40, 50)]


@pytest.mark.slow
def test_the_real_server_answers_all_images_of_a_stream(serving):
    config = serving.SIZES["tiny"]["f4"]
    found = serving.measure(config, serving.Run(quiet=True))
    assert len(found["p50_ms"]) == len(found["rate"]) == len(config.loads)
    assert all(a <= b for a, b in zip(found["p50_ms"], found["p99_ms"], strict=True))
    assert isinstance(serving.timed_server(config, 4, torch.zeros(1)).server, nn.Module)
