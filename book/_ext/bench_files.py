"""What the pages of costs read: the files results/*/bench*.json, and two candidates compared."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TRAINING = "forward+backward"
NEAR = 0.05  # a median this close to 1 is called level


@dataclass(frozen=True)
class Ratio:
    """How much longer the other takes than ours; the quartiles lie around the median."""

    q1: float
    median: float
    q3: float

    @property
    def word(self) -> str:
        """Of ours: faster, level or slower."""
        if self.q1 <= 1 <= self.q3 or abs(self.median - 1) < NEAR:
            return "level"
        return "faster" if self.median > 1 else "slower"


@dataclass(frozen=True)
class Comparison:
    """Ours beside one other, in one table of one file, at every size where both ran."""

    table: str
    ours: str
    other: str
    machine: str
    title: str  # of the table
    rows: list[dict]  # all of one pass, small to large
    ratios: list[Ratio]

    @property
    def largest(self) -> tuple[dict, Ratio]:
        return self.rows[-1], self.ratios[-1]


def files_of(root: Path, stem: str) -> list[Path]:
    """CPU first: `bench.json` sorts before `bench_cuda.json`."""
    return sorted((root / "results" / stem).glob("bench*.json"))


def read(root: Path, stem: str, file: str) -> dict:
    return json.loads((root / "results" / stem / f"{file}.json").read_text(encoding="utf-8"))


def table_of(root: Path, stem: str, file: str, name: str) -> dict:
    bench = read(root, stem, file)
    for table in bench["tables"]:
        if table["name"] == name:
            return {"environment": bench["environment"], **table}
    raise ValueError(f"results/{stem}/{file}.json: wanted a table {name}, found none")


def ratio_of(row: dict, ours: str, other: str, baseline: str) -> Ratio:
    """Times were compared within each round with the baseline, so one of the two must be it."""
    if ours == baseline:
        one = row["candidates"][other]["ratio"]
        return Ratio(one["q1"], one["median"], one["q3"])
    if other == baseline:
        one = row["candidates"][ours]["ratio"]
        return Ratio(1 / one["q3"], 1 / one["median"], 1 / one["q1"])
    raise ValueError(f"wanted the baseline {baseline} among {ours} and {other}")


def rows_with(table: dict, *names: str) -> list[dict]:
    """Training steps where the table has them, else forward passes."""
    passes = {row["pass"] for row in table["rows"]}
    kept = TRAINING if TRAINING in passes else "forward"
    return [
        row
        for row in table["rows"]
        if row["pass"] == kept and all(row["candidates"].get(name) for name in names)
    ]


def compare(root: Path, stem: str, line: str) -> Comparison:
    """Of a line such as `bench peers: last state / nn.LSTM`."""
    try:
        where, pair = line.split(": ", 1)
        file, name = where.split()
        ours, other = pair.split(" / ")
    except ValueError:
        raise ValueError(f"wanted `FILE TABLE: OURS / OTHER`, given {line!r}") from None
    table = table_of(root, stem, file, name)
    rows = rows_with(table, ours, other)
    if not rows:
        raise ValueError(f"{stem}, {line!r}: wanted a size at which both ran, found none")
    ratios = [ratio_of(row, ours, other, table["baseline"]) for row in rows]
    machine = table["environment"]["device_name"]
    return Comparison(name, ours, other, machine, table["title"], rows, ratios)


def comparisons(root: Path, stem: str) -> list[Comparison]:
    """Those that the chapter's page of costs names."""
    text = (root / "book" / "costs" / f"{stem}.md").read_text(encoding="utf-8")
    return [compare(root, stem, line) for line in lines_of(text)]


def lines_of(page: str) -> Iterator[str]:
    """The comparisons in the directive `costs` of a page."""
    inside = False
    for line in page.splitlines():
        if line.startswith("```{costs}"):
            inside = True
        elif inside and line.startswith("```"):
            return
        elif inside and line.strip() and not line.startswith(":"):
            yield line.strip()
