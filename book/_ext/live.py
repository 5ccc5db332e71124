"""The directive `live`: a figure of the page that the reader can change.

    ```{live} lmu_window
    :figure: fig-lmu-window
    :alt: What can be changed, and what it shows, for who cannot see it.
    What to try.
    ```

The figure named is what stands there without a script, on paper and in the notebook. Where scripts
run, book/_static/live/lmu_window.js draws into its place, from the constants of lmu_window.json,
which lie in the page: no request is made, so it also works from a file.
"""

import json
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst.directives import unchanged_required
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

MOST_BYTES = 10_000  # of one script


class live_figure(nodes.General, nodes.Element):
    """What stands beside the picture in its figure; its children say what to try."""


class Live(SphinxDirective):
    required_arguments = 1
    has_content = True
    option_spec = {"figure": unchanged_required, "alt": unchanged_required}

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        lacking = [option for option in ("figure", "alt") if not self.options.get(option)]
        if lacking:
            raise ExtensionError(f"live {name}: wanted the option {lacking[0]}, given none")
        folder = Path(self.env.srcdir) / "book" / "_static" / "live"
        script, constants = folder / f"{name}.js", folder / f"{name}.json"
        for path in (script, constants):
            if not path.exists():
                raise ExtensionError(f"live {name}: wanted a file {path.name}, given none")
            self.env.note_dependency(str(path))
        if script.stat().st_size > MOST_BYTES:
            size = script.stat().st_size
            raise ExtensionError(f"live {name}: wanted at most {MOST_BYTES} bytes, given {size}")
        text = json.dumps(json.loads(constants.read_text(encoding="utf-8")), separators=(",", ":"))
        node = live_figure(name=name, constants=text.replace("<", "\\u003c"), **self.options)
        self.state.nested_parse(self.content, self.content_offset, node)
        return [node]


def put_into_figures(app: Sphinx, doctree: nodes.document) -> None:
    """Each goes below the picture of the figure that it names."""
    for node in list(doctree.findall(live_figure)):
        name, wanted = node["name"], node["figure"]
        found = [f for f in doctree.findall(nodes.figure) if wanted in f["names"] + f["ids"]]
        if not found:
            raise ExtensionError(f"live {name}: wanted a figure {wanted} on its page, given none")
        (figure,) = found
        pictures = list(figure.findall(nodes.image))
        if not pictures or not pictures[0].get("alt", "").strip():
            raise ExtensionError(
                f"live {name}: wanted a picture with an alternative text, given none"
            )
        node.parent.remove(node)
        caption = next(at for at, part in enumerate(figure) if isinstance(part, nodes.caption))
        figure.insert(caption, node)


def load_scripts(app: Sphinx, pagename, templatename, context, doctree) -> None:
    found = [] if doctree is None else [node["name"] for node in doctree.findall(live_figure)]
    for name in dict.fromkeys(["frame", *found] if found else []):
        app.add_js_file(f"live/{name}.js", defer="")


def visit(self, node: live_figure) -> None:
    name, alt = self.attval(node["name"]), self.attval(node["alt"])
    self.body.append(f'<div class="live" data-live="{name}" data-alt="{alt}">')
    self.body.append(f'<script type="application/json">{node["constants"]}</script>')


def depart(self, node: live_figure) -> None:
    self.body.append("</div>\n")


def setup(app: Sphinx) -> dict:
    app.add_node(live_figure, html=(visit, depart))
    app.add_directive("live", Live)
    app.connect("doctree-read", put_into_figures)
    app.connect("html-page-context", load_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
