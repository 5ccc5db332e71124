"""The first cell of every notebook: the book's package in the notebook's own version, or one
sentence that says how to get it. Needs nothing but Python, as tools/address.py does.
"""

from tools.address import Address

TAGS = ["remove-cell"]  # not on the page

INSTALL = """\
archive = (
    "{folder}/"
    "{file}"
)
if util.find_spec("archbook") is None:  # Colab; its own torch stays
    %pip install -q "archbook[notebook] @ {{archive}}"
    invalidate_caches()

"""
CELL = """\
# The book's package, in the version that this notebook was run with.
from importlib import import_module{more}, util

{install}found = "none"
if util.find_spec("archbook"):
    found = import_module("archbook").__version__
if found != "{version}":
    raise ImportError(
        f"wanted the package archbook {version}, given {{found}}: run "
        {how}, "
        "then start this notebook's kernel again"
    )"""
FROM_THE_ADDRESS = "f\"`pip install 'archbook[notebook] @ {archive}'`"
FROM_A_COPY = "\"`pip install '.[notebook]'` in the folder of the book"


def first_cell(version: str, address: Address | None) -> str:
    """Installs only where nothing is installed: another version is somebody's own."""
    if address is None:
        return CELL.format(version=version, more="", install="", how=FROM_A_COPY)
    folder, _, file = address.archive(version).rpartition("/")
    install = INSTALL.format(folder=folder, file=file)
    more = ", invalidate_caches"
    return CELL.format(version=version, more=more, install=install, how=FROM_THE_ADDRESS)
