"""What a model says to checked rows, so that two forms of one model can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from retune.inference.batching import pad_sequences
from retune.inference.generation import generate_answers
from retune.inference.head_predictions import class_figures
from retune.inference.loaded_models import LoadedModel

Answers = Literal["written", "likeliest", "none"]
"""``written``: greedy answers; ``likeliest``: the likeliest token at each position of the given
answer, which one pass over the model finds; ``none``: neither."""

_MAX_CHECK_TOKENS = 64
_POSITIONS_AT_ONCE = 64


@dataclass(frozen=True)
class ModelOutputs:
    """What a model says to the checked rows.

    Attributes:
        logits: ``[positions, outputs]`` in float32: where each token of an answer is predicted.
        answers: Greedy answers, one per row, or the ids of the likeliest tokens; none where they
            were not asked for.
    """

    logits: torch.Tensor
    answers: list[str]


@dataclass(frozen=True)
class Difference:
    """How far one form of a model is from another, by the names of `MergedRef`.

    Attributes:
        rows_checked: Rows that both were asked.
        max_logit_difference: Largest difference of two logits.
        logit_spread: Standard deviation of the first form's logits.
        divergence_nats: Mean over the positions of ``sum p log(p / q)``, where p is what the first
            form expects there and q what the second does: how much more surprised the second is by
            text of the first, in nats per token. At least 0, and NaN where a logit is.
        answers_equal: Rows with the same greedy answer.
    """

    rows_checked: int
    max_logit_difference: float
    logit_spread: float
    divergence_nats: float
    answers_equal: int

    def within(self, tolerance: float) -> bool:
        """Tell whether the difference is at most a share of the spread; NaN is not."""
        return self.max_logit_difference <= tolerance * self.logit_spread

    def figures(self) -> dict[str, Any]:
        """Return the fields, as a record takes them."""
        return asdict(self)

    def __str__(self) -> str:
        share = self.max_logit_difference / self.logit_spread
        return (
            f"by up to {self.max_logit_difference:.3g}, {share:.1%} of their spread "
            f"{self.logit_spread:.3g}"
        )


def evaluate_outputs(
    loaded: LoadedModel, rows: Sequence[Mapping[str, Any]], *, answers: Answers = "written"
) -> ModelOutputs:
    """Ask a model for its logits where answers are predicted, and for its greedy answers.

    One with a classification head is asked for its figures per class, and the likeliest classes.

    Args:
        loaded: The model.
        rows: Chats, with `prompt_ids` and `answer_ids`.
        answers: What is asked for beside logits; each token that is written is one more pass over
            the model.

    Returns:
        What it says.
    """
    if loaded.labels is not None:
        return _look_at_classes(loaded, loaded.labels, rows)
    pairs = [(row["prompt_ids"], row["answer_ids"]) for row in rows]
    ids, mask = pad_sequences([[*prompt, *answer] for prompt, answer in pairs], 0, "left")
    longest = max(len(answer) for _, answer in pairs)
    with torch.inference_mode():
        logits = loaded.model(
            input_ids=ids.to(loaded.model.device),
            attention_mask=mask.to(loaded.model.device),
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0).to(loaded.model.device),
            logits_to_keep=longest + 1,
            use_cache=False,
        ).logits
    # What the last token is followed by is not asked.
    kept = [logits[row, -len(answer) - 1 : -1] for row, (_, answer) in enumerate(pairs)]
    found: list[str] = []
    if answers == "likeliest":
        found = [" ".join(map(str, each.argmax(-1).tolist())) for each in kept]
    elif answers == "written":
        found = _write(loaded, [prompt for prompt, _ in pairs], longest)
    return ModelOutputs(torch.cat(kept).float().cpu(), found)


def _write(loaded: LoadedModel, prompts: Sequence[Sequence[int]], longest: int) -> list[str]:
    return generate_answers(
        loaded,
        prompts,
        max_new_tokens=min(_MAX_CHECK_TOKENS, longest + 8),
        batch_size=len(prompts),
    )


def _look_at_classes(
    loaded: LoadedModel, labels: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> ModelOutputs:
    figures = torch.tensor(
        class_figures(
            loaded.model,
            [row["prompt_ids"] for row in rows],
            batch_size=len(rows),
            pad_id=int(loaded.tokenizer.pad_token_id),
        )
    ).float()
    return ModelOutputs(figures, [labels[place] for place in figures.argmax(-1).tolist()])


def compare_outputs(before: ModelOutputs, after: ModelOutputs) -> Difference:
    """Compare what two forms of one model say to the same rows.

    Args:
        before: Of the model as it was trained: the reference.
        after: Of the form that is released.

    Returns:
        How far they are from each other.
    """
    return Difference(
        rows_checked=len(before.answers),
        max_logit_difference=float((before.logits - after.logits).abs().max()),
        logit_spread=float(before.logits.std()),
        divergence_nats=_divergence(before.logits, after.logits),
        answers_equal=sum(a == b for a, b in zip(before.answers, after.answers, strict=False)),
    )


def _divergence(before: torch.Tensor, after: torch.Tensor) -> float:
    # Some positions at a time: in 64 bits those of a large vocabulary take gigabytes.
    total = torch.zeros((), dtype=torch.float64)
    for first, second in zip(
        before.split(_POSITIONS_AT_ONCE), after.split(_POSITIONS_AT_ONCE), strict=True
    ):
        expected, found = (each.double().log_softmax(-1) for each in (first, second))
        total += (expected.exp() * (expected - found)).sum()
    # Rounding alone may take it below 0; NaN stays NaN.
    return float((total / len(before)).clamp(min=0.0))
