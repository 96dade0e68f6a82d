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
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from retune.data.copies import Copies, Hashes, SideRows, find_copies
from retune.data.equal_queries import hash_queries
from retune.data.findings import LEAK_PAIRS_FILE, LEAKS_FILE, LeakFinding, LeakReport
from retune.data.splitting import SIDES, copy_rows, count_shared_groups, hash_name
from retune.data.stages import LeaksInputs, LeaksSettings
from retune.data.tables import read_table
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
    sides = _read_sides(inputs)
    sides, uncompared = _with_queries(sides, inputs, settings, work)
    kept = {side: np.ones(len(rows.places), bool) for side, rows in sides.items()}
    leaked = np.zeros(len(sides["test"].places), bool)
    findings = []
    (work.artifact / LOG_FOLDER).mkdir(exist_ok=True)
    with open(work.artifact / LEAK_PAIRS_FILE, "w", encoding="utf-8") as file:
        for held, other in _COMPARED:
            # A validation row that was dropped for a test row needs no more protection.
            copies = _compare(sides[held].only(kept[held]), sides[other], inputs, settings, work)
            dropped = copies.repeating() & kept[other] & settings.drop_leaked
            kept[other] &= ~dropped
            if held == "test":
                leaked |= copies.repeated()
            written = _write_pairs(file.write, copies, inputs.clean.folder / "index.parquet")
            findings.append((_describe(copies, int(np.sum(dropped))), written))
    _refuse_empty_side(kept)
    report = LeakReport(
        findings=tuple(finding for finding, _ in findings),
        pairs=sum(written for _, written in findings),
        uncompared=uncompared,
    )
    (work.artifact / LEAKS_FILE).write_text(report.model_dump_json(indent=2), encoding="utf-8")
    if settings.drop_leaked:
        leaked[:] = False
    return _write_sides(inputs, work, sides, kept, leaked)


def _read_sides(inputs: LeaksInputs) -> dict[Side, SideRows]:
    index = _number_rows(inputs.clean.folder / "index.parquet")
    order = np.argsort(index)
    sides: dict[Side, SideRows] = {}
    for side in SIDES:
        path = inputs.split.folder / f"{side}.parquet"
        columns = ["source", "row", "exact", "folded", "group", "db_id"]
        table = read_table(path, columns)
        sides[side] = SideRows(
            side=side,
            places=order[np.searchsorted(index, _number_rows(path), sorter=order)],
            sources=table["source"].to_numpy(),
            rows=table["row"].to_numpy(),
            exact=table["exact"].to_numpy(),
            folded=table["folded"].to_numpy(),
            groups=_hash_column(table["group"]),
            databases=_hash_column(table["db_id"]),
            queries=np.zeros(table.num_rows, np.uint64),
        )
    return sides


def _number_rows(path: Path) -> npt.NDArray[np.int64]:
    table = read_table(path, ["source", "row"])
    numbers = (table["source"].to_numpy().astype(np.int64) << _ROW_BITS) + table["row"].to_numpy()
    return np.asarray(numbers, np.int64)


def _hash_column(column: pa.ChunkedArray) -> Hashes:
    encoded = column.combine_chunks().dictionary_encode()
    hashes = np.array([*map(hash_name, encoded.dictionary.to_pylist()), 0], np.uint64)
    # Null takes the last place, the zero.
    places = np.asarray(encoded.indices.fill_null(len(hashes) - 1).to_numpy())
    return np.asarray(hashes[places], np.uint64)


def _with_queries(
    sides: dict[Side, SideRows], inputs: LeaksInputs, settings: LeaksSettings, work: Workdir
) -> tuple[dict[Side, SideRows], int]:
    hashes, uncompared = hash_queries(
        list(sides.values()),
        inputs.rows,
        inputs.databases,
        dialect=settings.sql_dialect,
        progress=lambda done, total: work.reporter.progress("queries read", done, total),
    )
    for side, hashed in zip(sides, hashes, strict=True):
        sides[side].queries[:] = hashed
    return sides, uncompared


def _compare(
    held: SideRows, other: SideRows, inputs: LeaksInputs, settings: LeaksSettings, work: Workdir
) -> Copies:
    what = f"{other.side} rows compared with {held.side}"
    return find_copies(
        held,
        other,
        signatures=np.load(inputs.clean.folder / "signatures.npy", mmap_mode="r"),
        near_threshold=settings.near_threshold,
        rows=inputs.rows,
        progress=lambda done, total: work.reporter.progress(what, done, total),
    )


def _describe(copies: Copies, dropped: int) -> LeakFinding:
    return LeakFinding(
        side=copies.held.side,
        source_side=copies.other.side,
        rows=int(np.sum(copies.repeated())),
        of=len(copies.held.places),
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
    names: list[str] = (
        read_table(index, ["row_id"])["row_id"].take(np.array(places, np.int64)).to_pylist()
    )
    return names


def _refuse_empty_side(kept: dict[Side, npt.NDArray[np.bool_]]) -> None:
    empty = [side for side in SIDES if not kept[side].any()]
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
    kept: dict[Side, npt.NDArray[np.bool_]],
    leaked: npt.NDArray[np.bool_],
) -> SplitRef:
    for side in SIDES:
        name = f"{side}.parquet"
        source, target = inputs.split.folder / name, work.artifact / name
        if kept[side].all():
            shutil.copyfile(source, target)
        else:
            copy_rows(source, target, kept[side])
    groups = np.concatenate([sides[side].groups[kept[side]] for side in SIDES])
    counts = {side: int(np.sum(kept[side])) for side in SIDES}
    places = np.repeat(np.arange(len(SIDES), dtype=np.int8), list(counts.values()))
    first = sides["test"].places[leaked][:_FIRST].tolist()
    share = Share(
        rows=int(np.sum(leaked)),
        of=counts["test"],
        first=tuple(_row_ids(inputs.clean.folder / "index.parquet", first)),
    )
    return SplitRef(
        digest=digest_folder(work.artifact, without=(LOG_FOLDER,)),
        folder=work.artifact,
        groups_shared=count_shared_groups(groups, places),
        faults={"leaked_rows": share},
        **counts,
    )
