"""Builds what a course hands out: build.py [STEM ...] --seed SECRET.

From `assignments/STEM/STEM.ipynb`, in otter's format, it makes in `assignments/STEM/dist/`

    student/STEM.ipynb      without solutions and hidden tests; needs nothing but its own imports
    student/STEM.html       the same to read
    solution/STEM.ipynb     with both
    autograder/STEM.zip     otter's archive, for `tools.assignments.grade` and for Gradescope

The seed selects the version of a class. The cell tagged `variant` defines `variant(draw)`, which
returns the names and values in which two classes differ. They replace that cell, `{{NAME}}` in the
text, and NAME in the tests; HIDDEN in a test becomes a number that only the seed tells.
"""

import argparse
import copy
import hashlib
import importlib.resources
import json
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode
from tools.notebooks import PYTHON

ROOT = Path(__file__).parents[2]
ASSIGNMENTS = ROOT / "assignments"
PUBLISHED = ROOT / "book" / "_static" / "assignments"
PUBLIC_SEED = "public"

OTTER = {
    "tests": {"ok_format": False, "files": True},
    "init_cell": False,
    "export_cell": False,
    "check_all_cell": False,
    "show_question_points": True,
    "generate": {"show_hidden": False},
}


def stems() -> list[str]:
    found = ASSIGNMENTS.glob("*/*.ipynb")
    return sorted(path.stem for path in found if path.stem == path.parent.name)


def number(*words: str) -> int:
    """From 0 to 2^31 - 1, by the words alone."""
    digest = hashlib.sha256("\0".join(words).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


# ---- one class's version of the instructor's notebook ----


def variant_values(notebook: NotebookNode, stem: str, seed: str) -> dict[str, Any]:
    cells = [cell for cell in notebook.cells if "variant" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"{stem}: wanted one cell with the tag `variant`, given {len(cells)}")
    names: dict[str, Any] = {}
    exec(cells[0].source, names)
    values = names["variant"](random.Random(number(stem, seed, "variant")))
    wrong = [name for name in values if not name.isupper()]
    if wrong:
        raise ValueError(f"{stem}: names of a variant are capitals, given {wrong}")
    return values


def of_class(notebook: NotebookNode, stem: str, seed: str) -> NotebookNode:
    """The instructor's notebook with the values of one class filled in."""
    notebook = copy.deepcopy(notebook)
    values = variant_values(notebook, stem, seed)
    in_tests = False
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "raw":
            in_tests = cell.source.startswith("# BEGIN TESTS")
        elif cell.cell_type == "markdown":
            for name, value in values.items():
                cell.source = cell.source.replace("{{" + name + "}}", str(value))
            if "{{" in cell.source:
                raise ValueError(f"{stem}: a name in double braces has no value:\n{cell.source}")
        elif "variant" in cell.metadata.get("tags", []):
            lines = [f"{name} = {value!r}" for name, value in values.items()]
            cell.source = "\n".join(["# The version of your class.", *lines])
        elif in_tests:
            known = {"HIDDEN": number(stem, seed, str(place)), **values}
            for name, value in known.items():
                cell.source = re.sub(rf"\b{name}\b", repr(value), cell.source)
    first = nbformat.v4.new_raw_cell("# ASSIGNMENT CONFIG\n" + yaml.safe_dump(OTTER))
    notebook.cells.insert(0, first)
    return notebook


def questions(notebook: NotebookNode) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Each question's settings, and the sources of its tests."""
    settings: dict[str, Any] = {}
    tests: list[str] = []
    in_tests = False
    for cell in notebook.cells:
        if cell.cell_type == "raw":
            head, _, rest = cell.source.partition("\n")
            if head == "# BEGIN QUESTION":
                settings, tests = yaml.safe_load(rest), []
            elif head == "# END QUESTION":
                yield settings, tests
            in_tests = head == "# BEGIN TESTS"
        elif in_tests:
            tests.append(cell.source)


def check_cell(question: str, tests: list[str]) -> str:
    """The visible tests as a student sees and runs them."""
    shown = [source for source in tests if "hidden: true" not in source]
    calls = []
    for source in shown:
        call, *_ = re.findall(r"^def (\w+\([^)]*\))", source, re.MULTILINE)
        calls.append(call)
    head = f"# The visible test of {question}. Hidden ones draw other numbers."
    end = [*calls, f'print("{question}: the visible test passes")']
    return "\n".join([head, "\n\n\n".join(shown), "\n", *end]).replace("\n\n\n\n", "\n\n\n")


def finished(path: Path, checks: dict[str, str]) -> NotebookNode:
    """Otter's output with the visible tests in it, so that it runs without otter."""
    notebook = nbformat.read(path, as_version=4)
    for place, cell in enumerate(notebook.cells):
        asked = re.fullmatch(r'grader\.check\("(\w+)"\)', cell.source.strip())
        if asked:
            cell.source = checks[asked[1]]
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        cell.id = hashlib.sha256(f"{place}\n{cell.source}".encode()).hexdigest()[:12]
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata = nbformat.from_dict(PYTHON)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return notebook


def build(source: Path, seed: str, out: Path) -> None:
    """Makes the folder `out` anew."""
    from otter.assign import main as assign

    stem = source.stem
    original = nbformat.read(source, as_version=4)
    notebook = of_class(original, stem, seed)
    asked = list(questions(original))  # a student sees the names, the archive has the values
    checks = {settings["name"]: check_cell(settings["name"], tests) for settings, tests in asked}
    by_hand = {s["name"]: s["points"] for s, _ in asked if s.get("manual")}
    shutil.rmtree(out, ignore_errors=True)
    for folder in ("student", "solution", "autograder"):
        (out / folder).mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        master = Path(folder) / f"{stem}.ipynb"
        nbformat.write(notebook, master)
        assign(str(master), str(Path(folder) / "dist"), no_pdfs=True, no_run_tests=True)
        made = Path(folder) / "dist"
        student = finished(made / "student" / master.name, checks)
        solution = finished(made / "autograder" / master.name, checks)
        (archive,) = (made / "autograder").glob("*.zip")
        shutil.copy(archive, out / "autograder" / f"{stem}.zip")
    (out / "autograder" / "by_hand.json").write_text(json.dumps(by_hand) + "\n", encoding="utf-8")
    for name, built in (("student", student), ("solution", solution)):
        (out / name / f"{stem}.ipynb").write_text(nbformat.writes(built) + "\n", encoding="utf-8")


def hand_out(path: Path) -> None:
    """The student's notebook as one page to read or print, which loads nothing from elsewhere."""
    from nbconvert import HTMLExporter

    html, _ = HTMLExporter(embed_images=True).from_filename(str(path))
    mathjax_of_nbconvert = r"<!-- Load mathjax -->.*?<!-- End of mathjax configuration -->"
    html = re.sub(mathjax_of_nbconvert, "", html, flags=re.DOTALL)
    html = re.sub(r'<script src="https?://[^"]*"></script>', "", html)
    mathjax = importlib.resources.files("mathjax") / "static/mathjax/es5"
    script = (mathjax / "tex-svg.js").read_text(encoding="utf-8").replace("</script", "<\\/script")
    settings = 'MathJax = {tex: {inlineMath: [["$", "$"]]}, options: {enableMenu: false}};'
    html = html.replace(
        "</head>", f"<script>{settings}</script><script>{script}</script></head>", 1
    )
    path.with_suffix(".html").write_text(html, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("stems", nargs="*", help="such as lmu; without one, all")
    parser.add_argument(
        "--seed", default=PUBLIC_SEED, help="your class's secret: any text, the longer the better"
    )
    parser.add_argument("--out", type=Path, help="of one assignment: the folder to make anew")
    parser.add_argument(
        "--publish", action="store_true", help="put the public student version into the book"
    )
    given = parser.parse_args()
    wanted = given.stems or stems()
    if unknown := set(wanted) - set(stems()):
        sys.exit(f"there is no assignment {sorted(unknown)}; there are {stems()}")
    if given.out and len(wanted) != 1:
        sys.exit("--out takes one assignment")
    if given.publish and given.seed != PUBLIC_SEED:
        sys.exit("the book shows the public version only")
    for stem in wanted:
        out = given.out or ASSIGNMENTS / stem / "dist"
        build(ASSIGNMENTS / stem / f"{stem}.ipynb", given.seed, out)
        hand_out(out / "student" / f"{stem}.ipynb")
        if given.publish:
            PUBLISHED.mkdir(exist_ok=True)
            shutil.copy(out / "student" / f"{stem}.ipynb", PUBLISHED / f"{stem}.ipynb")
        print(f"{os.path.relpath(out)}: student/, solution/, autograder/", flush=True)
    if given.seed == PUBLIC_SEED:
        print("This is the public version: its solutions are on the net. SEED=... makes your own.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
