"""The chapters of the book: what _toc.yml lists under Architectures, and nowhere else."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def chapters(root: Path = ROOT) -> tuple[str, ...]:
    """Each chapter's stem, such as `lmu`, in the order of the book."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    (part,) = (part for part in toc["parts"] if part["caption"] == "Architectures")
    return tuple(Path(page["file"]).name for page in part["chapters"])
