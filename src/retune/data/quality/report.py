"""What was found, as a report for people and as shares for limits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
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
from retune.data.quality.lengths import count_lengths, measure_counts, round_edges
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

    def count(self, flags: Callable[[slice], Flags]) -> int:
        """Count the rows of which something is true, a block at a time."""
        return self.facts.columns.count_where(len(self.facts), flags)

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
        labels=_count(facts, facts.labels, facts.label),
        conflicting_texts=found.conflicting_texts,
        conflicting_rows=facts.columns.count(found.conflicts),
        languages=_count(facts, facts.languages, facts.language),
        unprintable=_count_bits(facts, facts.unprintable, KINDS),
        secrets=_count_bits(facts, facts.secrets, SECRET_KINDS),
        personal_data=_count_bits(facts, facts.personal, PERSONAL_KINDS),
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
    flags: dict[str, Callable[[slice], Flags]] = {
        "exact_duplicates": lambda rows: copies.exact[rows] >= 0,
        "folded_duplicates": lambda rows: copies.folded[rows] >= 0,
        "near_duplicates": lambda rows: copies.near[rows] >= 0,
        "conflicting_labels": lambda rows: found.conflicts[rows],
        "unprintable": lambda rows: facts.unprintable[rows] > 0,
        "secrets": lambda rows: facts.secrets[rows] > 0,
        "personal_data": lambda rows: facts.personal[rows] > 0,
    }
    if languages is not None:
        wanted = [code for name, code in facts.languages.items() if name in languages]
        unknown = facts.languages.get(UNDETERMINED, -1)
        flags["other_languages"] = lambda rows: ~np.isin(facts.language[rows], [*wanted, unknown])
    return {"bad_rows": _bad_share(found)} | {
        name: Share(rows=found.count(flag), of=found.read, first=_first_places(flag, found))
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


def _first_places(flag: Callable[[slice], Flags], found: Found) -> tuple[str, ...]:
    first = _first_of(flag, found.facts)
    return tuple(where_is(place, found.facts, found.names) for place in first)


def _first_of(flag: Callable[[slice], Flags], facts: Facts) -> list[int]:
    return list(islice(facts.columns.places(len(facts), flag), _FIRST))


def _describe_source(found: Found, source: int) -> SourceFinding:
    rows, here = found.inputs.rows[source], found.facts.rows_of(source)
    reasons = found.reasons[here]
    counted = np.zeros(len(REASONS), np.int64)
    for block in found.facts.columns.blocks(len(reasons)):
        counted += np.bincount(reasons[block], minlength=len(REASONS))
    counts = counted.tolist()
    dropped = {BAD_ROW: rows.bad_rows, **dict(zip(REASONS[1:], counts[1:], strict=True))}
    names = found.inputs.names[source]
    return SourceFinding(
        name=names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more files",
        format=rows.format,
        held_out=found.inputs.held_out[source],
        read=rows.bad_rows + len(reasons),
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
    exact, folded, near = copies.exact, copies.folded, copies.near
    kinds: tuple[tuple[Callable[[slice], Flags], NDArray[np.int64]], ...] = (
        (lambda rows: exact[rows] >= 0, exact),
        (lambda rows: (folded[rows] >= 0) & (exact[rows] < 0), folded),
        (lambda rows: near[rows] >= 0, near),
    )
    examples = [
        (
            where_is(place, found.facts, found.names),
            where_is(int(first[place]), found.facts, found.names),
        )
        for flag, first in kinds
        for place in _first_of(flag, found.facts)
    ]
    return Duplicates(
        exact=found.count(lambda rows: exact[rows] >= 0),
        folded=found.count(lambda rows: folded[rows] >= 0),
        near=found.count(lambda rows: near[rows] >= 0),
        examples=tuple(examples),
    )


def _measure(facts: Facts) -> dict[str, Lengths]:
    counts = {
        name: count_lengths(
            facts.characters[rows, place] for rows in facts.columns.blocks(len(facts))
        )
        for place, name in enumerate(MEASURED)
    }
    return {
        name: measure_counts(lengths, round_edges(max(lengths)))
        for name, lengths in counts.items()
        if max(lengths, default=0)
    }


def _count(facts: Facts, codes: dict[str, int], values: NDArray[np.int32]) -> dict[str, int]:
    counts = np.zeros(max(len(codes), 1), np.int64)
    for rows in facts.columns.blocks(len(facts)):
        here = values[rows]
        counts += np.bincount(here[here >= 0], minlength=len(counts))
    named = ((name, int(counts[code])) for name, code in codes.items())
    return dict(sorted(named, key=lambda pair: (-pair[1], pair[0])))


def _count_bits(facts: Facts, values: NDArray[np.uint32], kinds: Sequence[str]) -> dict[str, int]:
    counts = np.zeros(len(kinds), np.int64)
    for rows in facts.columns.blocks(len(facts)):
        counts += [int((values[rows] >> np.uint32(bit) & 1).sum()) for bit in range(len(kinds))]
    return {kind: int(count) for kind, count in zip(kinds, counts, strict=True) if count}
