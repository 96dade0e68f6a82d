"""What a training will take: memory by part, a few timed steps, and what would make it fit.

``python -m retune.training.estimating REQUEST RESULT`` does it in a process of its own, so that
what is measured there is what a training process holds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import psutil
import torch

from retune.errors import ConfigError, RetuneError
from retune.modeling.devices import choose_device
from retune.modeling.memory.estimates import (
    Advice,
    MemoryEstimate,
    TrainingEstimate,
)
from retune.modeling.memory.estimating import Plan, estimate_memory
from retune.records import Record
from retune.training.checkpoints import write_atomically
from retune.training.lengths import row_lengths
from retune.training.measuring import read_status
from retune.training.planning import make_plan
from retune.training.stages import TrainInputs, TrainSettings
from retune.training.steps import count_sequences, count_steps
from retune.training.timing import time_steps

_SHORTER = (0.75, 0.5)
"""Lengths of the longest row that are tried as `prompt.max_length`."""


class EstimateRequest(Record):
    """What is asked of the process that estimates."""

    inputs: TrainInputs
    """Its model need not be quantized yet."""
    settings: TrainSettings
    device: str | None
    """cpu or cuda; None is what this machine has."""
    capacity_bytes: int | None
    """Memory of the device; None is what this machine has."""
    calibration: dict[str, float]
    """Measured by estimated peak, by device and method."""
    timed: bool
    """Whether a few real steps are run; needs the weights."""
    advise: bool = True
    """Whether changes are looked for where it does not fit."""


def estimate_training(request: EstimateRequest) -> TrainingEstimate:
    """Estimate what a training will take.

    Args:
        request: Rows, model and settings.

    Returns:
        Memory, time and advice.

    Raises:
        ConfigError: The model cannot be built from its configuration.
    """
    device = request.device or choose_device().type
    tokens, learned = row_lengths(request.inputs.train)
    plan = make_plan(request.inputs, request.settings, tokens, learned, device=device)
    memory = estimate_memory(plan, runtime=_runtime(request.inputs, device))
    capacity = request.capacity_bytes or _capacity(device)
    ratio = request.calibration.get(calibration_name(device, plan.method.kind))
    peak = calibrated(memory, ratio)
    training = request.settings.training
    sequences = count_sequences(request.inputs.train, training, request.settings.max_length)
    steps = count_steps(sequences, training)
    advice: tuple[Advice, ...] = ()
    if peak > capacity and request.advise:
        advice = tuple(_advise(plan, memory.runtime, capacity, ratio))
    return TrainingEstimate(
        memory=memory,
        calibration=ratio,
        peak_bytes=peak,
        capacity_bytes=capacity,
        steps=steps,
        tokens=round(sum(tokens) / max(1, sequences) * steps * training.batch_size),
        times=time_steps(request.inputs, request.settings) if request.timed else None,
        advice=advice,
        notes=(*_notes(request, device), *heap_notes(memory, peak, capacity)),
    )


def calibration_name(device: str, kind: str) -> str:
    """Return the name that ratios of a device and a method are kept under."""
    return f"{device}/{kind}"


def calibrated(memory: MemoryEstimate, ratio: float | None) -> int:
    """Return the estimated peak, its part above the libraries times a ratio."""
    return memory.runtime + round(memory.above_runtime * (ratio or 1.0))


def _runtime(inputs: TrainInputs, device: str) -> int:
    """Return what a training process holds before its model: this one has the same libraries."""
    if device != "cpu":
        return 0
    import retune.training.supervised  # noqa: F401 - what it imports is what is measured
    from retune.data.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(inputs.base.folder)
    held = read_status("VmRSS")
    del tokenizer
    return held


def _capacity(device: str) -> int:
    if device == "cuda" and torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[1])
    if device == "cuda":
        raise ConfigError(
            "device.memory: is null, and this machine has no GPU to ask. Write how much memory "
            "the GPU has, such as 24GB."
        )
    return min(int(psutil.virtual_memory().total), _cgroup_limit())


def _cgroup_limit() -> int:
    # A container may have less than its machine.
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(path).read_text("ascii"))
        except (OSError, ValueError):
            continue
    return sys.maxsize


def _advise(plan: Plan, runtime: int, capacity: int, ratio: float | None) -> Iterable[Advice]:
    """Try changes one by one, each estimated like the recipe itself; yield those that fit."""
    for overrides, changed in _changes(plan):
        peak = calibrated(estimate_memory(changed, runtime=runtime), ratio)
        if peak <= capacity:
            yield Advice(overrides=overrides, peak_bytes=peak)


def _changes(plan: Plan) -> Iterable[tuple[tuple[str, ...], Plan]]:
    accumulated = list(_accumulated(plan))
    yield from accumulated
    checkpointed = _with(plan, training={"gradient_checkpointing": True})
    ways: list[tuple[tuple[str, ...], Plan]] = [((), plan)]
    if not plan.training.gradient_checkpointing:
        ways.append((("training.gradient_checkpointing=true",), checkpointed))
        yield ways[-1]
    if plan.quantization.kind == "none" and plan.method.kind in ("lora", "full"):
        for name, way in ways:
            yield from _in_4_bits(name, way)
    for share in _SHORTER:
        length = int(plan.batch.tokens * share)
        yield (f"prompt.max_length={length}",), _with(plan, batch={"tokens": length})
    if accumulated and len(ways) > 1:
        last = list(_accumulated(checkpointed))[-1]
        yield (*ways[1][0], *last[0]), last[1]


def _accumulated(plan: Plan) -> Iterable[tuple[tuple[str, ...], Plan]]:
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
            yield (f"training.gradient_accumulation={parts}",), changed


def _in_4_bits(name: tuple[str, ...], plan: Plan) -> Iterable[tuple[tuple[str, ...], Plan]]:
    if plan.method.kind == "lora":
        yield ("quantization.kind=nf4", *name), _with(plan, quantization={"kind": "nf4"})


def _with(plan: Plan, **changes: dict[str, object]) -> Plan:
    parts = {
        name: getattr(plan, name).model_copy(update=update) for name, update in changes.items()
    }
    return replace(plan, **parts)


def _notes(request: EstimateRequest, device: str) -> Iterable[str]:
    if device == "cuda" and not torch.cuda.is_available():
        yield "counted for a GPU on a machine without one: its kernels may hold other memory"
    if device == "cuda":
        yield "the GPU's driver and context take some hundred megabytes more"
    if request.settings.training.torch_compile:
        yield "torch.compile plans memory its own way: the estimate is of the plain model"


def heap_notes(memory: MemoryEstimate, peak: int, capacity: int) -> Iterable[str]:
    """Say what helps where a training on a CPU fails by what the C library holds alone.

    Args:
        memory: By part.
        peak: The estimated peak, calibrated.
        capacity: Memory of the device.

    Yields:
        One note, or none.
    """
    needed = memory.runtime + memory.live
    if memory.allocator and peak > capacity >= needed:
        yield (
            f"its tensors and libraries take {needed / 2**20:,.0f} MiB: with "
            "MALLOC_MMAP_THRESHOLD_=131072 in the environment glibc keeps little beside them, and "
            "a training takes up to about twice as long"
        )


def main() -> None:
    """Read a request, estimate, and write the result or the error's message."""
    request = EstimateRequest.model_validate_json(Path(sys.argv[1]).read_bytes())
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        text = estimate_training(request).model_dump_json()
    except RetuneError as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(error.exit_code)
    write_atomically(Path(sys.argv[2]), text)


if __name__ == "__main__":
    main()
