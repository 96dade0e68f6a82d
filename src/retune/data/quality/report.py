"""What was found, as a report for people and as shares for limits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten

import numpy as np
from numpy.typing import NDArray

from retune.data.findings import (
    COLUMNS_FILE,
    ColumnFinding,
    Duplicates,
    Lengths,
    QualityReport,
    SourceFinding,
)
from retune.data.quality.copies import Repeats
from retune.data.quality.dropping import BAD_ROW, REASONS, Reasons
from retune.data.quality.index import read_bad_rows, where_is
from retune.data.quality.languages import UNDETERMINED
from retune.data.quality.lengths import measure_lengths, round_edges
from retune.data.quality.looking import MEASURED, Facts
from retune.data.quality.naming import RowNames
from retune.data.quality.sensitive import PERSONAL_KINDS, SECRET_KINDS
from retune.data.quality.unprintable import KINDS
from retune.data.stages import CleanInputs
from retune.records import DatasetRef, Share

_FIRST = 5
_REASON_CHARS = 160
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """All that the looks found, together."""

    inputs: CleanInputs
    names: RowNames
    facts: Facts
    copies: Repeats
    conflicting_texts: int
    conflicts: Flags
    reasons: Reasons

    @property
    def read(self) -> int:
        """Rows that were read, bad ones among them."""
        return len(self.facts) + sum(rows.bad_rows for rows in self.inputs.rows)


def make_report(found: Found) -> QualityReport:
    """Write down what was found.

    Args:
        found: The looks' results; at least one row.

    Returns:
        Counts over the rows of all sources before anything was dropped, and what was dropped.
    """
    facts = found.facts
    sources = tuple(_describe_source(found, source) for source in range(len(found.inputs.rows)))
    dropped: Counter[str] = Counter()
    for source in sources:
        dropped.update(source.dropped)
    return QualityReport(
        sources=sources,
        read=found.read,
        kept=sum(source.kept for source in sources),
        dropped=dict(dropped),
        characters=_measure(facts),
        duplicates=_describe_copies(found),
        labels=_count(facts.labels, facts.label),
        conflicting_texts=found.conflicting_texts,
        conflicting_rows=int(found.conflicts.sum()),
        languages=_count(facts.languages, facts.language),
        unprintable=_count_bits(facts.unprintable, KINDS),
        secrets=_count_bits(facts.secrets, SECRET_KINDS),
        personal_data=_count_bits(facts.personal, PERSONAL_KINDS),
        seconds={what: round(seconds, 3) for what, seconds in facts.seconds.items()},
    )


def find_faults(found: Found, languages: Sequence[str] | None) -> dict[str, Share]:
    """Return the rows at fault, by the names of `LimitsConfig`.

    Args:
        found: The looks' results.
        languages: Languages that rows shall be in; None: no row is in another.

    Returns:
        Shares of all rows that were read.
    """
    facts, copies = found.facts, found.copies
    flags = {
        "exact_duplicates": copies.exact >= 0,
        "folded_duplicates": copies.folded >= 0,
        "near_duplicates": copies.near >= 0,
        "conflicting_labels": found.conflicts,
        "unprintable": facts.unprintable > 0,
        "secrets": facts.secrets > 0,
        "personal_data": facts.personal > 0,
    }
    if languages is not None:
        wanted = [code for name, code in facts.languages.items() if name in languages]
        unknown = facts.languages.get(UNDETERMINED, -1)
        flags["other_languages"] = ~np.isin(facts.language, [*wanted, unknown])
    return {"bad_rows": _bad_share(found)} | {
        name: Share(rows=int(flag.sum()), of=found.read, first=_first_places(flag, found))
        for name, flag in flags.items()
    }


def _bad_share(found: Found) -> Share:
    first = [
        f"{found.names.where(source, int(bad.get('file') or 0), int(bad.get('line') or 0))} "
        f"({shorten(str(bad.get('reason', 'not said')), _REASON_CHARS, placeholder='...')})"
        for source, rows in enumerate(found.inputs.rows)
        for bad, _ in zip(read_bad_rows(rows), range(_FIRST), strict=False)
    ]
    bad_rows = sum(rows.bad_rows for rows in found.inputs.rows)
    return Share(rows=bad_rows, of=found.read, first=tuple(first[:_FIRST]))


def _first_places(flag: Flags, found: Found) -> tuple[str, ...]:
    places = np.flatnonzero(flag)[:_FIRST].tolist()
    return tuple(where_is(place, found.facts, found.names) for place in places)


def _describe_source(found: Found, source: int) -> SourceFinding:
    rows, here = found.inputs.rows[source], found.facts.source == source
    counts = np.bincount(found.reasons[here], minlength=len(REASONS)).tolist()
    dropped = {BAD_ROW: rows.bad_rows, **dict(zip(REASONS[1:], counts[1:], strict=True))}
    names = found.inputs.names[source]
    return SourceFinding(
        name=names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more files",
        format=rows.format,
        held_out=found.inputs.held_out[source],
        read=rows.bad_rows + int(here.sum()),
        bad=rows.bad_rows,
        kept=counts[0],
        dropped={reason: count for reason, count in dropped.items() if count},
        columns=_read_columns(rows),
    )


def _read_columns(rows: DatasetRef) -> tuple[ColumnFinding, ...]:
    path = rows.folder / COLUMNS_FILE
    listed = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return tuple(ColumnFinding.model_validate(column) for column in listed)


def _describe_copies(found: Found) -> Duplicates:
    copies = found.copies
    exact, folded, near = (of >= 0 for of in (copies.exact, copies.folded, copies.near))
    kinds = ((exact, copies.exact), (folded & ~exact, copies.folded), (near, copies.near))
    examples = [
        (
            where_is(place, found.facts, found.names),
            where_is(int(first[place]), found.facts, found.names),
        )
        for flag, first in kinds
        for place in np.flatnonzero(flag)[:_FIRST].tolist()
    ]
    return Duplicates(
        exact=int(exact.sum()),
        folded=int(folded.sum()),
        near=int(near.sum()),
        examples=tuple(examples),
    )


def _measure(facts: Facts) -> dict[str, Lengths]:
    columns = dict(zip(MEASURED, facts.characters.T, strict=True))
    return {
        name: measure_lengths(values, round_edges(int(values.max())))
        for name, values in columns.items()
        if values.any()
    }


def _count(codes: dict[str, int], values: NDArray[np.int32]) -> dict[str, int]:
    counts = np.bincount(values[values >= 0], minlength=max(len(codes), 1)).tolist()
    named = ((name, counts[code]) for name, code in codes.items())
    return dict(sorted(named, key=lambda pair: (-pair[1], pair[0])))


def _count_bits(values: NDArray[np.uint32], kinds: Sequence[str]) -> dict[str, int]:
    counts = {kind: int((values >> np.uint32(n) & 1).sum()) for n, kind in enumerate(kinds)}
    return {kind: count for kind, count in counts.items() if count}
