"""A cost model: operations, bytes, memory and talk of a step, before anything runs."""

from archbook.cost.counting import Count, Growing, Part, count_step
from archbook.cost.machines import A_MACHINE, CARDS, Card, Machine, calibrated
from archbook.cost.published import WORKLOADS, Workload
from archbook.cost.rows import Row, rows
from archbook.cost.sharing import Step, all_gather, all_reduce, largest_batch, link, step

__all__ = [
    "A_MACHINE",
    "CARDS",
    "WORKLOADS",
    "Card",
    "Count",
    "Growing",
    "Machine",
    "Part",
    "Row",
    "Step",
    "Workload",
    "all_gather",
    "all_reduce",
    "calibrated",
    "count_step",
    "largest_batch",
    "link",
    "rows",
    "step",
]
