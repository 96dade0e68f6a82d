"""Supervised fine-tuning with TRL: loss on answers, best weights, exact resume."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import trl.trainer.utils
from datasets import Dataset
from transformers import set_seed
from trl import SFTConfig, SFTTrainer
from trl.kernels.chunked_logprob import _use_triton

from retune.data.tables import ROWS_AT_ONCE, iterate_rows
from retune.data.tokenizers import load_tokenizer
from retune.errors import DataError
from retune.modeling.devices import choose_compute_dtype, choose_device
from retune.modeling.loading import SLOT
from retune.recipe.sections import TrainingConfig
from retune.records import AdapterRef, SideRef
from retune.stage import Workdir
from retune.training.course import CHECKPOINTS, run_course
from retune.training.packing import (
    LENGTHS,
    PLACES,
    PackedCollator,
    attention_of,
    pack_rows,
    refuse_leaks,
)
from retune.training.planning import note_estimate
from retune.training.refusing import refuse_unfit_training
from retune.training.stages import TrainInputs, TrainSettings
from retune.training.steps import count_steps
from retune.training.task_scores import make_task_score
from retune.training.trained import Trained, learn_in_float32, prepare_model

# The tokenizer's threads and the data workers' forks do not go together.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

_ORDERS = {"random": "random", "as_given": "sequential", "by_length": "group_by_length"}
_CHECKED_ROWS = 8  # for the loss mask, before training starts
_LABELLED = pa.schema([("input_ids", pa.list_(pa.int64())), ("labels", pa.list_(pa.int64()))])


def train_adapter(inputs: TrainInputs, settings: TrainSettings, work: Workdir) -> AdapterRef:
    """Train an adapter or all weights, from the latest sealed checkpoint where there is one.

    Args:
        inputs: Chats and model.
        settings: Method and training settings.
        work: Checkpoints go to its scratch folder, what was trained to its artifact folder.

    Returns:
        What was trained and how its training went.

    Raises:
        ConfigError: The method does not fit the model.
        StageError: The loss is not finite, or training ended before its planned steps.
        Interrupted: A stop was asked for; a checkpoint was sealed first.
    """
    SLOT.clear()
    set_seed(settings.seed)
    training = settings.training
    refuse_unfit_training(training, settings.quantization, inputs.validation)
    trained = prepare_model(inputs, settings)
    if inputs.start is not None:
        trained.load(inputs.start.path)
    task_score = make_task_score(
        trained.model,
        settings=settings,
        validation=inputs.validation,
        tokenizer=inputs.base.folder,
    )
    trainer = _build_trainer(trained, inputs, settings, work)
    adapter = run_course(
        trainer,
        trained,
        kind=settings.method.kind,
        training=training,
        seed=settings.seed,
        work=work,
        task_score=task_score,
    )
    note_estimate(inputs, settings, work)
    return adapter.model_copy(
        update={"started_from": inputs.start.digest if inputs.start else None}
    )


def as_sft(
    training: TrainingConfig,
    *,
    output: Path,
    total_steps: int,
    seed: int,
    compute_dtype: torch.dtype,
    on_cpu: bool,
) -> SFTConfig:
    """Return TRL's form of the training settings.

    Args:
        training: The recipe's settings.
        output: Folder of the checkpoints.
        total_steps: Planned optimizer steps.
        seed: Seeds order, dropout and noise.
        compute_dtype: bfloat16 or float16 turn autocast on.
        on_cpu: Whether an accelerator must not be used.

    Returns:
        A configuration that reports nowhere and never cuts a row.
    """
    every = max(1, math.ceil(total_steps / max(1, training.evaluations)))
    return SFTConfig(
        output_dir=str(output),
        max_steps=total_steps,
        per_device_train_batch_size=training.rows_per_pass,
        per_device_eval_batch_size=training.rows_per_pass * 2,
        gradient_accumulation_steps=training.gradient_accumulation,
        learning_rate=training.learning_rate,
        warmup_steps=training.warmup_steps,
        **_schedule(training),
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_gradient_norm,
        optim=training.optimizer,
        adam_beta1=training.adam_beta1,
        adam_beta2=training.adam_beta2,
        adam_epsilon=training.adam_epsilon,
        train_sampling_strategy=_ORDERS[training.row_order],
        # On a device without it, transformers takes neither true nor false.
        tf32=None if on_cpu else training.tf32,
        torch_compile=training.torch_compile,
        gradient_checkpointing=training.gradient_checkpointing,
        neftune_noise_alpha=training.neftune_alpha,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        eval_strategy="steps" if training.evaluations else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=training.checkpoint_every_steps or every,
        save_total_limit=2,
        save_only_model=False,
        logging_steps=training.runtime.log_every_steps,
        logging_nan_inf_filter=False,
        dataloader_num_workers=training.runtime.data_workers,
        bf16=compute_dtype == torch.bfloat16,
        fp16=compute_dtype == torch.float16,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        seed=seed,
        report_to="none",
        disable_tqdm=True,
    )


def _schedule(training: TrainingConfig) -> dict[str, Any]:
    if training.schedule == "constant":
        # transformers' own constant one leaves the warm-up out.
        return {"lr_scheduler_type": "constant_with_warmup"}
    if training.min_learning_rate_ratio:
        least = {"min_lr_rate": training.min_learning_rate_ratio}
        return {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": least}
    return {"lr_scheduler_type": training.schedule}


def project_answers_only() -> None:
    """Let TRL project to the vocabulary only where there is a label, on a CPU as on a GPU.

    TRL does so where Triton runs, and elsewhere scores every position, so that shapes stay the same
    for accelerators that compile. A CPU compiles nothing, and most positions are prompt.
    """
    trl.trainer.utils._use_triton = lambda device: device.type == "cpu" or _use_triton(device)


def _build_trainer(
    trained: Trained, inputs: TrainInputs, settings: TrainSettings, work: Workdir
) -> SFTTrainer:
    device, training = choose_device(), settings.training
    tokenizer = load_tokenizer(inputs.base.folder)
    rows, collator = _dataset(inputs.train), None
    if training.packing:
        collator = PackedCollator(int(tokenizer.pad_token_id), attention_of(trained.model))
        refuse_leaks(trained.model, rows, collator)
        rows = pack_rows(rows, settings.max_length)
    project_answers_only()
    trainer = SFTTrainer(
        model=trained.model,
        args=as_sft(
            settings.training,
            output=work.scratch / CHECKPOINTS,
            total_steps=count_steps(len(rows), settings.training),
            seed=settings.seed,
            compute_dtype=choose_compute_dtype(settings.compute_dtype, device),
            on_cpu=device.type == "cpu",
        ),
        train_dataset=rows,
        eval_dataset=_dataset(inputs.validation, limit=settings.training.evaluation_rows),
        data_collator=collator,
        processing_class=tokenizer,
    )
    # TRL turns the adapters of a quantized model into bfloat16, and a resume loads them in float32:
    # the two would learn different weights. In float32 no small update is lost either.
    learn_in_float32(trained.model)
    check_loss_mask(trainer, inputs.train)
    return trainer


def _dataset(side: SideRef, limit: int | None = None) -> Dataset:
    # From columns in memory: no Python lists of all rows, and nothing in datasets' cache, which
    # serves old rows for a file that keeps its size and time.
    columns = ["prompt_ids", "answer_ids", "loss_mask"]
    rows = islice(iterate_rows(side.folder / "rows.parquet", columns), limit)
    pieces: list[pa.Table] = []
    while piece := list(islice(rows, ROWS_AT_ONCE)):
        labelled = [with_labels(*(row[name] for name in columns)) for row in piece]
        pieces.append(pa.Table.from_pylist(labelled, schema=_LABELLED))
    return Dataset(pa.concat_tables(pieces))


def with_labels(
    prompt_ids: Sequence[int], answer_ids: Sequence[int], loss_mask: Sequence[bool] | None = None
) -> dict[str, list[int]]:
    """Return the columns that TRL trains on.

    Args:
        prompt_ids: What is read.
        answer_ids: What is to be written.
        loss_mask: Which tokens of both carry loss; None for the answer alone.

    Returns:
        `input_ids`, and `labels` with -100 where no loss falls.
    """
    ids = [*prompt_ids, *answer_ids]
    if loss_mask is None:
        return {"input_ids": ids, "labels": [-100] * len(prompt_ids) + list(answer_ids)}
    pairs = zip(ids, loss_mask, strict=True)
    return {"input_ids": ids, "labels": [token if learned else -100 for token, learned in pairs]}


def check_loss_mask(trainer: SFTTrainer, side: SideRef) -> None:
    """Collate real rows as the trainer does, and see that loss falls where the mask says.

    Args:
        trainer: A built trainer.
        side: The chats it trains on, in the order of its dataset.

    Raises:
        DataError: The tokens that carry loss differ from a row's target.
    """
    examples = [
        trainer.train_dataset[at] for at in range(min(_CHECKED_ROWS, len(trainer.train_dataset)))
    ]
    # Flash attention takes all sequences of a batch as one: each is looked at by itself.
    labels = [trainer.data_collator([example])["labels"][0] for example in examples]
    places = [example.get(PLACES, [at]) for at, example in enumerate(examples)]
    wanted = {at for group in places for at in group}
    rows = {
        at: row
        for at, row in enumerate(
            islice(iterate_rows(side.folder / "rows.parquet"), max(wanted) + 1)
        )
        if at in wanted
    }
    for found, group in zip(labels, places, strict=True):
        learned = found[found != -100].tolist()
        target = [
            token for at in group for token in _target(rows[at], packed=LENGTHS in examples[0])
        ]
        if learned != target:
            raise DataError(
                f"row {rows[group[0]]['row_id']}: loss would fall on {len(learned)} tokens that "
                f"are not its target of {len(target)} tokens. Training was not started."
            )


def _target(row: dict[str, Any], *, packed: bool) -> list[int]:
    if row["loss_mask"] is None:
        return list(row["answer_ids"])
    pairs = list(zip([*row["prompt_ids"], *row["answer_ids"]], row["loss_mask"], strict=True))
    # In a packed sequence the first token of a row has nothing to be predicted from.
    return [token for token, on in pairs[1 if packed else 0 :] if on]
