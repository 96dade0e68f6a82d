"""Values from the command line (`--set training.learning_rate=1.0e-4`) over those of the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retune.errors import ConfigError
from retune.recipe.document import Document, parse_value
from retune.recipe.fields import is_known, section_at, unknown
from retune.recipe.problems import Place, Problem, dotted, shown
from retune.recipe.translation import Keys, is_old, put, section_of, translated

_FORM = "expected path=value, such as --set training.learning_rate=1.0e-4"


def apply_overrides(document: Document, overrides: Sequence[str]) -> list[str]:
    """Write overrides into a document; a later one wins over an earlier one.

    Args:
        document: The translated recipe; what is wrong with an override is added to its problems.
        overrides: Texts of the form `path=value`, the value in YAML.

    Returns:
        One note per translated or ignored old name.
    """
    notes: list[str] = []
    names: dict[Keys, Keys] = {}
    for text in overrides:
        written, equals, value_text = text.partition("=")
        place = Place(f"--set {written.strip()}")
        try:
            if not (equals and written.strip()):
                raise ValueError(_FORM)
            path = tuple(written.strip().split("."))
            value = _parsed(value_text, path, place, document)
            notes += _apply(document, path, value, place, names)
        except ValueError as error:
            document.problems.append(Problem(place, "", str(error)))
    return notes


def _parsed(text: str, path: Keys, place: Place, document: Document) -> Any:
    apart = Document(str(place), places={path: place})
    try:
        value = parse_value(text, path, apart)
    except ConfigError as error:
        hint = "put a text with such characters in quotes, inside those of the shell"
        raise ValueError(f"the value is broken YAML; {hint}") from error
    document.problems += apart.problems
    document.places |= dict.fromkeys(apart.places, place)
    return value


def _apply(
    document: Document, path: Keys, value: Any, place: Place, names: dict[Keys, Keys]
) -> list[str]:
    target, notes = path, []
    if is_old(path):
        # An old name may stand anywhere; the neighbours that matter are those of training today.
        beside = section_of(document, ("training", "")) or {}
        moved = translated(path, value, place, beside)
        if moved.path is None:
            return [moved.note]
        target, value, notes = moved.path, moved.value, [moved.note]
    _check(document, target)
    if names.setdefault(target, path) != path:
        raise ValueError(
            f"means {dotted(target)}, which --set {dotted(names[target])} sets too; remove one"
        )
    document.forget(target)
    put(document, target, value, place)
    return notes


def _check(document: Document, path: Keys) -> None:
    for length in range(1, len(path)):
        above = path[:length]
        if is_known(above) and section_at(above) is None:
            raise ValueError(f"{dotted(above)} is a single value; nothing stands below it")
    if not is_known(path):
        raise ValueError(unknown(path))
    if section_of(document, path) is None:
        found = shown(document.values.get(path[0]))
        raise ValueError(f"the recipe has {found} where {dotted(path[:-1])} should be a section")
