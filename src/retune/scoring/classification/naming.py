"""How labels are looked for in a text, and which of them is the denial of which."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from retune.errors import ConfigError
from retune.scoring.classification.clauses import IS
from retune.scoring.words import fold_text

_STRUCK = re.compile(r"~~[^~\n]*~~")
_IS = re.compile(r"(?<!\w)(?:é|e\u0301)(?!\w)", re.IGNORECASE)
_LONG_DASH = re.compile(r"\s*[—―]\s*")
_MINUS = re.compile(
    r"(?:−\s*|(?<!\w)—|(?<!\w)(?:menos|minus|negative|negativo)\s+)(?=\d)", re.IGNORECASE
)
_PARTS = re.compile(r"\s+|(?<=[^\W\d_])[-_](?=[^\W\d_])")
_BETWEEN_PARTS = r"(?:\s+|[-_])"
_NUMBER = re.compile(r"[+-]?\d.*")
_BEFORE_NUMBER = r"(?<![\w.,/⁄-])(?<![/⁄]\s)(?<!\d\s(?:de|of|em)\s)(?<!\d\sout\sof\s)"
_AFTER_NUMBER = r"(?![\w%])(?![.,:-]\d)(?!\s?[/⁄]\s?\d)(?!\s(?:de|of|out of|em)\s\d)"
_ALONE = frozenset({"nao", "nem", "nunca", "no", "not", "never", "none", "neither", "nenhum"})
_DENIED_BY = ("nao", "not", "non", "no")
_JOINED_BY = ("non", "nao", "a")

Parts = tuple[str, ...]


class Span(NamedTuple):
    """Where a text names a label."""

    start: int
    end: int
    label: int


class KnownLabels(NamedTuple):
    """Labels, ready to be looked for."""

    patterns: list[re.Pattern[str]]
    """One per label."""

    opposites: dict[int, int]
    """By label, the one that is its denial."""

    alone: frozenset[int]
    """Labels that are denying words, and count only where no word follows in their clause."""


def fold_answer(text: str) -> str:
    """Fold a text, and keep apart what folding would join: a minus and a dash, `é` and `e`.

    Args:
        text: An answer, or a label.

    Returns:
        The text as labels are looked for in it; what is struck through (`~~x~~`) is gone.
    """
    text = _LONG_DASH.sub(" - ", _MINUS.sub("-", _STRUCK.sub(" ", text)))
    return fold_text(_IS.sub(IS, text))


@lru_cache(maxsize=64)
def compile_labels(labels: tuple[str, ...]) -> KnownLabels:
    """Prepare labels to be looked for.

    Args:
        labels: All labels that the task has.

    Returns:
        Patterns, and what labels are to each other.

    Raises:
        ConfigError: There are no labels, one is empty, or two are equal once they are folded.
    """
    if not labels:
        raise ConfigError("Found no labels; expected the labels that an answer may name.")
    parted = [tuple(_PARTS.split(fold_answer(label).strip())) for label in labels]
    _refuse_alike(labels, parted)
    opposites = {
        at: other
        for at, parts in enumerate(parted)
        for other, denied in enumerate(parted)
        if _is_denial(denied, parts)
    }
    # `- 1` may be a point of a list, or minus one where there is such a label.
    signed = r"(?<!-\s)" if any(re.match(r"-\d", parts[0]) for parts in parted) else ""
    patterns = [_as_pattern(parts, signed) for parts in parted]
    for at, other in opposites.items():
        patterns[other] += f"|{_as_denial(parted[at])}"
    alone = frozenset(at for at, parts in enumerate(parted) if parts[0] in _ALONE and not parts[1:])
    return KnownLabels([re.compile(pattern) for pattern in patterns], opposites, alone)


def _refuse_alike(labels: tuple[str, ...], parted: list[Parts]) -> None:
    seen: dict[Parts, str] = {}
    for label, parts in zip(labels, parted, strict=True):
        if not any(parts):
            raise ConfigError(
                f"Found an empty label ({label!r}) in {list(labels)}; expected at least one "
                "letter, digit or sign. An empty label is in every text: remove it."
            )
        if parts in seen:
            raise ConfigError(
                f"Found the labels {seen[parts]!r} and {label!r}, which are equal without accents "
                "and case; an answer could not tell them apart. Rename one."
            )
        seen[parts] = label


def _is_denial(denied: Parts, parts: Parts) -> bool:
    """Tell whether a label is another one denied: `não tóxico`, `non-toxic`, `atóxico`."""
    joined = {(word + parts[0], *parts[1:]) for word in _JOINED_BY}
    return denied in joined | {(word, *parts) for word in _DENIED_BY}


def _as_pattern(parts: Parts, signed: str) -> str:
    phrase = _BETWEEN_PARTS.join(re.escape(part) for part in parts)
    if len(parts) == 1 and _NUMBER.fullmatch(parts[0]):
        return signed + _BEFORE_NUMBER + phrase + _AFTER_NUMBER
    return rf"(?<!\w){phrase}(?!\w)"


def _as_denial(parts: Parts) -> str:
    """Return how else a label can be denied in one breath than its opposite is written."""
    phrase = _BETWEEN_PARTS.join(re.escape(part) for part in parts)
    return rf"(?<!\w)(?:(?:nao|not|non){_BETWEEN_PARTS}|non){phrase}(?!\w)"
