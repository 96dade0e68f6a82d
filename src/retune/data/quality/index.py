"""The index of kept rows, and the list of dropped ones: a second, light pass over the sources."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retune.data.columns.contract import BLOCK_ROWS
from retune.data.findings import BAD_FILE
from retune.data.quality.copies import Repeats
from retune.data.quality.dropping import BAD_ROW, REASONS, Reasons
from retune.data.quality.looking import Facts
from retune.data.quality.naming import OnLine, RowNames
from retune.data.quality.texts import text_hash, write_hash
from retune.data.schemas import INDEX_SCHEMA
from retune.data.stages import CleanInputs
from retune.data.tables import iterate_rows, write_table
from retune.records import DatasetRef

_COLUMNS = ("row_id", "group", "label", "db_id")


def draw_keys(inputs: CleanInputs, facts: Facts) -> NDArray[np.uint64]:
    """Return a hash of each row's key: its own name, else its content."""
    draws: NDArray[np.uint64] = facts.columns.zeros(len(facts), np.uint64)
    for place, (_, row) in enumerate(_iterate(inputs, ("row_id",), facts)):
        draws[place] = text_hash(_key(row["row_id"], int(facts.content[place])), None)
    return draws


def write_index(
    path: Path, inputs: CleanInputs, facts: Facts, names: RowNames, reasons: Reasons
) -> int:
    """Write the kept rows without their texts.

    Args:
        path: The Parquet file, with the columns of `INDEX_SCHEMA`.
        inputs: The sources.
        facts: Hashes and places of all rows.
        names: What rows are called.
        reasons: Zero for rows that are kept.

    Returns:
        How many rows were written.
    """
    return write_table(path, _index_rows(inputs, facts, names, reasons), INDEX_SCHEMA)


def _index_rows(
    inputs: CleanInputs, facts: Facts, names: RowNames, reasons: Reasons
) -> Iterator[dict[str, Any]]:
    first = [facts.rows_of(source).start for source in range(len(inputs.rows))]
    on_line = OnLine()
    for place, (source, row) in enumerate(_iterate(inputs, _COLUMNS, facts)):
        where = (source, int(facts.file[place]), int(facts.line[place]))
        nth = on_line.add(*where)
        if reasons[place]:
            continue
        folded = int(facts.folded[place])
        yield {
            "source": source,
            "row": place - first[source],
            "row_id": names.row_id(row["row_id"], *where, nth),
            "group": row["group"] or row["db_id"] or write_hash(folded),
            "key": _key(row["row_id"], int(facts.content[place])),
            "label": row["label"],
            "db_id": row["db_id"],
            "held_out": bool(facts.held_out[place]),
            "exact": int(facts.exact[place]),
            "folded": folded,
        }


def write_dropped(
    path: Path,
    inputs: CleanInputs,
    facts: Facts,
    names: RowNames,
    reasons: Reasons,
    copies: Repeats,
) -> None:
    """List bad and dropped rows with file, line and reason, never with their texts.

    Args:
        path: The JSON Lines file.
        inputs: The sources, with their lists of bad rows.
        facts: Places of all rows.
        names: What rows and files are called.
        reasons: Why rows are dropped.
        copies: What they repeat.
    """
    with path.open("w", encoding="utf-8") as file:
        for line in _dropped_lines(inputs, facts, names, reasons, copies):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _dropped_lines(
    inputs: CleanInputs, facts: Facts, names: RowNames, reasons: Reasons, copies: Repeats
) -> Iterator[dict[str, Any]]:
    for source, rows in enumerate(inputs.rows):
        for bad in read_bad_rows(rows):
            yield {
                "source": source,
                "file": names.file(source, int(bad.get("file") or 0)),
                "line": bad.get("line"),
                "reason": f"{BAD_ROW}: {bad.get('reason', 'not said')}",
            }
    for place, (source, row) in enumerate(_iterate(inputs, ("row_id",), facts)):
        if not reasons[place]:
            continue
        reason = REASONS[reasons[place]]
        named = {"row_id": row["row_id"]} if row["row_id"] is not None else {}
        yield {
            "source": source,
            "file": names.file(source, int(facts.file[place])),
            "line": int(facts.line[place]),
            "reason": reason,
            **named,
            **_repeated(place, reason, facts, names, copies),
        }


def where_is(place: int, facts: Facts, names: RowNames) -> str:
    """Return ``file:line`` of a row."""
    return names.where(int(facts.source[place]), int(facts.file[place]), int(facts.line[place]))


def read_bad_rows(rows: DatasetRef) -> Iterator[dict[str, Any]]:
    """Yield the rows of a source that could not be read: file, line and reason."""
    path = rows.folder / BAD_FILE
    if rows.bad_rows and path.exists():
        with path.open(encoding="utf-8") as file:
            yield from (json.loads(line) for line in file if line.strip())


def _repeated(
    place: int, reason: str, facts: Facts, names: RowNames, copies: Repeats
) -> dict[str, str]:
    first = {
        "exact duplicate": copies.exact,
        "folded duplicate": copies.folded,
        "near duplicate": copies.near,
    }.get(reason)
    return {} if first is None else {"repeats": where_is(int(first[place]), facts, names)}


def _key(own: str | None, content: int) -> str:
    return own if own is not None else write_hash(content)


def _iterate(
    inputs: CleanInputs, columns: tuple[str, ...], facts: Facts
) -> Iterator[tuple[int, dict[str, Any]]]:
    for source, rows in enumerate(inputs.rows):
        for number, row in enumerate(iterate_rows(rows.folder / "rows.parquet", columns)):
            if number % BLOCK_ROWS == 0:
                facts.columns.release()
            yield source, row
