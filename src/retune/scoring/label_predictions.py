"""Asking a model which class a prompt belongs to, by likelihood or by what it writes.

By likelihood: the summed log-likelihood of each label's answer tokens after the prompt, end token
included, as `classification.likelihood` defines it. By generation: the one label that the new text
names, as `classification.extraction` reads it. A model with a classification head is asked for its
head's figures instead, whatever the recipe says (`head_predictions`). A prompt that does not fit
into the context (beside the longest label's answer, or the new tokens) is not asked: it has a
reason instead.

torch is imported by the functions that run a model, so that importing this loads none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from retune.errors import ScoringError
from retune.inference.label_likelihood import LikelihoodPredictions, predict_by_likelihood
from retune.scoring.classification.extraction import check_labels, read_label
from retune.scoring.uncertainty.resampling import Floats

if TYPE_CHECKING:
    from retune.inference.generation import Answer
    from retune.inference.latency import BatchTimes
    from retune.inference.loaded_models import LoadedModel

Row = dict[str, Any]
Progress = Callable[[int, int], None]
ClassifyBy = Literal["likelihood", "generation"]


class Predictions(NamedTuple):
    """What a model says about each prompt."""

    predictions: list[str | None]
    """None where no label could be read, where two are equally likely, or where it was not asked;
    the first two are wrong answers, the last is unscored."""

    probabilities: Floats | None
    """Shape ``(prompts, labels)``, NaN where it was not asked; None by generation."""

    texts: list[str | None]
    """What it wrote; by likelihood or by a head the label itself."""

    unscored_reasons: list[str | None]
    """Why it has no answer: `prompt_too_long`, `prompt_empty` or `loss_not_finite`."""

    answers: list[Answer]
    """What was written, else the label, and how long it took."""

    unread_reasons: list[str | None] | None = None
    """By generation, why no label could be read, as `classification.extraction.Reason` names it."""


def find_label_answers(
    rows: Sequence[Row], labels: Sequence[str], loaded: LoadedModel
) -> dict[str, list[int]]:
    """Find the tokens that each label is answered with.

    Args:
        rows: Of a side's `rows.parquet`; those without a label are passed over.
        labels: All labels that the task has.
        loaded: Its tokenizer writes the labels that no row has, in the frame of the other rows'
            answers.

    Returns:
        Answer ids, end token included, by label in the labels' order; none for a head, which
        writes no answers.
    """
    if loaded.labels is not None:
        return {label: [] for label in labels}
    labelled = [row for row in rows if row["label"] is not None]
    written: dict[str, Counter[tuple[int, ...]]] = {label: Counter() for label in labels}
    for row in labelled:
        written.setdefault(row["label"], Counter())[tuple(row["answer_ids"])] += 1
    sample = min(labelled, key=lambda row: str(row["row_id"]), default=None)
    return {
        label: _most_common(written[label])
        if written[label]
        else _write_answer(label, sample, loaded)
        for label in labels
    }


def _most_common(counts: Counter[tuple[int, ...]]) -> list[int]:
    # Rows of one label can differ in thoughts before it; of equally common ones the smallest.
    return list(min(counts.items(), key=lambda item: (-item[1], item[0]))[0])


def _write_answer(label: str, sample: Row | None, loaded: LoadedModel) -> list[int]:
    def tokenize(text: str) -> list[int]:
        return list(loaded.tokenizer(text, add_special_tokens=False)["input_ids"])

    if sample is None:
        return [*tokenize(label), loaded.end_ids[0]]
    ids = list(sample["answer_ids"])
    text = str(loaded.tokenizer.decode(ids, clean_up_tokenization_spaces=False))
    before, found, after = text.rpartition(sample["answer"].strip())
    # Some tokenizers do not decode to what was written (a space before a word is lost).
    if found and tokenize(text) == ids:
        return tokenize(before + label + after)
    return [*tokenize(label), ids[-1]]


def predict_labels(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    label_answers: Mapping[str, Sequence[int]],
    *,
    classify_by: ClassifyBy,
    max_new_tokens: int,
    batch_size: int,
    progress: Progress | None = None,
) -> Predictions:
    """Let a model name the class of each prompt.

    Args:
        loaded: Model and tokenizer.
        prompts: Token ids per prompt.
        label_answers: Answer ids by label, as `find_label_answers` returns them.
        classify_by: By the likelihood of the labels' answers, or by what it writes.
        max_new_tokens: Most tokens written per prompt, by generation.
        batch_size: Sequences per batch; changes no prediction.
        progress: Told how many sequences are done (by likelihood one per prompt and label), and of
            how many.

    Returns:
        One prediction per prompt, in their order; a prompt that does not fit, or that the loss is
        no number on, has a reason instead.

    Raises:
        ScoringError: Over a tenth of the losses are not finite (the weights are broken), or a head
            knows other labels.
        ConfigError: By generation, two labels could not be told apart in a text, or one is empty.
    """
    if loaded.labels is not None:
        return _predict_by_head(loaded, prompts, list(label_answers), batch_size, progress)
    if classify_by == "generation":
        return _predict_by_text(
            loaded, prompts, list(label_answers), max_new_tokens, batch_size, progress
        )
    return _predict_by_likelihood(loaded, prompts, label_answers, batch_size, progress)


def _predict_by_text(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    labels: list[str],
    max_new_tokens: int,
    batch_size: int,
    progress: Progress | None,
) -> Predictions:
    from retune.inference.generation import write_answers

    check_labels(labels)  # before the model writes for minutes
    answers = write_answers(
        loaded, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size, progress=progress
    )
    texts = [answer.text for answer in answers]
    readings = [None if text is None else read_label(text, labels) for text in texts]
    return Predictions(
        predictions=[reading and reading.label for reading in readings],
        probabilities=None,
        texts=texts,
        unscored_reasons=[answer.unscored_reason for answer in answers],
        unread_reasons=[reading and reading.reason for reading in readings],
        answers=answers,
    )


def _predict_by_head(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    labels: list[str],
    batch_size: int,
    progress: Progress | None,
) -> Predictions:
    from retune.inference.generation import split_off_unfit
    from retune.inference.head_predictions import predict_by_head
    from retune.inference.latency import BatchTimes
    from retune.inference.token_losses import context_limit

    # It writes nothing, so that a prompt may fill the context.
    unasked, places = split_off_unfit(prompts, context_limit(loaded.model), 0)
    asked = [prompts[at] for at in places]
    times = BatchTimes(places)
    found = predict_by_head(
        loaded, asked, labels, batch_size=batch_size, progress=progress, clock=times
    )
    return _put_back(found, places, unasked, labels, times)


def _predict_by_likelihood(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    label_answers: Mapping[str, Sequence[int]],
    batch_size: int,
    progress: Progress | None,
) -> Predictions:
    from retune.inference.generation import split_off_unfit
    from retune.inference.latency import BatchTimes
    from retune.inference.text_losses import answer_losses
    from retune.inference.token_losses import context_limit, most_broken

    # Beside the longest answer, so that whether a row is asked does not depend on the label.
    longest = max(map(len, label_answers.values()))
    unasked, places = split_off_unfit(prompts, context_limit(loaded.model), longest)
    times = BatchTimes(places, parts=len(label_answers))
    losses = answer_losses(
        loaded.model,
        [(prompts[at], answer) for at in places for answer in label_answers.values()],
        batch_size=batch_size,
        pad_id=int(loaded.tokenizer.pad_token_id),
        progress=progress,
        may_break=most_broken(len(places)) * len(label_answers),
        clock=times,
    )
    nats = np.array([loss.nll_sum_nats for loss in losses]).reshape(len(places), len(label_answers))
    unasked, places, nats = _set_broken_aside(unasked, places, nats)
    found = predict_by_likelihood(-nats, list(label_answers))
    return _put_back(found, places, unasked, list(label_answers), times)


def _set_broken_aside(
    unasked: list[Answer], places: list[int], nats: Floats
) -> tuple[list[Answer], list[int], Floats]:
    """Give the rows a reason for which the likelihood of a label is no number."""
    from retune.inference.generation import Answer
    from retune.inference.token_losses import LOSS_NOT_FINITE, most_broken

    whole = [bool(np.isfinite(row).all()) for row in nats]
    broken = whole.count(False)
    if broken > most_broken(len(places)):
        raise ScoringError(
            f"the likelihood of a label is not finite on {broken} of {len(places)} rows; the "
            "weights hold NaN or infinity."
        )
    marked = list(unasked)
    for at, is_whole in zip(places, whole, strict=True):
        if not is_whole:
            marked[at] = Answer(None, unscored_reason=LOSS_NOT_FINITE)
    return marked, [at for at, keep in zip(places, whole, strict=True) if keep], nats[whole]


def _put_back(
    found: LikelihoodPredictions,
    places: list[int],
    unasked: list[Answer],
    labels: list[str],
    times: BatchTimes,
) -> Predictions:
    predictions: list[str | None] = [None] * len(unasked)
    probabilities = np.full((len(unasked), len(labels)), np.nan)
    probabilities[places] = found.probabilities
    answers = list(unasked)
    for at, prediction in zip(places, found.predictions, strict=True):
        predictions[at] = prediction
        # Where two classes are equally likely there is no label, and it took as long.
        answers[at] = times.stamp(at, replace(unasked[at], text=prediction or ""))
    return Predictions(
        predictions=predictions,
        probabilities=probabilities,
        texts=list(predictions),
        unscored_reasons=[answer.unscored_reason for answer in unasked],
        answers=answers,
    )
