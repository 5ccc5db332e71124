"""What the pages of the API say of a name, read from the source by griffe: nothing is imported, so
the environment that builds the pages needs no torch.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import griffe

WIDE = 76  # characters of a line of code that still fits the column
# What begins a paragraph of its own in a docstring, besides the names of arguments.
LABELS = ("Cost", "Deviates from the paper", "Errors", "Matrices", "Raises", "Shapes")
MARKS = re.compile(r"([\\*_\[\]<>#$~^{}|])")  # what Markdown would read as a mark
CODE = re.compile(r'`[^`]+`|"[\w./+-]+"|--[\w-]+')  # code, an option's value, a flag
HIDDEN_METHODS = {"extra_repr"}


@cache
def package(root: Path) -> griffe.Module:
    loaded = griffe.load("archbook", search_paths=[root / "code"], allow_inspection=False)
    assert isinstance(loaded, griffe.Module)
    return loaded


@dataclass(frozen=True)
class Public:
    """A public name of a part, and what stands behind it."""

    part: str
    name: str
    what: griffe.Object

    @property
    def kind(self) -> str:
        """`class`, `function` or `constant`."""
        known = {griffe.Kind.CLASS: "class", griffe.Kind.FUNCTION: "function"}
        return known.get(self.what.kind, "constant")

    @property
    def label(self) -> str:
        """Of its section; a function that is called as a class is, but for its capital, says so."""
        names = [one for one in public_names(self.what.package, self.part) if one != self.name]
        twice = self.kind == "function" and self.name in [one.lower() for one in names]
        return f"api-{self.part}-{self.name}{'-function' if twice else ''}".lower().replace(
            "_", "-"
        )

    @property
    def file(self) -> Path:
        assert isinstance(self.what.filepath, Path)
        return self.what.filepath


def public_parts(archbook: griffe.Module) -> list[str]:
    """The parts that say in `__all__` what other programs may import."""
    return sorted(name for name, part in archbook.modules.items() if part.exports is not None)


def public_names(archbook: griffe.Module, part: str) -> list[str]:
    exports = archbook.modules[part].exports
    assert exports is not None
    return [str(name) for name in exports]


def public(archbook: griffe.Module, part: str) -> list[Public]:
    """In the order of the pages: classes, functions, constants."""
    module = archbook.modules[part]
    found = []
    for name in public_names(archbook, part):
        # Told by the import, since a file may be called as the function in it, `cost.cost`.
        path = module.imports.get(name, f"archbook.{part}.{name}")
        found.append(Public(part, name, archbook[path.removeprefix("archbook.")]))
    order = ["class", "function", "constant"]
    return sorted(found, key=lambda one: order.index(one.kind))


# ---- signatures ----


def as_written(text: object) -> str:
    """An annotation or a default with the quotes of our code."""
    return str(text).replace("'", '"')


def parameter(one: griffe.Parameter) -> str:
    stars = ""
    if one.kind in (griffe.ParameterKind.var_positional, griffe.ParameterKind.var_keyword):
        stars = "*" if one.kind is griffe.ParameterKind.var_positional else "**"
    text = f"{stars}{one.name}"
    if one.annotation is not None:
        text += f": {as_written(one.annotation)}"
    if one.default is not None and not stars:
        text += f"{' = ' if one.annotation is not None else '='}{as_written(one.default)}"
    return text


def parameters(given: Sequence[griffe.Parameter]) -> list[str]:
    """As in a signature: without what an instance passes by itself, with a bare star."""
    found, starred = [], False
    for one in given:
        if one.name in ("self", "cls"):
            continue
        if one.kind is griffe.ParameterKind.var_positional:
            starred = True
        if one.kind is griffe.ParameterKind.keyword_only and not starred:
            found.append("*")
            starred = True
        found.append(parameter(one))
    return found


def call(head: str, arguments: Sequence[str], returns: object = None) -> list[str]:
    """In one line where that fits, else an argument a line."""
    end = f" -> {as_written(returns)}" if returns is not None else ""
    line = f"{head}({', '.join(arguments)}){end}"
    if len(line) <= WIDE or not arguments:
        return [line]
    return [f"{head}(", *(f"    {one}," for one in arguments), f"){end}"]


def source_lines(what: griffe.Object, first: int, last: int) -> list[str]:
    assert isinstance(what.filepath, Path)
    return what.filepath.read_text(encoding="utf-8").splitlines()[first - 1 : last]


def with_comments_above(what: griffe.Object) -> list[str]:
    """The lines of an assignment, and of the comment right above it, from the margin."""
    assert what.lineno is not None
    assert what.endlineno is not None
    first = what.lineno
    while source_lines(what, first - 1, first - 1)[0].strip().startswith("#"):
        first -= 1
    lines = source_lines(what, first, what.endlineno)
    indent = len(lines[0]) - len(lines[0].lstrip())
    return [line[indent:] for line in lines]


def is_record(one: griffe.Class) -> bool:
    """A dataclass or a named tuple, whose fields say more than a signature would."""
    return any("dataclass" in str(each.value) for each in one.decorators) or any(
        str(base) == "NamedTuple" for base in one.bases
    )


def signature(one: Public) -> list[str]:
    what = one.what
    if isinstance(what, griffe.Function):
        return call(f"def {one.name}", parameters(list(what.parameters)), what.returns)
    if not isinstance(what, griffe.Class):
        return with_comments_above(what)
    bases = ", ".join(map(str, what.bases))
    head = f"class {one.name}{f'({bases})' if bases else ''}"
    if is_record(what):
        fields = [each for each in what.attributes.values() if is_field(each)]
        lines = [f"    {line}" for each in fields for line in with_comments_above(each)]
        return [*(f"@{each.value}" for each in what.decorators), f"{head}:", *lines]
    made = call(one.name, parameters(list(what.parameters)))
    return [head, "", *made] if what.parameters else [head]


def is_field(member: griffe.Attribute) -> bool:
    return member.annotation is not None and "property" not in member.labels


def is_method(member: griffe.Object | griffe.Alias) -> bool:
    return (member.is_function or "property" in member.labels) and (
        not member.name.startswith("_") and member.name not in HIDDEN_METHODS
    )


def methods(one: griffe.Class) -> list[griffe.Object]:
    """Its public methods: what an override repeats without a word of its own is left out."""
    inherited = {name for base in one.mro() for name in base.members}
    return [
        member
        for name, member in one.members.items()
        if isinstance(member, griffe.Object) and is_method(member)
        if member.docstring is not None or name not in inherited
    ]


def inherited_methods(one: griffe.Class) -> dict[str, list[griffe.Object]]:
    """By the class of this package that describes them, nearest first."""
    found: dict[str, list[griffe.Object]] = {}
    known = {method.name for method in methods(one)}
    for base in one.mro():
        found[base.name] = [method for method in methods(base) if method.name not in known]
        known |= {method.name for method in found[base.name]}
    return {name: told for name, told in found.items() if told}


def method_signature(one: griffe.Object) -> list[str]:
    if isinstance(one, griffe.Function):
        return call(f"def {one.name}", parameters(list(one.parameters)), one.returns)
    assert isinstance(one, griffe.Attribute)
    return [f"{one.name}: {as_written(one.annotation)}  # a property"]


# ---- docstrings ----


def plain(text: str, links: dict[str, str]) -> str:
    """Prose as Markdown that reads as it was written; code with a public name leads to it."""
    parts, last = [], 0
    for hit in CODE.finditer(text):
        parts.append(MARKS.sub(r"\\\1", text[last : hit.start()]))
        code = hit[0].strip("`")
        label = links.get(re.split(r"[.(]", code.removeprefix("archbook."))[0])
        parts.append(f"[`{code}`](#{label})" if label else f"`{code}`")
        last = hit.end()
    return "".join([*parts, MARKS.sub(r"\\\1", text[last:])])


def paragraphs(block: Sequence[str], names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """(label or "", lines): a line that begins with an argument's name or a label begins anew.

    Lines further in continue a labelled paragraph; below another they are a formula, label "=".
    """
    label, lines = "", list[str]()
    for line in block:
        said = re.match(r"([\w, ]+): ", line)
        words = said[1].split(", ") if said else []
        if words and all(word in names or word in LABELS for word in words):
            if lines:
                yield label, lines
            label, lines = said[1] if said else "", [line[len(said[0]) :] if said else line]
        elif line.startswith("    ") and not label:
            if lines:
                yield label, lines
            label, lines = "=", [line]
        elif label == "=" and not line.startswith("    "):
            yield label, lines
            label, lines = "", [line]
        else:
            lines.append(line)
    if lines:
        yield label, lines


def prose(docstring: str, names: Sequence[str], links: dict[str, str]) -> list[str]:
    """A docstring as Markdown: its paragraphs, and its examples as sessions."""
    lines: list[str] = []
    for block in re.split(r"\n\s*\n", docstring.strip()):
        if block.lstrip().startswith(">>>"):
            lines += ["```{code-block} pycon", *block.splitlines(), "```", ""]
            continue
        for label, said in paragraphs(block.splitlines(), names):
            if label == "=":
                lines += ["```{code-block} text", *(one[4:] for one in said), "```", ""]
                continue
            text = plain(" ".join(one.strip() for one in said), links)
            shown = label if label in LABELS else f"`{label}`"
            lines += [f"**{shown}**: {text}" if label else text, ""]
    return lines


def first_paragraph(docstring: str) -> str:
    return " ".join(docstring.strip().split("\n\n")[0].split())
