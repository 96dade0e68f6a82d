"""Where an index of near copies lies: in memory, or on disk where the columns of rows do.

On disk, DuckDB finds for each band the hashes that more than one text has. Only texts with such a
hash can be candidates of one another; most have none. They are then gone through in the order of
their places, as in memory, with a chain per hash in place of a hash table. So the same candidates
are named, and random reads are left to the few texts that need them.

datatrove's four MinHash stages, made for as many texts, cannot name the same candidates: they draw
permutations of their own, hash words as they cut them, take whoever shares a band for a copy
without looking at the shingles, join copies of copies, and hold all pairs in memory to do that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from retune.data.columns.contract import Array, Columns
from retune.data.columns.in_memory import ColumnsInMemory
from retune.data.quality.near import LONGEST_CHAIN, Bands, NearIndex

if TYPE_CHECKING:
    from retune.data.columns.on_disk import ColumnsOnDisk

_HASHES_AT_ONCE = 50_000_000  # What is joined at once lies on disk a second time.

Signed = Iterable[tuple[NDArray[np.int64], NDArray[np.uint32]]]
"""Places ``(n,)`` and signatures ``(n, 128)``, a piece at a time."""


class AnyNearIndex(Protocol):
    """Finds earlier texts whose signature agrees with one in at least one band."""

    def walk(self, signed: Signed) -> Iterator[tuple[int, Any]]:
        """Yield texts in the order of their places, with what `query` and `add` take.

        Texts that no other text agrees with may be passed over. Between two of them, `query` and
        `add` are to be called.
        """

    def query(self, bands: Any) -> list[int]:
        """Return the places of texts that were added and may be alike, in rising order."""

    def add(self, place: int, bands: Any) -> None:
        """Put a text into the index."""


def open_near_index(
    threshold: float, columns: Columns, joined: Callable[[int, int], None]
) -> AnyNearIndex:
    """Return an index where the columns lie.

    Args:
        threshold: Similarity from which pairs shall be found, above 0 to 1.
        columns: The columns of the rows.
        joined: Told how many bands of an index on disk are made, and of how many.
    """
    if isinstance(columns, ColumnsInMemory):
        return NearIndex(threshold)
    from retune.data.columns.on_disk import ColumnsOnDisk

    assert isinstance(columns, ColumnsOnDisk)
    return NearIndexOnDisk(threshold, columns, joined)


class NearIndexOnDisk:
    """An index that holds the texts alone which share a band's hash with another, on disk.

    Args:
        threshold: Similarity from which pairs shall be found, above 0 to 1.
        columns: Where it lies.
        joined: Told how many bands are made, and of how many.
    """

    def __init__(
        self, threshold: float, columns: ColumnsOnDisk, joined: Callable[[int, int], None]
    ) -> None:
        self._bands = Bands(threshold)
        self._columns, self._joined = columns, joined
        # An entry is a text in one band; a chain, the entries of one hash from the newest on.
        self._newest, self._before, self._places = (columns.absent(0) for _ in range(3))

    def walk(self, signed: Signed) -> Iterator[tuple[int, tuple[int, NDArray[np.int64]]]]:
        """See `AnyNearIndex`; a text comes with its first entry and the chains of its entries."""
        columns = self._columns
        columns.feed("bands", self._hashed(signed))
        chains = self._number_chains()
        columns.run("DROP TABLE bands")
        entries = columns.number("SELECT count(*) FROM entries")
        self._newest, self._before = columns.absent(chains), columns.absent(entries)
        self._places = columns.absent(entries)
        first = 0
        for place, of_place in _group(columns.batches("SELECT * FROM entries ORDER BY place")):
            yield place, (first, of_place)
            first += len(of_place)
        columns.run("DROP TABLE entries")

    def query(self, bands: tuple[int, NDArray[np.int64]]) -> list[int]:
        """See `AnyNearIndex`."""
        at = self._newest[bands[1]]
        found: set[int] = set()
        for _ in range(LONGEST_CHAIN):
            at = at[at >= 0]
            if not at.size:
                break
            found.update(self._places[at].tolist())
            at = self._before[at]
        return sorted(found)

    def add(self, place: int, bands: tuple[int, NDArray[np.int64]]) -> None:
        """See `AnyNearIndex`."""
        first, chains = bands
        entries = np.arange(first, first + len(chains))
        self._places[entries] = place
        self._before[entries] = self._newest[chains]
        self._newest[chains] = entries

    def _hashed(self, signed: Signed) -> Iterator[Mapping[str, Array]]:
        none = np.zeros(0, np.int64), np.zeros((0, self._bands.number), np.uint32)
        yield self._as_block(*none)  # So that there is a table without any text, too.
        for places, signatures in signed:
            yield self._as_block(places, self._bands.hash(signatures))

    def _as_block(
        self, places: NDArray[np.int64], hashes: NDArray[np.uint32]
    ) -> Mapping[str, Array]:
        named = {f"h{band}": hashes[:, band].copy() for band in range(self._bands.number)}
        return {"place": places, **named}

    def _number_chains(self) -> int:
        """Make the table of entries, some bands at a time; return how many chains there are."""
        columns, chains = self._columns, 0
        columns.run("CREATE OR REPLACE TABLE entries (place BIGINT, chain BIGINT)")
        texts = columns.number("SELECT count(*) FROM bands")
        at_once = max(1, _HASHES_AT_ONCE // max(texts, 1))
        for first in range(0, self._bands.number, at_once):
            end = min(first + at_once, self._bands.number)
            hashes = " UNION ALL ".join(
                f"SELECT place, {band} AS band, h{band} AS hash FROM bands"
                for band in range(first, end)
            )
            columns.run(
                "CREATE OR REPLACE TABLE chains AS "
                f"SELECT *, row_number() OVER () - 1 + {chains} AS chain "
                f"FROM (SELECT band, hash FROM ({hashes}) GROUP BY ALL HAVING count(*) > 1)"
            )
            columns.run(
                f"INSERT INTO entries SELECT place, chain FROM ({hashes}) "
                "JOIN chains USING (band, hash)"
            )
            chains += columns.number("SELECT count(*) FROM chains")
            columns.run("DROP TABLE chains")
            self._joined(end, self._bands.number)
        return chains


def _group(batches: Iterable[Any]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each place with all its chains, of batches in the order of the places."""
    left = np.zeros((2, 0), np.int64)
    for batch in batches:
        read = np.stack([batch["place"].to_numpy(), batch["chain"].to_numpy()])
        left = np.concatenate([left, read], axis=1)
        starts = np.flatnonzero(np.diff(left[0], prepend=-1))
        # The last place may go on in the next batch.
        for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            yield int(left[0, begin]), left[1, begin:end]
        left = left[:, starts[-1] :]
    if left.size:
        yield int(left[0, 0]), left[1]
