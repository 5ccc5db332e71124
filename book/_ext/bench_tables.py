"""The directive `bench-tables`: every results/*/bench*.json as tables, with machine and date."""

import json
from pathlib import Path

from docutils import nodes
from generated import in_order_of_chapters, markdown_table, sections
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

CELL_BREAK = "<br>"


def figure(value: float) -> str:
    """Three significant digits, never in exponent form: 0.0123, 1.23, 12.3, 123, 1,234."""
    if value == 0:
        return "0"
    digits = 2
    size = abs(value)
    while size < 1:
        size, digits = size * 10, digits + 1
    while size >= 10 and digits > 0:
        size, digits = size / 10, digits - 1
    return f"{value:,.{digits}f}"


def candidate_cell(candidate: dict | None, is_baseline: bool) -> str:
    """Milliseconds, the ratio with its quartiles, then what else was measured, one a line."""
    if not candidate:
        return "not run"
    lines = [f"{figure(candidate['ms'])} ms"]
    ratio = candidate.get("ratio")
    if is_baseline:
        lines.append("ratio 1")
    elif ratio:
        quartiles = f"[{figure(ratio['q1'])}, {figure(ratio['q3'])}]"
        lines.append(f"**{figure(ratio['median'])}** {quartiles}")
    if candidate.get("peak_mib") is not None:
        lines.append(f"{figure(candidate['peak_mib'])} MiB")
    if candidate.get("launches") is not None:
        lines.append(f"{candidate['launches']} launches")
    if candidate.get("error"):
        lines.append(f"error {candidate['error']:.0e}")
    return CELL_BREAK.join(lines)


def size_cell(size: dict) -> str:
    """`order 468`, `T 784`, one a line: the names as the benchmark gives them."""
    return CELL_BREAK.join(f"{name} {value:,}" for name, value in size.items())


def table_lines(table: dict) -> list[str]:
    """One benchmark table in Markdown: a row a size and pass, a column a candidate."""
    names: list[str] = [table["baseline"]]
    for row in table["rows"]:
        names += [name for name in row["candidates"] if name not in names]
    rows = [
        [size_cell(row["size"]), row["pass"]]
        + [candidate_cell(row["candidates"].get(n), n == table["baseline"]) for n in names]
        for row in table["rows"]
    ]
    return [
        f"**{table['title']}**",
        "",
        ":::{div} bench-table",
        *markdown_table(["Size", "Pass", *names], rows),
        ":::",
        "",
        *([f"This table was {table['note']}.", ""] if "note" in table else []),
    ]


def machine_line(environment: dict) -> str:
    """The sentence that says where and when a file was measured."""
    threads = environment.get("threads")
    parts = [
        str(environment.get("device_name") or environment.get("device") or "unknown machine"),
        f"{threads} thread{'' if threads == 1 else 's'}" if threads else "",
        f"torch {environment['torch']}" if environment.get("torch") else "",
        f"Python {environment['python']}" if environment.get("python") else "",
        str(environment.get("date", ""))[:10],
    ]
    return "Measured on " + ", ".join(part for part in parts if part) + "."


def file_lines(path: Path, bench: dict) -> list[str]:
    """The section of one results file."""
    stem = path.parent.name
    where = "" if bench["environment"]["device"] == "cpu" else " on a GPU"
    lines = [f"## {bench['title']}{where}", "", machine_line(bench["environment"])]
    lines += [f"Chapter: {{doc}}`{stem}`. File: `results/{stem}/{path.name}`.", ""]
    for table in bench["tables"]:
        lines += table_lines(table)
    return lines


class BenchTables(SphinxDirective):
    """Takes no argument: a new chapter's file appears by itself."""

    def run(self) -> list[nodes.Node]:
        results = Path(self.env.srcdir) / "results"
        # The list of files may change while no page does.
        self.env.note_reread()
        lines: list[str] = []
        for path in in_order_of_chapters(results.glob("*/bench*.json"), results.parent):
            self.env.note_dependency(str(path))
            lines += file_lines(path, json.loads(path.read_text(encoding="utf-8")))
        if not lines:
            lines = ["No benchmark has been run yet: `make bench`."]
        return sections(self, lines, "bench")


def setup(app: Sphinx) -> dict:
    app.add_directive("bench-tables", BenchTables)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
