"""What a data report shows, put together from records and the files beside their artifacts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

import pyarrow.compute as pc
import pyarrow.parquet as pq

from retune.data.findings import (
    AUDIT_FILE,
    LEAKS_FILE,
    QUALITY_FILE,
    AuditReport,
    LeakReport,
    QualityReport,
)
from retune.data.limits import find_breaches, is_over, list_fault_files, merge_faults
from retune.data.parts.splitting import SIDES
from retune.errors import ArtifactError
from retune.recipe.sections import LimitsConfig
from retune.records import ChatRef, CleanRef, DatasetRef, Record, Side, SplitRef

Found = TypeVar("Found", bound=Record)


class LimitLine(Record):
    """A fault and its limit."""

    name: str
    rows: int
    of: int
    limit: float | None
    """Largest share, 0 to 1; None for no limit."""
    state: Literal["within", "over", "no limit"]
    first: tuple[str, ...]


class SideLine(Record):
    """What a side holds."""

    side: Side
    rows: int
    """Rows after the split, and after copies across the sides were dropped."""
    prepared: int | None
    """Rows without the faulty ones; None where the rows were not written as chats."""
    tokens: int | None
    target_tokens: int | None
    labels: dict[str, int]
    """Rows by label, the most frequent first; empty without labels."""


class DataReport(Record):
    """Everything that a data report shows; plain values, so that it can be made without a run."""

    name: str
    made_at: str
    """Date and time, UTC."""
    breaches: tuple[str, ...]
    """Limits that are passed, one sentence each; empty when a run would start."""
    limits: tuple[LimitLine, ...]
    quality: QualityReport
    sides: tuple[SideLine, ...]
    groups_shared: int
    kept_out: int = 0
    """Rows that are not learned since an earlier champion had them held out."""
    kept_in: int = 0
    """Rows that are not in the test since an earlier champion has learned or watched them."""
    leaks: LeakReport | None
    """None where the sides were not compared."""
    audit: AuditReport | None
    """None where the rows were not written as chats."""
    longest_tokens: int | None


def gather_report(
    clean: CleanRef,
    split: SplitRef,
    chat: ChatRef | None,
    limits: LimitsConfig,
    rows: Sequence[DatasetRef],
    *,
    name: str = "Data",
) -> DataReport:
    """Read what the data stages found.

    Args:
        clean: Kept rows of all sources.
        split: Sides, compared with each other or not.
        chat: Prepared sides; None where nothing was prepared.
        limits: Largest shares of rows at fault.
        rows: All sources, for the files that list what could not be read.
        name: Title of the report, such as the recipe's name.

    Returns:
        The report.

    Raises:
        ArtifactError: A file that a stage wrote beside its artifact is missing or damaged.
    """
    faults = merge_faults(clean, split, chat)
    audit = _read(AuditReport, chat.folder / AUDIT_FILE) if chat else None
    leaks = split.folder / LEAKS_FILE
    return DataReport(
        name=name,
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        breaches=tuple(find_breaches(limits, faults, list_fault_files(clean, split, chat, rows))),
        limits=tuple(
            LimitLine(
                name=fault,
                rows=faults[fault].rows,
                of=faults[fault].of,
                limit=limit,
                state=_state_of(limit, is_over(faults[fault], limit)),
                first=faults[fault].first,
            )
            for fault, limit in limits
            if fault in faults
        ),
        quality=_read(QualityReport, clean.folder / QUALITY_FILE),
        sides=tuple(_describe_side(side, split, chat, audit) for side in SIDES),
        groups_shared=split.groups_shared,
        kept_out=split.kept_out,
        kept_in=split.kept_in,
        leaks=_read(LeakReport, leaks) if leaks.exists() else None,
        audit=audit,
        longest_tokens=chat.longest_tokens if chat else None,
    )


def _state_of(limit: float | None, over: bool) -> Literal["within", "over", "no limit"]:
    if limit is None:
        return "no limit"
    return "over" if over else "within"


def _describe_side(
    side: Side, split: SplitRef, chat: ChatRef | None, audit: AuditReport | None
) -> SideLine:
    audited = audit.sides.get(side) if audit else None
    return SideLine(
        side=side,
        rows=getattr(split, side),
        prepared=getattr(chat, side) if chat else None,
        tokens=audited.tokens if audited else None,
        target_tokens=audited.target_tokens if audited else None,
        labels=_count_labels(split.folder / f"{side}.parquet"),
    )


def _count_labels(path: Path) -> dict[str, int]:
    counted: Counter[str] = Counter()
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["label"]):
            counts = pc.value_counts(batch["label"].drop_null()).to_pylist()
            counted.update({each["values"]: each["counts"] for each in counts})
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def _read(kind: type[Found], path: Path) -> Found:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path}: cannot be read as {kind.__name__} ({error}). It lies beside a stored "
            "artifact: delete that artifact's folder and run again."
        ) from error
