"""Sections on the data: where rows come from, how they are split, what the model reads."""

from __future__ import annotations

import re
from string import Formatter
from typing import Annotated

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from retune.recipe.sections.base import (
    Count,
    Fraction,
    RecipePath,
    Section,
    Seed,
    Text,
    conflict,
)

PLACEHOLDERS = ("schema", "question")
_ANSWER_NAMES = ("answer", "query", "sql", "response", "output", "completion", "label", "target")
_LOOKS_FILLED = re.compile(r"\{(" + "|".join((*PLACEHOLDERS, *_ANSWER_NAMES)) + r")\}")


class ColumnsConfig(Section):
    """Which key of a row holds what."""

    question: Text = "question"
    """Key of the text that the model is asked."""

    answer: Text = "query"
    """Key of the text that the model shall give."""

    group: Text | None = "db_id"
    """Key of what rows may share: rows of one group never stand on both sides of a split. With
    `data.databases` it is also the name of the row's database. null: rows stand alone."""

    row_id: Text | None = "id"
    """Key of a unique name of the row, which reports and predictions show. null: the row's number
    in its file."""

    @model_validator(mode="after")
    def _answer_is_not_asked(self) -> ColumnsConfig:
        if self.question == self.answer:
            reason = f"question and answer are both read from {self.answer!r}: the model would see"
            raise conflict(("answer", f"{reason} what it shall say; name two different keys"))
        return self


class DataConfig(Section):
    """Files with the rows to learn from and to be measured on."""

    train: RecipePath
    """File of training rows, one JSON object per line (.jsonl)."""

    test: RecipePath | None = None
    """File of held-out rows that no training sees (.jsonl). null: `split.test_fraction` of `train`
    is held out."""

    databases: RecipePath | None = None
    """File of databases for text-to-SQL (.jsonl): db_id, schema (what the prompt shows) and context
    (SQL that creates and fills it). null: the task is not SQL, or is not executed."""

    columns: ColumnsConfig = Field(default_factory=ColumnsConfig)
    """Which key of a row holds what."""

    @model_validator(mode="after")
    def _files_fit(self) -> DataConfig:
        found = []
        if self.test == self.train:
            reason = "is the file that train names: held-out rows must not be trained on"
            found.append(("test", f"{reason}; name another file, or leave it out (test_fraction)"))
        if self.databases is not None and self.columns.group is None:
            reason = "is null, but databases needs the key that names each row's database"
            found.append(("columns.group", f"{reason} (usually db_id)"))
        if found:
            raise conflict(*found)
        return self


class SplitConfig(Section):
    """How rows are divided into training, validation and test."""

    validation_fraction: Fraction = 0.1
    """Part of the training file that is held back to watch the loss during training, above 0 and
    under 1."""

    test_fraction: Fraction = 0.1
    """Part of the training file that is held out for the final scores, above 0 and under 1. Counts
    only where `data.test` is not given."""

    seed: Seed = 7
    """Number that the division is drawn from; apart from the top-level `seed`, so that a new
    training seed keeps the same held-out rows."""

    grouped: bool = True
    """Whether rows that share `data.columns.group` stay on one side."""

    max_test_rows: Count | None = None
    """Most held-out rows to score, drawn by `seed`. null: all."""


class PromptConfig(Section):
    """What the model reads before it answers."""

    system: Text | None = None
    """Text of the system message, as it stands (it is no template). null: no system message."""

    user: Text = "{schema}\n{question}"
    """Template of the user message. `{question}` must stand in it, `{schema}` may (the text of the
    row's database); a brace that is meant as such is doubled: `{{`."""

    max_length: Annotated[int, Field(ge=16)] = 512
    """Most tokens of prompt and answer together. A longer row stops the run before training:
    nothing is cut silently."""

    @field_validator("user")
    @classmethod
    def _placeholders_are_known(cls, user: str) -> str:
        reason = _template_fault(user)
        if reason:
            raise PydanticCustomError("template", "{reason}", {"reason": reason})
        return user

    @field_validator("system")
    @classmethod
    def _system_is_no_template(cls, system: str | None) -> str | None:
        filled = _LOOKS_FILLED.search(system or "")
        if filled:
            raise PydanticCustomError(
                "template",
                "has {name}, but the system message is not filled in per row; move it to "
                "prompt.user",
                {"name": filled.group()},
            )
        return system


def prompt_fields(template: str) -> set[str]:
    """List the placeholders of a prompt template.

    Args:
        template: Text of `prompt.user`.

    Returns:
        Names between single braces.

    Raises:
        ValueError: The braces do not match.
    """
    return {name for _, name, _, _ in Formatter().parse(template) if name is not None}


def _template_fault(template: str) -> str | None:
    try:
        parts = [part for part in Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        return f"braces do not match ({error}); double a brace that is meant as such: {{{{ or }}}}"
    names = [name for _, name, _, _ in parts]
    for name in names:
        if name in _ANSWER_NAMES:
            return (
                f"has {{{name}}}: the model would read the answer that it shall give; "
                "only {question} and {schema} are filled in"
            )
        if name not in PLACEHOLDERS:
            return (
                f"has the unknown placeholder {{{name}}}; expected {{question}} and, if "
                "wanted, {schema} (double a brace that is meant as such: {{ or }})"
            )
    if any(form or conversion for _, _, form, conversion in parts):
        return "has a placeholder with a format; expected plain {question} and {schema}"
    if "question" not in names:
        return "lacks {question}: every row would ask the same"
    return None
