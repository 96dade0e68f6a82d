"""What is said of an estimate: fits or not, by how much, and what to do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from retune.cli.app import app
from retune.cli.estimates import coverage_notes, fit_text, parse_memory, refuse_unfit
from retune.errors import ConfigError
from retune.modeling.memory.estimates import (
    Advice,
    BatchShape,
    MemoryEstimate,
    StepTimes,
    TrainingEstimate,
)
from retune.recipe.recipe import Recipe
from retune.training.estimating import heap_notes

MIB = 1024 * 1024


def memory(**parts: int) -> MemoryEstimate:
    """Runtime 100 MiB, weights 50, activations 200, allocator 100: 450 MiB."""
    sizes = {"runtime": 100, "weights": 50, "adapter": 0, "gradients": 0, "optimizer": 0}
    sizes |= {"activations": 200, "logits": 0, "working": 0, "allocator": 100, **parts}
    return MemoryEstimate(
        **{name: size * MIB for name, size in sizes.items()},
        trainable_parameters=1,
        total_parameters=2,
        batch=BatchShape(rows=4, tokens=32, answer_tokens=8),
        device="cpu",
    )


def estimate(capacity: int, **fields: Any) -> TrainingEstimate:
    """450 MiB on a device of so many MiB."""
    found = {"calibration": None, "peak_bytes": 450 * MIB, "steps": 10, "tokens": 5, "times": None}
    return TrainingEstimate(memory=memory(), capacity_bytes=capacity * MIB, **{**found, **fields})


def test_it_says_by_how_much() -> None:
    """450 of 500 MiB leaves 50; 450 of 400 lacks 50."""
    assert fit_text(estimate(500)).startswith("fits, with 50.0 MiB to spare")
    assert fit_text(estimate(400)).startswith("does not fit, by 50.0 MiB")


def test_only_what_certainly_does_not_fit_is_refused() -> None:
    """Without the C library's share 350 MiB are needed: 360 is no reason, 340 is."""
    refuse_unfit(estimate(360))
    advice = Advice(overrides=("training.gradient_accumulation=2",), peak_bytes=300 * MIB)
    with pytest.raises(ConfigError, match=r"needs at least 350.0 MiB.*gradient_accumulation=2"):
        refuse_unfit(estimate(340, advice=(advice,)))


def test_time_is_that_of_all_steps() -> None:
    """10 steps of 1.5 s are 15 s; without timed steps nothing is said."""
    times = StepTimes(steps=4, seconds_per_step=1.5, peak_memory_bytes=1)
    assert estimate(500, times=times).seconds == pytest.approx(15.0)
    assert estimate(500).seconds is None


def test_units_of_memory_are_those_of_makers() -> None:
    """24GB is 24 thousand millions of bytes, as a maker of GPUs counts."""
    assert parse_memory("24GB") == 24_000_000_000
    assert parse_memory("700MB") == 700_000_000
    assert parse_memory(None) is None


def test_an_unknown_device_is_refused() -> None:
    """Before any row is read."""
    result = CliRunner().invoke(app, ["estimate", "none.yaml", "--device", "tpu"])
    assert isinstance(result.exception, ConfigError)
    assert "tpu is neither cpu nor cuda" in str(result.exception)


def test_what_is_left_out_is_said() -> None:
    """A head, preferences and rewards get a note each; a plain recipe none."""
    with_all = SimpleNamespace(head=1, dpo=1, grpo=1)
    notes = coverage_notes(cast(Recipe, with_all))
    assert [note.split(":")[0] for note in notes] == ["head", "dpo", "grpo"]
    plain = SimpleNamespace(head=None, dpo=None, grpo=None)
    assert coverage_notes(cast(Recipe, plain)) == []


def test_an_exact_heap_is_named_where_it_decides() -> None:
    """450 MiB, of which 100 are the heap's: on 400 it would fit without, on 340 and 500 not."""
    found = memory()
    (note,) = heap_notes(found, 450 * MIB, 400 * MIB)
    assert "take 350 MiB" in note
    assert not [*heap_notes(found, 450 * MIB, 340 * MIB)]
    assert not [*heap_notes(found, 450 * MIB, 500 * MIB)]
