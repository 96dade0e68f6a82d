"""Two processes train what one does: the same rows a step, the same losses, the same weights."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import BaseModel

from retune.errors import StageDied, StageError
from retune.model_records import AdapterRef, BaseRef, ModelRef
from retune.recipe.sections import TrainingConfig
from retune.records import ChatRef
from retune.spine.stage import SilentReporter, Workdir
from retune.training.classifying import train_classifier
from retune.training.distributed.launching import train_on_devices
from retune.training.resource_record import read_measured
from retune.training.stages import (
    ClassifierInputs,
    ClassifierSettings,
    TrainInputs,
)
from retune.training.stages import train_adapter as stage
from retune.training.supervised import train_adapter
from tests.labelled_sides import write_labelled_side
from tests.making import make_workdir, settings_of
from tests.retune.training.broken_rows import break_row
from tests.retune.training.distributed.comparing import (
    CLOSE,
    LORA,
    STEPS,
    assert_same_weights,
    curves_of,
    section,
)
from tests.retune.training.distributed.scenarios import (
    NoSettings,
    Scenarios,
    describe,
    run_scenarios,
    skip_then_stop,
)

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[4]
TEXTS: list[tuple[str, str | None]] = [
    (f"{said} {place}", label)
    for place in ("praia", "serra", "cidade", "rio", "ilha")
    for said, label in (("gostei da", "bom"), ("detestei a", "ruim"))
]


@pytest.fixture(scope="module")
def inputs_of(
    chats: ChatRef, base: BaseRef, quantize: Callable[[str], ModelRef]
) -> Callable[[str], TrainInputs]:
    """The tiny Llama, plain or in 4 bits, and the shipped rows."""
    return lambda kind: TrainInputs(
        train=chats.side("train"),
        validation=chats.side("validation"),
        base=base,
        model=quantize(kind),
    )


@pytest.fixture(scope="module")
def head_inputs(
    base: BaseRef, quantize: Callable[[str], ModelRef], tmp_path_factory: pytest.TempPathFactory
) -> ClassifierInputs:
    """Ten judgements: two steps of four, and one of two."""
    side = write_labelled_side(tmp_path_factory.mktemp("side"), base.folder, TEXTS)
    return ClassifierInputs(
        train=side, validation=side, base=base, model=quantize("none"), labels=("bom", "ruim")
    )


def head_section(**training: Any) -> ClassifierSettings:
    """A head over LoRA, classes weighed, rows of like length together."""
    found: ClassifierSettings = settings_of(
        ClassifierSettings,
        seed=11,  # type: ignore[arg-type]
        model={"id": "tiny"},
        quantization={"kind": "none", "compute_dtype": "float32"},
        method=LORA,
        training={**STEPS, "batch_size": 4, "row_order": "by_length", **training},
        head={"class_weights": "balanced", "dropout": 0.0},
    )
    return found


Training = tuple[Any, BaseModel, Callable[..., BaseModel]]


@pytest.fixture(scope="module")
def trainings(
    inputs_of: Callable[[str], TrainInputs],
    head_inputs: ClassifierInputs,
) -> dict[str, Training]:
    """What is trained both ways, by name."""
    plain, four_bit = inputs_of("none"), inputs_of("nf4")
    qlora, full = {**LORA, "kind": "qlora"}, {"kind": "full"}

    def sharded(*arguments: Any, **training: Any) -> Callable[..., BaseModel]:
        # One device has nothing to part.
        return lambda **more: section(
            *arguments, **training, **({"sharding": "fsdp"} if "devices" in more else {}), **more
        )

    return {
        "lora": (train_adapter, plain, lambda **more: section(keep_best=True, **more)),
        "head": (train_classifier, head_inputs, head_section),
        "lora_sharded": (train_adapter, plain, sharded()),
        "resumed_sharded": (train_adapter, plain, sharded()),
        "qlora_sharded": (train_adapter, four_bit, sharded(qlora, "nf4", max_steps=3)),
        "full_sharded": (train_adapter, plain, sharded(full, learning_rate=0.0003)),
    }


class StopsAt(SilentReporter):
    """Ends a training by an error of its own.

    Args:
        step: When it was reported.
    """

    def __init__(self, step: int) -> None:
        self._step = step

    def progress(self, what: str, done: int, total: int) -> None:
        """Raise once that step is done."""
        if what == "steps" and done == self._step:
            raise KeyboardInterrupt


def _begin_alone(training: Training, scratch: Path) -> None:
    train, inputs, settings = training
    scratch.mkdir()
    (scratch / "artifact").mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(inputs, settings(), Workdir(scratch / "artifact", scratch, StopsAt(3)))


@pytest.fixture(scope="module")
def two_ranks(
    trainings: dict[str, Training], base: BaseRef, tmp_path_factory: pytest.TempPathFactory
) -> Workdir:
    """The folders of all trainings, run by two processes."""
    work = make_workdir(tmp_path_factory.mktemp("two") / "work")
    _begin_alone(trainings["resumed_sharded"], work.scratch / "resumed_sharded")
    given = Scenarios(
        trainings=[
            describe(name, train, inputs, settings(devices=2))
            for name, (train, inputs, settings) in trainings.items()
        ],
        snapshot=base.folder,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{REPOSITORY / 'src'}:{REPOSITORY}")
        shared = TrainingConfig(batch_size=8, devices=2)
        train_on_devices(run_scenarios, shared, given, NoSettings(), work)  # type: ignore[arg-type]
    return work


def test_the_model_is_parted_block_by_block(two_ranks: Workdir) -> None:
    """Two ranks hold half of the model each, and every weight of both blocks is parted.

    A block of the tiny Llama has seven projections and two norms.
    """
    found = json.loads((two_ranks.artifact / "parts.json").read_text("utf-8"))
    assert found["ranks"] == 2
    assert found["blocks"] == [[True] * 9] * 2
    assert found["local"] == pytest.approx(found["whole"] / 2, rel=0.01)


@pytest.mark.parametrize(
    "name",
    ["lora", "head", "lora_sharded", "resumed_sharded", "qlora_sharded", "full_sharded"],
)
def test_two_ranks_learn_what_one_process_learns(
    trainings: dict[str, Training], two_ranks: Workdir, tmp_path: Path, name: str
) -> None:
    """Losses, gradient norms and weights are those of one process with the same steps, to 1e-5."""
    train, inputs, settings = trainings[name]
    one = train(inputs, settings(), make_workdir(tmp_path / "one"))
    text = (two_ranks.artifact / f"{name}.json").read_text("utf-8")
    two = AdapterRef.model_validate_json(text)
    expected, found = (curves_of(record.folder) for record in (one, two))
    assert ("train_loss", one.steps) in expected
    # A norm over half a million float32 figures is rounded more than that.
    assert found == pytest.approx(expected, abs=CLOSE, rel=1e-4 if "full" in name else 1e-9)
    assert_same_weights(two.folder, one.folder)
    measured = [read_measured(record.folder) for record in (one, two)]
    assert [each and each.devices for each in measured] == [1, 2]
    assert two.trainable_parameters == one.trainable_parameters
    assert two.total_parameters == one.total_parameters
    assert (two.best_step, two.steps) == (one.best_step, one.steps)
    # One process had begun it, and ended in its third step.
    assert two.resumed_from_step == (2 if name == "resumed_sharded" else 0)


class KillsRank(SilentReporter):
    """Kills one rank of this process's children when a step was reported.

    Args:
        rank: Which.
        step: When.
    """

    def __init__(self, rank: int, step: int) -> None:
        self._rank, self._step = rank, step
        # What other tests of this process started lives on or was not waited for: no ranks.
        self._others = set(psutil.Process().children())
        self.pids: list[int] = []

    def progress(self, what: str, done: int, total: int) -> None:
        """Send it SIGKILL, once."""
        if what == "steps" and done == self._step:
            started = set(psutil.Process().children()) - self._others
            ranks = {child.environ().get("RANK"): child.pid for child in started}
            ranks.pop(None, None)
            self.pids = list(ranks.values())
            os.kill(ranks[str(self._rank)], signal.SIGKILL)


def test_a_killed_rank_ends_the_others_and_one_process_goes_on(
    inputs_of: Callable[[str], TrainInputs], tmp_path: Path
) -> None:
    """Two sharded ranks, one killed in the fourth step; the checkpoint of the second is sealed.

    One process trains from there on, unsharded, to the weights of an uninterrupted training.
    """
    inputs = inputs_of("none")
    whole = train_adapter(inputs, section(), make_workdir(tmp_path / "whole"))
    work = make_workdir(tmp_path / "killed")
    killer = KillsRank(rank=1, step=3)
    spied = Workdir(work.artifact, work.scratch, killer)
    with pytest.raises(StageDied, match=r"rank 1 of 2 died \(SIGKILL\)"):
        stage.function(inputs, section(devices=2, sharding="fsdp"), spied)
    assert len(killer.pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in killer.pids)
    resumed = train_adapter(inputs, section(), work)
    assert resumed.resumed_from_step == 2
    assert_same_weights(resumed.folder, whole.folder)


def test_all_ranks_leave_out_a_step_or_stop_where_one_has_no_number(
    inputs_of: Callable[[str], TrainInputs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is the second of the first step, so that only the second rank sees its loss.

    It comes again in the fifth, which begins the second pass: two of five steps are left out. Where
    one may be, all stop there, also when they begin anew from the fourth. Where none may be, the
    message names the row of that rank.
    """
    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY / 'src'}:{REPOSITORY}")
    inputs, work = inputs_of("none"), make_workdir(tmp_path / "work")
    broken, _ = break_row(inputs.train, 1)
    settings = section(devices=2, row_order="as_given")
    with pytest.raises(StageError, match=rf"step 1 of 5.* rows: row {broken} \("):
        train_on_devices(skip_then_stop, settings.training, inputs, settings, work)
    record = AdapterRef.model_validate_json((work.artifact / "skipped.json").read_bytes())
    assert (record.steps, record.skipped_batches, record.resumed_from_step) == (5, 2, 4)
    for start in ("once", "again"):
        told = (work.artifact / f"{start}.txt").read_text("utf-8")
        assert "at step 5 of 5" in told and "1 steps were left out before" in told
