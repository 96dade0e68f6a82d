"""Judging answers to probe cases by their words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import Field

from retune.errors import ScoringError
from retune.records import Record
from retune.scoring.probes.cases import ProbeCase, alternatives
from retune.scoring.uncertainty.estimates import Estimate, estimate_rate
from retune.scoring.words import find_words


class ProbeOutcome(Record):
    """What one answer scored. None means that there was no answer to score."""

    case_id: str
    category: str
    passed: bool | None
    found_forbidden: tuple[str, ...] = ()
    missing_required: tuple[str, ...] = ()
    """A list of alternatives of which none was found is one entry, joined by ` | `."""

    unscored_reason: str | None = None


class ProbeScores(Record):
    """All outcomes, in the cases' order, and pass rates."""

    outcomes: tuple[ProbeOutcome, ...]
    estimates: dict[str, Estimate]
    """`probe_pass_rate` over all cases."""

    by_category: dict[str, Estimate]
    by_language: dict[str, Estimate] = Field(default_factory=dict)
    """Of the cases that name their language."""

    unscored_by_reason: dict[str, int]


def judge_probes(cases: Sequence[ProbeCase], texts: Sequence[str | None]) -> ProbeScores:
    """Judge the answers to probe cases.

    Args:
        cases: The cases.
        texts: What the model wrote for each, without the prompt; None where it could not.

    Returns:
        Outcomes and pass rates.

    Raises:
        ScoringError: There are no cases, or not one text per case.
    """
    if not cases or len(cases) != len(texts):
        raise ScoringError(
            f"Found {len(cases)} probe cases and {len(texts)} answers; expected at least one case "
            "and one answer for each."
        )
    outcomes = [judge_probe(case, text) for case, text in zip(cases, texts, strict=True)]
    unscored = sum(outcome.passed is None for outcome in outcomes)
    return ProbeScores(
        outcomes=tuple(outcomes),
        estimates={"probe_pass_rate": _pass_rate(outcomes)},
        by_category=_rates_by([case.category for case in cases], outcomes),
        by_language=_rates_by([case.language for case in cases], outcomes),
        unscored_by_reason={"no_answer": unscored} if unscored else {},
    )


def judge_probe(case: ProbeCase, text: str | None) -> ProbeOutcome:
    """Judge one answer.

    Args:
        case: The case.
        text: What the model wrote, without the prompt; None where it could not.

    Returns:
        Passed or not, with the words that decided it.

    Example:
        >>> case = ProbeCase(id="oi", category="tom", input="Diga olá.", required_words=("olá",))
        >>> judge_probe(case, "Ola! Tudo bem?").passed, judge_probe(case, "Tchau.").missing_required
        (True, ('olá',))
    """
    if text is None:
        return ProbeOutcome(
            case_id=case.id, category=case.category, passed=None, unscored_reason="no_answer"
        )
    found = find_words(case.forbidden_words, text)
    wanted = [alternatives(entry) for entry in case.required_words]
    present = set(find_words(tuple(word for words in wanted for word in words), text))
    missing = tuple(" | ".join(words) for words in wanted if present.isdisjoint(words))
    return ProbeOutcome(
        case_id=case.id,
        category=case.category,
        passed=not found and not missing,
        found_forbidden=found,
        missing_required=missing,
    )


def _rates_by(names: Sequence[str | None], outcomes: Sequence[ProbeOutcome]) -> dict[str, Estimate]:
    present = [name for name in dict.fromkeys(names) if name is not None]
    pairs = list(zip(names, outcomes, strict=True))
    return {
        name: _pass_rate(outcome for other, outcome in pairs if other == name) for name in present
    }


def _pass_rate(outcomes: Iterable[ProbeOutcome]) -> Estimate:
    return estimate_rate([outcome.passed for outcome in outcomes])
