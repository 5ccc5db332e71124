"""The directives of the API's pages: `api`, a part of the package, and `api-overview`, all of them.

Everything is read from the source when the pages are built; a page holds a title and a directive.
griffe reads it: sphinx.ext.autodoc imports what it documents, and with it torch; sphinx-autodoc2
reads, too, but its last release is of 2023, for Sphinx below 7. What griffe found is written as
Markdown, as on other generated pages.
"""

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import griffe
from api_source import (
    Public,
    first_paragraph,
    inherited_methods,
    method_signature,
    methods,
    package,
    prose,
    public,
    public_parts,
    signature,
)
from docutils import nodes
from generated import markdown_table, sections
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from tools.address import public_address
from tools.chapters import chapters

TABLE = "api-names"  # whose words the search leaves out: each name has a section
HEADING = re.compile(r"^#+ +(.+)$")


# ---- where a chapter uses a name ----


@cache
def uses(root: Path, stem: str) -> dict[tuple[str, str], str]:
    """(part, name) -> the section of a chapter in which its code first uses the name."""
    text = (root / "book" / f"{stem}.ipynb").read_text(encoding="utf-8")
    found: dict[tuple[str, str], str] = {}
    imported: dict[str, str] = {}  # name -> part
    heading = ""
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            for line in re.sub(r"(?ms)^```.*?^```", "", source).splitlines():
                heading = hit[1] if (hit := HEADING.match(line)) else heading
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("archbook."):
                part = str(node.module).split(".")[1]
                imported |= {alias.name: part for alias in node.names}
            elif isinstance(node, ast.Name) and node.id in imported:
                found.setdefault((imported[node.id], node.id), heading)
    return found


def chapter_of(root: Path, one: Public) -> tuple[str, str] | None:
    """The chapter and its section where the name is first used: its own chapter, else the first."""
    stems = sorted(chapters(root), key=lambda stem: stem != one.part)
    for stem in stems:
        if heading := uses(root, stem).get((one.part, one.name)):
            return stem, heading
    return None


# ---- a part ----


def links_of(root: Path) -> dict[str, str]:
    """Names in docstrings -> the labels of their sections; of a name in two parts, none."""
    archbook = package(root)
    every = [one for part in public_parts(archbook) for one in public(archbook, part)]
    names = [one.name for one in every]
    return {one.name: one.label for one in every if names.count(one.name) == 1}


def code(lines: list[str]) -> list[str]:
    return ["```{code-block} python", *lines, "```", ""]


def arguments_of(what: griffe.Object) -> list[str]:
    """The words that may begin a paragraph of the docstring: arguments, a class's methods' too."""
    if isinstance(what, griffe.Class):
        inside = [name for method in what.functions.values() for name in arguments_of(method)]
        return [*(one.name for one in what.parameters), *what.attributes, *inside]
    return [one.name for one in what.parameters] if isinstance(what, griffe.Function) else []


def method_lines(what: griffe.Object, links: dict[str, str]) -> list[str]:
    said = what.docstring.value if what.docstring else ""
    return [
        "::::{div} api-method",
        *code(method_signature(what)),
        *prose(said, arguments_of(what), links),
        "::::",
        "",
    ]


def class_lines(one: griffe.Class, links: dict[str, str]) -> Iterator[str]:
    for method in methods(one):
        yield from method_lines(method, links)
    for parent, known in inherited_methods(one).items():
        if label := links.get(parent):
            names = ", ".join(f"`{each.name}`" for each in known)
            yield from [f"As in [`{parent}`](#{label}): {names}.", ""]
        else:
            for method in known:
                yield from method_lines(method, links)


def name_lines(one: Public, links: dict[str, str]) -> list[str]:
    own = {name: label for name, label in links.items() if name != one.name}
    said = one.what.docstring.value if one.what.docstring else ""
    lines = [*code(signature(one)), *prose(said, arguments_of(one.what), own)]
    if isinstance(one.what, griffe.Class):
        lines += class_lines(one.what, own)
    return lines


def constant_lines(constants: list[Public]) -> list[str]:
    names = ", ".join(f"`{one.name}`" for one in constants)
    return [f"{names}.", "", *code([line for one in constants for line in signature(one)])]


class Api(SphinxDirective):
    """Argument: a part of the package, such as `lmu`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        part, root = self.arguments[0], Path(self.env.srcdir)
        archbook, address = package(root), public_address(root)
        self.env.note_reread()
        if part not in public_parts(archbook):
            raise ExtensionError(f"api: wanted one of {public_parts(archbook)}, given {part!r}")
        module, every, links = archbook.modules[part], public(archbook, part), links_of(root)
        explained = [one for one in every if one.kind != "constant"]
        constants = [one for one in every if one.kind == "constant"]
        said = prose(module.docstring.value if module.docstring else "", [], links)
        if part in chapters(root):
            said += [f"Derived, built and measured in the chapter {{doc}}`/book/{part}`.", ""]
        rows = [
            [f"[`{one.name}`](#{one.label})", " ".join(prose(summary(one), [], {}))]
            for one in explained
        ]
        table = markdown_table(["Name", "What it is"], rows)
        begin = ["import torch", f"from archbook.{part} import *"]
        told = "Each example below begins in a session in which this was run:"
        said += [told, "", *code(begin), f"::::{{div}} {TABLE}", *table, "::::", ""]
        found = sections(self, said, "api")
        for one in explained:
            title = nodes.title("", one.name)
            content = sections(self, name_lines(one, links), "api")
            content.insert(1, self.places(one, address and address.repository))  # below signature
            found.append(self.section([one.label], title, content))
        if constants:
            content = sections(self, constant_lines(constants), "api")
            labels = [one.label for one in constants]
            found.append(self.section(labels, nodes.title("", "Constants"), content))
        return found

    def section(
        self, labels: list[str], title: nodes.title, content: list[nodes.Node]
    ) -> nodes.section:
        """With names that links lead to. Made here, as Markdown opens its own at once: what a
        directive returns would stand behind all of them."""
        made = nodes.section("", title, *content, ids=labels, names=labels)
        self.state.document.note_explicit_target(made, made)
        return made

    def places(self, one: Public, repository: str | None) -> nodes.Node:
        """A line with the section of a chapter that uses the name, and the file that defines it."""
        root, line = Path(self.env.srcdir), nodes.paragraph(classes=["api-places"])
        if place := chapter_of(root, one):
            stem, heading = place
            page = self.env.app.builder.get_relative_uri(self.env.docname, f"book/{stem}")
            target = f"{page}#{nodes.make_id(heading)}"
            line += nodes.Text("In the book: ")
            line += nodes.reference("", heading, refuri=target, internal=True)
            line += nodes.Text(" · ")
        file = one.file.relative_to(root).as_posix()
        line += nodes.Text("Source: ")
        text = nodes.literal("", file)
        if repository is None:
            line += text
        else:
            at = f"{repository}/blob/main/{file}#L{one.what.lineno}"
            line += nodes.reference("", "", text, refuri=at, internal=False)
        return line


def summary(one: Public) -> str:
    return first_paragraph(one.what.docstring.value if one.what.docstring else "")


class ApiOverview(SphinxDirective):
    """Every public part, what it is for and how many names it has."""

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        self.env.note_reread()
        archbook = package(root)
        rows = []
        for part in public_parts(archbook):
            module = archbook.modules[part]
            said = first_paragraph(module.docstring.value if module.docstring else "")
            count = len(public(archbook, part))
            link = f"{{doc}}`archbook.{part} <api/{part}>`"
            rows.append([link, " ".join(prose(said, [], {})), str(count)])
        return sections(self, markdown_table(["Part", "What is there", "Names"], rows), "api")


def setup(app: Sphinx) -> dict:
    app.add_directive("api", Api)
    app.add_directive("api-overview", ApiOverview)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
