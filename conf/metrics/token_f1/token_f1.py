"""Token F1, as an `evaluate` module; README.md beside it says how it is computed."""

from collections.abc import Sequence

import datasets
import evaluate

from retune.recipe.sections.scoring import TextNormaliser
from retune.scoring.free_text.shipped import Text, token_f1

_TEXT = datasets.Value("string")


class TokenF1(evaluate.Metric):
    """Words that answer and reference share."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Mean F1 of the words that answer and reference share.",
            citation="",
            inputs_description=(
                "predictions: texts; references: a text each, or a list of texts; normalisers: "
                "what is ignored, see README.md"
            ),
            # The first form that fits is taken: a list of references, else one.
            features=[
                datasets.Features({"predictions": _TEXT, "references": datasets.Sequence(_TEXT)}),
                datasets.Features({"predictions": _TEXT, "references": _TEXT}),
            ],
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str | list[str]],
        normalisers: Sequence[TextNormaliser] = ("case", "punctuation"),
    ) -> dict[str, float]:
        texts = [
            Text(answer, [right] if isinstance(right, str) else right)
            for answer, right in zip(predictions, references, strict=True)
        ]
        return {"token_f1": sum(token_f1(text, normalisers) for text in texts) / len(texts)}
