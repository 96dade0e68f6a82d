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

from retune.data.quality.near import NearIndex, estimate_margin, similarity
from retune.data.quality.texts import row_text
from retune.records import DatasetRef, Side

KINDS = ("exact", "folded", "near", "query")
"""How two rows can be copies, the closest first."""

_EXACT, _FOLDED, _NEAR, _QUERY = range(4)
_NONE = len(KINDS)
_ABSENT = -1
_CONFIRMED_AT_ONCE = 20_000
_TRIED_PER_COPY = 4
_REPORT_EVERY = 1_000

Numbers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class SideRows:
    """What is compared of the rows of one side; zero as a hash means that there is none."""

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

    def only(self, keep: npt.NDArray[np.bool_]) -> SideRows:
        """Return the rows that are kept."""
        arrays = {name: value[keep] for name, value in vars(self).items() if name != "side"}
        return SideRows(side=self.side, **arrays)


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
        self.held_kinds = np.full(len(self.held.places), _NONE, np.int8)
        self.copy_kinds = np.full(len(self.other.places), _NONE, np.int8)
        self._partners = np.full(len(self.held.places), _ABSENT, np.int64)
        self._origins = np.full(len(self.other.places), _ABSENT, np.int64)
        self._similarities: dict[tuple[int, int], float] = {}

    def repeated(self) -> npt.NDArray[np.bool_]:
        """Tell for each held-out row whether it has a copy."""
        return self.held_kinds < _NONE

    def repeating(self) -> npt.NDArray[np.bool_]:
        """Tell for each row of the other side whether it is a copy."""
        return self.copy_kinds < _NONE

    def by_kind(self) -> dict[str, int]:
        """Count the held-out rows by the kind of their closest copy."""
        return {kind: int(np.sum(self.held_kinds == at)) for at, kind in enumerate(KINDS)}

    def pairs(self) -> Iterator[Pair]:
        """Yield pairs in which every repeated row and every copy stands once at least."""
        repeated = np.flatnonzero(self.repeated())
        for held in repeated:
            yield self._pair(int(held), int(self._partners[held]), int(self.held_kinds[held]))
        for copy in np.flatnonzero(self.repeating()):
            held = self._origins[copy]
            if self._partners[held] != copy:
                yield self._pair(int(held), int(copy), int(self.copy_kinds[copy]))

    def _pair(self, held: int, copy: int, kind: int) -> Pair:
        alike = {_NEAR: self._similarities.get((held, copy)), _QUERY: None}.get(kind, 1.0)
        places = int(self.held.places[held]), int(self.other.places[copy])
        return Pair(*places, KINDS[kind], alike)

    def match_hashes(self, kind: int, of_held: Hashes, of_other: Hashes) -> None:
        """Note rows with equal hashes as copies of a kind."""
        partners = _first_equal(of_held, of_other)
        closer = (partners != _ABSENT) & (self.held_kinds > kind)
        self.held_kinds[closer], self._partners[closer] = kind, partners[closer]
        origins = _first_equal(of_other, of_held)
        closer = (origins != _ABSENT) & (self.copy_kinds > kind)
        self.copy_kinds[closer], self._origins[closer] = kind, origins[closer]

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
    signatures: npt.NDArray[Any],
    near_threshold: float,
    rows: Sequence[DatasetRef],
    progress: Callable[[int, int], None],
) -> Copies:
    """Find the rows of one side that another repeats.

    Args:
        held: The side that is held out from the other; it is the smaller one, as a rule.
        other: The side whose rows may be copies.
        signatures: MinHash of each row of the index, ``(rows, permutations)``.
        near_threshold: Smallest Jaccard similarity of near duplicates.
        rows: All sources, for the texts of what looks alike.
        progress: Told how many rows of `other` are compared, and of how many.

    Returns:
        The rows and their copies; near ones only within one database.
    """
    copies = Copies(held, other)
    copies.match_hashes(_EXACT, held.exact, other.exact)
    copies.match_hashes(_FOLDED, held.folded, other.folded)
    _match_near(copies, signatures, near_threshold, rows, progress)
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
    with pq.ParquetFile(path, memory_map=True) as file:
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            low, high = np.searchsorted(numbers, (start, end))
            if low < high:
                found = file.read_row_group(group).take(numbers[low:high] - start)
                for at, row in zip(wanted[low:high], found.to_pylist(), strict=True):
                    yield int(at), row
            start = end


def _first_equal(needles: Hashes, hay: Hashes) -> Numbers:
    """Return for each needle the first place in the hay that equals it, else -1."""
    values, first = np.unique(hay, return_index=True)
    if not len(values):
        return np.full(len(needles), _ABSENT, np.int64)
    at = np.minimum(np.searchsorted(values, needles), len(values) - 1)
    found = (values[at] == needles) & (needles != 0)
    return np.where(found, first[at], _ABSENT).astype(np.int64)


def _match_near(
    copies: Copies,
    signatures: npt.NDArray[Any],
    threshold: float,
    rows: Sequence[DatasetRef],
    progress: Callable[[int, int], None],
) -> None:
    held, other = copies.held, copies.other
    index = NearIndex(threshold)
    for at, place in enumerate(held.places):
        index.add(at, signatures[place])
    least = threshold - estimate_margin(threshold)
    waiting: list[tuple[float, int, int]] = []
    for copy, place in enumerate(other.places):
        signature = signatures[place]
        found = np.fromiter(index.query(signature), np.int64)
        found = found[held.databases[found] == other.databases[copy]]
        found = found[held.folded[found] != other.folded[copy]]
        if len(found):
            alike = np.mean(signatures[held.places[found]] == signature, axis=1)
            waiting += _promising(copies, copy, found, alike, least)
        if len(waiting) >= _CONFIRMED_AT_ONCE:
            _confirm(copies, waiting, threshold, rows)
            waiting.clear()
        if copy % _REPORT_EVERY == 0:
            progress(copy, len(other.places))
    _confirm(copies, waiting, threshold, rows)
    progress(len(other.places), len(other.places))


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
