"""Which peers are here."""

from importlib.metadata import version

from archbook.timing import installed
from archbook.timing.peers import missing


def test_installed_libraries_are_told_with_their_versions():
    needs = {"ours": ("torch",), "theirs": ("no-such-library", "torch")}
    assert installed(needs) == {"torch": version("torch")}


def test_the_first_library_that_is_lacking_is_named():
    here = {"torch": "2"}
    assert missing(("torch", "one", "two"), here) == "one is not installed"
    assert missing(("torch",), here) is None
