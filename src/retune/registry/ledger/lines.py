"""Lines of a ledger as text: made, read from the places that keep them, and held as one chain."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from retune.digests import canonical_json, digest_json
from retune.errors import ArtifactError
from retune.registry.records import LedgerEntry

Lines = Mapping[int, str]
"""Texts of lines by their numbers."""


def make_line(entry: LedgerEntry, last: LedgerEntry | None) -> LedgerEntry:
    """Return an entry as the line that follows another.

    Args:
        entry: What happened; its number, previous and digest are not read.
        last: The line before; None for the first.
    """
    number, previous = (last.number + 1, last.digest) if last else (1, "")
    line = entry.model_copy(update={"number": number, "previous": previous})
    return line.model_copy(update={"digest": _digest_of(line.model_dump(mode="json"))})


def write_line(entry: LedgerEntry) -> str:
    """Return a line's text, which has no line break."""
    return canonical_json(entry.model_dump(mode="json"))


def read_number(text: str) -> int | None:
    """Return the number of a line; None of a text that is no whole line."""
    try:
        number = json.loads(text)["number"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return number if isinstance(number, int) else None


def join_lines(places: Mapping[str, Lines]) -> tuple[LedgerEntry, ...]:
    """Put a ledger together from all places, and follow its chain.

    Args:
        places: What each place has, by its name; a line needs to be in one of them.

    Returns:
        All lines, in order.

    Raises:
        ArtifactError: A line is in none of the places, was changed, or does not follow the one
            before it.
    """
    found: list[LedgerEntry] = []
    for number in range(
        1, max((max(lines, default=0) for lines in places.values()), default=0) + 1
    ):
        texts = {name: lines[number] for name, lines in places.items() if number in lines}
        found.append(_follow(number, texts, found[-1].digest if found else "", tuple(places)))
    return tuple(found)


def _follow(
    number: int, texts: Mapping[str, str], previous: str, places: tuple[str, ...]
) -> LedgerEntry:
    if not texts:
        raise ArtifactError(
            f"ledger line {number} is missing from {' and '.join(places)}, and later lines are "
            "there: it was taken out. Restore it from a copy of one of them."
        )
    if changed := [name for name, text in texts.items() if not _is_sound(text, previous)]:
        sound = [name for name in texts if name not in changed]
        advice = (
            f"It is whole in {sound[0]}: take the line out of {changed[0]}, and it is written anew"
            if sound
            else "Restore it from a copy"
        )
        raise ArtifactError(
            f"ledger line {number} of {' and '.join(changed)} was changed: its digest is not that "
            f"of its content, or it does not follow line {number - 1}. {advice}."
        )
    if len(set(texts.values())) > 1:
        raise ArtifactError(
            f"ledger line {number} says one thing in {places[0]} and another in {places[1]}: "
            "these are two histories. Keep the one that is right, and put the other away."
        )
    return _parse(number, next(iter(texts.values())))


def _is_sound(text: str, previous: str) -> bool:
    try:
        line = json.loads(text)
        return bool(line.get("digest") == _digest_of(line) and line.get("previous") == previous)
    except (ValueError, AttributeError, RecursionError):
        # No object, or with what canonical JSON does not have: NaN, half a letter.
        return False


def _digest_of(line: Mapping[str, Any]) -> str:
    # Of the line as it stands: one that another release wrote may have other fields.
    return digest_json({key: value for key, value in line.items() if key != "digest"})


def _parse(number: int, text: str) -> LedgerEntry:
    try:
        return LedgerEntry.model_validate_json(text)
    except ValidationError as error:
        raise ArtifactError(
            f"ledger line {number} is whole and cannot be read by this release of retune "
            f"({error.error_count()} fields): a later one wrote it. Use that one."
        ) from error
