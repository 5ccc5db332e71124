"""Small pictures with logarithmic axes as SVG inside the page: its colours are the page's own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 360, 270
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 30, 44
COLOURS = 6  # of costs.css; the seventh series has the first colour and another shape


@dataclass(frozen=True)
class Series:
    """One candidate: points (x, y, lowest, highest), and the slope that is expected at the end."""

    name: str
    points: list[tuple[float, float, float, float]]
    expected: float | None = None


def short(value: float) -> str:
    """A tick: 0.1, 20, 5k, 2M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def ticks(low: float, high: float) -> list[float]:
    """Powers of ten between the ends; 1, 2, 5 where these are few, and the ends where none is."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    tens = [10.0**k for k in decades if low <= 10.0**k <= high]
    if len(tens) >= 3:
        return tens[:: math.ceil(len(tens) / 6)]
    fine = [m * 10.0**k for k in decades for m in (1, 2, 5) if low <= m * 10.0**k <= high]
    return fine if len(fine) >= 2 else [float(f"{low:.2g}"), float(f"{high:.2g}")]


class Axes:
    """From values to places in the picture."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float]):
        self.x = self._ends(xs, 1.15)
        self.y = self._ends(ys, 1.3)

    @staticmethod
    def _ends(values: Sequence[float], room: float) -> tuple[float, float]:
        return min(values) / room, max(values) * room

    def place(self, x: float, y: float) -> tuple[float, float]:
        right = math.log(x / self.x[0]) / math.log(self.x[1] / self.x[0])
        up = math.log(y / self.y[0]) / math.log(self.y[1] / self.y[0])
        return (
            LEFT + right * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
        )

    def frame(self, title: str, label: str) -> list[str]:
        floor = HEIGHT - BOTTOM
        parts = [f'<text class="title" x="4" y="16">{escape(title)}</text>']
        for value in ticks(*self.y):
            _, y = self.place(self.x[0], value)
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(
                f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>'
            )
        for value in ticks(*self.x):
            x, _ = self.place(value, self.y[0])
            parts.append(f'<path class="grid" d="M{x:.1f} {floor}v4"/>')
            parts.append(
                f'<text x="{x:.1f}" y="{floor + 17}" text-anchor="middle">{short(value)}</text>'
            )
        parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{floor}H{WIDTH - RIGHT}"/>')
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(
            f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(label)}</text>'
        )
        return parts


def mark(kind: int, x: float, y: float) -> str:
    """A shape for each series, so that colour is not all that tells them apart."""
    shapes = [
        "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0",
        "m-4 -4h8v8h-8z",
        "m0 -5l5 9h-10z",
        "m0 -5l5 5l-5 5l-5 -5z",
        "m-4 -4l8 8m0 -8l-8 8",
        "m0 5l5 -9h-10z",
    ]
    shape = shapes[(kind + kind // COLOURS) % len(shapes)]
    return f'<path class="mark" d="M{x:.1f} {y:.1f}{shape}"/>'


def line_of(axes: Axes, kind: int, one: Series) -> str:
    places = [axes.place(x, y) for x, y, _, _ in one.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    parts = [f'<path class="line" d="{path}"/>']
    for (x, _, low, high), (across, _) in zip(one.points, places, strict=True):
        if low < high:
            bottom, top = axes.place(x, low)[1], axes.place(x, high)[1]
            parts.append(f'<path class="whisker" d="M{across:.1f} {bottom:.1f}V{top:.1f}"/>')
    parts += [mark(kind, x, y) for x, y in places]
    if one.expected is not None and len(one.points) > 1:
        (x0, *_), (x1, y1, *_) = one.points[-min(4, len(one.points))], one.points[-1]
        y0 = y1 * (x0 / x1) ** one.expected
        if axes.y[0] <= y0 <= axes.y[1]:
            (a, b), (c, d) = axes.place(x0, y0), axes.place(x1, y1)
            parts.append(f'<path class="expected" d="M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}"/>')
    return f'<g class="series-{kind % COLOURS}">{"".join(parts)}</g>'


def picture(parts: Sequence[str], alt: str, height: int = HEIGHT) -> str:
    return (
        f'<svg class="panel" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(alt)}">{"".join(parts)}</svg>'
    )


def panel(title: str, label: str, series: Sequence[Series], level: float | None = None) -> str:
    """Lines over one size; `level` draws a line across, such as the ratio 1."""
    points = [point for one in series for point in one.points]
    ys = [value for point in points for value in point[1:]]
    axes = Axes([x for x, *_ in points], ys + ([level] if level else []))
    parts = axes.frame(title, label)
    if level:
        _, y = axes.place(axes.x[0], level)
        parts.append(f'<path class="level" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
    parts += [line_of(axes, kind, one) for kind, one in enumerate(series) if one.points]
    ends = [
        f"{one.name}: {one.points[0][1]:.3g} at {one.points[0][0]:,.0f}, "
        f"{one.points[-1][1]:.3g} at {one.points[-1][0]:,.0f}"
        for one in series
        if one.points
    ]
    return picture(parts, f"{title}, over {label}. " + "; ".join(ends) + ".")


def legend(names: Sequence[str]) -> str:
    items = [
        f'<li class="series-{kind % COLOURS}"><svg viewBox="-7 -7 14 14" aria-hidden="true">'
        f"{mark(kind, 0, 0)}</svg>{escape(name)}</li>"
        for kind, name in enumerate(names)
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'
