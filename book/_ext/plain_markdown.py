"""Says a resolved document in plain Markdown: CommonMark, tables, `$` for formulas, no MyST.

Works on what Sphinx is about to write as a page, so numbers, citations and links are those of the
page. What has no rule here is refused, never dropped.
"""

import html
import re
from collections.abc import Iterable
from urllib.parse import urljoin

from docutils import nodes
from sphinx.application import Sphinx

SPECIAL = re.compile(r"([\\`*\[\]<$]|(?<!\w)_|_(?!\w))")
# What would begin a heading, a list or a quote at the start of a line.
STARTS = re.compile(r"^(#{1,6}(?=\s)|[-+](?=\s)|>)", re.MULTILINE)
STARTS_WITH_NUMBER = re.compile(r"^(\d+)([.)]\s)", re.MULTILINE)
ALIGNED = {"text-left": ":--", "text-center": ":-:", "text-right": "--:"}


class UnsaidError(ValueError):
    """A node without a rule."""


def quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def indented(text: str, by: int) -> str:
    first, *rest = text.splitlines() or [""]
    return "\n".join([first, *(" " * by + line if line else "" for line in rest)])


def folded(title: str, text: str) -> str:
    """A box that a click opens; the empty lines let its content be read as Markdown."""
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>"


def in_html(title: nodes.Node) -> str:
    """A title between HTML tags, where nothing is read as Markdown but formulas."""
    said = ""
    for node in title.findall(nodes.Text):
        if isinstance(node.parent, nodes.math):
            said += f"${node.astext()}$"
        elif not isinstance(node.parent, nodes.raw):  # the page's icons
            said += html.escape(node.astext(), quote=False)
    return said


def code(text: str) -> str:
    """A code span around text that may hold backticks itself."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if longest else f"`{text}`"


def barred(cell: str) -> str:
    """A cell of a table: the bar of a formula in TeX's words, any other escaped."""
    parts = re.split(r"(\$[^$]*\$)", cell)
    for i, part in enumerate(parts):
        formula = part.replace("\\|", r"\Vert ").replace("|", r"\vert ")
        parts[i] = formula if i % 2 else part.replace("|", "\\|")
    return "".join(parts)


class PlainMarkdown:
    """One document: `block_*` and `inline_*` say the nodes of that name.

    `pages` is where the site is, or None; `sources` leads from the anchor of a citation to what it
    cites.
    """

    def __init__(
        self,
        app: Sphinx,
        document: str,
        doctree: nodes.document,
        pages: str | None,
        sources: dict[str, str],
    ):
        environment = app.builder.env
        self.uri = app.builder.get_target_uri(document)
        self.numbers = environment.toc_fignumbers.get(document, {})
        self.sections = environment.toc_secnumbers.get(document, {})
        self.numbered = environment.config.numfig_format
        self.pages = pages
        self.sources = sources
        addresses = map(self.address, doctree.findall(nodes.reference))
        self.linked = {address[1:] for address in addresses if address and address[0] == "#"}
        self.level = 0  # of headings
        self.quotes = 0

    def say(self, kind: str, node: nodes.Node) -> str:
        rule = getattr(self, f"{kind}_{type(node).__name__}", None)
        if rule is None:
            given = f"{type(node).__name__} {node.astext()[:60]!r}"
            raise UnsaidError(f"wanted a node with a rule in plain_markdown.py, given {given}")
        return rule(node)

    def blocks(self, found: Iterable[nodes.Node]) -> str:
        said = [self.say("block", node) for node in found]
        return "\n\n".join(text for text in said if text)

    def inline(self, node: nodes.Node) -> str:
        return "".join(self.say("inline", child) for child in node.children)

    def number(self, kind: str, node: nodes.Element) -> str:
        return ".".join(map(str, self.numbers[kind][node["ids"][0]]))

    def quote(self, content: Iterable[nodes.Node], head: str = "") -> str:
        self.quotes += 1
        text = self.blocks(content)
        self.quotes -= 1
        return quoted(f"{head}\n\n{text}" if head else text)

    def anchors(self, node: nodes.Element) -> str:
        """The names by which this document's links call a node."""
        return "".join(f'<a id="{name}"></a>' for name in node["ids"] if name in self.linked)

    # ---- within a line ----

    def inline_Text(self, node: nodes.Text) -> str:
        return SPECIAL.sub(r"\\\1", node.astext())

    def inline_emphasis(self, node: nodes.Element) -> str:
        return f"*{self.inline(node)}*"

    def inline_strong(self, node: nodes.Element) -> str:
        return f"**{self.inline(node)}**"

    def inline_literal(self, node: nodes.Element) -> str:
        return code(node.astext())

    def inline_inline(self, node: nodes.Element) -> str:
        return self.inline(node)

    def inline_math(self, node: nodes.Element) -> str:
        return f"${' '.join(node.astext().split())}$"

    def inline_reference(self, node: nodes.Element) -> str:
        address = self.address(node)
        return f"[{self.inline(node)}]({address})" if address else f"*{self.inline(node)}*"

    inline_number_reference = inline_reference

    def address(self, node: nodes.Element) -> str | None:
        """Where a link leads from a notebook that stands alone; None to pages without a home."""
        if "refid" in node:
            return f"#{node['refid']}"
        uri: str = node["refuri"]
        page, _, anchor = uri.partition("#")
        if not node.get("internal"):
            return uri
        if not page:
            return f"#{anchor}"
        if anchor in self.sources:
            return self.sources[anchor]
        return urljoin(urljoin(self.pages, self.uri), uri) if self.pages else None

    # ---- text, formulas, lists, tables ----

    def block_paragraph(self, node: nodes.Element) -> str:
        text = STARTS.sub(r"\\\1", self.inline(node))
        return STARTS_WITH_NUMBER.sub(r"\1\\\2", text)

    def block_section(self, node: nodes.Element) -> str:
        self.level += 1
        text = self.blocks(node.children)
        self.level -= 1
        return text

    def block_title(self, node: nodes.Element) -> str:
        section = node.parent
        place = f"#{section['ids'][0]}" if self.level > 1 else ""
        number = "".join(f"{part}." for part in self.sections.get(place, ()))  # of a chapter
        said = f"{number} {self.inline(node)}".lstrip()
        return f"{'#' * self.level} {self.anchors(section)}{said}"

    def block_container(self, node: nodes.Element) -> str:
        return self.blocks(node.children)

    def block_target(self, node: nodes.Element) -> str:
        return ""  # what it stands before has its name too

    def block_math_block(self, node: nodes.Element) -> str:
        tex = node.astext().strip()
        if node["ids"]:
            tex += f" \\tag{{{self.number('displaymath', node)}}}"
        if self.quotes:  # Jupyter reads formulas first, a quote's mark within one as part of it
            return f"{self.anchors(node)}$$ {' '.join(tex.split())} $$"
        return f"{self.anchors(node)}\n$$\n{tex}\n$$".lstrip()

    def block_bullet_list(self, node: nodes.Element) -> str:
        return "\n".join(f"- {indented(self.blocks(item.children), 2)}" for item in node.children)

    def block_enumerated_list(self, node: nodes.Element) -> str:
        first = node.get("start", 1)
        items = enumerate(node.children, first)
        return "\n".join(f"{i}. {indented(self.blocks(item.children), 3)}" for i, item in items)

    def block_block_quote(self, node: nodes.Element) -> str:
        return self.quote(node.children)

    def block_literal_block(self, node: nodes.Element) -> str:
        return f"```{node.get('language', '')}\n{node.astext()}\n```"

    def block_table(self, node: nodes.Element) -> str:
        head, *body = node.findall(nodes.row)
        aligned = [self.alignment(entry) for entry in head.findall(nodes.entry)]
        rows = [self.row(row) for row in body]
        return "\n".join([self.row(head), "| " + " | ".join(aligned) + " |", *rows])

    def alignment(self, entry: nodes.Element) -> str:
        return next((ALIGNED[name] for name in entry["classes"] if name in ALIGNED), "---")

    def row(self, node: nodes.Element) -> str:
        cells = [self.blocks(entry.children).replace("\n", " ") for entry in node.children]
        return "| " + " | ".join(map(barred, cells)) + " |"

    # ---- what the book's extensions add ----

    def block_proposition_node(self, node: nodes.Element) -> str:
        title, *content = node.children
        number = self.number(node["countertype"], node)
        name = f"{node['realtype'].title()} {number}{self.inline(title)}"
        return self.quote(content, f"{self.anchors(node)}**{name}.**")

    block_theorem_node = block_lemma_node = block_corollary_node = block_proposition_node
    block_definition_node = block_remark_node = block_algorithm_node = block_proposition_node

    def block_proof_node(self, node: nodes.Element) -> str:
        (box,) = node.children
        return re.sub(r"^> Proof\.", "> *Proof.*", self.quote(box.children))

    def block_exercise_enumerable_node(self, node: nodes.Element) -> str:
        title, *content = node.children
        name = self.numbered["exercise"] % self.number("exercise", node)
        return self.quote(content, f"{self.anchors(node)}**{name}{self.inline(title)}.**")

    def block_solution_node(self, node: nodes.Element) -> str:
        title, *content = node.children
        return folded(in_html(title), self.blocks(content))

    block_dropdown_main = block_solution_node

    def caption(self, figure: nodes.Element) -> str:
        """The caption of a figure that a cell shows, to stand below that cell."""
        (text,) = figure.findall(nodes.caption)
        name = self.numbered["figure"] % self.number("figure", figure)
        return f"{self.anchors(figure)}*{name}* {self.inline(text)}"
