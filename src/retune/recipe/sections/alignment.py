"""Sections on what a recipe may train after supervised fine-tuning: preferences, rewards."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from retune.recipe.sections.base import Count, CountOrZero, RecipePath, Section

Rate = Annotated[float, Field(gt=0, le=1)]


class DpoConfig(Section):
    """Direct preference optimization: of two answers, one becomes more likely than the other.

    It trains what supervised fine-tuning trained, from where that ended, and `training` says all
    that does not stand here.
    """

    pairs: RecipePath
    """File of pairs, of any kind that rows may be in (.jsonl, .json, .csv, .tsv, .parquet, .gz):
    `prompt` (what the user says, word for word, or a list of messages), `chosen` and `rejected`
    (texts, or messages); docs/aligning.md lists other layouts. `prompt.user` does not touch it."""

    beta: Annotated[float, Field(gt=0)] = 0.1
    """How closely the model is held to what it was after supervised fine-tuning: the higher, the
    closer."""

    loss: Literal["sigmoid", "ipo", "hinge"] = "sigmoid"
    """Form of the loss, as TRL names it. sigmoid is that of the paper."""

    max_steps: Count | None = None
    """Optimizer steps. null: `epochs` counts."""

    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over the pairs."""

    batch_size: Count = 8
    """Pairs per optimizer step and device."""

    learning_rate: Rate = 5.0e-6
    """Highest step size; far below that of supervised fine-tuning."""

    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Part of the pairs that is held back to measure how often the chosen answer is the likelier
    one, and the loss. Pairs of one prompt stay together. 0: none, and the last weights are kept."""


class GrpoConfig(Section):
    """Group relative policy optimization: learning from one's own answers that are rewarded.

    Of several answers to a prompt, those above their mean become likelier. It trains what was
    trained before, on the training rows, and `training` says all that does not stand here. The last
    weights are kept.
    """

    reward: Literal["sql_execution_match"] = "sql_execution_match"
    """What is rewarded: 1 where the answer's query returns what the reference returns on the row's
    database, else 0."""

    answers: Annotated[int, Field(ge=2)] = 8
    """Answers that are written to each prompt and compared with each other."""

    max_steps: Count = 100
    """Optimizer steps."""

    prompts_per_step: Count = 4
    """Prompts per optimizer step and device, each with `answers` answers."""

    learning_rate: Rate = 1.0e-6
    """Highest step size."""

    beta: Annotated[float, Field(ge=0)] = 0.0
    """Strength of the pull back to the model as it was before. 0: none."""

    temperature: Annotated[float, Field(gt=0, le=5)] = 1.0
    """How freely answers are drawn; at low values all answers to a prompt are alike, and nothing is
    learned."""

    max_new_tokens: Count = 128
    """Most tokens of one answer."""

    max_rows: CountOrZero = 0
    """Most training rows that prompts are drawn from. 0: all."""
