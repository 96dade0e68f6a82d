"""Models row by row: paired comparisons with the first, and what each answered."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from retune.records import ModelScores, Record, ScoreReport
from retune.release.gate import compare
from retune.scoring.outcomes import read_outcomes, write_outcomes

_OF_ROWS = ("perplexity", "sql", "labels", "answers")
"""Reports over the held-out rows; the others are over texts and cases that all models share."""


_NOT_ASKED = ("prompt_too_long", "prompt_empty")
"""Reasons of `retune.scoring.generation`, which imports torch."""


class PairedComparison(Record):
    """One metric of a model and of the first, on the rows that both have."""

    model: str
    against: str
    metric: str
    difference: float | None
    """Model minus the first."""
    low: float | None
    high: float | None
    p_value: float | None
    n: int
    verdict: Literal["better", "worse", "undecided"]
    groups: int | None = None
    """Independent groups that the rows fall into, as in `Metric`."""
    worse_on_rows: bool = False
    """Where groups are too few to decide: whether the rows at hand, each on its own, are worse."""


class SharedComparisons(Record):
    """All paired comparisons, and how many held-out rows all models share."""

    rows: int
    comparisons: tuple[PairedComparison, ...]


class SideBySide(Record):
    """One held-out row and what each model answered."""

    row_id: str
    question: str
    prompt: str | None
    """The whole prompt as the recipe's base reads it, where it is known."""
    reference: str
    answers: dict[str, str | None]
    """None where the model could not be asked."""
    right: dict[str, bool | None]
    """Whether the answer is right; None where that could not be said."""


def compare_with_first(
    scores: Mapping[str, ModelScores], resamples: int, *, comparable_tokens: bool
) -> SharedComparisons:
    """Compare every model with the first.

    Args:
        scores: Reports by model; the first is what the others are compared with.
        resamples: Bootstrap draws.
        comparable_tokens: Whether figures per token can be compared; else perplexity is left out.

    Returns:
        Differences of all metrics that the gate compares, and of bits per byte.

    Raises:
        ScoringError: Reports are over other texts or cases.
    """
    with _on_shared_rows(scores) as (shared, rows):
        names = list(shared)
        found = [
            each
            for name in names[1:]
            for each in _compare(name, names[0], shared, resamples)
            if comparable_tokens or each.metric != "perplexity"
        ]
    return SharedComparisons(rows=rows, comparisons=tuple(found))


def _compare(
    name: str, first: str, scores: Mapping[str, ModelScores], resamples: int
) -> Iterator[PairedComparison]:
    # The gate calls an opponent base or champion; here it has a name of its own.
    for each in compare(scores[name], scores[first], "base", resamples):
        yield PairedComparison(model=name, against=first, **each.model_dump(exclude={"against"}))


@contextmanager
def _on_shared_rows(
    scores: Mapping[str, ModelScores],
) -> Iterator[tuple[Mapping[str, ModelScores], int]]:
    """Give reports over the held-out rows that all models have; the same ones where all have all.

    A tokenizer that needs more tokens loses the rows that no longer fit into `prompt.max_length`.
    """
    ids = [[row["row_id"] for row in read_outcomes(each.over_rows())] for each in scores.values()]
    kept = set.intersection(*map(set, ids))
    if all(each == ids[0] for each in ids):
        yield scores, len(kept)
        return
    with tempfile.TemporaryDirectory(prefix="retune-shared-rows-") as folder:
        yield (
            {
                name: _keep(each, kept, Path(folder) / str(place))
                for place, (name, each) in enumerate(scores.items())
            },
            len(kept),
        )


def _keep(scores: ModelScores, kept: set[str], folder: Path) -> ModelScores:
    found: dict[str, ScoreReport] = {}
    for name, report in scores.reports().items():
        if name in _OF_ROWS:
            target = folder / name
            target.mkdir(parents=True)
            rows = (row for row in read_outcomes(report) if row["row_id"] in kept)
            write_outcomes(target, sorted(rows, key=lambda row: str(row["row_id"])))
            found[name] = report.model_copy(update={"folder": target})
    return scores.model_copy(update=found)


def choose_side_by_side(
    scores: Mapping[str, ModelScores], count: int, prompts: Mapping[str, str]
) -> tuple[SideBySide, ...]:
    """Pick rows evenly over the held-out rows that every model answered, whatever their outcome.

    Args:
        scores: Reports by model.
        count: How many.
        prompts: Whole prompts by row.

    Returns:
        The samples, in the order of the rows; none where no model wrote answers.
    """
    answers = {name: _answers_by_row(each) for name, each in scores.items()}
    answers = {name: rows for name, rows in answers.items() if rows}
    first = next(iter(answers.values()), {})
    shared = [row_id for row_id in first if all(row_id in rows for rows in answers.values())]
    return tuple(
        SideBySide(
            row_id=row_id,
            question=str(first[row_id]["question"]),
            prompt=prompts.get(row_id),
            reference=str(first[row_id]["reference"]),
            answers={name: _answer_of(rows[row_id]) for name, rows in answers.items()},
            right={name: _is_right(rows[row_id]) for name, rows in answers.items()},
        )
        for row_id in _evenly(shared, count)
    )


def _evenly(rows: Sequence[str], count: int) -> list[str]:
    wanted = min(count, len(rows))
    return [rows[len(rows) * (2 * place + 1) // (2 * wanted)] for place in range(wanted)]


def _answers_by_row(scores: ModelScores) -> dict[str, dict[str, Any]]:
    report = scores.sql or scores.labels or scores.answers
    return {row["row_id"]: row for row in read_outcomes(report)} if report else {}


def _answer_of(row: Mapping[str, Any]) -> str | None:
    was_asked = row["prediction"] or row.get("reason") not in _NOT_ASKED
    return str(row["prediction"]) if was_asked else None


def _is_right(row: Mapping[str, Any]) -> bool | None:
    verdict = row.get("sql_execution_match", row.get("accuracy"))
    return None if verdict is None else bool(verdict)
