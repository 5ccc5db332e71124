"""The frame of the benchmarks: unequal candidates stop it, exponents are those of a power."""

import pytest
import torch

from archbook.running import assert_same_results, captured, exponent, memory_exponent


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
def test_a_captured_step_sees_new_inputs_and_gives_outputs_and_gradients_anew():
    x = torch.randn(4, 3, device="cuda")
    weight = torch.randn(3, 2, device="cuda", requires_grad=True)

    def work() -> tuple[torch.Tensor, ...]:
        y = (x @ weight).tanh()
        return y.detach(), *torch.autograd.grad(y.sum(), weight)

    replay = captured(work)
    for seed in (0, 1):
        torch.manual_seed(seed)
        x.copy_(torch.randn(4, 3))
        torch.testing.assert_close(replay(), work())
