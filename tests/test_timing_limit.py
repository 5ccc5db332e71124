"""The limit of a piece of work: which products it makes, forward and backward, and its bytes."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from archbook.timing import limit_of
from archbook.timing.limit import Limit, _Seen


def step(net: nn.Module, *given: torch.Tensor):
    def work() -> tuple[torch.Tensor, ...]:
        net.zero_grad()
        loss = net(*given).square().sum()
        loss.backward()
        return (loss.detach(), *(weight.grad for weight in net.parameters()))

    return work


def seen(work) -> _Seen:
    record = _Seen()
    with record:
        work()
    return record


def test_a_training_step_of_a_linear_layer_is_two_products_or_three_with_a_gradient_of_its_input():
    net, x = nn.Linear(8, 4), torch.randn(16, 8)
    assert sum(seen(step(net, x)).products.values()) == 2
    assert sum(seen(step(net, x.requires_grad_())).products.values()) == 3


def test_equal_products_are_one_kind_counted():
    layers = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(5)))
    record = seen(lambda: (layers(torch.randn(16, 8)),))
    assert list(record.products.values()) == [5]


@pytest.mark.parametrize(
    ("work", "products"),
    [
        (lambda: (torch.randn(3, 4, 5) @ torch.randn(3, 5, 6),), 1),
        (lambda: (nn.Conv2d(2, 3, 3)(torch.randn(1, 2, 8, 8)),), 1),
        (lambda: (scaled_dot_product_attention(*torch.randn(3, 1, 2, 16, 8)),), 1),
        (lambda: (torch.randn(100).exp().sum(),), 0),
    ],
)
def test_products_convolutions_and_fused_attention_count_and_nothing_else(work, products):
    assert sum(seen(work).products.values()) == products


def test_what_is_read_is_each_weight_and_input_once():
    net, x = nn.Linear(8, 4), torch.randn(16, 8)
    with torch.no_grad():
        record = seen(lambda: (net(x) + net(x),))
    assert record.read() == 4 * (8 * 4 + 4 + 16 * 8)


def test_views_of_what_was_made_are_not_read_from_outside():
    x = torch.randn(16, 8)
    record = seen(lambda: ((x + 1).T[:3].contiguous() * 2,))
    assert record.read() == 4 * 16 * 8


def test_no_product_takes_longer_alone_than_the_work_that_makes_it():
    net, x = (
        nn.Sequential(nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 256)),
        torch.randn(512, 256),
    )
    found = limit_of(step(net, x))
    assert 0 < found.products < 1  # seconds
    assert found.seconds == max(found.products, found.traffic)
    assert found.launches > 10


def test_running_products_again_changes_no_weight_and_no_gradient():
    net, x = nn.Linear(8, 4), torch.randn(16, 8)
    work = step(net, x)
    before = [tensor.clone() for tensor in work()]
    limit_of(work)
    after = work()
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_a_row_tells_the_larger_of_both_in_milliseconds():
    told = Limit(products=0.002, traffic=0.003, launches=7, launch=4e-6).told()
    assert told == {
        "products_ms": 2.0,
        "traffic_ms": 3.0,
        "ms": 3.0,
        "launches": 7,
        "launch_us": pytest.approx(4.0),
    }
