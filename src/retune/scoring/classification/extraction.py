"""The label that a generated text names, read strictly.

Policy. Text and labels are folded as `retune.scoring.words` does (accents, case, format
characters).

1. Only the first line with a letter or digit counts: what a model writes after it is often an
   invented next example. Where that line ends with a colon (`Sentimento:`), the next line with a
   letter or digit belongs to it. A line that only opens a Markdown fence is none.
2. A label counts as a whole word: no letter, digit or underscore touches it, and no digit stands
   behind a decimal sign beside it (`1` is not in `1.5`). Labels are literal text, never patterns.
3. A label inside a longer one does not count (`spam` in `not spam`).
4. A label that is denied in its own clause (`não é positivo`, `not positive`) does not count; a
   clause ends at a sign of punctuation. A denying word that is part of a label denies nothing.
5. Exactly one label must be left, however often. With none, or with two, there is no answer: None,
   which the scorer counts as wrong and as unparsable.

Agrees with ../shared/data/probe_cases/label_extraction_cases.jsonl in all cases.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache

from retune.errors import ConfigError
from retune.scoring.words import fold_text

_DENYING = ("nao", "nem", "nunca", "not", "nor", "never", "neither", "isn't", "isn’t")
_CLAUSE_END = re.compile(r"[.,;:!?\n]")
_SOMETHING = re.compile(r"[^\W_]")
_FENCE = re.compile(r"\s*```\w*\s*")
_AROUND_HEADING = "*_#`\"'“”> \t"


def extract_label(generated: str, labels: Sequence[str]) -> str | None:
    """Read the one label that a generated text names.

    Args:
        generated: Only what the model wrote, without the prompt.
        labels: All labels that the task has.

    Returns:
        The label as it was given; None where the text names none, or more than one.

    Raises:
        ConfigError: There are no labels, one is empty, or two are equal once they are folded.
    """
    patterns, denial = _compile(tuple(labels))
    answer = fold_text(_read_first_line(generated))
    spans = [
        (match.start(), match.end(), at)
        for at, pattern in enumerate(patterns)
        for match in pattern.finditer(answer)
    ]
    denied = _find_denied_ranges(answer, denial)
    named = {at for start, at in _drop_contained(spans) if not _is_inside(start, denied)}
    return labels[named.pop()] if len(named) == 1 else None


def check_labels(labels: Sequence[str]) -> None:
    """Refuse labels that could not be told apart in a text.

    Args:
        labels: All labels that the task has.

    Raises:
        ConfigError: There are no labels, one is empty, or two are equal once they are folded.
    """
    _compile(tuple(labels))


def _read_first_line(generated: str) -> str:
    lines = (
        line
        for line in generated.splitlines()
        if _SOMETHING.search(line) and not _FENCE.fullmatch(line)
    )
    first = next(lines, "")
    if first.rstrip(_AROUND_HEADING).endswith(":"):
        return f"{first}\n{next(lines, '')}"
    return first


def _drop_contained(spans: list[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
    """Yield start and label of each span that lies in no other."""
    reached = -1
    # By start, the longest first: a span lies in an earlier one exactly if it ends before it does.
    for start, end, at in sorted(spans, key=lambda span: (span[0], -span[1])):
        if end > reached:
            reached = end
            yield start, at


def _find_denied_ranges(answer: str, denial: re.Pattern[str] | None) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    at = 0
    # Each search goes on behind the clause that the one before ended: linear in the text.
    while denial is not None and (found := denial.search(answer, at)):
        end = _CLAUSE_END.search(answer, found.end())
        at = end.start() if end else len(answer)
        ranges.append((found.end(), at))
    return ranges


def _is_inside(position: int, ranges: list[tuple[int, int]]) -> bool:
    at = bisect_right(ranges, (position, float("inf"))) - 1
    return at >= 0 and ranges[at][0] <= position < ranges[at][1]


@lru_cache(maxsize=64)
def _compile(labels: tuple[str, ...]) -> tuple[list[re.Pattern[str]], re.Pattern[str] | None]:
    if not labels:
        raise ConfigError("Found no labels; expected the labels that an answer may name.")
    folded = [tuple(fold_text(label).split()) for label in labels]
    seen: dict[tuple[str, ...], str] = {}
    for label, parts in zip(labels, folded, strict=True):
        if not parts:
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
    words = {word for parts in folded for word in parts}
    denying = [re.escape(word) for word in _DENYING if word not in words]
    denial = re.compile(rf"(?<!\w)(?:{'|'.join(denying)})(?!\w)") if denying else None
    return [_as_pattern(parts) for parts in folded], denial


def _as_pattern(parts: tuple[str, ...]) -> re.Pattern[str]:
    phrase = r"\s+".join(re.escape(part) for part in parts)
    return re.compile(rf"(?<!\w)(?<!\d[.,]){phrase}(?!\w)(?![.,]\d)")
