"""What a piece of work asks of a machine, counted on tensors that have shapes and no numbers."""

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from archbook.checks import value_checks


@dataclass(frozen=True)
class Part:
    """One operation: 2 FLOPs a multiply-add, and the bytes that it reads and writes."""

    flops: int  # 0: no product
    bytes: int


@dataclass(frozen=True)
class Count:
    """A pass or a training step of one process."""

    parts: tuple[Part, ...]  # in their order; views, which move nothing, are left out
    calls: int  # of torch below autograd, views too: each costs the processor its time
    peak: int  # bytes that the work holds at once, beyond its weights and inputs
    weights: int  # parameters of the model

    @property
    def flops(self) -> int:
        return sum(part.flops for part in self.parts)

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)


@dataclass(frozen=True)
class Growing:
    """A step of any batch, told from those of two and of three examples: all counts are linear.

    One example alone takes other roads through torch, so it is not asked.
    """

    two: Count
    three: Count

    def __post_init__(self):
        parts = len(self.two.parts), len(self.three.parts)
        if parts[0] != parts[1]:
            raise ValueError(f"wanted the same operations for both batches, given {parts}")

    def at(self, batch: int) -> Count:
        def line(two: int, three: int) -> int:
            return max(0, two + (batch - 2) * (three - two))

        parts = tuple(
            Part(line(a.flops, b.flops), line(a.bytes, b.bytes))
            for a, b in zip(self.two.parts, self.three.parts, strict=True)
        )
        peak = line(self.two.peak, self.three.peak)
        return Count(parts, self.two.calls, peak, self.two.weights)


class Counting(TorchDispatchMode):
    """Sees every operation below autograd: so those of the backward pass, too."""

    def __init__(self):
        super().__init__()
        self.parts: list[Part] = []
        self.calls = self.held = self.peak = 0
        self._storages: dict[int, int] = {}  # made by the work and alive -> bytes
        self._outside: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.ops.aten._local_scalar_dense.default:
            return True if args[0].dtype == torch.bool else 1  # "are all real?" yes
        read = _tensors((args, kwargs))
        if function.namespace == "prim":  # asks for a device
            return function(*args, **kwargs)
        self._outside |= {_key(x) for x in read} - self._storages.keys()
        made = function(*args, **kwargs)
        written = _tensors(made)
        self.calls += 1
        for tensor in written:
            self._hold(tensor)
        before = {_key(x) for x in read}
        if all(_key(x) in before for x in written) and not function._schema.is_mutable:
            return made  # a view
        flops = _flops(function, args, kwargs, made)
        self.parts.append(Part(flops, sum(map(_bytes, [*read, *written]))))
        return made

    def _hold(self, tensor: Tensor) -> None:
        key, storage = _key(tensor), tensor.untyped_storage()
        if key in self._storages or key in self._outside:
            return
        self._storages[key] = storage.nbytes()
        self.held += storage.nbytes()
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.held -= self._storages.pop(key, 0)


def count_step(
    make: Callable[[], tuple[nn.Module, tuple[Any, ...]]], *, backward: bool = True
) -> Count:
    """Of `make()`, a model and the inputs of one call: a forward pass, and the gradients.

    Nothing is computed and nothing of its size is allocated, so a model larger than the machine
    can be counted. The loss is the sum of all outputs, without a term of its own. Adam's step is
    not part of it.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), value_checks(False):
        model, inputs = make()
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        with Counting(), torch.no_grad():
            model(*inputs)  # tables that a model keeps are made here
        counting = Counting()
        with counting, torch.set_grad_enabled(backward):
            outputs = [x for x in _tensors(model(*inputs)) if x.requires_grad]
            if backward:
                ones = [torch.ones_like(x) for x in outputs]
                gradients = torch.autograd.grad(outputs, weights, ones, allow_unused=True)
                del gradients
    total = sum(weight.numel() for weight in model.parameters())
    return Count(tuple(counting.parts), counting.calls, counting.peak, total)


def _flops(function: Any, args: tuple, kwargs: dict, made: Any) -> int:
    name = function.overloadpacket.__name__
    if name.startswith("_scaled_dot_product"):  # torch counts those of a card alone
        backward = "backward" in name
        query, key = args[1:3] if backward else args[:2]
        scores = math.prod(query.shape[:3]) * key.shape[2]
        return (5 if backward else 2) * 2 * scores * query.shape[3]
    counted = flop_registry.get(function.overloadpacket)
    return int(counted(*args, **kwargs, out_val=made)) if counted else 0


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _bytes(tensor: Tensor) -> int:
    """Of what is read or written: an expanded axis lies in memory once."""
    sizes = [n for n, s in zip(tensor.shape, tensor.stride(), strict=True) if s]
    return math.prod(sizes) * tensor.element_size()
