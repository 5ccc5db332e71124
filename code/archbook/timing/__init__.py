"""Timing: candidates in shuffled rounds, peak memory, fewer bits, tables and their files."""

from archbook.timing.command import bench_main
from archbook.timing.fewer_bits import precision_tables, precisions
from archbook.timing.growth import exponent, exponents, larger_half
from archbook.timing.limit import limit_of
from archbook.timing.memory import peak_bytes
from archbook.timing.peers import installed
from archbook.timing.results import check_bench
from archbook.timing.rounds import timed
from archbook.timing.tables import (
    FORWARD,
    PASSES,
    STEP,
    Candidates,
    Plan,
    Size,
    Table,
    bench_row,
    bench_table,
)
from archbook.timing.works import Work, assert_same_results, captured, run_once

__all__ = [
    "FORWARD",
    "PASSES",
    "STEP",
    "Candidates",
    "Plan",
    "Size",
    "Table",
    "Work",
    "assert_same_results",
    "bench_main",
    "bench_row",
    "bench_table",
    "captured",
    "check_bench",
    "exponent",
    "exponents",
    "installed",
    "larger_half",
    "limit_of",
    "peak_bytes",
    "precision_tables",
    "precisions",
    "run_once",
    "timed",
]
