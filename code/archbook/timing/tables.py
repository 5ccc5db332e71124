"""Tables of candidates: made, shown equal, timed in rounds, their peak memory measured.

A benchmark says how its candidates are prepared, which of them compute the same, and at which
sizes; rows and tables are made here, for all benchmarks alike.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Any

from archbook.timing.limit import Limit, limit_of
from archbook.timing.memory import peak_bytes
from archbook.timing.peers import Needs, installed, missing
from archbook.timing.rounds import timed
from archbook.timing.works import Work

Size = dict[str, Any]
Works = dict[str, Work]

STEP = "forward+backward"
FORWARD = "forward"
PASSES = (STEP, FORWARD)


@dataclass(frozen=True)
class Table:
    """What one table compares; its first candidate is the baseline.

    >>> table = Table("Sums of squares", ("sum", "mean"), size={"dtype": "float32"})
    >>> table.names[0], table.passes
    ('sum', ('forward+backward', 'forward'))
    """

    title: str
    names: tuple[str, ...]
    _: KW_ONLY
    case: Mapping[str, Any] = field(default_factory=dict)  # more that `prepare` is told
    size: Size = field(default_factory=dict)  # what every size has besides the plan's
    passes: tuple[str, ...] = PASSES
    peaks: bool = True  # also peak memory, of a training step


@dataclass(frozen=True)
class Plan:
    """At which sizes each part is measured, and for about how many seconds a row.

    >>> plan = Plan(sizes={"sums": ({"n": 100}, {"n": 1000})}, seconds={"sums": 10})
    >>> plan.seconds["sums"] * plan.forward  # of a row of forward passes
    2.5
    """

    sizes: Mapping[str, tuple[Any, ...]]
    seconds: Mapping[str, float]
    forward: float = 1 / 4  # of these seconds, for a forward pass alone
    thorough: bool = True  # also peak memory, and what must be compiled first


Part = Callable[[Plan, str], list[dict]]  # (plan, device) -> tables


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """How the candidates of a benchmark are made and compared; makes its rows and tables.

    prepare(name, size, device, backward=..., **case) gives a candidate's work, also in a process of
    its own, where its peak memory is measured. check(works, table, size, backward=..., device=...)
    runs every work once and fails where two that should compute the same do not.

    >>> def prepare(name, size, device, *, backward):
    ...     x = torch.randn(size["n"], size["n"])
    ...     return {"sum": lambda: (x.sum(),), "mean": lambda: (x.mean(),)}[name]
    >>> candidates = Candidates(prepare=prepare, check=lambda works, *_, **__: None)
    >>> table = Table("Sums", ("sum", "mean"), passes=(FORWARD,))
    >>> list(candidates.parts({"sums": {"against_n": table}}))
    ['sums']
    """

    prepare: Callable[..., Work]
    check: Callable[..., None]
    small: Size | None = None  # of a step before the peak is taken: what differs from the size
    hidden: tuple[str, ...] = ()  # parts of a size that no table shows
    without_peak: tuple[str, ...] = ()  # names that a process of its own would first compile
    needs: Needs = field(default_factory=dict)  # names that are other people's libraries
    why_absent: Callable[[str, Size], str | None] | None = None  # else, why one cannot run
    # further fields of a table, from its name and rows; may add to the rows' candidates
    more: Callable[[str, list[dict]], dict] | None = None

    def parts(self, tables: Mapping[str, Mapping[str, Table]]) -> dict[str, Part]:
        """Each part as a function that makes its tables, which have names."""
        return {part: partial(self._tables, part, named) for part, named in tables.items()}

    def _tables(
        self, part: str, tables: Mapping[str, Table], plan: Plan, device: str
    ) -> list[dict]:
        made = []
        for name, table in tables.items():
            print(table.title)
            rows = [
                self.row(table, size, kind, plan=plan, part=part, device=device)
                for size in plan.sizes[part]
                for kind in table.passes
            ]
            more = self.more(name, rows) if self.more else {}
            if more:
                print(more)
            if self.needs:
                more = more | {"peers": installed(self.needs)}
            made.append(bench_table(name, table.title, rows, baseline=table.names[0], **more))
        return made

    def row(
        self, table: Table, size: Size, kind: str, *, plan: Plan, part: str, device: str
    ) -> dict:
        """One row: candidates shown equal, timed, their peak memory measured."""
        size, backward = size | table.size, kind == STEP
        absent = self._absent(table.names, size)
        works = {
            name: self.prepare(name, size, device, backward=backward, **table.case)
            for name in table.names
            if name not in absent
        }
        self.check(works, table, size, backward=backward, device=device)
        seconds = plan.seconds[part] * (1 if backward else plan.forward)
        candidates = timed(works, table.names[0], seconds, device=device)
        limit = limit_of(works[table.names[0]], device)
        del works  # the processes below need the memory
        if plan.thorough and table.peaks and backward:
            for name, one in candidates.items():
                if name not in self.without_peak:
                    one["peak_mib"] = self._peak_mib(name, size, device, table.case)
        shown = {key: value for key, value in size.items() if key not in self.hidden}
        may_lack = self.needs or self.why_absent
        made = bench_row(
            shown, kind, candidates, limit=limit, **({"absent": absent} if may_lack else {})
        )
        for name, reason in absent.items():
            print(f"  {name:32}absent: {reason}", flush=True)
        return made

    def _absent(self, names: Sequence[str], size: Size) -> dict[str, str]:
        here, found = installed(self.needs), {}
        for name in names:
            reason = missing(self.needs.get(name, ()), here)
            if reason is None and self.why_absent is not None:
                reason = self.why_absent(name, size)
            if reason is not None:
                found[name] = reason
        return found

    def _peak_mib(self, name: str, size: Size, device: str, case: Mapping[str, Any]) -> float:
        target = f"{inspect.getfile(self.prepare)}:{self.prepare.__name__}"
        given = {"name": name, "size": size, "device": device, **case}
        before = None if self.small is None else given | {"size": size | self.small}
        return peak_bytes(target, given, before=before, device=device) / 2**20


def bench_row(
    size: Size, kind: str, candidates: dict, *, limit: Limit | None = None, **more: Any
) -> dict:
    """One row of a table, printed as soon as it is finished.

    limit: of the baseline's work on this machine; how many times as long each candidate takes, the
    row then tells too. A candidate of other arithmetic may take less than one.

    >>> ratio = {"median": 1.0, "q1": 0.9, "q3": 1.1}
    >>> candidates = {"sum": {"ms": 1.5, "ratio": ratio, "peak_mib": None}}
    >>> row = bench_row({"n": 100}, FORWARD, candidates)
    {'n': 100} forward
      sum                                   1.500 ms     1.000 [0.900, 1.100]
    >>> row["size"], row["pass"]
    ({'n': 100}, 'forward')
    """
    print(size, kind)
    for name, one in candidates.items():
        spread = "{median:9.3f} [{q1:.3f}, {q3:.3f}]".format(**one["ratio"])
        peak = "" if one["peak_mib"] is None else f"{one['peak_mib']:10.1f} MiB"
        of_limit = ""
        if limit is not None:
            one["of_limit"] = one["ms"] / (1e3 * limit.seconds)
            of_limit = f"{one['of_limit']:8.2f} x limit"
        print(f"  {name:32}{one['ms']:11.3f} ms {spread:30}{peak:14}{of_limit}", flush=True)
    told = {} if limit is None else {"limit": limit.told()}
    return {"size": size, "pass": kind, "candidates": candidates, **told, **more}


def bench_table(name: str, title: str, rows: list[dict], *, baseline: str, **more: Any) -> dict:
    """One table as the file holds it; `more` are fields that only some tables have.

    >>> table = bench_table("against_n", "Against n", [], baseline="sum")
    >>> table["baseline"], table["rows"]
    ('sum', [])
    """
    return {"name": name, "title": title, "baseline": baseline, "rows": rows, **more}
