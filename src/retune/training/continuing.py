"""Going on from what was trained before: preferences and rewards start where that ended."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from retune.errors import ConfigError
from retune.model_records import AdapterRef
from retune.preflight.steps import count_steps
from retune.recipe.sections import LowRankConfig, TrainingConfig
from retune.recipe.sections.method import CONTINUABLE, MethodConfig
from retune.training.stages import StartInputs, StartSettings
from retune.training.trainable import Trainable, prepare_model

REFERENCE = "ref"
"""Name that TRL gives to the frozen copy of an adapter."""


class RetrainedModel:
    """What was trained before, in training again.

    Args:
        trained: With its weights loaded.
    """

    def __init__(self, trained: Trainable) -> None:
        self._trained = trained

    @property
    def model(self) -> PreTrainedModel | PeftModel:
        """What the trainer is given."""
        return self._trained.model

    def save(self, folder: Path) -> None:
        """Write what was trained, without the copy that it is held to."""
        self._trained.save(folder)
        shutil.rmtree(folder / REFERENCE, ignore_errors=True)

    def load(self, checkpoint: Path) -> None:
        """Read the weights of a checkpoint, or of an artifact."""
        self._trained.load(checkpoint)

    def count(self) -> tuple[int, int]:
        """Return the trainable parameters and all of them, the copy left out."""
        copies = sum(w.numel() for n, w in self.model.named_parameters() if _is_copy(n))
        learned, total = self._trained.count()
        return learned, total - copies


def _is_copy(name: str) -> bool:
    return f".{REFERENCE}." in name


def continue_training(
    inputs: StartInputs, adapter: AdapterRef, settings: StartSettings
) -> RetrainedModel:
    """Load what was trained before, to be trained further.

    Args:
        inputs: The model that it was trained over.
        adapter: What was trained.
        settings: Its method, dtypes and attention.

    Returns:
        The model, with the trained weights in it.

    Raises:
        ConfigError: The method cannot be trained further.
    """
    refuse_method(settings.method)
    method = settings.method
    if isinstance(method, LowRankConfig):
        settings = settings.model_copy(update={"method": as_saved(method)})
    trained = prepare_model(inputs, settings)
    trained.load(adapter.folder)
    return RetrainedModel(trained)


def refuse_method(method: MethodConfig) -> None:
    """Refuse a method whose result cannot be trained further.

    Raises:
        ConfigError: It cannot; the message says why, and which can.
    """
    if method.kind not in CONTINUABLE:
        raise ConfigError(
            f"method.kind is {method.kind}, which dpo and grpo do not go on from; expected one of "
            f"{', '.join(sorted(CONTINUABLE))}. Choose one of them, or remove dpo and grpo."
        )


def as_saved(method: LowRankConfig) -> LowRankConfig:
    """Return the form that an adapter has once it is saved.

    PiSSA and OLoRA take their first values out of the base, and their saved adapter gives them back
    with twice the rank (`retune.modeling.methods.lora.fit_to_base`): over the base as it is, that
    adapter is an ordinary one.
    """
    if method.init not in ("pissa", "olora"):
        return method
    scale = math.sqrt(2) if method.rslora else 2
    return method.model_copy(
        update={"r": 2 * method.r, "alpha": method.alpha * scale, "init": True}
    )


def settings_after_sft(
    training: TrainingConfig,
    *,
    batch_size: int,
    learning_rate: float,
    examples: int = 0,
    max_steps: int | None = None,
    epochs: float = 1.0,
    evaluations: bool = True,
) -> TrainingConfig:
    """Return the recipe's training settings with those of a further training in their place.

    Args:
        training: Of the supervised fine-tuning.
        batch_size: Examples per step.
        learning_rate: Highest step size.
        examples: What an epoch passes over; needed where epochs count.
        max_steps: Steps, or None where epochs count.
        epochs: Passes.
        evaluations: Whether there is something to measure during training.

    Returns:
        The settings. As many parts per step as divide the batch; a warm-up that is counted in steps
        takes half of them at most; what belongs to supervised fine-tuning alone is off.
    """
    changed: dict[str, Any] = {
        "batch_size": batch_size,
        "gradient_accumulation": math.gcd(batch_size, training.gradient_accumulation),
        "learning_rate": learning_rate,
        "max_steps": max_steps,
        "epochs": epochs,
        "neftune_alpha": None,
        "packing": False,
        "row_order": "random",
        "watch": "loss",
    }
    if not evaluations:
        changed |= {"evaluations": 0, "keep_best": False, "early_stopping": None}
    found = training.model_copy(update=changed)
    if found.warmup_steps < 1:
        return found
    most = float(count_steps(examples, found) // 2)
    return found.model_copy(update={"warmup_steps": min(found.warmup_steps, most)})


def remember_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copy what is trained, before a trainer is built around it."""
    return {n: w.detach().clone() for n, w in model.named_parameters() if w.requires_grad}


def restore_weights(model: torch.nn.Module, remembered: dict[str, torch.Tensor]) -> None:
    """Give what is trained its weights and dtype back.

    TRL turns the adapters of a quantized model into bfloat16: rounded, they would no longer be what
    was trained before.
    """
    for name, weight in model.named_parameters():
        if name in remembered:
            weight.data = remembered[name].to(weight.device)
            weight.requires_grad_(True)
