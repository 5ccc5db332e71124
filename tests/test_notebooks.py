"""What every notebook of the book must be: executed, small, described, checked, in one form."""

import base64
import hashlib
import re
import struct
from pathlib import Path

import nbformat
import pytest
from tools import notebooks
from tools.chapters import chapters

ROOT = Path(__file__).parents[1]
PATHS = notebooks.notebooks_in_toc(ROOT)
MOST_BYTES = 600_000
MOST_PNG_BYTES = 100_000
FEWEST_PIXELS = 11
MOST_LINES = 30
MOST_CODE_CELLS = 40
FEWEST_CHECKS = 8
CHECK = re.compile(r"^\s*assert\b|assert_close|assert_same_module|pytest\.raises", re.MULTILINE)

every_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
every_chapter = pytest.mark.parametrize(
    "path", [ROOT / "book" / f"{stem}.ipynb" for stem in chapters()], ids=lambda path: path.stem
)


def code_cells(path: Path) -> list:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


def outputs(path: Path) -> list:
    return [output for cell in code_cells(path) for output in cell.outputs]


def test_the_table_of_contents_names_a_notebook():
    assert PATHS


@every_notebook
def test_every_cell_was_executed_in_order(path: Path):
    counts = [cell.execution_count for cell in code_cells(path) if cell.source.strip()]
    assert counts == list(range(1, len(counts) + 1)), "run `make notebooks`"


@every_notebook
def test_no_cell_failed_or_warned(path: Path):
    for cell in code_cells(path):
        expected = "raises-exception" in cell.metadata.get("tags", [])
        for output in cell.outputs:
            assert output.output_type != "error" or expected, cell.source
            assert output.get("name") != "stderr", cell.source
            assert "Warning" not in output.get("text", ""), cell.source


@every_notebook
def test_the_file_is_small(path: Path):
    assert path.stat().st_size <= MOST_BYTES


@every_notebook
def test_figures_are_small_pngs(path: Path):
    for output in outputs(path):
        data = output.get("data", {})
        assert not {"image/svg+xml", "image/jpeg", "image/gif"} & set(data)
        if "image/png" in data:
            png = base64.b64decode(data["image/png"])
            width, height = struct.unpack(">II", png[16:24])
            assert len(png) <= MOST_PNG_BYTES, f"{width} x {height}: {len(png)} bytes"


@every_notebook
def test_every_figure_is_described(path: Path):
    for cell in code_cells(path):
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt.split()) >= 4, f"show it with archbook.plotting.show:\n{cell.source}"


@every_notebook
def test_every_figure_can_be_read_on_a_phone(path: Path):
    figures = [o for o in outputs(path) if "image/png" in o.get("data", {})]
    known = dict(notebooks.wide_and_narrow(nbformat.read(path, as_version=4)))
    assert len(known) == len(figures)
    for name, narrow in known.items():
        width, _ = struct.unpack(">II", (notebooks.PHONES / name).read_bytes()[16:24])
        assert width == 2 * 342
        assert narrow["text"] >= FEWEST_PIXELS


def test_no_picture_for_phones_is_left_of_a_figure_that_is_gone():
    shown = {
        name
        for path in PATHS
        for name, _ in notebooks.wide_and_narrow(nbformat.read(path, as_version=4))
    }
    assert {path.name for path in notebooks.PHONES.iterdir()} == shown


def test_pictures_for_phones_are_set_aside_and_swept(tmp_path: Path):
    wide, narrow = b"wide", base64.b64encode(b"narrow").decode()
    output = nbformat.v4.new_output(
        "display_data",
        data={"image/png": base64.b64encode(wide).decode()},
        metadata={"image/png": {"narrow": {"png": narrow, "text": 11.1}}},
    )
    cell = nbformat.v4.new_code_cell("show(fig)", outputs=[output])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebooks.set_phones_aside(notebook, tmp_path / "phones")
    (kept,) = (tmp_path / "phones").iterdir()
    assert kept.name == f"{hashlib.sha256(wide).hexdigest()}.png"
    assert kept.read_bytes() == b"narrow"
    assert notebook.cells[0].outputs[0].metadata["image/png"] == {"narrow": {"text": 11.1}}
    nbformat.write(notebook, tmp_path / "one.ipynb")
    (kept.parent / "gone.png").write_bytes(b"")
    notebooks.sweep_phones([tmp_path / "one.ipynb"], kept.parent)
    assert list(kept.parent.iterdir()) == [kept]


@every_notebook
def test_markdown_images_are_described(path: Path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            assert "![](" not in cell.source


@every_notebook
def test_no_output_needs_a_script(path: Path):
    for output in outputs(path):
        for mime in output.get("data", {}):
            assert "javascript" not in mime, mime
            assert "widget" not in mime, mime


@every_notebook
def test_cells_are_short(path: Path):
    for cell in code_cells(path):
        assert len(cell.source.splitlines()) <= MOST_LINES, cell.source


def test_the_reader_is_told_how_long_a_cell_may_be():
    told = (ROOT / "book" / "how_to_read.md").read_text(encoding="utf-8")
    assert f"* **An idea** in at most {MOST_LINES} lines" in told


@every_notebook
def test_no_cell_talks_to_the_linter(path: Path):
    for cell in code_cells(path):
        assert not re.search(r"#\s*(noqa|fmt:|type:|pyright:)", cell.source), cell.source


@every_notebook
def test_no_cell_changes_the_path_or_the_shell(path: Path):
    for cell in code_cells(path)[1:]:
        assert "sys.path" not in cell.source
        assert not re.search(r"^\s*[%!]", cell.source, re.MULTILINE), cell.source


@every_notebook
def test_the_form_is_the_one_that_make_notebooks_writes(path: Path):
    notebook = nbformat.read(path, as_version=4)
    notebooks.stamp_first_cell(notebook, ROOT)
    notebooks.normalise(notebook)
    assert nbformat.writes(notebook) + "\n" == path.read_text(encoding="utf-8"), (
        "run `make notebooks`, or `python -m tools.notebooks --stamp` for the form alone"
    )


@every_notebook
def test_the_first_cell_asks_for_the_package_and_is_hidden(path: Path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "code"
    assert "remove-cell" in first.metadata["tags"]
    assert first.source == notebooks.stamped_first_cell(ROOT)


@every_notebook
def test_colab_is_asked_for_a_gpu(path: Path):
    assert nbformat.read(path, as_version=4).metadata["accelerator"] == "GPU"


@every_chapter
def test_a_chapter_is_not_too_long(path: Path):
    assert len(code_cells(path)) <= MOST_CODE_CELLS


@every_chapter
def test_a_chapter_checks_what_it_says(path: Path):
    checks = [cell for cell in code_cells(path) if CHECK.search(cell.source)]
    assert len(checks) >= FEWEST_CHECKS, f"{len(checks)} cells can fail"


@every_chapter
def test_a_chapter_reads_only_results_of_its_own_that_exist(path: Path):
    source = "\n".join(cell.source for cell in code_cells(path))
    read = re.findall(r"read_results\(\s*[\"']([\w.]+)[\"']\s*,\s*[\"']([\w.]+)[\"']", source)
    for stem, name in read:
        assert stem == path.stem, f"{stem}/{name} belongs to another chapter"
        assert (ROOT / "results" / stem / f"{name}.json").exists(), f"results/{stem}/{name}.json"
    named = set(re.findall(r"results/(\w+)/", source))
    assert named <= {path.stem}


# ---- the tool itself ----


def test_normalising_twice_changes_nothing():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")])
    notebooks.normalise(notebook)
    once = nbformat.writes(notebook)
    notebooks.normalise(notebook)
    assert nbformat.writes(notebook) == once


def test_normalising_removes_what_a_machine_leaves_behind():
    cell = nbformat.v4.new_code_cell("print(1)", execution_count=7)
    cell.metadata.update({"execution": {"iopub.status.busy": "now"}, "tags": ["hide-input"]})
    cell.outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="1"),
        nbformat.v4.new_output("stream", name="stdout", text="\n"),
    ]
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata["language_info"] = {"name": "python", "version": "3.11.7"}
    notebooks.normalise(notebook)
    (cell,) = notebook.cells
    assert cell.metadata == {"tags": ["hide-input"]}
    assert cell.execution_count == 1
    assert [output.text for output in cell.outputs] == ["1\n"]
    assert "version" not in notebook.metadata["language_info"]


def test_equal_cells_get_different_names():
    cells = [nbformat.v4.new_code_cell("x = 1"), nbformat.v4.new_code_cell("x = 1")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebooks.normalise(notebook)
    assert notebook.cells[0].id != notebook.cells[1].id


def test_a_figure_is_described_to_the_page():
    shown = nbformat.v4.new_output(
        "display_data",
        data={"image/png": "", "text/plain": "A line that rises."},
        metadata={"image/png": {"alt": "A line that rises.", "name": "f", "caption": "Up"}},
    )
    cell = nbformat.v4.new_code_cell("show(fig)", outputs=[shown])
    notebooks.normalise(nbformat.v4.new_notebook(cells=[cell]))
    assert cell.metadata["mystnb"]["image"] == {"alt": "A line that rises."}
    assert cell.metadata["mystnb"]["figure"] == {"name": "f", "caption": "Up"}


def test_the_first_cell_takes_the_place_of_its_older_form_and_of_nothing_else():
    older = nbformat.v4.new_code_cell("import archbook", metadata={"tags": ["remove-cell"]})
    check = nbformat.v4.new_code_cell("assert True", metadata={"tags": ["remove-cell"]})
    for cells, left in (([older, check], [check]), ([check], [check]), ([], [])):
        notebook = nbformat.v4.new_notebook(cells=cells)
        notebooks.stamp_first_cell(notebook, ROOT)
        assert notebook.cells[0].source == notebooks.stamped_first_cell(ROOT)
        assert notebook.cells[1:] == left
