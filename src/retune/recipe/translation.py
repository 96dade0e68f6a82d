"""Moves old names of a document to the keys of today, and says what it moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retune.recipe.document import Document
from retune.recipe.fields import is_known, section_at
from retune.recipe.problems import Place, Problem, dotted
from retune.recipe.trainers.old_names import entry_of
from retune.recipe.trainers.old_values import Dropped, OldName

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


def old_name(path: Keys) -> OldName | None:
    """Find the old name that a path ends in.

    Args:
        path: Keys from the top.

    Returns:
        Its entry; None where the path is a key of today, or not known either.
    """
    if not path or is_known(path):
        return None
    # What may stand in a list has no path of its own: a source of rows, written without the list.
    section = section_at(path[:-1])
    is_its_own = section is not None and path[-1] in section.model_fields
    return None if is_its_own else entry_of(path)


def translated(
    entry: OldName, path: Keys, value: Any, place: Place, beside: Mapping[str, Any]
) -> Translation:
    """Translate one old name.

    Args:
        entry: What became of it.
        path: Keys as written, the last one an old name.
        value: Value as written.
        place: Where it was written.
        beside: The other keys of its section, as written.

    Returns:
        Today's path and value, and the note that shows them.

    Raises:
        ValueError: The value asks for what a recipe cannot give.
    """
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
            entry = old_name(old)
            if entry is not None:
                beside = _beside(written, keys)
                implied.append((old, document.place(old), _implied(entry, keys[key], beside)))
                notes += _move(document, entry, old, beside, names)
    for old, place, values in implied:
        notes += _imply(document, old, place, values)
    return notes


def _beside(written: Mapping[Keys, dict[str, Any]], keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the neighbours of a name: those of its section, then of the top and of training."""
    model = written.get(("model",), {}).get("id")
    return {**written.get(("training",), {}), **written[()], "model.id": model, **keys}


def _implied(entry: OldName, value: Any, beside: Mapping[str, Any]) -> Mapping[str, object]:
    return {} if entry.implies is None or value is None else entry.implies(value, beside)


def _imply(document: Document, old: Keys, place: Place, values: Mapping[str, object]) -> list[str]:
    """Write what a name says beside its own key, where the recipe says nothing of it."""
    notes = []
    for new, value in values.items():
        path = tuple(new.split("."))
        section = document.section_of(path)
        if section is not None and path[-1] not in section:
            document.put(path, value, place)
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
    document: Document,
    entry: OldName,
    old: Keys,
    beside: Mapping[str, Any],
    names: dict[Keys, Keys],
) -> list[str]:
    place = document.place(old)
    value = document.take(old)
    try:
        moved = translated(entry, old, value, place, beside)
        if moved.path is not None:
            _check_free(document, moved, names)
            names.setdefault(moved.path, old)
            document.put(moved.path, moved.value, place)
    except ValueError as error:
        document.problems.append(Problem(place, dotted(old), str(error)))
        meant = tuple((entry.new or "").split("."))
        document.refused |= {meant[:length] for length in range(1, len(meant) + 1)}
        return []
    return [moved.note]


def _check_free(document: Document, moved: Translation, names: Mapping[Keys, Keys]) -> None:
    path = moved.path or ()
    section = document.section_of(path)
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


def _as_yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_as_yaml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_as_yaml(each)}' for key, each in value.items())}}}"
    text = str(value)
    return text if text.isprintable() else repr(text)
