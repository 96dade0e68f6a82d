"""What a training took: time, tokens, and the most memory that it held at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from retune.machine import read_status, trim_heap
from retune.records import LOG_FOLDER
from retune.training.checkpoints import write_atomically
from retune.training.distributed.ranks import find_ranks
from retune.training.distributed.sharding import local_part
from retune.training.resource_record import MEASURED, Measured

_KIB = 1024
_SAMPLE_SECONDS = 0.01
# Written to /proc/self/clear_refs it makes the highest resident size start anew (proc(5)).
_RESET_PEAK = "5"


@contextmanager
def measure_training(trainer: Trainer, artifact: Path, *, resumed_from: int) -> Iterator[None]:
    """Measure what a training takes, and write it into its artifact.

    Args:
        trainer: Built, its model loaded.
        artifact: Folder of the result; `log/measured.json` is written there at the end.
        resumed_from: Step of the checkpoint that training resumes from, else 0.
    """
    model = trainer.model
    assert model is not None
    device = next(model.parameters()).device.type
    held = tensor_bytes(model)
    with watch_memory(device) as memory, _counted_tokens(trainer, memory.sample) as tokens:
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
    measured = Measured(
        device=device,
        devices=find_ranks().count,
        seconds=seconds,
        memory_before_bytes=memory.before,
        model_bytes=held,
        peak_memory_bytes=memory.peak,
        steps=max(0, int(trainer.state.global_step) - resumed_from),
        tokens=find_ranks().total(tokens()),
        resumed=resumed_from > 0,
    )
    (artifact / LOG_FOLDER).mkdir(parents=True, exist_ok=True)
    write_atomically(artifact / LOG_FOLDER / MEASURED, measured.model_dump_json(indent=1) + "\n")


def tensor_bytes(model: torch.nn.Module) -> int:
    """Return the bytes of a model's parameters and buffers; what is shared counts once.

    Args:
        model: Loaded, on one device.

    Returns:
        Bytes, the scales of 4-bit weights included.
    """
    found: dict[int, int] = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        for part in (tensor, *_scales(getattr(tensor, "quant_state", None))):
            storage = local_part(part).untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def _scales(state: Any) -> list[torch.Tensor]:
    if state is None:
        return []
    parts = [getattr(state, name, None) for name in ("absmax", "code", "offset")]
    return [p for p in parts if isinstance(p, torch.Tensor)] + _scales(
        getattr(state, "state2", None)
    )


class MemoryWatch:
    """What is held before and at most while something runs.

    The kernel knows the highest resident size of a process exactly, but only where it lets us start
    it anew is that the one of this block. Else it is where it has grown meanwhile; where it has
    not, what was held is looked at now and then, and whenever `sample` is called.

    Args:
        device: cpu or cuda.
    """

    def __init__(self, device: str) -> None:
        self.before = 0
        self.peak = 0
        self._device = device
        self._highest_ever = 0
        self._ended = threading.Event()
        self._sampler: threading.Thread | None = None

    def start(self) -> None:
        """Take what is held now, and let the peak start anew."""
        if self._device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.before = int(torch.cuda.memory_allocated())
            return
        # Kept, what earlier work freed would count as held before, and be used again uncounted.
        trim_heap()
        is_anew = _reset_peak()
        self._highest_ever = 0 if is_anew else read_status("VmHWM")
        self.before = self.peak = read_status("VmRSS")
        if not is_anew:
            self._sampler = threading.Thread(target=self._look_often, daemon=True)
            self._sampler.start()

    def sample(self) -> None:
        """Look at what is held now; a busy machine may not let the watch itself run in time."""
        if self._sampler is not None:
            self.peak = max(self.peak, read_status("VmRSS"))

    def stop(self) -> None:
        """Take the peak."""
        self._ended.set()
        if self._device == "cuda":
            self.peak = int(torch.cuda.max_memory_allocated())
            return
        if self._sampler is not None:
            self._sampler.join()
        highest = read_status("VmHWM")
        if highest > self._highest_ever:
            self.peak = max(self.peak, highest)

    def _look_often(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            self.sample()


@contextmanager
def watch_memory(device: str) -> Iterator[MemoryWatch]:
    """Watch the memory of this process, or of its part of an accelerator.

    Args:
        device: cpu or cuda.

    Yields:
        The figures; `peak` is right when the block has ended.
    """
    watch = MemoryWatch(device)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    except OSError:
        return False
    # Where the write is taken and ignored, the old peak would be told as the new one.
    return read_status("VmHWM") <= read_status("VmRSS") + _KIB * _KIB


@contextmanager
def _counted_tokens(trainer: Trainer, sample: Callable[[], None]) -> Iterator[Callable[[], int]]:
    """Count what a loss is learned from; a checkpoint's skipped batches never come there.

    Memory is looked at where a step holds most: after the forward pass, before the backward one.
    """
    step, loss = trainer.training_step, trainer.compute_loss
    counts, learning = [0], [False]

    def training_step(*arguments: Any, **named: Any) -> Any:
        learning[0] = True
        try:
            return step(*arguments, **named)
        finally:
            learning[0] = False

    # What the step is given may be rows whose answers are still to be written; here they are.
    def compute_loss(
        model: torch.nn.Module, inputs: dict[str, Any], *rest: Any, **named: Any
    ) -> Any:
        # Evaluations come here too.
        counts[0] += count_tokens(inputs) if learning[0] else 0
        found = loss(model, inputs, *rest, **named)
        sample()
        return found

    trainer.training_step, trainer.compute_loss = training_step, compute_loss
    try:
        yield lambda: counts[0]
    finally:
        del trainer.training_step, trainer.compute_loss


def count_tokens(inputs: dict[str, Any]) -> int:
    """Return the real tokens of a batch, whatever kind of trainer it is for.

    Args:
        inputs: As a collator made it; masks say what is padding, else all of it counts.

    Returns:
        Tokens of all masks, or of all ids where there is no mask (packed rows have none).
    """
    # Rewards have a mask of prompts and one of answers.
    ends = ("prompt_mask", "completion_mask") if "prompt_mask" in inputs else ("attention_mask",)
    masks = [value for name, value in inputs.items() if name.endswith(ends)]
    ids = [value for name, value in inputs.items() if name.endswith("input_ids")]
    if masks:
        return sum(int(mask.sum()) for mask in masks)
    return sum(int(value.numel()) for value in ids)
