"""Training a classification head: prompts in, the row's label out, weighed by class.

Loss: the cross-entropy of each row's label in nats, times its class's weight, divided by the rows
of the optimizer step. Not by the sum of weights, so that how a step's rows are parted into passes
changes nothing; balanced weights are 1 on average over the training rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset
from torch.nn import functional
from transformers import Trainer, TrainingArguments, set_seed

from retune.data.chats.tokenizers import load_tokenizer
from retune.data.tables import iterate_rows
from retune.errors import DataError
from retune.inference.batching import pad_sequences
from retune.inference.head_predictions import class_figures
from retune.inference.loaded_models import SLOT
from retune.model_records import AdapterRef
from retune.modeling.placement import planned_heap
from retune.preflight.steps import count_steps
from retune.preflight.training_rows import refuse_unfit_training
from retune.recipe.sections import TrainingConfig
from retune.records import SideRef
from retune.scoring.classification.metrics import compute_figures
from retune.spine.stage import Workdir
from retune.training.class_weights import count_labels, weigh_classes
from retune.training.loop import run_training
from retune.training.non_finite import name_chat
from retune.training.stages import ClassifierInputs, ClassifierSettings
from retune.training.task_scores import measuring_mode, spread_rows
from retune.training.trainable import Trainable, learn_in_float32
from retune.training.trainable_heads import prepare_classifier
from retune.training.trainer_arguments import common_arguments, row_arguments

Batch = dict[str, torch.Tensor]


def train_classifier(
    inputs: ClassifierInputs, settings: ClassifierSettings, work: Workdir
) -> AdapterRef:
    """Train a head, and what the method says, from the latest sealed checkpoint if there is one.

    Args:
        inputs: Rows with labels, and the model.
        settings: Method, head and training settings.
        work: Checkpoints go to its scratch folder, what was trained to its artifact folder.

    Returns:
        What was trained and how its training went.

    Raises:
        ConfigError: The method or the weights do not fit.
        DataError: No head can be learned from these rows.
        StageError: The loss is not finite, or training ended before its planned steps.
        Interrupted: A stop was asked for; a checkpoint was sealed first.
    """
    labels = sorted(inputs.labels)
    refuse_unfit_training(settings.training, settings.quantization, inputs.validation)
    weights = weigh_classes(settings.head.class_weights, labels, count_labels(inputs.train))
    SLOT.clear()
    set_seed(settings.seed)
    trained = prepare_classifier(inputs, settings)
    trainer = _build_head_trainer(trained, inputs, settings, work, weights)
    with planned_heap(work.context, "train_adapter"):
        return run_training(
            trainer,
            trained,
            kind=settings.method.kind,
            training=settings.training,
            seed=settings.seed,
            work=work,
            task_score=make_class_score(trainer, inputs.validation, labels, settings.training),
            name_row=partial(name_chat, inputs.train),
        )


def make_class_score(
    trainer: Trainer, validation: SideRef, labels: Sequence[str], training: TrainingConfig
) -> Callable[[], float] | None:
    """Make the function that scores a head in training, at each evaluation.

    Args:
        trainer: From this module.
        validation: Rows to score on.
        labels: Names of all classes, in the order of the head's figures.
        training: What is watched, and on how many rows.

    Returns:
        A function without arguments; None where the loss is watched.

    Raises:
        ConfigError: No validation row has a label.
    """
    if training.watch == "loss":
        return None
    # Spread over the side: rows may be sorted by their label.
    rows = spread_rows(validation, "label", training)
    return partial(score_validation, trainer, rows, labels, figure=training.watch)


def _build_head_trainer(
    trained: Trainable,
    inputs: ClassifierInputs,
    settings: ClassifierSettings,
    work: Workdir,
    weights: Mapping[str, float] | None,
) -> Trainer:
    training, labels = settings.training, sorted(inputs.labels)
    rows = load_labelled(inputs.train, labels)
    tokenizer = load_tokenizer(inputs.base.folder)
    trainer = Trainer(
        model=trained.model,
        args=TrainingArguments(
            **common_arguments(training, settings, work, count_steps(len(rows), training)),
            **row_arguments(training),
            label_names=["labels"],
            remove_unused_columns=False,
        ),
        data_collator=partial(collate, pad_token_id=int(tokenizer.pad_token_id)),
        train_dataset=rows,
        eval_dataset=load_labelled(inputs.validation, labels, limit=training.evaluation_rows),
        processing_class=tokenizer,
        compute_loss_func=class_loss([weights[name] for name in labels] if weights else None),
    )
    # The loss is computed here; the model need not know how many rows a step has.
    trainer.model_accepts_loss_kwargs = False
    learn_in_float32(trained.model)
    return trainer


def load_labelled(side: SideRef, labels: Sequence[str], limit: int | None = None) -> Dataset:
    """Read the prompts of a side, and each row's label as its place among the labels.

    Args:
        side: Rows with labels.
        labels: Names of all classes, in the order of the head's figures.
        limit: Most rows, the first ones.

    Returns:
        The columns `input_ids` and `labels`.

    Raises:
        DataError: A row has no label, or none of these.
    """
    places = {label: place for place, label in enumerate(labels)}
    columns = ["row_id", "prompt_ids", "label"]
    found: dict[str, list[Any]] = {"input_ids": [], "labels": []}
    for row in islice(iterate_rows(side.folder / "rows.parquet", columns), limit):
        if row["label"] not in places:
            raise DataError(
                f"head: row {row['row_id']} has the label {row['label']!r}; expected one of "
                f"{', '.join(labels)}. Remove the row, or name its label under data.labels."
            )
        found["input_ids"].append(row["prompt_ids"])
        found["labels"].append(places[row["label"]])
    return Dataset.from_dict(found)


def collate(rows: Sequence[Mapping[str, Any]], *, pad_token_id: int) -> Batch:
    """Put rows into one batch.

    Args:
        rows: With `input_ids` and `labels`.
        pad_token_id: Any id; the mask says what is padding.

    Returns:
        Ids and mask, padded on the right, and labels ``(rows,)``.
    """
    ids, mask = pad_sequences([row["input_ids"] for row in rows], pad_token_id, "right")
    labels = torch.tensor([row["labels"] for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def class_loss(weights: Sequence[float] | None) -> Callable[..., torch.Tensor]:
    """Return the loss as the Trainer calls it.

    Args:
        weights: By class; None where all count alike.

    Returns:
        A function of the model's output, the labels and the rows of the optimizer step.
    """
    given = None if weights is None else torch.tensor(list(weights), dtype=torch.float32)

    def loss(
        outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        logits = outputs["logits"].float()
        weight = None if given is None else given.to(logits.device)
        total = functional.cross_entropy(logits, labels, weight=weight, reduction="sum")
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    return loss


def score_validation(
    trainer: Trainer, rows: Sequence[Mapping[str, Any]], labels: Sequence[str], *, figure: str
) -> float:
    """Score the model in training.

    Args:
        trainer: From this module.
        rows: Validation rows with labels.
        labels: Names of all classes, in the order of the head's figures.
        figure: ``macro_f1`` or ``accuracy``.

    Returns:
        The figure; higher is better.
    """
    model = cast(torch.nn.Module, trainer.model)
    with measuring_mode(model):
        figures = class_figures(
            model,
            [row["prompt_ids"] for row in rows],
            batch_size=trainer.args.per_device_eval_batch_size,
            pad_id=int(cast(Any, trainer.processing_class).pad_token_id),
        )
    gold = np.array([labels.index(row["label"]) for row in rows])
    found = compute_figures(gold, figures.argmax(axis=1), len(labels))[figure]
    return float(found or 0.0)
