"""How time and memory grow with size: exponents of fitted powers."""

from collections.abc import Sequence

import numpy as np

SMALL = 4.0  # MiB below which the growth of a process says little


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The power p of the fit values ~ sizes^p.

    >>> exponent([100, 200, 400], [1.0, 4.0, 16.0])  # doubled, it takes four times as long
    2.0
    """
    return round(float(np.polyfit(np.log(sizes), np.log(values), 1)[0]), 3)


def memory_exponent(sizes: Sequence[float], peaks: Sequence[float | None]) -> float | None:
    """The same for peaks in MiB; None where one is missing or too small to say anything."""
    known = [peak for peak in peaks if peak and peak > SMALL]
    return exponent(sizes, known) if len(known) == len(peaks) else None


def exponents(sizes: Sequence[float], found: Sequence[dict]) -> dict[str, float | None]:
    """Those of a candidate's time and peak memory, as measured at these sizes.

    >>> found = [{"ms": 1.0, "peak_mib": 10.0}, {"ms": 4.0, "peak_mib": 20.0}]
    >>> exponents([100, 200], found)
    {'time': 2.0, 'memory': 1.0}
    """
    return {
        "time": exponent(sizes, [one["ms"] for one in found]),
        "memory": memory_exponent(sizes, [one["peak_mib"] for one in found]),
    }


def larger_half(name: str, rows: Sequence[dict]) -> tuple[list[dict], list[dict]]:
    """Sizes, and what was measured of a candidate, in the larger half of the rows that it ran in.

    Below, the cost of a call hides that of the work. Empty where fewer than two are left.

    >>> sizes = (10, 20, 40, 80)
    >>> rows = [{"size": n, "candidates": {"sum": {"ms": n / 10}}} for n in sizes]
    >>> larger_half("sum", rows)[0]
    [20, 40, 80]
    """
    rows = [row for row in rows if name in row["candidates"]]
    rows = rows[(len(rows) - 1) // 2 :]
    if len(rows) < 2:
        return [], []
    return [row["size"] for row in rows], [row["candidates"][name] for row in rows]
