"""The buttons that lead out of a page: run it, download it, see its repository. None is dead: where
the book has no public address yet, what needs one is not there.
"""

from pathlib import Path

from sphinx.application import Sphinx
from tools.address import Address, public_address

# `make lab` starts JupyterLab in the folder with the copies of the notebooks, on this port.
LAB_URL = "http://localhost:8888/lab/tree"
NOTEBOOKS = "_static/notebooks"


def settle_repository(app: Sphinx, config) -> None:
    """The theme's own buttons; it opens the sources of notebooks, we open the plain ones."""
    address = public_address(Path(app.srcdir))
    options = {**config.html_theme_options, "launch_buttons": {}}
    options.pop("repository_url", None)
    if address is not None:
        options |= {
            "repository_url": address.repository,
            "repository_provider": "github" if address.on_github else "gitlab",
            "use_repository_button": True,
            "use_issues_button": True,
        }
    config.html_theme_options = options


def launch_buttons(notebook: str, address: Address | None) -> list[dict]:
    lab = {
        "type": "link",
        "text": "JupyterLab",
        "tooltip": "Open in your own JupyterLab: run `make lab` first",
        "icon": "fas fa-laptop-code",
        "url": f"{LAB_URL}/{notebook}",
    }
    colab = address and address.colab(notebook)
    if colab is None:
        return [lab]
    shown = {"tooltip": "Open on Colab", "icon": "_static/images/logo_colab.png"}
    return [{"type": "link", "text": "Colab", "url": colab, **shown}, lab]


def lead_to_plain_notebooks(app: Sphinx, pagename, templatename, context, doctree) -> None:
    source = app.env.doc2path(pagename, base=False) if pagename in app.env.all_docs else ""
    if not source.endswith(".ipynb"):
        return
    notebook = Path(source).name
    for group in context["header_buttons"]:
        for button in group.get("buttons", []):
            if button.get("label") == "download-source-button":
                button["url"] = context["pathto"](f"{NOTEBOOKS}/{notebook}", 1)
                button["tooltip"] = "Download the notebook"
    context["header_buttons"].insert(
        0,
        {
            "type": "group",
            "tooltip": "Run this chapter",
            "icon": "fas fa-rocket",
            "buttons": launch_buttons(notebook, public_address(Path(app.srcdir))),
            "label": "launch-buttons",
        },
    )


def setup(app: Sphinx) -> dict:
    app.connect("config-inited", settle_repository)
    # The theme fills its groups at 501.
    app.connect("html-page-context", lead_to_plain_notebooks, priority=502)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
