"""Says what a run of the checks spent its time on: times.py.

Reads from `_build/times/` what `tools/step.py` noted for each step, and pytest's report of each
test. It judges nothing: a growing suite is to be seen, not to fail on a busy machine.
"""

from pathlib import Path
from xml.etree import ElementTree

TIMES = Path("_build/times")
SLOWEST = 10


def steps(folder: Path) -> list[tuple[float, str]]:
    """Seconds and name of each step with its processor seconds, the longest first."""
    noted = []
    for file in folder.glob("*.txt"):
        seconds, busy = map(float, file.read_text(encoding="utf-8").split())
        noted.append((seconds, f"{file.stem} ({busy:.0f} of a processor)"))
    return sorted(noted, reverse=True)


def slowest(folder: Path, most: int = SLOWEST) -> list[tuple[float, str]]:
    """Seconds, set-up included, and names of the slowest tests of all steps."""
    tests = [
        (float(case.attrib["time"]), f"{case.attrib['classname']}::{case.attrib['name']}")
        for file in folder.glob("*.xml")
        for case in ElementTree.parse(file).iter("testcase")
    ]
    return sorted(tests, reverse=True)[:most]


def main() -> None:
    for title, listed in (("each step", steps(TIMES)), ("the slowest tests", slowest(TIMES))):
        print(f"Seconds of {title}:")
        for seconds, name in listed:
            print(f"{seconds:9.1f}  {name}")


if __name__ == "__main__":
    main()
