"""A launch button that opens the page's notebook in the reader's own JupyterLab (`make lab`)."""

from sphinx.application import Sphinx

# `make lab` starts JupyterLab at the repository's root on this port.
LAB_URL = "http://localhost:8888/lab/tree"


def add_local_button(app: Sphinx, pagename, templatename, context, doctree) -> None:
    source = app.env.doc2path(pagename, base=False) if pagename in app.env.all_docs else ""
    if not source.endswith(".ipynb"):
        return
    for group in context.get("header_buttons", []):
        if group.get("label") == "launch-buttons":
            group["buttons"].append(
                {
                    "type": "link",
                    "text": "JupyterLab",
                    "tooltip": "Open in your own JupyterLab: run `make lab` first",
                    "icon": "fas fa-laptop-code",
                    "url": f"{LAB_URL}/{source}",
                }
            )


def setup(app: Sphinx) -> dict:
    # The theme fills the group at 501.
    app.connect("html-page-context", add_local_button, priority=502)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
