"""One table of a benchmark, whole, in Markdown: a row for each size, pass and candidate."""

from generated import markdown_table

TITLES = ["Size", "Pass", "Candidate", "Time, ms", "Ratio [quartiles]", "Peak, MiB"]
EXTRA = {"launches": "Launches", "error": "Error"}


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


def between(q1: float, median: float, q3: float) -> str:
    return f"{figure(median)} [{figure(q1)}, {figure(q3)}]"


def size_of(row: dict) -> str:
    """`order 468, T 784`: the names as the benchmark gives them."""
    return ", ".join(f"{name} {value:,}" for name, value in row["size"].items())


def candidate_cells(one: dict | None, extra: list[str]) -> list[str]:
    if not one:
        return ["not run", *[""] * (2 + len(extra))]
    ratio, peak = one["ratio"], one.get("peak_mib")
    cells = [
        figure(one["ms"]),
        between(ratio["q1"], ratio["median"], ratio["q3"]),
        "" if peak is None else figure(peak),
    ]
    spelled = {"launches": str, "error": lambda error: f"{error:.0e}" if error else "0"}
    return cells + [spelled[key](one[key]) if key in one else "" for key in extra]


def table_lines(table: dict) -> list[str]:
    """The size and the pass stand once, at their first candidate."""
    candidates = [one for row in table["rows"] for one in row["candidates"].values() if one]
    extra = [key for key in EXTRA if any(key in one for one in candidates)]
    rows = []
    for row in table["rows"]:
        head = [size_of(row), row["pass"]]
        for name, one in row["candidates"].items():
            rows.append([*head, name, *candidate_cells(one, extra)])
            head = ["", ""]
    note = [f"This table was {table['note']}.", ""] if "note" in table else []
    return [
        f"Ratios are to *{table['baseline']}*.",
        "",
        "::::{div} bench-table",
        *markdown_table([*TITLES, *(EXTRA[key] for key in extra)], rows),
        "::::",
        "",
        *note,
    ]


def machine_line(environment: dict) -> str:
    """The sentence that says where and when something was measured."""
    threads = environment.get("threads")
    parts = [
        str(environment.get("device_name") or environment.get("device") or "unknown machine"),
        f"{threads} thread{'' if threads == 1 else 's'}" if threads else "",
        f"torch {environment['torch']}" if environment.get("torch") else "",
        f"Python {environment['python']}" if environment.get("python") else "",
        str(environment.get("date", ""))[:10],
    ]
    return "Measured on " + ", ".join(part for part in parts if part) + "."
