"""Draws the pictures on the landing page's cards: cards.py writes book/_static/cards/*.svg.

Middle tones on a transparent ground, so that they read on light and on dark pages.
"""

import math
from pathlib import Path

from chapters import chapters

FOLDER = Path(__file__).parents[1] / "book" / "_static" / "cards"
WIDTH, HEIGHT = 360, 150
BLUE, ORANGE, GREEN, PINK, GREY = "#3a8fc7", "#d9822b", "#2a9d78", "#c06aa0", "#8a8f98"


def line(x1, y1, x2, y2, *, colour=GREY, width=2.0) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="{width}" stroke-linecap="round"/>'
    )


def dot(x, y, radius=6.0, *, colour=BLUE) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>'


def box(x, y, width, height, *, colour=BLUE, opacity=1.0) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width}" height="{height}" rx="2" '
        f'fill="{colour}" fill-opacity="{opacity}"/>'
    )


def curve(points, colour, width=2.5) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def legendre(degree: int, x: float) -> float:
    previous, current = 1.0, x
    if degree == 0:
        return previous
    for k in range(1, degree):
        previous, current = current, ((2 * k + 1) * x * current - k * previous) / (k + 1)
    return current


def lmu() -> list[str]:
    parts = [line(20, 75, 340, 75, colour=GREY, width=1)]
    for degree, colour in enumerate([GREY, BLUE, ORANGE, GREEN, PINK, BLUE]):
        points = [(20 + 320 * r / 160, 75 - 58 * legendre(degree, r / 80 - 1)) for r in range(161)]
        parts.append(curve(points, colour, 2.5 if degree < 5 else 1.5))
    return parts


def egnn() -> list[str]:
    atoms = [(-38, -18), (-6, 8), (32, -14), (-14, 42), (14, -44)]
    bonds = [(0, 1), (1, 2), (1, 3), (1, 4)]
    parts = []
    for centre, angle in ((95, 0.0), (265, 1.1)):
        turned = [
            (
                centre + x * math.cos(angle) - y * math.sin(angle),
                75 + x * math.sin(angle) + y * math.cos(angle),
            )
            for x, y in atoms
        ]
        parts += [line(*turned[a], *turned[b]) for a, b in bonds]
        for (x, y), colour in zip(turned, [ORANGE, BLUE, GREEN, GREEN, PINK], strict=True):
            direction = angle - 0.6
            tip = (x + 22 * math.cos(direction), y + 22 * math.sin(direction))
            parts += [line(x, y, *tip, colour=colour), dot(x, y, 8, colour=colour)]
    arc = [(180 + 22 * math.cos(a / 10), 75 + 22 * math.sin(a / 10)) for a in range(-35, 12)]
    return [*parts, curve(arc, GREY, 2), dot(*arc[-1], 4, colour=GREY)]


def msa_transformer() -> list[str]:
    parts = []
    for row in range(6):
        for column in range(16):
            paired = column in (4, 11)
            colour = (BLUE, ORANGE)[row in (1, 3, 4)] if paired else GREY
            opacity = 1.0 if paired else 0.25 + 0.12 * ((row * 7 + column * 5) % 4)
            parts.append(
                box(24 + column * 20, 34 + row * 19, 16, 15, colour=colour, opacity=opacity)
            )
    arc = [
        (24 + 20 * 7.9 + 70 * math.cos(a), 30 - 20 * math.sin(a))
        for a in [math.pi * k / 40 for k in range(41)]
    ]
    return [*parts, curve(arc, GREEN)]


def omninet() -> list[str]:
    where = {(t, k): (40 + 56 * t, 122 - 47 * k) for t in range(6) for k in range(3)}
    target = where[(3, 2)]
    parts = [
        line(*target, *place, colour=BLUE, width=1.2) for place in where.values() if place != target
    ]
    colours = [GREY, GREEN, PINK]
    parts += [dot(*place, 7, colour=colours[k]) for (_, k), place in where.items()]
    return [*parts, dot(*target, 10, colour=ORANGE)]


def gfnn() -> list[str]:
    parts = [line(40 + 40 * i, 15, 40 + 40 * i, 135, colour=GREY, width=1) for i in range(8)]
    parts += [line(40, 15 + 40 * j, 320, 15 + 40 * j, colour=GREY, width=1) for j in range(4)]
    point = (172, 82)
    for i in range(8):
        for j in range(4):
            x, y = 40 + 40 * i, 15 + 40 * j
            near = abs(x - point[0]) < 80 and abs(y - point[1]) < 80
            if near:
                parts.append(line(*point, x, y, colour=BLUE, width=1.2))
            parts.append(dot(x, y, 6 if near else 4, colour=BLUE if near else GREY))
    return [*parts, dot(*point, 8, colour=ORANGE)]


def folded_cnn() -> list[str]:
    colours = [BLUE, ORANGE, GREEN, PINK]
    parts = [
        box(26 + 34 * i, 30 + 22 * i, 46, 26, colour=c, opacity=0.9) for i, c in enumerate(colours)
    ]
    parts += [line(196, 75, 226, 75), line(226, 75, 217, 67), line(226, 75, 217, 83)]
    parts += [
        box(248 + 9 * i, 36 + 9 * i, 52, 52, colour=c, opacity=0.9) for i, c in enumerate(colours)
    ]
    return parts


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for stem in chapters():
        draw = globals()[stem]
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">'
        (FOLDER / f"{stem}.svg").write_text(
            "\n".join([head, *draw(), "</svg>"]) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
