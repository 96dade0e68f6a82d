"""A loss or gradient that is not a number: found before the optimizer takes a step on it.

The Trainer itself would take the step, log a loss of 0.0, and finish with weights that are NaN.
Here each pass notes its loss, without waiting for the device, and all of a step are looked at once,
with the gradients, before the optimizer is called. So the weights stay what they were: the training
stops, or leaves that step's rows out, and the checkpoint that it goes on from is a good one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby, islice, pairwise
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from retune.data.tables import iterate_rows
from retune.errors import StageError
from retune.recipe.sections import TrainingConfig
from retune.records import SideRef
from retune.training.callbacks import MetricsLog
from retune.training.distributed.ranks import Ranks
from retune.training.distributed.sharding import local_part
from retune.training.packing import LENGTHS, PLACES

_NAMED_ROWS = 8
"""Rows that a message names at most."""
_ALONE = Ranks()


class FiniteSteps(TrainerCallback):
    """Lets no optimizer step be taken on a loss or gradient that is not finite.

    Args:
        trainer: Whose passes are watched from now on.
        training: Whether such a step ends the training or is left out, and how many at most.
        log: Gets the steps that were left out, and knows those from before a resume.
        name_row: Names a row of the trainer's dataset by its place.
        ranks: All of them stop, or leave the same step out; the first one knows how many were.
    """

    def __init__(
        self,
        trainer: Trainer,
        training: TrainingConfig,
        log: MetricsLog,
        name_row: Callable[[int], str],
        ranks: Ranks = _ALONE,
    ) -> None:
        self._trainer, self._training = trainer, training
        self._log, self._name_row, self._ranks = log, name_row, ranks
        # Only the first rank's log outlives its process. Ranks that differ would not end together,
        # and those that go on would wait for the others without end.
        log.skipped = ranks.agree(lambda: log.skipped)
        self._passes: list[tuple[torch.Tensor, Any]] = []
        self._last: torch.Tensor | None = None
        watched: Any = trainer
        watched.training_step = partial(self._watch, trainer.training_step)

    def _watch(
        self, take: Callable[..., torch.Tensor], model: Any, inputs: Any, *given: Any, **named: Any
    ) -> torch.Tensor:
        loss = take(model, inputs, *given, **named)
        self._passes.append((loss, inputs))
        if self._training.on_non_finite == "stop":
            return loss
        # The curve of the loss goes on as if the pass had been like the one before.
        before = torch.zeros_like(loss) if self._last is None else self._last
        self._last = torch.where(torch.isfinite(loss), loss, before)
        return self._last

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Look at the losses and gradients of the step.

        Raises:
            StageError: One is NaN or infinite, and such steps are not left out, or too many were.
        """
        model: Any = self._trainer.model
        passes, self._passes = self._passes, []
        learned = [weight for weight in model.parameters() if weight.grad is not None]
        losses = torch.stack([loss.float() for loss, _ in passes])
        bad_loss = not bool(torch.isfinite(losses).all())
        # In float16 a gradient that overflows is the loss scale's business: it lowers the scale.
        bad_gradient = not args.fp16 and not _finite(learned)
        if not self._ranks.any(bad_loss or bad_gradient):
            return
        step = state.global_step + 1
        skipped = self._log.skipped + 1
        most = self._training.max_skipped_batches
        if self._training.on_non_finite == "stop" or skipped > most:
            raise StageError(self._explain(passes, losses, step, skipped - 1))
        self._log.skip(step)
        if not args.fp16:
            # An optimizer passes over weights without a gradient: they and its state stay.
            for weight in learned:
                weight.grad = None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Look at each held-out loss.

        Raises:
            StageError: It is NaN or infinite.
        """
        value = (logs or {}).get("eval_loss")
        if value is not None and not math.isfinite(float(value)):
            raise StageError(
                f"the held-out loss is {value} at step {state.global_step}. Lower "
                "training.learning_rate, or look for broken validation rows; the last good "
                "checkpoint is kept."
            )

    def _explain(
        self, passes: Sequence[tuple[torch.Tensor, Any]], losses: torch.Tensor, step: int, left: int
    ) -> str:
        finite = torch.isfinite(losses).tolist()
        guilty = [inputs for (_, inputs), good in zip(passes, finite, strict=True) if not good]
        # Where only a gradient is not finite, every pass of the step may be the cause.
        suspects = guilty or [inputs for _, inputs in passes]
        described = self._ranks.gather((bool(guilty), self._describe(suspects)))
        of_loss = any(found for found, _ in described)
        rows = [row for found, each in described if found or not of_loss for row in each]
        more = f", and {len(rows) - _NAMED_ROWS} more" if len(rows) > _NAMED_ROWS else ""
        what = "the loss" if of_loss else "the gradient"
        tried = f" {left} steps were left out before, as training.max_skipped_batches allows." * (
            left > 0
        )
        instead = (
            "raise training.max_skipped_batches"
            if self._training.on_non_finite == "skip_batch"
            else "write training.on_non_finite: skip_batch to leave such steps out"
        )
        return (
            f"{what} is not a number at step {step} of {self._trainer.args.max_steps}, which was "
            f"not taken; the last checkpoint is good and kept.{tried} Its rows: "
            f"{'; '.join(rows[:_NAMED_ROWS])}{more}. Mend or remove such rows, lower "
            "training.learning_rate or training.max_gradient_norm, compute in float32 "
            f"(quantization.compute_dtype), or {instead}; then run again."
        )

    def _describe(self, batches: Iterable[Any]) -> list[str]:
        found = [row for batch in batches for row in _rows_of(batch)]
        places = _find_places(self._trainer.train_dataset, [ids for _, ids in found])
        described = []
        for (place, ids), known in zip(found, places, strict=True):
            at = place if place is not None else known
            name = self._name_row(at) if at is not None else "a row"
            described.append(f"{name} ({self._tell_tokens(ids)})" if ids else name)
        return described

    def _tell_tokens(self, ids: tuple[int, ...]) -> str:
        token, length = longest_run(ids)
        tokenizer: Any = self._trainer.processing_class
        shown = repr(tokenizer.decode([token])) if tokenizer is not None else f"id {token}"
        return f"{len(ids)} tokens, {shown:.40} up to {length} times in a row"


def name_chat(side: SideRef, place: int) -> str:
    """Name a row of a side by its place there, as a message does."""
    rows = iterate_rows(side.folder / "rows.parquet", ["row_id"])
    return f"row {next(islice(rows, place, None))['row_id']}"


def longest_run(ids: Sequence[int]) -> tuple[int, int]:
    """Return the token that stands most often in a row, and how often; the first of equal ones.

    Args:
        ids: Of one row, at least one.
    """
    runs = [(token, sum(1 for _ in group)) for token, group in groupby(ids)]
    return max(runs, key=lambda run: run[1])


def _finite(weights: Sequence[torch.nn.Parameter]) -> bool:
    gradients = [local_part(weight.grad) for weight in weights if weight.grad is not None]
    if not gradients:
        return True
    # One norm of all of them: one number is waited for, not one per weight.
    return bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients)))


def _rows_of(batch: Any) -> list[tuple[int | None, tuple[int, ...]]]:
    """Return place, where a batch says it, and tokens of each row, without padding."""
    if not hasattr(batch, "keys"):
        # Prompts, which the trainer makes tokens of itself.
        return [(int(row["place"]), ()) for row in batch]
    ids = batch["input_ids"].cpu()
    if "position_ids" in batch:
        starts = (batch["position_ids"].cpu() == 0).nonzero()
        return [(None, row) for row in _split_packed(ids, starts.tolist()) if len(row) > 1]
    mask = batch.get("attention_mask", torch.ones_like(ids)).cpu().bool()
    return [(None, tuple(row[kept].tolist())) for row, kept in zip(ids, mask, strict=True)]


def _split_packed(ids: torch.Tensor, starts: list[list[int]]) -> Iterator[tuple[int, ...]]:
    """Yield the rows of packed sequences; padding has a position of 0 throughout."""
    for (line, start), (after, end) in pairwise([*starts, [len(ids), 0]]):
        yield tuple(ids[line, start : end if after == line else None].tolist())


def _find_places(dataset: Any, wanted: Sequence[tuple[int, ...]]) -> list[int | None]:
    """Return where rows stand in a trainer's dataset, by their tokens; None where nowhere."""
    places: dict[tuple[int, ...], int] = {}
    missing = {ids for ids in wanted if ids}
    if missing:
        for at, row in enumerate(dataset):
            for place, ids in _tokens_of(at, row):
                if ids in missing:
                    places.setdefault(ids, place)
    return [places.get(ids) for ids in wanted]


def _tokens_of(at: int, row: dict[str, Any]) -> list[tuple[int, tuple[int, ...]]]:
    if LENGTHS in row:
        parts = torch.tensor(row["input_ids"]).split(row[LENGTHS])
        return [(place, tuple(ids.tolist())) for place, ids in zip(row[PLACES], parts, strict=True)]
    if "input_ids" in row:
        return [(at, tuple(row["input_ids"]))]
    prompt = tuple(row["prompt_ids"])
    return [(at, prompt + tuple(row[name])) for name in ("chosen_ids", "rejected_ids")]
