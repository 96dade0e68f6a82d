"""What happens beside the optimizer."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from retune.errors import StageError
from retune.modeling.methods.lora import as_peft
from retune.spine.stage import SilentReporter
from retune.spine.stopping import StopSignal
from retune.training import callbacks
from retune.training.callbacks import (
    BestWeights,
    LogBeforeSaving,
    MetricsLog,
    StopAtNextStep,
    TimedCheckpoints,
    refuse_non_finite,
)
from retune.training.metrics import read_metrics
from retune.training.trainable import TrainedAdapter
from tests.tiny_models import family_config

ARGUMENTS: Any = TrainingArguments(output_dir="/tmp/unused", report_to="none")


def log(callback: Any, step: int, **logs: float) -> None:
    callback.on_log(ARGUMENTS, TrainerState(global_step=step), TrainerControl(), logs=logs)


def points(path: Path) -> list[tuple[str, float, int]]:
    return [(line["name"], line["value"], line["step"]) for line in read_metrics(path)]


def test_figures_get_the_products_names(tmp_path: Path) -> None:
    """The Trainer's closing summary has a `train_loss` of its own, which is no point of a curve."""
    path = tmp_path / "metrics.jsonl"
    callback = MetricsLog(path, 0, SilentReporter())
    log(callback, 5, loss=2.0, grad_norm=1.5, learning_rate=0.1, epoch=0.5)
    log(callback, 5, eval_loss=3.0, eval_runtime=9.0)
    log(callback, 5, train_loss=2.5, train_runtime=9.0)
    assert points(path) == [
        ("train_loss", 2.0, 5),
        ("gradient_norm", 1.5, 5),
        ("learning_rate", 0.1, 5),
        ("validation_loss", 3.0, 5),
    ]


def test_steps_after_the_checkpoint_come_again_once(tmp_path: Path) -> None:
    """Killed at step 6 and resumed from 4: the points of 5 and 6 are dropped and written anew."""
    path = tmp_path / "metrics.jsonl"
    first = MetricsLog(path, 0, SilentReporter())
    log(first, 0, eval_loss=9.0)
    for step in (2, 4, 6):
        log(first, step, loss=1.0)
    with path.open("a") as file:
        file.write('{"name": "train_lo')
    second = MetricsLog(path, 4, SilentReporter())
    for step in (6, 8):
        log(second, step, loss=1.0)
    assert [step for _, _, step in points(path)] == [0, 2, 4, 6, 8]


def test_the_loss_before_the_first_step_is_kept_and_not_doubled(tmp_path: Path) -> None:
    """Killed before any checkpoint, it may be measured again or not; it stands there once."""
    path = tmp_path / "metrics.jsonl"
    log(MetricsLog(path, 0, SilentReporter()), 0, eval_loss=9.0)
    assert points(path) == [("validation_loss", 9.0, 0)]
    log(MetricsLog(path, 0, SilentReporter()), 0, eval_loss=9.0)
    assert points(path) == [("validation_loss", 9.0, 0)]


def test_weights_that_are_no_numbers_are_refused() -> None:
    """Only trained ones are looked at, and the message names the tensor."""
    layer = torch.nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    layer.bias.data[0] = math.nan
    refuse_non_finite(layer, 4)
    layer.weight.data[0, 0] = math.inf
    with pytest.raises(StageError, match="weight holds NaN or infinity after step 4"):
        refuse_non_finite(layer, 4)


def test_a_log_comes_with_each_checkpoint() -> None:
    """Otherwise the losses since the last log are lost with a kill after it."""
    control = TrainerControl(should_save=True)
    LogBeforeSaving().on_step_end(ARGUMENTS, TrainerState(global_step=1), control)
    assert control.should_log
    control = TrainerControl()
    LogBeforeSaving().on_step_end(ARGUMENTS, TrainerState(global_step=1), control)
    assert not control.should_log


def test_a_stop_becomes_a_checkpoint_and_an_end() -> None:
    """After the step at hand, not in its middle."""
    stop, control = StopSignal(), TrainerControl()
    StopAtNextStep(stop).on_step_end(ARGUMENTS, TrainerState(), control)
    assert not control.should_training_stop
    stop.requested = True
    StopAtNextStep(stop).on_step_end(ARGUMENTS, TrainerState(), control)
    assert control.should_training_stop and control.should_save


def test_a_checkpoint_comes_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 2 minutes: not at 119 s, at 120 s, and then not before 120 s after the last one."""
    now = [0.0]
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: now[0]))
    callback = TimedCheckpoints(2.0)

    def asks(seconds: float) -> bool:
        now[0], control = seconds, TrainerControl()
        callback.on_step_end(ARGUMENTS, TrainerState(), control)
        return control.should_save

    now[0] = 100.0  # the model was loaded, and measured once
    callback.on_train_begin(ARGUMENTS, TrainerState(), TrainerControl())
    assert [asks(219.0), asks(220.0)] == [False, True]
    now[0] = 230.0  # it took ten seconds to write
    callback.on_save(ARGUMENTS, TrainerState(), TrainerControl())
    assert [asks(349.0), asks(350.0)] == [False, True]


def tiny_adapted() -> Any:
    config = as_peft(r=2, alpha=2, dropout=0.0, target_modules=("q_proj",), rslora=False)
    return get_peft_model(AutoModelForCausalLM.from_config(family_config("llama", 50)), config)


def test_a_half_kept_best_adapter_is_none(tmp_path: Path) -> None:
    """The note is taken away first and written last, so that it never names other weights."""
    trained = TrainedAdapter(tiny_adapted(), "tiny", None)
    assert BestWeights(tmp_path, trained).best is None
    (tmp_path / "best.json").write_text(json.dumps({"step": 4, "loss": 0.5}))
    assert BestWeights(tmp_path, trained).best == {"step": 4, "loss": 0.5}


def test_the_best_adapter_is_kept(tmp_path: Path) -> None:
    """Of the losses 3, 2 and 2.5 the second is the lowest, and the one at step 0 is no adapter."""
    model = tiny_adapted()
    callback = BestWeights(tmp_path, TrainedAdapter(model, "tiny", None))
    for step, loss in ((0, 1.0), (2, 3.0), (4, 2.0), (6, 2.5)):
        for weight in model.parameters():
            if weight.requires_grad:
                weight.data.fill_(step)
        metrics = {"eval_loss": loss}
        callback.on_evaluate(
            ARGUMENTS,
            TrainerState(global_step=step),
            TrainerControl(),
            metrics=metrics,
        )
    assert callback.best == {"step": 4, "loss": 2.0}
    kept = load_file(callback.kept / "adapter_model.safetensors")
    assert {float(value) for weight in kept.values() for value in weight.unique()} == {4.0}
