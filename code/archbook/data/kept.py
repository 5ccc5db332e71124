"""Results that are made once: each caller gets a copy, so that none can change another's."""

from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def kept(most: int) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """A decorator: the results of the last `most` calls with different arguments stay in memory."""

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        made = lru_cache(most, typed=True)(function)

        @wraps(function)
        def copied(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
            return deepcopy(made(*arguments, **named))

        return copied

    return decorate
