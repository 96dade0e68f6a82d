"""Rewards: right answers get likelier, wrong and broken ones do not, and the base stays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from retune.data.schemas import CHAT_SCHEMA
from retune.data.tables import read_rows, write_table
from retune.digests import digest_folder
from retune.errors import ConfigError, DataError, OutOfMemory
from retune.model_records import AdapterRef, BaseRef, ModelRef
from retune.recipe.loading import load_recipe
from retune.records import ChatRef, SideRef
from retune.spine.stage import Workdir
from retune.sql.records import SqlLimits, SqlRow
from retune.sql.sandbox import SqlSandbox
from retune.training import loop, rewards, stages
from retune.training.resource_record import read_measured
from retune.training.rewards import measure_rewards, train_rewards
from retune.training.sql_reward import SqlReward
from retune.training.stages import RewardInputs, RewardSettings, TrainInputs, TrainSettings
from retune.training.supervised import train_adapter
from tests.making import make_workdir, settings_of

Quantize = Callable[[str], ModelRef]
CONTEXT = (
    "CREATE TABLE city (name TEXT, people INT); INSERT INTO city VALUES ('Natal', 8), ('Assu', 5)"
)
SLOW = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
TRAINING = {"max_steps": 4, "batch_size": 4, "warmup_steps": 0.0, "checkpoint_every_steps": 2}


def row(gold: str, **changed: Any) -> SqlRow:
    """A question about two cities."""
    return SqlRow(row_id="1", gold=gold, **{"context": CONTEXT, **changed})


def test_right_wrong_broken_and_slow_answers() -> None:
    """Only a query with the reference's result is worth something; a late one is stopped."""
    limits = SqlLimits(deadline_s=0.3)
    answers = [
        "SELECT name FROM city WHERE people > 6",
        "SELECT name FROM city WHERE name = 'Natal';",
        "```sql\nSELECT name FROM city LIMIT 1\n```",
        "SELECT name FROM city",
        "SELECT nme FROM city",
        "",
        "The answer is Natal",
        "DROP TABLE city",
        SLOW,
        "SELECT name FROM city WHERE people > 6",
    ]
    with SqlSandbox(limits) as sandbox:
        reward = SqlReward(sandbox, [row("SELECT 'Natal'")], dialect="sqlite", limits=limits)
        found = reward.rewards([0] * len(answers), answers)
        started = sandbox.starts
        again = reward.rewards([0] * len(answers), answers)
    # The third has no ORDER BY and a LIMIT, but returns Natal here, and the reference's one row.
    assert found == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert again == found
    assert sandbox.starts == started, "nothing was run a second time"


def test_rows_that_cannot_say_are_found() -> None:
    """A reference that fails, and a database that is not there, reward nothing."""
    limits = SqlLimits()
    rows = [row("SELECT 1"), row("SELECT nme FROM city"), row("SELECT 1", context=None)]
    with SqlSandbox(limits) as sandbox:
        reward = SqlReward(sandbox, rows, dialect="sqlite", limits=limits)
        assert reward.unscorable() == [1, 2]
        assert reward.rewards([1], ["SELECT 1"]) == [None]


def test_figures_by_hand() -> None:
    """Eight steps in points of 2: the first quarter is step 1 to 2, the last 7 to 8."""
    points = [
        {"name": "reward", "step": step, "value": value}
        for step, value in ((2, 0.1), (4, 0.2), (6, 0.3), (8, 0.5))
    ] + [{"name": "groups_with_signal", "step": step, "value": 0.5} for step in (2, 8)]
    assert measure_rewards(points, 8) == {
        "reward_first": pytest.approx(0.1),
        "reward_last": pytest.approx(0.5),
        "groups_with_signal": pytest.approx(0.5),
    }


def section(kind: str = "nf4", **grpo: Any) -> RewardSettings:
    """Four steps of two prompts of three rows, with four answers each, and a checkpoint every 2."""
    settings = {"max_steps": 4, "prompts_per_step": 2, "answers": 4, "learning_rate": 0.01}
    found: RewardSettings = settings_of(
        RewardSettings,
        seed=11,
        model={"id": "tiny"},
        quantization={"kind": kind},
        method={"r": 4, "alpha": 8, "dropout": 0.1},
        training=TRAINING,
        scoring={},
        grpo={**settings, "max_new_tokens": 8, "max_rows": 3, **grpo},
    )
    return found


@pytest.fixture(scope="module")
def inputs(
    chats: ChatRef, base: BaseRef, quantize: Quantize, tmp_path_factory: pytest.TempPathFactory
) -> RewardInputs:
    """An adapter that supervised fine-tuning left, over 4 bits."""
    model = quantize("nf4")
    adapter = train_adapter(
        TrainInputs(
            train=chats.side("train"), validation=chats.side("validation"), base=base, model=model
        ),
        settings_of(
            TrainSettings,
            seed=11,
            model={"id": "tiny"},
            quantization={"kind": "nf4"},
            method={"r": 4, "alpha": 8, "dropout": 0.1},
            training={**TRAINING, "learning_rate": 0.03, "evaluations": 0, "keep_best": False},
        ),
        make_workdir(tmp_path_factory.mktemp("sft") / "work"),
    )
    return RewardInputs(train=chats.side("train"), adapter=adapter, base=base, model=model)


@pytest.fixture
def even_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reward answers of even length: what a random model writes is no query, and all would be 0."""
    monkeypatch.setattr(
        SqlReward,
        "rewards",
        lambda self, places, answers: [float(len(answer) % 2 == 0) for answer in answers],
    )
    monkeypatch.setattr(SqlReward, "unscorable", lambda self: [])


@pytest.fixture
def trained(inputs: RewardInputs, even_lengths: None, tmp_path: Path) -> AdapterRef:
    """One uninterrupted training."""
    return train_rewards(inputs, section(), make_workdir(tmp_path / "uninterrupted"))


def test_the_adapter_moves(trained: AdapterRef, inputs: RewardInputs) -> None:
    """Every weight has its name from before, and another value; the record is of this training."""
    files = [f / "adapter_model.safetensors" for f in (inputs.adapter.folder, trained.folder)]
    then, now = (load_file(file) for file in files)
    assert then.keys() == now.keys()
    assert all(not torch.equal(then[name], now[name]) for name in then)
    assert (trained.kind, trained.steps, trained.validation_loss) == ("lora", 4, None)
    assert trained.trainable_parameters == inputs.adapter.trainable_parameters
    assert 0 < trained.figures["groups_with_signal"] <= 1
    # 4 steps of 2 prompts with 4 answers: as many prompts of over 8 tokens, and their answers.
    measured = read_measured(trained.folder)
    assert measured is not None and measured.tokens > 4 * 2 * 4 * 8


@pytest.mark.slow
def test_a_resumed_training_equals_an_uninterrupted_one(
    trained: AdapterRef, inputs: RewardInputs, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at step 3 and resumed from step 2: the same answers are drawn, bit for bit."""
    on_step_end = loop.MetricsLog.on_step_end

    def die(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        on_step_end(self, args, state, control, **rest)
        if state.global_step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(loop.MetricsLog, "on_step_end", die)
        train_rewards(inputs, section(), work)
    resumed = train_rewards(inputs, section(), work)
    assert resumed.resumed_from_step == 2
    assert resumed.digest == trained.digest
    assert resumed.figures == trained.figures


@pytest.mark.slow
def test_the_pull_back_starts_at_zero(
    inputs: RewardInputs, even_lengths: None, work: Workdir
) -> None:
    """With beta, the reference is what was trained before: no divergence before the first step.

    The copy that TRL makes of the adapter is not in the artifact.
    """
    found = train_rewards(inputs, section(beta=0.1, max_steps=1), work)
    curve = (found.folder / "log" / "metrics.jsonl").read_text().splitlines()
    points = [point for point in map(json.loads, curve) if point["name"] == "kl"]
    assert [point["value"] for point in points] == [pytest.approx(0, abs=1e-6)]
    assert sorted(path.name for path in found.folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "log",
    ]
    assert found.trainable_parameters == inputs.adapter.trainable_parameters
    assert found.total_parameters == inputs.adapter.total_parameters


def test_prompts_are_the_ids_that_are_scored(
    inputs: RewardInputs, even_lengths: None, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the model reads is each row's `prompt_ids`: no second begin token, no other template."""
    seen: list[list[int]] = []
    generate = rewards.AnswerTrainer._generate_single_turn

    def remember(self: Any, prompt_ids: list[list[int]], *rest: Any) -> Any:
        seen.extend(prompt_ids)
        return generate(self, prompt_ids, *rest)

    monkeypatch.setattr(rewards.AnswerTrainer, "_generate_single_turn", remember)
    train_rewards(inputs, section(max_steps=1), work)
    known = [row["prompt_ids"] for row in read_rows(inputs.train.folder / "rows.parquet")]
    assert len(seen) == 8
    assert all(ids in known for ids in seen)


def test_the_base_does_not_move(inputs: RewardInputs, even_lengths: None, work: Workdir) -> None:
    """What lies on the disk under the training is as it was."""
    folders = (inputs.model.folder, inputs.base.folder, inputs.adapter.folder)
    before = [digest_folder(folder) for folder in folders]
    train_rewards(inputs, section(max_steps=1), work)
    assert [digest_folder(folder) for folder in folders] == before


def test_equal_rewards_are_told(inputs: RewardInputs, work: Workdir) -> None:
    """A random model writes no query: all rewards are 0, nothing is learned, and that is said."""
    said: list[str] = []

    class Listening:
        def progress(self, *_: Any) -> None: ...
        def metric(self, *_: Any) -> None: ...
        def log(self, message: str) -> None:
            said.append(message)

    found = train_rewards(
        inputs, section(max_steps=1), Workdir(work.artifact, work.scratch, Listening())
    )
    assert (found.figures["reward_last"], found.figures["groups_with_signal"]) == (0.0, 0.0)
    assert any("nothing was learned" in line for line in said)
    weights = [
        load_file(f / "adapter_model.safetensors") for f in (inputs.adapter.folder, found.folder)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_rows_without_a_database_are_refused(
    inputs: RewardInputs, work: Workdir, tmp_path: Path
) -> None:
    """Nothing could be run, so nothing is rewarded: refused before a model is loaded."""
    rows = read_rows(inputs.train.folder / "rows.parquet")
    shutil.copytree(inputs.train.folder, tmp_path / "side")
    write_table(
        tmp_path / "side" / "rows.parquet", [{**row, "db_id": None} for row in rows], CHAT_SCHEMA
    )
    side = SideRef(digest="0" * 64, folder=tmp_path / "side")
    with pytest.raises(DataError, match="no training row is text-to-SQL"):
        train_rewards(inputs.model_copy(update={"train": side}), section(), work)


@pytest.mark.parametrize("name", ["dpo", "grpo"])
def test_a_method_that_cannot_go_on_is_refused_with_the_recipe(name: str) -> None:
    """Only lora, qlora and full are trained further; said before anything is located."""
    section = {"dpo": 'dpo={"pairs": "x.jsonl"}', "grpo": "grpo={}"}[name]
    demo = Path(__file__).parents[3] / "conf" / "recipes" / "text_to_sql_demo.yaml"
    with pytest.raises(ConfigError, match=f"is prefix, whose result {name} cannot train further"):
        load_recipe(demo, ["method={kind: prefix}", section])


def test_memory_that_runs_out_costs_no_step(
    inputs: RewardInputs,
    quantize: Quantize,
    even_lengths: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It runs out in the fourth step: from the checkpoint of the second on, four answers at a time.

    The same answers are drawn, all eight of a step at once, and the weights are those of an
    undisturbed training.
    """
    inputs = inputs.model_copy(update={"model": quantize("none")})
    settings = section("none").model_copy(update={"compute_dtype": "float32"})
    whole = train_rewards(inputs, settings, make_workdir(tmp_path / "whole"))
    seen: list[tuple[int, int]] = []
    compute = rewards.AnswerTrainer.compute_loss

    def limited(self: Any, model: Any, batch: Any, *given: Any, **named: Any) -> Any:
        count, step = len(batch["completion_ids"]), self.state.global_step
        seen.append((step, count))
        if count > 4 and step >= 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return compute(self, model, batch, *given, **named)

    monkeypatch.setattr(rewards.AnswerTrainer, "compute_loss", limited)
    lowered = stages.train_rewards.function(inputs, settings, make_workdir(tmp_path / "lowered"))
    assert seen == [(0, 8), (1, 8), (2, 8), (3, 8)] + [(s, 4) for s in (2, 3) for _ in "ab"]
    assert (lowered.steps, lowered.resumed_from_step) == (4, 2)
    assert lowered.memory_rung == "training.gradient_accumulation: 2"
    expected = load_file(whole.folder / "adapter_model.safetensors")
    for name, weight in load_file(lowered.folder / "adapter_model.safetensors").items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-6)


def test_answers_that_cannot_be_written_at_once_are_told(
    inputs: RewardInputs, even_lengths: None, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer rows at a time would write as many: it ends at once, and says what needs less."""
    tried: list[int] = []

    def run_out(_: Any, prompts: Any) -> Any:
        tried.append(len(prompts))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr(rewards.GRPOTrainer, "_generate_and_score_completions", run_out)
    with pytest.raises(OutOfMemory, match=r"while 8 answers were written at once.*grpo\.answers"):
        stages.train_rewards.function(inputs, section(), work)
    assert tried == [8]
