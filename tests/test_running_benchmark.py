"""The frame of the benchmarks: unequal candidates stop it, exponents are those of a power."""

import pytest
import torch

from archbook.running import (
    assert_same_results,
    captured,
    exponent,
    memory_exponent,
    precision_row,
    precision_tables,
)
from archbook.running.precision import launches


def test_candidates_that_differ_are_not_timed():
    right = (torch.ones(3), torch.tensor([1.0, 2.0]))
    wrong = (torch.ones(3), torch.tensor([1.0, 2.1]))
    with pytest.raises(AssertionError, match="FFT differs from last state by 5.0e-02"):
        assert_same_results({"last state": right, "chunks": right, "FFT": wrong})


def test_candidates_that_are_not_a_number_are_not_timed():
    with pytest.raises(AssertionError, match="differs"):
        assert_same_results({"a": (torch.ones(2),), "b": (torch.tensor([1.0, torch.nan]),)})


def test_candidates_that_agree_to_the_tolerance_pass():
    assert_same_results({"a": (torch.ones(2),), "b": (torch.ones(2) * 1.0005,)})
    with pytest.raises(AssertionError, match="b differs from a"):
        assert_same_results({"a": (torch.ones(2),), "b": (torch.ones(2) * 1.0005,)}, 1e-4)


def test_the_exponent_is_that_of_a_power():
    assert exponent([4, 8, 16], [16 / 7, 64 / 7, 256 / 7]) == pytest.approx(2)
    assert memory_exponent([4, 8, 16], [12.0, 24.0, 48.0]) == pytest.approx(1)


@pytest.mark.parametrize("peaks", [[None, 24.0], [3.0, 24.0]])
def test_peaks_that_are_missing_or_small_have_no_exponent(peaks):
    assert memory_exponent([4, 8], peaks) is None


@pytest.mark.gpu
def test_a_captured_step_keeps_its_inputs_and_sees_what_is_written_into_them():
    weight = torch.randn(3, 2, device="cuda", requires_grad=True)
    addresses = []

    def step(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = (x @ weight).tanh()
        return y.detach(), *torch.autograd.grad(y.sum(), weight)

    def capture(x: torch.Tensor):
        addresses.append(x.data_ptr())
        return captured(lambda: step(x))

    first = torch.randn(4, 3, device="cuda")
    replay = capture(first.clone())  # held by nothing but the work
    others = [torch.full((4, 3), torch.nan, device="cuda") for _ in range(100)]
    assert addresses[0] not in [one.data_ptr() for one in others]
    torch.testing.assert_close(replay(), step(first))

    second = torch.randn(4, 3, device="cuda")
    replay = capture(second)
    second.copy_(first)
    torch.testing.assert_close(replay(), step(first))


def test_fewer_bits_are_timed_and_their_errors_told():
    torch.manual_seed(0)
    x, weight = torch.randn(64, 64), torch.randn(64, 64)
    before = torch.get_float32_matmul_precision()
    row = precision_row(lambda: (x @ weight,), {"rows": 64}, seconds=0.01, device="cpu")
    found = row["candidates"]
    assert list(found) == ["float32", "TF32", "bfloat16"]
    assert found["float32"]["error"] == 0
    assert 1e-4 < found["bfloat16"]["error"] < 2e-2
    assert torch.get_float32_matmul_precision() == before
    assert precision_tables("a CPU has none", lambda: [row], "cpu") == []
    (table,) = precision_tables("a card", lambda: [row], "cuda:0")
    assert table["rows"] == [row]


@pytest.mark.gpu
def test_launches_are_those_of_the_work_alone():
    x = torch.ones(1000, device="cuda")
    number, kernels = launches(lambda: x.add_(1).mul_(2).exp_())
    assert number == 3
    assert len(kernels) == 3
