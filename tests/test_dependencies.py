"""What is imported is declared, and what is declared is imported.

A dependency of a dependency may go any day, and one that nobody uses only makes installing slower.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest

from tests.tiny_models import REPOSITORY

FOLDERS = ("src/retune", "tasks", "flows", "generator")
OWN = {"retune", "tasks", "flows", "generator"}
WITH_ANOTHER = {"pydantic_core": "pydantic", "distributed": "prefect-dask", "_typeshed": ""}
"""Modules that come with what is declared: pydantic pins its core, and typeshed is of mypy."""

NEVER_IMPORTED = {
    "sentencepiece": "transformers' tokenizers import it for a model that has no tokenizer.json",
    "psycopg2-binary": "MLflow's server imports it for a database on PostgreSQL",
    "s3fs": "fsspec imports it for a store on S3",
    "boto3": "MLflow's server imports it for artifacts on S3",
    "prefect-kubernetes": "Prefect's worker imports it where runs are jobs of Kubernetes",
    "lxml-html-clean": "trafilatura imports it and asks for it in a way that pip misses",
}
"""Declared for others: why each is no leftover."""


def imported(folder: str) -> set[str]:
    """Return the first parts of all absolute imports below a folder."""
    found = set()
    for path in (REPOSITORY / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(str(node.module))
    return {name.partition(".")[0] for name in found}


def declared() -> set[str]:
    """Return the names of all dependencies, of users' extras too, as PEP 503 writes them."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].items()
    wanted = [line for name, lines in extras if name != "dev" for line in lines]
    lines = [*project["dependencies"], *wanted]
    return {normal(re.split(r"[<>=\[;]", line)[0]) for line in lines}


def normal(name: str) -> str:
    """Return a distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_imported_is_declared(folder: str) -> None:
    """Each module that is neither ours nor Python's belongs to a declared distribution."""
    known, by_module = declared(), packages_distributions()
    missing = {}
    for module in imported(folder) - OWN - sys.stdlib_module_names:
        owners = by_module.get(WITH_ANOTHER.get(module, module), [WITH_ANOTHER.get(module, module)])
        if not any(normal(owner) in known or not owner for owner in owners):
            missing[module] = owners
    assert missing == {}


def test_what_is_declared_is_imported() -> None:
    """Each distribution is imported, or stands with its reason among those that others import."""
    by_module = packages_distributions()
    modules = {module for folder in FOLDERS for module in imported(folder)}
    used = {normal(owner) for each in modules for owner in by_module.get(each, [each])}
    assert declared() - used == set(NEVER_IMPORTED)


def test_each_pin_is_of_what_is_declared() -> None:
    """Every dependency has its exact version in constraints.txt, but for what extras bring."""
    lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {normal(line.partition("==")[0]) for line in lines if "==" in line}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    for line in project["dependencies"]:
        assert normal(re.split(r"[<>=\[;]", line)[0]) in pinned, line
