"""What the tables of refusals share: each call raises, and says what was wanted and given."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor

NAN, INF = float("nan"), float("inf")


def spoiled(value: float, *shape: int) -> Tensor:
    """Ones, and this value in the last place."""
    tensor = torch.ones(shape)
    tensor.view(-1)[-1] = value
    return tensor


def each_raises(
    cases: Sequence[tuple[Callable, type[Exception], str]],
    under: AbstractContextManager | None = None,
) -> Callable:
    """A test of all cases: a call, its error, and a pattern for the words of the message."""

    @pytest.mark.parametrize(("call", "error", "message"), cases)
    def test(call, error, message):
        with under or nullcontext(), pytest.raises(error, match=message):
            call()

    return test
