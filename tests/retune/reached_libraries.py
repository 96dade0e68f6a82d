"""Which libraries a function can reach, read from the source: definition by definition.

Whole modules would say too much, since one that writes a report imports what another of its
functions computes with. From a function this follows each name that its body uses to what defines
it, in its own module or in the one that it is imported from. Types in annotations compute nothing.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGES = ("retune", "generator", "tests")
Definition = tuple[str, str]
"""A module, and a name at its top level."""


def reached_libraries(function: Callable[..., Any]) -> set[str]:
    """Return the top-level names of the packages that a function's code uses, however far away."""
    seen: set[Definition] = set()
    found: set[str] = set()
    todo: list[Definition] = [(function.__module__, function.__name__)]
    while todo:
        at = todo.pop()
        if at in seen:
            continue
        seen.add(at)
        for used in _used_by(*at):
            package = used[0].partition(".")[0]
            if package in PACKAGES:
                todo.append(used)
            else:
                found.add(package)
    return found - sys.stdlib_module_names


@cache
def _used_by(module: str, name: str) -> tuple[Definition, ...]:
    return tuple(_find_used(module, name))


def _find_used(module: str, name: str) -> Iterator[Definition]:
    definitions, imports = _top_level(module)
    if name not in definitions:
        # A name that the module passes on, or a module of a package.
        if name in imports:
            yield imports[name]
        elif _is_module(f"{module}.{name}"):
            yield from ((f"{module}.{name}", each) for each in _top_level(f"{module}.{name}")[0])
        return
    for node in definitions[name]:
        local = _imports_in(node)
        for used in _names_in(node):
            if used in local or used in imports:
                yield local.get(used) or imports[used]
            elif used in definitions:
                yield module, used


@cache
def _top_level(module: str) -> tuple[dict[str, list[ast.stmt]], dict[str, Definition]]:
    """Return the statements that define each name of a module, and what it imports."""
    definitions: dict[str, list[ast.stmt]] = {}
    imports: dict[str, Definition] = {}
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None, module
    for node in ast.parse(Path(spec.origin).read_text("utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.If | ast.Try):
            imports |= _imports_in(node)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            definitions.setdefault(node.name, []).append(node)
        else:
            for each in ast.walk(node):
                if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                    definitions.setdefault(each.id, []).append(node)
    return definitions, imports


def _imports_in(node: ast.AST) -> dict[str, Definition]:
    found: dict[str, Definition] = {}
    for each in ast.walk(node):
        if isinstance(each, ast.Import):
            for name in each.names:
                found[name.asname or name.name.partition(".")[0]] = (name.name, "")
        elif isinstance(each, ast.ImportFrom) and each.module:
            for name in each.names:
                found[name.asname or name.name] = (each.module, name.name)
    return found


def _names_in(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, ast.AST):
                yield from _names_in(each)


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
