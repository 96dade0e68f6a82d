"""Stage `train_rewards`: group relative policy optimization (GRPO) with TRL.

To each prompt the model in training writes several answers; each is rewarded (`sql_reward`), and
those above the mean of their group become likelier, in units of the group's standard deviation
(https://arxiv.org/abs/2402.03300; TRL's default loss `dapo`, which weighs every token alike). A
group whose answers all have one reward teaches nothing: `groups_with_signal` says how many do.

The last weights are kept: the reward of a few drawn answers is too noisy to choose by, and the
run's scores say whether the training helped. Answers are drawn with the seeded generator that
checkpoints keep, and prompts in an order that is fixed before training, so that a resumed training
writes the same answers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import torch
from datasets import Dataset
from transformers import set_seed
from trl import GRPOConfig, GRPOTrainer

from retune.data.chats.tokenizers import Tokenizer, end_token_ids, load_tokenizer
from retune.data.tables import iterate_rows
from retune.errors import DataError, OutOfMemory
from retune.inference.batching import telling_out_of_memory
from retune.inference.generation import read_answer
from retune.inference.loaded_models import SLOT
from retune.inference.token_losses import context_limit
from retune.model_records import AdapterRef
from retune.modeling.placement import planned_heap
from retune.recipe.sections import GrpoConfig, TrainingConfig
from retune.records import LOG_FOLDER
from retune.scoring.sql.rows import read_sql_rows
from retune.spine.stage import Workdir
from retune.sql.records import SqlLimits
from retune.sql.sandbox import SqlSandbox
from retune.training.continuing import (
    RetrainedModel,
    continue_training,
    remember_weights,
    restore_weights,
    settings_after_sft,
)
from retune.training.loop import run_training
from retune.training.metrics import read_metrics
from retune.training.sql_reward import SqlReward
from retune.training.stages import RewardInputs, RewardSettings
from retune.training.trainer_arguments import common_arguments, project_answers_only

Row = dict[str, Any]
_PROMPTS = pa.schema([("prompt", pa.string()), ("place", pa.int64())])


class AnswerTrainer(GRPOTrainer):
    """TRL's trainer on prompts that are token ids already.

    Args:
        rows: Of a side's `rows.parquet`.
        end_ids: Ids that end an answer.
        options: As TRL's.
    """

    def __init__(self, rows: Sequence[Row], end_ids: Sequence[int], **options: Any) -> None:
        self._ids_of = {row["prompt"]: list(row["prompt_ids"]) for row in rows}
        super().__init__(**options)
        # A chat template may end an answer otherwise than the tokenizer does.
        self.eos_token_ids = list(end_ids)
        self.generation_kwargs["eos_token_id"] = list(end_ids)
        self.generation_config.eos_token_id = list(end_ids)

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        # The ids that the same prompts have in training and scoring; no second begin token.
        return [list(self._ids_of[prompt]) for prompt in prompts], None, {}

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        # All answers of a step are written at once, in however many parts they are learned from.
        try:
            with telling_out_of_memory():
                return super()._generate_and_score_completions(inputs)
        except OutOfMemory as error:
            raise OutOfMemory(
                f"{error} That was while {len(inputs)} answers were written at once: a lower "
                "grpo.prompts_per_step, grpo.answers or grpo.max_new_tokens needs less."
            ) from None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the share of groups whose answers differ in reward."""
        without = self._metrics["train"].get("frac_reward_zero_std", [])
        if without:
            logs["groups_with_signal"] = 1 - math.fsum(without) / len(without)
        super().log(logs, start_time)


def train_rewards(inputs: RewardInputs, settings: RewardSettings, work: Workdir) -> AdapterRef:
    """Train what was trained before by rewards on its own answers.

    Args:
        inputs: Training chats with their databases, what was trained before, the model under it.
        settings: Method, training settings, those of the rewards, and how SQL is scored.
        work: Checkpoints go to its scratch folder, what was trained to its artifact folder.

    Returns:
        What was trained, of the same kind as before, with the figures of this training.

    Raises:
        ConfigError: The method cannot be trained further.
        DataError: No row can be rewarded, or no prompt fits into the model's context.
        StageError: The loss is not finite, or training ended before its planned steps.
        Interrupted: A stop was asked for; a checkpoint was sealed first.
    """
    SLOT.clear()
    set_seed(settings.seed)
    limits = SqlLimits(deadline_s=settings.sql_timeout_seconds)
    rows = _read_rows(inputs, settings.grpo.max_rows)
    with SqlSandbox(limits) as sandbox:
        dialect = settings.sql_dialect
        rows = _leave_out_unscorable(rows, inputs, sandbox, dialect, limits, work)
        reward = SqlReward(
            sandbox, read_sql_rows(rows, inputs.train), dialect=dialect, limits=limits
        )
        continued = continue_training(inputs, inputs.adapter, settings)
        _refuse_long(rows, continued, settings.grpo)
        training = _settings_after_sft(settings.training, settings.grpo)
        trainer = _build_grpo_trainer(continued, rows, reward, inputs, settings, training, work)
        with planned_heap(work.context, "train_rewards"):
            adapter = run_training(
                trainer,
                continued,
                kind=settings.method.kind,
                training=training,
                seed=settings.seed,
                work=work,
                name_row=lambda place: f"row {rows[place]['row_id']}",
            )
    points = read_metrics(work.artifact / LOG_FOLDER / "metrics.jsonl")
    figures = {"rows": float(len(rows)), **measure_rewards(points, settings.grpo.max_steps)}
    if not figures.get("groups_with_signal"):
        work.reporter.log(
            "no prompt got answers of different reward, so nothing was learned: raise "
            "grpo.answers or grpo.temperature, or train longer before"
        )
    return adapter.model_copy(update={"figures": figures})


def _settings_after_sft(training: TrainingConfig, grpo: GrpoConfig) -> TrainingConfig:
    return settings_after_sft(
        training,
        batch_size=grpo.prompts_per_step * grpo.answers,
        learning_rate=grpo.learning_rate,
        max_steps=grpo.max_steps,
        evaluations=False,
    )


def _read_rows(inputs: RewardInputs, most: int) -> list[Row]:
    """Read text-to-SQL rows: all, or as many as are asked for, chosen by their own names."""
    rows = [
        row
        for row in iterate_rows(inputs.train.folder / "rows.parquet")
        if row["db_id"] is not None and _answer_is_learned(row)
    ]
    if not rows:
        raise DataError(
            "grpo.reward is sql_execution_match, but no training row is text-to-SQL with a "
            "database to run its query on. Remove grpo, or name data.databases."
        )
    if most:
        rows.sort(key=lambda row: hashlib.sha256(row["row_id"].encode()).digest())
        rows = rows[:most]
    return sorted(rows, key=lambda row: str(row["row_id"]))


def _answer_is_learned(row: Row) -> bool:
    # An answer that the row says is not to be learned is no reference to reward others by.
    mask = row["loss_mask"]
    return mask is None or any(mask[len(row["prompt_ids"]) :])


def _leave_out_unscorable(
    rows: list[Row],
    inputs: RewardInputs,
    sandbox: SqlSandbox,
    dialect: str,
    limits: SqlLimits,
    work: Workdir,
) -> list[Row]:
    references = read_sql_rows(rows, inputs.train)
    judged = SqlReward(sandbox, references, dialect=dialect, limits=limits)
    unscorable = set(judged.unscorable())
    if len(unscorable) == len(rows):
        raise DataError(
            f"grpo: the reference query of none of the {len(rows)} rows gives a result on its "
            "database, so no answer can be rewarded. Mend the queries or data.databases."
        )
    if unscorable:
        work.reporter.log(f"{len(unscorable)} of {len(rows)} rows cannot be rewarded: left out")
    return [row for place, row in enumerate(rows) if place not in unscorable]


def _refuse_long(rows: Sequence[Row], continued: RetrainedModel, grpo: GrpoConfig) -> None:
    limit = context_limit(continued.model)
    longest = max(len(row["prompt_ids"]) for row in rows)
    if limit is not None and longest + grpo.max_new_tokens > limit:
        raise DataError(
            f"grpo: the longest prompt has {longest} tokens; with grpo.max_new_tokens = "
            f"{grpo.max_new_tokens} that is over the model's context of {limit}. Lower one of "
            "them; nothing is cut silently."
        )


def _build_grpo_trainer(
    continued: RetrainedModel,
    rows: Sequence[Row],
    reward: SqlReward,
    inputs: RewardInputs,
    settings: RewardSettings,
    training: TrainingConfig,
    work: Workdir,
) -> AnswerTrainer:
    """Build the trainer of answers to `rows`; its model is as it was given."""
    project_answers_only()
    grpo = settings.grpo
    tokenizer = load_tokenizer(inputs.base.folder)
    end_ids = end_token_ids(tokenizer, inputs.base.folder)
    as_given = remember_weights(continued.model)
    trainer = AnswerTrainer(
        rows,
        end_ids,
        model=continued.model,
        reward_funcs=[_as_function(reward, tokenizer, end_ids)],
        args=GRPOConfig(
            **common_arguments(training, settings, work, grpo.max_steps),
            num_generations=grpo.answers,
            max_completion_length=grpo.max_new_tokens,
            temperature=grpo.temperature,
            beta=grpo.beta,
            # The order of prompts is fixed below; the sampler's own cannot be resumed in a later
            # epoch.
            shuffle_dataset=False,
            disable_dropout=True,
            pad_to_multiple_of=None,
        ),
        train_dataset=_prompts(rows, grpo, settings.seed),
        processing_class=tokenizer,
    )
    restore_weights(continued.model, as_given)
    return trainer


def _as_function(reward: SqlReward, tokenizer: Tokenizer, end_ids: Sequence[int]) -> Any:
    def sql_execution_match(
        completion_ids: list[list[int]], place: list[int], **_: Any
    ) -> list[float | None]:
        # Decoded as answers are that are scored.
        texts = [read_answer(tokenizer, end_ids, ids).text or "" for ids in completion_ids]
        return reward.rewards(place, texts)

    return sql_execution_match


def _prompts(rows: Sequence[Row], grpo: GrpoConfig, seed: int) -> Dataset:
    """Return the prompts of all steps in their order: as many passes over the rows as they take."""
    generator = torch.Generator().manual_seed(seed)
    needed = grpo.max_steps * grpo.prompts_per_step
    places: list[int] = []
    while len(places) < needed:
        places += torch.randperm(len(rows), generator=generator).tolist()
    columns = [{"prompt": rows[place]["prompt"], "place": place} for place in places[:needed]]
    return Dataset(pa.Table.from_pylist(columns, schema=_PROMPTS))


def measure_rewards(points: Sequence[dict[str, Any]], steps: int) -> dict[str, float]:
    """Return the figures of a training's answers.

    Args:
        points: Of `metrics.jsonl`; each is the mean of the steps since the one before.
        steps: Of the training.

    Returns:
        `reward_first` and `reward_last`, the mean reward over about the first and the last quarter
        of the steps, and `groups_with_signal` over all.
    """
    rewards = _by_step(points, "reward")
    signal = _by_step(points, "groups_with_signal")
    quarter = steps / 4
    return {
        "reward_first": _mean(rewards[: _until(rewards, quarter)]),
        "reward_last": _mean([each for each in rewards if each[0] > steps - quarter]),
        "groups_with_signal": _mean(signal),
    }


def _by_step(points: Sequence[dict[str, Any]], name: str) -> list[tuple[int, int, float]]:
    """Return step, number of steps and value of each point."""
    found = sorted((point["step"], point["value"]) for point in points if point["name"] == name)
    before = [0, *(step for step, _ in found)]
    return [
        (step, step - since, value) for (step, value), since in zip(found, before, strict=False)
    ]


def _until(points: Sequence[tuple[int, int, float]], step: float) -> int:
    """Return how many points reach up to a step; at least one."""
    return max(1, sum(at <= step for at, _, _ in points))


def _mean(points: Sequence[tuple[int, int, float]]) -> float:
    steps = sum(count for _, count, _ in points)
    return math.fsum(count * value for _, count, value in points) / max(1, steps)
