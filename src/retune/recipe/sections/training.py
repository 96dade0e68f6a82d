"""Sections on training and on merging what was trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from retune.recipe.sections.base import Count, CountOrZero, Section, Text, conflict


class TrainingRuntime(Section):
    """What cannot change the result of a training; no part of its stage key."""

    data_workers: CountOrZero = 0
    """Processes that prepare batches beside the training process. 0: the training process does."""

    log_every_steps: Count = 5
    """Optimizer steps between two points of the loss curve."""


class TrainingConfig(Section):
    """Supervised fine-tuning."""

    max_steps: Count | None = None
    """Optimizer steps to train. null: `epochs` counts; where given, `epochs` does not count."""

    epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over the training rows; part of a pass is possible."""

    batch_size: Count = 16
    """Rows per optimizer step and device."""

    gradient_accumulation: Count = 1
    """Number of equal parts in which the rows of one optimizer step go through the device, one
    after the other: more parts need less memory and give the same step. Divides `batch_size`."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2.0e-4
    """Highest step size of the optimizer, above 0 and at most 1."""

    warmup_steps: Annotated[float, Field(ge=0)] = 0.03
    """Optimizer steps in which the learning rate rises to its highest; a value under 1 is a part of
    all steps."""

    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up: along a cosine to 0, straight to 0, not at
    all."""

    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Part of each weight, times the learning rate, that is taken off at each step."""

    max_gradient_norm: Annotated[float, Field(ge=0)] = 1.0
    """Longer gradients are scaled down to this length. 0: never."""

    optimizer: Annotated[
        Text, Field(pattern=r"^[a-z0-9_]+$", examples=["adamw_torch", "paged_adamw_8bit"])
    ] = "adamw_torch"
    """Name of the optimizer as transformers knows it (`optim`)."""

    gradient_checkpointing: bool = False
    """Whether activations are computed again in the backward pass: less memory, about a third more
    time."""

    neftune_alpha: Annotated[float, Field(gt=0)] | None = None
    """Strength of the noise on embeddings in training (NEFTune, usually 5). null: no noise."""

    evaluations: CountOrZero = 4
    """Number of evaluations of the held-out loss, evenly spaced over the training, the last one at
    its end. 0: none."""

    evaluation_rows: Count | None = None
    """Rows of the validation split that each evaluation uses, the same each time. null: all."""

    keep_best: bool = True
    """Whether the weights of the evaluation with the lowest loss are kept, not those of the last
    step. Without evaluations the last ones are kept."""

    checkpoint_every_steps: Count | None = None
    """Optimizer steps between two checkpoints that a killed training resumes from. null: at each
    evaluation."""

    runtime: TrainingRuntime = Field(default_factory=TrainingRuntime)
    """What cannot change the result."""

    @property
    def rows_per_pass(self) -> int:
        """Rows that go through one device at once: `batch_size` / `gradient_accumulation`."""
        return self.batch_size // self.gradient_accumulation

    @model_validator(mode="after")
    def _steps_fit(self) -> TrainingConfig:
        found = []
        if self.batch_size % self.gradient_accumulation:
            reason = f"{self.gradient_accumulation} does not divide batch_size, {self.batch_size}"
            found.append(("gradient_accumulation", f"{reason}; the parts must be equal"))
        if self.warmup_steps >= 1 and self.warmup_steps % 1:
            reason = f"{self.warmup_steps} is neither a part of all steps (under 1)"
            found.append(("warmup_steps", f"{reason} nor a whole number of steps"))
        if self.max_steps is not None and self.warmup_steps >= max(1, self.max_steps):
            reason = f"{self.warmup_steps:g} is not less than max_steps, {self.max_steps}"
            found.append(("warmup_steps", f"{reason}: the rate would never reach its highest"))
        if found:
            raise conflict(*found)
        return self


class MergeConfig(Section):
    """Merging the adapter into the unquantized base, and the proof that it worked."""

    max_shard_size: Annotated[
        Text, Field(pattern=r"^[1-9][0-9]*(KB|MB|GB)$", examples=["4GB", "500MB"])
    ] = "4GB"
    """Largest size of one file of weights."""

    tolerance: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Largest allowed difference of a logit between merged and adapted model, as a part of the
    spread (standard deviation) of the adapted model's logits."""

    check_rows: Count = 16
    """Held-out rows on which both are compared."""
