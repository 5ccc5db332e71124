"""Running experiments: devices and seeds, training that resumes, results files."""

from archbook.running.cells import wanted_cells
from archbook.running.environment import (
    available_devices,
    device_name,
    environment,
    git_commit,
    pick_device,
    repository_root,
    seed_everything,
    synchronize,
)
from archbook.running.experiment import main
from archbook.running.fitting import fit, warmed_cosine
from archbook.running.results import (
    check_results,
    read_results,
    results_path,
    summarise,
)
from archbook.running.run import Run

__all__ = [
    "Run",
    "available_devices",
    "check_results",
    "device_name",
    "environment",
    "fit",
    "git_commit",
    "main",
    "pick_device",
    "read_results",
    "repository_root",
    "results_path",
    "seed_everything",
    "summarise",
    "synchronize",
    "wanted_cells",
    "warmed_cosine",
]
