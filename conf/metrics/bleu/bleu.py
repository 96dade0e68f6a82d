"""BLEU, as an `evaluate` module; README.md beside it says how it is computed."""

import datasets
import evaluate
import numpy as np

from retune.scoring.free_text.corpus_bleu import bleu_of_sums
from retune.scoring.free_text.shipped import Text, count_ngrams

_TEXT = datasets.Value("string")


class Bleu(evaluate.Metric):
    """Runs of words that the references have too, of all answers together."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="sacrebleu's corpus BLEU, divided by 100.",
            citation="",
            inputs_description="predictions: texts; references: a text each, or a list of texts",
            # The first form that fits is taken: a list of references, else one.
            features=[
                datasets.Features({"predictions": _TEXT, "references": datasets.Sequence(_TEXT)}),
                datasets.Features({"predictions": _TEXT, "references": _TEXT}),
            ],
        )

    def _compute(
        self, predictions: list[str], references: list[str | list[str]]
    ) -> dict[str, float]:
        texts = [
            Text(answer, [right] if isinstance(right, str) else right)
            for answer, right in zip(predictions, references, strict=True)
        ]
        rows = [list(count_ngrams(text).values()) for text in texts]
        return {"bleu": float(bleu_of_sums(np.array(rows, dtype=float).sum(axis=0)))}
