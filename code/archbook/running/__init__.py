"""Running things: devices and seeds, experiments and their results, timing and memory."""

from archbook.running.bench_results import check_bench, write_bench
from archbook.running.benchmark import (
    assert_same_results,
    bench_main,
    bench_row,
    bench_tables,
    captured,
    exponent,
    memory_exponent,
    timed,
)
from archbook.running.cells import wanted_cells
from archbook.running.environment import (
    device_name,
    environment,
    pick_device,
    seed_everything,
    synchronize,
)
from archbook.running.experiment import main
from archbook.running.fitting import cosine_adam, fit, warmed_adamw
from archbook.running.measuring import interleaved, ratios
from archbook.running.memory import peak_memory
from archbook.running.precision import precision_row, precision_tables, precisions
from archbook.running.results import (
    check_results,
    read_results,
    summarise,
)
from archbook.running.run import Run

__all__ = [
    "Run",
    "assert_same_results",
    "bench_main",
    "bench_row",
    "bench_tables",
    "captured",
    "check_bench",
    "check_results",
    "cosine_adam",
    "device_name",
    "environment",
    "exponent",
    "fit",
    "interleaved",
    "main",
    "memory_exponent",
    "peak_memory",
    "pick_device",
    "precision_row",
    "precision_tables",
    "precisions",
    "ratios",
    "read_results",
    "seed_everything",
    "summarise",
    "synchronize",
    "timed",
    "wanted_cells",
    "warmed_adamw",
    "write_bench",
]
