"""What the registry keeps of a model beside its versions: a manifest each, and one ledger."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from retune.records import Record, Side
from retune.score_records import GateDecision

TRAINING_HOURS = "training_hours"
"""Name of the figure that says how long a challenger was trained, in hours."""

ServedKind = Literal["refused", "let_go"]
"""What a server says of a version: it was not let in, or it answers no more."""
LedgerKind = Literal[
    "promoted",
    "pending",
    "rejected",
    "skipped",
    "failed",
    "rolled_back",
    "approved",
    "expired",
    "withdrawn",
    "refused",
    "let_go",
]
"""`pending`: a person is asked. `withdrawn`: the alias champion was taken away. `refused`,
`let_go`: see `ServedKind`; nothing was decided by that."""


class LedgerEntry(Record):
    """One line of a model's ledger: what was decided, by whom, and why.

    Lines are numbered from 1 and each holds the digest of the one before, so that a line that was
    changed, taken out or put in shows.
    """

    number: int
    at: str
    """Date and time, UTC, ISO 8601 with seconds."""
    kind: LedgerKind
    model_name: str
    actor: str
    """Who or what decided: `gate`, the name of a person, or a server."""
    from_version: int | None = None
    """Champion before; None where there was none."""
    to_version: int | None = None
    """Champion after."""
    version: int | None = None
    """The version that was decided on; None where none was made."""
    challenger: str = ""
    """Content digest of the model that was decided on."""
    opponent: str = ""
    """Content digest of the champion that it was compared with; empty for none."""
    decision: str = ""
    """Digest of the gate's decision; empty where a person decided, or nothing was compared."""
    test_rows: str = ""
    """Digest of the held-out rows that it rests on, or of the file of probes where these decide;
    empty where it rests on none."""
    alpha: float | None = None
    """Level at which the gate decided, that of the two-sided interval; it spent half of it of what
    `test_rows` has. None: none."""
    reason: str
    figures: dict[str, float] = Field(default_factory=dict)
    """The challenger's value, low and high of the deciding figure, and what the run took: names
    such as `sql_execution_match`, `sql_execution_match.low`, `training_hours`."""
    links: dict[str, str] = Field(default_factory=dict)
    """Where to look: `mlflow_run`, `prefect_flow_run`, `report`."""
    previous: str = ""
    """Digest of the line before; empty for the first."""
    digest: str = ""
    """sha256 (hex) of this line without this field, as canonical JSON."""


class SideRows(Record):
    """The rows of one side: how many, and a digest of their ids, contents and groups."""

    rows: int
    digest: str


class VersionManifest(Record):
    """What a registered version was made of, so that it can be judged and made again.

    The rows themselves are named in a Parquet file beside it (`VERSION.rows.parquet` with the
    columns of `retune.data.schemas.HISTORY_SCHEMA`: `side`, `row_id`, `content` and `group`, the
    last two as hex digests), whose content `rows_digest` is of.
    """

    model_name: str
    version: int | None = None
    """None until it has one."""
    made_at: str
    """Date and time, UTC, ISO 8601 with seconds."""
    released: str
    """Content digest of the released model."""
    base: str
    """Content digest of the base."""
    base_name: str
    recipe: dict[str, Any]
    """The recipe as it was read, overrides and variants applied."""
    recipe_file: str
    """Its file's name."""
    sources: dict[str, str]
    """Content digest of each source of rows by the name that the recipe has, and of what else it
    names (databases, probes, texts) by the setting."""
    sides: dict[Side, SideRows]
    rows_digest: str
    template: str
    """The chat template's digest."""
    seeds: dict[str, int]
    libraries: dict[str, str]
    lock_digest: str | None
    """Digest of the constraints that were installed, where they are known."""
    commit: str | None
    """Commit of the code; None outside of a repository."""
    machine: dict[str, str]
    stages: dict[str, str]
    """Key of each stage of the run, by its label."""
    digests: dict[str, str]
    """Content digest of what each stage made, by its label."""
    adapter_stage: str | None = None
    """Label of the stage that trained the adapter last."""
    started_from: int | None = None
    """Version whose adapter training went on from; None where it began at the base."""
    decision: GateDecision
