"""The stages on rows: what each is given, what it reads of the recipe, and its version."""

from __future__ import annotations

from typing import Annotated

from retune.model_records import BaseRef
from retune.recipe.sections import ColumnsConfig, FormatName, SplitConfig
from retune.recipe.sections.base import RUNTIME
from retune.recipe.sections.prompt import LossOn
from retune.records import (
    ChatRef,
    CleanRef,
    DatabasesRef,
    DatasetRef,
    EncodedRef,
    PairsRef,
    Record,
    RowSource,
    SideRef,
    Source,
    SplitRef,
)
from retune.spine.stage import Settings, Workdir, reads, stage

RowsInMemory = Annotated[int, reads("quality.rows_in_memory"), RUNTIME]


class DatabasesInputs(Record):
    """What databases are read from: a file, or all SQLite files of a folder."""

    source: RowSource


class NoSettings(Settings):
    """For stages that read nothing of the recipe."""


@stage(DatabasesInputs, version=2, libraries=("pyarrow",))
def load_databases(inputs: DatabasesInputs, settings: NoSettings, work: Workdir) -> DatabasesRef:
    """Read the schemas and contents of databases."""
    from retune.data.databases import load_databases

    return load_databases(inputs, work)


class LoadInputs(Record):
    """One source of rows, and how it is read."""

    source: RowSource
    format: FormatName
    columns: ColumnsConfig
    labels: tuple[str, ...] | None
    encoding: str | None = None
    max_row_bytes: int
    max_rows: int | None
    ignore: tuple[str, ...] = ()
    """Keys that are passed over."""
    databases: DatabasesRef | None = None
    """What `db_id` has to name, where a row names one; None where all bring their own, or are not
    SQL."""


@stage(LoadInputs, version=7, libraries=("datasets", "pyarrow"))
def load_rows(inputs: LoadInputs, settings: NoSettings, work: Workdir) -> DatasetRef:
    """Read the rows of one source."""
    from retune.data.rows import load_rows

    return load_rows(inputs, work)


class CleanInputs(Record):
    """All sources: first those to learn from, then the fixed held-out ones."""

    rows: tuple[DatasetRef, ...]
    weights: tuple[float | None, ...]
    held_out: tuple[bool, ...]
    names: tuple[tuple[str, ...], ...]
    """Files of each source (or its one hub id), as reports name them."""


class CleanSettings(Settings):
    """What rows are dropped for."""

    drop_duplicates: Annotated[str, reads("quality.drop_duplicates")]
    drop_conflicting_labels: Annotated[bool, reads("quality.drop_conflicting_labels")]
    near_threshold: Annotated[float, reads("quality.near_threshold")]
    languages: Annotated[tuple[str, ...] | None, reads("quality.languages")]
    rows_in_memory: RowsInMemory


@stage(
    CleanInputs,
    version=5,
    libraries=("datasketch", "numpy", "py3langid", "pyarrow", "python-stdnum"),
)
def clean_rows(inputs: CleanInputs, settings: CleanSettings, work: Workdir) -> CleanRef:
    """Look at the rows of all sources, and say which are kept."""
    from retune.data.quality.cleaning import clean_rows

    return clean_rows(inputs, settings, work)


class SplitInputs(Record):
    """What is split, and what must not be drawn."""

    rows: CleanRef
    kept: Source | None = None
    """Rows that stay on the side that they were on in an earlier version (`KEPT_SCHEMA`); None
    where none would move."""


class SplitSettings(Settings):
    """Shares and limits of the sides."""

    split: SplitConfig
    rows_in_memory: RowsInMemory


@stage(SplitInputs, version=2, libraries=("numpy", "pyarrow"))
def split_rows(inputs: SplitInputs, settings: SplitSettings, work: Workdir) -> SplitRef:
    """Put each row on one side."""
    from retune.data.parts.splitting import split_rows

    return split_rows(inputs, settings, work)


class LeaksInputs(Record):
    """The sides to compare, and the texts they stand for."""

    split: SplitRef
    clean: CleanRef
    rows: tuple[DatasetRef, ...]
    databases: DatabasesRef | None


class LeaksSettings(Settings):
    """What is a copy, and whether copies are dropped."""

    drop_leaked: Annotated[bool, reads("quality.drop_leaked")]
    near_threshold: Annotated[float, reads("quality.near_threshold")]
    sql_dialect: Annotated[str, reads("scoring.sql_dialect")]
    rows_in_memory: RowsInMemory


@stage(LeaksInputs, version=3, libraries=("numpy", "pyarrow", "sqlglot"))
def remove_leaks(inputs: LeaksInputs, settings: LeaksSettings, work: Workdir) -> SplitRef:
    """Compare the sides, and drop what repeats a held-out row where that is wanted."""
    from retune.data.parts.leaks import remove_leaks

    return remove_leaks(inputs, settings, work)


class EncodeInputs(Record):
    """Rows of one source, their databases, and the model whose tokenizer and template are used."""

    rows: DatasetRef
    databases: DatabasesRef | None
    base: BaseRef
    template: Source | None
    """File of the chat template, when it is not the tokenizer's own."""


class EncodeSettings(Settings):
    """How a row is written as a chat, and which of its tokens carry loss."""

    system: Annotated[str | None, reads("prompt.system")]
    user: Annotated[str | None, reads("prompt.user")]
    loss_on: Annotated[LossOn, reads("prompt.loss_on")]
    reasoning_effort: Annotated[str | None, reads("prompt.reasoning_effort")]


@stage(
    EncodeInputs,
    version=5,
    libraries=("pyarrow", "python-stdnum", "tokenizers", "transformers", "trl"),
    on_device=True,
)
def format_chat(inputs: EncodeInputs, settings: EncodeSettings, work: Workdir) -> EncodedRef:
    """Render and tokenize the rows of one source."""
    from retune.data.chats.encoding import format_chat

    return format_chat(inputs, settings, work)


class ChatInputs(Record):
    """Rows by side, and all sources as chats."""

    split: SplitRef
    rows: tuple[DatasetRef, ...]
    chats: tuple[EncodedRef, ...]
    databases: DatabasesRef | None
    base: BaseRef


class ChatSettings(Settings):
    """What the rows are audited by."""

    max_length: Annotated[int, reads("prompt.max_length")]
    loss_on: Annotated[LossOn, reads("prompt.loss_on")]


@stage(
    ChatInputs,
    version=5,
    libraries=("numpy", "pyarrow", "python-stdnum", "tokenizers", "transformers"),
)
def prepare_sides(inputs: ChatInputs, settings: ChatSettings, work: Workdir) -> ChatRef:
    """Gather the chats of each side, and audit every row."""
    from retune.data.chats.preparing import prepare_sides

    return prepare_sides(inputs, settings, work)


class ReplayInputs(Record):
    """The sides as they were prepared, and what the rows of the champion were."""

    chat: ChatRef
    split: SplitRef
    """Names and contents of the rows on each side."""
    seen: Source
    """Parts of the rows in the version that training goes on from (`HISTORY_SCHEMA`)."""


class ReplaySettings(Settings):
    """How many rows are learned again, and which."""

    replay: Annotated[float, reads("retrain.replay")]
    seed: int


@stage(ReplayInputs, version=2, libraries=("numpy", "pyarrow"))
def replay_rows(inputs: ReplayInputs, settings: ReplaySettings, work: Workdir) -> ChatRef:
    """Choose what a model learns that goes on from a champion."""
    from retune.data.parts.replaying import replay_rows

    return replay_rows(inputs, settings, work)


class PairsInputs(Record):
    """Pairs of answers, the model whose tokenizer and template are used, and rows to stay clear of.

    A pair whose prompt is that of a held-out row would train on what the final scores ask.
    """

    pairs: Source
    base: BaseRef
    template: Source | None
    held_out: SideRef
    encoding: str | None = None
    """What the file of pairs is in; None for UTF-8."""


class PairsSettings(Settings):
    """How a pair is written, and how many are held back."""

    system: Annotated[str | None, reads("prompt.system")]
    max_length: Annotated[int, reads("prompt.max_length")]
    reasoning_effort: Annotated[str | None, reads("prompt.reasoning_effort")]
    validation_fraction: Annotated[float, reads("dpo.validation_fraction")]


@stage(
    PairsInputs,
    version=2,
    libraries=("pyarrow", "python-stdnum", "tokenizers", "transformers"),
    on_device=True,
)
def format_pairs(inputs: PairsInputs, settings: PairsSettings, work: Workdir) -> PairsRef:
    """Render and tokenize pairs of answers."""
    from retune.data.chats.pairs import format_pairs

    return format_pairs(inputs, settings, work)
