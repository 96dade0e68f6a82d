"""What a training took, held against what it was estimated to need."""

from __future__ import annotations

from pathlib import Path

import pytest

from retune.calibrating import read_calibration
from retune.model_records import AdapterRef
from retune.modeling.memory.memory_estimate import BatchShape, MemoryEstimate
from retune.records import LOG_FOLDER
from retune.release.resources import calibrate, describe_resources, resource_figures
from retune.training.resource_record import MEASURED, Measured


def train(folder: Path, devices: int = 1) -> AdapterRef:
    """Return what a training on a CPU left: 300 bytes at most, 100 of them libraries."""
    measured = Measured(
        device="cpu",
        devices=devices,
        seconds=2.0,
        memory_before_bytes=150,
        model_bytes=50,
        peak_memory_bytes=300,
        steps=4,
        tokens=32,
        resumed=False,
    )
    (folder / LOG_FOLDER).mkdir()
    (folder / LOG_FOLDER / MEASURED).write_text(measured.model_dump_json(), "utf-8")
    return AdapterRef(
        digest="a",
        folder=folder,
        trainable_parameters=1,
        total_parameters=2,
        steps=4,
        best_step=4,
        resumed_from_step=0,
        train_loss=1.0,
        validation_loss=None,
        base_validation_loss=None,
    )


def estimate(device: str) -> MemoryEstimate:
    """Return an estimate of 160 bytes above libraries."""
    parts = dict.fromkeys(("adapter", "gradients", "optimizer", "activations", "logits"), 20)
    return MemoryEstimate(
        **parts,
        runtime=0,
        weights=40,
        working=20,
        trainable_parameters=1,
        total_parameters=2,
        batch=BatchShape(rows=1, tokens=8, answer_tokens=4),
        device=device,
    )


def test_an_estimate_for_the_same_device_is_shown_and_calibrates(tmp_path: Path) -> None:
    """Measured above libraries are 300 - (150 - 50) = 200 bytes: 200 / 160 = 1.25."""
    adapter = train(tmp_path)
    calibrate(tmp_path, adapter, estimate("cpu"))
    assert read_calibration(tmp_path) == {"cpu/lora": pytest.approx(1.25)}
    assert "(estimated" in describe_resources(adapter, estimate("cpu"))["Peak memory"]
    assert resource_figures(adapter, estimate("cpu"))["training.estimated_bytes.weights"] == 40


def test_one_of_several_devices_calibrates_nothing(tmp_path: Path) -> None:
    """The first of two held half of the rows, and the estimate is for all of them."""
    adapter = train(tmp_path, devices=2)
    calibrate(tmp_path, adapter, estimate("cpu"))
    assert read_calibration(tmp_path) == {}
    told = describe_resources(adapter, estimate("cpu"))["Peak memory"]
    assert told.endswith("on the first of 2 devices (cpu)")


def test_an_estimate_for_another_device_says_nothing_of_a_training(tmp_path: Path) -> None:
    """A training that is reused may have run on another machine than the one that estimates."""
    adapter = train(tmp_path)
    calibrate(tmp_path, adapter, estimate("cuda"))
    assert read_calibration(tmp_path) == {}
    assert "estimated" not in describe_resources(adapter, estimate("cuda"))["Peak memory"]
    assert not [n for n in resource_figures(adapter, estimate("cuda")) if "estimated" in n]
