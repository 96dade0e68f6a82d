"""Trainings that two ranks run one after the other: starting them once is what takes the time."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM
from trl import SFTTrainer

from retune.errors import StageError
from retune.model_records import AdapterRef
from retune.spine.stage import Workdir
from retune.training.distributed.ranks import find_ranks
from retune.training.distributed.sharding import find_blocks, shard_model
from retune.training.stages import TrainInputs, TrainSettings
from retune.training.supervised import train_adapter
from tests.retune.training.broken_rows import break_row


class Scenario(BaseModel):
    """One training: its function, and the records that it is given, each by ``module:name``."""

    name: str
    function: str
    inputs_type: str
    inputs: dict[str, Any]
    settings_type: str
    settings: dict[str, Any]


class Scenarios(BaseModel):
    """All of them, and the model that is parted by itself."""

    trainings: list[Scenario]
    snapshot: Path


class NoSettings(BaseModel):
    """Nothing is set for all of them."""


def describe(name: str, function: Any, inputs: BaseModel, settings: BaseModel) -> Scenario:
    """Write down a training that two ranks are to run."""
    return Scenario(
        name=name,
        function=f"{function.__module__}:{function.__qualname__}",
        inputs_type=f"{type(inputs).__module__}:{type(inputs).__qualname__}",
        inputs=inputs.model_dump(mode="json"),
        settings_type=f"{type(settings).__module__}:{type(settings).__qualname__}",
        settings=settings.model_dump(mode="json"),
    )


def run_scenarios(inputs: Scenarios, _: NoSettings, work: Workdir) -> AdapterRef:
    """Run all trainings as one rank of two; each has folders of its own below those given."""
    _note_parts(inputs.snapshot, work)
    record: AdapterRef | None = None
    for each in inputs.trainings:
        own = Workdir(_made(work.artifact / each.name), _made(work.scratch / each.name))
        record = _look_up(each.function)(
            _look_up(each.inputs_type).model_validate_json(json.dumps(each.inputs)),
            _look_up(each.settings_type).model_validate_json(json.dumps(each.settings)),
            own,
        )
        (work.artifact / f"{each.name}.json").write_text(record.model_dump_json(), "utf-8")
    assert record is not None
    return record


def skip_then_stop(inputs: TrainInputs, settings: TrainSettings, work: Workdir) -> AdapterRef:
    """Train with a row of the second rank whose loss is NaN, in the first step and in the fifth.

    Once left out, then the end, twice; both left out, from the same checkpoint; then none.
    """
    _, SFTTrainer.compute_loss = break_row(inputs.train, 1)

    def train(name: str, most: int) -> AdapterRef:
        # What other ranks note lies beside the artifact: each start has new notes, as processes do.
        own = Workdir(_made(work.artifact / name / "artifact"), _made(work.scratch / "skipped"))
        update = {"on_non_finite": "skip_batch", "max_skipped_batches": most}
        skipping = settings.training.model_copy(update=update)
        return train_adapter(inputs, settings.model_copy(update={"training": skipping}), own)

    for start in ("once", "again"):
        try:
            train(start, 1)
        except StageError as error:
            (work.artifact / f"{start}.txt").write_text(str(error), "utf-8")
    (work.artifact / "skipped.json").write_text(train("both", 2).model_dump_json(), "utf-8")
    return train_adapter(inputs, settings, work)


def _note_parts(snapshot: Path, work: Workdir) -> None:
    """Part a model, and write down which weights of its blocks are parted, and how many ranks."""
    model = AutoModelForCausalLM.from_pretrained(snapshot, dtype=torch.float32)
    blocks = find_blocks(model)
    shard_model(model, "cpu")
    found = {
        "ranks": find_ranks().count,
        "blocks": [
            [isinstance(weight, DTensor) for weight in block.parameters()]
            for block in blocks
            if isinstance(block, FSDPModule)
        ],
        "local": sum(
            weight.to_local().numel()
            for weight in model.parameters()
            if isinstance(weight, DTensor)
        ),
        "whole": sum(weight.numel() for weight in model.parameters()),
    }
    (work.artifact / "parts.json").write_text(json.dumps(found), "utf-8")


def _look_up(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
