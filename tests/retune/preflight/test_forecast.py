"""What is said of an estimate on a device: fits or not, by how much, and what to do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from retune.errors import ConfigError
from retune.machine import Device
from retune.modeling.memory.memory_estimate import (
    Alternative,
    BatchShape,
    MemoryEstimate,
    TrainingEstimate,
)
from retune.preflight import forecast
from retune.preflight.forecast import (
    StepTimes,
    TrainingForecast,
    make_forecast,
    parse_memory,
    refuse_unfit,
    say_fit,
)
from retune.recipe.recipe import Recipe
from retune.records import ChatRef

MIB = 1024 * 1024
CPU = Device(name="cpu", bfloat16=False)


def memory(**parts: int) -> MemoryEstimate:
    """Runtime 100 MiB, weights 50, activations 200: 350 MiB."""
    sizes = {"runtime": 100, "weights": 50, "adapter": 0, "gradients": 0, "optimizer": 0}
    sizes |= {"activations": 200, "logits": 0, "working": 0, **parts}
    return MemoryEstimate(
        **{name: size * MIB for name, size in sizes.items()},
        trainable_parameters=1,
        total_parameters=2,
        batch=BatchShape(rows=4, tokens=32, answer_tokens=8),
        device="cpu",
    )


def hold(capacity: int, ratio: float | None = None, **sections: Any) -> TrainingForecast:
    """Hold 350 MiB, or 250 or 340 with other settings, against a device of so many MiB.

    10 steps of 4 rows; 40 rows have 400 tokens.
    """
    training = SimpleNamespace(max_steps=10, batch_size=4, packing=False, torch_compile=False)
    recipe = SimpleNamespace(
        method=SimpleNamespace(kind="lora"),
        device=SimpleNamespace(memory=None),
        prompt=SimpleNamespace(max_length=32),
        training=training,
        **{"head": None, "dpo": None, "grpo": None, **sections},
    )
    chat = SimpleNamespace(train_tokens=400, side=lambda _: None)
    estimate = TrainingEstimate(
        digest="",
        memory=memory(),
        alternatives=(
            Alternative(overrides=("training.gradient_accumulation=2",), memory=memory(weights=40)),
            Alternative(overrides=("prompt.max_length=16",), memory=memory(activations=100)),
        ),
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(forecast, "find_memory", lambda _: capacity * MIB)
        patched.setattr(forecast, "count_sequences", lambda *_: 40)
        ratios = {} if ratio is None else {"cpu/lora": ratio, "cuda/lora": 9.0}
        return make_forecast(estimate, cast(Recipe, recipe), cast(ChatRef, chat), CPU, ratios)


def test_it_says_by_how_much() -> None:
    """350 of 400 MiB leaves 50; 350 of 300 lacks 50."""
    assert say_fit(hold(400)).startswith("fits, with 50.0 MiB to spare")
    assert say_fit(hold(300)).startswith("does not fit, by 50.0 MiB")


def test_earlier_trainings_count_for_what_is_above_the_libraries() -> None:
    """They held twice what was counted: 100 + 2 x 250 MiB; those on a GPU say nothing here."""
    assert hold(400, ratio=2.0).peak_bytes == 600 * MIB


def test_only_changes_with_which_it_fits_are_advised() -> None:
    """300 MiB hold the 250 of shorter rows and not the 340 of smaller passes; 400 need none."""
    assert [each.overrides for each in hold(300).advice] == [("prompt.max_length=16",)]
    assert hold(400).advice == ()


def test_only_what_certainly_does_not_fit_is_refused() -> None:
    """350 MiB are counted: 360 is no reason, whatever earlier trainings held; 300 is."""
    refuse_unfit(hold(360, ratio=2.0))
    with pytest.raises(ConfigError, match=r"needs at least 350.0 MiB.*max_length=16 \(250.0 MiB"):
        refuse_unfit(hold(300))


def test_a_model_that_is_parted_over_devices_is_left_to_the_plan() -> None:
    """350 MiB whole are more than 300, and no device holds them whole."""
    found = hold(300).model_copy(update={"sharded": True})
    refuse_unfit(found)
    assert say_fit(found).endswith(", were the model whole on each device (training.sharding)")


def test_what_cannot_be_counted_is_no_forecast() -> None:
    """The reason is the error's message."""
    unknown = TrainingEstimate(digest="", memory=None, fault="no step can be followed")
    with pytest.raises(ConfigError, match="no step can be followed"):
        make_forecast(unknown, cast(Recipe, None), cast(ChatRef, None), CPU, {})


def test_time_and_tokens_are_those_of_all_steps() -> None:
    """10 steps of 1.5 s are 15 s, of 4 rows of 10 tokens 400; untimed steps take no known time."""
    found = hold(500)
    times = StepTimes(steps=4, seconds_per_step=1.5, peak_memory_bytes=1)
    assert found.model_copy(update={"times": times}).seconds == pytest.approx(15.0)
    assert found.seconds is None
    assert (found.steps, found.tokens) == (10, 400)


def test_units_of_memory_are_those_of_makers() -> None:
    """24GB is 24 thousand millions of bytes, as a maker of GPUs counts."""
    assert parse_memory("24GB") == 24_000_000_000
    assert parse_memory("700MB") == 700_000_000
    assert parse_memory(None) is None


def test_what_is_left_out_is_said() -> None:
    """A head, preferences and rewards get a note each; a calibrated plain recipe none."""
    notes = hold(500, ratio=1.0, head=1, dpo=1, grpo=1).notes
    assert [note.split(":")[0] for note in notes] == ["head", "dpo", "grpo"]
    assert hold(500, ratio=1.0).notes == ()
    assert hold(500).notes[0].startswith("not calibrated")
