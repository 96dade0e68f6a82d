"""Values that win over those of the file: its own variants, then `--set` of the command line.

`--set training.learning_rate=1.0e-4` sets one value; `--set variant=tiny` sets all that the file
lists under `variants.tiny`.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from retune.errors import ConfigError
from retune.recipe.document import Document, parse_value
from retune.recipe.fields import is_known, section_at, unknown
from retune.recipe.problems import Place, Problem, dotted, shown
from retune.recipe.translation import Keys, old_name, translated

_FORM = "expected path=value, such as --set training.learning_rate=1.0e-4"


VARIANT = "variant"


def apply_variants(document: Document, overrides: Sequence[str]) -> list[str]:
    """Write the chosen variants of a recipe into it, in their order.

    Args:
        document: The translated recipe; what is wrong with a variant is added to its problems.
        overrides: As for `apply_overrides`; the last one of `variant` says which are chosen.

    Returns:
        One note per translated or ignored old name.
    """
    _choose_variants(document, overrides)
    chosen, known = document.values.get(VARIANT), document.values.get("variants") or {}
    notes: list[str] = []
    if not isinstance(chosen, list) or not isinstance(known, dict):
        return notes
    for name in chosen:
        if not isinstance(name, str):
            continue  # Validation says what is expected here.
        if not isinstance(known.get(name), dict):
            has = f"it has: {', '.join(map(str, known)) or 'none'}"
            text = f"the recipe has no variant {shown(name)}; {has}"
            document.problems.append(Problem(document.place((VARIANT,)), VARIANT, text))
            continue
        names: dict[Keys, Keys] = {}
        for written, value in known[name].items():
            place = document.place(("variants", name, written))
            try:
                path = tuple(str(written).split("."))
                notes += _apply(document, path, deepcopy(value), place, names)
            except ValueError as error:
                where = f"variants.{name}.{written}"
                document.problems.append(Problem(place, where, str(error)))
    return notes


def names_variant(override: str) -> bool:
    """Tell an override that chooses variants from one that sets a value."""
    return override.partition("=")[0].strip() == VARIANT


def _choose_variants(document: Document, overrides: Sequence[str]) -> None:
    ours = [text for text in overrides if names_variant(text)]
    apply_overrides(document, ours[-1:])
    if isinstance(document.values.get(VARIANT), str):
        document.values[VARIANT] = [document.values[VARIANT]]


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
    target, notes, entry = path, [], old_name(path)
    if entry is not None:
        # An old name may stand anywhere; the neighbours that matter are those of training today.
        beside = document.section_of(("training", "")) or {}
        moved = translated(entry, path, value, place, beside)
        if moved.path is None:
            return [moved.note]
        target, value, notes = moved.path, moved.value, [moved.note]
    _check(document, target)
    if names.setdefault(target, path) != path:
        raise ValueError(
            f"means {dotted(target)}, which --set {dotted(names[target])} sets too; remove one"
        )
    document.forget(target)
    document.put(target, value, place)
    return notes


def _check(document: Document, path: Keys) -> None:
    for length in range(1, len(path)):
        above = path[:length]
        if is_known(above) and section_at(above) is None:
            raise ValueError(f"{dotted(above)} is a single value; nothing stands below it")
    if not is_known(path):
        raise ValueError(unknown(path))
    if document.section_of(path) is None:
        found = shown(document.values.get(path[0]))
        raise ValueError(f"the recipe has {found} where {dotted(path[:-1])} should be a section")
