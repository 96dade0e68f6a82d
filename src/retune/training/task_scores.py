"""Scoring a model on its task while it is being trained, without changing what it learns."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import PreTrainedModel

from retune.data.chats.tokenizers import end_token_ids, load_tokenizer
from retune.data.tables import iterate_rows
from retune.errors import ConfigError, ScoringError
from retune.inference.generation import write_answers
from retune.inference.loaded_models import LoadedModel
from retune.recipe.sections import TrainingConfig
from retune.records import SideRef
from retune.scoring.classification.records import ClassificationRow
from retune.scoring.classification.score import score_classification
from retune.scoring.label_predictions import find_label_answers, predict_labels
from retune.scoring.sql.rows import read_sql_rows
from retune.scoring.sql.score import extract_sql, score_queries
from retune.sql.records import SqlLimits
from retune.training.stages import TrainSettings

Row = dict[str, Any]
_FEWEST_DRAWS = 1  # the interval of a watched figure is shown nowhere


def make_task_score(
    model: torch.nn.Module,
    *,
    settings: TrainSettings,
    validation: SideRef,
    tokenizer: Path,
) -> Callable[[], float] | None:
    """Make the function that scores a model that writes, at each evaluation.

    Args:
        model: In training.
        settings: What is watched, on how many rows, and how queries are scored.
        validation: Rows to score on.
        tokenizer: Folder of the model's tokenizer.

    Returns:
        A function without arguments; None where the loss is watched.

    Raises:
        ConfigError: The rows have nothing that the watched score could be measured on.
    """
    training = settings.training
    if training.watch == "loss":
        return None
    column, score = SCORERS[training.watch]
    rows = spread_rows(validation, column, training)
    found = load_tokenizer(tokenizer)
    loaded = LoadedModel(cast(PreTrainedModel, model), found, end_token_ids(found, tokenizer))
    return partial(
        _score_aside, model, partial(score, loaded, rows, validation, settings, training.watch)
    )


def spread_rows(side: SideRef, column: str, training: TrainingConfig) -> list[Row]:
    """Choose the rows that are scored: those that fit, evenly spread over the side.

    Args:
        side: Validation rows.
        column: What a row must have.
        training: What is watched, and on how many rows.

    Returns:
        At most `watch_rows` rows, the same each time.

    Raises:
        ConfigError: There is none.
    """
    rows = [row for row in iterate_rows(side.folder / "rows.parquet") if row[column] is not None]
    if not rows:
        needed = "name a database" if column == "db_id" else f"have a {column}"
        raise ConfigError(
            f"training.watch is {training.watch}, but none of the validation rows does {needed}. "
            "Write training.watch: loss, or raise split.validation_fraction."
        )
    count = min(len(rows), training.watch_rows)
    return [rows[place * len(rows) // count] for place in range(count)]


def _score_aside(model: torch.nn.Module, score: Callable[[], float]) -> float:
    with measuring_mode(model):
        return score()


@contextmanager
def measuring_mode(model: torch.nn.Module) -> Iterator[None]:
    """Let a model in training be measured, and leave modes and random numbers as they were.

    Args:
        model: Put into evaluation mode meanwhile.
    """
    training = [module for module in model.modules() if module.training]
    drawn, numbers = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        try:
            model.eval()
            yield
        finally:
            for module in training:
                module.training = True
            random.setstate(drawn)
            np.random.set_state(numbers)


def _score_labels(
    loaded: LoadedModel, rows: list[Row], _: SideRef, settings: TrainSettings, watched: str
) -> float:
    labels = sorted({row["label"] for row in rows})
    found = predict_labels(
        loaded,
        [row["prompt_ids"] for row in rows],
        find_label_answers(rows, labels, loaded),
        classify_by="likelihood",
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
    )
    scores = score_classification(
        [
            ClassificationRow(row_id=row["row_id"], gold=row["label"], unscored_reason=reason)
            for row, reason in zip(rows, found.unscored_reasons, strict=True)
        ],
        found.predictions,
        labels=labels,
        resamples=_FEWEST_DRAWS,
    )
    return _measured(scores.estimates[watched].value, watched, len(rows))


def _score_sql(
    loaded: LoadedModel, rows: list[Row], side: SideRef, settings: TrainSettings, watched: str
) -> float:
    answers = write_answers(
        loaded,
        [row["prompt_ids"] for row in rows],
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
    )
    asked = [at for at, answer in enumerate(answers) if answer.text is not None]
    if not asked:
        return _measured(None, watched, len(rows))
    scores = score_queries(
        read_sql_rows([rows[at] for at in asked], side),
        [extract_sql(answers[at].text or "") for at in asked],
        dialect=settings.sql_dialect,
        limits=SqlLimits(deadline_s=settings.sql_timeout_seconds),
    )
    name = watched.removeprefix("sql_")
    verdicts = [getattr(outcome, name) for outcome in scores.outcomes]
    right = [verdict for verdict in verdicts if verdict is not None]
    return _measured(sum(right) / len(right) if right else None, watched, len(rows))


def _measured(value: float | None, watched: str, rows: int) -> float:
    if value is None:
        raise ScoringError(
            f"{watched} could not be measured on any of the {rows} validation rows that are "
            "watched in training: their prompts or references cannot be scored. Write "
            "training.watch: loss, or look at the scores of the base model on the same rows."
        )
    return float(value)


SCORERS: dict[str, tuple[str, Callable[..., float]]] = {
    "sql_execution_match": ("db_id", _score_sql),
    "sql_exact_match": ("db_id", _score_sql),
    "macro_f1": ("label", _score_labels),
    "accuracy": ("label", _score_labels),
}
"""For each figure that may be watched, the column that a row must have, and what scores it."""
