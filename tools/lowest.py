"""Prints the lowest versions that pyproject.toml declares, as pip's constraints: lowest.py.

`make lowest` installs exactly these, so that a declared range is one that the tests have seen.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOWER_BOUND = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)")


def lowest(project: dict) -> list[str]:
    """`torch==2.6` for `torch>=2.6`, of the package's own dependencies and of its extras."""
    extras = project.get("optional-dependencies", {})
    wanted = [*project["dependencies"], *(one for extra in extras.values() for one in extra)]
    found = []
    for one in wanted:
        bound = LOWER_BOUND.fullmatch(one)
        if bound is None:
            raise ValueError(f"wanted a dependency of the form name>=version, given {one!r}")
        found.append(f"{bound[1]}=={bound[2]}")
    return found


def main() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    print("\n".join(lowest(declared["project"])))


if __name__ == "__main__":
    main()
