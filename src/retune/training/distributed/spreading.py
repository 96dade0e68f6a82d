"""Letting a trainer work as one of several ranks, with the steps that one device would take."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from peft import PeftModel
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel, Trainer
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from retune.errors import StageError
from retune.preflight.devices import DevicePlan
from retune.training.distributed.ranks import Ranks
from retune.training.distributed.rows import (
    load_measured_rows,
    load_training_rows,
    measure_in_turns,
)
from retune.training.distributed.sharding import (
    part_state,
    saving_whole,
    shard_model,
    whole_state,
    whole_weights,
)


class Kept(Protocol):
    """What is trained, and how it is written and read (`retune.training.trainable.Trainable`)."""

    @property
    def model(self) -> PreTrainedModel | PeftModel:
        """What the trainer is given."""
        ...

    def save(self, folder: Path) -> None:
        """Write what was trained."""
        ...

    def load(self, checkpoint: Path) -> None:
        """Read the weights of a checkpoint."""
        ...

    def count(self) -> tuple[int, int]:
        """Return the trainable parameters and all of them."""
        ...


class SharedWeights:
    """What several ranks train: written by the first one, counted before it is parted.

    Args:
        trained: As one process would train it.
        ranks: Which one this is.
    """

    def __init__(self, trained: Kept, ranks: Ranks) -> None:
        self._trained, self._ranks = trained, ranks
        self._counted = trained.count()

    @property
    def model(self) -> PreTrainedModel | PeftModel:
        """What the trainer is given."""
        return self._trained.model

    def save(self, folder: Path) -> None:
        """Write what was trained; all ranks have to call it, and find it there afterwards."""
        with saving_whole(self.model):
            if self._ranks.is_main:
                self._trained.save(folder)
        self._ranks.wait()

    def load(self, checkpoint: Path) -> None:
        """Read the weights of a checkpoint, before the model is parted."""
        self._trained.load(checkpoint)

    def count(self) -> tuple[int, int]:
        """Return the trainable parameters and all of them, of all ranks together."""
        return self._counted


def spread_trainer(trainer: Trainer, ranks: Ranks, plan: DevicePlan, rows_measured: int) -> None:
    """Give a trainer its part of the rows, and let it write what one device would write.

    Args:
        trainer: Built, not yet used.
        ranks: Which one this is.
        plan: How rows and model are shared.
        rows_measured: Rows of a batch of the held-out loss, as on one device.

    Raises:
        StageError: The Trainer sees another number of processes.
    """
    if trainer.args.world_size != ranks.count:
        raise StageError(
            f"the Trainer sees {trainer.args.world_size} processes; expected {ranks.count}. "
            "Something in the environment tells it another number: look for ACCELERATE_ variables."
        )
    rows = plan.rows_per_pass * ranks.count
    patched: Any = trainer
    patched.get_train_dataloader = partial(load_training_rows, trainer, ranks, rows)
    patched.get_eval_dataloader = lambda *_: load_measured_rows(trainer, ranks, rows_measured)
    patched.evaluation_loop = partial(
        measure_in_turns, trainer=trainer, ranks=ranks, rows_per_batch=rows_measured
    )
    patched.compute_loss = partial(_shared_loss, trainer.compute_loss)
    if plan.sharded:
        _shard_trainer(trainer, ranks)


def _shared_loss(compute: Any, model: Any, *arguments: Any, **named: Any) -> Any:
    """Compute a loss whose gradient all ranks get.

    Raises:
        StageError: Nothing would add up the gradients of all ranks.
    """
    if model.training and not isinstance(
        getattr(model, "_orig_mod", model), (DistributedDataParallel, FSDPModule)
    ):
        raise StageError(
            "the Trainer trains a model whose gradients no other rank would get. Write "
            "training.devices: 1, and report this with the versions of transformers and accelerate."
        )
    return compute(model, *arguments, **named)


def _shard_trainer(trainer: Trainer, ranks: Ranks) -> None:
    patched: Any = trainer
    model = cast(nn.Module, trainer.model)
    accelerator: Any = trainer.accelerator
    shard_model(model, accelerator.device.type)
    # Whole weights were read before the model was parted.
    patched._load_from_checkpoint = lambda *_, **__: None
    patched.save_model = partial(_save_whole, trainer, ranks)
    patched._save_optimizer_and_scheduler = partial(_save_state, trainer, ranks)
    patched._load_optimizer_and_scheduler = partial(_load_state, trainer)
    # FSDP2 adds up gradients over ranks: nothing is to be put around the model but autocast.
    accelerator.prepare_model = partial(_prepare_sharded, accelerator.prepare_model)
    accelerator.clip_grad_norm_ = partial(_whole_norm, accelerator.clip_grad_norm_)


def _prepare_sharded(prepare: Any, model: Any, *_: Any, **__: Any) -> Any:
    return prepare(model, device_placement=False, evaluation_mode=True)


def _whole_norm(clip: Any, *arguments: Any, **named: Any) -> torch.Tensor:
    found = clip(*arguments, **named)
    return cast(torch.Tensor, found.full_tensor() if hasattr(found, "full_tensor") else found)


def _save_whole(trainer: Trainer, ranks: Ranks, output_dir: str, **_: Any) -> None:
    weights = whole_weights(cast(nn.Module, trainer.model))
    if ranks.is_main:
        trainer._save(output_dir, state_dict=weights)


def _save_state(trainer: Trainer, ranks: Ranks, output_dir: str) -> None:
    state = whole_state(_optimizer(trainer))
    if ranks.is_main:
        torch.save(state, Path(output_dir) / OPTIMIZER_NAME)
        torch.save(_rates(trainer).state_dict(), Path(output_dir) / SCHEDULER_NAME)


def _load_state(trainer: Trainer, checkpoint: str | None) -> None:
    if checkpoint is None:
        return
    optimizer = _optimizer(trainer)
    saved = torch.load(Path(checkpoint) / OPTIMIZER_NAME, map_location="cpu", weights_only=True)
    optimizer.load_state_dict(part_state(optimizer, saved))
    rates = torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True)
    _rates(trainer).load_state_dict(rates)


def _optimizer(trainer: Trainer) -> torch.optim.Optimizer:
    found: Any = trainer.optimizer
    # accelerate's wrapper would move the state as if it were whole.
    return cast(torch.optim.Optimizer, getattr(found, "optimizer", found))


def _rates(trainer: Trainer) -> Any:
    return trainer.lr_scheduler
