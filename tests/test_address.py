"""The public address finds itself, and the first cell of a notebook says what it lacks."""

import re
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest
from tools.address import ROOT, Address, package_version, public_address
from tools.first_cell import first_cell

ON_GITHUB = Address("https://github.com/ada/archbook", "https://ada.github.io/archbook/")


def declaring(folder: Path, repository: str) -> Path:
    declared = f'[project.urls]\nRepository = "{repository}"\n'
    (folder / "pyproject.toml").write_text(declared, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("environment", "repository", "pages"),
    [
        ({}, "https://github.com/bob/book", "https://bob.github.io/book/"),
        (
            {"GITHUB_REPOSITORY": "Ada/archbook", "GITHUB_SERVER_URL": "https://github.com"},
            "https://github.com/Ada/archbook",
            "https://ada.github.io/archbook/",
        ),
        (
            {"GITHUB_REPOSITORY": "ada/ada.github.io"},
            "https://github.com/ada/ada.github.io",
            "https://ada.github.io/",
        ),
        (
            {"CI_PROJECT_URL": "https://gitlab.com/group/sub/archbook"},
            "https://gitlab.com/group/sub/archbook",
            "https://group.gitlab.io/sub/archbook/",
        ),
        (
            {
                "CI_PROJECT_URL": "https://git.example.org/ada/archbook",
                "CI_PAGES_URL": "https://ada.pages.example.org/archbook",
            },
            "https://git.example.org/ada/archbook",
            "https://ada.pages.example.org/archbook/",
        ),
        (
            {"CI_PROJECT_URL": "https://git.example.org/ada/archbook"},
            "https://git.example.org/ada/archbook",
            None,
        ),
    ],
)
def test_the_forge_says_the_address_and_else_the_project(
    tmp_path: Path, environment: dict[str, str], repository: str, pages: str | None
):
    root = declaring(tmp_path, "https://github.com/bob/book")
    assert public_address(root, environment) == Address(repository, pages)


def test_a_placeholder_is_no_address(tmp_path: Path):
    root = declaring(tmp_path, "https://github.com/OWNER/archbook")
    assert public_address(root, {}) is None
    assert public_address(root, {"GITHUB_REPOSITORY": "ada/archbook"}) == ON_GITHUB


def test_colab_opens_what_is_on_github_and_nothing_else():
    colab = "https://colab.research.google.com/github/ada/archbook/blob/notebooks/lmu.ipynb"
    assert ON_GITHUB.colab("lmu.ipynb") == colab
    assert Address("https://gitlab.com/ada/archbook", "").colab("lmu.ipynb") is None


# ---- the first cell ----


class Jupyter:
    """What the cell meets: the packages of its machine, and a pip that brings one or fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, has: str | None, pip_brings: str | None):
        self.has, self.pip_brings = has, pip_brings
        self.asked: list[str] = []
        monkeypatch.setattr(util, "find_spec", lambda name: self.has)
        monkeypatch.setattr("importlib.import_module", self.import_module)

    def import_module(self, name: str) -> ModuleType:
        module = ModuleType(name)
        module.__version__ = self.has  # pyright: ignore[reportAttributeAccessIssue]
        return module

    def pip(self, line: str) -> None:
        self.asked.append(line)
        self.has = self.pip_brings

    def run(self, source: str) -> None:
        python = re.sub(r"%pip install -q (.*)", r"pip(f\1)", source)
        exec(python, {"pip": self.pip})


CASES = {  # address, what is there, what pip brings; whether pip is asked, what is said
    "there": (None, "1.2", None, False, None),
    "there, with an address": (ON_GITHUB, "1.2", None, False, None),
    "missing, and brought": (ON_GITHUB, None, "1.2", True, None),
    "missing, and pip fails": (ON_GITHUB, None, None, True, "given none: run `pip install"),
    "missing, without an address": (None, None, None, False, "given none: run `pip install '.[no"),
    "another version": (ON_GITHUB, "1.1", None, False, "given 1.1: run `pip install"),
    "another version, without an address": (None, "1.1", None, False, "given 1.1: run `pip"),
    "pip brings another version": (ON_GITHUB, None, "1.3", True, "given 1.3: run `pip install"),
}


@pytest.mark.parametrize(
    ("address", "has", "pip_brings", "asked", "said"), CASES.values(), ids=CASES
)
def test_the_first_cell_has_its_own_version_or_says_how_to_get_it(
    address, has, pip_brings, asked, said, monkeypatch: pytest.MonkeyPatch
):
    jupyter = Jupyter(monkeypatch, has, pip_brings)
    source = first_cell("1.2", address)
    if said is None:
        jupyter.run(source)
    else:
        with pytest.raises(ImportError, match="wanted the package archbook 1.2") as raised:
            jupyter.run(source)
        (sentence,) = str(raised.value).splitlines()
        assert said in sentence
    archive = "https://github.com/ada/archbook/releases/download/v1.2/archbook-1.2-py3-none-any.whl"
    assert jupyter.asked == ([f"archbook[notebook] @ {archive}"] if asked else [])


def test_a_first_cell_without_an_address_names_none():
    assert "http" not in first_cell(package_version(ROOT), None)
