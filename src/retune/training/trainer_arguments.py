"""The recipe's training settings as transformers and TRL name them.

All trainers have `common_arguments`; each training adds its own where it builds its trainer.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import trl.trainer.utils
from trl.kernels.chunked_logprob import _use_triton

from retune.modeling.devices import choose_compute_dtype, choose_device
from retune.preflight.devices import share_rows
from retune.recipe.sections import TrainingConfig
from retune.spine.stage import Workdir
from retune.training.distributed.ranks import find_ranks
from retune.training.loop import CHECKPOINTS
from retune.training.memory_ladder import rows_measured_at_once
from retune.training.stages import StartSettings

_ORDERS = {"random": "random", "as_given": "sequential", "by_length": "group_by_length"}


def common_arguments(
    training: TrainingConfig, settings: StartSettings, work: Workdir, total_steps: int
) -> dict[str, Any]:
    """Return what every trainer is given.

    Args:
        training: The recipe's section, or what `settings_after_sft` makes of it.
        settings: Seed and compute dtype.
        work: Checkpoints go to its scratch folder.
        total_steps: Planned optimizer steps.

    Returns:
        Keyword arguments of `TrainingArguments` or a configuration of TRL: it reports nowhere.
    """
    device = choose_device()
    on_cpu = device.type == "cpu"
    dtype = choose_compute_dtype(settings.compute_dtype, device)
    share = share_rows(training, find_ranks().count, kind=device.type)
    every = max(1, math.ceil(total_steps / max(1, training.evaluations)))
    return {
        "output_dir": str(work.scratch / CHECKPOINTS),
        "max_steps": total_steps,
        "per_device_train_batch_size": share.rows_per_pass,
        # As on one device, so that the held-out loss is the same mean.
        "per_device_eval_batch_size": rows_measured_at_once(training, work),
        "gradient_accumulation_steps": share.parts,
        "learning_rate": training.learning_rate,
        "warmup_steps": training.warmup_steps,
        **_schedule(training),
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_gradient_norm,
        "optim": training.optimizer,
        "adam_beta1": training.adam_beta1,
        "adam_beta2": training.adam_beta2,
        "adam_epsilon": training.adam_epsilon,
        # On a device without it, transformers takes neither true nor false.
        "tf32": None if on_cpu else training.tf32,
        "gradient_checkpointing": training.gradient_checkpointing,
        "eval_strategy": "steps" if training.evaluations else "no",
        "eval_steps": every,
        "save_strategy": "steps",
        "save_steps": training.checkpoint_every_steps or every,
        "save_total_limit": 2,
        "save_only_model": False,
        "logging_steps": training.runtime.log_every_steps,
        "logging_nan_inf_filter": False,
        "bf16": dtype == torch.bfloat16,
        "fp16": dtype == torch.float16,
        "use_cpu": on_cpu,
        "dataloader_pin_memory": not on_cpu,
        # What is recomputed cannot be looked through for weights that a pass leaves out.
        "ddp_find_unused_parameters": not training.gradient_checkpointing,
        "seed": settings.seed,
        "report_to": "none",
        "disable_tqdm": True,
    }


def row_arguments(training: TrainingConfig) -> dict[str, Any]:
    """Return what trainings on rows add; preferences and rewards have an order of their own.

    Args:
        training: The recipe's section.

    Returns:
        Keyword arguments beside `common_arguments`.
    """
    return {
        "train_sampling_strategy": _ORDERS[training.row_order],
        "torch_compile": training.torch_compile,
        "neftune_noise_alpha": training.neftune_alpha,
        "dataloader_num_workers": training.runtime.data_workers,
    }


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
