"""What goes into the SQL scorer and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from retune.sql.hardness import Hardness


class SqlRecord(BaseModel):
    """A frozen value of the SQL rooms; its fields, and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SqlLimits(SqlRecord):
    """How much one statement may cost before it counts as failed."""

    deadline_s: float = Field(default=5.0, gt=0)
    """Seconds of processor time that one query may take, however busy the machine is."""

    context_deadline_s: float = Field(default=10.0, gt=0)
    """Seconds of processor time for opening a database, or building one from its context."""

    grace_s: float = Field(default=0.5, gt=0)
    """Seconds of processor time after a deadline until the worker is killed: some single steps of
    SQLite take long and cannot be interrupted."""

    max_rows: int = Field(default=100_000, gt=0)
    """Rows of a gold result; one with more leaves the row unscored."""

    max_value_bytes: int = Field(default=10_000_000, gt=0)
    """Bytes of one text, blob or row."""

    max_sql_chars: int = Field(default=50_000, gt=0)
    """Characters of one query."""

    max_context_chars: int = Field(default=20_000_000, gt=0)
    """Characters of one CREATE/INSERT context."""

    memory_bytes: int = Field(default=512 * 1024 * 1024, ge=64 * 1024 * 1024)
    """Address space of the worker process; a database built from a context may take a quarter."""


@dataclass(frozen=True, kw_only=True)
class SqlRow:
    """One question's gold query and where it can be run.

    A dataclass, because a pydantic model cannot have a field called `schema`.

    Args:
        row_id: Names the row in the outcomes.
        group: What rows share that makes them alike (the database): intervals are clustered by it.
        schema: CREATE TABLE statements; names are resolved with it for the exact match.
        gold: The gold query.
        database: A SQLite file; goes before `context`.
        context: CREATE and INSERT statements that an in-memory database is built from.
    """

    row_id: str
    gold: str
    group: str | None = None
    schema: str = ""
    database: Path | None = None
    context: str | None = None


class SqlOutcome(SqlRecord):
    """What one prediction scored. None means that it could not be scored, never zero."""

    row_id: str
    exact_match: bool | None
    execution_match: bool | None
    unscored_reason: str | None = None
    """Why `execution_match` is None: `gold_...` or `database_...`."""

    exact_unscored_reason: str | None = None
    """Why `exact_match` is None."""

    wrong_reason: str | None = None
    """Why `execution_match` is False; `other_result` when the prediction ran."""

    detail: str = ""
    """SQLite's own words, for a person."""

    executable: bool | None = None
    """The prediction ran; None where there was nothing to run it on."""

    empty_result: bool | None = None
    """The prediction ran and returned no rows."""

    gold_empty: bool | None = None
    """The gold returned no rows, so that any query that returns nothing matches it."""

    gold_cuts_tie: bool | None = None
    """A LIMIT of the gold cuts a tie, so that an equally right prediction may return other rows;
    None where nothing ran, or a subquery's LIMIT cannot be asked about alone."""

    hardness: Hardness | None = None
    """Spider's class of the gold; None when it cannot be parsed."""
