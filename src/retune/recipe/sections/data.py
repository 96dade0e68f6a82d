"""Sections on the data: where rows come from, and how they are divided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from retune.recipe.sections.base import (
    Count,
    Fraction,
    RecipePath,
    Section,
    Seed,
    Text,
    conflict,
)
from retune.recipe.sections.encodings import Encoding

FormatName = Literal[
    "messages",
    "conversations",
    "instruction",
    "prompt_completion",
    "text",
    "text_label",
    "text_to_sql",
    "harmony",
]


class ColumnsConfig(Section):
    """Which key of a row holds what; null: the format's own name."""

    question: Text | None = None
    """Key of the text that the model is asked (of a classification: the text)."""

    context: Text | None = None
    """Key of a text beside the question: the input of an instruction, the SQL that creates and
    fills the row's own database. Formats without one ignore it where it is null."""

    answer: Text | None = None
    """Key of the text that the model shall give (of a classification: the label)."""

    references: Text | None = None
    """Key of a list of texts that are right answers too; the answer alone is learned, and
    `scoring.text_metrics` accept all. null: `reference_answers`, `accepted_answers` or the like
    (docs/data.md), where a row has it."""

    messages: Text | None = None
    """Key of the list of turns, for the formats messages and conversations."""

    system: Text | None = None
    """Key of the row's own system message, which goes before `prompt.system`. null: `system` or
    `system_prompt`, where a row has it."""

    history: Text | None = None
    """Key of the turns before the question: a list of [question, answer] pairs, or of turns. null:
    `history` or `chat_history`, where a row has it."""

    thinking: Text | None = None
    """Key of what the model shall think before its answer. null: `thinking`, `reasoning`,
    `reasoning_content`, `cot` or the like (docs/data.md), where a row has it."""

    tools: Text | None = None
    """Key of the tools that the model may call: a list, or its JSON. null: `tools` or `functions`,
    where a row has it."""

    group: Text | None = None
    """Key of what rows may share (a document, a template): rows of one group never stand on both
    sides of a split. null: the row's database where it has one, else its text with case, accents,
    white space and the signs between words folded."""

    database: Text | None = None
    """Key of the name of the row's database in `data.databases`. null: `db_id`."""

    row_id: Text | None = None
    """Key of a unique name of the row, which reports and predictions show. null: the row's number
    in its file."""

    @model_validator(mode="after")
    def _answer_is_not_asked(self) -> ColumnsConfig:
        if self.answer is None:
            return self
        for key in ("question", "context", "system", "history"):
            if self.answer == getattr(self, key):
                reason = f"{key} and answer are both read from {self.answer!r}: the model would see"
                raise conflict(("answer", f"{reason} what it shall say; name two different keys"))
        return self


class SourceConfig(Section):
    """One source of rows: files of this machine, or a split of a dataset on the hub."""

    path: RecipePath | None = None
    """File or glob of `.jsonl` (`.ndjson`), `.json`, `.csv`, `.tsv` or `.parquet` files (also `.gz`
    of all but the last). null: `hub` names a dataset."""

    hub: Text | None = None
    """Name of a dataset on the Hugging Face hub, or a folder that `datasets` can load."""

    config: Text | None = None
    """Configuration of the hub dataset. null: its default."""

    split: Text = "train"
    """Split of the hub dataset."""

    revision: Text | None = None
    """Commit, tag or branch of the hub dataset. null: the newest; the commit that was read stands
    in the run's record."""

    streaming: bool = False
    """Whether rows of the hub dataset are read over the network as they are needed, for sets larger
    than the disk. Files of this machine are always read piece by piece."""

    format: FormatName | None = None
    """Layout of the rows. null: detected from the first row, and shown."""

    encoding: Encoding | None = None
    """Encoding of the source's text files. null: `data.encoding`."""

    columns: ColumnsConfig | None = None
    """Which key of a row holds what, in this source. null: `data.columns`."""

    weight: Annotated[float, Field(gt=0)] | None = None
    """Share of this source in the mixed rows, relative to the weights of the others; rows are left
    out, never repeated, until the shares hold. null in all: every row is used."""

    max_rows: Count | None = None
    """Most rows to read, from the first on. null: all."""

    @model_validator(mode="after")
    def _one_place(self) -> SourceConfig:
        if (self.path is None) == (self.hub is None):
            reason = "expected either path (files) or hub (a dataset's name)"
            raise conflict(("path", f"{reason}, found {'both' if self.path else 'neither'}"))
        if self.hub is not None and self.encoding is not None:
            raise conflict(("encoding", "belongs to files, but this source is a hub dataset"))
        if self.path is not None:
            stated = [key for key in ("config", "revision") if getattr(self, key) is not None]
            if stated or self.streaming:
                key = (stated or ["streaming"])[0]
                raise conflict((key, "belongs to a hub dataset, but this source is a path"))
        return self


def _as_sources(value: Any) -> Any:
    """Let a path or one mapping stand for a list of one source."""
    listed = list(value) if isinstance(value, list | tuple) else [value]
    return tuple({"path": each} if _is_path(each) else each for each in listed)


def _is_path(value: Any) -> bool:
    return not isinstance(value, Mapping | SourceConfig)


class _SourcesSchema:
    """Tells editors that a path, one source, or a list of both may stand there."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        one = {"anyOf": [{"type": "string", "format": "path"}, schema["items"]]}
        return {"anyOf": [*one["anyOf"], {"type": "array", "items": one, "minItems": 1}]}


Sources = Annotated[
    tuple[SourceConfig, ...],
    Field(min_length=1),
    BeforeValidator(_as_sources),
    _SourcesSchema,
]


class DataConfig(Section):
    """The rows to learn from and to be measured on."""

    train: Sources
    """Training rows: a file or glob, one source, or a list of sources that are mixed."""

    test: Sources | None = None
    """Held-out rows that no training sees. null: `split.test_fraction` of `train` is held out."""

    databases: RecipePath | None = None
    """Databases for text-to-SQL: a file (.jsonl) with db_id, schema (what the prompt shows) and
    context (SQL that creates and fills it) per line, a file (.json) that maps names to CREATE
    statements, or a folder of SQLite files. null: the rows hold their own (format text_to_sql with
    a context), or the task is not SQL."""

    encoding: Encoding | None = None
    """Encoding of text files of rows, and of `dpo.pairs`: cp1252 for files of Windows (latin-1 is
    read as it), utf-16, or another that Python knows. null: utf-8; what is in another encoding is
    refused, and the one that it seems to be in is named."""

    columns: ColumnsConfig = Field(default_factory=ColumnsConfig)
    """Which key of a row holds what."""

    labels: Annotated[tuple[Text, ...], Field(strict=False, min_length=2)] | None = None
    """Names of the classes, for the format text_label; where rows hold numbers, the first name is
    number 0. null: the labels as they stand in the rows."""

    ignore: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    """Keys of rows and turns that are passed over, whatever they mean: a mark such as `rating`,
    pictures, a second answer. What a row says under other names is read, or refused by name
    (docs/data.md)."""

    max_row_bytes: Count = 1_000_000
    """Longest row that is read, in bytes of its file; a longer one is dropped and listed."""

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        twice = sorted({name for name in labels or () if (labels or ()).count(name) > 1})
        if twice:
            raise PydanticCustomError(
                "value_error", "names {names} twice", {"names": ", ".join(map(repr, twice))}
            )
        return labels

    @model_validator(mode="after")
    def _ignored_is_not_read(self) -> DataConfig:
        sources = [*self.train, *(self.test or ())]
        read = [self.columns, *(source.columns for source in sources if source.columns)]
        for columns in read:
            for role, key in columns:
                if key in self.ignore:
                    reason = f"names {key!r}, which is the {role} in columns: keep one of both"
                    raise conflict(("ignore", reason))
        return self

    @model_validator(mode="after")
    def _sources_fit(self) -> DataConfig:
        found = []
        train = {source.path for source in self.train if source.path}
        for place, source in enumerate(self.test or ()):
            if source.path in train:
                reason = "is the file that train names: held-out rows must not be trained on"
                at = f"test.{place}.path"
                found.append((at, f"{reason}; name another file, or leave it out (test_fraction)"))
        weighted = [source.weight is not None for source in self.train]
        if any(weighted) and not all(weighted):
            at = f"train.{weighted.index(False)}.weight"
            found.append((at, "is missing, but other sources have one; give all, or none"))
        for place, source in enumerate(self.test or ()):
            if source.weight is not None:
                reason = "held-out rows are not mixed: every one is scored"
                found.append((f"test.{place}.weight", f"{reason}; remove it"))
        if found:
            raise conflict(*found)
        return self


class SplitConfig(Section):
    """How rows are divided into training, validation and test."""

    validation_fraction: Fraction = 0.1
    """Part of the training rows that is held back to watch the loss during training, above 0 and
    under 1."""

    test_fraction: Fraction = 0.1
    """Part of the training rows that is held out for the final scores, above 0 and under 1. Counts
    only where `data.test` is not given."""

    seed: Seed = 7
    """Number that the division is drawn from; apart from the top-level `seed`, so that a new
    training seed keeps the same held-out rows."""

    grouped: bool = True
    """Whether rows that share `data.columns.group` stay on one side."""

    stratified: bool = True
    """Whether `max_train_rows`, `max_validation_rows` and `max_test_rows` keep each label's share
    of all rows. Without these sizes the shares hold on average: a row's side never depends on other
    rows, so that no row moves when rows are added."""

    max_train_rows: Count | None = None
    """Most training rows, drawn by `seed`. null: all."""

    max_validation_rows: Count | None = None
    """Most validation rows, drawn likewise. null: all."""

    max_test_rows: Count | None = None
    """Most held-out rows to score, drawn likewise. null: all."""
