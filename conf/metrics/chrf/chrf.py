"""chrF, as an `evaluate` module; README.md beside it says how it is computed."""

import datasets
import evaluate

from retune.scoring.free_text.shipped import Text, chrf

_TEXT = datasets.Value("string")


class ChrF(evaluate.Metric):
    """Runs of characters that answer and reference share."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Mean of sacrebleu's sentence chrF, divided by 100.",
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
        return {"chrf": sum(chrf(text) for text in texts) / len(texts)}
