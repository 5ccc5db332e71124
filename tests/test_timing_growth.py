"""How a candidate grows: exponents are those of a power, fitted where the work outweighs a call."""

import pytest

from archbook.timing import exponent, exponents, larger_half
from archbook.timing.growth import memory_exponent


def test_the_exponent_is_that_of_a_power():
    assert exponent([4, 8, 16], [16 / 7, 64 / 7, 256 / 7]) == pytest.approx(2)
    assert memory_exponent([4, 8, 16], [12.0, 24.0, 48.0]) == pytest.approx(1)


@pytest.mark.parametrize("peaks", [[None, 24.0], [3.0, 24.0]])
def test_peaks_that_are_missing_or_small_have_no_exponent(peaks):
    assert memory_exponent([4, 8], peaks) is None


def rows_of(**ran: list[int]) -> list[dict]:
    """A row for each size from 1 to 7, with the candidates that ran there."""
    measured = {n: {"ms": n**2 / 7, "peak_mib": 8.0 * n} for n in range(1, 8)}
    return [
        {"size": {"n": n}, "candidates": {name: one for name in ran if n in ran[name]}}
        for n, one in measured.items()
    ]


def test_the_larger_half_is_of_the_rows_in_which_a_candidate_ran():
    sizes, found = larger_half("peer", rows_of(ours=[1, 2, 3, 4, 5, 6, 7], peer=[1, 2, 4, 5]))
    assert [size["n"] for size in sizes] == [2, 4, 5]
    assert exponents([2, 4, 5], found) == {"time": 2.0, "memory": 1.0}


@pytest.mark.parametrize("ran", [[], [3]])
def test_fewer_than_two_rows_have_no_half(ran):
    assert larger_half("peer", rows_of(peer=ran)) == ([], [])
