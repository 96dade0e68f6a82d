"""Models row by row: paired comparisons with the first."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from retune.gate.deciding import compare
from retune.records import Record
from retune.score_records import FigureDifference, ModelScores
from retune.scoring.figures import figure_of
from retune.scoring.outcomes import read_outcomes, write_outcomes


class PairedComparison(FigureDifference):
    """A model minus the first, on the rows that both have."""

    model: str
    against: str


class SharedComparisons(Record):
    """All paired comparisons, and how many held-out rows all models share."""

    rows: int
    comparisons: tuple[PairedComparison, ...]


def compare_with_first(
    scores: Mapping[str, ModelScores], resamples: int, *, comparable_tokens: bool
) -> SharedComparisons:
    """Compare every model with the first.

    Args:
        scores: Reports by model; the first is what the others are compared with.
        resamples: Bootstrap draws.
        comparable_tokens: Whether figures per token can be compared; else those are left out.

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
            if comparable_tokens or not figure_of(each.metric).per_token
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
    found = dict(scores.reports)
    for name, report in scores.reports.items():
        # Texts and cases are the same ones for all models.
        if any(figure_of(metric).over == "rows" for metric in report.metrics):
            target = folder / name
            target.mkdir(parents=True)
            rows = (row for row in read_outcomes(report) if row["row_id"] in kept)
            write_outcomes(target, sorted(rows, key=lambda row: str(row["row_id"])))
            found[name] = report.model_copy(update={"folder": target})
    return scores.model_copy(update={"reports": found})
