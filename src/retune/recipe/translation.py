"""Moves old names of a document to the keys of today, and says what it moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retune.recipe.document import Document
from retune.recipe.fields import is_known, section_at
from retune.recipe.old_names import Dropped, OldName, entry_of
from retune.recipe.problems import Place, Problem, dotted

Keys = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Translation:
    """What an old name with its value means today.

    Args:
        note: Line that shows the translation.
        path: Keys of today; None where the name is ignored.
        value: Value of today.
    """

    note: str
    path: Keys | None
    value: Any = None


def is_old(path: Keys) -> bool:
    """Tell whether a path ends in an old name and is no key of today.

    Args:
        path: Keys from the top.

    Returns:
        True where `translated` knows it.
    """
    return bool(path) and not is_known(path) and entry_of(path) is not None


def translated(path: Keys, value: Any, place: Place, beside: Mapping[str, Any]) -> Translation:
    """Translate one old name.

    Args:
        path: Keys as written, the last one an old name.
        value: Value as written.
        place: Where it was written.
        beside: The other keys of its section, as written.

    Returns:
        Today's path and value, and the note that shows them.

    Raises:
        ValueError: The value asks for what a recipe cannot give.
    """
    entry = _entry(path)
    old = f"{dotted(path)} ({place})"
    if value is None:
        # Files of other trainers list names that they say nothing of.
        value = Dropped("null asks for nothing") if entry.null is None else entry.null
    elif entry.convert is not None:
        value = entry.convert(value, beside)
    if isinstance(value, Dropped):
        return Translation(f"{old} -> ignored: {value.why}", None)
    if entry.new is None:
        return Translation(f"{old} -> ignored: {entry.why or 'it says nothing'}", None)
    why = f" ({entry.why})" if entry.why else ""
    return Translation(
        f"{old} -> {entry.new} = {_as_yaml(value)}{why}", tuple(entry.new.split(".")), value
    )


def translate(document: Document) -> list[str]:
    """Replace every old name in a document, in place.

    Args:
        document: As read; conflicts and impossible values are added to its problems.

    Returns:
        One note per translated or ignored name, in the order of the file.
    """
    # Conversions look at the neighbours as they were written, not as half translated.
    written = {path: dict(section) for path, section in _sections(document.values, ())}
    notes, implied = [], []
    names: dict[Keys, Keys] = {}
    for section, keys in written.items():
        for key in keys:
            old = (*section, key)
            if is_old(old):
                beside = _beside(written, keys)
                implied.append((old, document.place(old), _implied(old, keys[key], beside)))
                notes += _move(document, old, beside, names)
    for old, place, values in implied:
        notes += _imply(document, old, place, values)
    return notes


def _entry(path: Keys) -> OldName:
    entry = entry_of(path)
    if entry is None:
        raise KeyError(dotted(path))
    return entry


def _beside(written: Mapping[Keys, dict[str, Any]], keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the neighbours of a name: those of its section, then of the top and of training."""
    model = written.get(("model",), {}).get("id")
    return {**written.get(("training",), {}), **written[()], "model.id": model, **keys}


def _implied(old: Keys, value: Any, beside: Mapping[str, Any]) -> Mapping[str, object]:
    implies = _entry(old).implies
    return {} if implies is None or value is None else implies(value, beside)


def _imply(document: Document, old: Keys, place: Place, values: Mapping[str, object]) -> list[str]:
    """Write what a name says beside its own key, where the recipe says nothing of it."""
    notes = []
    for new, value in values.items():
        path = tuple(new.split("."))
        section = section_of(document, path)
        if section is not None and path[-1] not in section:
            put(document, path, value, place)
            notes.append(
                f"{dotted(old)} ({place}) -> {new} = {_as_yaml(value)} (as it means there)"
            )
    return notes


def _sections(values: dict[str, Any], path: Keys) -> list[tuple[Keys, dict[str, Any]]]:
    found = [(path, values)]
    for key, value in values.items():
        if isinstance(value, dict) and section_at((*path, key)) is not None:
            found += _sections(value, (*path, key))
    return found


def _move(
    document: Document, old: Keys, beside: Mapping[str, Any], names: dict[Keys, Keys]
) -> list[str]:
    place = document.place(old)
    value = _remove(document, old)
    try:
        moved = translated(old, value, place, beside)
        if moved.path is not None:
            _check_free(document, moved, names)
            names.setdefault(moved.path, old)
            put(document, moved.path, moved.value, place)
    except ValueError as error:
        document.problems.append(Problem(place, dotted(old), str(error)))
        meant = tuple((_entry(old).new or "").split("."))
        document.refused |= {meant[:length] for length in range(1, len(meant) + 1)}
        return []
    return [moved.note]


def _check_free(document: Document, moved: Translation, names: Mapping[Keys, Keys]) -> None:
    path = moved.path or ()
    section = section_of(document, path)
    if section is None:
        raise ValueError(f"means {dotted(path)}, but {dotted(path[:-1])} is no section here")
    if path[-1] not in section:
        return
    # Tutorials often say one thing by two old names (bf16 and torch_dtype).
    agrees = path in names and section[path[-1]] == moved.value
    if not agrees:
        other = dotted(names.get(path, path))
        raise ValueError(
            f"means {dotted(path)}, but {other} is given too ({document.place(path)}); remove one"
        )


def section_of(document: Document, path: Keys) -> dict[str, Any] | None:
    """Find the written section that a key stands in.

    Args:
        document: To look in.
        path: Keys of a single value.

    Returns:
        The section; empty where it is not written; None where something else stands there.
    """
    section: Any = document.values
    for key in path[:-1]:
        section = section.get(key)
        if section is None:
            return {}
        if not isinstance(section, dict):
            return None
    return dict(section)


def put(document: Document, path: Keys, value: Any, place: Place) -> None:
    """Write a value into a document, with the sections above it.

    Args:
        document: To write to; nothing but sections may stand above the path.
        path: Keys from the top.
        value: Value to write.
        place: Where it comes from.
    """
    section = document.values
    for key in path[:-1]:
        if section.get(key) is None:
            section[key] = {}
        section = section[key]
    section[path[-1]] = value
    document.places[path] = place


def _remove(document: Document, path: Keys) -> Any:
    section = document.values
    for key in path[:-1]:
        section = section[key]
    document.forget(path)
    return section.pop(path[-1])


def _as_yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_as_yaml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_as_yaml(each)}' for key, each in value.items())}}}"
    text = str(value)
    return text if text.isprintable() else repr(text)
