"""Ending a training that no longer gains, and scoring a task while it is trained."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from retune.digests import digest_folder
from retune.errors import ConfigError, DataError, ScoringError
from retune.inference.generation import Answer
from retune.model_records import AdapterRef, BaseRef
from retune.recipe.sections import EarlyStoppingConfig
from retune.records import ChatRef, SideRef
from retune.scoring.figures import WATCHED
from retune.spine.stage import SilentReporter, Workdir
from retune.training import task_scores
from retune.training.callbacks import BestWeights, MetricsLog
from retune.training.early_stopping import EarlyStopping, TaskScore, is_over, watched_figures
from retune.training.metrics import read_metrics
from retune.training.stages import TrainInputs, TrainSettings
from retune.training.supervised import train_adapter
from retune.training.task_scores import measuring_mode, spread_rows
from retune.training.trainable import TrainedAdapter
from tests.making import make_workdir
from tests.retune.training.killed_training import train_until_killed
from tests.retune.training.test_callbacks import tiny_adapted
from tests.retune.training.test_supervised import REPOSITORY, Quantize, section

ARGUMENTS: Any = TrainingArguments(output_dir="/tmp/unused", report_to="none")


@pytest.fixture(scope="module")
def inputs(chats: ChatRef, base: BaseRef, quantize: Quantize) -> TrainInputs:
    """The tiny Llama in 4 bit, and the shipped rows."""
    sides = {"train": chats.side("train"), "validation": chats.side("validation")}
    return TrainInputs(**sides, base=base, model=quantize("nf4"))


@pytest.mark.parametrize(
    ("watched", "figures", "patience", "min_gain", "over"),
    [
        ("loss", [3.0, 2.0, 1.0], 1, 0.0, False),
        # 2.0 is no gain over 2.0, and neither is 2.5: two in a row.
        ("loss", [2.0, 2.0, 2.5], 2, 0.0, True),
        ("loss", [2.0, 2.0, 1.9], 2, 0.0, False),
        # A gain of 0.1 is less than 0.5.
        ("loss", [2.0, 1.9], 1, 0.5, True),
        # Two small gains are one of 0.6 over the best that counted.
        ("loss", [2.0, 1.7, 1.4], 2, 0.5, False),
        ("accuracy", [0.5, 0.6, 0.7], 1, 0.0, False),
        ("accuracy", [0.7, 0.6], 1, 0.0, True),
        ("accuracy", [0.7], 1, 0.0, False),
        ("accuracy", [], 1, 0.0, False),
    ],
)
def test_when_training_is_over(
    watched: Any, figures: list[float], patience: int, min_gain: float, over: bool
) -> None:
    """Losses gain by falling, scores by rising, both by at least the smallest gain."""
    early = EarlyStoppingConfig(patience=patience, min_gain=min_gain)
    assert is_over(figures, watched, early) is over
    assert not is_over(figures, watched, None)


def test_a_stop_comes_with_a_checkpoint_and_a_log() -> None:
    """So that a kill right after it, and the mean loss, lack nothing."""
    history = [{"eval_loss": 1.0, "step": step} for step in (0, 2, 4)]
    state, control = TrainerState(global_step=4, log_history=history), TrainerControl()
    callback = EarlyStopping("loss", EarlyStoppingConfig(patience=1))
    control.should_evaluate = True
    callback.on_step_end(ARGUMENTS, state, control)
    callback.on_evaluate(ARGUMENTS, state, control)
    assert (control.should_log, control.should_save, control.should_training_stop) == (True,) * 3


def test_a_score_is_logged_and_decides(tmp_path: Path) -> None:
    """Of the accuracies 0.5, 0.75 and 0.75 the first highest is kept, though its loss is higher."""
    log = MetricsLog(tmp_path / "metrics.jsonl", 0, SilentReporter())
    scores = iter([0.25, 0.5, 0.75, 0.75])
    score = TaskScore("accuracy", lambda: next(scores), log)
    best = BestWeights(tmp_path, TrainedAdapter(tiny_adapted(), "tiny", None), "accuracy")
    state = TrainerState()
    for step, loss in ((0, 9.0), (2, 3.0), (4, 4.0), (6, 2.0)):
        state.global_step, metrics = step, {"eval_loss": loss}
        for callback in (score, best):
            callback.on_evaluate(ARGUMENTS, state, TrainerControl(), metrics=metrics)
    assert best.best == {"step": 4, "loss": 4.0, "accuracy": 0.75}
    assert watched_figures(state, "accuracy") == [0.5, 0.75, 0.75]
    points = [(p["name"], p["step"], p["value"]) for p in read_metrics(tmp_path / "metrics.jsonl")]
    assert points == [
        ("validation_accuracy", step, value)
        for step, value in ((0, 0.25), (2, 0.5), (4, 0.75), (6, 0.75))
    ]


def test_measuring_leaves_modes_and_random_numbers_as_they_were() -> None:
    """Also of a part that was in evaluation mode already, and when measuring fails."""
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout()).train()
    model[1].eval()
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    expected = [torch.rand(1).item(), random.random(), np.random.rand()]
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    with pytest.raises(ZeroDivisionError), measuring_mode(model):
        assert not model[0].training
        torch.rand(3), random.random(), np.random.rand()
        raise ZeroDivisionError
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    assert [torch.rand(1).item(), random.random(), np.random.rand()] == expected


def hopeless(**training: Any) -> TrainSettings:
    """Evaluated at 2, 4, 6 and 8 of 8 steps; no gain of 5 nats, so that the second one ends it."""
    early = {"patience": 1, "min_gain": 5.0}
    settings = {"max_steps": 8, "evaluations": 4, "early_stopping": early, **training}
    return section(**{"checkpoint_every_steps": 3, **settings})


@pytest.fixture(scope="module")
def stopped(
    inputs: TrainInputs, tmp_path_factory: pytest.TempPathFactory
) -> tuple[AdapterRef, Workdir]:
    """A training that ended early, and its folders."""
    work = make_workdir(tmp_path_factory.mktemp("stopped") / "work")
    return train_adapter(inputs, hopeless(), work), work


def test_a_training_without_gain_ends(stopped: tuple[AdapterRef, Workdir]) -> None:
    """At the second evaluation, step 4 of 8; the record says so."""
    adapter, work = stopped
    assert (adapter.steps, adapter.stopped_early, adapter.best_step) == (4, True, 4)
    lines = read_metrics(adapter.folder / "log" / "metrics.jsonl")
    assert [p["step"] for p in lines if p["name"] == "validation_loss"] == [0, 2, 4]
    # Logged at each evaluation and checkpoint: the mean is over all four steps.
    assert [p["step"] for p in lines if p["name"] == "train_loss"] == [2, 3, 4]
    assert (work.scratch / "checkpoints" / "checkpoint-4" / "sealed.json").is_file()


def test_the_best_weights_of_a_stopped_training_are_kept(
    inputs: TrainInputs, work: Workdir
) -> None:
    """Those of step 4, whose loss is the lowest, though the gain did not count."""
    adapter = train_adapter(inputs, hopeless(keep_best=True), work)
    assert (adapter.steps, adapter.best_step, adapter.stopped_early) == (4, 4, True)


def same_result(first: AdapterRef, second: AdapterRef) -> bool:
    same = {"folder": None, "resumed_from_step": 0}
    return first.model_copy(update=same) == second.model_copy(update=same)


def test_a_kill_after_the_stop_takes_no_step_more(
    stopped: tuple[AdapterRef, Workdir], inputs: TrainInputs, work: Workdir
) -> None:
    """Resumed from the checkpoint of the stop, its history says that all is done."""
    shutil.rmtree(work.scratch)
    shutil.copytree(stopped[1].scratch, work.scratch)
    resumed = train_adapter(inputs, hopeless(), work)
    assert resumed.resumed_from_step == 4
    assert same_result(resumed, stopped[0])


def test_a_stop_whose_checkpoint_was_lost_comes_again(
    stopped: tuple[AdapterRef, Workdir], inputs: TrainInputs, work: Workdir
) -> None:
    """Resumed from step 3, the figure of step 2 is known, and step 4 ends it as before."""
    shutil.rmtree(work.scratch)
    shutil.copytree(stopped[1].scratch, work.scratch)
    shutil.rmtree(work.scratch / "checkpoints" / "checkpoint-4")
    resumed = train_adapter(inputs, hopeless(), work)
    assert resumed.resumed_from_step == 3
    assert same_result(resumed, stopped[0])


@pytest.mark.slow
def test_a_killed_training_stops_where_it_would_have(
    stopped: tuple[AdapterRef, Workdir], inputs: TrainInputs, work: Workdir
) -> None:
    """Kill -9 in step 4, before its evaluation."""
    settings = hopeless()
    train_until_killed(inputs, settings, work, step=4)
    resumed = train_adapter(inputs, settings, work)
    assert resumed.resumed_from_step == 3
    assert same_result(resumed, stopped[0])


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_watching_a_task_changes_nothing_that_is_learned(
    inputs: TrainInputs, tmp_path: Path, checkpointing: bool
) -> None:
    """Over a 4-bit base, with dropout: queries are written and run in between, weights stay equal.

    On a CPU a forward pass in evaluation mode could end the gradients of 4-bit layers.
    """
    options: dict[str, Any] = {"gradient_checkpointing": checkpointing, "watch_rows": 3}
    plain, watched = (
        train_adapter(inputs, section(watch=watch, **options), make_workdir(tmp_path / watch))
        for watch in ("loss", "sql_execution_match")
    )
    assert digest_folder(plain.folder, without=("log",)) == digest_folder(
        watched.folder, without=("log",)
    )
    lines = read_metrics(watched.folder / "log" / "metrics.jsonl")
    name = "validation_sql_execution_match"
    assert [line["step"] for line in lines if line["name"] == name] == [0, 3, 6]
    # A random model writes no query that runs.
    assert (plain.best_score, watched.best_score) == (None, 0.0)


def test_a_score_that_the_rows_do_not_have_is_refused(inputs: TrainInputs, work: Workdir) -> None:
    """Text-to-SQL rows have no labels."""
    with pytest.raises(ConfigError, match="none of the validation rows does have a label"):
        train_adapter(inputs, section(watch="macro_f1"), work)
    assert not list(work.scratch.iterdir())


def test_watched_rows_are_spread_over_the_side(inputs: TrainInputs) -> None:
    """Of n rows every (n / 4)th, the same each time."""
    training = section(watch="sql_exact_match", watch_rows=4).training
    ids = [row["row_id"] for row in spread_rows(inputs.validation, "db_id", training)]
    table = pq.read_table(inputs.validation.folder / "rows.parquet").column("row_id").to_pylist()
    assert ids == [table[len(table) * at // 4] for at in range(4)]


def test_watched_rows_whose_prompts_are_all_too_long_say_so(
    inputs: TrainInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No query is written, so none is scored: the message names the rows and the way out."""
    settings = section(watch="sql_exact_match", watch_rows=2)
    rows = spread_rows(inputs.validation, "db_id", settings.training)
    unasked = [Answer(None, unscored_reason="prompt_too_long")] * len(rows)
    monkeypatch.setattr(task_scores, "write_answers", lambda *_, **__: unasked)
    score = task_scores.make_task_score(
        torch.nn.Linear(1, 1),
        settings=settings,
        validation=inputs.validation,
        tokenizer=REPOSITORY / "assets" / "base_tiny",
    )
    assert score is not None
    with pytest.raises(ScoringError, match="could not be measured on any of the 2"):
        score()


def test_early_stopping_without_validation_rows_is_refused(
    inputs: TrainInputs, work: Workdir, tmp_path: Path
) -> None:
    """Before the model is loaded, with what to do."""
    table = pq.read_table(inputs.validation.folder / "rows.parquet")
    empty = tmp_path / "empty"
    empty.mkdir()
    pq.write_table(table.slice(0, 0), empty / "rows.parquet")
    side = SideRef(digest="empty", folder=empty)
    with pytest.raises(DataError, match="validation side has no rows, and early stopping"):
        train_adapter(inputs.model_copy(update={"validation": side}), hopeless(), work)


def test_what_is_watched_counts_for_the_key_only_where_it_is() -> None:
    """How long answers may be trains nothing again, unless queries are watched."""

    def kept(watch: str) -> int:
        settings = section(watch=watch).by_name() | {"scoring.max_new_tokens": 32}
        return TrainSettings.model_validate_json(json.dumps(settings)).max_new_tokens

    assert [kept("loss"), kept("accuracy"), kept("sql_exact_match")] == [128, 128, 32]


def test_every_figure_that_may_be_watched_can_be_scored_in_training() -> None:
    assert set(task_scores.SCORERS) == {each.name for each in WATCHED}
