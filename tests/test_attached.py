"""When the weights of a layer may be read in place of calling it.

What the models then do is in portability.py.
"""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from archbook.attached import is_plain


class Wrapper(nn.Module):
    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer


class Louder(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def other_forward() -> nn.Linear:
    layer = nn.Linear(2, 2)
    layer.forward = lambda x: x  # as accelerate and others patch it
    return layer


def hooked(name: str) -> nn.Linear:
    layer = nn.Linear(2, 2)
    getattr(layer, name)(lambda *_: None)
    return layer


ATTACHED = {
    "a wrapper": lambda: Wrapper(nn.Linear(2, 2)),
    "a subclass": lambda: Louder(2, 2),
    "another forward": other_forward,
    "pruning": lambda: prune.l1_unstructured(nn.Linear(2, 2), "weight", 0.5),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(2, 2)),
    "a hook before": lambda: hooked("register_forward_pre_hook"),
    "a hook after": lambda: hooked("register_forward_hook"),
    "a hook before the backward pass": lambda: hooked("register_full_backward_pre_hook"),
    "a hook after the backward pass": lambda: hooked("register_full_backward_hook"),
}


def test_layers_as_torch_makes_them_are_plain():
    layer = nn.Linear(2, 2)
    assert is_plain(layer, nn.Sequential(layer, nn.ReLU()))
    layer.weight.register_hook(lambda grad: grad)  # hangs on the tensor, which is read all the same
    assert is_plain(layer.double().requires_grad_(False))


@pytest.mark.parametrize("make", ATTACHED.values(), ids=ATTACHED)
def test_a_layer_is_not_plain_with(make):
    assert not is_plain(make())
    assert not is_plain(nn.Linear(2, 2), make())


def test_after_what_was_attached_is_gone_the_layer_is_plain_again():
    layer = nn.Linear(2, 2)
    hook = layer.register_forward_hook(lambda *_: None)
    hook.remove()
    assert is_plain(layer)
    assert torch.equal(
        layer(torch.ones(1, 2)), nn.functional.linear(torch.ones(1, 2), *layer.parameters())
    )
