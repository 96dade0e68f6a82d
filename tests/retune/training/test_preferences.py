"""Preferences: the reference is what was trained before, and the chosen answers get likelier."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from retune.data.chats.pairs import format_pairs
from retune.data.stages import PairsInputs, PairsSettings
from retune.data.tables import read_rows
from retune.digests import digest_folder
from retune.model_records import AdapterRef, BaseRef, ModelRef
from retune.records import ChatRef, PairsRef, Source
from retune.spine.stage import Workdir
from retune.training import loop, preferences, stages
from retune.training.metrics import read_metrics
from retune.training.preferences import measure_preferences, train_preferences
from retune.training.stages import PreferenceInputs, PreferenceSettings, TrainInputs, TrainSettings
from retune.training.supervised import train_adapter
from tests.making import make_workdir, settings_of, source_of

Quantize = Callable[[str], ModelRef]
TRAINING = {
    "max_steps": 6,
    "batch_size": 4,
    "learning_rate": 0.03,
    "evaluations": 2,
    "evaluation_rows": 4,
    "checkpoint_every_steps": 2,
    "warmup_steps": 0.0,
    "keep_best": False,
}


def section(
    kind: str = "nf4", method: dict[str, Any] | None = None, keep_best: bool = False, **dpo: Any
) -> PreferenceSettings:
    """Six steps of four pairs, evaluated at 3 and 6, with a checkpoint every 2."""
    settings = {"pairs": "pairs.jsonl", "max_steps": 6, "batch_size": 4, "learning_rate": 0.003}
    found: PreferenceSettings = settings_of(
        PreferenceSettings,
        seed=11,
        model={"id": "tiny"},
        quantization={"kind": kind},
        method={"r": 4, "alpha": 8, **(method or {})},
        training={**TRAINING, "keep_best": keep_best},
        dpo={**settings, **dpo},
    )
    return found


def write_pairs(chats: ChatRef, path: Path) -> Source:
    """Chosen is the row's own query, rejected one excuse for all: that can be learned quickly."""
    rows = read_rows(chats.side("train").folder / "rows.parquet")
    excuse = "Não sei responder."
    pairs = [
        {"prompt": row["question"], "chosen": row["answer"], "rejected": excuse} for row in rows
    ]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), "utf-8")
    return source_of(path)


@pytest.fixture(scope="module")
def pairs(chats: ChatRef, base: BaseRef, tmp_path_factory: pytest.TempPathFactory) -> PairsRef:
    """Pairs over the shipped rows, a fifth held back."""
    folder = tmp_path_factory.mktemp("pairs")
    source = write_pairs(chats, folder / "pairs.jsonl")
    return format_from(source, chats, base, make_workdir(folder / "work"))


def format_from(source: Source, chats: ChatRef, base: BaseRef, work: Workdir) -> PairsRef:
    """Write pairs as token ids, a fifth held back."""
    return format_pairs(
        PairsInputs(pairs=source, base=base, template=None, held_out=chats.side("test")),
        settings_of(
            PairsSettings,
            prompt={"max_length": 1024},
            dpo={"pairs": "pairs.jsonl", "validation_fraction": 0.2},
        ),
        work,
    )


def train_before(
    chats: ChatRef, base: BaseRef, model: ModelRef, kind: str, method: dict[str, Any], folder: Path
) -> AdapterRef:
    """Train briefly by supervised fine-tuning."""
    return train_adapter(
        TrainInputs(
            train=chats.side("train"),
            validation=chats.side("validation"),
            base=base,
            model=model,
        ),
        settings_of(
            TrainSettings,
            seed=11,
            model={"id": "tiny"},
            quantization={"kind": kind},
            method={"r": 4, "alpha": 8, **method},
            training={**TRAINING, "max_steps": 4},
        ),
        make_workdir(folder),
    )


@pytest.fixture(scope="module")
def before(
    chats: ChatRef, base: BaseRef, quantize: Quantize, tmp_path_factory: pytest.TempPathFactory
) -> AdapterRef:
    """An adapter over 4 bits that supervised fine-tuning left."""
    return train_before(
        chats, base, quantize("nf4"), "nf4", {}, tmp_path_factory.mktemp("sft") / "work"
    )


@pytest.fixture(scope="module")
def inputs(
    pairs: PairsRef, before: AdapterRef, base: BaseRef, quantize: Quantize
) -> PreferenceInputs:
    """Pairs, the adapter and the 4-bit model under it."""
    return PreferenceInputs(pairs=pairs, adapter=before, base=base, model=quantize("nf4"))


@pytest.fixture(scope="module")
def trained(
    inputs: PreferenceInputs, tmp_path_factory: pytest.TempPathFactory
) -> tuple[AdapterRef, Workdir]:
    """One uninterrupted training, and its folders."""
    work = make_workdir(tmp_path_factory.mktemp("dpo") / "work")
    return train_preferences(inputs, section(), work), work


def test_the_reference_is_what_was_trained_before(trained: tuple[AdapterRef, Workdir]) -> None:
    """Before the first step model and reference are one: -ln sigmoid(0) = ln 2 = 0.6931.

    With the bare base as reference the two would differ, and the loss too.
    """
    assert trained[0].base_validation_loss == pytest.approx(math.log(2), abs=1e-5)


def test_the_chosen_answers_get_likelier(trained: tuple[AdapterRef, Workdir]) -> None:
    """Relative to the reference, on pairs that were held back, and the loss falls below ln 2."""
    figures = trained[0].figures
    assert figures["pairs_held_back"] > 0
    assert figures["reward_margin"] > 0
    assert figures["reward_accuracy"] > 0.5
    assert trained[0].validation_loss is not None
    assert trained[0].validation_loss < math.log(2)


def test_the_adapter_moves_and_the_base_does_not(
    trained: tuple[AdapterRef, Workdir], before: AdapterRef, inputs: PreferenceInputs, work: Workdir
) -> None:
    """Every adapter weight has its name and shape from before, and another value."""
    files = (folder / "adapter_model.safetensors" for folder in (before.folder, trained[0].folder))
    then, now = (load_file(file) for file in files)
    assert then.keys() == now.keys()
    assert all(not torch.equal(then[name], now[name]) for name in then)
    assert sorted(path.name for path in trained[0].folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "log",
    ]


def test_the_frozen_weights_stay_bit_for_bit(
    inputs: PreferenceInputs, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is frozen in memory, and the snapshots on disk, are the same after training."""
    seen: dict[str, Any] = {}
    go_on = preferences.continue_training

    def remember(*arguments: Any) -> Any:
        continued = go_on(*arguments)
        frozen = {n: p for n, p in continued.model.named_parameters() if not p.requires_grad}
        seen["now"], seen["before"] = frozen, {n: p.detach().clone() for n, p in frozen.items()}
        return continued

    monkeypatch.setattr(preferences, "continue_training", remember)
    folders = (inputs.model.folder, inputs.base.folder, inputs.adapter.folder)
    digests = [digest_folder(folder) for folder in folders]
    train_preferences(inputs, section(max_steps=2), work)
    assert seen["before"]
    assert all(torch.equal(seen["before"][name], weight) for name, weight in seen["now"].items())
    assert [digest_folder(folder) for folder in folders] == digests


def test_the_record_describes_the_new_training(
    trained: tuple[AdapterRef, Workdir], before: AdapterRef, pairs: PairsRef
) -> None:
    """Parameters as before: the copy that serves as reference is not counted; steps are new."""
    adapter = trained[0]
    assert (adapter.kind, adapter.steps, before.steps) == ("lora", 6, 4)
    assert adapter.trainable_parameters == before.trainable_parameters == 8_192
    assert adapter.total_parameters == before.total_parameters
    assert adapter.figures["pairs"] == pairs.train
    assert adapter.digest == digest_folder(adapter.folder, without=("log",))


def test_the_curves_show_accuracy_and_margin(trained: tuple[AdapterRef, Workdir]) -> None:
    """Evaluated at 0, 3 and 6; at 0 no answer has gained anything."""
    lines = read_metrics(trained[0].folder / "log" / "metrics.jsonl")
    margins = {p["step"]: p["value"] for p in lines if p["name"] == "validation_reward_margin"}
    assert sorted(margins) == [0, 3, 6]
    assert margins[0] == pytest.approx(0, abs=1e-5)
    assert "validation_preference_accuracy" in {point["name"] for point in lines}


def test_two_ways_to_the_margin_agree(
    inputs: PreferenceInputs, trained: tuple[AdapterRef, Workdir], work: Workdir
) -> None:
    """TRL's mean over batches and ours over pairs are one number where there is one batch."""
    size = inputs.pairs.validation
    found = train_preferences(inputs, section(max_steps=2, batch_size=size), work)
    lines = read_metrics(found.folder / "log" / "metrics.jsonl")
    last = [p["value"] for p in lines if p["name"] == "validation_reward_margin"][-1]
    assert found.figures["reward_margin"] == pytest.approx(last, rel=0.05, abs=1e-3)


@pytest.mark.slow
def test_a_resumed_training_equals_an_uninterrupted_one(
    trained: tuple[AdapterRef, Workdir],
    inputs: PreferenceInputs,
    work: Workdir,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed at step 5 and resumed from step 4: the same adapter, bit for bit, and figures."""
    on_log = loop.MetricsLog.on_step_end

    def die(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        on_log(self, args, state, control, **rest)
        if state.global_step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(loop.MetricsLog, "on_step_end", die)
        train_preferences(inputs, section(), work)
    resumed = train_preferences(inputs, section(), work)
    assert resumed.resumed_from_step == 4
    assert resumed.digest == trained[0].digest
    assert resumed.figures == trained[0].figures


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [{"kind": "full"}, {}, {"init": "pissa"}, {"dora": True, "rslora": True}],
    ids=["full", "lora", "pissa", "dora"],
)
def test_other_methods_start_from_what_was_trained(
    method: dict[str, Any],
    chats: ChatRef,
    base: BaseRef,
    pairs: PairsRef,
    quantize: Quantize,
    tmp_path: Path,
) -> None:
    """The loss is ln 2 before the first step, and less after the last, whatever the method."""
    model = quantize("none")
    settings = {"kind": "full"} if method.get("kind") == "full" else method
    adapter = train_adapter(
        TrainInputs(
            train=chats.side("train"), validation=chats.side("validation"), base=base, model=model
        ),
        settings_of(
            TrainSettings,
            seed=11,
            model={"id": "tiny"},
            quantization={"kind": "none"},
            method=settings,
            training={**TRAINING, "max_steps": 2, "learning_rate": 0.003},
        ),
        make_workdir(tmp_path / "sft"),
    )
    found = train_preferences(
        PreferenceInputs(pairs=pairs, adapter=adapter, base=base, model=model),
        settings_of(
            PreferenceSettings,
            seed=11,
            model={"id": "tiny"},
            quantization={"kind": "none"},
            method=settings,
            training=TRAINING,
            dpo={"pairs": "p", "max_steps": 4, "batch_size": 4, "learning_rate": 0.003},
        ),
        make_workdir(tmp_path / "dpo"),
    )
    assert found.base_validation_loss == pytest.approx(math.log(2), abs=1e-5)
    assert found.validation_loss is not None
    assert found.validation_loss < math.log(2)


def test_figures_by_hand() -> None:
    """Two pairs, beta 0.5: gains (1 - -1) = 2 and (0 - 1) = -1; margins 1 and -0.5; mean 0.25.

    Before, the chosen answer is likelier in the second pair alone; after, in both.
    """
    before = [(-5.0, -4.0), (-2.0, -6.0)]
    after = [(-4.0, -5.0), (-2.0, -5.0)]
    assert measure_preferences(before, after, 0.5) == {
        "preference_accuracy_before": 0.5,
        "preference_accuracy": 1.0,
        "reward_accuracy": 0.5,
        "reward_margin": 0.25,
    }


@pytest.fixture
def exact_inputs(
    pairs: PairsRef, chats: ChatRef, base: BaseRef, quantize: Quantize, tmp_path: Path
) -> PreferenceInputs:
    """The same over plain weights, where two ways to a sum are equal but for the last digits."""
    model = quantize("none")
    before = train_before(chats, base, model, "none", {"dropout": 0.0}, tmp_path / "sft")
    return PreferenceInputs(pairs=pairs, adapter=before, base=base, model=model)


def test_memory_that_runs_out_costs_no_step(
    exact_inputs: PreferenceInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs out in the fourth step: from the checkpoint of the second on, two pairs at a time.

    Weights and losses are those of an undisturbed training.
    """
    settings = section("none", {"dropout": 0.0}).model_copy(update={"compute_dtype": "float32"})
    whole = train_preferences(exact_inputs, settings, make_workdir(tmp_path / "whole"))
    seen: list[tuple[int, int]] = []
    compute = preferences.PairTrainer.compute_loss

    def limited(self: Any, model: Any, batch: Any, *given: Any, **named: Any) -> Any:
        if self.model.training:
            count, step = len(batch["input_ids"]) // 2, self.state.global_step
            seen.append((step, count))
            if count > 2 and step >= 3:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return compute(self, model, batch, *given, **named)

    monkeypatch.setattr(preferences.PairTrainer, "compute_loss", limited)
    work = make_workdir(tmp_path / "lowered")
    lowered = stages.train_preferences.function(exact_inputs, settings, work)
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4)] + [(s, 2) for s in (2, 3, 4, 5) for _ in "ab"]
    assert (lowered.steps, lowered.resumed_from_step) == (6, 2)
    assert lowered.memory_rung == "training.gradient_accumulation: 2"
    assert lowered.figures == pytest.approx(whole.figures, abs=1e-5)
    expected = load_file(whole.folder / "adapter_model.safetensors")
    for name, weight in load_file(lowered.folder / "adapter_model.safetensors").items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-6)
