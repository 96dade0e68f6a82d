"""Memory that runs out in training: less at a time, for the same steps on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from retune.errors import OutOfMemory, StageError, StepOutOfMemory
from retune.model_records import AdapterRef, BaseRef
from retune.preflight.devices import TRAINING_CLUSTER
from retune.recipe.sections import TrainingConfig
from retune.records import ChatRef
from retune.spine.stage import Workdir
from retune.training import memory_ladder, stages, supervised
from retune.training.memory_ladder import describe_rung, next_rung, train_in_memory
from retune.training.metrics import read_metrics
from retune.training.stages import TrainInputs, TrainSettings
from tests.making import make_workdir
from tests.retune.training.test_supervised import Quantize, section

CLOSE = 1e-6


@pytest.mark.parametrize(
    ("rows", "parts", "rungs"),
    [
        # 16, 8, 4, 2, 1 rows at a time.
        (16, 1, [2, 4, 8, 16]),
        # Of 6 rows 3, and then 1: two of them would not be half.
        (6, 1, [2, 6]),
        # 7 rows have no equal parts but one by one.
        (7, 1, [7]),
        (4, 4, []),
    ],
)
def test_the_rungs_halve_what_goes_through_at_once(rows: int, parts: int, rungs: list[int]) -> None:
    """As far as the rows of a step can be parted equally; then activations are computed again."""
    training: TrainingConfig | None = TrainingConfig(batch_size=rows, gradient_accumulation=parts)
    seen = []
    while training is not None:
        training = next_rung(training, "lora")
        seen.append(training)
    *halved, again, last = seen
    assert [each.gradient_accumulation for each in halved if each] == rungs
    assert again is not None and again.gradient_checkpointing and last is None
    assert again.gradient_accumulation == (rungs or [parts])[-1]


@pytest.mark.parametrize(
    "training", [{"torch_compile": True}, {"gradient_checkpointing": True}, {}]
)
def test_activations_are_not_always_computed_again(training: dict[str, Any]) -> None:
    """Not of a compiled model, not under a learned prefix, and not twice."""
    kind: Any = "lora" if training else "prefix"
    assert next_rung(TrainingConfig(batch_size=1, **training), kind) is None


def test_several_devices_skip_rungs_that_change_nothing() -> None:
    """Four parts on two devices are two passes of two rows; two parts were one pass of four."""
    shared = TrainingConfig(batch_size=8, devices=2)
    lower = next_rung(shared, "lora")
    assert lower is not None and lower.gradient_accumulation == 4


@pytest.fixture(scope="module")
def inputs(chats: ChatRef, base: BaseRef, quantize: Quantize) -> TrainInputs:
    """The tiny Llama as it is, and the shipped rows."""
    sides = {"train": chats.side("train"), "validation": chats.side("validation")}
    return TrainInputs(**sides, base=base, model=quantize("none"))


def exact(**training: Any) -> TrainSettings:
    """Six steps of four rows without chance, in float32; five held-out rows are one batch."""
    training = {"evaluation_rows": 5, "runtime": {"log_every_steps": 1}, **training}
    settings = section({"dropout": 0.0}, kind="none", **training)
    return settings.model_copy(update={"compute_dtype": "float32"})


@pytest.fixture
def run_out(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[int, int]]]:
    """A function that lets memory do for so many rows at a time, from a step on."""

    def limit(rows: int, *, from_step: int = 0) -> list[tuple[int, int]]:
        seen: list[tuple[int, int]] = []
        compute = supervised.SFTTrainer.compute_loss

        def limited(self: Any, model: Any, batch: Any, *given: Any, **named: Any) -> Any:
            count, step = len(batch["input_ids"]), self.state.global_step
            if self.model.training:
                seen.append((step, count))
                if count > rows and step >= from_step:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
            return compute(self, model, batch, *given, **named)

        monkeypatch.setattr(supervised.SFTTrainer, "compute_loss", limited)
        return seen

    return limit


def losses(adapter: AdapterRef, name: str) -> list[float]:
    points = read_metrics(adapter.folder / "log" / "metrics.jsonl")
    return [point["value"] for point in points if point["name"] == name]


def test_the_same_steps_are_taken_with_less_at_a_time(
    inputs: TrainInputs, tmp_path: Path, run_out: Callable[..., list[tuple[int, int]]]
) -> None:
    """It runs out in the fourth step: from the checkpoint of the second on, two rows at a time.

    Each step's loss, the held-out losses and the weights are those of an undisturbed training.
    """
    whole = supervised.train_adapter(inputs, exact(), make_workdir(tmp_path / "whole"))
    seen = run_out(2, from_step=3)
    work = make_workdir(tmp_path / "lowered")
    lowered = stages.train_adapter.function(inputs, exact(), work)
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4)] + [(s, 2) for s in (2, 3, 4, 5) for _ in "ab"]
    assert (lowered.steps, lowered.resumed_from_step) == (6, 2)
    assert lowered.memory_rung == "training.gradient_accumulation: 2"
    for name in ("train_loss", "validation_loss"):
        assert losses(lowered, name) == pytest.approx(losses(whole, name), abs=CLOSE)
    expected = load_file(whole.folder / "adapter_model.safetensors")
    for name, weight in load_file(lowered.folder / "adapter_model.safetensors").items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=CLOSE)


def test_another_run_of_the_stage_starts_where_this_one_came_to(
    inputs: TrainInputs, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed later, it does not run out again; its record says what was changed all the same."""
    tried: list[TrainingConfig] = []

    def train(_: Any, settings: TrainSettings, work: Workdir) -> AdapterRef:
        tried.append(settings.training)
        if settings.training.gradient_accumulation == 1:
            raise StepOutOfMemory("memory ran out (DefaultCPUAllocator: can't allocate memory).")
        if len(tried) == 2:
            raise StageError("killed")
        return AdapterRef(
            **{"digest": "d", "folder": work.artifact, "steps": 6, "best_step": 6},
            **{"trainable_parameters": 1, "total_parameters": 1, "resumed_from_step": 0},
            **{"train_loss": 1.0, "validation_loss": None, "base_validation_loss": None},
        )

    with pytest.raises(StageError, match="killed"):
        train_in_memory(train, inputs, exact(), work)
    found = train_in_memory(train, inputs, exact(), work)
    assert [each.gradient_accumulation for each in tried] == [1, 2, 2]
    assert found.memory_rung == "training.gradient_accumulation: 2"
    assert describe_rung(tried[0], tried[0]) is None


def test_memory_that_runs_out_on_a_cluster_is_no_want_of_devices_here(
    inputs: TrainInputs, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight devices where this machine shows two: two rows at a time on each, then one, the end."""
    tried: list[int] = []

    def run_out(_: Any, training: TrainingConfig, *__: Any) -> AdapterRef:
        tried.append(training.gradient_accumulation)
        raise StepOutOfMemory("memory ran out")

    monkeypatch.setattr("retune.preflight.devices.list_gpu_memories", lambda: (2**34,) * 2)
    monkeypatch.setattr(memory_ladder, "train_on_devices", run_out)
    work = replace(work, context={TRAINING_CLUSTER: "head:6379"})
    settings = exact(batch_size=16, devices=8, gradient_checkpointing=True)
    with pytest.raises(OutOfMemory, match="with 1 row at a time"):
        train_in_memory(supervised.train_adapter, inputs, settings, work)
    # Sixteen parts are two passes of one row on each of eight.
    assert tried == [1, 16]


def test_what_fits_in_no_way_says_what_would_help(inputs: TrainInputs, work: Workdir) -> None:
    """Four rows, two, one, and one with activations computed again: then the end."""
    tried: list[tuple[int, bool]] = []

    def train(_: Any, settings: TrainSettings, __: Workdir) -> AdapterRef:
        training = settings.training
        tried.append((training.gradient_accumulation, training.gradient_checkpointing))
        raise StepOutOfMemory("memory ran out (CUDA out of memory. Tried to allocate 2 GiB.).")

    told = r"allocate 2 GiB\.\)\. That was with 1 row at a time, and with activations .*nf4"
    with pytest.raises(OutOfMemory, match=told):
        train_in_memory(train, inputs, exact(), work)
    assert tried == [(1, False), (2, False), (4, False), (4, True)]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2 GiB."),
    ],
)
def test_what_no_rung_changes_is_not_tried_again(
    inputs: TrainInputs, work: Workdir, error: RuntimeError
) -> None:
    """Weights that do not fit, on a device or a CPU: the end at once, and what would help."""
    tried: list[TrainingConfig] = []

    def train(_: Any, settings: TrainSettings, __: Workdir) -> AdapterRef:
        tried.append(settings.training)
        raise error

    told = r"allocate 2 GiB\.\)\. That was in no step.*nf4.*8 bits.*loss \(8 rows at a time\)"
    with pytest.raises(OutOfMemory, match=told):
        train_in_memory(train, inputs, exact(), work)
    assert len(tried) == 1 and not (work.scratch / memory_ladder._NOTE).exists()


def test_a_held_out_loss_that_does_not_fit_is_no_step(
    inputs: TrainInputs, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is measured on as many rows at a time whatever is trained on: nothing is stepped down."""
    compute = supervised.SFTTrainer.compute_loss

    def limited(self: Any, model: Any, *given: Any, **named: Any) -> Any:
        if not self.model.training and self.state.global_step > 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return compute(self, model, *given, **named)

    monkeypatch.setattr(supervised.SFTTrainer, "compute_loss", limited)
    with pytest.raises(OutOfMemory, match=r"in no step's passes.*held-out loss \(8 rows"):
        stages.train_adapter.function(inputs, exact(), work)
    assert not (work.scratch / memory_ladder._NOTE).exists()


def test_other_errors_are_no_want_of_memory(inputs: TrainInputs, work: Workdir) -> None:
    """They come out as they are, at once."""

    def train(_: Any, __: TrainSettings, ___: Workdir) -> AdapterRef:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes cannot"):
        train_in_memory(train, inputs, exact(), work)
    assert not (work.scratch / memory_ladder._NOTE).exists()
