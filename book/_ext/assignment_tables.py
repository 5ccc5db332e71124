"""The directives `assignments` and `planted-mistakes`: what assignments/ holds, as tables."""

import json
import re
import tomllib
from pathlib import Path

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from generated import in_order_of_chapters, markdown_table
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from tools.address import Address, public_address


def questions(notebook: dict) -> list[dict]:
    """The settings of each question: name, points, whether a reader grades it."""
    raw = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "raw"]
    parted = [source.partition("\n") for source in raw]
    return [yaml.safe_load(rest) for head, _, rest in parted if head == "# BEGIN QUESTION"]


def described(notebook: dict) -> tuple[str, str]:
    """The title and the time, from the first cell."""
    first = "".join(notebook["cells"][0]["source"])
    title = re.search(r"^# Graded assignment: (.+)$", first, re.MULTILINE)
    time = re.search(r"\*\*Time:\*\* (.+?)\.", first)
    if title is None or time is None:
        raise ValueError(
            "an assignment begins with `# Graded assignment: ...` and says its **Time:**"
        )
    return title[1][0].upper() + title[1][1:], time[1].removeprefix("about ")


def overview_row(stem: str, notebook: dict, address: Address | None) -> list[str]:
    title, time = described(notebook)
    asked = questions(notebook)
    tested = sum(q["points"] for q in asked if not q.get("manual"))
    by_hand = sum(q["points"] for q in asked if q.get("manual"))
    file = f"_static/assignments/{stem}.ipynb"
    colab = address and address.colab(f"assignments/{stem}.ipynb")
    opened = (f"[Colab]({colab}), " if colab else "") + f"{{download}}`file <{file}>`"
    about = f"{title} (after {{doc}}`{stem}`)"
    return [about, time, str(len(asked)), f"{tested} + {by_hand}", opened]


def mistake_rows(mistakes: list[dict], asked: list[dict]) -> list[list[str]]:
    points = {question["name"]: question["points"] for question in asked}
    total = sum(question["points"] for question in asked if not question.get("manual"))
    rows = []
    for mistake in sorted(mistakes, key=lambda one: one["breaks"]):
        lost = sum(points[name] for name in mistake["breaks"])
        rows.append([mistake["name"], ", ".join(mistake["breaks"]), f"{lost} of {total}"])
    return rows


class AssignmentTable(SphinxDirective):
    """Reads every assignment; a new one appears by itself."""

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()
        folder = Path(self.env.srcdir) / "assignments"
        found = {}
        for path in in_order_of_chapters(folder.glob("*/mistakes.toml"), folder.parent):
            notebook = path.with_name(f"{path.parent.name}.ipynb")
            for read in (path, notebook):
                self.env.note_dependency(str(read))
            found[path.parent.name] = json.loads(notebook.read_text(encoding="utf-8"))
        lines = self.lines(found, folder)
        box = nodes.container()
        self.state.nested_parse(StringList(lines, "assignments"), self.content_offset, box)
        return box.children

    def lines(self, found: dict[str, dict], folder: Path) -> list[str]:
        address = public_address(Path(self.env.srcdir))
        titles = ["Assignment", "Time", "Questions", "Points, tested + read", "Open"]
        return markdown_table(
            titles, [overview_row(stem, notebook, address) for stem, notebook in found.items()]
        )


class PlantedMistakes(AssignmentTable):
    def lines(self, found: dict[str, dict], folder: Path) -> list[str]:
        lines = []
        for stem, notebook in found.items():
            path = folder / stem / "mistakes.toml"
            mistakes = tomllib.loads(path.read_text(encoding="utf-8"))["mistake"]
            rows = mistake_rows(mistakes, questions(notebook))
            lines += [f"**{described(notebook)[0]}** ({{doc}}`{stem}`)", ""]
            lines += [*markdown_table(["Mistake", "Question", "Points lost"], rows), ""]
        return lines


def setup(app: Sphinx) -> dict:
    app.add_directive("assignments", AssignmentTable)
    app.add_directive("planted-mistakes", PlantedMistakes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
