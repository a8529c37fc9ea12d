"""The project's own files agree with each other: dependencies, extras, lock, names of modules."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from rl_framework.compat.installation import WITHOUT_PINS

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
NAME = re.compile(r"[A-Za-z0-9._-]+")


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib", reason="the standard library reads TOML from Python 3.11 on")
    parsed: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return parsed


def test_extra_all_is_the_union_of_the_others_and_is_repeated_for_the_lock(pyproject: dict[str, Any]) -> None:
    extras = dict(pyproject["project"]["optional-dependencies"])
    everything = extras.pop("all")

    assert set(everything) == {requirement for requirements in extras.values() for requirement in requirements}
    assert everything == pyproject["dependency-groups"]["extras"]


def test_every_imported_distribution_is_declared(pyproject: dict[str, Any]) -> None:
    project = pyproject["project"]
    declared = {_distribution(line) for line in [*project["dependencies"], *project["optional-dependencies"]["all"]]}

    declared |= {_distribution(requirement) for requirement in _installed_without_pins()}

    assert {module for module in _foreign_modules() if not _distributions_of(module) & declared} == set()


def test_errors_name_what_the_set_up_installs_without_pins() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(r"^WITHOUT_PINS := (.*)$", makefile, flags=re.MULTILINE)

    assert found
    assert found.group(1).split() == _installed_without_pins()


def test_extras_named_in_errors_exist(pyproject: dict[str, Any]) -> None:
    assert _extras_named_in_errors() <= set(pyproject["project"]["optional-dependencies"])


def test_every_direct_dependency_is_constrained(pyproject: dict[str, Any]) -> None:
    project, groups = pyproject["project"], pyproject["dependency-groups"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["all"], *groups["dev"]]
    constrained = {_distribution(line) for line in (ROOT / "constraints.txt").read_text().splitlines()}

    assert {_distribution(line) for line in wanted} <= constrained


@pytest.mark.parametrize("file", ["constraints.txt", "poetry.lock"])
def test_lock_names_no_host_and_no_local_path(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("description = ")]

    assert [line for line in lines if re.search(r"https?://|file:|\[package\.source\]|-url\b|--find-links", line)] == []


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    assert [path for path in SOURCES if {"utils", "common", "helpers", "misc"} & {*path.parts[:-1], path.stem}] == []


def _installed_without_pins() -> list[str]:
    return [requirement for line in WITHOUT_PINS.values() for requirement in line.split()]


def _distribution(requirement: str) -> str:
    """`sb3-contrib` of `sb3_contrib[x]>=2.9`."""
    found = NAME.match(requirement)
    assert found, f"no name in {requirement!r}"
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def _foreign_modules() -> set[str]:
    modules = {name.partition(".")[0] for path in SOURCES for name in _imports(path)}
    own_or_the_callers = {"rl_framework", "pytest"}  # whoever runs `rl_framework.testing` has pytest
    return modules - set(sys.stdlib_module_names) - own_or_the_callers


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _distributions_of(module: str) -> set[str]:
    return {_distribution(name) for name in packages_distributions().get(module, [])}


def _extras_named_in_errors() -> set[str]:
    """The second argument, or `extra=`, of every `MissingExtraError(...)` in the library."""
    calls = (
        node
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "MissingExtraError"
    )
    named = (
        argument
        for call in calls
        for argument in [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "extra")]
    )
    return {ast.literal_eval(argument) for argument in named if isinstance(argument, ast.Constant)}
