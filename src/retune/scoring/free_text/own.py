"""A team's own metric, an `evaluate.Metric`, asked for one row at a time."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from types import ModuleType
from typing import Any, Protocol

from retune.errors import ScoringError
from retune.records import Source
from retune.scoring.figures import figure_of
from retune.scoring.free_text.own_folders import KEY, module_of
from retune.scoring.free_text.shipped import Text


@dataclass(frozen=True)
class RowScore:
    """What a metric says of one row.

    Attributes:
        value: Its number; None where it could not say.
        reason: Why there is none.
    """

    value: float | None
    reason: str | None = None


class Scorer(Protocol):
    """A metric that is asked for one row at a time: a loaded one, or the process that holds it."""

    figure: str
    source: Source

    def score(self, text: Text) -> RowScore:
        """Score one row."""


def score_all(metric: Scorer, texts: Sequence[Text]) -> list[RowScore]:
    """Score rows one by one.

    Args:
        metric: What scores them.
        texts: Answers and references.

    Returns:
        One each.

    Raises:
        ScoringError: Not one row could be scored.
    """
    found = [metric.score(text) for text in texts]
    if found and all(each.value is None for each in found):
        raise ScoringError(
            f"{KEY}: the metric in {metric.source.path} failed on each of {len(found):,} rows; "
            f"on the first: {found[0].reason}. Correct it, or take it out."
        )
    return found


class OwnMetric:
    """A loaded metric.

    Args:
        figure: Its name among the figures, ``own_metric.NAME`` or ``own_error.NAME``.
        source: Its folder.
        result: Which of the numbers that it returns is meant; None for the one of its own name, or
            the only one.

    Raises:
        ScoringError: It cannot be loaded.
    """

    def __init__(self, figure: str, source: Source, result: str | None = None) -> None:
        evaluate = _import_evaluate()
        self.figure, self.source, self._result = figure, source, result
        self._name = figure.partition(".")[2]
        try:
            self._metric = evaluate.load(
                str(module_of(source.path, self._name)), keep_in_memory=True
            )
        except Exception as error:
            raise ScoringError(
                f"{KEY}: the metric in {source.path} cannot be loaded: {_said(error)}. It has to "
                "load without network: put what it needs into its folder, and install the packages "
                "that it imports."
            ) from error
        self._takes_lists = _takes_lists(self._metric.features)

    def score(self, text: Text) -> RowScore:
        """Score one row; a metric for one reference is asked about each, and the best one counts.

        Args:
            text: Answer and references.

        Returns:
            The number; none where the metric raised, or returned no finite number.
        """
        try:
            if self._takes_lists:
                return RowScore(self._compute(text.answer, list(text.references)))
            found = [self._compute(text.answer, each) for each in text.references]
        except Exception as error:  # noqa: BLE001 - whatever its code does leaves the row unscored
            return RowScore(None, _said(error))
        return RowScore(min(found) if figure_of(self.figure).lower_is_better else max(found))

    def _compute(self, answer: str, reference: str | list[str]) -> float:
        found = self._metric.compute(predictions=[answer], references=[reference])
        value = self._choose(found)
        # An array of one number is a number, and a boolean says yes or no.
        value = value.item() if hasattr(value, "item") else value
        if not isinstance(value, Real) or not math.isfinite(value):
            raise ValueError(f"returned {value!r:.80}, expected a finite number")
        return float(value)

    def _choose(self, found: Any) -> Any:
        if not isinstance(found, dict):
            raise TypeError(f"returned {type(found).__name__}, expected a dict of numbers")
        wanted = self._result or (self._name if self._name in found else None)
        if wanted is None and len(found) == 1:
            return next(iter(found.values()))
        if wanted not in found:
            raise KeyError(
                f"returned {', '.join(map(str, found)) or 'nothing'}; name one of these as result"
            )
        return found[wanted]


def _takes_lists(features: Any) -> bool:
    """Say whether a metric's references can be lists of texts."""
    from datasets import Value

    kinds = features if isinstance(features, list) else [features]
    return any(not isinstance(each.get("references"), Value) for each in kinds)


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason'}"[:300]


def _import_evaluate() -> ModuleType:
    """Import `evaluate` without what only its evaluators need: all of transformers' pipelines.

    Those are two thirds of its import, in a process per model that is scored. A metric that asks
    such a pipeline imports it, as ever; `evaluate.evaluator` alone is told that there is none.
    """
    pipelines = "transformers.pipelines"
    if not {"evaluate", pipelines} & sys.modules.keys():
        sys.modules[pipelines] = None  # type: ignore[assignment]  # an import of it is refused
        try:
            import evaluate
        finally:
            del sys.modules[pipelines]
    import evaluate

    imported: ModuleType = evaluate
    return imported
