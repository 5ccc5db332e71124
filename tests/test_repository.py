"""Guards of the whole repository: what imports what, whole results, one address, no stray paths."""

import ast
import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

from archbook.running import check_bench, check_results, wanted_cells

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "code" / "archbook"
STEMS = ("omninet", "folded_cnn", "egnn", "gfnn", "msa_transformer", "lmu")

# house rule: whoever is named on the left may import, inside the package, only what is on the right
TOOLS = {"data", "plotting", "running", "teaching"}
MAY_IMPORT = {
    "data": {"data"},
    "files": set(),
    "plotting": {"plotting"},
    "running": {"files", "running"},
    "teaching": {"teaching"},
}
# Peers are imported where they are compared with, and nowhere in the package.
PEERS = {"keras", "keras_lmu", "tensorflow", "esm", "performer_pytorch", "egnn_pytorch", "e3nn"}
ONLY_IN_TOOLS = {"matplotlib", "IPython", "ipykernel", "nbclient"}


def parts_of(path: Path) -> str:
    """`data` for code/archbook/data/images.py, `lmu` for code/archbook/lmu.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_names(path: Path) -> set[str]:
    """Full dotted names that a file imports, at the top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the full name in imports"
            module = node.module or ""
            # `from archbook import data` names the part in the second half.
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


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


# ---- imports ----


@pytest.mark.parametrize("path", package_files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_package_files_import_only_in_the_allowed_direction(path: Path):
    part = parts_of(path)
    for name in imported_names(path):
        words = name.split(".")
        assert words[0] not in PEERS, f"{name}: peers belong in benchmarks/ and tests/"
        if part not in TOOLS:
            assert words[0] not in ONLY_IN_TOOLS, f"{name}: models and data draw nothing"
        if words[0] != "archbook" or len(words) < 2:
            continue
        if part in MAY_IMPORT and part != "teaching":
            others = (TOOLS | set(STEMS)) - MAY_IMPORT[part]
            assert words[1] not in others, f"{part} may not import {name}"
        elif part in STEMS:
            others = (TOOLS | set(STEMS)) - {part}
            assert words[1] not in others, f"a model may not import {name}"


def test_code_folder_does_not_shadow_the_standard_library():
    assert not (ROOT / "code" / "__init__.py").exists()
    probe = [sys.executable, "-c", "import code; print(code.__file__)"]
    out = subprocess.run(probe, cwd=ROOT, capture_output=True, text=True, check=True)
    assert str(ROOT) not in out.stdout


def test_there_is_no_file_named_for_nothing():
    forbidden = {"utils", "util", "helpers", "helper", "misc", "common"}
    names = {part for path in repository_files() for part in path.relative_to(ROOT).parts}
    assert not {name for name in names if name.removesuffix(".py") in forbidden}


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


def test_the_public_address_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    url = project["urls"]["Repository"]
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert config["repository"]["url"] == url, "run `make notebooks`"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["repository-code"] == url, "run `make notebooks`"
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        first = nbformat.read(path, as_version=4).cells[0].source
        assert f"git+{url}@" in first, f"{path.name}: run `make notebooks`"


def test_the_version_is_the_same_everywhere():
    text = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'__version__ = "(.+)"', text)[1]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == version
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        first = nbformat.read(path, as_version=4).cells[0].source
        assert f"@v{version}" in first, f"{path.name}: run `make notebooks`"


# ---- results ----


def results_files(pattern: str) -> list[Path]:
    return sorted((ROOT / "results").glob(f"*/{pattern}"))


def test_every_results_file_belongs_to_a_chapter():
    for path in results_files("*"):
        assert path.parent.name in STEMS, path
        assert path.suffix == ".json", path


@pytest.mark.parametrize(
    "path",
    [path for path in results_files("*.json") if not path.name.startswith("bench")],
    ids=lambda p: f"{p.parent.name}/{p.stem}",
)
def test_results_files_are_complete_and_of_the_code_as_it_is(path: Path):
    results = json.loads(path.read_text(encoding="utf-8"))
    name, _, size = path.stem.partition(".")
    script = ROOT / "experiments" / path.parent.name / f"{name}.py"
    assert script.exists(), f"{path.name} has no experiment {script.relative_to(ROOT)}"
    experiment = runpy.run_path(str(script))
    size = size or "full"
    assert results["experiment"] == f"{path.parent.name}/{name}"
    assert results["size"] == size
    wanted = wanted_cells(experiment["SIZES"], size, experiment.get("SEEDS"))
    faults = check_results(results, wanted, path.name)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "path", results_files("bench*.json"), ids=lambda p: f"{p.parent.name}/{p.stem}"
)
def test_benchmark_files_are_complete(path: Path):
    faults = check_bench(json.loads(path.read_text(encoding="utf-8")))
    assert not faults, "\n".join(faults)


def test_the_wheel_carries_every_results_file(tmp_path: Path):
    pytest.importorskip("setuptools", reason="the build brings its own setuptools")
    pack_results = runpy.run_path(str(ROOT / "setup.py"))["pack_results"]
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
