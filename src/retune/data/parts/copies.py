"""Finding the rows of a held-out side that another side repeats.

Rows are numbers here: hashes from the index, MinHash signatures, and the hashes of canonical
queries. Texts are read for the few pairs alone whose signatures look alike, and forgotten again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from retune.data.columns.contract import ABSENT, Columns, Flags, Hashes, Numbers
from retune.data.quality.near import estimate_margin, similarity
from retune.data.quality.near_indexes import AnyNearIndex, open_near_index
from retune.data.quality.shingle_sets import SignatureFile
from retune.data.quality.texts import row_text
from retune.records import DatasetRef, Side

KINDS = ("exact", "folded", "near", "query")
"""How two rows can be copies, the closest first."""

_EXACT, _FOLDED, _NEAR, _QUERY = range(4)
_NONE = len(KINDS)
_CONFIRMED_AT_ONCE = 20_000
_TRIED_PER_COPY = 4
_REPORT_EVERY = 1_000


@dataclass(frozen=True)
class SideRows:
    """What is compared of the rows of one side; zero as a hash means that there is none."""

    columns: Columns
    """Where the arrays lie."""
    side: Side
    places: Numbers
    """Place of each row in the index, and so in the signatures."""
    sources: npt.NDArray[np.int32]
    rows: Numbers
    exact: Hashes
    folded: Hashes
    groups: Hashes
    databases: Hashes
    queries: Hashes
    """Schema and canonical query."""

    def __len__(self) -> int:
        return len(self.places)

    def only(self, keep: Flags) -> SideRows:
        """Return the rows that are kept."""
        arrays = {
            name: self.columns.kept(value, keep)
            for name, value in vars(self).items()
            if name not in ("columns", "side")
        }
        return SideRows(columns=self.columns, side=self.side, **arrays)


class Pair(NamedTuple):
    """A held-out row and its copy, as places in the index."""

    held_out: int
    copy: int
    kind: str
    similarity: float | None
    """Of their texts; None where the queries alone are equal."""


@dataclass
class Copies:
    """Which rows of a held-out side stand on another side too, and which rows repeat them."""

    held: SideRows
    other: SideRows
    held_kinds: npt.NDArray[np.int8] = field(init=False)
    """Per row of `held` the place in `KINDS` of its closest copy; 4 where there is none."""
    copy_kinds: npt.NDArray[np.int8] = field(init=False)
    """Per row of `other` likewise."""

    def __post_init__(self) -> None:
        columns = self.held.columns
        self.held_kinds = columns.filled(len(self.held), _NONE, np.int8)
        self.copy_kinds = columns.filled(len(self.other), _NONE, np.int8)
        self._partners = columns.absent(len(self.held))
        self._origins = columns.absent(len(self.other))
        self._similarities: dict[tuple[int, int], float] = {}

    def repeated(self, rows: slice) -> Flags:
        """Tell of some held-out rows whether they have a copy."""
        return self.held_kinds[rows] < _NONE

    def repeating(self, rows: slice) -> Flags:
        """Tell of some rows of the other side whether they are copies."""
        return self.copy_kinds[rows] < _NONE

    def by_kind(self) -> dict[str, int]:
        """Count the held-out rows by the kind of their closest copy."""
        counts = np.zeros(_NONE + 1, np.int64)
        for rows in self.held.columns.blocks(len(self.held)):
            counts += np.bincount(self.held_kinds[rows], minlength=_NONE + 1)
        return {kind: int(counts[at]) for at, kind in enumerate(KINDS)}

    def pairs(self) -> Iterator[Pair]:
        """Yield pairs in which every repeated row and every copy stands once at least."""
        columns = self.held.columns
        for held in columns.places(len(self.held), self.repeated):
            yield self._pair(held, int(self._partners[held]), int(self.held_kinds[held]))
        for copy in columns.places(len(self.other), self.repeating):
            held = int(self._origins[copy])
            if self._partners[held] != copy:
                yield self._pair(held, copy, int(self.copy_kinds[copy]))

    def _pair(self, held: int, copy: int, kind: int) -> Pair:
        alike = {_NEAR: self._similarities.get((held, copy)), _QUERY: None}.get(kind, 1.0)
        places = int(self.held.places[held]), int(self.other.places[copy])
        return Pair(*places, KINDS[kind], alike)

    def match_hashes(self, kind: int, of_held: Hashes, of_other: Hashes) -> None:
        """Note rows with equal hashes as copies of a kind."""
        columns = self.held.columns
        for kinds, partners, found in (
            (self.held_kinds, self._partners, columns.first_equal(of_held, of_other)),
            (self.copy_kinds, self._origins, columns.first_equal(of_other, of_held)),
        ):
            for rows in columns.blocks(len(kinds)):
                closer = (found[rows] != ABSENT) & (kinds[rows] > kind)
                kinds[rows][closer], partners[rows][closer] = kind, found[rows][closer]

    def match_near(self, held: int, copy: int, alike: float) -> None:
        """Note two rows as near duplicates."""
        self._similarities[held, copy] = alike
        if self.held_kinds[held] > _NEAR:
            self.held_kinds[held], self._partners[held] = _NEAR, copy
        if self.copy_kinds[copy] > _NEAR:
            self.copy_kinds[copy], self._origins[copy] = _NEAR, held

    def wants(self, held: int, copy: int) -> bool:
        """Tell whether one of two rows has no copy as close as a near one yet."""
        return bool(self.held_kinds[held] > _NEAR or self.copy_kinds[copy] > _NEAR)


def find_copies(
    held: SideRows,
    other: SideRows,
    *,
    signatures: SignatureFile,
    near_threshold: float,
    rows: Sequence[DatasetRef],
    progress: Callable[[int, int], None],
    joined: Callable[[int, int], None],
) -> Copies:
    """Find the rows of one side that another repeats.

    Args:
        held: The side that is held out from the other; it is the smaller one, as a rule.
        other: The side whose rows may be copies.
        signatures: MinHash of each row of the index.
        near_threshold: Smallest Jaccard similarity of near duplicates.
        rows: All sources, for the texts of what looks alike.
        progress: Told how many rows of `other` are compared, and of how many.
        joined: Told how many bands of an index on disk are made, and of how many.

    Returns:
        The rows and their copies; near ones only within one database.
    """
    copies = Copies(held, other)
    copies.match_hashes(_EXACT, held.exact, other.exact)
    copies.match_hashes(_FOLDED, held.folded, other.folded)
    index = open_near_index(near_threshold, held.columns, joined)
    _match_near(copies, index, signatures, near_threshold, rows, progress)
    copies.match_hashes(_QUERY, held.queries, other.queries)
    return copies


def pick_rows(
    rows: Sequence[DatasetRef], sources: npt.NDArray[np.int32], numbers: Numbers
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read some rows of all sources, without those between them.

    Args:
        rows: All sources.
        sources: Per wanted row the place of its source.
        numbers: Per wanted row its place in the source.

    Yields:
        The place in `numbers`, and the row, source by source in the order of the files.
    """
    for place, source in enumerate(rows):
        wanted = np.flatnonzero(sources == place)
        wanted = wanted[np.argsort(numbers[wanted], kind="stable")]
        if len(wanted):
            yield from _pick_from(source.folder / "rows.parquet", wanted, numbers[wanted])


def _pick_from(
    path: Path, wanted: Numbers, numbers: Numbers
) -> Iterator[tuple[int, dict[str, Any]]]:
    start = 0
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            low, high = np.searchsorted(numbers, (start, end))
            if low < high:
                found = file.read_row_group(group).take(numbers[low:high] - start)
                for at, row in zip(wanted[low:high], found.to_pylist(), strict=True):
                    yield int(at), row
            start = end


def _match_near(
    copies: Copies,
    index: AnyNearIndex,
    signatures: SignatureFile,
    threshold: float,
    rows: Sequence[DatasetRef],
    progress: Callable[[int, int], None],
) -> None:
    held, other, signed = copies.held, copies.other, signatures.rows
    least = threshold - estimate_margin(threshold)
    waiting: list[tuple[float, int, int]] = []
    told = 0
    # The held-out rows are added, and those that come after them looked for.
    for at, bands in index.walk(_signed_rows((held, other), signatures)):
        copy = at - len(held)
        if copy < 0:
            index.add(at, bands)
            continue
        found = np.array(index.query(bands), np.int64)
        found = found[held.databases[found] == other.databases[copy]]
        found = found[held.folded[found] != other.folded[copy]]
        if len(found):
            alike = np.mean(signed[held.places[found]] == signed[other.places[copy]], axis=1)
            waiting += _promising(copies, copy, found, alike, least)
        if len(waiting) >= _CONFIRMED_AT_ONCE:
            _confirm(copies, waiting, threshold, rows)
            waiting.clear()
        if copy >= told:
            progress(copy, len(other))
            told = copy + _REPORT_EVERY
            held.columns.release()
            signatures.release()
    _confirm(copies, waiting, threshold, rows)
    progress(len(other), len(other))


def _signed_rows(
    sides: Sequence[SideRows], signatures: SignatureFile
) -> Iterator[tuple[Numbers, npt.NDArray[np.uint32]]]:
    """Yield the rows of sides, numbered one side after the other, with their signatures."""
    before = 0
    for side in sides:
        for start in range(0, len(side), _REPORT_EVERY):
            places = side.places[start : start + _REPORT_EVERY]
            numbers = np.arange(start, start + len(places)) + before
            yield numbers, signatures.rows[places]
            side.columns.release()
            signatures.release()
        before += len(side)


def _promising(
    copies: Copies, copy: int, found: Numbers, alike: npt.NDArray[np.float64], least: float
) -> list[tuple[float, int, int]]:
    """List the candidates that are worth a look at their texts, the most alike first.

    In rows made from a template all are alike: a held-out row that has a copy already needs no
    other one, and a copy needs a few tries, or the pairs would grow with the square of the rows.
    """
    ordered = sorted(zip(-alike, found.tolist(), strict=True))
    listed = []
    tried = 0
    for estimate, held in ordered:
        if -estimate < least or not copies.wants(held, copy):
            continue
        tried += 1
        if tried <= _TRIED_PER_COPY or copies.held_kinds[held] > _NEAR:
            listed.append((float(estimate), held, copy))
    return listed


def _confirm(
    copies: Copies,
    waiting: list[tuple[float, int, int]],
    threshold: float,
    rows: Sequence[DatasetRef],
) -> None:
    """Compare the texts of pairs that look alike: an index of signatures finds false ones too."""
    texts = (
        _texts_of({held for _, held, _ in waiting}, copies.held, rows),
        _texts_of({copy for _, _, copy in waiting}, copies.other, rows),
    )
    for _, held, copy in sorted(waiting):
        if copies.wants(held, copy):
            alike = similarity(texts[0][held], texts[1][copy])
            if alike >= threshold:
                copies.match_near(held, copy, alike)


def _texts_of(wanted: set[int], side: SideRows, rows: Sequence[DatasetRef]) -> dict[int, str]:
    ats = np.array(sorted(wanted), np.int64)
    picked = pick_rows(rows, side.sources[ats], side.rows[ats])
    return {int(ats[at]): row_text(row) for at, row in picked}
