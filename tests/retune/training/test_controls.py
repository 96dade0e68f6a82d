"""Each control of a training is seen by what it does, not by what the recipe says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers.training_args import OptimizerNames
from trl import SFTConfig

from retune.data.tables import read_rows
from retune.errors import ConfigError
from retune.model_records import BaseRef
from retune.preflight import training_rows
from retune.recipe.sections import TrainingConfig
from retune.recipe.sections.optimizers import MISSING, OPTIMIZERS, RENAMED
from retune.records import ChatRef, Record
from retune.spine.stage import Workdir, key_parts, stage_key
from retune.training import stages, supervised
from retune.training.stages import TrainInputs, TrainSettings
from retune.training.supervised import train_adapter
from retune.training.trainable import prepare_model
from retune.training.trainer_arguments import common_arguments, row_arguments
from tests.making import make_workdir, settings_of
from tests.retune.training.test_supervised import Quantize, section


@pytest.fixture(scope="module")
def inputs(chats: ChatRef, base: BaseRef, quantize: Quantize) -> TrainInputs:
    """The tiny Llama as it is, and the shipped rows."""
    sides = {"train": chats.side("train"), "validation": chats.side("validation")}
    return TrainInputs(**sides, base=base, model=quantize("none"))


@pytest.fixture
def trainer(inputs: TrainInputs, work: Workdir, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that trains two steps and returns the trainer that did."""

    def train(**training: Any) -> Any:
        seen: list[Any] = []
        build = supervised._build_sft_trainer

        def remember(*arguments: Any) -> Any:
            seen.append(build(*arguments))
            return seen[0]

        with monkeypatch.context() as patched:
            patched.setattr(supervised, "_build_sft_trainer", remember)
            settings = section(
                kind="none",
                **{"max_steps": 2, "evaluations": 0, "checkpoint_every_steps": None, **training},
            )
            shutil.rmtree(work.scratch)
            shutil.rmtree(work.artifact)
            train_adapter(inputs, settings, make_workdir(work.artifact.parent / "again"))
            shutil.rmtree(work.artifact.parent / "again")
            make_workdir(work.artifact.parent)
        return seen[0]

    return train


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_that_may_be_named_takes_a_step_here(
    name: str, inputs: TrainInputs, work: Workdir
) -> None:
    """Adapters move, and the optimizer's state goes through a checkpoint."""
    settings = section(
        kind="none", max_steps=2, evaluations=0, optimizer=name, checkpoint_every_steps=1
    )
    adapter = train_adapter(inputs, settings, work)
    weights = load_file(adapter.folder / "adapter_model.safetensors")
    assert all(weight.abs().max() > 0 for key, weight in weights.items() if "lora_B" in key)
    assert (work.scratch / "checkpoints" / "checkpoint-1" / "sealed.json").is_file()


def test_every_optimizer_of_transformers_is_offered_or_refused_with_what_it_needs() -> None:
    """So that a new name is noticed when the library moves."""
    names = {name.value for name in OptimizerNames}
    assert set(OPTIMIZERS) <= names
    left = {name for name in names if not name.startswith(tuple(MISSING))} - set(OPTIMIZERS)
    assert left == set()
    assert set(RENAMED.values()) <= set(OPTIMIZERS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("adamw", "no optimizer that transformers knows"),
        ("galore_adamw_8bit_layerwise", "needs galore_torch"),
        ("adamw_hf", "is called adamw_torch today"),
    ],
)
def test_an_optimizer_that_cannot_run_is_refused_with_a_list(name: str, text: str) -> None:
    """While the recipe is read, without torch."""
    with pytest.raises(ValueError, match=f"{text}.*choose one of adamw_torch, "):
        TrainingConfig(optimizer=name)


def test_the_figures_of_adam_reach_it(trainer: Any) -> None:
    """And decay falls on adapters, which are all matrices."""
    groups = trainer(
        adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-6, weight_decay=0.25
    ).optimizer.param_groups
    assert {(g["betas"], g["eps"]) for g in groups} == {((0.8, 0.95), 1e-6)}
    assert sum(len(g["params"]) for g in groups if g["weight_decay"] == 0.25) == 28


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        # Warm-up over 2 of 4 steps, then as it is; transformers' own "constant" has no warm-up.
        ({"schedule": "constant"}, [0.0, 0.5, 1.0, 1.0]),
        # Straight from 1 to 0 over the two steps after the warm-up.
        ({"schedule": "linear"}, [0.0, 0.5, 1.0, 0.5]),
        # Half-way down a cosine from 1 to 0.2 is 0.6.
        ({"schedule": "cosine", "min_learning_rate_ratio": 0.2}, [0.0, 0.5, 1.0, 0.6]),
    ],
)
def test_the_learning_rate_follows_its_schedule(
    settings: dict[str, Any], rates: list[float]
) -> None:
    """The rate of each of 4 steps, as parts of the highest."""
    from transformers import get_scheduler

    training = TrainingConfig(max_steps=4, warmup_steps=2, learning_rate=0.5, **settings)
    made = sft(training, 4)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = get_scheduler(
        made.lr_scheduler_type,
        optimizer,
        num_warmup_steps=made.get_warmup_steps(4),
        num_training_steps=4,
        scheduler_specific_kwargs=made.lr_scheduler_kwargs,
    )
    found = []
    for _ in range(4):
        found.append(schedule.get_last_lr()[0] / 0.5)
        optimizer.step()
        schedule.step()
    assert found == pytest.approx(rates)


def sft(training: TrainingConfig, steps: int) -> Any:
    """TRL's form of the settings."""
    work = Workdir(Path("unused"), Path("unused"))
    arguments = common_arguments(training, section(kind="none"), work, steps)
    return SFTConfig(**arguments, **row_arguments(training))


def test_gradient_checkpointing_computes_activations_again(trainer: Any) -> None:
    """Each layer runs twice as often: forward, and once more in the backward pass."""

    def passes(checkpointing: bool) -> int:
        counted = [0]
        forward = torch.nn.functional.silu

        def counting(*arguments: Any, **options: Any) -> Any:
            counted[0] += 1
            return forward(*arguments, **options)

        torch.nn.functional.silu = counting
        try:
            trainer(gradient_checkpointing=checkpointing)
        finally:
            torch.nn.functional.silu = forward
        return counted[0]

    assert passes(True) == 2 * passes(False) > 0


def test_noise_on_embeddings_changes_what_is_learned(trainer: Any) -> None:
    """NEFTune; and the same seed learns the same without it."""

    def first_loss(**training: Any) -> float:
        history = trainer(**training).state.log_history
        return float(next(line["loss"] for line in history if "loss" in line))

    plain, again, noisy = first_loss(), first_loss(), first_loss(neftune_alpha=50.0)
    assert plain == again
    assert noisy != plain


def test_rows_of_one_length_are_batched_together(inputs: TrainInputs, work: Workdir) -> None:
    """Less padding in a pass than in random order; as_given is the order of the file."""

    def padded(order: str) -> tuple[int, list[int]]:
        settings = section(kind="none", row_order=order)
        model = prepare_model(inputs, settings)
        made = supervised._build_sft_trainer(model, inputs, settings, work)
        batches = [batch["attention_mask"] for batch in made.get_train_dataloader()]
        lengths = [int(row.sum()) for mask in batches for row in mask]
        return sum(int((mask == 0).sum()) for mask in batches), lengths

    by_length, random, given = (padded(order) for order in ("by_length", "random", "as_given"))
    assert by_length[0] < random[0]
    rows = read_rows(inputs.train.folder / "rows.parquet")
    in_file = [len(row["prompt_ids"]) + len(row["answer_ids"]) for row in rows]
    assert given[1] == in_file
    assert random[1] != in_file and sorted(random[1]) == sorted(in_file)


@pytest.mark.slow
def test_a_compiled_model_learns_what_a_plain_one_does(trainer: Any, inputs: TrainInputs) -> None:
    """To rounding: the losses of two steps, the second of what the first one learned.

    A step of all rows has the same shape twice, so that the model is compiled for one.
    """
    from torch._inductor import config

    rows = len(read_rows(inputs.train.folder / "rows.parquet"))
    once = {"batch_size": rows, "runtime": {"log_every_steps": 1}}
    # What is generated need not be fast: a compiler that optimizes it takes a minute and more.
    with config.patch({"compile_threads": 1, "aot_inductor.debug_compile": True}):
        plain, compiled = (
            [
                line["loss"]
                for line in trainer(torch_compile=on, **once).state.log_history
                if "loss" in line
            ]
            for on in (False, True)
        )
    assert len(plain) == 2 and plain[1] < plain[0]
    assert compiled == pytest.approx(plain, rel=1e-3)


def test_compiling_without_a_compiler_is_refused(
    inputs: TrainInputs, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the model is loaded."""
    monkeypatch.setattr(training_rows, "COMPILERS", ("no-such-compiler",))
    with pytest.raises(ConfigError, match="needs a C compiler, and none of no-such-compiler"):
        train_adapter(inputs, section(kind="none", torch_compile=True), work)


def test_a_quantized_base_is_not_compiled(inputs: TrainInputs, work: Workdir) -> None:
    """Its kernels are bitsandbytes' own."""
    with pytest.raises(ConfigError, match="a quantized base is not compiled"):
        train_adapter(inputs, section(kind="nf4", torch_compile=True), work)


def test_tf32_is_for_devices_that_have_it() -> None:
    """On a CPU transformers refuses to set it, either way."""
    assert sft(TrainingConfig(tf32=True), 1).tf32 is None


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"evaluations": 0, "early_stopping": {}}, "early_stopping: is set, but evaluations is 0"),
        ({"evaluations": 0, "watch": "accuracy"}, "watch: is accuracy, but evaluations is 0"),
        ({"schedule": "linear", "min_learning_rate_ratio": 0.1}, "only a cosine ends above 0"),
        ({"packing": True, "row_order": "by_length"}, "of about one length anyway"),
        ({"packing": True, "row_order": "as_given"}, "which keeps no order"),
        ({"packing": True, "torch_compile": True}, "torch_compile: does not go with packing"),
    ],
)
def test_controls_that_do_not_go_together(settings: dict[str, Any], text: str) -> None:
    """They are refused while the recipe is read."""
    with pytest.raises(ValueError, match=text):
        TrainingConfig.model_validate(settings)


@pytest.mark.parametrize(
    ("training", "same"),
    [({"devices": 2, "sharding": "fsdp"}, True), ({"batch_size": 32}, False)],
)
def test_the_number_of_devices_is_no_part_of_the_key(training: dict[str, Any], same: bool) -> None:
    """What one device trained is found by a run on two, and by no run of other steps."""
    found, expected = (
        key_parts(
            stages.train_adapter,
            Record(),
            settings_of(
                TrainSettings,
                seed=1,
                model={"id": "tiny"},
                quantization={"kind": "none"},
                method={"kind": "lora"},
                training=each,
            ),
        )
        for each in (training, {})
    )
    assert (stage_key(found) == stage_key(expected)) is same
