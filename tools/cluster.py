"""One experiment as a job array of a SLURM cluster, a share of its cells for each job.

    .venv/bin/python -m tools.cluster experiments/lmu/psmnist.py --jobs 16 --minutes 120 \
        --set slurm_partition=gpu gpus_per_node=1 -- --size full

What stands after -- goes to the experiment. The checkout and its environment must lie where every
node sees them: there each job keeps its cells, and whoever finishes the last writes the results.
A job that was cut off goes on from its checkpoints when the same command is given again. Where
there is no SLURM the jobs run here, side by side; `--set` takes any parameter of submitit.
"""

import argparse
import sys
from pathlib import Path

from submitit import AutoExecutor, helpers
from submitit.core.utils import UncompletedJobError

ROOT = Path(__file__).parents[1]


def main(argv: list[str] | None = None) -> int:
    given = sys.argv[1:] if argv is None else argv
    at = given.index("--") if "--" in given else len(given)
    own, options = given[:at], given[at + 1 :]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", help="experiments/STEM/NAME.py")
    parser.add_argument("--jobs", type=int, required=True, help="equal shares of the cells")
    parser.add_argument("--minutes", type=int, default=60, help="limit of each job [60]")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--cluster", help="slurm or local; default: what is there")
    chosen = parser.parse_args(own)
    if not (ROOT / chosen.experiment).is_file():
        parser.error(f"wanted a file of this repository, given {chosen.experiment!r}")
    if chosen.jobs < 1:
        parser.error(f"wanted at least 1 job, given {chosen.jobs}")
    if bad := [pair for pair in chosen.set if "=" not in pair]:
        parser.error(f"wanted KEY=VALUE after --set, given {bad}")
    executor = AutoExecutor(folder=ROOT / ".runs" / "cluster" / "%j", cluster=chosen.cluster)
    executor.update_parameters(
        name=Path(chosen.experiment).stem,
        timeout_min=chosen.minutes,
        **{key: _value(text) for key, text in (pair.split("=", 1) for pair in chosen.set)},
    )
    command = [sys.executable, chosen.experiment, *options, "--shard"]
    share = helpers.CommandFunction(command, cwd=ROOT)
    jobs = executor.map_array(share, [f"{k}/{chosen.jobs}" for k in range(1, chosen.jobs + 1)])
    print(f"{len(jobs)} jobs on {executor.cluster}: {', '.join(job.job_id for job in jobs)}")
    failed = [job for job in jobs if not _ended_well(job)]
    for job in failed:
        print(f"FAILED: job {job.job_id}, see {job.paths.stderr.relative_to(ROOT)}")
    return 1 if failed else 0


def _value(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _ended_well(job) -> bool:
    try:
        job.result()
    except UncompletedJobError:  # and a job that failed, which is one
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
