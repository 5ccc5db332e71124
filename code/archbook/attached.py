"""Whether a layer is as torch made it, so that its weights say what it does."""

from torch import nn

PLAIN = (nn.Linear, nn.Sequential)


def is_plain(*layers: nn.Module) -> bool:
    """Whether nothing hangs on these: no hook, pruning, adapter or parametrization.

    Only then may a faster form read their weights; else they have to be called.
    """
    return all(
        type(layer) in PLAIN
        and not layer._forward_pre_hooks
        and not layer._forward_hooks
        and not layer._backward_pre_hooks
        and not layer._backward_hooks
        and "forward" not in layer.__dict__
        for layer in layers
    )
