"""What rows and turns say of themselves, followed by the table of meanings."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from retune.data.formats.cells import Row, ascii_of, kind_of, says_nothing
from retune.data.formats.meanings import MEDIA, Other, meanings_of_row, meanings_of_turn
from retune.data.formats.names import fold_name
from retune.errors import DataError
from retune.recipe.sections.data import FormatName

_LONGEST_WORD = 30
_PLACEHOLDERS = ("<image>", "<video>", "<audio>", "<|image|>", "<|video|>", "<|audio|>")
_GOOD = frozenset({
    "1", "true", "t", "yes", "y", "sim", "s", "good", "bom", "boa", "up", "thumbs_up", "like",
    "liked", "positive", "positivo", "accepted", "aceito", "approved", "aprovado", "correct",
    "correto", "right", "chosen", "desirable", "helpful", "upvote", "+1", "👍",
    "ok", "okay", "pass",
    "passed", "accept", "approve", "aprovada", "aceita", "correta", "certo", "certa", "otimo",
    "otima",
})  # fmt: skip
_BAD = frozenset({
    "0", "-1", "false", "f", "no", "n", "nao", "bad", "ruim", "down", "thumbs_down", "dislike",
    "disliked", "negative", "negativo", "rejected", "rejeitado", "reprovado", "incorrect",
    "incorreto", "wrong", "errado", "undesirable", "unhelpful", "downvote", "👎", "ko", "fail",
    "failed", "reject", "reprovada", "rejeitada", "incorreta", "errada", "pessimo",
    "pessima", "poor",
})  # fmt: skip


def verdict_of(value: Any) -> bool | None:
    """Read a value that says yes or no.

    Args:
        value: A boolean, 0, 1 or -1, or a word such as `good` and `ruim`.

    Returns:
        True, False; None for anything else.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return None if value not in (0, 1, -1) else value == 1
    if not isinstance(value, str) or len(value) > _LONGEST_WORD:
        return None
    word = fold_name(value.removesuffix(".0"))
    return True if word in _GOOD else False if word in _BAD else None


def check_row(row: Row, layout: FormatName | Other, used: Collection[str] = ()) -> None:
    """Refuse a row that says of itself what cannot be followed.

    Args:
        row: The row, without the keys of `data.ignore`.
        layout: Its layout.
        used: Keys that have a role.

    Raises:
        DataError: A key says that the row is bad, weighs something else than others, or holds what
            is not supported; the message is the reason alone.
    """
    refused: dict[str, str] = {}
    for key, meaning in meanings_of_row(row, layout):
        value = row[key]
        if meaning is MEDIA and key not in used and says_nothing(value) and _has_placeholder(row):
            raise DataError(
                f"a text has a place for what {ascii_of(key)} shows: it says {meaning.says}; "
                f"{meaning.instead}, or {_ignoring(key)}"
            )
        if meaning is MEDIA and verdict_of(value) is False:
            continue  # That there are none.
        if key in used or says_nothing(value) or _is_name(value, meaning.least_words):
            continue
        said = None if meaning.reading == "refused" else verdict_of(value)
        if said is None and meaning.lenient:
            continue
        if said is not None and said == (meaning.reading not in ("counter_verdict", "counter_use")):
            continue
        marked = said is not None and meaning.reading in ("verdict", "counter_verdict")
        says = (
            "the row is marked as a bad answer, and would be learned like a good one"
            if marked
            else f"it says {meaning.says}"
        )
        advice = f"{meaning.instead}, or " if meaning.instead else ""
        refused.setdefault(key, f"{ascii_of(key)} is {_shown(value)}: {says}; {advice}")
    if refused:
        # All of them at once: who passes over one is not to be told of the next one then.
        escape = "delete the key" if layout == "pairs" else _ignoring(*refused)
        raise DataError(next(iter(refused.values())) + escape)


def is_learned(turn: Row, number: int) -> bool:
    """Say whether a turn may carry loss, by what it says of itself.

    Args:
        turn: The turn, without the keys of `data.ignore`.
        number: Its place, from 1, for messages.

    Returns:
        False where it has a weight of 0, is not to be trained on, or is marked as bad.

    Raises:
        DataError: It says what cannot be followed.
    """
    learned = True
    for key, meaning in meanings_of_turn(turn):
        value = turn[key]
        if says_nothing(value):
            continue
        said = verdict_of(value) if meaning.reading != "refused" else None
        if said is None:
            raise DataError(
                f"{ascii_of(key)} of turn {number} is {_shown(value)}: it says {meaning.says}; "
                f"{meaning.instead}, or {_ignoring(key)}"
            )
        learned = learned and said == (meaning.reading in ("mark", "verdict"))
    return learned


def _has_placeholder(value: Any) -> bool:
    if isinstance(value, str):
        return any(sign in value for sign in _PLACEHOLDERS)
    if isinstance(value, dict):
        return any(map(_has_placeholder, value.values()))
    return isinstance(value, list) and any(map(_has_placeholder, value))


def _is_name(value: Any, least_words: int) -> bool:
    return isinstance(value, str) and len(value.split()) < least_words


def _ignoring(*keys: str) -> str:
    listed, them = ", ".join(ascii_of(key)[1:-1] for key in keys), "them" if keys[1:] else "it"
    return f"write data.ignore: [{listed}] to pass over {them}"


def _shown(value: Any) -> str:
    if isinstance(value, list | dict):
        return f"a filled {kind_of(value)}"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{ascii_of(value):.40}"
