"""The frozen records that stages pass on: a folder, its digest, counts and figures.

Bytes live in the artifact store. A record's `digest` stands for its content, never for where it
lies or when it was made, so that equal content gives equal stage keys on every machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from retune.recipe.sections.data import FormatName

Side = Literal["train", "validation", "test"]

LOG_FOLDER = "log"
"""Sub-folder of an artifact for what two equal runs may differ in (timings, live metrics)."""


class Record(BaseModel):
    """A frozen value that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ContentRecord(Record):
    """A record that can be a stage's input: it has a content digest."""

    digest: str
    """sha256 (hex) of the content."""

    def find_changed(self) -> Path | None:
        """Return what no longer has this digest, where the record itself can tell; else None."""
        return None


class ArtifactRecord(ContentRecord):
    """A record whose bytes lie in a folder."""

    folder: Path
    """Where the files are now; the store rewrites it when an artifact moves."""


class Source(ContentRecord):
    """A file outside the store that a recipe names."""

    path: Path


class HubDataset(Record):
    """A split of a dataset on the hub, at the commit that was resolved when the run began."""

    dataset_id: str
    config: str | None
    split: str
    commit: str | None
    """None for a folder of this machine."""
    streaming: bool


class RowSource(ContentRecord):
    """Where rows come from: files of this machine, or a split of a hub dataset at a commit."""

    name: str
    """As the recipe names it: path, glob or hub id; shown, no part of the digest."""
    files: tuple[Path, ...] = ()
    hub: HubDataset | None = None


class DatabasesRef(ArtifactRecord):
    """Databases that rows may ask about (`databases.parquet`)."""

    databases: int


class DatasetRef(ArtifactRecord):
    """Rows of one source in one layout.

    `rows.parquet` holds them, `databases.parquet` the databases that they brought along,
    `log/bad.jsonl` what could not be read, `log/columns.json` what each column holds. The digest
    covers all of them, since later stages report what could not be read.
    """

    format: FormatName
    rows: int
    bad_rows: int
    labels: tuple[str, ...]
    """Distinct labels, sorted; empty where rows have none."""
    databases: int
    """Databases that stand in the rows themselves."""


class EncodedRef(ArtifactRecord):
    """The rows of one source as chats (`chats.parquet`), row by row in the same order."""

    rows: int
    tokenizer_digest: str
    tokens: int
    repaired: int
    """Rows whose missing final channel was put back (harmony)."""
    folded: int = 0
    """Rows whose system message stands above their first question."""
    apart: int = 0
    """Rows whose answer is tokenized apart from the prompt."""
    prompts: tuple[str, ...] = ()
    """How prompts are written, a sentence each."""


class Share(Record):
    """Some of several rows."""

    rows: int
    of: int
    first: tuple[str, ...] = ()
    """The first few, as ``file:line`` or ids, for messages."""


class CleanRef(ArtifactRecord):
    """Which rows of all sources are kept.

    `index.parquet` names them, `signatures.npy` stands for their texts, `log/quality.json` says
    what was found and `log/dropped.jsonl` what was dropped. The digest covers the first two.
    """

    rows: int
    """Rows that are kept."""
    test_rows: int
    """How many of them come from a fixed test source."""
    faults: dict[str, Share]
    """Rows at fault by the names of `LimitsConfig`."""


class SplitRef(ArtifactRecord):
    """Rows by side (`<side>.parquet`, with the columns of the index)."""

    train: int
    validation: int
    test: int
    groups_shared: int
    """Groups that lie on two sides; zero for a grouped split."""
    kept_out: int = 0
    """Rows that are not learned since an earlier champion had them held out."""
    kept_in: int = 0
    """Rows that are not in the test since an earlier champion has learned or watched them."""
    faults: dict[str, Share] = {}
    """Leaked rows, once the sides have been compared (`log/leaks.json`, `log/leaks.jsonl`)."""


class PairsRef(ArtifactRecord):
    """Pairs of answers by side as token ids (`pairs.parquet`)."""

    train: int
    validation: int
    longest_tokens: int
    tokenizer_digest: str


class SideRef(ArtifactRecord):
    """One side's chats (`rows.parquet`) and the databases they ask about (`databases.parquet`).

    Its digest covers this side alone: a new training row leaves what was scored on the test side.
    """


class ChatRef(ArtifactRecord):
    """Rows as chats: prompt and answer texts, token ids and the loss mask, a folder per side.

    `log/audit.json` says what the audit of the masks found, `log/left_out.jsonl` which rows are at
    fault and so left out.
    """

    train: int
    validation: int
    test: int
    side_digests: dict[Side, str]
    tokenizer_digest: str
    train_tokens: int
    answer_tokens: int
    """Training tokens that carry loss."""
    longest_tokens: int
    faults: dict[str, Share]
    prompts: tuple[str, ...] = ()
    """How prompts are written, a sentence each: what a server has to do alike."""

    def side(self, side: Side) -> SideRef:
        """Return one side."""
        return SideRef(digest=self.side_digests[side], folder=self.folder / side)
