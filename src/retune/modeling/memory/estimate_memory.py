"""Peak memory of a training by part, before any weight is loaded.

One optimizer step of the largest batch is run on fake tensors: the same model classes, adapters,
autocast, loss and optimizer as in training, on tensors that have shapes and no values. Each
storage that torch would allocate is noted when it is made and when nothing holds it any more, so
that what autograd keeps, recomputed activations, casts and short-lived results are counted and
not guessed. The sum at the highest moment is the estimate.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import trl.trainer.utils
from peft import PeftModel
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PreTrainedModel, Trainer, TrainingArguments
from trl.trainer.utils import add_fused_lm_head

from retune.errors import ConfigError
from retune.machine import GPU_CONTEXT_BYTES, Device
from retune.modeling.devices import pick_compute_dtype, pick_dtype
from retune.modeling.memory.allocations import AllocationLog
from retune.modeling.memory.gpu_kernels import followed_kernels
from retune.modeling.memory.memory_estimate import HELD, BatchShape, MemoryEstimate
from retune.modeling.memory.meta_model import build_meta_model, count_parameters, make_fake
from retune.modeling.memory.optimizer_memory import bitsandbytes_states, is_bitsandbytes
from retune.modeling.methods.apply import apply_method
from retune.recipe.sections import ModelConfig, QuantizationConfig, TrainingConfig
from retune.recipe.sections.method import MethodConfig

_OUTPUTS = ("log_probs", "entropy", "is_top1")
"""Figures of each token that TRL's trainer asks its loss for."""
LIBRARIES_BYTES = 600 * 2**20
"""What a process holds on a CPU once torch, transformers, peft and trl are imported, rounded."""


@dataclass(frozen=True)
class Plan:
    """What is trained, and how.

    Attributes:
        folder: Snapshot of the base; its configuration is read, its weights need not be there.
        model: Dtype and attention.
        quantization: Kind and dtypes.
        method: What is trained.
        training: Optimizer, checkpointing, and rows per pass.
        batch: The largest batch.
        device: Where it runs.
    """

    folder: Path
    model: ModelConfig
    quantization: QuantizationConfig
    method: MethodConfig
    training: TrainingConfig
    batch: BatchShape
    device: Device


def estimate_memory(plan: Plan) -> MemoryEstimate:
    """Estimate the peak memory of a training, by part.

    Args:
        plan: What is trained.

    Returns:
        Bytes by part at the highest moment of a step, or of an evaluation where that is higher.

    Raises:
        ConfigError: The model cannot be built from its configuration, or a step of it cannot be
            run without values.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    # Without a GPU there are no kernels of it to ask: those of a CPU stand for them.
    kernels = plan.device.name if plan.device.present else "cpu"
    log = AllocationLog(selected=plan.batch.answer_tokens)
    try:
        # Libraries warn each other, and nothing is computed here.
        with _quiet():
            model = _build_fake_model(plan)
            make_fake(model, mode, torch.device(kernels))
            with _answers_projected(), followed_kernels(plan.device.name), mode, log:
                return _run_step(model, plan, log, torch.device(kernels))
    except (RuntimeError, TypeError, NotImplementedError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{plan.folder}: a training step with method.kind {plan.method.kind} cannot be "
            f"followed without its weights ({type(error).__name__}: {error}). Its memory is not "
            "estimated; train a few steps with training.max_steps to measure it."
        ) from error


def _build_fake_model(plan: Plan) -> PreTrainedModel | PeftModel:
    full = plan.method.kind == "full"
    quantized = plan.quantization.kind != "none"
    model = build_meta_model(
        plan.folder,
        dtype=torch.float32
        if full
        else pick_dtype(plan.model.dtype, plan.device.name, bfloat16=plan.device.bfloat16),
        attention=plan.model.attention,
        quantized=quantized,
        double=plan.quantization.double,
        compute_dtype=_compute_dtype(plan),
    )
    with torch.device("meta"):
        adapted = apply_method(
            model,
            plan.method,
            tokenizer=plan.folder,
            gradient_checkpointing=plan.training.gradient_checkpointing,
        )
    for weight in adapted.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    add_fused_lm_head(_inner(adapted), outputs=_OUTPUTS)
    if plan.training.gradient_checkpointing:
        # A fake device has no random state to keep.
        adapted.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
        if isinstance(adapted, PeftModel):
            adapted.enable_input_require_grads()
    return adapted


def _compute_dtype(plan: Plan) -> torch.dtype:
    name = plan.quantization.compute_dtype
    return pick_compute_dtype(name, plan.device.name, bfloat16=plan.device.bfloat16)


def _inner(model: PreTrainedModel | PeftModel) -> Any:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _run_step(
    model: PreTrainedModel | PeftModel,
    plan: Plan,
    log: AllocationLog,
    device: torch.device,
) -> MemoryEstimate:
    weights = list(model.parameters())
    learned = [weight for weight in weights if weight.requires_grad]
    frozen = [weight for weight in weights if not weight.requires_grad]
    held = {
        "adapter": log.numbers(learned),
        "weights": log.numbers([*frozen, *model.buffers()]),
    }
    batch = plan.batch
    # Learned inputs at most lengthen the text: they carry no loss.
    step = _Step(model, log, device, _compute_dtype(plan))
    take_step = _optimizer(plan.training.optimizer, learned, held, log)
    # The optimizer makes its states in the first step: the second is like all that follow.
    step.forward_backward(batch.rows, batch.tokens)
    take_step()
    if plan.training.gradient_accumulation == 1:
        step.clear_gradients()
    # Else the pass that follows is the second part of a step, which has the first one's gradients.
    since = log.mark()
    step.forward_backward(batch.rows, batch.tokens)
    held["gradients"] = log.numbers([w.grad for w in learned if w.grad is not None])
    with log.during("working"):
        take_step()
    if plan.training.evaluations:
        step.evaluate(batch.rows * 2, batch.tokens)
    sizes = _by_part(log, log.peak(since), held)
    trainable, total = count_parameters(model)
    return MemoryEstimate(
        runtime=LIBRARIES_BYTES if plan.device.name == "cpu" else GPU_CONTEXT_BYTES,
        **sizes,
        trainable_parameters=trainable,
        total_parameters=total,
        batch=batch,
        device=plan.device.name,
    )


class _Step:
    """A training step as TRL's trainer takes it.

    Args:
        model: On fake tensors, its head fused with the loss.
        log: Told what is done.
        device: Of the fake tensors.
        multiplied: bfloat16 or float16 turn autocast on.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        log: AllocationLog,
        device: torch.device,
        multiplied: torch.dtype,
    ) -> None:
        self._model = model
        self._log = log
        self._device = device
        self._dtype = multiplied if multiplied != torch.float32 else torch.bfloat16
        self._autocast = multiplied != torch.float32

    def forward_backward(self, rows: int, tokens: int) -> None:
        """Run a batch forward and backward; gradients are added to those of the weights."""
        loss = self._forward(rows, tokens)
        with self._log.during("working"):
            loss.backward()

    def clear_gradients(self) -> None:
        """Forget all gradients, as after an optimizer step."""
        for weight in self._model.parameters():
            weight.grad = None

    def evaluate(self, rows: int, tokens: int) -> None:
        """Run a batch forward, as an evaluation does: nothing is kept for a backward pass."""
        self.clear_gradients()
        with torch.no_grad(), self._log.during("working"):
            self._forward(rows, tokens)

    def _forward(self, rows: int, tokens: int) -> torch.Tensor:
        ids = torch.zeros((rows, tokens), dtype=torch.long, device=self._device)
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        labels = torch.zeros_like(ids)
        backbone = _inner(self._model).base_model
        hook = backbone.register_forward_hook(self._in_loss)
        try:
            with (
                self._log.during("activations"),
                torch.autocast(self._device.type, dtype=self._dtype, enabled=self._autocast),
            ):
                found = self._model(**batch, labels=labels, use_cache=False, fused_lm_head=True)
                loss: torch.Tensor = found.loss
            return loss
        finally:
            hook.remove()

    def _in_loss(self, *_: Any) -> None:
        # `during` puts the phase of before back when the forward pass ends.
        if self._log.phase == "activations":
            self._log.phase = "logits"


def _optimizer(
    name: str, learned: list[nn.Parameter], held: dict[str, set[int]], log: AllocationLog
) -> Callable[[], None]:
    """Make an optimizer, and return what takes a step of it and notes its states."""
    if is_bitsandbytes(name):
        states = bitsandbytes_states(name, learned)
        held["optimizer"] = log.numbers(states)
        # The closure keeps them: they live as long as the training.
        return lambda: states.extend(())
    arguments = TrainingArguments(output_dir="unused", optim=name, report_to="none", use_cpu=True)
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
    optimizer = kind(learned, **options)

    def take_step() -> None:
        optimizer.step()
        found = (value for state in optimizer.state.values() for value in state.values())
        tensors = [value for value in found if isinstance(value, torch.Tensor)]
        held["optimizer"] = log.numbers(tensors)

    return take_step


def _by_part(log: AllocationLog, alive: set[int], held: dict[str, set[int]]) -> dict[str, int]:
    numbers: dict[str, set[int]] = {name: set() for name in ("activations", "logits", "working")}
    known = {number: name for name, found in held.items() for number in found}
    for number in alive:
        name = known.get(number, log.phase_of(number))
        numbers.setdefault(name if name != "start" else "working", set()).add(number)
    return {name: log.size(numbers.get(name, ())) for name in HELD}


@contextmanager
def _answers_projected() -> Iterator[None]:
    """Let the loss score only positions with a label, as `project_answers_only` does."""
    before = trl.trainer.utils._use_triton
    trl.trainer.utils._use_triton = lambda _: True
    try:
        yield
    finally:
        trl.trainer.utils._use_triton = before


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
