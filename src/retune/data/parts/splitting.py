"""Splitting rows: seeded, stable when rows are added, and by group where groups must not leak.

A row's side depends on the seed and its own group (or key) alone, by a hash, so no other row can
move it. Shares, those of each label too, are therefore met on average and not exactly: a rule that
never moves a row knows one row at a time, and cannot make up for what other rows did. For the same
reason a label does not enter the hash: it would change no share, but a corrected label would carry
its row from test to training. What is exact are the limits `split.max_<side>_rows`: they leave rows
out, which moves none, until every label has the share that it has in all rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from retune.data.columns.contract import ABSENT, Array, Columns, Flags, Hashes
from retune.data.columns.opening import open_columns
from retune.data.schemas import INDEX_SCHEMA
from retune.data.shares import share_out
from retune.data.stages import SplitInputs, SplitSettings
from retune.data.tables import count_rows, filter_rows, iterate_rows
from retune.digests import digest_folder
from retune.errors import DataError
from retune.recipe.sections import SplitConfig
from retune.records import Side, Source, SplitRef
from retune.spine.stage import Workdir

SIDES: tuple[Side, ...] = ("train", "validation", "test")

_SHOWN = 5
_SHOWN_CHARS = 60
_REPORT_EVERY = 20_000
_COPIED_AT_ONCE = 65_536
_COLUMNS = ("row_id", "group", "key", "label", "held_out", "folded")
_NOWHERE = -1
_TRAIN, _VALIDATION, _TEST = range(3)

Places = npt.NDArray[np.int8]
"""Per row the place of its side in `SIDES`, or -1 for a row that was left out."""


def choose_side(name: str, *, seed: int, validation_fraction: float, test_fraction: float) -> Side:
    """Return the side of a group, from its name and the seed alone.

    Args:
        name: Group name or row key.
        seed: The split's seed.
        validation_fraction: Expected share of the validation side, from 0 to 1.
        test_fraction: Expected share of the test side, from 0 to 1.

    Returns:
        The same side for the same arguments, always.
    """
    hashed = hashlib.sha256(f"{seed}\x00{name}".encode()).digest()
    place = int.from_bytes(hashed[:8], "big") / 2**64
    if place < test_fraction:
        return "test"
    return "validation" if place < test_fraction + validation_fraction else "train"


def split_rows(inputs: SplitInputs, settings: SplitSettings, work: Workdir) -> SplitRef:
    """Put each row on one side.

    Args:
        inputs: The index of the kept rows, and those that have to stay where they were.
        settings: Shares, seed and limits; rows of a fixed test source always are on the test side.
        work: `<side>.parquet` goes to its artifact folder, rows in the order of the index.

    Returns:
        Counts per side.

    Raises:
        DataError: A side is empty, a group is larger than the split can bear, a label stands only
            where it is not learned, or a fixed test source shares a group with the training rows.
    """
    place = work.scratch / "columns"
    with open_columns(inputs.rows.rows, settings.rows_in_memory, place) as columns:
        return _split_rows(inputs, settings.split, work, columns)


def _split_rows(
    inputs: SplitInputs, config: SplitConfig, work: Workdir, columns: Columns
) -> SplitRef:
    path = inputs.rows.folder / "index.parquet"
    rows = _read_index(path, config, inputs.rows.test_rows > 0, work, columns)
    kept = _keep_parts(path, rows, inputs.kept)
    kept_out = rows.count(lambda at: kept[at] & np.isin(rows.places[at], (_TEST, _NOWHERE)))
    _refuse_large_group(path, rows, config)
    _refuse_empty_side(path, rows, config)
    _draw_subsets(rows, config)
    _refuse_unseen_labels(rows)
    if config.grouped:
        _refuse_shared_groups(path, rows, kept)
    for place, side in enumerate(SIDES):
        copy_rows(path, work.artifact / f"{side}.parquet", partial(rows.on_side, place))
    train, validation, test = (rows.count_side(place) for place in range(len(SIDES)))
    return SplitRef(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        groups_shared=columns.count_shared(rows.groups, rows.places),
        train=train,
        validation=validation,
        test=test,
        kept_out=kept_out,
        kept_in=columns.count(kept) - kept_out,
    )


def hash_name(name: str) -> int:
    """Return 64 bits that stand for a name, equal on every machine."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def copy_rows(source: Path, target: Path, keep: Callable[[slice], Flags]) -> None:
    """Write those rows of an index that are kept, piece by piece.

    Args:
        source: A Parquet file with the columns of `INDEX_SCHEMA`.
        target: The file to write.
        keep: Tells of the rows of a piece whether they are written.
    """
    with pq.ParquetWriter(target, INDEX_SCHEMA, compression="zstd") as writer:
        for kept in filter_rows(source, keep, at_once=_COPIED_AT_ONCE):
            writer.write_batch(kept)


@dataclass(frozen=True)
class _Rows:
    """What splitting knows of the rows: a few numbers per row, in the order of the index."""

    columns: Columns
    places: Places
    groups: Hashes
    order: Hashes
    """What subsets are drawn by, the lowest first."""
    labels: npt.NDArray[np.int32]
    held_out: Flags
    text_group: Flags
    """Whether the row's group is no more than its own text."""
    label_names: tuple[str | None, ...]
    """By number, in the order of the names; rows without a label are one class."""

    def on_side(self, place: int, rows: slice) -> Flags:
        """Tell of some rows whether they are on a side."""
        self.columns.release()
        found: Flags = self.places[rows] == place
        return found

    def is_held_out(self, wanted: bool, rows: slice) -> Flags:
        """Tell of some rows whether they come from a fixed held-out source, or whether not."""
        found: Flags = self.held_out[rows] == wanted
        return found

    def count(self, flags: Callable[[slice], Flags]) -> int:
        """Count the rows of which something is true, a block at a time."""
        return self.columns.count_where(len(self.places), flags)

    def count_side(self, place: int) -> int:
        """Count the rows of a side."""
        return self.count(partial(self.on_side, place))

    def count_labels(self, flags: Callable[[slice], Flags]) -> npt.NDArray[np.int64]:
        """Count the rows of which something is true by their label."""
        found = np.zeros(max(len(self.label_names), 1), np.int64)
        for rows in self.columns.blocks(len(self.places)):
            found += np.bincount(self.labels[rows][flags(rows)], minlength=len(found))
        return found

    def largest_group(self, flags: Callable[[slice], Flags]) -> tuple[int, int]:
        """Return the largest group of the rows of which something is true, and its size."""
        return self.columns.largest(self.groups, self._among(flags))

    def count_groups(self, flags: Callable[[slice], Flags]) -> int:
        """Count the groups of the rows of which something is true."""
        return self.columns.count_distinct(self.groups, self._among(flags))

    def _among(self, flags: Callable[[slice], Flags]) -> Array:
        parts = self.columns.zeros(len(self.places), np.int8)
        for rows in self.columns.blocks(len(self.places)):
            parts[rows] = np.where(flags(rows), 0, ABSENT)
        return parts


def _read_index(
    path: Path, config: SplitConfig, fixed: bool, work: Workdir, columns: Columns
) -> _Rows:
    total = count_rows(path)
    numbers: dict[str | None, int] = {}
    places, labels = columns.zeros(total, np.int8), columns.zeros(total, np.int32)
    groups, order = columns.zeros(total, np.uint64), columns.zeros(total, np.uint64)
    held_out, text_group = columns.zeros(total, np.bool_), columns.zeros(total, np.bool_)
    for at, row in enumerate(iterate_rows(path, _COLUMNS)):
        side = "test" if row["held_out"] else draw_side(row, config, fixed=fixed)
        places[at] = SIDES.index(side)
        labels[at] = numbers.setdefault(row["label"], len(numbers))
        groups[at] = hash_name(row["group"])
        order[at] = _draw_of(row["key"], config.seed)
        held_out[at] = row["held_out"]
        text_group[at] = is_text_group(row)
        if at % _REPORT_EVERY == 0:
            work.reporter.progress("rows divided", at, total)
            columns.release()
    work.reporter.progress("rows divided", total, total)
    # Numbered by name, not by first appearance, so that the order of the rows changes nothing.
    names = sorted(numbers, key=lambda name: (name is not None, name or ""))
    rank = {name: number for number, name in enumerate(names)}
    renumbered = np.array([rank[name] for name in numbers] or [0], np.int32)
    for block in columns.blocks(total):
        labels[block] = renumbered[labels[block]]
    return _Rows(
        columns, places, groups, order, labels, held_out, text_group, label_names=tuple(names)
    )


def _keep_parts(path: Path, rows: _Rows, kept: Source | None) -> Flags:
    """Put rows where they were in an earlier version; return which rows those are."""
    moved: Flags = rows.columns.zeros(len(rows.places), np.bool_)
    if kept is None:
        return moved
    sides = {(row["source"], row["row"]): row["side"] for row in iterate_rows(kept.path)}
    for at, row in enumerate(iterate_rows(path, ("source", "row"))):
        where = (row["source"], row["row"])
        if where in sides:
            side = sides[where]
            rows.places[at] = _NOWHERE if side is None else SIDES.index(side)
            moved[at] = True
    return moved


def is_text_group(row: dict[str, Any]) -> bool:
    """Tell whether a row of an index has no group of its own, only its folded text as one."""
    return bool(row["group"] == f"{row['folded']:016x}")


def draw_side(row: Mapping[str, Any], config: SplitConfig, *, fixed: bool) -> Side:
    """Return the side of a row to learn from, by its group or its key.

    Args:
        row: Of an index, with `group` and `key`.
        config: Seed and shares.
        fixed: Whether the recipe names the test rows, so that none is drawn.
    """
    return choose_side(
        row["group"] if config.grouped else row["key"],
        seed=config.seed,
        validation_fraction=config.validation_fraction,
        test_fraction=0.0 if fixed else config.test_fraction,
    )


def _draw_of(key: str, seed: int) -> int:
    # Not the first of the file: files are often sorted by difficulty or by source.
    return int.from_bytes(hashlib.sha256(f"{seed}\x00subset\x00{key}".encode()).digest()[:8], "big")


def _draw_subsets(rows: _Rows, config: SplitConfig) -> None:
    """Leave rows out of the sides that have a limit, with the labels' shares of all rows."""
    limits = (config.max_train_rows, config.max_validation_rows, config.max_test_rows)
    for place, limit in enumerate(limits):
        on_side = rows.count_side(place)
        if limit is None or on_side <= limit:
            continue
        fixed = place == _TEST and rows.columns.count(rows.held_out) > 0
        quotas = [limit]
        if config.stratified:
            whole = rows.count_labels(partial(rows.is_held_out, fixed))
            there = rows.count_labels(partial(rows.on_side, place))
            quotas = share_out(limit, whole.tolist(), there.tolist())
        classes = rows.columns.zeros(len(rows.places), np.int32)
        for block in rows.columns.blocks(len(classes)):
            label = rows.labels[block] if config.stratified else 0
            classes[block] = np.where(rows.places[block] == place, label, ABSENT)
        chosen = rows.columns.choose_lowest(rows.order, classes, quotas)
        for block in rows.columns.blocks(len(classes)):
            rows.places[block][(classes[block] >= 0) & ~chosen[block]] = _NOWHERE


def _refuse_large_group(path: Path, rows: _Rows, config: SplitConfig) -> None:
    """Refuse a group that makes a held-out side larger than training, against the shares."""
    drawn = rows.count(lambda at: ~rows.held_out[at])
    fractions = {_VALIDATION: config.validation_fraction, _TEST: config.test_fraction}
    if drawn < len(rows.places):
        del fractions[_TEST]
    learned = rows.count_side(_TRAIN)
    for place, fraction in fractions.items() if config.grouped else ():
        count = rows.count_side(place)
        asked = 1 - sum(fractions.values()) >= fraction
        if not (learned and asked and count > learned):
            continue
        group, size = rows.largest_group(partial(rows.on_side, place))
        if size > fraction * drawn:
            raise DataError(
                f"split: the {SIDES[place]} side has {count:,} rows, more than the {learned:,} of "
                f"training: its largest group, {_name_of(path, group)!r}, alone holds {size:,} of "
                f"{drawn:,} rows ({100 * size / drawn:.1f} %), and a group "
                "is never divided. Take another split.seed, so that the group falls into training, "
                "divide it (data.columns.group), or set split.grouped to false."
            )


def _refuse_empty_side(path: Path, rows: _Rows, config: SplitConfig) -> None:
    counts = [rows.count_side(place) for place in range(len(SIDES))]
    empty = [side for side, count in zip(SIDES, counts, strict=True) if not count]
    if not empty:
        return
    found = ", ".join(f"{side} {count:,}" for side, count in zip(SIDES, counts, strict=True))
    total = len(rows.places)
    why = ""
    if config.grouped and total:
        group, size = rows.largest_group(lambda at: ~rows.held_out[at])
        groups = rows.count_groups(lambda at: ~rows.held_out[at])
        why = (
            f" The rows to learn from are {groups:,} groups that are never divided; the largest, "
            f"{_name_of(path, group)!r}, holds {size:,} rows ({100 * size / total:.1f} %)."
        )
    raise DataError(
        f"split: the {' and '.join(empty)} side has no rows ({total:,} rows in all: {found}).{why} "
        "Raise split.validation_fraction or split.test_fraction, add rows, or, where few "
        "groups are large, take another split.seed or set split.grouped to false."
    )


def _refuse_unseen_labels(rows: _Rows) -> None:
    learned = rows.count_labels(partial(rows.on_side, _TRAIN))
    elsewhere = rows.count_labels(lambda at: rows.places[at] > _TRAIN)
    unseen = [
        f"{name!r} ({elsewhere[number]:,} rows)"
        for number, name in enumerate(rows.label_names)
        if name is not None and elsewhere[number] and not learned[number]
    ]
    if unseen:
        raise DataError(
            f"split: labels never seen in training: {', '.join(unseen[:_SHOWN])}"
            f"{_and_more(len(unseen))}; they stand in validation or test alone. Add training rows "
            "of them, take their rows out, correct them if they are misspelt, or raise "
            "split.max_train_rows where it is set."
        )


def _refuse_shared_groups(path: Path, rows: _Rows, kept: Flags) -> None:
    # Texts that stand on both sides of a fixed test set are leaks: they are found, counted and
    # dropped by `remove_leaks`. A database or document on both sides is a wrong recipe.
    parts = rows.columns.zeros(len(rows.places), np.int8)
    for at in rows.columns.blocks(len(parts)):
        real = ~rows.text_group[at] & ((rows.places[at] != _NOWHERE) | kept[at])
        parts[at] = np.where(real, rows.held_out[at], ABSENT)
    shared = rows.columns.shared(rows.groups, parts)
    if len(shared):
        names = _names_of(path, {int(group) for group in shared})
        raise DataError(
            f"split: {len(shared):,} groups stand in data.test and in data.train: "
            f"{', '.join(names[:_SHOWN])}{_and_more(len(shared))}. Held-out rows must not "
            "share a group with training rows: take them out of one file, or set split.grouped to "
            "false."
        )


def _and_more(count: int) -> str:
    return f" and {count - _SHOWN:,} more" if count > _SHOWN else ""


def _name_of(path: Path, group: int) -> str:
    return next(iter(_names_of(path, {group})), "")


def _names_of(path: Path, groups: set[int]) -> list[str]:
    """Look the names of some groups up, which are not kept: there may be as many as rows."""
    names = (row["group"] for row in iterate_rows(path, ("group",)))
    return sorted({name[:_SHOWN_CHARS] for name in names if hash_name(name) in groups})
