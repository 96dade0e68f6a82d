"""Sections on rules that written answers are checked by, without a model that judges them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from retune.recipe.sections.base import Count, CountOrZero, Section, Text, conflict

RubricKind = Literal["json", "regex", "length", "language", "refusal", "python", "citations"]
PREFIX = "rubric_"
"""What the names of their figures begin with."""
Name = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64, examples=["json", "short"])
]


class _Rubric(Section):
    name: Name | None = None
    """What it is called: `gate` and reports name its figure rubric_NAME. null: as its kind."""


class JsonRubric(_Rubric):
    """The answer is JSON, and fits a schema where one is given."""

    kind: Literal["json"]
    """Parses as JSON (RFC 8259; NaN and doubled keys are none)."""

    json_schema: dict[str, Any] | None = None
    """JSON schema that it has to fit; it stands alone, without $ref to other documents. null:
    any JSON."""

    in_fence: bool = False
    """Whether it may stand in a Markdown fence (```), of which the first is then read."""

    @model_validator(mode="after")
    def _schema_is_one(self) -> JsonRubric:
        if self.json_schema is not None and (fault := _fault_of_schema(self.json_schema)):
            raise conflict(("json_schema", f"{fault}; correct it"))
        return self


class RegexRubric(_Rubric):
    """The answer has, or has not, a part of a form."""

    kind: Literal["regex"]
    """Matches a regular expression of Python."""

    pattern: Text
    """The expression; write (?i) at its beginning to pass over case."""

    whole: bool = False
    """Whether all of the answer has to be of that form, and not a part of it."""

    wanted: bool = True
    """Whether it has to match. false: it must not."""

    @model_validator(mode="after")
    def _is_an_expression(self) -> RegexRubric:
        try:
            re.compile(self.pattern)
        except (re.error, RecursionError, OverflowError) as error:
            reason = f"is no regular expression ({error}); correct it"
            raise conflict(("pattern", reason)) from error
        return self


class LengthRubric(_Rubric):
    """The answer is no shorter and no longer than so much."""

    kind: Literal["length"]
    """Characters or words of the answer, white space around it left out."""

    unit: Literal["characters", "words"] = "words"
    """What is counted; words are what white space parts."""

    at_least: CountOrZero | None = None
    """Fewest. null: any."""

    at_most: Count | None = None
    """Most. null: any."""

    @model_validator(mode="after")
    def _bounds_are_bounds(self) -> LengthRubric:
        low, high = self.at_least, self.at_most
        if low is None and high is None:
            raise conflict(("at_most", "is null, and so is at_least: nothing would be checked"))
        if low is not None and high is not None and low > high:
            raise conflict(("at_least", f"{low} is more than at_most {high}"))
        return self


class LanguageRubric(_Rubric):
    """The answer is in one of some languages."""

    kind: Literal["language"]
    """As far as a text can tell; one under 20 letters cannot, and leaves its row unscored."""

    languages: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[a-z]{2}$", examples=["pt"])], ...],
        Field(strict=False, min_length=1),
    ]
    """ISO 639-1 codes."""


class RefusalRubric(_Rubric):
    """The answer is no refusal, or is one."""

    kind: Literal["refusal"]
    """Holds words by which assistants refuse, in its first 300 characters."""

    wanted: bool = False
    """Whether a refusal is right. false: it is wrong."""

    phrases: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    """Words that refuse, in place of those in English and Portuguese that come with retune; accents
    and case are passed over."""


class PythonRubric(_Rubric):
    """The answer is Python that compiles; nothing of it is run."""

    kind: Literal["python"]
    """Compiles with the Python that retune runs on."""

    in_fence: bool = True
    """Whether it may stand in a Markdown fence (```), of which the first is then read."""


class CitationsRubric(_Rubric):
    """What the answer quotes, or refers to, is in its prompt."""

    kind: Literal["citations"]
    """Spans in quotation marks of three words or more, and numbers in brackets such as [2]."""

    of: Literal["both", "quotes", "references"] = "both"
    """What is looked at."""

    required: bool = True
    """Whether an answer without any is wrong. false: it is right."""


def _kind_of(value: object) -> str | None:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return kind if isinstance(kind, str) else None


RubricConfig = Annotated[
    Annotated[JsonRubric, Tag("json")]
    | Annotated[RegexRubric, Tag("regex")]
    | Annotated[LengthRubric, Tag("length")]
    | Annotated[LanguageRubric, Tag("language")]
    | Annotated[RefusalRubric, Tag("refusal")]
    | Annotated[PythonRubric, Tag("python")]
    | Annotated[CitationsRubric, Tag("citations")],
    Discriminator(_kind_of),
]


def name_of(rubric: RubricConfig) -> str:
    """Return what a rubric is called."""
    return rubric.name or rubric.kind


def figure_name(rubric: RubricConfig) -> str:
    """Return the name of a rubric's figure, which `gate` may name."""
    return f"{PREFIX}{name_of(rubric)}"


def _fault_of_schema(schema: dict[str, Any]) -> str | None:
    """Say what is wrong with a JSON schema; None where nothing is."""
    # Only recipes with such a rubric pay for these.
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    kind = validator_for(schema)
    try:
        kind.check_schema(schema, format_checker=kind.FORMAT_CHECKER)
    except SchemaError as error:
        place = "/".join(map(str, error.absolute_path)) or "its top"
        return f"is no JSON schema: at {place}, {error.message:.200}"
    resolver = Registry().resolver_with_root(DRAFT202012.create_resource(schema))
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except Unresolvable:
            return f"refers to {reference}, which it does not hold"
    return None


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [each for inner in value for each in _references(inner)]
    if not isinstance(value, dict):
        return []
    own = [each for key, each in value.items() if key == "$ref" and isinstance(each, str)]
    return own + [each for inner in value.values() for each in _references(inner)]
