"""Sections on training and on merging what was trained."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from retune.recipe.sections.base import (
    RUNTIME,
    Count,
    CountOrZero,
    Devices,
    RecipePath,
    Section,
    Text,
    conflict,
)
from retune.recipe.sections.optimizers import OptimizerName

WatchedFigure = Literal["loss", "macro_f1", "accuracy", "sql_execution_match", "sql_exact_match"]
Beta = Annotated[float, Field(ge=0, lt=1)]


class TrainingRuntime(Section):
    """What cannot change the result of a training; no part of its stage key."""

    data_workers: CountOrZero = 0
    """Processes that prepare batches beside the training process. 0: the training process does."""

    log_every_steps: Count = 5
    """Optimizer steps between two points of the loss curve."""


class EarlyStoppingConfig(Section):
    """When a training ends before its planned steps."""

    patience: Count = 2
    """Evaluations in a row without a gain, after which training ends."""

    min_gain: Annotated[float, Field(ge=0)] = 0.0
    """By how much the watched figure has to be better than the best one before, to count as a gain:
    nats per token of loss, or a part of 1 of a score."""


class TrainingConfig(Section):
    """Supervised fine-tuning."""

    max_steps: Count | None = None
    """Optimizer steps to train. null: `epochs` counts; where given, `epochs` does not count."""

    epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over the training rows; part of a pass is possible."""

    batch_size: Count = 16
    """Rows per optimizer step, on all devices together; with `packing`, packed sequences."""

    packing: bool = False
    """Whether short rows share a sequence of `prompt.max_length` tokens, so that less is padding.
    They never see each other, which is proven on the model before training; a model or attention
    that lets them is refused. Fewer sequences are fewer steps in an epoch."""

    row_order: Literal["random", "as_given", "by_length"] = "random"
    """Order of the rows. by_length: rows of about one length are batched together, in random
    batches, so that less is padding."""

    gradient_accumulation: Count = 1
    """Number of equal parts in which the rows of one optimizer step go through the device, one
    after the other: more parts need less memory and give the same step. Divides `batch_size`. Of
    several devices each takes its share of the parts, and where there are more devices than parts,
    its share of the rows of one."""

    devices: Annotated[Devices, RUNTIME] = "auto"
    """Devices that train together, each on its part of the rows of every step. auto: the GPUs that
    the training may see, as many of them as divide the rows; a CPU is one. On a CPU, a number is
    that of its processes. The same rows make a step, in the same order, however many there are.
    With `runner.kind: ray` and an address, a number counts devices of that cluster's nodes."""

    sharding: Annotated[Literal["none", "fsdp"], RUNTIME] = "none"
    """What each of several devices holds. none: the whole model. fsdp: its part of the weights,
    gradients and optimizer state, and the rest only while a block is computed (FSDP2), for models
    that fit no single device; lora, qlora and full only, without a head."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2.0e-4
    """Highest step size of the optimizer, above 0 and at most 1."""

    warmup_steps: Annotated[float, Field(ge=0)] = 0.03
    """Optimizer steps in which the learning rate rises to its highest; a value under 1 is a part of
    all steps."""

    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up: along a cosine to 0, straight to 0, not at
    all."""

    min_learning_rate_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the highest learning rate that a cosine falls to, 0 to under 1."""

    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Part of each weight, times the learning rate, that is taken off at each step."""

    max_gradient_norm: Annotated[float, Field(ge=0)] = 1.0
    """Longer gradients are scaled down to this length. 0: never."""

    optimizer: OptimizerName = "adamw_torch"
    """Name of the optimizer as transformers knows it (`optim`). Those with 8bit keep their state in
    8 bits; paged ones move it to the machine's memory when a GPU's is short."""

    adam_beta1: Beta = 0.9
    """How much of the mean gradient of the steps before an Adam or Lion keeps."""

    adam_beta2: Beta = 0.999
    """How much of the mean squared gradient of the steps before it keeps."""

    adam_epsilon: Annotated[float, Field(gt=0)] = 1.0e-8
    """What is added to the root of that, so that nothing is divided by 0."""

    gradient_checkpointing: bool = False
    """Whether activations are computed again in the backward pass: less memory, about a third more
    time."""

    neftune_alpha: Annotated[float, Field(gt=0)] | None = None
    """Strength of the noise on embeddings in training (NEFTune, usually 5). null: no noise."""

    tf32: bool | None = None
    """Whether a GPU may multiply float32 in TensorFloat-32: faster, with 10 bits after the point.
    null: as torch has it. Without effect on a device that has none, such as a CPU."""

    torch_compile: bool = False
    """Whether the model is compiled before training: minutes at the start, faster steps. Needs a C
    compiler; on a CPU it seldom pays. Not with a quantized base, packing or
    gradient_checkpointing."""

    evaluations: CountOrZero = 4
    """Number of evaluations of the held-out loss, evenly spaced over the training, the last one at
    its end. 0: none."""

    evaluation_rows: Count | None = None
    """Rows of the validation split that each evaluation uses, the same each time. null: all."""

    keep_best: bool = True
    """Whether the weights of the best evaluation, by `watch`, are kept, not those of the last step.
    Without evaluations the last ones are kept."""

    watch: WatchedFigure = "loss"
    """What an evaluation is judged by, for the best weights and for early stopping. loss: the
    held-out loss. macro_f1, accuracy: the classes that the model in training finds likeliest.
    sql_execution_match, sql_exact_match: the queries that it writes, run on the rows' databases."""

    watch_rows: Count = 64
    """Validation rows that are scored at each evaluation, the same each time; loss does not use
    it."""

    early_stopping: EarlyStoppingConfig | None = None
    """Ends training when `watch` no longer gets better. null: all planned steps are taken."""

    checkpoint_every_steps: Count | None = None
    """Optimizer steps between two checkpoints that a killed training resumes from. null: at each
    evaluation."""

    checkpoint_every_minutes: Annotated[Annotated[float, Field(gt=0)] | None, RUNTIME] = None
    """Minutes after which there is a checkpoint as well, where steps are slow or a machine may be
    taken away. null: by steps alone."""

    on_non_finite: Annotated[Literal["stop", "skip_batch"], RUNTIME] = "stop"
    """What happens when the loss or gradient of a step is not a number. stop: the training ends at
    its last good checkpoint, and names step and rows. skip_batch: nothing is learned from the rows
    of that step; how often is counted in the run's report."""

    max_skipped_batches: Annotated[Count, RUNTIME] = 10
    """Steps that skip_batch leaves out at most, in the whole training, before it stops."""

    start_from: RecipePath | None = None
    """Folder of a LoRA adapter (adapter_config.json and adapter_model.safetensors, as peft or an
    earlier run wrote them) whose weights training goes on from: same base, `r`, `alpha` and layers.
    lora and qlora only. null: from new weights."""

    runtime: TrainingRuntime = Field(default_factory=TrainingRuntime)
    """What cannot change the result."""

    @property
    def rows_per_pass(self) -> int:
        """Rows that go through one device at once: `batch_size` / `gradient_accumulation`."""
        return self.batch_size // self.gradient_accumulation

    def parts_on(self, devices: int) -> int:
        """Return in how many parts each of several devices takes its rows of a step."""
        return self.gradient_accumulation // math.gcd(self.gradient_accumulation, devices)

    def divides(self, devices: int) -> bool:
        """Say whether several devices can share the rows of a step equally, in equal parts."""
        # Then so do devices times their parts, the least common multiple of both.
        return self.batch_size % devices == 0

    @model_validator(mode="after")
    def _steps_fit(self) -> TrainingConfig:
        found = []
        if self.batch_size % self.gradient_accumulation:
            reason = f"{self.gradient_accumulation} does not divide batch_size, {self.batch_size}"
            found.append(("gradient_accumulation", f"{reason}; the parts must be equal"))
        elif self.devices != "auto" and not self.divides(wanted := self.devices):
            fit = [count for count in range(1, self.batch_size + 1) if self.divides(count)]
            near = sorted(sorted(fit, key=lambda count: abs(count - wanted))[:2])
            reason = f"{wanted} devices cannot share the {self.batch_size} rows of a step equally"
            instead = " or ".join(map(str, near))
            found.append(("devices", f"{reason}; write {instead}, or another batch_size"))
        if self.warmup_steps >= 1 and self.warmup_steps % 1:
            reason = f"{self.warmup_steps} is neither a part of all steps (under 1)"
            found.append(("warmup_steps", f"{reason} nor a whole number of steps"))
        if self.max_steps is not None and self.warmup_steps >= max(1, self.max_steps):
            reason = f"{self.warmup_steps:g} is not less than max_steps, {self.max_steps}"
            found.append(("warmup_steps", f"{reason}: the rate would never reach its highest"))
        found += self._watch_conflicts() + self._speed_conflicts()
        if found:
            raise conflict(*found)
        return self

    def _watch_conflicts(self) -> list[tuple[str, str]]:
        if self.evaluations:
            return []
        instead = "but evaluations is 0: nothing is measured during training; raise evaluations"
        found = []
        if self.early_stopping is not None:
            found.append(("early_stopping", f"is set, {instead}, or write early_stopping: null"))
        if self.watch != "loss":
            found.append(("watch", f"is {self.watch}, {instead}, or write watch: loss"))
        return found

    def _speed_conflicts(self) -> list[tuple[str, str]]:
        found = []
        if self.min_learning_rate_ratio and self.schedule != "cosine":
            reason = f"is {self.min_learning_rate_ratio:g}, but schedule is {self.schedule}"
            found.append(("min_learning_rate_ratio", f"{reason}; only a cosine ends above 0"))
        packed = {
            "by_length": "packed sequences are of about one length anyway",
            "as_given": "packing puts rows together by their lengths, which keeps no order",
        }
        if self.packing and self.row_order in packed:
            reason = f"is {self.row_order}, but {packed[self.row_order]}"
            found.append(("row_order", f"{reason}; write row_order: random, or packing: false"))
        for name in ("packing", "gradient_checkpointing"):
            if self.torch_compile and getattr(self, name):
                reason = f"does not go with {name}; switch one of them off"
                found.append(("torch_compile", reason))
        return found


class MergeConfig(Section):
    """Merging the adapter into the unquantized base, and the proof that it worked."""

    max_shard_size: Annotated[
        Text, Field(pattern=r"^[1-9][0-9]*(KB|MB|GB)$", examples=["4GB", "500MB"])
    ] = "4GB"
    """Largest size of one file of weights."""

    tolerance: Annotated[float, Field(gt=0, le=1)] = 0.05
    """How much more surprised the rounded model may be by what the adapter expects than the adapter
    itself, in nats per token of the checked answers. Before rounding the two have to be equal."""

    check_rows: Count = 16
    """Held-out rows on which both are compared."""

    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Number type of the merged weights. null: that of the base. The merge itself is computed in
    float32, and its result rounded once; float32 rounds nothing and takes twice the disk."""
