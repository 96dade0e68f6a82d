"""Macro F1 of classes that a model writes, as an `evaluate` module; README.md says how."""

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

from retune.scoring.classification.counts import UNPARSABLE
from retune.scoring.classification.extraction import read_label
from retune.scoring.classification.metrics import compute_figures

_TEXT = datasets.Value("string")


class MacroF1(evaluate.Metric):
    """The mean over classes of the F1 of each."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Mean over classes of the F1 of each; a text that names none is wrong.",
            citation="",
            inputs_description=(
                "predictions: texts; references: the right class of each; labels: all classes, "
                "else those of the references"
            ),
            features=datasets.Features({"predictions": _TEXT, "references": _TEXT}),
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        labels: Sequence[str] | None = None,
    ) -> dict[str, float | None]:
        names = sorted(set(references)) if labels is None else list(labels)
        if unknown := sorted(set(references) - set(names)):
            raise ValueError(f"references: {unknown} are not among labels, {names}")
        numbers = {name: number for number, name in enumerate(names)}
        read = (read_label(text, names).label for text in predictions)
        found = [UNPARSABLE if label is None else numbers[label] for label in read]
        gold = [numbers[name] for name in references]
        return {
            "macro_f1": compute_figures(np.array(gold), np.array(found), len(names))["macro_f1"]
        }
