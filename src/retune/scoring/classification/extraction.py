"""The label that a generated text names, read strictly.

Text and labels are folded as `retune.scoring.words` does (accents, case, dashes, apostrophes,
emphasis, format characters). docs/classification.md states the policy, in short:

1. Only the first line with a letter or digit counts: what a model writes after it is often an
   invented next example. Where that line ends with a colon (`Sentimento:`), the next line with a
   letter or digit belongs to it. A line that only opens a Markdown fence is none, nor is one that
   quotes (`>`) before others. Behind `Resposta:` or `Answer:` only what follows counts.
2. A label counts as a whole word; its parts may be joined by blanks, hyphens or underscores. Labels
   are literal text, never patterns. A number is whole too: `1` is not in `1.5`, `-1`, `1/2`, `0-1`.
3. A label inside a longer one does not count (`spam` in `not spam`).
4. What a sentence denies, asks or doubts is not said (`clauses`). Where one label is another one
   denied (`tóxico`, `não tóxico`), a plain denial names it: `não é tóxico`.
5. Exactly one label must be said, however often. Else there is no label, but a reason.

A text without a label is wrong, and counted as unparsable: were it left out, a model that doubts
hard rows would look better than one that answers them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import Literal, NamedTuple

from retune.scoring.classification.clauses import MENTION, Use, judge_mentions
from retune.scoring.classification.naming import KnownLabels, Span, compile_labels, fold_answer

Reason = Literal[
    "no_label", "several_labels", "label_denied", "label_doubted", "label_asked", "label_taken_back"
]

_SOMETHING = re.compile(r"[^\W_]")
_FENCE = re.compile(r"\s*```\w*\s*")
_AROUND_HEADING = "*_#`\"'“”> \t"
_QUOTES = re.compile(r"\"[^\"\n]*\"|“[^”\n]*”|«[^»\n]*»")
_ANSWER = re.compile(
    r"(?:^|[.;!?\n])\s*(?:(?:a|the|final|minha|my|sua|your)\s+)*(?:resposta|answer|classe|class|"
    r"classificacao|classification|rotulo|label)(?:\s+final)?[\s*]*[:=]"
)
_READ = 20_000
"""Characters that are read: what is longer before it ends a line names no label."""

_GOES_ON = re.compile(r"[\"'*`]*\s*[^\W_]")


class Reading(NamedTuple):
    """What was read."""

    label: str | None
    reason: Reason | None
    """Why there is no label."""


def read_label(generated: str, labels: Sequence[str]) -> Reading:
    """Read the one label that a generated text names, or say why there is none.

    Args:
        generated: Only what the model wrote, without the prompt.
        labels: All labels that the task has.

    Returns:
        The label as it was given, or the reason.

    Raises:
        ConfigError: There are no labels, one is empty, or two are equal once they are folded.

    Example:
        >>> read_label("Não é positivo: é negativo.", ("negativo", "positivo")).label
        'negativo'
        >>> read_label("Talvez positivo?", ("negativo", "positivo")).label is None
        True
    """
    known = compile_labels(tuple(labels))
    answer = fold_answer(_read_first_line(generated).replace(MENTION, " "))
    if marked := list(_ANSWER.finditer(answer)):
        answer = answer[marked[-1].end() :]
    spans = _find_mentions(answer, known)
    if not spans:
        return Reading(None, "no_label")
    uses, taken_back = judge_mentions(_mark(answer, spans))
    found = _decide([(span.label, use) for span, use in zip(spans, uses, strict=True)], known)
    if not isinstance(found, int):
        return Reading(None, found)
    return Reading(None, "label_taken_back") if taken_back else Reading(labels[found], None)


def check_labels(labels: Sequence[str]) -> None:
    """Refuse labels that could not be told apart in a text.

    Args:
        labels: All labels that the task has.

    Raises:
        ConfigError: There are no labels, one is empty, or two are equal once they are folded.
    """
    compile_labels(tuple(labels))


def _decide(mentions: Sequence[tuple[int, Use]], known: KnownLabels) -> int | Reason:
    """Return the one label that is said, or why there is none."""
    denied = {label for label, use in mentions if use in ("denied", "denied_plainly")}
    said = {label for label, use in mentions if use == "said"}
    said |= {
        known.opposites[label]
        for label, use in mentions
        if use == "denied_plainly" and label in known.opposites
    }
    if any(use == "doubted" for _, use in mentions):
        return "label_doubted"
    if len(said) > 1:
        return "several_labels"
    if not said or said & denied:
        return "label_denied" if denied else "label_asked"
    return said.pop()


def _read_first_line(generated: str) -> str:
    lines = [
        line
        for line in generated.lstrip()[:_READ].splitlines()
        if _SOMETHING.search(line) and not _FENCE.fullmatch(line)
    ]
    said = [line for line in lines if not line.lstrip().startswith(">")] or lines
    if not said:
        return ""
    is_heading = said[0].rstrip(_AROUND_HEADING).endswith(":")
    return "\n".join(said[: 1 + is_heading])


def _find_mentions(answer: str, known: KnownLabels) -> list[Span]:
    """Return each mention that counts, in order."""
    spans = [
        Span(match.start(), match.end(), at)
        for at, pattern in enumerate(known.patterns)
        for match in pattern.finditer(answer)
    ]
    quotes = _find_quotes(answer)
    return [
        span
        for span in _drop_contained(spans)
        if not _is_quoted(answer, span, quotes)
        and not (span.label in known.alone and _GOES_ON.match(answer, span.end))
    ]


def _find_quotes(answer: str) -> list[tuple[int, int]]:
    """Return where quotations are, but for one that is the whole answer."""
    found = [(match.start(), match.end()) for match in _QUOTES.finditer(answer)]
    whole = len(found) == 1 and not _SOMETHING.search(answer[: found[0][0]] + answer[found[0][1] :])
    return [] if whole else found


def _is_quoted(answer: str, span: Span, quotes: list[tuple[int, int]]) -> bool:
    """Tell whether a label stands in a quotation among other words; alone it is what is said."""
    at = bisect_right(quotes, (span.start, len(answer))) - 1
    if at < 0 or span.end >= quotes[at][1]:
        return False
    start, end = quotes[at]
    before, after = (start, span.start), (span.end, end)
    return any(_SOMETHING.search(answer, *part) is not None for part in (before, after))


def _drop_contained(spans: list[Span]) -> list[Span]:
    """Return each span that lies in no other, in order."""
    kept: list[Span] = []
    # By start, the longest first: a span lies in an earlier one exactly if it ends before it does.
    for span in sorted(spans, key=lambda one: (one.start, -one.end)):
        if not kept or span.end > kept[-1].end:
            kept.append(span)
    return kept


def _mark(answer: str, spans: Sequence[Span]) -> str:
    """Put a mark in place of each label."""
    pieces, reached = [], 0
    for span in spans:
        pieces += [answer[reached : span.start], MENTION]
        reached = span.end
    return "".join([*pieces, answer[reached:]])
