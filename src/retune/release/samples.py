"""Rows to show in full: what was asked, what is right, and what each model answered.

Secrets and personal data in them are redacted: reports are read by others than the rows are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from retune.data.quality.sensitive import redact
from retune.model_records import Role
from retune.records import Record
from retune.score_records import ModelScores
from retune.scoring.figures import FIGURES
from retune.scoring.outcomes import read_outcomes

Name = TypeVar("Name", bound=str)
Row = Mapping[str, Any]

_NOT_ASKED = ("prompt_too_long", "prompt_empty", "engine_failed")
"""Reasons of `retune.inference.generation`, which imports torch."""
_JUDGES = tuple(name for name, figure in FIGURES.items() if figure.judges)


class Sample(Record):
    """One held-out row and what each model of a run answered."""

    question: str
    reference: str
    answers: dict[Role, str]
    right: dict[Role, bool | None]
    """Whether the answer is right (gives the reference's result, names the class); None where that
    could not be said."""


class ShownAnswer(Record):
    """What one model said to a question of `probes.show`."""

    greedy: str | None
    """None where the question did not fit into its context."""
    sampled: str | None
    """None where nothing was drawn."""


class ShownQuestion(Record):
    """A question of `probes.show`, and what each model of a run said to it; nothing is judged."""

    question: str
    answers: dict[Role, ShownAnswer]


class SideBySide(Record):
    """One held-out row and what each of several models answered."""

    row_id: str
    question: str
    prompt: str | None
    """The whole prompt as the recipe's base reads it, where it is known."""
    reference: str
    answers: dict[str, str | None]
    """None where the model could not be asked."""
    right: dict[str, bool | None]
    """Whether the answer is right; None where that could not be said."""


def choose_samples(scores: Mapping[Role, ModelScores], count: int) -> tuple[Sample, ...]:
    """Choose rows that the report of a run shows.

    Args:
        scores: Reports by role.
        count: How many.

    Returns:
        The samples, in the order of the rows; none where no model wrote answers.
    """
    return tuple(
        Sample(
            question=redact(first["question"]),
            reference=redact(first["reference"]),
            answers={role: redact(row["prediction"]) for role, row in rows.items()},
            right={role: is_right(row) for role, row in rows.items()},
        )
        for first, rows in _choose_rows(scores, count)
    )


def gather_shown(scores: Mapping[Role, ModelScores]) -> tuple[ShownQuestion, ...]:
    """Gather the answers that are shown and not scored.

    Args:
        scores: Reports by role.

    Returns:
        One entry a question; none where the recipe shows none.
    """
    reports = {role: report for role, each in scores.items() if (report := each.first_of("shown"))}
    rows = {role: read_outcomes(report) for role, report in reports.items()}
    first = next(iter(rows.values()), [])
    return tuple(
        ShownQuestion(
            question=redact(row["question"]),
            answers={
                role: ShownAnswer(
                    greedy=_redacted(each[at]["greedy"]), sampled=_redacted(each[at]["sampled"])
                )
                for role, each in rows.items()
            },
        )
        for at, row in enumerate(first)
    )


def choose_side_by_side(
    scores: Mapping[str, ModelScores], count: int, prompts: Mapping[str, str]
) -> tuple[SideBySide, ...]:
    """Choose rows that a comparison of models shows.

    Args:
        scores: Reports by model.
        count: How many.
        prompts: Whole prompts by row.

    Returns:
        The samples, in the order of the rows; none where no model wrote answers.
    """
    return tuple(
        SideBySide(
            row_id=first["row_id"],
            question=redact(str(first["question"])),
            prompt=redact(prompts[first["row_id"]]) if first["row_id"] in prompts else None,
            reference=redact(str(first["reference"])),
            answers={name: _redacted(answer_of(row)) for name, row in rows.items()},
            right={name: is_right(row) for name, row in rows.items()},
        )
        for first, rows in _choose_rows(scores, count)
    )


def _redacted(text: str | None) -> str | None:
    return None if text is None else redact(text)


def _choose_rows(
    scores: Mapping[Name, ModelScores], count: int
) -> Iterator[tuple[Row, dict[Name, Row]]]:
    """Choose rows evenly over those that every model answered, whatever their outcome."""
    by_model = {name: rows for name, each in scores.items() if (rows := answers_by_row(each))}
    first = next(iter(by_model.values()), {})
    shared = [row_id for row_id in first if all(row_id in rows for rows in by_model.values())]
    wanted = min(count, len(shared))
    for place in range(wanted):
        row_id = shared[len(shared) * (2 * place + 1) // (2 * wanted)]
        yield first[row_id], {name: rows[row_id] for name, rows in by_model.items()}


def answers_by_row(scores: ModelScores) -> dict[str, Row]:
    """Return the rows that a model answered, by their ids; none where it wrote nothing.

    Args:
        scores: Its reports.
    """
    report = scores.first_of("sql", "labels", "text", "answers")
    rows = read_outcomes(report) if report else []
    return {row["row_id"]: {"reference": row.get("gold"), **row} for row in rows}


def answer_of(row: Row) -> str | None:
    """Return what a model answered, as it stands; None where it could not be asked.

    Args:
        row: Of `answers_by_row`.
    """
    was_asked = row["prediction"] or row.get("reason") not in _NOT_ASKED
    return str(row["prediction"]) if was_asked else None


def is_right(row: Row) -> bool | None:
    """Say whether an answer is right; None where that could not be said.

    Args:
        row: Of `answers_by_row`.
    """
    verdict = next((row[name] for name in _JUDGES if name in row), None)
    return None if verdict is None else bool(verdict)
