"""Fine-tuning by its invariants: adapters move, the base does not, a resumed run is the same."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from retune.data.tables import read_rows
from retune.digests import digest_folder
from retune.errors import ConfigError, DataError, StageError
from retune.machine import exact_heap
from retune.model_records import AdapterRef, BaseRef, ModelRef, StagePlace
from retune.modeling import placement
from retune.modeling.placement import PLACES, StagePlaces
from retune.preflight.steps import count_steps
from retune.records import ChatRef
from retune.spine.stage import Workdir
from retune.training import loop, supervised
from retune.training.metrics import read_metrics
from retune.training.non_finite import FiniteSteps
from retune.training.stages import TrainInputs, TrainSettings
from retune.training.supervised import train_adapter, with_labels
from tests.making import make_workdir, settings_of
from tests.retune.training.killed_training import train_until_killed

REPOSITORY = Path(__file__).parents[3]
Quantize = Callable[[str], ModelRef]


def section(
    method: dict[str, Any] | None = None, kind: str = "nf4", **training: Any
) -> TrainSettings:
    """Six steps of four rows, evaluated at 3 and 6, with a checkpoint every 2."""
    settings = {"max_steps": 6, "batch_size": 4, "learning_rate": 0.03, "evaluations": 2}
    settings |= {"evaluation_rows": 4, "checkpoint_every_steps": 2, "warmup_steps": 0.0}
    # The last weights, so that a resume is compared by what it learned and not by a kept file.
    settings |= {"keep_best": False, **training}
    found: TrainSettings = settings_of(
        TrainSettings,
        seed=11,
        model={"id": "tiny"},
        quantization={"kind": kind},
        method={"r": 4, "alpha": 8, "dropout": 0.1, **(method or {})},
        training=settings,
    )
    return found


@pytest.fixture(scope="module")
def inputs(chats: ChatRef, base: BaseRef, quantize: Quantize) -> TrainInputs:
    """The tiny Llama in 4 bit, and the shipped rows."""
    return TrainInputs(
        train=chats.side("train"),
        validation=chats.side("validation"),
        base=base,
        model=quantize("nf4"),
    )


@pytest.fixture(scope="module")
def trained(
    inputs: TrainInputs, tmp_path_factory: pytest.TempPathFactory
) -> tuple[AdapterRef, Workdir]:
    """One uninterrupted training, and its folders."""
    work = make_workdir(tmp_path_factory.mktemp("train") / "work")
    return train_adapter(inputs, section(), work), work


def test_adapters_move(trained: tuple[AdapterRef, Workdir]) -> None:
    """LoRA's second matrix starts at zero, so that any other value was learned."""
    weights = load_file(trained[0].folder / "adapter_model.safetensors")
    learned = [weight for name, weight in weights.items() if "lora_B" in name]
    assert len(learned) == 14
    assert all(weight.abs().max() > 0 for weight in learned)


def test_the_base_does_not_move(
    inputs: TrainInputs, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every frozen weight is the same after training as before, bit for bit."""
    seen: dict[str, Any] = {}
    prepare = supervised.prepare_model

    def remember(*arguments: Any) -> Any:
        trained = prepare(*arguments)
        frozen = {n: p for n, p in trained.model.named_parameters() if not p.requires_grad}
        seen["now"], seen["before"] = frozen, {n: p.detach().clone() for n, p in frozen.items()}
        return trained

    monkeypatch.setattr(supervised, "prepare_model", remember)
    before = digest_folder(inputs.model.folder), digest_folder(inputs.base.folder)
    train_adapter(inputs, section(max_steps=2), work)
    assert seen["before"]
    assert all(torch.equal(seen["before"][name], weight) for name, weight in seen["now"].items())
    assert (digest_folder(inputs.model.folder), digest_folder(inputs.base.folder)) == before


def test_a_training_that_gives_back_what_it_frees_learns_the_same(
    trained: tuple[AdapterRef, Workdir], inputs: TrainInputs, work: Workdir
) -> None:
    """Where blocks lie is no part of the result: same weights, so the same digest."""
    places = StagePlaces(stages={"train_adapter": StagePlace(exact_heap=True)})
    entered: list[str] = []
    steps = supervised.run_training

    @contextmanager
    def noted() -> Iterator[None]:
        entered.append("in")
        with exact_heap():
            yield
        entered.append("out")

    def run(*given: Any, **named: Any) -> AdapterRef:
        entered.append("trained")
        return steps(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement, "exact_heap", noted)
        patch.setattr(supervised, "run_training", run)
        told = replace(work, context={PLACES: places.model_dump_json()})
        found = train_adapter(inputs, section(), told)
    assert entered == ["in", "trained", "out"]
    assert found.digest == trained[0].digest


def test_the_loss_falls(trained: tuple[AdapterRef, Workdir], base: BaseRef) -> None:
    """A random model is about as surprised as by dice with one side per token of its vocabulary."""
    adapter, _ = trained
    sides = json.loads((base.folder / "config.json").read_text())["vocab_size"]
    assert adapter.base_validation_loss == pytest.approx(math.log(sides), abs=0.1)
    assert adapter.validation_loss is not None
    assert adapter.validation_loss < adapter.base_validation_loss - 0.1


def test_no_checkpoint_has_a_model_card(trained: tuple[AdapterRef, Workdir]) -> None:
    """Else trl would write one for each into the folder above, and peft one beside the weights."""
    adapter, work = trained
    written = [path.name for path in (work.scratch / "checkpoints").rglob("*")]
    assert "adapter_model.safetensors" in written and "README.md" not in written
    assert not (adapter.folder / "README.md").exists()


def test_the_record_says_what_was_done(trained: tuple[AdapterRef, Workdir]) -> None:
    """Per block r * (in + out) over 7 layers: q, o 128; k, v 96; gate, up, down 192: 1,024.

    Times r = 4 and two blocks: 8,192 trainable parameters.
    """
    adapter, _ = trained
    assert (adapter.steps, adapter.resumed_from_step) == (6, 0)
    assert adapter.trainable_parameters == 8_192
    assert adapter.best_step == 6
    assert adapter.digest == digest_folder(adapter.folder, without=("log",))


def test_the_curves_have_one_point_a_step(trained: tuple[AdapterRef, Workdir]) -> None:
    """Logged at 5 (every five steps) and at each checkpoint; evaluated at 0, 3 and 6."""
    lines = read_metrics(trained[0].folder / "log" / "metrics.jsonl")
    steps = {
        name: [line["step"] for line in lines if line["name"] == name]
        for name in ("train_loss", "validation_loss")
    }
    assert steps == {"train_loss": [2, 4, 5, 6], "validation_loss": [0, 3, 6]}


def test_the_mean_loss_is_over_all_steps(trained: tuple[AdapterRef, Workdir]) -> None:
    """Each point is the mean since the one before: 2, 2, 1 and 1 steps of 6."""
    lines = read_metrics(trained[0].folder / "log" / "metrics.jsonl")
    values = [line["value"] for line in lines if line["name"] == "train_loss"]
    by_hand = (2 * values[0] + 2 * values[1] + values[2] + values[3]) / 6
    assert trained[0].train_loss == pytest.approx(by_hand, rel=1e-9)


@pytest.mark.slow
def test_training_again_gives_the_same_adapter(
    trained: tuple[AdapterRef, Workdir], inputs: TrainInputs, work: Workdir
) -> None:
    """The seed decides everything: order of rows, dropout, first weights."""
    assert train_adapter(inputs, section(), work).digest == trained[0].digest


@pytest.mark.slow
@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_step_give_the_same_step(
    inputs: TrainInputs, tmp_path: Path, parts: int
) -> None:
    """Accumulated gradients are those of the whole batch, weighted by tokens and not by parts."""
    options: dict[str, Any] = {"max_steps": 2, "evaluations": 0, "method": {"dropout": 0.0}}
    whole, cut = (
        train_adapter(
            inputs,
            section(**options, gradient_accumulation=number),
            make_workdir(tmp_path / str(number)),
        )
        for number in (1, parts)
    )
    ours, theirs = (load_file(one.folder / "adapter_model.safetensors") for one in (whole, cut))
    # AdamW's first steps are +-lr for each weight, so that rounding can turn a tiny gradient's
    # sign: compared are the losses, which a wrong weighting moves at the first step.
    assert ours.keys() == theirs.keys()
    assert cut.train_loss == pytest.approx(whole.train_loss, rel=2e-3)


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_adapter(
    trained: tuple[AdapterRef, Workdir], inputs: TrainInputs, work: Workdir
) -> None:
    """Kill -9 in step 5, after the checkpoint of step 4: the final adapter is the same bytes.

    So are its figures and the points of its curves.
    """
    train_until_killed(inputs, section(), work, step=5)
    resumed = train_adapter(inputs, section(), work)
    whole = trained[0]
    assert resumed.resumed_from_step == 4
    first, second = (
        (one.folder / "adapter_model.safetensors").read_bytes() for one in (whole, resumed)
    )
    assert first == second
    assert resumed.digest == whole.digest
    same = {"folder": None, "resumed_from_step": 0}
    assert resumed.model_copy(update=same) == whole.model_copy(update=same)
    curves = [read_metrics(one.folder / "log" / "metrics.jsonl") for one in (whole, resumed)]
    assert curves[0] == curves[1]


def resume_after(trained: tuple[AdapterRef, Workdir], work: Workdir) -> Path:
    """Start from the scratch folder of a training that was killed before the store's seal."""
    shutil.rmtree(work.scratch)
    shutil.copytree(trained[1].scratch, work.scratch)
    return work.scratch / "checkpoints"


@pytest.mark.slow
@pytest.mark.parametrize("keep_best", [True, False])
def test_a_kill_after_the_last_step_loses_nothing(
    inputs: TrainInputs, tmp_path: Path, keep_best: bool
) -> None:
    """The Trainer alone would take a seventh step here, and the stage could never end.

    With and without the best adapter kept, what comes out is what would have come out.
    """
    settings = section(keep_best=keep_best)
    first_work = make_workdir(tmp_path / "first")
    first = train_adapter(inputs, settings, first_work)
    work = make_workdir(tmp_path / "second")
    resume_after((first, first_work), work)
    second = train_adapter(inputs, settings, work)
    assert (second.resumed_from_step, second.steps) == (6, 6)
    assert second.digest == first.digest
    assert second.train_loss == first.train_loss
    assert second.validation_loss == first.validation_loss


def test_a_damaged_checkpoint_is_not_resumed_from(
    trained: tuple[AdapterRef, Workdir], inputs: TrainInputs, work: Workdir
) -> None:
    """Without its optimizer state the Trainer would resume to other weights, with no error."""
    checkpoints = resume_after(trained, work)
    (checkpoints / "checkpoint-6" / "optimizer.pt").unlink()
    resumed = train_adapter(inputs, section(), work)
    assert resumed.resumed_from_step == 4
    assert resumed.digest == trained[0].digest


def test_weights_that_are_no_numbers_are_not_sealed(
    inputs: TrainInputs, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no step's loss is looked at, no checkpoint with broken weights becomes valid."""
    monkeypatch.setattr(FiniteSteps, "on_pre_optimizer_step", lambda *_, **__: None)
    compute = supervised.SFTTrainer.compute_loss

    def broken(self: Any, *arguments: Any, **options: Any) -> Any:
        result = compute(self, *arguments, **options)
        return result * math.nan if self.model.training else result

    monkeypatch.setattr(supervised.SFTTrainer, "compute_loss", broken)
    with pytest.raises(StageError, match="holds NaN or infinity after step 2"):
        train_adapter(inputs, section(), work)
    assert not list(work.scratch.glob("checkpoints/*/sealed.json"))


def test_a_training_that_ends_early_is_an_error(
    inputs: TrainInputs, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ended it, its adapter is not what was planned."""

    def end(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = state.global_step == 2

    monkeypatch.setattr(loop.StopAtNextStep, "on_step_end", end)
    with pytest.raises(StageError, match="ended at step 2 of 6"):
        train_adapter(inputs, section(), work)


def test_a_wrong_target_module_lists_what_exists(inputs: TrainInputs, work: Workdir) -> None:
    """GPT-2's names do not fit a Llama."""
    with pytest.raises(ConfigError, match=r"c_attn match no layer.*q_proj"):
        train_adapter(inputs, section({"target_modules": ["c_attn"]}), work)


@pytest.mark.slow
def test_an_unquantized_base_trains_too(
    inputs: TrainInputs, work: Workdir, quantize: Quantize, tmp_path: Path
) -> None:
    """With kind none the adapter learns over the base itself, and merges into it."""
    from retune.weights.merge import merge_adapter
    from retune.weights.stages import MergeInputs, MergeSettings

    plain = inputs.model_copy(update={"model": quantize("none")})
    adapter = train_adapter(plain, section(kind="none"), work)
    assert adapter.validation_loss is not None and adapter.base_validation_loss is not None
    assert adapter.validation_loss < adapter.base_validation_loss - 0.1
    merged = merge_adapter(
        MergeInputs(adapter=adapter, base=inputs.base, rows=inputs.validation, template=None),
        settings_of(MergeSettings, merge={"check_rows": 2}),
        make_workdir(tmp_path / "merge"),
    )
    assert merged.max_logit_difference < 1e-3 * merged.logit_spread


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        # 10 rows in batches of 4 are 3 steps a pass (4, 4, 2).
        ({"epochs": 2.0}, 6),
        # Half a pass is 1.5 steps, rounded up.
        ({"epochs": 0.5}, 2),
        ({"epochs": 9.0, "max_steps": 5}, 5),
    ],
)
def test_planned_steps(settings: dict[str, Any], steps: int) -> None:
    """Steps where they are given, else passes over the rows."""
    training = section(**{"max_steps": None, "warmup_steps": 0.0, **settings}).training
    assert count_steps(10, training) == steps


def test_labels_hide_the_prompt() -> None:
    """-100 is what torch's loss leaves out."""
    assert with_labels([5, 6], [7, 1]) == {"input_ids": [5, 6, 7, 1], "labels": [-100, -100, 7, 1]}


def test_labels_follow_a_mask() -> None:
    """Loss on an earlier turn (6) and on the answer without its first token."""
    labelled = with_labels([5, 6], [7, 1], [False, True, False, True])
    assert labelled == {"input_ids": [5, 6, 7, 1], "labels": [-100, 6, -100, 1]}


def test_a_wrong_loss_mask_stops_before_training(
    inputs: TrainInputs, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are collated as the trainer will do it, and compared with the answers."""

    def shifted(prompt_ids: Any, answer_ids: Any, _: Any) -> dict[str, list[int]]:
        ids = [*prompt_ids, *answer_ids]
        return {"input_ids": ids, "labels": ids}

    monkeypatch.setattr(supervised, "with_labels", shifted)
    rows = read_rows(inputs.train.folder / "rows.parquet")
    with pytest.raises(DataError, match=f"row {rows[0]['row_id']}: loss would fall on"):
        train_adapter(inputs, section(), work)
