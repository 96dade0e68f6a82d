"""Stage `train_preferences`: direct preference optimization (DPO) with TRL.

Per pair the loss is ``-log sigmoid(beta * (d_chosen - d_rejected))``, where ``d`` is the
log-probability of an answer under the model in training minus that under the reference
(https://arxiv.org/abs/2305.18290). The reference is the model as this stage found it, with what was
trained before; its log-probabilities are computed once, before the first step, so that no second
model stays in memory. Before the first step both are equal, and the loss is ln 2 per pair.

Figures, on the pairs held back: `preference_accuracy`, the share of pairs whose chosen answer is
the likelier one (sum of log-probabilities, end token included; a longer answer is less likely by
itself), and the same `_before`; `reward_accuracy`, the share whose chosen answer gained more than
the other one; `reward_margin`, the mean of ``beta * (d_chosen - d_rejected)``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa
from datasets import Dataset
from transformers import PreTrainedModel, set_seed
from trl import DPOConfig, DPOTrainer

from retune.data.chats.pairs import Row, read_pairs
from retune.data.chats.tokenizers import Tokenizer, load_tokenizer
from retune.inference.loaded_models import SLOT
from retune.inference.token_losses import score_tokens
from retune.model_records import AdapterRef
from retune.modeling.placement import planned_heap
from retune.preflight.steps import count_steps
from retune.recipe.sections import TrainingConfig
from retune.records import LOG_FOLDER
from retune.spine.stage import Workdir
from retune.training.continuing import (
    REFERENCE,
    RetrainedModel,
    continue_training,
    remember_weights,
    restore_weights,
    settings_after_sft,
)
from retune.training.loop import run_training
from retune.training.stages import PreferenceInputs, PreferenceSettings
from retune.training.trainer_arguments import common_arguments, project_answers_only

_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
_IDS = pa.schema([(name, pa.list_(pa.int64())) for name in _COLUMNS])

LogProbs = list[tuple[float, float]]
"""Log-probabilities in nats of each pair's chosen and rejected answer."""


class PairTrainer(DPOTrainer):
    """TRL's trainer on pairs that are token ids already."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        # TRL's own would render and tokenize anew, and cut what is over its length limit.
        return dataset


def train_preferences(
    inputs: PreferenceInputs, settings: PreferenceSettings, work: Workdir
) -> AdapterRef:
    """Train what was trained before to prefer the chosen answers.

    Args:
        inputs: Pairs, what was trained before, and the model under it.
        settings: Method, training settings, and those of the preferences.
        work: Checkpoints go to its scratch folder, what was trained to its artifact folder.

    Returns:
        What was trained, of the same kind as before, with the figures of this training.

    Raises:
        ConfigError: The method cannot be trained further.
        StageError: The loss is not finite, or training ended before its planned steps.
        Interrupted: A stop was asked for; a checkpoint was sealed first.
    """
    SLOT.clear()
    set_seed(settings.seed)
    tokenizer = load_tokenizer(inputs.base.folder)
    held_back = read_pairs(inputs.pairs, validation=True)
    learned = read_pairs(inputs.pairs, validation=False)
    continued = continue_training(inputs, inputs.adapter, settings)
    training = _settings_after_sft(settings, inputs)
    size = training.rows_per_pass
    before = log_probs(continued, held_back, tokenizer, batch_size=size)
    trainer = _build_dpo_trainer(continued, inputs, settings, training, work)
    with planned_heap(work.context, "train_preferences"):
        adapter = run_training(
            trainer,
            continued,
            kind=settings.method.kind,
            training=training,
            seed=settings.seed,
            work=work,
            name_row=lambda place: f"the pair of line {learned[place]['line']}",
        )
    # The best weights, which need not be those of the last step.
    continued.load(work.artifact)
    after = log_probs(continued, held_back, tokenizer, batch_size=size)
    _write_pairs(work, held_back, before, after)
    figures = measure_preferences(before, after, settings.beta)
    counts = {"pairs": inputs.pairs.train, "pairs_held_back": inputs.pairs.validation}
    return adapter.model_copy(update={"figures": {**counts, **figures}})


def _settings_after_sft(settings: PreferenceSettings, inputs: PreferenceInputs) -> TrainingConfig:
    return settings_after_sft(
        settings.training,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        examples=inputs.pairs.train,
        max_steps=settings.max_steps,
        epochs=settings.epochs,
        evaluations=bool(inputs.pairs.validation),
    )


def _build_dpo_trainer(
    continued: RetrainedModel,
    inputs: PreferenceInputs,
    settings: PreferenceSettings,
    training: TrainingConfig,
    work: Workdir,
) -> PairTrainer:
    """Build the trainer; at this moment the model is the reference, asked about every pair."""
    project_answers_only()
    as_given = remember_weights(continued.model)
    trainer = PairTrainer(
        model=continued.model,
        args=DPOConfig(
            **common_arguments(training, settings, work, count_steps(inputs.pairs.train, training)),
            beta=settings.beta,
            loss_type=[settings.loss],
            max_length=None,
            pad_to_multiple_of=None,
            precompute_ref_log_probs=True,
        ),
        train_dataset=_dataset(read_pairs(inputs.pairs, validation=False)),
        eval_dataset=_dataset(read_pairs(inputs.pairs, validation=True))
        if training.evaluations
        else None,
        processing_class=load_tokenizer(inputs.base.folder),
    )
    if REFERENCE in getattr(continued.model, "peft_config", {}):
        # TRL computed the reference with this copy, and needs it no more.
        continued.model.delete_adapter(REFERENCE)
    restore_weights(continued.model, as_given)
    return trainer


def _dataset(rows: Sequence[Row]) -> Dataset:
    columns = [{name: row[name] for name in _COLUMNS} for row in rows]
    return Dataset(pa.Table.from_pylist(columns, schema=_IDS))


def log_probs(
    continued: RetrainedModel, rows: Sequence[Row], tokenizer: Tokenizer, *, batch_size: int
) -> LogProbs:
    """Return how likely a model finds both answers of each pair.

    Args:
        continued: The model.
        rows: Of `pairs.parquet`.
        tokenizer: For the padding.
        batch_size: Changes no figure.

    Returns:
        One entry per pair.
    """
    if not rows:
        return []
    answers = [
        (row["prompt_ids"], row[name]) for row in rows for name in ("chosen_ids", "rejected_ids")
    ]
    model = cast(PreTrainedModel, continued.model)
    was_training = model.training
    model.eval()
    losses = score_tokens(
        model, answers, batch_size=2 * batch_size, pad_id=int(tokenizer.pad_token_id)
    )
    model.train(was_training)
    sums = [-sum(each) for each in losses]
    return list(zip(sums[::2], sums[1::2], strict=True))


def measure_preferences(before: LogProbs, after: LogProbs, beta: float) -> dict[str, float]:
    """Return the figures of the pairs held back; none where there are no such pairs.

    Args:
        before: Under the model as it was.
        after: Under the trained one.
        beta: Scale of the margin.

    Returns:
        Figures by name; see above.
    """
    if not after:
        return {}
    margins = [
        beta * ((now[0] - then[0]) - (now[1] - then[1]))
        for then, now in zip(before, after, strict=True)
    ]
    count = len(after)
    return {
        "preference_accuracy_before": sum(chosen > other for chosen, other in before) / count,
        "preference_accuracy": sum(chosen > other for chosen, other in after) / count,
        "reward_accuracy": sum(margin > 0 for margin in margins) / count,
        "reward_margin": sum(margins) / count,
    }


def _write_pairs(work: Workdir, rows: Sequence[Row], before: LogProbs, after: LogProbs) -> None:
    names = ("chosen_before", "rejected_before", "chosen", "rejected")
    with open(work.artifact / LOG_FOLDER / "pairs.jsonl", "w", encoding="utf-8") as file:
        for row, then, now in zip(rows, before, after, strict=True):
            found = dict(zip(names, (*then, *now), strict=True))
            file.write(json.dumps({"line": row["line"], **found}) + "\n")
