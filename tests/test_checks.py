"""The input checks that every model shares: what passes, what is refused, and in which words."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from archbook.checks import (
    require_between,
    require_choice,
    require_false,
    require_finite,
    require_input,
    require_like,
    require_mask,
    require_positive_int,
    require_tensor,
    value_checks,
)

NAN = float("nan")
ones = torch.ones
CPU = torch.device("cpu")


def unit(r: torch.Tensor) -> None:
    require_between("r", r, low=0, high=1)


@pytest.mark.parametrize(
    ("check", "arguments"),
    [
        (require_positive_int, ("n", 1)),
        (require_choice, ("mode", "fft", ("fft", "chunked"))),
        (require_tensor, ("x", ones(2, 3), ("batch", 3))),
        (require_tensor, ("x", torch.tensor(1.0), ())),
        (require_tensor, ("x", ones(0, 3), (0, 3))),
        (require_like, ("x", ones(2), "the weights", ones(3))),
        (require_input, ("x", ones(2, 3), ("batch", 3), ones(1))),
        (require_mask, ("mask", ones(2, 3).bool(), (2, 3), CPU)),
        (require_finite, ("x", ones(2))),
        (require_finite, ("x", torch.arange(3))),
        (unit, (torch.tensor([0.0, 1.0]),)),
        (require_false, ("wanted edges to hold no loops", torch.tensor([False, False]))),
    ],
)
def test_what_fits_passes(check, arguments):
    assert check(*arguments) is None


@pytest.mark.parametrize(
    ("check", "arguments", "error", "message"),
    [
        (require_positive_int, ("n", 0), ValueError, "wanted n to be at least 1, given 0"),
        (
            require_positive_int,
            ("n", 1.0),
            TypeError,
            "wanted n to be an int, given 1.0 of type float",
        ),
        (
            require_positive_int,
            ("n", False),
            TypeError,
            "wanted n to be an int, given False of type bool",
        ),
        (
            require_positive_int,
            ("n", None),
            TypeError,
            "wanted n to be an int, given None of type None",
        ),
        (require_choice, ("mode", "a", ("b", "c")), ValueError, "one of 'b', 'c', given 'a'"),
        (require_tensor, ("x", [1], (1,)), TypeError, "wanted x to be a tensor, given list"),
        (require_tensor, ("x", ones(2), (2, 3)), ValueError, r"shape \(2, 3\), given \(2,\)"),
        (require_tensor, ("x", ones(2, 4), ("b", 3)), ValueError, r"\(b, 3\), given \(2, 4\)$"),
        (require_tensor, ("x", ones(0, 3), ("b", 3)), ValueError, "no axis may be empty"),
        (
            require_like,
            ("x", ones(2).double(), "the weights", ones(1)),
            TypeError,
            "wanted x to be torch.float32 like the weights, given torch.float64",
        ),
        (
            require_like,
            ("x", ones(2), "the weights", ones(1, device="meta")),
            ValueError,
            "wanted x to be on meta like the weights, given a tensor on cpu",
        ),
        (
            require_input,
            ("x", ones(2, 3), ("batch", 4), ones(1)),
            ValueError,
            r"wanted x to have shape \(batch, 4\), given \(2, 3\)",
        ),
        (
            require_input,
            ("x", ones(2, 3).half(), ("batch", 3), ones(1)),
            TypeError,
            "wanted x to be torch.float32 like the weights, given torch.float16",
        ),
        (
            require_mask,
            ("mask", ones(2, 3).bool(), (2, 4), CPU),
            ValueError,
            r"wanted mask to have shape \(2, 4\), given \(2, 3\)",
        ),
        (
            require_mask,
            ("mask", ones(2).long(), (2,), CPU),
            TypeError,
            r"wanted mask to be torch.bool \(True = real\), given torch.int64",
        ),
        (
            require_mask,
            ("mask", ones(2).bool(), (2,), torch.device("meta")),
            ValueError,
            "wanted mask to be on meta, given a tensor on cpu",
        ),
        (
            require_finite,
            ("x", torch.tensor([1.0, NAN, float("inf")])),
            ValueError,
            "wanted x to be finite, given 2 NaN or infinite of 3",
        ),
        (
            unit,
            (torch.tensor([-0.5, 2.0]),),
            ValueError,
            r"wanted r to lie in \[0, 1\], given -0.5 to 2",
        ),
        (unit, (torch.tensor([NAN]),), ValueError, "given nan to nan"),
        (
            require_false,
            ("wanted edges to hold no loops", torch.tensor([True, False, True])),
            ValueError,
            "wanted edges to hold no loops, given 2$",
        ),
        (
            require_false,
            ("wanted no loops", torch.eye(3).bool()[1:], ("row", "column")),
            ValueError,
            "wanted no loops, given 2; the first: row 0, column 1$",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_both_values_named(check, arguments, error, message):
    with pytest.raises(error, match=message):
        check(*arguments)


def test_autocast_accepts_any_floating_dtype_and_nothing_else():
    weight = ones(1)
    with torch.autocast("cpu", torch.bfloat16):
        require_input("x", ones(2).double(), ("batch",), weight)
        with pytest.raises(TypeError, match="wanted x to be torch.float32 .*given torch.int64"):
            require_input("x", ones(2).long(), ("batch",), weight)
        with pytest.raises(ValueError, match="wanted x to be on cpu"):
            require_input("x", ones(2, device="meta"), ("batch",), weight)


def test_value_checks_are_off_inside_the_block_only_even_after_an_error():
    bad = torch.tensor([NAN])
    with pytest.raises(TypeError, match="wanted n to be an int"), value_checks(False):
        require_positive_int("n", 1.5)
    with pytest.raises(ValueError, match="wanted x to be finite"):
        require_finite("x", bad)


def test_value_checks_can_be_switched_on_inside_a_block_that_switched_them_off():
    bad = torch.tensor([NAN])
    with value_checks(False):
        with value_checks(True), pytest.raises(ValueError, match="wanted x to be finite"):
            require_finite("x", bad)
        assert require_finite("x", bad) is None


def test_the_meta_device_has_no_values_to_check():
    assert require_finite("x", torch.full((2,), NAN, device="meta")) is None
    assert require_between("x", torch.full((2,), NAN, device="meta"), low=0, high=1) is None
    assert require_false("no loops", torch.ones(2, dtype=torch.bool, device="meta")) is None


@pytest.mark.compile
def test_checks_of_values_are_skipped_while_compiling():
    def double(x):
        require_finite("x", x)
        require_between("x", x, low=0, high=1)
        require_false("no NaN", x.isnan())
        require_tensor("x", x, ("length",))
        return 2 * x

    compiled = torch.compile(double, fullgraph=True, backend="eager")
    for length in (3, 4, 5):  # the second length makes the shape symbolic
        assert compiled(torch.full((length,), NAN)).isnan().all()


# ---- the switch belongs to its thread ----


def in_a_thread(call) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(call).result()


def test_another_thread_goes_on_checking():
    def refuses() -> None:
        with pytest.raises(ValueError, match="wanted x to be finite"):
            require_finite("x", ones(2) * NAN)

    with value_checks(False):
        in_a_thread(refuses)
        require_finite("x", ones(2) * NAN)


def test_blocks_of_two_threads_that_overlap_leave_both_as_they_were():
    opened, closed = threading.Event(), threading.Event()

    def outlasts() -> None:
        with value_checks(False):
            opened.set()
            closed.wait(10)

    with ThreadPoolExecutor(1) as pool:
        with value_checks(False):
            other = pool.submit(outlasts)
            opened.wait(10)
        closed.set()
        other.result()
        pool.submit(test_the_checks_are_on).result()
    test_the_checks_are_on()


def test_the_checks_are_on():
    with pytest.raises(ValueError, match="wanted x to be finite"):
        require_finite("x", ones(2) * NAN)
