"""What is known of served requests: the requests, and how they differ from training rows."""

from __future__ import annotations

from typing import Literal

from retune.records import ArtifactRecord, Record

View = Literal["prompt", "question", "text"]
"""What of a training row a text of the log is like: the whole prompt, the question alone, or a text
that nothing is asked of."""


class RequestsRef(ArtifactRecord):
    """Served requests (`requests.parquet`), the oldest first; `log/bad.jsonl` lists bad lines."""

    rows: int
    bad_lines: int
    """Lines that ask nothing or cannot be read."""


class Bin(Record):
    """One bin of an index."""

    label: str
    rows: float
    """Share of the training rows that is in it, 0 to 1."""
    requests: float
    """Share of the requests, 0 to 1."""


class DriftIndex(Record):
    """One population stability index, with what chance gives of it."""

    name: str
    label: str
    value: float
    chance: float
    """What so many requests stay under, drawn from the training rows, but for a share `level`."""
    requests: int
    bins: tuple[Bin, ...]


class DriftReport(ArtifactRecord):
    """How served requests differ from training rows (`drift.json`)."""

    requests: int
    unwritten: int
    """Requests that the chat template cannot write, and that are in no index."""
    rows: int
    """Training rows that they were compared with."""
    level: float
    """Chance that an index is above its `chance` where nothing has changed."""
    indices: tuple[DriftIndex, ...]


class PromptLosses(ArtifactRecord):
    """How surprised a model is by served prompts and by known ones (`rows.jsonl`).

    Losses are in nats per token, over all tokens of all prompts of a side.
    """

    requests: int
    rows: int
    unscored: int
    """Prompts of both sides without a token to score, or that the chat template cannot write."""
    requests_loss: float
    rows_loss: float
    chance: float
    """By how much so many known prompts are above the others, but for a share `level`."""
    index: DriftIndex
    """Of the losses prompt by prompt."""
