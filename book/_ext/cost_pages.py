"""The directives of *What it costs*: `costs` and `measurements` make a chapter's page,
`costs-overview` the first.

    ```{costs} lmu
    :growth: bench length
    :along: T
    :shown: last state | recurrence
    bench peers: last state / nn.LSTM
    ```

Each line of the content names a file, a table, ours and another; the page answers who is faster.
`growth` names the table of the figure, `along` its size (`nodes^dims` is a power), `shown` whom it
shows. Numbers, machines and dates come from results/; only names stand in the page.
"""

import math
import re
from html import escape
from pathlib import Path

from bench_files import Comparison, compare, comparisons, files_of, read, table_of
from bench_files import rows_with as rows_of
from bench_tables import between, figure, machine_line, size_of, table_lines
from docutils import nodes
from docutils.parsers.rst.directives import unchanged_required
from generated import markdown_table, sections
from log_panels import RIGHT, WIDTH, Series, legend, mark, panel, picture, ticks
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from tools.chapters import chapters

MOST_ROWS = 8
SIGNS = {"faster": "▲", "level": "=", "slower": "▼"}
ANSWER = ["Beside", "Ours", "On", "At", "Time of the other / ours", "Ours is", "Over all sizes"]


def spelled(word: str) -> str:
    return f"{SIGNS[word]} {word}"


def device(name: str) -> str:
    return name.removeprefix("NVIDIA ").removeprefix("AMD ")


# ---- the answer ----


def times(ratio: float) -> str:
    return f"{figure(ratio)} times"


def answer_sentence(found: list[Comparison]) -> str:
    """How often ours is faster, level, slower, and the two ends."""
    words = [one.largest[1].word for one in found]
    counted = [f"{word} in {words.count(word) or 'none'}" for word in SIGNS]
    ranked = sorted(found, key=lambda one: one.largest[1].median)
    at_all = f"**In {len(found)} comparisons at the largest sizes, ours is "
    parts = [at_all + f"{counted[0]}, {counted[1]} and {counted[2]}.**"]
    for one, wanted in ((ranked[-1], "faster"), (ranked[0], "slower")):
        ratio = one.largest[1]
        if ratio.word == wanted:
            by = ratio.median if wanted == "faster" else 1 / ratio.median
            where = f"{device(one.machine)}, {size_of(one.largest[0])}"
            end = "At best it is" if wanted == "faster" else "At worst it is"
            parts.append(f"{end} {times(by)} {wanted}, beside *{one.other}* ({where}).")
    return " ".join(parts)


def what(one: Comparison) -> str:
    """`One row attention`: the table's title as far as its first comma or colon."""
    return re.split("[,:]", one.title)[0]


def answer_row(one: Comparison) -> list[str]:
    row, ratio = one.largest
    medians = [each.median for each in one.ratios]
    over = f"{figure(min(medians))} to {figure(max(medians))}" if len(medians) > 1 else "one size"
    at = f"{what(one)}: {size_of(row)}, {row['pass']}"
    spread = between(ratio.q1, ratio.median, ratio.q3)
    return [one.other, one.ours, device(one.machine), at, spread, spelled(ratio.word), over]


def answer_lines(found: list[Comparison]) -> list[str]:
    rows = [answer_row(one) for one in found]
    table = markdown_table(ANSWER, rows)
    return [answer_sentence(found), "", "::::{div} cost-answer", *table, "::::", ""]


# ---- the figure ----


def along(row: dict, expression: str) -> float:
    name, _, power = expression.partition("^")
    return row["size"][name] ** (row["size"][power] if power else 1)


def series_of(table: dict, names: list[str], size: str, metric: str) -> list[Series]:
    found = []
    for name in names:
        points = []
        for row in rows_of(table, name):
            one, x = row["candidates"][name], along(row, size)
            if metric == "ratio":
                ratio = one["ratio"]
                points.append((x, ratio["median"], ratio["q1"], ratio["q3"]))
            elif one.get(metric):
                points.append((x, one[metric], one[metric], one[metric]))
        slope = {"ms": "time_predicted", "peak_mib": "memory_predicted"}.get(metric, "")
        expected = table.get("exponents", {}).get(name, {}).get(slope)
        found.append(Series(name, points, expected))
    return found


def growth_lines(table: dict, unit: str) -> list[str]:
    """The fitted slopes beside the expected ones."""

    def slope(one: dict, key: str) -> str:
        fitted, wanted = one.get(key), one.get(f"{key}_predicted")
        said = "not fitted" if fitted is None else f"{fitted:.2f}"
        return said if wanted is None else f"{said} (expected {wanted:.3g})"

    rows = []
    for name, one in table["exponents"].items():
        started = [one[key] for key in one if key.startswith("from_")]
        started += [table[key] for key in table if key.startswith("exponents_from_")]
        start = f"{started[0]:,}" if started else "all"
        rows.append([name, slope(one, "time"), slope(one, "memory"), start])
    titles = ["Grows as a power of the size", "Time", "Memory", f"Fitted from {unit}"]
    lines = markdown_table(titles, rows)
    return ["::::{dropdown} Slopes, fitted and expected", *lines, "::::", ""]


def figure_html(table: dict, names: list[str], size: str, unit: str) -> str:
    of = table["baseline"]
    panels = [panel(f"Time / {of}", unit, series_of(table, names, size, "ratio"), level=1)]
    for title, metric in (("Time, ms", "ms"), ("Peak memory, MiB", "peak_mib")):
        series = series_of(table, names, size, metric)
        if any(one.points for one in series):
            panels.append(panel(title, unit, series))
    where = machine_line(table["environment"]).removesuffix(".")
    dashed = " Dashed: the slope that is expected." if "exponents" in table else ""
    caption = (
        f"{table['title']}. First the ratio of times with its quartiles; below 1 is faster than "
        f"{of}.{dashed} {where}."
    )
    return (
        f'<figure class="cost-figure"><div class="panels">{"".join(panels)}</div>'
        f"{legend(names)}<figcaption>{caption}</figcaption></figure>"
    )


def raw(html: str) -> nodes.Node:
    return nodes.raw("", html, format="html")


# ---- everything else ----


def slug(*parts: str) -> str:
    return "-".join(part.replace("_", "-").lower() for part in parts)


def everything_lines(root: Path, stem: str) -> list[str]:
    """Every table of every file, folded under a heading with an anchor of its own."""
    lines = []
    for path in files_of(root, stem):
        bench = read(root, stem, path.stem)
        gpu = bench["environment"]["device"] != "cpu"
        lines += [f"(costs-{slug(stem, path.stem)})="]
        lines += [f"## All measurements on {'a GPU' if gpu else 'CPU cores'}", ""]
        lines += [f"{machine_line(bench['environment'])} File: `results/{stem}/{path.name}`.", ""]
        for table in bench["tables"]:
            lines += [f"(costs-{slug(stem, path.stem, table['name'])})=", f"### {table['title']}"]
            count = sum(len(row["candidates"]) for row in table["rows"])
            lines += ["", f":::::{{dropdown}} {count} measurements"]
            lines += [*table_lines(table), ":::::", ""]
    return lines


class Generated(SphinxDirective):
    """Reads files that may change while no page does."""

    @property
    def root(self) -> Path:
        return Path(self.env.srcdir)

    def note(self, stem: str) -> None:
        self.env.note_reread()
        for path in files_of(self.root, stem):
            self.env.note_dependency(str(path))


class Costs(Generated):
    required_arguments = 1
    has_content = True
    option_spec = dict.fromkeys(("growth", "along", "unit", "shown"), unchanged_required)

    def run(self) -> list[nodes.Node]:
        stem = self.arguments[0]
        self.note(stem)
        try:
            found = [compare(self.root, stem, line.strip()) for line in self.content]
            table = table_of(self.root, stem, *self.options["growth"].split())
        except ValueError as error:
            raise ExtensionError(f"costs {stem}: {error}") from error
        if not 1 <= len(found) <= MOST_ROWS:
            raise ExtensionError(f"costs {stem}: wanted 1 to {MOST_ROWS} lines, given {len(found)}")
        table["rows"] = [row for row in table["rows"] if self.is_shown(row, table)]
        names = [name.strip() for name in self.options["shown"].split("|")]
        size = self.options["along"]
        unit = self.options.get("unit", size)
        drawn = raw(figure_html(table, names, size, unit))
        growth = growth_lines(table, unit) if "exponents" in table else []
        before = sections(self, answer_lines(found), "costs")
        return [*before, drawn, *sections(self, growth, "costs")]

    def is_shown(self, row: dict, table: dict) -> bool:
        """Of several numbers of threads the largest: the figure has one line a candidate."""
        most = max(one["size"].get("threads", 0) for one in table["rows"])
        return row["size"].get("threads", 0) == most


class Measurements(Generated):
    """Apart from `costs`: a heading opens its section at once, before what is still in hand."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        stem = self.arguments[0]
        self.note(stem)
        chapter = f"Why, and how it was measured: the chapter {{doc}}`/book/{stem}`. "
        chapter += "How to read these pages: {doc}`/book/costs`."
        return sections(self, [chapter, "", *everything_lines(self.root, stem)], "costs")


# ---- the first page ----


def short_title(root: Path, stem: str) -> str:
    first = (root / "book" / "costs" / f"{stem}.md").read_text(encoding="utf-8").splitlines()[0]
    return first.removeprefix("# ").partition(": ")[2]


def overview_rows(root: Path, found: dict[str, list[Comparison]]) -> list[list[str]]:
    rows = []
    for stem, many in found.items():
        words = [one.largest[1].word for one in many]
        link = f"{{doc}}`{short_title(root, stem)} <costs/{stem}>`"
        best = max(many, key=lambda one: one.largest[1].median)
        rows.append(
            [
                link,
                *(str(words.count(word)) for word in SIGNS),
                f"{figure(best.largest[1].median)}, beside {best.other}",
            ]
        )
    return rows


ROW, HEAD = 34, 24
LEFT = 12


def strip(title: str, many: list[Comparison], ends: tuple[float, float]) -> str:
    """One chapter's ratios at the largest sizes: a dot and its quartiles a comparison."""
    floor = HEAD + ROW * len(many)
    low, high = math.log(ends[0]), math.log(ends[1])

    def across(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log(value) - low) / (high - low)

    parts = [f'<text class="title" x="4" y="14">{title}</text>']
    for value in ticks(*ends):
        x = across(value)
        kind = "level" if value == 1 else "grid"
        parts.append(f'<path class="{kind}" d="M{x:.1f} {HEAD - 4}V{floor}"/>')
        parts.append(f'<text x="{x:.1f}" y="{floor + 14}" text-anchor="middle">{value:g}</text>')
    said = []
    for at, one in enumerate(many):
        y, ratio = HEAD + ROW * at + 22, one.largest[1]
        twice = [(each.other, each.machine) for each in many].count((one.other, one.machine)) > 1
        other = f"{one.other}, {one.table}" if twice else one.other
        name = f"{other}, {device(one.machine)}"
        series = {"faster": 2, "level": 3, "slower": 1}[ratio.word]
        parts.append(f'<text x="4" y="{y - 9}">{escape(name)}</text>')
        parts.append(
            f'<g class="series-{series}"><path class="line" d="M{across(ratio.q1):.1f} {y}'
            f'H{across(ratio.q3):.1f}"/>{mark(0, across(ratio.median), y)}</g>'
        )
        said.append(f"{one.other} on {one.machine}: {figure(ratio.median)}, ours is {ratio.word}")
    alt = f"{title}. Time of the other over ours. " + "; ".join(said) + "."
    return picture(parts, alt, floor + 22)


def overview_html(root: Path, found: dict[str, list[Comparison]]) -> str:
    every = [one.largest[1] for many in found.values() for one in many]
    ends = min(one.q1 for one in every), max(one.q3 for one in every)
    strips = [strip(short_title(root, stem), many, ends) for stem, many in found.items()]
    caption = (
        "How much longer the others take than ours, each at the largest size at which both ran; "
        "the bar is from quartile to quartile. Right of the line at 1 ours is faster."
    )
    return (
        f'<figure class="cost-figure"><div class="panels">{"".join(strips)}</div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


class CostsOverview(Generated):
    """All models together."""

    def run(self) -> list[nodes.Node]:
        stems = chapters(self.root)
        for stem in stems:
            self.note(stem)
            self.env.note_dependency(str(self.root / "book" / "costs" / f"{stem}.md"))
        found = {stem: comparisons(self.root, stem) for stem in stems}
        titles = ["Model", *map(spelled, SIGNS), "Largest ratio"]
        table = markdown_table(titles, overview_rows(self.root, found))
        lines = ["::::{div} cost-answer", *table, "::::", ""]
        return [*sections(self, lines, "costs"), raw(overview_html(self.root, found))]


def setup(app: Sphinx) -> dict:
    app.add_directive("costs", Costs)
    app.add_directive("measurements", Measurements)
    app.add_directive("costs-overview", CostsOverview)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
