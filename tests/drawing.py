"""What tests draw at random, and how far what comes out lies from what is wanted."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)
Tensors = Tensor | Iterable[Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64, rounded to what float32 can hold."""
    return torch.randn(shape, generator=seeded(seed)).double()


def order_one(module: Module, seed: int = 0) -> Module:
    """The module in float64 with weights of order one, so that no path is hidden.

    The scales of norms lie around one, and what stands for padding stays zero.
    """
    for i, (name, weight) in enumerate(module.double().named_parameters()):
        around = float("norm" in name and name.endswith("weight"))
        weight.data = around + 0.5 * normal(*weight.shape, seed=seed + i)
    for part in module.modules():
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            part.weight.data[part.padding_idx] = 0
    return module


def gap(found: Tensors, wanted: Tensors) -> float:
    """The largest difference of two tensors, or of two lists; NaN where any is, so that it is
    neither below a bound nor above it.
    """
    return _largest(found, wanted, lambda w: torch.ones(()))


def largest(found: Tensors, wanted: Tensors) -> float:
    """`gap`, each tensor at a scale of at least one."""
    return _largest(found, wanted, lambda w: w.abs().max().clamp(min=1))


def _largest(found: Tensors, wanted: Tensors, scale: Callable[[Tensor], Tensor]) -> float:
    found, wanted = ([x] if isinstance(x, Tensor) else list(x) for x in (found, wanted))
    assert [f.shape for f in found] == [w.shape for w in wanted]
    differences = [
        (f - w).detach().abs().max().double() / scale(w.detach())
        for f, w in zip(found, wanted, strict=True)
        if w.numel()
    ]
    return float(torch.stack(differences).max())  # Python's own max would lose a NaN


def trainable(*modules: nn.Module) -> int:
    """How many numbers of the modules are trained."""
    return sum(p.numel() for module in modules for p in module.parameters() if p.requires_grad)
