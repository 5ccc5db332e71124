"""What the repository promises of itself, as functions of a root folder that list the faults.

So each guard can be shown to notice: tests/test_repository.py runs them here, where they must find
nothing, and on copies in which something was broken, where they must.
"""

import ast
import csv
import re
import sys
import tomllib
from pathlib import Path

from tools.chapters import chapters

FEWEST_MISTAKES = 8
ANY_PART = {"__version__"}  # what `from archbook import` may name beside the parts

TENSORS = {"torch", "jaxtyping"}
# Every file or folder of code/archbook: the parts of the package that it may import, and what else
# beside Python's own library. What is not here may not be there.
MAY_IMPORT: dict[str, tuple[set[str], set[str]]] = {
    "__init__": (set(), set()),
    # shared rooms
    "attached": (set(), {"torch"}),
    "attention": ({"autocast", "checks", "shaped"}, TENSORS),
    "autocast": (set(), {"torch"}),
    "awake": (set(), set()),
    "checks": ({"autocast"}, {"torch"}),
    "claims": ({"verdicts"}, {"IPython"}),
    "comparisons": ({"running", "verdicts"}, {"numpy"}),
    # counts every chapter's model
    "cost": (
        {
            "attention",
            "checks",
            "egnn",
            "folded_cnn",
            "gfnn",
            "lmu",
            "msa_transformer",
            "omninet",
        },
        {"torch", "numpy", "scipy"},
    ),
    "data": ({"checks", "vocabulary"}, TENSORS | {"numpy"}),
    "dca": ({"autocast", "checks"}, TENSORS | {"einops"}),
    "files": (set(), set()),
    "shaped": (set(), {"torch"}),
    "plotting": (set(), {"matplotlib", "cycler", "PIL", "IPython"}),
    "running": (
        {"checks", "files", "weights"},
        {"torch", "numpy", "tqdm", "jsonschema", "referencing", "safetensors"},
    ),
    "teaching": ({"running", "timing"}, {"torch", "IPython", "myst_nb"}),
    "timing": ({"files", "running"}, {"torch", "numpy"}),
    "verdicts": (set(), {"numpy", "scipy"}),
    "vocabulary": (set(), set()),
    "weights": ({"shaped"}, {"torch", "safetensors"}),
    # chapters: no data, no plotting, no other chapter
    "egnn": ({"attached", "checks", "shaped"}, TENSORS),
    "folded_cnn": ({"checks", "shaped"}, TENSORS | {"einops"}),
    "gfnn": ({"checks", "shaped"}, TENSORS),
    "lmu": ({"autocast", "checks", "shaped"}, TENSORS),
    "msa_transformer": (
        {"attached", "autocast", "checks", "dca", "shaped", "vocabulary"},
        TENSORS,
    ),
    "omninet": ({"attention", "checks", "shaped"}, TENSORS),
}


def package(root: Path) -> Path:
    return root / "code" / "archbook"


def part_of(root: Path, path: Path) -> str:
    """`data` for code/archbook/data/images.py, `lmu` for code/archbook/lmu.py."""
    return path.relative_to(package(root)).parts[0].removesuffix(".py")


def files_of(root: Path, part: str) -> list[Path]:
    return [path for path in sorted(package(root).rglob("*.py")) if part_of(root, path) == part]


def imported_names(path: Path) -> set[str]:
    """Full dotted names that a file imports, at the top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # `from archbook import data` names the part in the second half.
            module = "." * node.level + (node.module or "")
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


# ---- imports ----


def import_faults(root: Path) -> list[str]:
    """Imports that the table does not allow, parts that it does not know, rows without a part."""
    paths = sorted(package(root).rglob("*.py"))
    parts = {part_of(root, path) for path in paths}
    faults = [f"{part}: no row in MAY_IMPORT" for part in sorted(parts - MAY_IMPORT.keys())]
    faults += [f"{part}: a row, but no such part" for part in sorted(MAY_IMPORT.keys() - parts)]
    for path in paths:
        part = part_of(root, path)
        inside, outside = MAY_IMPORT.get(part, (set(), set()))
        for name in sorted(imported_names(path)):
            first, _, rest = name.partition(".")
            if first == "archbook":
                allowed = not rest or rest.split(".")[0] in inside | ANY_PART | {part}
            else:
                allowed = first in outside or first in sys.stdlib_module_names
            if not allowed:
                faults.append(f"{path.relative_to(root)}: may not import {name}")
    return faults


# ---- chapters ----


def places(root: Path, stem: str) -> dict[str, bool]:
    """Every place that a chapter has, and whether it is filled."""

    def text(path: str) -> str:
        file = root / path
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def some(pattern: str) -> bool:
        return any(root.glob(pattern))

    intro, teaching = text("book/intro.md"), text("book/teaching.md")
    claim = re.search(rf"^\| {{doc}}`{stem}` \| {{cite}}`([^`]+)` \|", intro, re.MULTILINE)
    planted = len(tomllib.loads(text(f"assignments/{stem}/mistakes.toml")).get("mistake", []))
    weeks = [part for part in teaching.split("\n\n") if part.startswith("| Week")]
    return {
        f"book/{stem}.ipynb": some(f"book/{stem}.ipynb"),
        f"code/archbook/{stem}, a file or a folder": bool(files_of(root, stem)),
        f"tests/test_{stem}.py, its laws": some(f"tests/test_{stem}.py"),
        f"tests/test_{stem}_portability.py": some(f"tests/test_{stem}_portability.py"),
        f"tests/test_{stem}_refusals.py": some(f"tests/test_{stem}_refusals.py"),
        f"experiments/{stem}/NAME.py": some(f"experiments/{stem}/*.py"),
        f"results/{stem}/NAME.json": some(f"results/{stem}/[!b]*.json"),
        f"benchmarks/bench_{stem}.py": some(f"benchmarks/bench_{stem}.py"),
        f"tests/test_bench_{stem}.py": some(f"tests/test_bench_{stem}.py"),
        f"results/{stem}/bench.json": some(f"results/{stem}/bench.json"),
        f"book/costs/{stem}.md": f"{{costs}} {stem}\n" in text(f"book/costs/{stem}.md"),
        f"book/api/{stem}.md": f"{{api}} {stem}\n" in text(f"book/api/{stem}.md"),
        f"assignments/{stem}/{stem}.ipynb": some(f"assignments/{stem}/{stem}.ipynb"),
        f"assignments/{stem}/mistakes.toml: at least {FEWEST_MISTAKES}": planted >= FEWEST_MISTAKES,
        f"book/_static/assignments/{stem}.ipynb": some(f"book/_static/assignments/{stem}.ipynb"),
        f"book/notation.md: a section with the table {stem}": f"{{notation-table}} {stem}\n"
        in text("book/notation.md"),
        f"book/notation.csv: rows of {stem}": any(r["chapter"] == stem for r in notation(root)),
        "book/references.bib: the paper that book/intro.md cites": claim is not None
        and f"{{{claim[1]}," in text("book/references.bib"),
        "book/intro.md: a card": f"\n- chapter: {stem}\n" in intro,
        "book/intro.md: a row of what the papers claim": claim is not None,
        "book/teaching.md: a row of both syllabuses": len(weeks) == 2
        and all(f"<{stem}>`" in table for table in weeks),
        f"tools/cards.py: def {stem}": f"\ndef {stem}()" in text("tools/cards.py"),
        f"book/_static/cards/{stem}.svg": some(f"book/_static/cards/{stem}.svg"),
    }


def place_faults(root: Path) -> list[str]:
    """Places that a chapter lacks, and folders that belong to no chapter."""
    stems = chapters(root)
    faults = [
        f"{stem} lacks {place}"
        for stem in stems
        for place, filled in places(root, stem).items()
        if not filled
    ]
    for folder in ("assignments", "experiments", "results"):
        found = {path.name for path in (root / folder).iterdir() if any(path.glob("*.*"))}
        faults += [f"{folder}/{name} is of no chapter" for name in sorted(found - set(stems))]
    return faults


# ---- notation ----


def notation(root: Path) -> list[dict[str, str]]:
    with (root / "book" / "notation.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def words(text: str) -> set[str]:
    return set(re.findall(r"[A-Za-z_]\w*", text))


def names_in(path: Path) -> set[str]:
    """Identifiers of a file, and the axes of its signatures; no word of its prose."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for field in ("id", "attr", "arg", "name"):
            found |= {getattr(node, field, None) or ""}
        if isinstance(node, ast.Subscript):  # Float[Tensor, "batch seq"]
            found |= words(ast.unparse(node.slice))
        if isinstance(node, ast.Call):  # rearrange(x, "b c h w -> b (c h w)")
            patterns = [ast.unparse(given) for given in node.args]
            found |= {word for text in patterns if "->" in text for word in words(text)}
    return found


def notation_faults(root: Path) -> list[str]:
    """Names of book/notation.csv that neither the chapter nor a room that it imports knows."""
    stems = chapters(root)

    def known_to(stem: str) -> set[str]:
        files = files_of(root, stem)
        imported = {name for path in files for name in imported_names(path)}
        rooms = {name.split(".")[1] for name in imported if name.startswith("archbook.")}
        files += [path for room in sorted(rooms - {stem}) for path in files_of(root, room)]
        return {name for path in files for name in names_in(path)}

    known = {stem: known_to(stem) for stem in stems}
    everywhere: set[str] = set().union(*known.values())
    faults = []
    for row in notation(root):
        cells = re.findall(r"`([^`]+)`", f"{row['code']} {row['axis']}")
        there = known.get(row["chapter"], everywhere)
        unknown = sorted(words(" ".join(cells)) - there)
        faults += [f"{row['chapter']}, {row['symbol']}: {name}" for name in unknown]
    return faults


# ---- tests ----

LAWS = "a chapter's laws stand in the file of its stem"
KINDS = "every kind of attention is put through the same tests"
USED = "seen through what uses it"
# Every file of code/archbook has a test file of its name, or a row here: where it is tested, and
# why there.
TESTED_IN = {
    "attention/full": ("attention", KINDS),
    "attention/interface": ("attention_refusals", KINDS),
    "attention/linear": ("attention", KINDS),
    "attention/linformer": ("attention", KINDS),
    "attention/performer": ("attention", KINDS),
    "autocast": ("attention_portability", USED),
    **{
        f"cost/{file}": ("cost", "the model is one, from the count to the cards")
        for file in ("counting", "machines", "published", "rows", "sharing")
    },
    "data/alphabet": ("data_alignments", USED),
    "data/checksums": ("data_fetching", USED),
    "data/images": ("data_sets", "the shipped sets are all read in one file"),
    "data/manifest": ("data_sets", USED),
    "data/numbers": ("data_words", "numbers and their words are one subject"),
    "data/reading": ("data_readers", "all readers are put through the same tests"),
    "data/reviews": ("data_sets", "the shipped sets are all read in one file"),
    "data/structures": ("data_families", "a structure is read for its family"),
    "data/text": ("data_sets", "the shipped sets are all read in one file"),
    "dca/pseudo_likelihood": ("dca", "the two methods are compared on the same families"),
    "dca/scores": ("dca", "the two methods are compared on the same families"),
    "dca/statistics": ("dca", "the two methods are compared on the same families"),
    "egnn/layer": ("egnn", LAWS),
    "folded_cnn/curriculum": ("folded_cnn", LAWS),
    "folded_cnn/folding": ("folded_cnn", LAWS),
    "folded_cnn/resnet": ("folded_cnn_networks", "all networks are put through the same tests"),
    "folded_cnn/separate": ("folded_cnn", LAWS),
    "gfnn/cost": ("gfnn_experiments", "its counts are those that the experiments report"),
    "gfnn/network": ("gfnn", LAWS),
    "lmu/memory": ("lmu", LAWS),
    "msa_transformer/attention": ("msa_transformer", LAWS),
    "omninet/block": ("omninet", LAWS),
    "omninet/cost": ("omninet_models", "the count is compared with torch's for every model"),
    "omninet/meta": ("omninet", LAWS),
    "omninet/network": ("omninet", LAWS),
    "omninet/stacking": ("omninet", LAWS),
    "omninet/translation": ("omninet_models", "all models are put through the same tests"),
    "omninet/traps": ("omninet_causal", "a trap is a broken order of later tokens"),
    "omninet/variants": ("omninet_models", "all models are put through the same tests"),
    "running/cells": ("running_experiment", USED),
    "running/checkpoint": ("running_run", USED),
    "running/fitting": ("running_run", USED),
    "vocabulary": ("data_alignments", USED),
}


def untested(root: Path) -> list[str]:
    """Files of the package without a test file of their name, and rows of the table that lie."""
    sources = {
        path.relative_to(package(root)).with_suffix("").as_posix()
        for path in package(root).rglob("*.py")
        if path.name != "__init__.py"
    }

    def there(name: str) -> bool:
        return (root / "tests" / f"test_{name}.py").exists()

    named = {source for source in sources if there(source.replace("/", "_"))}
    faults = [f"{source}: no test file" for source in sorted(sources - named - TESTED_IN.keys())]
    faults += [f"{source}: no such file" for source in sorted(TESTED_IN.keys() - sources)]
    faults += [
        f"{source}: has a test file of its name" for source in sorted(TESTED_IN.keys() & named)
    ]
    return faults + [
        f"{source}: no tests/test_{name}.py"
        for source, (name, _) in TESTED_IN.items()
        if not there(name)
    ]
