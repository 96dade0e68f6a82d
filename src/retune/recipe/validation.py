"""Turns written values into a `Recipe`, and pydantic's errors into problems with a place."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from retune.recipe.document import Document
from retune.recipe.fields import expectation, is_known, unknown
from retune.recipe.problems import KeyPath, Problem, dotted, shown
from retune.recipe.recipe import Recipe
from retune.recipe.sections import MethodKind
from retune.recipe.sections.rubrics import RubricKind
from retune.recipe.sections.scoring import OWN_METRIC

# Errors that our own validators raise: their text says it all.
_OWN = ("secret", "path", "address", "template", "init", "expression", "value_error")
_TAGS: dict[KeyPath, tuple[str, ...]] = {("method",): get_args(MethodKind)}
_NO_TAG = ("union_tag_invalid", "union_tag_not_found")


def validated(document: Document) -> Recipe | None:
    """Make the recipe that a document describes.

    Args:
        document: Translated and overridden; what is wrong is added to its problems.

    Returns:
        The recipe; None where something is wrong with it.
    """
    try:
        return Recipe.model_validate(document.values)
    except ValidationError as error:
        known = {each.path for each in document.problems}
        for details in error.errors(include_url=False):
            if details["type"] == "missing" and details["loc"] in document.refused:
                continue
            # A value that could not even be read was reported already.
            document.problems += [
                each for each in _problems(details, document) if each.path not in known
            ]
        return None


def path_of(location: KeyPath, values: Any) -> KeyPath:
    """Leave out of pydantic's location what does not stand in the file.

    Args:
        location: Where pydantic saw an error; holds the tag of a tagged union, and places in a list
            where a single value stands for a list of one.
        values: The written values.

    Returns:
        The keys as written.
    """
    path: list[str | int] = []
    for at, part in enumerate(location):
        last = at == len(location) - 1
        if (
            isinstance(values, dict)
            and part not in values
            and not last
            and part == values.get("kind")
        ):
            continue
        # `kind` may have been left out, and then the tag stands nowhere.
        if part in _TAGS.get(tuple(path), ()):
            continue
        if isinstance(part, int) and isinstance(values, dict):
            continue
        if part == OWN_METRIC and isinstance(values, dict):
            continue
        if path and not isinstance(values, dict | list) and values is not None:
            break
        path.append(part)
        values = _below(values, part)
    return tuple(path)


def _below(values: Any, part: str | int) -> Any:
    if isinstance(values, dict):
        return values.get(part)
    is_item = isinstance(values, list) and isinstance(part, int) and part < len(values)
    return values[part] if is_item else None


def _problems(details: ErrorDetails, document: Document) -> list[Problem]:
    path = path_of(details["loc"], document.values)
    context = details.get("ctx", {})
    if details["type"] == "conflict":
        found = [
            (path_of((*details["loc"], *_keys(key)), document.values), reason)
            for key, reason in context["conflicts"]
        ]
        return [Problem(document.place(at), dotted(at), reason) for at, reason in found]
    if details["type"] in _NO_TAG:
        tag = (*path, "kind")
        kinds = _TAGS.get(path) or get_args(RubricKind)
        given = details["input"].get("kind") if isinstance(details["input"], dict) else None
        text = f"found {shown(given)}, expected one of {', '.join(kinds)}"
        return [Problem(document.place(tag), dotted(tag), text)]
    return [Problem(document.place(path), dotted(path), _text(details, path))]


def _keys(path: str) -> KeyPath:
    return tuple(int(part) if part.isdigit() else part for part in path.split("."))


def _text(details: ErrorDetails, path: KeyPath) -> str:
    if details["type"] == "extra_forbidden":
        keys = [str(part) for part in path]
        if path[:-1] in _TAGS and is_known(keys):
            return f"is no key of {dotted(path[:-1])} for kind: {details['loc'][-2]}; remove it"
        return unknown(keys)
    if details["type"] == "missing":
        return f"missing; expected {expectation(path)}"
    if details["type"] in _OWN:
        return details["msg"]
    value = details["input"]
    expected = expectation(path)
    return f"found {shown(value)}, expected {expected}{_hint(value, expected)}"


def _hint(value: Any, expected: str) -> str:
    if isinstance(value, str) and "number" in expected and _is_number(value):
        return " (remove the quotes)"
    if isinstance(value, str) and "true or false" in expected:
        return " (without quotes)" if value.lower() in ("true", "false") else ""
    if isinstance(value, int | float) and ("text" in expected or "path" in expected):
        return " (put it in quotes)"
    if value is None and "section" in expected:
        return " (write keys below it, or remove the line)"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
