"""Section on what the model reads, and on which tokens it learns."""

from __future__ import annotations

import re
from string import Formatter
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from retune.recipe.sections.base import Section, Text, conflict

PLACEHOLDERS = ("schema", "context", "question")
LossOn = Literal["answer", "assistant", "marked", "all"]
_ANSWER_NAMES = ("answer", "query", "sql", "response", "output", "completion", "label", "target")
_LOOKS_FILLED = re.compile(r"\{(" + "|".join((*PLACEHOLDERS, *_ANSWER_NAMES)) + r")\}")


Effort = Literal["low", "medium", "high"]
"""How much a model shall think, as gpt-oss' template names it."""


class PromptConfig(Section):
    """What the model reads before it answers, and which tokens it learns."""

    system: Text | None = None
    """Text of the system message, as it stands (it is no template). null: no system message, or the
    one that a row of turns brings along."""

    user: Text | None = None
    """Template of the user message. `{question}` must stand in it; `{schema}` (CREATE statements of
    the row's database) and `{context}` (the text beside the question) may. A brace that is meant as
    such is doubled: `{{`. null: the question, below the schema or above the context where the row
    has one."""

    template: Text | None = None
    """Chat template: the name of one that comes with retune (instruction_pt, instruction_en,
    headings), or a file (.jinja). null: the tokenizer's own, or headings where it has none."""

    template_from: Text | None = None
    """Model whose chat template is borrowed: a folder, or a name on the hub; the instruct sibling
    of a base model, say. null: none."""

    max_length: Annotated[int, Field(ge=16)] = 512
    """Most tokens of prompt and answer together. A longer row would lose the end of its answer: it
    is left out and listed, and stops the run above `limits.cut_targets`."""

    loss_on: LossOn = "answer"
    """Tokens that carry loss. answer: the last answer and its end token. assistant: every turn of
    the assistant. marked: what the template puts between its generation marks. all: every token,
    which rows of plain text always have. A turn that its row says is not to be learned has none."""

    reasoning_effort: Effort | None = None
    """How much the model shall think before it answers, for templates that say so (gpt-oss). A
    server of the release has to set the same. null: the template's own default."""

    @field_validator("user")
    @classmethod
    def _placeholders_are_known(cls, user: str | None) -> str | None:
        reason = _template_fault(user) if user is not None else None
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

    @model_validator(mode="after")
    def _one_template(self) -> PromptConfig:
        if self.template is not None and self.template_from is not None:
            reason = "is given, and so is template: only one chat template can be used"
            raise conflict(("template_from", f"{reason}; remove one of them"))
        return self


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
                "only {question}, {context} and {schema} are filled in"
            )
        if name not in PLACEHOLDERS:
            return (
                f"has the unknown placeholder {{{name}}}; expected {{question}} and, if "
                "wanted, {context} or {schema} (double a brace that is meant as such: {{ or }})"
            )
    if any(form or conversion for _, _, form, conversion in parts):
        return "has a placeholder with a format; expected plain {question}, {context} and {schema}"
    if "question" not in names:
        return "lacks {question}: every row would ask the same"
    return None
