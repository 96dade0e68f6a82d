"""Leaks: rows of a held-out side that a side which learns repeats.

Test is compared with training and validation, and validation with training. A row counts once, by
its closest copy: letter by letter (exact), but for case, accents and white space (folded), by most
of its words (near), or, in text-to-SQL, by the same canonical query over the same schema (query),
which is how a paraphrase leaks. Only test rows count for `limits.leaked_rows`: a copy in
validation flatters the choice of a checkpoint, but no score that a gate sees. It is reported.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retune.data.columns.contract import ABSENT, BLOCK_ROWS, Columns, Flags, Hashes, Numbers
from retune.data.columns.opening import open_columns
from retune.data.findings import LEAK_PAIRS_FILE, LEAKS_FILE, LeakFinding, LeakReport
from retune.data.parts.copies import Copies, SideRows, find_copies
from retune.data.parts.equal_queries import hash_queries
from retune.data.parts.splitting import SIDES, copy_rows, hash_name
from retune.data.quality.shingle_sets import SignatureFile
from retune.data.stages import LeaksInputs, LeaksSettings
from retune.data.tables import RowTaker, count_rows
from retune.digests import digest_folder
from retune.errors import DataError
from retune.records import LOG_FOLDER, Share, Side, SplitRef
from retune.spine.stage import Workdir

PAIRS_KEPT = 5_000
"""Most pairs that are written for two sides; the report counts all rows."""

_COMPARED: tuple[tuple[Side, Side], ...] = (
    ("test", "train"),
    ("test", "validation"),
    ("validation", "train"),
)
_FIRST = 5
_SIDE_COLUMNS = ("source", "row", "exact", "folded", "group", "db_id")
_ROW_BITS = 40  # place in a source, below the number of the source


def remove_leaks(inputs: LeaksInputs, settings: LeaksSettings, work: Workdir) -> SplitRef:
    """Compare the sides, and drop what repeats a held-out row where the recipe says so.

    Args:
        inputs: Sides, index and signatures, and the texts they stand for.
        settings: What is near, the SQL dialect, and whether copies are dropped; a row of the test
            side never is, and one of the validation side only for a test row.
        work: `<side>.parquet`, `log/leaks.json` and `log/leaks.jsonl` go to its artifact folder.

    Returns:
        The sides; of their faults the leaked test rows, none where their copies were dropped.

    Raises:
        DataError: Dropping copies leaves a side without rows.
    """
    place = work.scratch / "columns"
    with open_columns(inputs.clean.rows, settings.rows_in_memory, place) as columns:
        return _remove_leaks(inputs, settings, work, columns)


def _remove_leaks(
    inputs: LeaksInputs, settings: LeaksSettings, work: Workdir, columns: Columns
) -> SplitRef:
    sides = _read_sides(inputs, columns)
    uncompared = _add_queries(sides, inputs, settings, work)
    kept: dict[Side, Flags] = {
        side: columns.filled(len(rows), True, np.bool_) for side, rows in sides.items()
    }
    leaked: Flags = columns.zeros(len(sides["test"]), np.bool_)
    findings = []
    (work.artifact / LOG_FOLDER).mkdir(exist_ok=True)
    with open(work.artifact / LEAK_PAIRS_FILE, "w", encoding="utf-8") as file:
        for held, other in _COMPARED:
            # A validation row that was dropped for a test row needs no more protection.
            copies = _compare(sides[held].only(kept[held]), sides[other], inputs, settings, work)
            dropped = 0
            for at in columns.blocks(len(sides[other])) if settings.drop_leaked else ():
                goes = copies.repeating(at) & kept[other][at]
                kept[other][at] &= ~goes
                dropped += int(np.count_nonzero(goes))
            for at in columns.blocks(len(leaked)) if held == "test" else ():
                leaked[at] |= copies.repeated(at)
            written = _write_pairs(file.write, copies, inputs.clean.folder / "index.parquet")
            findings.append((_describe(copies, dropped), written))
    _refuse_empty_side(kept, columns)
    report = LeakReport(
        findings=tuple(finding for finding, _ in findings),
        pairs=sum(written for _, written in findings),
        uncompared=uncompared,
    )
    (work.artifact / LEAKS_FILE).write_text(report.model_dump_json(indent=2), encoding="utf-8")
    if settings.drop_leaked:
        leaked = columns.zeros(len(leaked), np.bool_)
    return _write_sides(inputs, work, sides, kept, leaked)


def _read_sides(inputs: LeaksInputs, columns: Columns) -> dict[Side, SideRows]:
    index = _number_rows(inputs.clean.folder / "index.parquet", columns)
    sides: dict[Side, SideRows] = {}
    for side in SIDES:
        path = inputs.split.folder / f"{side}.parquet"
        total = count_rows(path)
        rows = SideRows(
            columns=columns,
            side=side,
            places=columns.zeros(total, np.int64),
            sources=columns.zeros(total, np.int32),
            rows=columns.zeros(total, np.int64),
            exact=columns.zeros(total, np.uint64),
            folded=columns.zeros(total, np.uint64),
            groups=columns.zeros(total, np.uint64),
            databases=columns.zeros(total, np.uint64),
            queries=columns.zeros(total, np.uint64),
        )
        for at, read in _read_blocks(path, _SIDE_COLUMNS):
            # Both are in the order of the index, which is that of sources and rows.
            rows.places[at] = np.searchsorted(index, _numbers(read))
            rows.sources[at], rows.rows[at] = read["source"], read["row"]
            rows.exact[at], rows.folded[at] = read["exact"], read["folded"]
            rows.groups[at] = _hash_column(read["group"])
            rows.databases[at] = _hash_column(read["db_id"])
            columns.release()
        sides[side] = rows
    return sides


def _read_blocks(path: Path, names: Sequence[str]) -> Iterator[tuple[slice, pa.RecordBatch]]:
    start = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=BLOCK_ROWS, columns=list(names)):
            yield slice(start, start + batch.num_rows), batch
            start += batch.num_rows


def _number_rows(path: Path, columns: Columns) -> Numbers:
    numbers: Numbers = columns.zeros(count_rows(path), np.int64)
    for at, read in _read_blocks(path, ("source", "row")):
        numbers[at] = _numbers(read)
        columns.release()
    return numbers


def _numbers(read: pa.RecordBatch) -> Numbers:
    numbers = (read["source"].to_numpy().astype(np.int64) << _ROW_BITS) + read["row"].to_numpy()
    return np.asarray(numbers, np.int64)


def _hash_column(column: pa.Array) -> Hashes:
    encoded = column.dictionary_encode()
    hashes = np.array([*map(hash_name, encoded.dictionary.to_pylist()), 0], np.uint64)
    # Null takes the last place, the zero.
    places = encoded.indices.fill_null(len(hashes) - 1).to_numpy(zero_copy_only=False)
    return np.asarray(hashes[places], np.uint64)


def _add_queries(
    sides: dict[Side, SideRows], inputs: LeaksInputs, settings: LeaksSettings, work: Workdir
) -> int:
    return hash_queries(
        list(sides.values()),
        inputs.rows,
        inputs.databases,
        dialect=settings.sql_dialect,
        progress=lambda done, total: work.reporter.progress("queries read", done, total),
    )


def _compare(
    held: SideRows, other: SideRows, inputs: LeaksInputs, settings: LeaksSettings, work: Workdir
) -> Copies:
    what = f"{other.side} rows compared with {held.side}"
    return find_copies(
        held,
        other,
        signatures=SignatureFile(inputs.clean.folder / "signatures.npy"),
        near_threshold=settings.near_threshold,
        rows=inputs.rows,
        progress=partial(work.reporter.progress, what),
        joined=partial(work.reporter.progress, f"bands of {what} joined"),
    )


def _describe(copies: Copies, dropped: int) -> LeakFinding:
    return LeakFinding(
        side=copies.held.side,
        source_side=copies.other.side,
        rows=copies.held.columns.count_where(len(copies.held), copies.repeated),
        of=len(copies.held),
        by_kind=copies.by_kind(),
        dropped=dropped,
    )


def _write_pairs(write: Callable[[str], object], copies: Copies, index: Path) -> int:
    pairs = list(islice(copies.pairs(), PAIRS_KEPT))
    held_out = _row_ids(index, [pair.held_out for pair in pairs])
    names = _row_ids(index, [pair.copy for pair in pairs])
    for pair, held, copy in zip(pairs, held_out, names, strict=True):
        line = {
            "held_out": held,
            "held_out_side": copies.held.side,
            "copy": copy,
            "copy_side": copies.other.side,
            "kind": pair.kind,
            "similarity": pair.similarity,
        }
        write(json.dumps(line, ensure_ascii=False) + "\n")
    return len(pairs)


def _row_ids(index: Path, places: Sequence[int]) -> list[str]:
    if not places:
        return []
    taken = RowTaker(index, ["row_id"]).take(np.array(places, np.int64))
    names: list[str] = taken["row_id"].to_pylist()
    return names


def _refuse_empty_side(kept: dict[Side, Flags], columns: Columns) -> None:
    empty = [side for side in SIDES if not columns.count(kept[side])]
    if empty:
        had = ", ".join(f"{side} {len(kept[side]):,}" for side in empty)
        raise DataError(
            f"leaks: quality.drop_leaked leaves no rows on the {' and '.join(empty)} side (there "
            f"were: {had}): each repeats a held-out row. Group the rows by what they share "
            "(data.columns.group with split.grouped), or drop duplicates before the split "
            "(quality.drop_duplicates)."
        )


def _write_sides(
    inputs: LeaksInputs,
    work: Workdir,
    sides: dict[Side, SideRows],
    kept: dict[Side, Flags],
    leaked: Flags,
) -> SplitRef:
    columns = sides["test"].columns
    counts = {side: columns.count(kept[side]) for side in SIDES}
    for side in SIDES:
        name = f"{side}.parquet"
        source, target = inputs.split.folder / name, work.artifact / name
        if counts[side] == len(kept[side]):
            shutil.copyfile(source, target)
        else:
            copy_rows(source, target, kept[side].__getitem__)
    first = islice(columns.places(len(leaked), leaked.__getitem__), _FIRST)
    share = Share(
        rows=columns.count(leaked),
        of=counts["test"],
        first=tuple(
            _row_ids(
                inputs.clean.folder / "index.parquet",
                [int(sides["test"].places[at]) for at in first],
            )
        ),
    )
    return SplitRef(
        digest=digest_folder(work.artifact, without=(LOG_FOLDER,)),
        folder=work.artifact,
        groups_shared=_count_shared_groups(sides, kept),
        kept_out=inputs.split.kept_out,
        kept_in=inputs.split.kept_in,
        faults={"leaked_rows": share},
        **counts,
    )


def _count_shared_groups(sides: dict[Side, SideRows], kept: dict[Side, Flags]) -> int:
    columns = sides["test"].columns
    total = sum(map(len, sides.values()))
    groups, parts = columns.zeros(total, np.uint64), columns.zeros(total, np.int8)
    start = 0
    for number, side in enumerate(SIDES):
        for at in columns.blocks(len(sides[side])):
            here = slice(start + at.start, start + at.stop)
            groups[here] = sides[side].groups[at]
            parts[here] = np.where(kept[side][at], number, ABSENT)
        start += len(sides[side])
    return columns.count_shared(groups, parts)
