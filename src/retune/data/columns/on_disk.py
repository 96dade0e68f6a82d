"""Columns as files, and answers by DuckDB, which puts what memory cannot hold on disk.

A column is a file without a name that is mapped into memory: the system reads what is looked at,
and drops it when memory is short. `release` drops it at once, so that the process never holds more
than some blocks.
What joins or sorts all rows is asked of DuckDB, which is given the columns a block at a time and
keeps to a fixed amount of memory.

All files lie in one folder, which is emptied before use: what an earlier process left there may be
half written, and is never read.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from weakref import WeakSet

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from retune.data.columns.contract import BLOCK_ROWS, Array, Columns, Flags, Hashes, Numbers
from retune.data.columns.mapped_files import map_zeros
from retune.spine.children import count_cores

MEMORY_BYTES = 512 * 2**20
"""What DuckDB holds at most: enough for its threads; more makes joins of 10^8 rows no faster."""
_MOST_THREADS = 4  # Each takes a share of the memory for its buffers.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a disk without room, which DuckDB passes on in words."""
_SPILLED_TOO_MUCH = "max_temp_directory_size"  # By default 90 % of what is free.
_OUT_OF_MEMORY = "Out of Memory"
_FAILURES = (duckdb.OperationalError, duckdb.FatalException, duckdb.InternalError)
"""Of disk, memory, and what follows from them; the other kinds are faults of a query."""


class ColumnsOnDisk(Columns):
    """Columns that take disk in place of memory.

    Args:
        folder: Where the files lie; emptied here, and removed in the end.

    Raises:
        OSError: The folder cannot be made, or the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder = folder
        self._numbers = count()
        self._maps: WeakSet[mmap.mmap] = WeakSet()
        threads = min(_MOST_THREADS, count_cores())
        with explained(folder):
            self.connection = duckdb.connect(
                str(folder / "rows.duckdb"),
                config={
                    "memory_limit": f"{MEMORY_BYTES // 2**20}MiB",
                    "temp_directory": str(folder / "spilled"),
                    "threads": threads,
                    # Every query that needs an order states it.
                    "preserve_insertion_order": False,
                },
            )

    def close(self) -> None:
        """Remove the files."""
        self.connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def zeros(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """See `Columns`.

        Raises:
            OSError: The disk has no room for it.
        """
        shape = (shape,) if isinstance(shape, int) else shape
        kind = np.dtype(dtype)
        size = int(np.prod(shape)) * kind.itemsize
        if not size:
            return np.zeros(shape, kind)
        path = self.folder / f"{next(self._numbers)}.column"
        try:
            mapped = map_zeros(path, size)
        finally:
            # Without a name its room is free again when nobody holds it, or the process died.
            path.unlink(missing_ok=True)
        self._maps.add(mapped)
        return np.frombuffer(mapped, kind).reshape(shape)

    def release(self) -> None:
        """See `Columns`."""
        for mapped in list(self._maps):
            # Of a shared mapping: what was written stays in the file.
            mapped.madvise(mmap.MADV_DONTNEED)

    def first_places(self, values: Hashes, parts: Array) -> Numbers:
        """See `Columns`."""
        found = self.absent(len(values))
        with self.fed("rows", value=values, part=parts):
            self._fill(
                found,
                "SELECT place, first FROM rows JOIN (SELECT value, part, min(place) AS first "
                "FROM rows GROUP BY ALL HAVING count(*) > 1) USING (value, part) "
                "WHERE place <> first",
            )
        return found

    def first_equal(self, needles: Hashes, hay: Hashes) -> Numbers:
        """See `Columns`."""
        found = self.absent(len(needles))
        with self.fed("needles", value=needles), self.fed("hay", value=hay):
            self._fill(
                found,
                "SELECT needles.place, first FROM needles JOIN (SELECT value, min(place) AS first "
                "FROM hay WHERE value <> 0 GROUP BY value) USING (value)",
            )
        return found

    def conflicting(self, texts: Hashes, labels: Array, parts: Array) -> tuple[int, Flags]:
        """See `Columns`."""
        found: Flags = self.zeros(len(texts), np.bool_)
        groups = (
            "SELECT value, part FROM rows WHERE label >= 0 GROUP BY ALL "
            "HAVING min(label) <> max(label)"
        )
        with self.fed("rows", value=texts, label=labels, part=parts):
            number = self.number(f"SELECT count(*) FROM ({groups})")
            self._fill(
                found,
                f"SELECT place, true FROM rows JOIN ({groups}) USING (value, part) "
                "WHERE label >= 0",
            )
        return number, found

    def choose_lowest(self, order: Hashes, classes: Array, quotas: Sequence[int]) -> Flags:
        """See `Columns`."""
        found: Flags = self.zeros(len(order), np.bool_)
        most = np.array(quotas, np.int64)
        with self.fed("rows", value=order, class_=classes), self.fed("classes", quota=most):
            # One pass over all rows: there may be as many classes as labels.
            self._fill(
                found,
                "SELECT rows.place AS place, true FROM (SELECT place, class_, row_number() OVER "
                "(PARTITION BY class_ ORDER BY value, place) AS nth FROM rows WHERE class_ >= 0) "
                "AS rows JOIN classes ON class_ = classes.place WHERE nth <= quota",
            )
        return found

    def largest(self, values: Hashes, parts: Array) -> tuple[int, int]:
        """See `Columns`."""
        with self.fed("rows", value=values, part=parts):
            found = self.one(
                "SELECT value, count(*) AS rows FROM rows WHERE part >= 0 GROUP BY value "
                "ORDER BY rows DESC, value LIMIT 1"
            )
        return (0, 0) if found is None else (int(found[0]), int(found[1]))

    def count_distinct(self, values: Hashes, parts: Array) -> int:
        """See `Columns`."""
        with self.fed("rows", value=values, part=parts):
            return self.number(
                "SELECT count(*) FROM (SELECT value FROM rows WHERE part >= 0 GROUP BY value)"
            )

    def count_shared(self, values: Hashes, parts: Array) -> int:
        """See `Columns`."""
        with self.fed("rows", value=values, part=parts):
            return self.number(f"SELECT count(*) FROM ({_SHARED})")

    def shared(self, values: Hashes, parts: Array) -> Hashes:
        """See `Columns`."""
        with self.fed("rows", value=values, part=parts):
            found = [batch["value"].to_numpy() for batch in self.batches(f"{_SHARED} ORDER BY 1")]
        return np.concatenate([np.zeros(0, np.uint64), *found])

    @contextmanager
    def fed(self, table: str, **columns: Array) -> Iterator[None]:
        """Have columns as a table of DuckDB, with the row's number as `place`, while in context."""
        self.feed(table, self._blocks_of(columns))
        yield
        # Not after an error, which would be hidden where this fails too: `feed` replaces it.
        self.run(f"DROP TABLE {table}")

    def feed(self, table: str, blocks: Iterator[Mapping[str, Array]]) -> None:
        """Make a table of DuckDB from blocks of columns, of which there is one at least.

        What an error left there under its name is replaced.
        """
        batches = (pa.record_batch(dict(block)) for block in blocks)
        first = next(batches)

        def all_batches() -> Iterator[pa.RecordBatch]:
            yield first
            yield from batches

        reader = pa.RecordBatchReader.from_batches(first.schema, all_batches())
        with explained(self.folder):
            self.connection.register("fed", reader)
            self.connection.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM fed")
            self.connection.unregister("fed")
        self.release()

    def run(self, query: str) -> None:
        """Run a statement without a result."""
        with explained(self.folder):
            self.connection.execute(query)

    def one(self, query: str) -> Any:
        """Return the first row of a result; None where there is none."""
        with explained(self.folder):
            # All of them: a connection with rows left to fetch takes no other query.
            return next(iter(self.connection.execute(query).fetchall()), None)

    def number(self, query: str) -> int:
        """Return the one number that a query gives."""
        return int(self.one(query)[0])

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """Yield a result a batch at a time."""
        # By a connection of its own: this one answers other queries before the last batch is read.
        with explained(self.folder), self.connection.cursor() as cursor:
            yield from cursor.sql(query).to_arrow_reader(BLOCK_ROWS)

    def _blocks_of(self, columns: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
        rows = len(next(iter(columns.values())))
        # One block at least, without rows, so that the columns' types are known.
        for start in range(0, max(rows, 1), BLOCK_ROWS):
            block = slice(start, min(start + BLOCK_ROWS, rows))
            place = np.arange(block.start, block.stop)
            # Copied: DuckDB reads it after the column was released, or written again.
            yield {"place": place, **{name: value[block].copy() for name, value in columns.items()}}
            self.release()

    def _fill(self, column: Array, query: str) -> None:
        """Write a result of places and values into a column, in the order of the places."""
        for batch in self.batches(f"{query} ORDER BY place"):
            places, values = batch.columns
            column[places.to_numpy()] = values.to_numpy(zero_copy_only=False)
            self.release()


_SHARED = "SELECT value FROM rows WHERE part >= 0 GROUP BY value HAVING min(part) <> max(part)"


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn DuckDB's word for a full disk or memory into the system's, which stages explain.

    Args:
        folder: Where its files lie.

    Raises:
        OSError: The disk is full, the folder cannot be written or read, or DuckDB's own memory does
            not suffice.
    """
    try:
        yield
    except (*_FAILURES, pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # The system's own; that of batches, which pyarrow reads, has no number.
        text = " ".join(str(error).split())
        number = next((each for each in _FULL if os.strerror(each) in text), None)
        if number is None and _SPILLED_TOO_MUCH in text:
            number = errno.ENOSPC
        if number is not None:
            told = f"{os.strerror(number)} ({text})"
        elif _OUT_OF_MEMORY in text:
            number = errno.ENOMEM
            told = (
                f"DuckDB's own limit of {MEMORY_BYTES // 2**20} MiB is too little to join these "
                "rows on disk. Set quality.rows_in_memory above their number, which compares "
                f"them in memory ({text})"
            )
        else:
            number, told = errno.EIO, f"DuckDB: {text}"
        raise OSError(number, told, str(folder)) from error
