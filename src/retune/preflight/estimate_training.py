"""Stage `estimate_training`: the memory of a training by part, before a weight is loaded.

How much memory the device has is no part of it, so that a stored estimate is right on any machine:
`retune.preflight.forecast` holds it against the one at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from retune.digests import digest_json
from retune.errors import RetuneError
from retune.machine import Device
from retune.model_records import BaseRef
from retune.modeling.memory.estimate_memory import Plan, estimate_memory
from retune.modeling.memory.memory_estimate import (
    Alternative,
    BatchShape,
    MemoryEstimate,
    TrainingEstimate,
)
from retune.preflight.lengths import largest_batch, row_lengths
from retune.preflight.stages import EstimateInputs, EstimateSettings, TrainedSettings
from retune.recipe.sections import ModelConfig, QuantizationConfig, TrainingConfig
from retune.spine.stage import Workdir

_SHORTER = (0.75, 0.5)
"""Lengths of the longest row that are tried as `prompt.max_length`."""
_TAKE_MEMORY = (
    "batch_size",
    "gradient_accumulation",
    "gradient_checkpointing",
    "optimizer",
    "evaluations",
)
"""Settings of `training` that its memory depends on."""


def estimate_training(
    inputs: EstimateInputs, settings: EstimateSettings, work: Workdir
) -> TrainingEstimate:
    """Estimate what a training needs, and where asked for what it would need with other settings.

    Args:
        inputs: The base, the rows and the kind of device.
        settings: What is trained, and how.
        work: Unused; the result is its record.

    Returns:
        Memory by part; none where a step cannot be followed without weights.
    """
    plan = plan_of(inputs, settings, *row_lengths(inputs.train))
    try:
        memory = estimate_memory(plan)
    except RetuneError as error:
        return _record(None, error.message)
    if not inputs.alternatives:
        return _record(memory)
    changed = [
        Alternative(overrides=overrides, memory=estimate_memory(other))
        for overrides, other in _changes(plan, inputs.devices)
    ]
    return _record(memory, alternatives=tuple(changed))


def plan_of(
    inputs: EstimateInputs, settings: EstimateSettings, tokens: list[int], learned: list[int]
) -> Plan:
    """Return what is estimated of a training: its largest batch on one of its devices.

    Args:
        inputs: The base, the rows and the kind of device.
        settings: What is trained, and how.
        tokens: Of each row.
        learned: Of them, those that carry loss.
    """
    kept = {name: getattr(settings, name) for name in _TAKE_MEMORY}
    training = _on_one(TrainingConfig().model_copy(update=kept), inputs.devices)
    rows, packed = training.rows_per_pass, inputs.packed_to
    batch = largest_batch(tokens, learned, rows=rows, packed_to=packed)
    return plan_training(inputs.base, inputs.device, settings, training, batch)


def plan_training(
    base: BaseRef,
    device: Device,
    settings: TrainedSettings,
    training: TrainingConfig,
    batch: BatchShape,
) -> Plan:
    """Return what is estimated of any training.

    Args:
        base: What is trained over.
        device: Kind of device.
        settings: What is trained, and how.
        training: Its batches and optimizer.
        batch: The largest that goes through the device.
    """
    return Plan(
        folder=base.folder,
        model=ModelConfig(id=base.model_id, dtype=settings.dtype, attention=settings.attention),
        quantization=QuantizationConfig(
            kind=settings.quantization,
            double=settings.double,
            compute_dtype=settings.compute_dtype,
        ),
        method=settings.method,
        training=training,
        batch=batch,
        device=device,
    )


def _on_one(training: TrainingConfig, devices: int) -> TrainingConfig:
    """Return what one of several devices does of each step: its rows, in its parts."""
    share = {
        "batch_size": training.batch_size // devices,
        "gradient_accumulation": training.parts_on(devices),
    }
    return training.model_copy(update=share)


def _record(
    memory: MemoryEstimate | None, fault: str = "", alternatives: tuple[Alternative, ...] = ()
) -> TrainingEstimate:
    found = TrainingEstimate(digest="", memory=memory, fault=fault, alternatives=alternatives)
    digest = digest_json(found.model_dump(mode="json"))
    return found.model_copy(update={"digest": digest})


def _changes(plan: Plan, devices: int) -> Iterator[tuple[tuple[str, ...], Plan]]:
    accumulated = list(_accumulated(plan, devices))
    yield from accumulated
    checkpointed = _with(plan, training={"gradient_checkpointing": True})
    ways: list[tuple[tuple[str, ...], Plan]] = [((), plan)]
    if not plan.training.gradient_checkpointing:
        ways.append((("training.gradient_checkpointing=true",), checkpointed))
        yield ways[-1]
    if plan.quantization.kind == "none" and plan.method.kind == "lora":
        for name, way in ways:
            yield ("quantization.kind=nf4", *name), _with(way, quantization={"kind": "nf4"})
    for share in _SHORTER:
        length = int(plan.batch.tokens * share)
        yield (f"prompt.max_length={length}",), _with(plan, batch={"tokens": length})
    if accumulated and len(ways) > 1:
        last = list(_accumulated(checkpointed, devices))[-1]
        yield (*ways[1][0], *last[0]), last[1]


def _accumulated(plan: Plan, devices: int) -> Iterator[tuple[tuple[str, ...], Plan]]:
    size = plan.training.batch_size
    for parts in range(plan.training.gradient_accumulation * 2, size + 1):
        if size % parts == 0 and parts & (parts - 1) == 0:
            rows = size // parts
            answers = max(1, plan.batch.answer_tokens * rows // plan.batch.rows)
            changed = _with(
                plan,
                training={"gradient_accumulation": parts},
                batch={"rows": rows, "answer_tokens": answers},
            )
            # The recipe counts the parts of a step on all devices together.
            yield (f"training.gradient_accumulation={parts * devices}",), changed


def _with(plan: Plan, **changes: dict[str, object]) -> Plan:
    parts = {
        name: getattr(plan, name).model_copy(update=update) for name, update in changes.items()
    }
    return replace(plan, **parts)
