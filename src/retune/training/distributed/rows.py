"""Which rows a rank trains on and measures: its part of what one process would take, in its order.

A pass of one process over ``rows_per_pass`` rows becomes one pass of every rank, over every
``count``-th of those rows. So each step is made of the same rows as on one device, the last one of
an epoch included, which accelerate's own sampler would fill up with rows of the beginning.
A rank for which nothing is left there is given a filler, which adds nothing to loss or gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Sized
from functools import partial
from typing import Any, cast

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, SequentialSampler
from transformers import Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler, get_length_grouped_indices
from transformers.trainer_utils import EvalLoopOutput

from retune.training.distributed.ranks import Ranks

FILLER = -1
"""Place of the row that adds nothing."""
_IGNORED = -100


class LengthOrder(LengthGroupedSampler):
    """Rows of about one length together, in another order each epoch that a resume draws again.

    Args:
        batch_size: Rows that are kept together.
        lengths: Tokens of each row.
        seed: Of the order.
    """

    def __init__(self, batch_size: int, lengths: Sequence[int], seed: int) -> None:
        super().__init__(batch_size, lengths=list(lengths))
        self._seed, self._epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Yield the places of all rows."""
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        yield from get_length_grouped_indices(self.lengths, self.batch_size, generator=generator)


class RankBatches(Sampler[list[int]]):
    """A rank's part of each batch.

    Args:
        order: Yields the places of all rows, the same in every rank.
        rows_per_batch: Rows of all ranks together.
        ranks: Which part.
    """

    def __init__(self, order: Sampler[int], rows_per_batch: int, ranks: Ranks) -> None:
        self._order, self._rows, self._ranks = order, rows_per_batch, ranks

    @property
    def batch_sampler(self) -> RankBatches:
        """Itself: the Trainer tells the epoch to what a sampler of batches holds."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        if hasattr(self._order, "set_epoch"):
            self._order.set_epoch(epoch)

    def __len__(self) -> int:
        """Return the number of batches, the same in every rank."""
        order: Any = self._order
        return math.ceil(len(order) / self._rows)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this rank's places of each batch; a filler where none is left for it."""
        batch: list[int] = []
        for place in self._order:
            batch.append(place)
            if len(batch) == self._rows:
                yield self._part(batch)
                batch = []
        if batch:
            yield self._part(batch)

    def _part(self, batch: list[int]) -> list[int]:
        return batch[self._ranks.rank :: self._ranks.count] or [FILLER]


class FilledRows(Dataset[dict[str, Any]]):
    """Rows, and the one that adds nothing.

    Args:
        rows: The trainer's dataset.
    """

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __len__(self) -> int:
        """Return the number of real rows."""
        return len(self._rows)

    def __getitem__(self, place: int) -> dict[str, Any]:
        """Return a row, or the filler."""
        row = dict(self._rows[max(place, 0)])
        if place != FILLER:
            return row
        labels = row["labels"]
        ignored = [_IGNORED] * len(labels) if isinstance(labels, Sized) else _IGNORED
        return {**row, "labels": ignored}


def load_training_rows(trainer: Trainer, ranks: Ranks, rows_per_pass: int) -> DataLoader[Any]:
    """Return what a rank trains on.

    Args:
        trainer: Built; its arguments name the order.
        ranks: Which part.
        rows_per_pass: Rows of all ranks in one pass.

    Returns:
        Batches in the order of one process.
    """
    rows: Any = trainer.train_dataset
    rows = trainer._remove_unused_columns(rows, "training")
    return _load(
        trainer,
        FilledRows(rows),
        RankBatches(choose_order(trainer, rows, rows_per_pass), rows_per_pass, ranks),
        trainer.data_collator,
    )


def choose_order(trainer: Trainer, rows: Any, rows_per_pass: int) -> Sampler[int]:
    """Return the order of one process.

    Args:
        trainer: Says which, and the seed.
        rows: What is ordered.
        rows_per_pass: Rows of all ranks in one pass.
    """
    args = trainer.args
    if args.train_sampling_strategy == "group_by_length":
        return group_lengths(trainer, rows_per_pass * args.gradient_accumulation_steps, rows)
    if args.train_sampling_strategy == "sequential":
        return SequentialSampler(rows)
    # What accelerate makes of the Trainer's random order on one device.
    order: Sampler[int] = SeedableRandomSampler(rows, data_seed=args.seed)
    return order


def order_by_length(trainer: Trainer, rows_per_step: int) -> None:
    """Let a trainer of `row_order: by_length` draw the order that ranks draw, and a resume again.

    Its own comes from the random numbers of the moment, which differ from rank to rank.

    Args:
        trainer: Built.
        rows_per_step: Rows of one optimizer step.
    """
    patched: Any = trainer
    if trainer.args.train_sampling_strategy == "group_by_length":
        patched._get_train_sampler = partial(group_lengths, trainer, rows_per_step)


def group_lengths(trainer: Trainer, rows_per_step: int, rows: Any) -> LengthOrder:
    """Return the order `by_length`, of one process or several."""
    return LengthOrder(rows_per_step, [len(ids) for ids in rows["input_ids"]], trainer.args.seed)


def load_measured_rows(trainer: Trainer, ranks: Ranks, rows_per_batch: int) -> DataLoader[Any]:
    """Return the batches that a rank measures: every ``count``-th, whole, as one process has them.

    The Trainer's loss is the mean over batches of a mean over tokens, so that the same rows in
    other batches would be another figure. Ranks that are out of batches measure the first again.

    Args:
        trainer: Built.
        ranks: Which part.
        rows_per_batch: Rows of a batch of one process.

    Returns:
        As many batches in every rank.
    """
    rows: Any = trainer.eval_dataset
    rows = trainer._remove_unused_columns(rows, "evaluation")
    order: Sampler[int] = SequentialSampler(rows)
    if trainer.args.train_sampling_strategy == "group_by_length":
        order = group_lengths(trainer, rows_per_batch, rows)
    batches = [list(batch) for batch in BatchSampler(order, rows_per_batch, drop_last=False)]
    mine = batches[ranks.rank :: ranks.count]
    missing = len(range(0, len(batches), ranks.count)) - len(mine)
    return _load(trainer, rows, [*mine, *batches[:missing]], trainer.data_collator)


def _load(trainer: Trainer, rows: Any, batches: Any, collate: Any) -> DataLoader[Any]:
    return DataLoader(
        rows,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=trainer.args.dataloader_num_workers,
        pin_memory=trainer.args.dataloader_pin_memory,
    )


def measure_in_turns(
    dataloader: DataLoader[Any],
    *_: Any,
    metric_key_prefix: str = "eval",
    trainer: Trainer,
    ranks: Ranks,
    rows_per_batch: int,
    **__: Any,
) -> EvalLoopOutput:
    """Measure the held-out loss as one process does, each rank a part of its batches.

    Args:
        dataloader: From `load_measured_rows`.
        metric_key_prefix: Of the figure's name.
        trainer: Whose model is measured; called in place of its `evaluation_loop`, whose other
            arguments change nothing here.
        ranks: Which part this one has.
        rows_per_batch: Rows of a batch.

    Returns:
        The loss, the same in all ranks.
    """
    model, args = _evaluated_model(trainer), trainer.args
    rows = len(cast(Sized, dataloader.dataset))
    mine = range(ranks.rank, math.ceil(rows / rows_per_batch), ranks.count)
    losses: list[float] = []
    # A batch's mean is over its own tokens, whatever other ranks read at the same time.
    shared, args.average_tokens_across_devices = args.average_tokens_across_devices, False
    try:
        for batch in dataloader:
            loss, _, _ = trainer.prediction_step(model, batch, prediction_loss_only=True)
            losses.append(float(cast(torch.Tensor, loss)))
    finally:
        args.average_tokens_across_devices = shared
    # A rank that was out of batches measured one too many.
    found = ranks.gather(list(zip(mine, losses, strict=False)))
    total = math.fsum(
        loss * min(rows_per_batch, rows - place * rows_per_batch)
        for part in found
        for place, loss in part
    )
    return EvalLoopOutput(None, None, {f"{metric_key_prefix}_loss": total / rows}, rows)


def _evaluated_model(trainer: Trainer) -> torch.nn.Module:
    model = cast(torch.nn.Module, trainer.model)
    if not trainer.accelerator._models:
        # Before the first step, as the Trainer's own loop does: autocast is put around it.
        model = trainer.accelerator.prepare_model(model, evaluation_mode=True)
        # Marked as prepared, it would get nothing around it when it is trained, and each rank would
        # learn from its own rows alone, without an error.
        cast(Any, model)._is_accelerate_prepared = False
    model.eval()
    return model
