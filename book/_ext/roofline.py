"""The directive `rooflines`: what a machine can do at most, and the models that say what they do.

A machine's roof is drawn where a benchmark measured its copy and its product of matrices. A model
stands under it where its table has `work`: operations and bytes of an item, by the candidate's name
or by the first part of it. Below, how near every model comes whose rows tell their limit.
"""

from pathlib import Path

from bench_files import files_of, read
from bench_tables import figure
from docutils import nodes
from limits import by_machine, drawn
from log_panels import COLOURS, Axes, legend, mark, picture
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from tools.chapters import chapters

INTENSITY, SPEED = "FLOP per byte", "GFLOP/s"


def best(table: dict, key: str, largest: str | None = None) -> float:
    """The highest rate of a table; of its largest size alone where caches would flatter it."""
    rows = table["rows"]
    if largest:
        top = max(row["size"][largest] for row in rows)
        rows = [row for row in rows if row["size"][largest] == top]
    return max(one[key] for row in rows for one in row["candidates"].values() if one)


def work_of(table: dict, candidate: str) -> dict | None:
    """`f = 4, compiled` has the work of fold 4."""
    fold = candidate.partition(",")[0].removeprefix("f = ")
    return table["work"].get(candidate) or table["work"].get(fold)


def points_of(bench: dict) -> dict[str, list[tuple[float, float]]]:
    """By table: intensity and speed of the fastest candidate of each amount of work."""
    found: dict[str, list[tuple[float, float]]] = {}
    for table in (table for table in bench["tables"] if "work" in table):
        fastest: dict[float, float] = {}
        for row in table["rows"]:
            for name, one in row["candidates"].items():
                work = work_of(table, name)
                if one and work and one.get("images_per_s"):
                    speed = work["flops"] * one["images_per_s"] / 1e9
                    intensity = work["intensity"]
                    fastest[intensity] = max(speed, fastest.get(intensity, 0))
        found[table["title"].partition(",")[0]] = sorted(fastest.items())
    return {name: points for name, points in found.items() if points}


def roof(bench: dict) -> tuple[float, float] | None:
    """Bytes a nanosecond from main memory, operations a nanosecond at most."""
    named = {table["name"]: table for table in bench["tables"]}
    if not {"copy", "product"} <= named.keys():
        return None
    return best(named["copy"], "gb_per_s", "kib"), best(named["product"], "gflop_per_s")


def machine_panel(bench: dict) -> tuple[str, list[str]]:
    bandwidth, most = roof(bench) or (1.0, 1.0)
    points = points_of(bench)
    ridge = most / bandwidth
    xs = [x for many in points.values() for x, _ in many] + [ridge / 8, ridge * 4]
    ys = [y for many in points.values() for _, y in many] + [most, bandwidth * min(xs)]
    axes = Axes(xs, ys)
    machine = bench["environment"]["device_name"]
    parts = axes.frame(f"{SPEED}, {machine}", INTENSITY)
    corners = [(axes.x[0], bandwidth * axes.x[0]), (ridge, most), (axes.x[1], most)]
    path = "L".join(f"{a:.1f} {b:.1f}" for a, b in (axes.place(*one) for one in corners))
    parts.append(f'<path class="level" d="M{path}"/>')
    for kind, many in enumerate(points.values()):
        marks = "".join(mark(kind, *axes.place(*one)) for one in many)
        parts.append(f'<g class="series-{kind % COLOURS}">{marks}</g>')
    said = [f"{name}: up to {figure(max(y for _, y in many))}" for name, many in points.items()]
    alt = (
        f"The roof of {machine}: {figure(bandwidth)} GB/s, then {figure(most)} {SPEED}, "
        f"from {figure(ridge)} {INTENSITY} on. {SPEED} of the models: {'; '.join(said)}."
    )
    return picture(parts, alt), list(points)


def figure_of(panels: list[str], names: list[str], caption: str) -> str:
    return (
        f'<figure class="cost-figure"><div class="panels">{"".join(panels)}</div>'
        f"{legend(names)}<figcaption>{caption}</figcaption></figure>"
    )


class Rooflines(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        self.env.note_reread()
        benches = [
            (stem, read(root, stem, path.stem))
            for stem in chapters(root)
            for path in files_of(root, stem)
        ]
        panels, names = [], []
        for _, bench in benches:
            if roof(bench):
                panel, shown = machine_panel(bench)
                panels.append(panel)
                names = max(names, shown, key=len)
        html = figure_of(
            panels,
            names,
            "The roof is what was measured: the largest copy on the left, the best product of "
            "square matrices on the right. Each network has one dot for each fold.",
        )
        titles = {stem: bench["title"] for stem, bench in benches}
        machines = by_machine((titles[stem], bench) for stem, bench in benches)
        if machines:
            shown = [
                title for title in titles.values() if any(title in m for m in machines.values())
            ]
            html += figure_of(
                [drawn(machine, models, shown) for machine, models in machines.items()],
                shown,
                "At 1 a model takes as long as its products alone, or as its bytes alone where "
                "these take longer, left of the dashed line. A dot is a size of the benchmark.",
            )
        return [nodes.raw("", html, format="html")]


def setup(app: Sphinx) -> dict:
    app.add_directive("rooflines", Rooflines)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
