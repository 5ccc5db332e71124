"""What runs by itself: workflows, hooks at commit time, and what `make` targets they name."""

import itertools
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from guards import places

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = re.findall(r"^([a-z]+):(?!=)", MAKEFILE, re.MULTILINE)


def loaded(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def commands(workflow: dict) -> list[str]:
    """What its jobs run, with the rows of a matrix filled in."""
    found = []
    for job in workflow["jobs"].values():
        rows = job.get("strategy", {}).get("matrix", {}).get("include", [{}])
        run = [step["run"] for step in job["steps"] if "run" in step]
        for command, row in itertools.product(run, rows):
            filled = command
            for name, value in row.items():
                filled = filled.replace(f"${{{{ matrix.{name} }}}}", value)
            found.append(f"{filled} # Python {row.get('python', '')}".rstrip())
    return found


def made(command: str) -> list[str]:
    """The targets that a command line hands to make."""
    called = re.search(r"\bmake ([^#]*)", command)
    return [word for word in called[1].split() if "=" not in word] if called else []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_a_limit_few_rights_and_targets_that_exist(path: Path):
    workflow = loaded(path)
    assert True in workflow  # YAML reads the key `on` as true
    assert workflow["permissions"] == {"contents": "read"}
    run = commands(workflow)
    assert run
    for command in run:
        assert made(command), command
        assert set(made(command)) <= set(TARGETS), command
    for job in workflow["jobs"].values():
        assert "timeout-minutes" in job or job["environment"]["name"] == "github-pages"


def test_no_command_runs_twice():
    run = [command for path in WORKFLOWS for command in commands(loaded(path))]
    assert len(run) == len(set(run)) > 5


def test_a_target_that_does_not_exist_would_be_seen():
    jobs = {"a": {"steps": [{"uses": "x"}, {"run": "A=1 make nothing SEEDS=3"}]}}
    (command,) = commands({"jobs": jobs})
    assert made(command) == ["nothing"]
    assert "nothing" not in TARGETS


def test_the_nightly_job_takes_every_python_that_is_promised_and_all_seeds():
    run = commands(loaded(ROOT / ".github" / "workflows" / "nightly.yml"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "Python 3.11, 3.12 or 3.13" in readme
    assert {"make unit # Python 3.12", "make unit # Python 3.13"} <= set(run)
    check = (ROOT / "tools" / "assignments" / "check.py").read_text(encoding="utf-8")
    seeds = re.search(r"^SEEDS = \((.*?)\)", check, re.MULTILINE)
    assert seeds is not None
    assert f"make mistakes SEEDS={len(seeds[1].split(','))} # Python 3.11" in run


def test_coverage_is_measured_every_night_and_not_with_every_push():
    run = commands(loaded(ROOT / ".github" / "workflows" / "nightly.yml"))
    assert "make coverage # Python 3.11" in run
    recipe = re.search(r"^coverage: .*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe is not None
    wanted = re.findall(r"(\w+)/\*\" --fail-under=(\d+)", recipe[1])
    assert wanted == [("code", "95"), ("tools", "40")]
    assert MAKEFILE.count("--cov ") == recipe[1].count("--cov ") == 1


def test_the_hooks_run_the_commands_of_lint_and_types():
    (repository,) = loaded(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [hook["entry"] for hook in repository["hooks"]] == ["make lint", "make types"]
    assert all(hook["language"] == "system" for hook in repository["hooks"])


def test_dependabot_looks_after_what_there_is():
    listed = loaded(ROOT / ".github" / "dependabot.yml")["updates"]
    assert {one["package-ecosystem"] for one in listed} == {"pip", "github-actions"}


def test_every_form_for_an_issue_asks_for_something():
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 2
    for form in map(loaded, forms):
        assert form["name"]
        assert form["description"]
        assert any(part.get("validations", {}).get("required") for part in form["body"])


def test_the_form_for_a_new_chapter_lists_its_places():
    body = loaded(ROOT / ".github" / "ISSUE_TEMPLATE" / "new_chapter.yml")["body"]
    listed = [one["label"] for part in body for one in part["attributes"].get("options", [])]
    assert listed == list(places(ROOT, "STEM"))


def test_a_target_is_written_once():
    assert len(TARGETS) == len(set(TARGETS)) > 20


# ---- pins ----


def pins() -> dict[str, set[str]]:
    """Every version that a package is pinned to, in all lists."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = [line for group in groups["dependency-groups"].values() for line in group]
    for path in [*ROOT.glob("requirements*.txt"), ROOT / "constraints.txt"]:
        lines += path.read_text(encoding="utf-8").splitlines()
    found: dict[str, set[str]] = {}
    for line in lines:
        if pin := re.match(r"([\w.-]+)==([\w.+]+)", line):
            name = re.sub(r"[-_.]+", "-", pin[1]).lower()
            found.setdefault(name, set()).add(pin[2])
    return found


def test_a_package_is_pinned_to_one_version_in_all_lists():
    assert len(pins()) > 150
    assert {name: both for name, both in pins().items() if len(both) > 1} == {}


def test_the_makefile_pins_nothing():
    assert "==" not in MAKEFILE
