"""Works are shown equal before they are timed; unequal ones stop a benchmark."""

import pytest
import torch

from archbook.timing import assert_same_results, captured, run_once


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


def counted(calls: list[str], name: str, value: float):
    def work() -> tuple[torch.Tensor, ...]:
        calls.append(name)
        return (torch.full((2,), value),)

    return work


def test_every_work_runs_once_whether_it_has_an_equal_or_not():
    calls: list[str] = []
    values = {"base": 1.0, "unlike": 5.0, "equal": 1.0, "alone": 7.0}
    works = {name: counted(calls, name, value) for name, value in values.items()}
    run_once(works, [["base", "absent", "equal"], ["alone"], ["absent"]])
    assert sorted(calls) == sorted(works)


def test_a_work_unlike_its_group_s_first_stops():
    calls: list[str] = []
    values = {"a": 1.0, "b": 2.0, "c": 2.0, "d": 2.02}
    works = {name: counted(calls, name, value) for name, value in values.items()}
    groups = [["a"], ["b", "c", "d"]]
    with pytest.raises(AssertionError, match="d differs from b by 1.0e-02"):
        run_once(works, groups)
    run_once(works, groups, 0.02)


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
