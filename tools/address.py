"""Where the book is public: the forge that builds it knows, else pyproject.toml says.

As long as neither does, there is no address, and nothing may lead there. Needs nothing but Python,
since the small environment that builds the pages asks too.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACEHOLDER = "/OWNER/"
# The branch that a release fills with the plain notebooks, which is where Colab finds them.
NOTEBOOKS_BRANCH = "notebooks"


@dataclass(frozen=True)
class Address:
    """A public repository, such as https://github.com/OWNER/archbook, and what follows from it."""

    repository: str
    pages: str | None  # None: the forge shows them somewhere that only it knows

    @property
    def on_github(self) -> bool:
        return self.repository.startswith("https://github.com/")

    def archive(self, version: str) -> str:
        """What pip installs: the wheel of a release; elsewhere the files under its tag."""
        if self.on_github:
            wheel = f"archbook-{version}-py3-none-any.whl"
            return f"{self.repository}/releases/download/v{version}/{wheel}"
        return f"{self.repository}/-/archive/v{version}/archbook-v{version}.tar.gz"

    def colab(self, notebook: str) -> str | None:
        """Where Colab opens a notebook of the last release; it reads GitHub alone."""
        if not self.on_github:
            return None
        name = self.repository.removeprefix("https://github.com/")
        branch = f"{name}/blob/{NOTEBOOKS_BRANCH}"
        return f"https://colab.research.google.com/github/{branch}/{notebook}"


def declared_repository(root: Path = ROOT) -> str:
    """What pyproject.toml says, the placeholder too."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"]


def forge_repository(environment: Mapping[str, str]) -> str | None:
    """What GitHub or GitLab tells each job that it runs."""
    if name := environment.get("GITHUB_REPOSITORY"):
        return f"{environment.get('GITHUB_SERVER_URL', 'https://github.com')}/{name}"
    return environment.get("CI_PROJECT_URL")


def pages_of(repository: str) -> str | None:
    """Where GitHub and GitLab show the pages of a repository that has no domain of its own."""
    known = re.fullmatch(r"https://git(hub|lab)\.com/([^/]+)/(.+)", repository)
    if known is None:
        return None
    forge, owner, name = known.groups()
    home = f"{owner.lower()}.git{forge}.io"
    return f"https://{home}/" if name.lower() == home else f"https://{home}/{name}/"


def public_address(
    root: Path = ROOT, environment: Mapping[str, str] = os.environ
) -> Address | None:
    """The address, or None as long as there is none."""
    repository = forge_repository(environment) or declared_repository(root)
    if PLACEHOLDER in repository:
        return None
    repository = repository.removesuffix("/")
    if pages := environment.get("CI_PAGES_URL"):
        return Address(repository, pages.removesuffix("/") + "/")
    return Address(repository, pages_of(repository))


def package_version(root: Path = ROOT) -> str:
    """What the code itself says."""
    text = (root / "code" / "archbook" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if match is None:
        raise ValueError("code/archbook/__init__.py must define __version__")
    return match.group(1)
