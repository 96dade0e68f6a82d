"""Supervised fine-tuning with TRL: loss on answers, best weights, exact resume."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa
from datasets import Dataset
from transformers import set_seed
from trl import SFTConfig, SFTTrainer

from retune.data.chats.tokenizers import load_tokenizer
from retune.data.tables import ROWS_AT_ONCE, iterate_rows
from retune.errors import DataError
from retune.inference.loaded_models import SLOT
from retune.model_records import AdapterRef
from retune.modeling.placement import planned_heap
from retune.preflight.steps import count_steps
from retune.preflight.training_rows import refuse_unfit_training
from retune.records import SideRef
from retune.spine.stage import Workdir
from retune.training.loop import run_training
from retune.training.non_finite import name_chat
from retune.training.packing import (
    LENGTHS,
    PLACES,
    PackedCollator,
    attention_of,
    pack_rows,
    refuse_leaks,
)
from retune.training.stages import TrainInputs, TrainSettings
from retune.training.task_scores import make_task_score
from retune.training.trainable import Trainable, learn_in_float32, prepare_model
from retune.training.trainer_arguments import common_arguments, project_answers_only, row_arguments

# The tokenizer's threads and the data workers' forks do not go together.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

_CHECKED_ROWS = 8  # for the loss mask, before training starts
_LABELLED = pa.schema([("input_ids", pa.list_(pa.int64())), ("labels", pa.list_(pa.int64()))])


class ShardedConfig(SFTConfig):
    """Arguments of a training whose model is parted, and goes to its device block by block."""

    @property
    def place_model_on_device(self) -> bool | None:
        """Leave the model where it is, unless it stays whole."""
        return False if self.world_size > 1 else None


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
    trainer = _build_sft_trainer(trained, inputs, settings, work)
    with planned_heap(work.context, "train_adapter"):
        adapter = run_training(
            trainer,
            trained,
            kind=settings.method.kind,
            training=training,
            seed=settings.seed,
            work=work,
            task_score=task_score,
            name_row=partial(name_chat, inputs.train),
        )
    return adapter.model_copy(
        update={"started_from": inputs.start.digest if inputs.start else None}
    )


def _build_sft_trainer(
    trained: Trainable, inputs: TrainInputs, settings: TrainSettings, work: Workdir
) -> SFTTrainer:
    training = settings.training
    tokenizer = load_tokenizer(inputs.base.folder)
    rows, collator = _dataset(inputs.train), None
    if training.packing:
        collator = PackedCollator(int(tokenizer.pad_token_id), attention_of(trained.model))
        refuse_leaks(trained.model, rows, collator)
        rows = pack_rows(rows, settings.max_length)
    project_answers_only()
    trainer = SFTTrainer(
        model=trained.model,
        args=(ShardedConfig if training.sharding == "fsdp" else SFTConfig)(
            **common_arguments(training, settings, work, count_steps(len(rows), training)),
            **row_arguments(training),
            # Rows are tokens already, and none is cut.
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=rows,
        eval_dataset=_dataset(inputs.validation, limit=training.evaluation_rows),
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
