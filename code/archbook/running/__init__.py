"""Running experiments: devices and seeds, training that resumes, results files."""

from archbook.running.cells import wanted_cells
from archbook.running.environment import (
    device_name,
    environment,
    pick_device,
    seed_everything,
    synchronize,
)
from archbook.running.experiment import main
from archbook.running.fitting import cosine_adam, fit, fit_best, warmed_adamw
from archbook.running.parallel import (
    held_once,
    mean_over_processes,
    processes,
    share,
    share_weight,
    whole_weights,
)
from archbook.running.results import (
    by_seed,
    check_results,
    read_results,
    summarise,
)
from archbook.running.run import Run
from archbook.running.search import Search, grid, still_improving
from archbook.running.shipping import Ship

__all__ = [
    "Run",
    "Search",
    "Ship",
    "by_seed",
    "check_results",
    "cosine_adam",
    "device_name",
    "environment",
    "fit",
    "fit_best",
    "grid",
    "held_once",
    "main",
    "mean_over_processes",
    "pick_device",
    "processes",
    "read_results",
    "seed_everything",
    "share",
    "share_weight",
    "still_improving",
    "summarise",
    "synchronize",
    "wanted_cells",
    "warmed_adamw",
    "whole_weights",
]
