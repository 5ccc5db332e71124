"""Are the committed ratios still true here? bench_check.py [STEM ...] --band 0.25

Measures the first size of every part of a benchmark anew, on the CPU, and compares each
candidate's time over its baseline's with the committed one of the same size. A ratio beyond the
band is measured once more, since a busy machine moves a short one; what is out twice fails.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tools.chapters import chapters

ROOT = Path(__file__).parents[1]

Ratios = dict[tuple[str, str, str, str], float]  # table, size, pass, candidate -> ratio


def ratios(bench: dict) -> Ratios:
    """Every candidate's median ratio to its table's baseline."""
    return dict(_ratios(bench))


def _ratios(bench: dict) -> Iterator[tuple[tuple[str, str, str, str], float]]:
    for table in bench["tables"]:
        for row in table["rows"]:
            size = json.dumps(row["size"], sort_keys=True)
            for name, one in row["candidates"].items():
                if name != table["baseline"]:
                    yield (table["name"], size, row["pass"], name), one["ratio"]["median"]


def beyond(measured: Ratios, committed: Ratios, band: float) -> dict[str, str]:
    """What is slower or faster, against its baseline, than the band allows: where, and by what."""
    found = {}
    for place, ratio in measured.items():
        known = committed.get(place)
        if known is not None and not 1 / (1 + band) <= ratio / known <= 1 + band:
            found[" ".join(place)] = f"{ratio:.3f} here, {known:.3f} committed"
    return found


def measure(root: Path, stem: str) -> Ratios:
    """The benchmark at the first size of each part, in a process of its own."""
    file = f"benchmarks/bench_{stem}.py"
    subprocess.run([sys.executable, file, "--first"], cwd=root, check=True, stdout=sys.stderr)
    return ratios(json.loads((root / ".runs" / stem / "bench.json").read_text(encoding="utf-8")))


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stems", nargs="*", metavar="STEM", help="default: every chapter")
    parser.add_argument("--band", type=float, default=0.25, help="relative [0.25]")
    given = parser.parse_args(argv)
    if unknown := set(given.stems) - set(chapters(root)):
        parser.error(f"wanted chapters out of {chapters(root)}, given {sorted(unknown)}")
    if given.band <= 0:
        parser.error(f"wanted a band above 0, given {given.band}")
    failed = False
    for stem in given.stems or chapters(root):
        path = root / "results" / stem / "bench.json"
        committed = ratios(json.loads(path.read_text(encoding="utf-8")))
        found = measure(root, stem)
        compared = len(found.keys() & committed.keys())
        out = beyond(found, committed, given.band)
        if out:
            again = beyond(measure(root, stem), committed, given.band)
            out = {place: again[place] for place in out if place in again}
        print(f"{stem}: {compared} ratios compared, {len(out)} beyond {given.band:.0%}")
        for place, what in out.items():
            print(f"  {place}: {what}")
        failed |= bool(out) or not compared
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
