"""Guards of the whole repository: what imports what, whole results, one address, no stray paths."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import yaml
from guards import (
    MAY_IMPORT,
    TESTED_IN,
    import_faults,
    notation_faults,
    place_faults,
    places,
    untested,
)
from scripts import script
from tools.address import PLACEHOLDER, declared_repository, package_version
from tools.chapters import chapters
from tools.notebooks import stamped_first_cell, ways_in

from archbook.data.numbers import english
from archbook.running import check_results, wanted_cells
from archbook.timing import check_bench

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "code" / "archbook"


def package_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def repository_files() -> list[Path]:
    """Tracked files, and untracked ones that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        names = [name for name in done.stdout.split("\0") if name]
    else:  # an unpacked archive
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()]
        skipped = (".venv", "_build", ".runs", ".git", "build", "dist")
        names = [n for n in names if not n.startswith(skipped) and "__pycache__" not in n]
    return [ROOT / name for name in sorted(names) if (ROOT / name).is_file()]


def text_files() -> list[tuple[Path, str]]:
    found = []
    for path in repository_files():
        try:
            found.append((path, path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    return found


# ---- imports, chapters, notation ----


def test_package_files_import_only_in_the_allowed_direction():
    assert import_faults(ROOT) == []


def test_every_chapter_has_its_places():
    """For a new chapter this lists what it still lacks; `places` in tests/guards.py has all."""
    assert place_faults(ROOT) == []


def test_every_name_of_the_notation_page_exists_in_the_code():
    assert notation_faults(ROOT) == []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A repository to break: of pages and results the name alone, which is all that guards read."""

    def cheap(source: str, target: str) -> None:
        if source.endswith((".ipynb", ".json", ".svg")):
            Path(target).touch()
        else:
            shutil.copy(source, target)

    heavy = shutil.ignore_patterns("sets", "dist", "__pycache__", "*.png")
    for name in "assignments benchmarks book code experiments results tests tools".split():
        shutil.copytree(ROOT / name, tmp_path / name, ignore=heavy, copy_function=cheap)
    shutil.copy(ROOT / "_toc.yml", tmp_path)
    return tmp_path


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def add_hyena(root: Path) -> None:
    """A seventh chapter of a page and a file alone."""
    shutil.copy(root / "book" / "lmu.ipynb", root / "book" / "hyena.ipynb")
    replace(root / "_toc.yml", "- file: book/lmu\n", "- file: book/lmu\n      - file: book/hyena\n")
    imports = "from archbook import data\nfrom archbook.lmu import LMU\nimport archbook.running\n"
    (root / "code" / "archbook" / "hyena.py").write_text(imports, encoding="utf-8")


@pytest.mark.slow
def test_a_chapter_that_the_table_does_not_know_is_refused(copy: Path):
    add_hyena(copy)
    assert "hyena: no row in MAY_IMPORT" in import_faults(copy)


@pytest.mark.slow
def test_a_chapter_that_the_table_knows_may_import_no_data_no_other_and_no_runner(
    copy: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(MAY_IMPORT, "hyena", ({"checks"}, {"torch"}))
    add_hyena(copy)
    refused = ("archbook.data", "archbook.lmu.LMU", "archbook.running")
    wanted = [f"code/archbook/hyena.py: may not import {name}" for name in refused]
    assert import_faults(copy) == wanted


def test_a_new_chapter_lacks_every_place_that_nobody_filled(copy: Path):
    add_hyena(copy)
    filled = {"book/hyena.ipynb", "code/archbook/hyena, a file or a folder"}
    lacking = [f"hyena lacks {place}" for place in places(copy, "hyena") if place not in filled]
    assert len(lacking) > 15
    assert place_faults(copy) == lacking


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "line", "fault"),
    [
        ("attention/features.py", "from archbook.gfnn import GridLinear", "archbook.gfnn.GridLin"),
        ("checks.py", "from archbook import data", "archbook.data"),
        ("lmu/memory.py", "import archbook.lmu.network, archbook.egnn", "archbook.egnn"),
        ("egnn/layer.py", "import numpy", "numpy"),
        ("egnn/layer.py", "def late():\n    import e3nn", "e3nn"),
        ("egnn/layer.py", "from .network import EGNN", ".network.EGNN"),
        ("data/images.py", "import matplotlib.pyplot", "matplotlib.pyplot"),
    ],
)
def test_an_import_that_no_row_allows_is_found(copy: Path, file: str, line: str, fault: str):
    path = copy / "code" / "archbook" / file
    path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    (found,) = import_faults(copy)
    assert found.startswith(f"code/archbook/{file}: may not import {fault}")


@pytest.mark.slow
def test_a_row_of_no_part_is_found(copy: Path):
    (copy / "code" / "archbook" / "plotting.py").unlink()
    assert import_faults(copy) == ["plotting: a row, but no such part"]


# Break each place of a chapter that has them all.
BROKEN: dict[str, Callable[[Path], None]] = {
    "book/lmu.ipynb": lambda root: (root / "book/lmu.ipynb").unlink(),
    "code/archbook/lmu": lambda root: shutil.rmtree(root / "code/archbook/lmu"),
    "tests/test_lmu.py": lambda root: (root / "tests/test_lmu.py").unlink(),
    "tests/test_lmu_portability": lambda root: (root / "tests/test_lmu_portability.py").unlink(),
    "tests/test_lmu_refusals": lambda root: (root / "tests/test_lmu_refusals.py").unlink(),
    "experiments/lmu": lambda root: shutil.rmtree(root / "experiments/lmu"),
    "results/lmu/NAME": lambda root: [p.unlink() for p in root.glob("results/lmu/[!b]*")],
    "benchmarks/bench_lmu": lambda root: (root / "benchmarks/bench_lmu.py").unlink(),
    "tests/test_bench_lmu": lambda root: (root / "tests/test_bench_lmu.py").unlink(),
    "results/lmu/bench": lambda root: (root / "results/lmu/bench.json").unlink(),
    "assignments/lmu/lmu": lambda root: (root / "assignments/lmu/lmu.ipynb").unlink(),
    "assignments/lmu/mistakes": lambda root: replace(
        root / "assignments/lmu/mistakes.toml", "[[mistake]]", "[[other]]"
    ),
    "book/_static/assignments": lambda root: (root / "book/_static/assignments/lmu.ipynb").unlink(),
    "book/notation.md": lambda root: replace(
        root / "book/notation.md", "{notation-table} lmu", "lmu"
    ),
    "book/notation.csv": lambda root: replace(root / "book/notation.csv", ",lmu\n", ",all\n"),
    "book/references.bib": lambda root: replace(
        root / "book/references.bib", "{chilkuri2021parallelizing,", "{chilkuri,"
    ),
    "book/costs": lambda root: (root / "book/costs/lmu.md").unlink(),
    "book/api": lambda root: (root / "book/api/lmu.md").unlink(),
    "book/intro.md: a card": lambda root: replace(root / "book/intro.md", "- chapter: lmu\n", ""),
    "book/intro.md: a row": lambda root: replace(root / "book/intro.md", "| {doc}`lmu`", "| LMU"),
    "book/teaching.md": lambda root: replace(root / "book/teaching.md", "{doc}`LMU <lmu>`", "LMU"),
    "tools/cards.py": lambda root: replace(root / "tools/cards.py", "def lmu()", "def no()"),
    "book/_static/cards": lambda root: (root / "book/_static/cards/lmu.svg").unlink(),
}


def test_every_place_is_broken_once():
    for place in places(ROOT, "lmu"):
        assert sum(place.startswith(start) for start in BROKEN) == 1, place


@pytest.mark.parametrize("place", BROKEN)
def test_a_place_that_is_gone_is_found(copy: Path, place: str):
    BROKEN[place](copy)
    found = place_faults(copy)
    assert any(fault.startswith(f"lmu lacks {place}") for fault in found)


def test_a_folder_of_no_chapter_is_found(copy: Path):
    shutil.copytree(copy / "results" / "lmu", copy / "results" / "hyena")
    assert place_faults(copy) == ["results/hyena is of no chapter"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "`row_attentions`",
            "`row_attention`",
            "msa_transformer, $A_\\mathrm{row}$: row_attention",
        ),
        ("`nodes n`", "`nodes dims`", "egnn, $x_i$: dims"),
        ("`legendre_readout`", "`legendre`", "lmu, $\\tilde P_i$: legendre"),
    ],
)
def test_a_name_that_no_code_has_is_found(copy: Path, old: str, new: str, fault: str):
    replace(copy / "book" / "notation.csv", old, new)
    assert fault in notation_faults(copy)


def test_the_number_of_chapters_is_the_same_everywhere():
    (number,) = english(len(chapters()))
    title = f"{number.capitalize()} Architectures, Derived"
    for file in ("README.md", "CITATION.cff", "_config.yml", "pyproject.toml", "book/intro.md"):
        assert title in (ROOT / file).read_text(encoding="utf-8"), file
    for file, words in {
        "README.md": f"All {number} chapters are finished",
        "book/intro.md": f"{{doc}}`claims` has all {number}.",
        "book/notation.md": f"The {number} papers",
        "code/archbook/__init__.py": f"{number.capitalize()} neural architectures",
    }.items():
        assert words in (ROOT / file).read_text(encoding="utf-8"), file


def test_code_folder_does_not_shadow_the_standard_library():
    assert not (ROOT / "code" / "__init__.py").exists()
    probe = [sys.executable, "-c", "import code; print(code.__file__)"]
    out = subprocess.run(probe, cwd=ROOT, capture_output=True, text=True, check=True)
    assert str(ROOT) not in out.stdout


def test_there_is_no_file_named_for_nothing():
    forbidden = {"utils", "util", "helpers", "helper", "misc", "common"}
    names = {part for path in repository_files() for part in path.relative_to(ROOT).parts}
    assert not {name for name in names if name.removesuffix(".py") in forbidden}


@pytest.mark.slow
def test_importing_the_package_touches_no_global_state():
    modules = [
        ".".join(path.relative_to(ROOT / "code").with_suffix("").parts)
        for path in package_files()
        if path.name != "__main__.py"
    ]
    probe = f"""
import importlib, torch
before = (torch.initial_seed(), torch.get_num_threads(), torch.get_default_dtype())
state = torch.get_rng_state()
for name in {[m.removesuffix(".__init__") for m in modules]!r}:
    importlib.import_module(name)
assert before == (torch.initial_seed(), torch.get_num_threads(), torch.get_default_dtype())
assert torch.equal(state, torch.get_rng_state())
assert not torch.cuda.is_initialized()
"""
    command = [sys.executable, "-c", probe]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---- paths and addresses ----


@pytest.mark.slow
def test_no_file_holds_an_absolute_path_of_a_machine():
    machine = re.compile(
        r"(?<![\w.:/])/(?:home|Users|root|work|mnt|media|private|var/folders|tmp|opt)/[\w.~-]+"
        r"|(?<![\w])[A-Z]:\\\\?[Uu]sers"
    )
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path, text in text_files()
        if path != Path(__file__)
        for match in machine.finditer(text)
    ]
    assert not found, "\n".join(found)


def first_cells() -> dict[str, str]:
    paths = sorted((ROOT / "book").glob("*.ipynb"))
    return {path.name: nbformat.read(path, as_version=4).cells[0].source for path in paths}


def test_the_public_address_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["repository-code"] == declared_repository(), "run `make notebooks`"
    for name, source in first_cells().items():
        assert source == stamped_first_cell(), f"{name}: run `make notebooks`"


def test_the_readme_leads_to_the_book_and_to_colab_as_soon_as_there_is_an_address(tmp_path: Path):
    shutil.copy(ROOT / "_toc.yml", tmp_path)
    for repository, wanted in {
        "https://github.com/OWNER/archbook": "[Changelog](CHANGELOG.md)",
        "https://github.com/ada/archbook": (
            "[Read the book](https://ada.github.io/archbook/) · [Run the first chapter on Colab]"
            "(https://colab.research.google.com/github/ada/archbook/blob/notebooks/lmu.ipynb) · "
            "[Changelog](CHANGELOG.md)"
        ),
    }.items():
        declared = f'[project.urls]\nRepository = "{repository}"\n[project]\n'
        (tmp_path / "pyproject.toml").write_text(declared, encoding="utf-8")
        assert ways_in(tmp_path) == wanted
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"-->\n{ways_in()}\n" in readme, "run `make notebooks`"


def test_only_the_file_that_declares_the_placeholder_and_what_is_stamped_hold_it():
    holding = {str(path.relative_to(ROOT)) for path, text in text_files() if PLACEHOLDER in text}
    holding = {name for name in holding if not name.startswith("tests/")}
    assert holding - {"tools/address.py"} <= {"pyproject.toml", "CITATION.cff", "CONTRIBUTING.md"}


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == package_version()
    for name, source in first_cells().items():
        assert f'"{package_version()}"' in source, f"{name}: run `make notebooks`"


# ---- results ----


def results_files(pattern: str) -> list[Path]:
    return sorted((ROOT / "results").glob(f"*/{pattern}"))


def test_every_results_file_belongs_to_a_chapter():
    for path in results_files("*"):
        assert path.parent.name in chapters(), path
        assert path.suffix == ".json", path


@pytest.mark.parametrize(
    "path",
    [path for path in results_files("*.json") if not path.name.startswith("bench")],
    ids=lambda p: f"{p.parent.name}/{p.stem}",
)
def test_results_files_are_complete_and_of_the_code_as_it_is(path: Path):
    results = json.loads(path.read_text(encoding="utf-8"))
    name, _, size = path.stem.partition(".")
    place = f"experiments/{path.parent.name}/{name}.py"
    assert (ROOT / place).exists(), f"{path.name} has no experiment {place}"
    experiment = script(place)
    size = size or "full"
    assert results["experiment"] == f"{path.parent.name}/{name}"
    assert results["size"] == size
    search = getattr(experiment, "SEARCH", None)
    found = path.with_name(f"{name}.search.json")
    wanted = wanted_cells(
        experiment.SIZES,
        size,
        getattr(experiment, "SEEDS", None),
        search=search,
        found=json.loads(found.read_text(encoding="utf-8")) if found.exists() else None,
    )
    faults = check_results(results, wanted, path.name)
    if search is not None and size == "full":
        faults += search.faults(results)
    assert not faults, "\n".join(faults)


# Experiments whose candidates were not given their settings by one search, and why. Each of the
# first kind leaves this table with the second edition of its chapter.
FIRST = "first edition: no search, and many runs were still improving when they ended"
WITHOUT_SEARCH = {
    "egnn/autoencoder": FIRST,
    "egnn/nbody": FIRST,
    "egnn/qm9": FIRST,
    "egnn/rollout": "one network is followed in time; nothing is compared",
    "folded_cnn/accuracy": FIRST,
    "folded_cnn/serving": "trained networks answer requests; nothing is compared",
    "gfnn/motion": FIRST,
    "gfnn/regressions": FIRST,
    "lmu/capacity": FIRST,
    "lmu/imdb": FIRST,
    "lmu/mackey_glass": FIRST,
    "lmu/psmnist": FIRST,
    "msa_transformer/pfam": FIRST,
    "msa_transformer/potts": FIRST,
    "msa_transformer/published": "the authors' weights are loaded; nothing is trained",
    "omninet/depth": FIRST,
    "omninet/images": FIRST,
    "omninet/imdb": FIRST,
    "omninet/listops": FIRST,
    "omninet/shakespeare": FIRST,
    "omninet/translation": FIRST,
}


def test_every_experiment_searches_its_candidates_settings_or_says_why_not():
    without = {
        f"{path.parent.name}/{path.stem}"
        for path in (ROOT / "experiments").glob("*/*.py")
        if not hasattr(script(path.relative_to(ROOT).as_posix()), "SEARCH")
    }
    assert without == WITHOUT_SEARCH.keys()


@pytest.mark.parametrize(
    "path", results_files("bench*.json"), ids=lambda p: f"{p.parent.name}/{p.stem}"
)
def test_benchmark_files_are_complete(path: Path):
    faults = check_bench(json.loads(path.read_text(encoding="utf-8")))
    assert not faults, "\n".join(faults)


def test_the_wheel_carries_every_results_file(tmp_path: Path):
    pytest.importorskip("setuptools", reason="the build brings its own setuptools")
    pack_results = script("setup.py").pack_results
    (tmp_path / "lmu").mkdir()
    (tmp_path / "lmu" / "of_an_older_build.json").write_text("{}")
    pack_results(ROOT / "results", tmp_path)
    packed = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.json")}
    assert packed == {path.relative_to(ROOT / "results") for path in results_files("*.json")}


# ---- citations ----


def bibliography() -> dict[str, str]:
    text = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    entries = re.split(r"^@", text, flags=re.MULTILINE)[1:]
    return {re.match(r"\w+\{([^,]+),", entry)[1]: entry for entry in entries}


def cited_keys() -> dict[str, str]:
    keys: dict[str, str] = {}
    pages = [(p, p.read_text(encoding="utf-8")) for p in sorted((ROOT / "book").glob("*.md"))]
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
        pages.append((path, text))
    for path, text in pages:
        for group in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text):
            for key in group.split(","):
                keys[key.strip()] = path.name
    return keys


def test_every_citation_has_an_entry():
    known = bibliography()
    unknown = {key: page for key, page in cited_keys().items() if key not in known}
    assert not unknown


def test_every_entry_leads_to_its_source():
    for key, entry in bibliography().items():
        assert re.search(r"^\s*(doi|eprint|url)\s*=", entry, re.MULTILINE), key


def test_bibliography_keys_are_unique():
    text = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    keys = re.findall(r"^@\w+\{([^,]+),", text, re.MULTILINE)
    assert len(keys) == len(set(keys))


# ---- tests ----


def test_every_file_of_the_package_has_its_test_file_or_a_reason():
    assert untested(ROOT) == []


def test_a_file_without_a_test_and_a_row_that_lies_are_found(monkeypatch):
    monkeypatch.delitem(TESTED_IN, "lmu/memory")
    monkeypatch.setitem(TESTED_IN, "lmu/gone", ("lmu", "no such file"))
    monkeypatch.setitem(TESTED_IN, "lmu/delay", ("nowhere", "it has a file of its name"))
    assert untested(ROOT) == [
        "lmu/memory: no test file",
        "lmu/gone: no such file",
        "lmu/delay: has a test file of its name",
        "lmu/delay: no tests/test_nowhere.py",
    ]
