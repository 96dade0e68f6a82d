"""A loss or gradient that is not a number: what its step teaches, and what is said of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerControl, TrainerState

from retune.errors import StageError
from retune.model_records import BaseRef
from retune.recipe.sections import TrainingConfig
from retune.records import ChatRef
from retune.spine.stage import SilentReporter, Workdir
from retune.training import supervised
from retune.training.callbacks import MetricsLog
from retune.training.distributed.ranks import Ranks
from retune.training.metrics import read_metrics
from retune.training.non_finite import FiniteSteps, longest_run
from retune.training.packing import LENGTHS, PLACES, PackedCollator, pack_rows
from retune.training.stages import TrainInputs
from retune.training.supervised import train_adapter
from tests.making import make_workdir
from tests.retune.training.broken_rows import break_row
from tests.retune.training.test_supervised import Quantize, section

ROWS = [[5, 6, 7], [8, 8, 8, 8, 9], [3, 4]]


class Loop:
    """Takes optimizer steps on a layer with one weight, as the Trainer does."""

    def __init__(
        self, folder: Path, dataset: Any = None, ranks: Ranks | None = None, **training: Any
    ) -> None:
        self.layer = torch.nn.Linear(1, 1, bias=False)
        self.layer.weight.data.fill_(1.0)
        self.optimizer = torch.optim.AdamW(self.layer.parameters(), lr=0.5, weight_decay=0.1)
        self.trainer: Any = SimpleNamespace(
            training_step=self._pass,
            model=self.layer,
            args=SimpleNamespace(max_steps=9, fp16=training.pop("fp16", False)),
            train_dataset=dataset or [{"input_ids": ids} for ids in ROWS],
            processing_class=None,
        )
        self.log = MetricsLog(folder / "metrics.jsonl", 0, SilentReporter())
        settings = TrainingConfig(**training)
        self.watch = FiniteSteps(
            self.trainer, settings, self.log, "row {}".format, ranks or Ranks()
        )
        self.steps = 0

    def _pass(self, _: Any, inputs: dict[str, Any], factor: float) -> torch.Tensor:
        loss = self.layer(torch.ones(1, 1)).sum() * factor
        loss.backward()
        return loss.detach()

    def step(self, *passes: tuple[float, Any]) -> list[float]:
        """Take one step over passes, each a factor of its loss and its batch."""
        batches = [(factor, as_batch(rows)) for factor, rows in passes]
        losses = [
            float(self.trainer.training_step(None, batch, factor)) for factor, batch in batches
        ]
        self.watch.on_pre_optimizer_step(
            self.trainer.args,
            TrainerState(global_step=self.steps),
            TrainerControl(),
        )
        self.optimizer.step()
        self.layer.zero_grad()
        self.steps += 1
        return losses

    @property
    def weight(self) -> float:
        return float(self.layer.weight)


def as_batch(places: Any) -> Any:
    """Pad rows on the right, as collators do."""
    if not isinstance(places, tuple):
        return places
    width = max(len(ROWS[at]) for at in places)
    ids = torch.tensor([ROWS[at] + [0] * (width - len(ROWS[at])) for at in places])
    mask = torch.tensor([[1] * len(ROWS[at]) + [0] * (width - len(ROWS[at])) for at in places])
    return {"input_ids": ids, "attention_mask": mask}


def test_the_message_names_step_and_rows(tmp_path: Path) -> None:
    """The second pass of step 2 alone is NaN: rows 1 and 2, of which row 1 has token 8 four times.

    The weights are those after step 1, and nothing is counted.
    """
    loop = Loop(tmp_path)
    loop.step((1.0, (0,)), (1.0, (1,)))
    before = loop.weight
    with pytest.raises(StageError, match=r"the loss is not a number at step 2 of 9") as error:
        loop.step((1.0, (0,)), (math.nan, (1, 2)))
    told = str(error.value)
    assert "row 1 (5 tokens, id 8 up to 4 times in a row); row 2 (2 tokens, id 3 up to 1" in told
    assert "row 0" not in told and "on_non_finite: skip_batch" in told
    assert loop.weight == before and loop.log.skipped == 0


def test_a_gradient_that_is_no_number_stops_too(tmp_path: Path) -> None:
    """With a finite loss, every row of the step may be the cause."""
    loop = Loop(tmp_path)
    loop.layer.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(StageError, match=r"the gradient is not a number at step 1 .*row 0.*row 2"):
        loop.step((1.0, (0,)), (1.0, (2,)))


def test_a_step_that_is_left_out_changes_nothing(tmp_path: Path) -> None:
    """Neither weight nor the optimizer's state: the steps around it are as if it had not been.

    Its finite pass is left out with it, and the curve gets the loss of the pass before.
    """
    loop, other = (
        Loop(tmp_path, on_non_finite="skip_batch"),
        Loop(tmp_path / "..", on_non_finite="skip_batch"),
    )
    (first,) = loop.step((1.0, (0,)))
    assert loop.step((2.0, (1,)), (math.nan, (2,))) == [2 * loop.weight, 2 * loop.weight]
    loop.step((3.0, (1,)))
    other.step((1.0, (0,)))
    other.step((3.0, (1,)))
    assert first == 1.0 and loop.weight == other.weight
    points = read_metrics(tmp_path / "metrics.jsonl")
    assert points == [{"name": "skipped_batches", "value": 1.0, "step": 2}]


def test_at_most_so_many_steps_are_left_out(tmp_path: Path) -> None:
    """The third of two allowed ends the training, and says how many went before."""
    loop = Loop(tmp_path, on_non_finite="skip_batch", max_skipped_batches=2)
    for _ in range(2):
        loop.step((math.inf, (0,)))
    with pytest.raises(StageError, match=r"step 3 .* 2 steps were left out before"):
        loop.step((math.inf, (0,)))


def test_steps_left_out_before_a_resume_count(tmp_path: Path) -> None:
    """Resumed from step 2, the one of step 1 is known, and that of step 3 comes again."""
    log = MetricsLog(tmp_path / "metrics.jsonl", 0, SilentReporter())
    for step in (1, 3):
        log.skip(step)
    assert MetricsLog(tmp_path / "metrics.jsonl", 2, SilentReporter()).skipped == 1


class Second(Ranks):
    """The second of two ranks, of which the first knows of one step that was left out."""

    def agree(self, decide: Callable[[], Any]) -> Any:
        """Take what the first one says."""
        return 1

    def total(self, number: int) -> int:
        """Add nothing to this one's number."""
        return number

    def gather(self, value: Any) -> list[Any]:
        """Have nothing beside this one's value."""
        return [value]


def test_a_rank_whose_log_is_new_stops_where_the_first_one_does(tmp_path: Path) -> None:
    """Resumed, only the first has the steps that were left out: one more is one too many for all.

    A rank that left it out would wait for ranks that have ended.
    """
    loop = Loop(tmp_path, ranks=Second(1, 2), on_non_finite="skip_batch", max_skipped_batches=1)
    with pytest.raises(StageError, match=r"step 1 .* 1 steps were left out before"):
        loop.step((math.nan, (0,)))


def test_float16_leaves_gradients_to_the_loss_scale(tmp_path: Path) -> None:
    """They overflow while it finds its size, which it learns from them."""
    loop = Loop(tmp_path, fp16=True)
    loop.layer.weight.register_hook(lambda gradient: gradient * math.inf)
    loop.step((1.0, (0,)))
    assert loop.log.skipped == 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_held_out_loss_that_is_no_number_stops(tmp_path: Path, value: float) -> None:
    """There is no step to leave out, whatever the recipe says of steps."""
    watch = Loop(tmp_path, on_non_finite="skip_batch").watch
    with pytest.raises(StageError, match=r"the held-out loss is (nan|inf) at step 3"):
        watch.on_log(Any, TrainerState(global_step=3), TrainerControl(), logs={"eval_loss": value})


def test_packed_rows_are_named_one_by_one(tmp_path: Path) -> None:
    """Two sequences of up to 8 tokens hold the three rows, padded with a token of position 0."""
    from datasets import Dataset

    plain = Dataset.from_dict({"input_ids": ROWS, "labels": ROWS})
    packed = pack_rows(plain, 8)
    assert sorted(place for row in packed for place in row[PLACES]) == [0, 1, 2]
    batch = PackedCollator(0, "sdpa")([dict(row) for row in packed])
    assert LENGTHS not in batch
    loop = Loop(tmp_path, dataset=packed)
    with pytest.raises(StageError) as error:
        loop.step((math.nan, batch))
    assert all(
        f"row {place} ({len(ids)} tokens" in str(error.value) for place, ids in enumerate(ROWS)
    )


def test_pairs_and_prompts_are_named(tmp_path: Path) -> None:
    """Of a pair either answer may be in the batch; prompts come with their place."""
    pairs = [{"prompt_ids": [5, 6], "chosen_ids": [7], "rejected_ids": [9]}]
    loop = Loop(tmp_path, dataset=pairs)
    with pytest.raises(StageError, match=r"rows: row 0 \(3 tokens"):
        loop.step((math.nan, (0,)))
    loop = Loop(tmp_path)
    with pytest.raises(StageError, match=r"rows: row 41\. Mend"):
        loop.step((math.nan, [{"prompt": "a", "place": 41}]))


def test_the_longest_run() -> None:
    """Of equal ones the first."""
    assert longest_run([1, 2, 2, 3, 3]) == (2, 2)
    assert longest_run([4]) == (4, 1)


@pytest.fixture(scope="module")
def inputs(chats: ChatRef, base: BaseRef, quantize: Quantize) -> TrainInputs:
    """The tiny Llama as it is, and the shipped rows."""
    sides = {"train": chats.side("train"), "validation": chats.side("validation")}
    return TrainInputs(**sides, base=base, model=quantize("none"))


@pytest.fixture
def broken_row(inputs: TrainInputs, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a row on which the loss in training is NaN."""
    row_id, compute = break_row(inputs.train, 0)
    monkeypatch.setattr(supervised.SFTTrainer, "compute_loss", compute)
    return row_id


SETTINGS: dict[str, Any] = {"kind": "none", "row_order": "as_given", "gradient_accumulation": 2}


def test_a_broken_row_is_named_and_skipping_goes_on_from_the_checkpoint(
    inputs: TrainInputs, work: Workdir, broken_row: str, tmp_path: Path
) -> None:
    """Of the first pass over the rows in steps of 4, the first step has it; the others do not.

    The setting is no part of the stage's key, so that the same work folder goes on.
    """
    with pytest.raises(StageError, match=rf"step 1 of 6.* row {broken_row} \("):
        train_adapter(inputs, section(**SETTINGS), work)
    skipping = {**SETTINGS, "on_non_finite": "skip_batch"}
    adapter = train_adapter(inputs, section(**skipping), work)
    assert (adapter.steps, adapter.skipped_batches) == (6, 1)
    points = read_metrics(adapter.folder / "log" / "metrics.jsonl")
    assert [p["step"] for p in points if p["name"] == "skipped_batches"] == [1]
    assert all(math.isfinite(point["value"]) for point in points)
    again = train_adapter(inputs, section(**skipping), make_workdir(tmp_path / "again"))
    assert again.digest == adapter.digest
