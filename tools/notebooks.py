"""Runs the notebooks of the book again and stores them with their output in one fixed form.

python -m tools.notebooks             all notebooks named in _toc.yml
python -m tools.notebooks --only lmu  one of them
python -m tools.notebooks --stamp     only the form: address, metadata, cell names; nothing is run

Also copies the public address from pyproject.toml, and the version, into CITATION.cff, README.md
and the hidden first cell, which asks for the package of that version.
"""

import argparse
import base64
import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported by any kernel: see Makefile.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import nbformat
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from tools.address import declared_repository, package_version, public_address
from tools.chapters import chapters
from tools.first_cell import TAGS, first_cell

from archbook.files import write_bytes

ROOT = Path(__file__).parents[1]
PHONES = ROOT / "book" / "_static" / "phones"  # a second picture of each figure
SECONDS_PER_CELL = 300

# What every notebook says, the assignments too. No language version: it would change with the
# machine that ran the notebook last.
PYTHON = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# Colab shows the launch button's notebook with a GPU where one is free.
METADATA = {
    "accelerator": "GPU",
    "colab": {"gpuType": "T4", "provenance": []},
    **PYTHON,
}
# What jupyter clients leave in a cell: times, scroll state, ids of a session.
KEPT_CELL_METADATA = {"tags", "mystnb"}


def pages_in_toc(root: Path = ROOT) -> list[str]:
    """Every page that the table of contents names, in its order: `book/intro` and so on."""
    found: list[str] = []

    def walk(node) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("file", "root"):
                    found.append(value)
                else:
                    walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8")))
    return found


def notebooks_in_toc(root: Path = ROOT) -> list[Path]:
    """The pages among them that are notebooks."""
    paths = [root / f"{page}.ipynb" for page in pages_in_toc(root)]
    return [path for path in paths if path.exists()]


def stamped_first_cell(root: Path = ROOT) -> str:
    """As committed: the same on every forge, whose own address the build of the pages puts in."""
    return first_cell(package_version(root), public_address(root, environment={}))


def ways_in(root: Path = ROOT) -> str:
    """The README's links: to the book and to Colab once there is an address."""
    links = {"Changelog": "CHANGELOG.md"}
    address = public_address(root, environment={})
    if address is not None:
        first = f"{chapters(root)[0]}.ipynb"
        out = {
            "Read the book": address.pages,
            "Run the first chapter on Colab": address.colab(first),
        }
        links = {name: place for name, place in out.items() if place} | links
    return " · ".join(f"[{name}]({place})" for name, place in links.items())


# Where the public address and the version stand a second time, and the line that holds them.
STAMPED = [
    ("CITATION.cff", r"(^repository-code: ).*$", lambda root: f'"{declared_repository(root)}"'),
    ("CITATION.cff", r"(^version: ).*$", package_version),
    ("README.md", r"(^<!-- Written by `make notebooks`.*-->\n).*$", lambda root: ways_in(root)),
]


def stamp_files(root: Path = ROOT) -> None:
    for name, line, value in STAMPED:
        text = (root / name).read_text(encoding="utf-8")
        pattern = re.compile(line, re.MULTILINE)
        if not pattern.search(text):
            raise ValueError(f"{name}: wanted a line of the form {line}, given none")
        stamped = pattern.sub(lambda match, v=value: match.group(1) + v(root), text)
        if stamped != text:
            (root / name).write_text(stamped, encoding="utf-8")


def stamp_first_cell(notebook: nbformat.NotebookNode, root: Path = ROOT) -> None:
    """Puts it in place of its older form, or before all others."""
    first = notebook.cells[0] if notebook.cells else None
    if first is None or first.metadata.get("tags") != TAGS or "archbook" not in first.source:
        notebook.cells.insert(0, nbformat.v4.new_code_cell())
    notebook.cells[0].source = stamped_first_cell(root)
    notebook.cells[0].metadata["tags"] = list(TAGS)


def normalise(notebook: nbformat.NotebookNode) -> None:
    """One form for every machine: metadata, cell names, counts, and nothing of the session."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: dict[str, int] = {}
    count = 0
    for cell in notebook.cells:
        kept = {k: v for k, v in sorted(cell.metadata.items()) if k in KEPT_CELL_METADATA}
        cell.metadata = nbformat.from_dict(kept)
        # Named for their content: moving a cell does not rename the others.
        name = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[name] = seen.get(name, 0) + 1
        cell.id = name if seen[name] == 1 else f"{name}-{seen[name]}"
        if cell.cell_type != "code":
            continue
        if cell.execution_count is not None:
            count += 1
            cell.execution_count = count
        for output in cell.outputs:
            output.pop("transient", None)
            if "execution_count" in output:
                output.execution_count = cell.execution_count
        cell.outputs = joined_streams(cell.outputs)
        describe_figure(cell)


def describe_figure(cell: nbformat.NotebookNode) -> None:
    """Alternative text, name and caption from the output, which `archbook.plotting.show` writes,
    to the cell's metadata, which is where the page takes them from.
    """
    told = [
        output.metadata["image/png"]
        for output in cell.outputs
        if "alt" in output.get("metadata", {}).get("image/png", {})
    ]
    if len(told) > 1:
        raise ValueError(f"wanted at most one figure a cell, given {len(told)}:\n{cell.source}")
    cell.metadata.pop("mystnb", None)
    if told:
        about = {"image": {"alt": told[0]["alt"]}}
        if "caption" in told[0]:
            about["figure"] = {key: told[0][key] for key in ("name", "caption")}
        cell.metadata["mystnb"] = about


def wide_and_narrow(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, dict]]:
    """The file name of each figure, as the pages' build gives it, and what is known of its picture
    for phones.
    """
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            narrow = output.get("metadata", {}).get("image/png", {}).get("narrow")
            if narrow is not None:
                wide = base64.b64decode(output.data["image/png"])
                yield f"{hashlib.sha256(wide).hexdigest()}.png", narrow


def set_phones_aside(notebook: nbformat.NotebookNode, folder: Path = PHONES) -> None:
    """The pictures for phones into files of their own: a notebook shows each figure once."""
    for name, narrow in wide_and_narrow(notebook):
        if picture := narrow.pop("png", None):
            write_bytes(folder / name, base64.b64decode(picture))


def sweep_phones(paths: list[Path], folder: Path = PHONES) -> None:
    """Delete the pictures of figures that no notebook shows any more."""
    read = (nbformat.read(path, as_version=4) for path in paths)
    shown = {name for notebook in read for name, _ in wide_and_narrow(notebook)}
    for path in folder.glob("*.png"):
        if path.name not in shown:
            path.unlink()


def joined_streams(outputs: list) -> list:
    """Neighbouring pieces of one stream as one: how it was cut depends on the machine's speed."""
    joined: list = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def execute(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Runs all cells in a fresh kernel, in the notebook's own folder, telling how far it is."""
    total = sum(cell.cell_type == "code" for cell in notebook.cells)
    done = 0

    def tell(cell, cell_index, execute_reply) -> None:
        nonlocal done
        done += 1
        if sys.stdout.isatty():
            print(f"\r  cell {done} of {total}", end="", flush=True)

    client = NotebookClient(
        notebook,
        timeout=SECONDS_PER_CELL,
        kernel_name="python3",
        # Else each kernel warns that its sockets, which stay on this machine, are not encrypted.
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_executed=tell,
        record_timing=False,
    )
    client.execute()
    if sys.stdout.isatty():
        print("\r", end="")


def write(notebook: nbformat.NotebookNode, path: Path) -> bool:
    """Writes only where something changed; True where it did."""
    nbformat.validate(notebook)
    text = nbformat.writes(notebook) + "\n"
    if path.read_text(encoding="utf-8") == text:
        return False
    write_bytes(path, text.encode())
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("--only", metavar="STEM", help="one notebook, such as lmu")
    parser.add_argument("--stamp", action="store_true", help="fix the form, run nothing")
    arguments = parser.parse_args()
    paths = notebooks_in_toc()
    if arguments.only:
        paths = [path for path in paths if path.stem == arguments.only]
        if not paths:
            sys.exit(f"_toc.yml names no notebook with the stem {arguments.only!r}")
    stamp_files()
    failed = False
    for path in paths:
        name = path.relative_to(ROOT)
        notebook = nbformat.read(path, as_version=4)
        stamp_first_cell(notebook)
        start = time.monotonic()
        if not arguments.stamp:
            print(f"{name}: running ...", flush=True)
            try:
                execute(notebook, path)
            except CellExecutionError as error:
                print(f"{name}: FAILED, left as it was\n{error}", flush=True)
                failed = True
                continue
        normalise(notebook)
        set_phones_aside(notebook)
        changed = "written" if write(notebook, path) else "unchanged"
        print(f"{name}: {changed}, {time.monotonic() - start:.0f} s", flush=True)
    sweep_phones(notebooks_in_toc())
    if not arguments.stamp:
        from tools.live import write_live  # it imports torch, which --stamp does without

        write_live()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
