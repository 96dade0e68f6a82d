"""Benchmarks are run by hand and seldom: what they take from the code is there all the same."""

from __future__ import annotations

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.tiny_models import REPOSITORY

FILES = sorted((REPOSITORY / "benchmarks").rglob("*.py"))
OWN = {"benchmarks", "retune", "tasks", "flows", "generator", "tests"}


def has(module: str, name: str) -> bool:
    """Say whether a module has a name, or a package a module of this name."""
    found = import_module(module)
    inside = hasattr(found, "__path__") and find_spec(f"{module}.{name}") is not None
    return hasattr(found, name) or inside


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_every_name_that_a_benchmark_imports_from_us_is_there(path: Path) -> None:
    """Those that a function imports where it needs them too."""
    taken = {
        (str(node.module), each.name)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in OWN
        for each in node.names
    }
    assert {(module, name) for module, name in taken if not has(module, name)} == set()
