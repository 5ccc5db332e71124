"""The classifier of a whole sequence: what it starts from, what it reads, that it learns."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from archbook.lmu import LMUClassifier


def network(inputs: int = 1, **options: float) -> LMUClassifier:
    return LMUClassifier(inputs, 8, 3, order=6, theta=20.0, **options)


@pytest.mark.shapes
def test_before_training_the_window_holds_the_first_input_itself():
    net, x = network(2).double(), torch.randn(4, 30, 2, dtype=torch.float64)
    written = net.body.memory(x[..., :1])[:, -1]  # the first input, as it is
    wanted = net.body.U_m(written.flatten(1)) + net.body.W_x(x[:, -1])
    torch.testing.assert_close(net.body(x), torch.relu(wanted))


def test_the_check_notices_a_write_that_starts_at_random():
    net, x = network(2).double(), torch.randn(4, 30, 2, dtype=torch.float64)
    nn.init.normal_(net.body.U_x.weight)
    written = net.body.memory(x[..., :1])[:, -1]
    wanted = net.body.U_m(written.flatten(1)) + net.body.W_x(x[:, -1])
    assert not torch.allclose(net.body(x), torch.relu(wanted))


def test_dropout_acts_on_the_input_and_before_the_head_and_only_in_training():
    x = torch.randn(4, 30, 1)
    for option in ("input_dropout", "dropout"):
        net = network(**{option: 0.5})
        assert not torch.equal(net(x), net(x))
        net.eval()
        assert torch.equal(net(x), net(x))


def test_it_learns_which_of_three_frequencies_a_sequence_has():
    torch.manual_seed(0)
    time, label = torch.arange(20.0), torch.arange(60) % 3
    x = torch.sin((label + 1)[:, None] * time / 3 + 6 * torch.rand(60, 1))[..., None]
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(150):
        loss = cross_entropy(net(x), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (net(x).argmax(-1) == label).float().mean() > 0.95
    assert all(weight.grad is not None for weight in net.parameters())
