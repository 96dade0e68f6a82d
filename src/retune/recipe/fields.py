"""Which dotted paths a recipe has, what each expects, and which one a misspelt key meant."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from retune.recipe.credentials import names_secret
from retune.recipe.recipe import Recipe

# Of 1: how much two names must have in common for one to be a slip of the other.
_LIKENESS = 0.75


def section_at(path: Sequence[str | int]) -> type[BaseModel] | None:
    """Find the section that a path names.

    Args:
        path: Keys from the top; empty for the recipe itself.

    Returns:
        The section's class; None where the path is unknown or a single value.
    """
    sections: list[type[BaseModel]] = [Recipe]
    for key in path:
        if isinstance(key, int):
            # A place in a list of sections: all of them have the same keys.
            continue
        having = [each.model_fields[key] for each in sections if key in each.model_fields]
        sections = [each for info in having for each in _sections_in(info.annotation)]
    return next(iter(sections), None)


def is_known(path: Sequence[str]) -> bool:
    """Tell whether a recipe has a key of this path.

    Args:
        path: Keys from the top.

    Returns:
        True for sections and single values.
    """
    return dotted_path(path) in known_paths()


def dotted_path(path: Sequence[str]) -> str:
    """Join keys with dots.

    Args:
        path: Keys from the top.

    Returns:
        For example `training.epochs`.
    """
    return ".".join(path)


@cache
def known_paths() -> tuple[str, ...]:
    """List every dotted path of a recipe, sections before what stands in them.

    Returns:
        All paths, in the order of the sections.
    """
    # A section of several forms, such as `method`, has the keys of all of them.
    return tuple(dict.fromkeys(_paths_below(Recipe, "")))


def _paths_below(section: type[BaseModel], prefix: str) -> list[str]:
    paths = []
    for key, info in section.model_fields.items():
        paths.append(prefix + key)
        for inner in [] if _is_list(info.annotation) else _sections_in(info.annotation):
            paths += _paths_below(inner, f"{prefix}{key}.")
    return paths


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [each for part in get_args(annotation) for each in _sections_in(part)]


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is tuple or any(map(_is_list, get_args(annotation)))


def suggestion(path: Sequence[str]) -> str | None:
    """Guess which path a misspelt one meant.

    Args:
        path: Keys from the top.

    Returns:
        The dotted path whose keys are, one by one, the same or the most similar ones of their
        section; None where nothing is near. Never a key of another section: that a name of
        another program has letters in common with one of a recipe says nothing of what it means.
    """
    above = ""
    for key in path:
        places = {each: each.rpartition(".") for each in known_paths()}
        names = [name for section, _, name in places.values() if section == above]
        near = [key] if key in names else get_close_matches(key, names, n=1, cutoff=_LIKENESS)
        if not near:
            return None
        above = f"{above}.{near[0]}".removeprefix(".")
    return above


def _elsewhere(name: str) -> list[str]:
    """List the keys of this very name in all sections."""
    return [each for each in known_paths() if each.rpartition(".")[2] == name]


def unknown(path: Sequence[str]) -> str:
    """Say what to do about a key that no recipe has.

    Args:
        path: Keys from the top, the last one unknown.

    Returns:
        A guess at what was meant, where keys of that very name stand, or those of the section.
    """
    if names_secret(path[-1]):
        return (
            "is no key: secrets never stand in a recipe; pass them in the environment "
            "(HF_TOKEN, MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD)"
        )
    near = suggestion(path)
    if near:
        return f"unknown key; did you mean {near}?"
    same = _elsewhere(path[-1])
    if same:
        return f"unknown key here; of this name there is {' and '.join(same)}"
    # A mapping may stand for a list of one, so a list's section is found by its own path.
    section = section_at(path[:-1])
    keys = f"; expected one of {', '.join(section.model_fields)}" if section else ""
    return f"unknown key{keys}"


def expectation(path: Sequence[str | int]) -> str:
    """Say what the value of a key must be.

    Args:
        path: Keys and list positions from the top, of a known key.

    Returns:
        For example `a whole number of at least 1, or null`.
    """
    schema = _schema()
    node: dict[str, Any] = schema
    for part in path:
        node = _step(node, part, schema)
    return _phrase(node, schema)


@cache
def _schema() -> dict[str, Any]:
    # Only errors need it: building it takes longer than loading a recipe.
    return Recipe.model_json_schema()


def _step(node: dict[str, Any], part: str | int, schema: dict[str, Any]) -> dict[str, Any]:
    for each in _variants(node, schema):
        below = each.get("items") if isinstance(part, int) else each.get("properties", {}).get(part)
        if below is not None:
            return dict(below)
    return {}


def _variants(node: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in node:
        return _variants(schema["$defs"][node["$ref"].rpartition("/")[2]], schema)
    several = node.get("anyOf") or node.get("oneOf")
    return [one for each in several for one in _variants(each, schema)] if several else [node]


def _phrase(node: dict[str, Any], schema: dict[str, Any]) -> str:
    variants = _variants(node, schema)
    sections = [each for each in variants if each.get("type") == "object"]
    if len(sections) > 1:
        # The forms of one section, which `kind` tells apart: each key is named once.
        keys = {key: None for each in sections for key in each.get("properties", {})}
        rest = [each for each in variants if each not in sections]
        variants = [{"type": "object", "properties": keys}, *rest]
    return ", or ".join(_phrase_of_one(each, schema) for each in variants)


def _phrase_of_one(node: dict[str, Any], schema: dict[str, Any]) -> str:
    if "const" in node or "enum" in node:
        values = node.get("enum", [node.get("const")])
        names = [str(each).lower() if isinstance(each, bool) else str(each) for each in values]
        return names[0] if len(names) == 1 else f"one of {', '.join(names)}"
    kind = node.get("type")
    if kind == "object":
        return f"a section with the keys {', '.join(node.get('properties', {}))}"
    if kind == "array":
        items = _phrase(node.get("items", {}), schema)
        return f"a list of {items}" + (" (at least one)" if node.get("minItems") else "")
    if kind == "string":
        return _phrase_of_text(node)
    words = {
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "null": "null",
    }
    return words.get(str(kind), "a value") + _phrase_of_bounds(node)


def _phrase_of_text(node: dict[str, Any]) -> str:
    if "pattern" in node:
        return f"text such as {' or '.join(node.get('examples', []))} (form {node['pattern']})"
    return "a path" if node.get("format") == "path" else "text"


def _phrase_of_bounds(node: dict[str, Any]) -> str:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "under",
    }
    bounds = [
        f"{word} {node[key]:g}" if node[key] < 1e6 else f"{word} {node[key]}"
        for key, word in words.items()
        if key in node
    ]
    return f", {' and '.join(bounds)}" if bounds else ""
