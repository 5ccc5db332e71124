"""The directives of the first page: `doors`, what the book is and where to enter, and `cards`."""

import re
from html import escape
from pathlib import Path

import yaml
from claim_tables import cells_of, rows_of, tally
from docutils import nodes
from generated import sections
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from tools.chapters import chapters

ABOUT = re.compile(r"\*\*Assumed:\*\* (.+?)\. \*\*Time:\*\* about (\d+) minutes\.")


def about(notebook: Path) -> tuple[str, int]:
    """What a chapter assumes, and its minutes: the last line of its first cell."""
    found = ABOUT.search("".join(cells_of(notebook)[1]["source"]))
    if found is None:
        raise ExtensionError(f"{notebook.name}: wanted **Assumed:** ... **Time:** about N minutes.")
    return found[1], int(found[2])


def finding(notebook: Path, claim: str) -> tuple[str, str]:
    """Verdict and sentence of one claim in the chapter's table."""
    for named, verdict, sentence, _ in rows_of(notebook):
        if named == claim:
            return verdict, sentence
    raise ExtensionError(f"{notebook.name}: wanted the claim {claim!r}, found none")


class Doors(SphinxDirective):
    """Time, price and licence in a line, three buttons, and how many claims held."""

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        stems = chapters(root)
        minutes = []
        for stem in stems:
            path = root / "book" / f"{stem}.ipynb"
            self.env.note_dependency(str(path))
            minutes.append(about(path)[1])
        hours = round(sum(minutes) / 60)
        counted = tally(root, stems)
        chips = " ".join(
            f'<span class="verdict">{escape(word.partition(" ")[0])} <b>{count}</b> '
            f"{escape(word.partition(' ')[2])}</span>"
            for word, count in counted.items()
        )
        lines = [
            f"**Free and open**, text CC BY 4.0, code MIT. About {hours} hours for all "
            f"{len(stems)} chapters, {min(minutes)} to {max(minutes)} minutes each, in any order.",
            "",
            "::::{div} doors",
            f"{{doc}}`Read chapter 1 <{stems[0]}>` {{ref}}`Run it <run-it>` "
            "{doc}`Teach it <teaching>`",
            "::::",
            "",
        ]
        head = sections(self, lines, "doors")
        text = (
            f'<p class="tally">Of the <b>{sum(counted.values())}</b> claims of the papers '
            f"that we judged: {chips}</p>"
        )
        link = sections(self, ["{doc}`Which claims held <claims>`, one by one."], "doors")
        return [*head, nodes.raw("", text, format="html"), *link]


class Cards(SphinxDirective):
    """Content: for each chapter, in the book's order, title, question, picture, finding (YAML)."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        cards = yaml.safe_load("\n".join(self.content))
        given = [card["chapter"] for card in cards]
        if given != (wanted := list(chapters(root))):
            raise ExtensionError(f"cards: wanted the order {wanted}, given {given}")
        lines = [":::::{grid} 1 2 2 3", ":gutter: 3", ""]
        for number, card in enumerate(cards, 1):
            stem = card["chapter"]
            path = root / "book" / f"{stem}.ipynb"
            self.env.note_dependency(str(path))
            assumed, minutes = about(path)
            verdict, sentence = finding(path, card["finding"])
            lines += [
                f"::::{{grid-item-card}} {number}. {card['title']}",
                f":link: {stem}",
                ":link-type: doc",
                f":img-top: _static/cards/{stem}.svg",
                f":img-alt: {card['picture']}",
                "",
                card["question"],
                "",
                f"**{card['finding']}** {verdict}. {sentence}",
                ":::{card-footer}",
                f"{minutes} minutes. Assumes {assumed}.",
                ":::",
                "::::",
                "",
            ]
        return sections(self, [*lines, ":::::"], "cards")


def setup(app: Sphinx) -> dict:
    app.add_directive("doors", Doors)
    app.add_directive("cards", Cards)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
