"""What rows are called: unique ids, and ``file:line`` for messages."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from retune.data.columns.contract import BLOCK_ROWS, Columns
from retune.data.quality.texts import text_hash
from retune.data.stages import CleanInputs
from retune.data.tables import iterate_rows
from retune.errors import DataError

_SHOWN = 5
_COLUMNS = ("row_id", "file", "line")


class RowNames:
    """Names rows of several sources.

    Args:
        inputs: The sources, and the names of their files.
    """

    def __init__(self, inputs: CleanInputs) -> None:
        self._files = inputs.names
        self._prefixes = tuple(_prefixes(inputs))

    def file(self, source: int, file: int) -> str:
        """Return the name of a file of a source; of a hub dataset, the dataset's."""
        names = self._files[source]
        return names[min(file, len(names) - 1)] if names else f"source {source}"

    def where(self, source: int, file: int, line: int) -> str:
        """Return ``file:line``."""
        return f"{self.file(source, file)}:{line}"

    def row_id(self, own: str | None, source: int, file: int, line: int, on_line: int = 1) -> str:
        """Return a row's own id, else one made of the places of its source, file and line.

        Files are numbered, not named: where a file lies is no part of what a row is.

        Args:
            own: The id that the row brings.
            source: Place of its source.
            file: Place of its file in the source.
            line: Where it begins.
            on_line: Which of the rows that begin on that line it is, from 1.

        Returns:
            The id.
        """
        if own is not None:
            return own
        several = f".{on_line}" if on_line > 1 else ""
        if len(self._files[source]) > 1:
            return f"{self._prefixes[source]}.{file}:{line}{several}"
        return f"{self._prefixes[source]}:{line}{several}"


class OnLine:
    """Counts rows that begin on one line, as those of a list without line breaks do."""

    def __init__(self) -> None:
        self._last: tuple[int, int, int] | None = None
        self._count = 0

    def add(self, source: int, file: int, line: int) -> int:
        """Count a row, in the order of its source; return which one of its line it is, from 1."""
        place = (source, file, line)
        self._count = self._count + 1 if place == self._last else 1
        self._last = place
        return self._count


def _prefixes(inputs: CleanInputs) -> Iterator[str]:
    # The number is the source's place in data.train or data.test, as in the recipe's dotted paths.
    for source, held_out in enumerate(inputs.held_out):
        side = [i for i, other in enumerate(inputs.held_out) if other == held_out]
        name = "test" if held_out else "train"
        plain = len(side) == 1 and len(inputs.names[source]) <= 1
        yield name if plain else f"{name}.{side.index(source)}"


def check_ids(inputs: CleanInputs, names: RowNames, rows: int, columns: Columns) -> None:
    """Refuse rows of one name: reports and predictions could not tell them apart.

    Args:
        inputs: The sources.
        names: What rows without an own id are called.
        rows: How many rows there are.
        columns: Where hashes of all ids are put.

    Raises:
        DataError: Two rows have one id; the first few are listed with file and line.
    """
    hashes = columns.zeros(rows, np.uint64)
    for place, (row_id, _) in enumerate(_named(inputs, names)):
        hashes[place] = text_hash(row_id, None)
        if place % BLOCK_ROWS == 0:
            columns.release()
    first = columns.first_places(hashes, columns.zeros(rows, np.int8))
    again = columns.zeros(rows, np.bool_)
    for block in columns.blocks(rows):
        again[first[block][first[block] >= 0]] = True
    repeated = columns.count(again)
    if not repeated:
        return
    seconds = columns.places(rows, lambda block: first[block] >= 0)
    shown = {place: int(first[place]) for place in islice(seconds, _SHOWN)}
    wanted = {*shown, *shown.values()}
    told = {at: row for at, row in enumerate(_named(inputs, names)) if at in wanted}
    found = [
        f"{told[place][1]}: row id {told[place][0]!r} stands twice, first at {told[earlier][1]}."
        for place, earlier in shown.items()
    ]
    raise DataError(
        "\n".join(found)
        + f"\n{repeated} ids stand more than once. Ids must be unique over all sources: name "
        "another key under data.columns.row_id, or leave it out, and rows are called by their line."
    )


def _named(inputs: CleanInputs, names: RowNames) -> Iterator[tuple[str, str]]:
    on_line = OnLine()
    for source, rows in enumerate(inputs.rows):
        for row in iterate_rows(rows.folder / "rows.parquet", _COLUMNS):
            place = (source, row["file"], row["line"])
            row_id = names.row_id(row["row_id"], *place, on_line.add(*place))
            yield row_id, names.where(*place)
