"""How near the models come to what their machine can do: one panel a machine, every chapter in it.

A row of a benchmark tells how long its products take alone and its bytes alone (`limit`), and how
many times the longer of the two each candidate takes (`of_limit`). So the roof is level at 1, and
the ridge stands where both take equally long, whatever the machine.
"""

from collections.abc import Iterable
from itertools import chain

from log_panels import COLOURS, Axes, mark, picture

ACROSS, UP = "time of the products / time of the bytes", "Share of the limit"

Point = tuple[float, float]
Panels = dict[str, dict[str, list[Point]]]  # by machine, by chapter


def points_of(bench: dict) -> list[Point]:
    """A dot for the baseline of each row that tells its limit; the limit is of that one's work."""
    found = []
    for table in bench["tables"]:
        for row in table["rows"]:
            one, limit = row["candidates"].get(table["baseline"]), row.get("limit")
            if one and limit and limit["products_ms"] > 0 and limit["traffic_ms"] > 0:
                found.append((limit["products_ms"] / limit["traffic_ms"], 1 / one["of_limit"]))
    return found


def by_machine(benches: Iterable[tuple[str, dict]]) -> Panels:
    """From pairs of a chapter's name and a file of its benchmark."""
    found: Panels = {}
    for chapter, bench in benches:
        if points := points_of(bench):
            machine = bench["environment"]["device_name"]
            found.setdefault(machine, {}).setdefault(chapter, []).extend(points)
    return found


def drawn(machine: str, models: dict[str, list[Point]], names: list[str]) -> str:
    """One panel; a model has the colour and the shape of its place in `names`."""
    points = list(chain.from_iterable(models.values()))
    axes = Axes([x for x, _ in points] + [1.0], [y for _, y in points] + [1.0])
    parts = axes.frame(f"{UP}, {machine}", ACROSS)
    left, right = (axes.place(x, 1.0) for x in axes.x)
    parts.append(f'<path class="level" d="M{left[0]:.1f} {left[1]:.1f}H{right[0]:.1f}"/>')
    ridge, floor = axes.place(1.0, 1.0), axes.place(1.0, axes.y[0])
    parts.append(f'<path class="expected" d="M{ridge[0]:.1f} {ridge[1]:.1f}V{floor[1]:.1f}"/>')
    for name, many in models.items():
        kind = names.index(name)
        marks = "".join(mark(kind, *axes.place(*one)) for one in many)
        parts.append(f'<g class="series-{kind % COLOURS}">{marks}</g>')
    said = [f"{name}: {max(y for _, y in many):.2g} at best" for name, many in models.items()]
    return picture(parts, f"{UP} of {machine}. {'; '.join(said)}.")
