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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from retune.data.schemas import INDEX_SCHEMA
from retune.data.stages import SplitInputs, SplitSettings
from retune.data.tables import count_rows, iterate_rows
from retune.digests import digest_folder
from retune.errors import DataError
from retune.recipe.sections import SplitConfig
from retune.records import Side, SplitRef
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
        inputs: The index of the kept rows.
        settings: Shares, seed and limits; rows of a fixed test source always are on the test side.
        work: `<side>.parquet` goes to its artifact folder, rows in the order of the index.

    Returns:
        Counts per side.

    Raises:
        DataError: A side is empty, a group is larger than the split can bear, a label stands only
            where it is not learned, or a fixed test source shares a group with the training rows.
    """
    config = settings.split
    path = inputs.rows.folder / "index.parquet"
    rows = _read_index(path, config, inputs.rows.test_rows > 0, work)
    _refuse_large_group(path, rows, config)
    _refuse_empty_side(path, rows, config)
    _draw_subsets(rows, config)
    _refuse_unseen_labels(rows)
    if config.grouped:
        _refuse_shared_groups(path, rows)
    for place, side in enumerate(SIDES):
        copy_rows(path, work.artifact / f"{side}.parquet", rows.places == place)
    counts = {side: int(np.sum(rows.places == place)) for place, side in enumerate(SIDES)}
    return SplitRef(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        groups_shared=count_shared_groups(rows.groups, rows.places),
        train=counts["train"],
        validation=counts["validation"],
        test=counts["test"],
    )


def hash_name(name: str) -> int:
    """Return 64 bits that stand for a name, equal on every machine."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def count_shared_groups(groups: npt.NDArray[np.uint64], places: Places) -> int:
    """Count the groups that lie on more than one side.

    Args:
        groups: Per row the hash of its group.
        places: Per row its side; rows that were left out do not count.

    Returns:
        How many groups have rows on two sides or three.
    """
    on_sides = [np.unique(groups[places == place]) for place in range(len(SIDES))]
    _, counts = np.unique(np.concatenate(on_sides), return_counts=True)
    return int(np.sum(counts > 1))


def copy_rows(source: Path, target: Path, keep: npt.NDArray[np.bool_]) -> None:
    """Write those rows of an index that are kept, piece by piece.

    Args:
        source: A Parquet file with the columns of `INDEX_SCHEMA`.
        target: The file to write.
        keep: Per row of `source` whether it is written.
    """
    start = 0
    with (
        pq.ParquetFile(source, memory_map=True) as file,
        pq.ParquetWriter(target, INDEX_SCHEMA, compression="zstd") as writer,
    ):
        for piece in file.iter_batches(batch_size=_COPIED_AT_ONCE):
            kept = piece.filter(pa.array(keep[start : start + piece.num_rows]))
            start += piece.num_rows
            if kept.num_rows:
                writer.write_batch(kept)


def share_out(count: int, wanted: Sequence[int], available: Sequence[int]) -> list[int]:
    """Divide a number in given proportions, by the largest remainder.

    Args:
        count: What is divided.
        wanted: The proportions, as whole numbers; of equal remainders the first one wins.
        available: Most that each part can take; what one cannot take goes to the others.

    Returns:
        Whole numbers whose sum is `count`, or all that is available where that is less.
    """
    given = [0] * len(wanted)
    parts = [part for part in range(len(wanted)) if wanted[part] and available[part]]
    while parts and count > 0:
        total = sum(wanted[part] for part in parts)
        quotas = {part: count * wanted[part] // total for part in parts}
        rest = count - sum(quotas.values())
        by_remainder = sorted(parts, key=lambda part: (-(count * wanted[part] % total), part))
        for part in by_remainder[:rest]:
            quotas[part] += 1
        full = [part for part in parts if quotas[part] > available[part]]
        for part in full or parts:
            given[part] = available[part] if full else quotas[part]
            count -= given[part]
        parts = [part for part in parts if part not in full] if full else []
    return given


@dataclass(frozen=True)
class _Rows:
    """What splitting knows of the rows: a few numbers per row, in the order of the index."""

    places: Places
    groups: npt.NDArray[np.uint64]
    order: npt.NDArray[np.uint64]
    """What subsets are drawn by, the lowest first."""
    labels: npt.NDArray[np.int32]
    held_out: npt.NDArray[np.bool_]
    text_group: npt.NDArray[np.bool_]
    """Whether the row's group is no more than its own text."""
    label_names: tuple[str | None, ...]
    """By number, in the order of the names; rows without a label are one class."""


def _read_index(path: Path, config: SplitConfig, fixed: bool, work: Workdir) -> _Rows:
    total = count_rows(path)
    numbers: dict[str | None, int] = {}
    places, labels = np.zeros(total, np.int8), np.zeros(total, np.int32)
    groups, order = np.zeros(total, np.uint64), np.zeros(total, np.uint64)
    held_out, text_group = np.zeros(total, bool), np.zeros(total, bool)
    for at, row in enumerate(iterate_rows(path, _COLUMNS)):
        places[at] = _TEST if row["held_out"] else _place_of(row, config, fixed)
        labels[at] = numbers.setdefault(row["label"], len(numbers))
        groups[at] = hash_name(row["group"])
        order[at] = _draw_of(row["key"], config.seed)
        held_out[at] = row["held_out"]
        text_group[at] = is_text_group(row)
        if at % _REPORT_EVERY == 0:
            work.reporter.progress("rows divided", at, total)
    work.reporter.progress("rows divided", total, total)
    # Numbered by name, not by first appearance, so that the order of the rows changes nothing.
    names = sorted(numbers, key=lambda name: (name is not None, name or ""))
    rank = {name: number for number, name in enumerate(names)}
    renumbered = np.array([rank[name] for name in numbers] or [0], np.int32)
    return _Rows(
        places, groups, order, renumbered[labels], held_out, text_group, label_names=tuple(names)
    )


def is_text_group(row: dict[str, Any]) -> bool:
    """Tell whether a row of an index has no group of its own, only its folded text as one."""
    return bool(row["group"] == f"{row['folded']:016x}")


def _place_of(row: dict[str, Any], config: SplitConfig, fixed: bool) -> int:
    side = choose_side(
        row["group"] if config.grouped else row["key"],
        seed=config.seed,
        validation_fraction=config.validation_fraction,
        test_fraction=0.0 if fixed else config.test_fraction,
    )
    return SIDES.index(side)


def _draw_of(key: str, seed: int) -> int:
    # Not the first of the file: files are often sorted by difficulty or by source.
    return int.from_bytes(hashlib.sha256(f"{seed}\x00subset\x00{key}".encode()).digest()[:8], "big")


def _draw_subsets(rows: _Rows, config: SplitConfig) -> None:
    """Leave rows out of the sides that have a limit, with the labels' shares of all rows."""
    limits = (config.max_train_rows, config.max_validation_rows, config.max_test_rows)
    classes = len(rows.label_names) if config.stratified else 1
    labels = rows.labels if config.stratified else np.zeros_like(rows.labels)
    before = rows.places.copy()
    for place, limit in enumerate(limits):
        on_side = np.flatnonzero(before == place)
        if limit is None or len(on_side) <= limit:
            continue
        fixed = place == _TEST and bool(rows.held_out.any())
        whole = labels[rows.held_out] if fixed else labels[~rows.held_out]
        quotas = share_out(
            limit,
            np.bincount(whole, minlength=classes).tolist(),
            np.bincount(labels[on_side], minlength=classes).tolist(),
        )
        drawn = on_side[np.argsort(rows.order[on_side], kind="stable")]
        rows.places[on_side] = _NOWHERE
        for label, quota in enumerate(quotas):
            rows.places[drawn[labels[drawn] == label][:quota]] = place


def _refuse_large_group(path: Path, rows: _Rows, config: SplitConfig) -> None:
    """Refuse a group that makes a held-out side larger than training, against the shares."""
    fixed = bool(rows.held_out.any())
    fractions = {_VALIDATION: config.validation_fraction, _TEST: config.test_fraction}
    if fixed:
        del fractions[_TEST]
    learned, drawn = int(np.sum(rows.places == _TRAIN)), int(np.sum(~rows.held_out))
    for place, fraction in fractions.items() if config.grouped else ():
        count = int(np.sum(rows.places == place))
        group, size = _largest_group(rows, rows.places == place)
        asked = 1 - sum(fractions.values()) >= fraction
        if learned and asked and count > learned and size > fraction * drawn:
            raise DataError(
                f"split: the {SIDES[place]} side has {count:,} rows, more than the {learned:,} of "
                f"training: its largest group, {_name_of(path, group)!r}, alone holds {size:,} of "
                f"{drawn:,} rows ({100 * size / drawn:.1f} %), and a group "
                "is never divided. Take another split.seed, so that the group falls into training, "
                "divide it (data.columns.group), or set split.grouped to false."
            )


def _refuse_empty_side(path: Path, rows: _Rows, config: SplitConfig) -> None:
    counts = [int(np.sum(rows.places == place)) for place in range(len(SIDES))]
    empty = [side for side, count in zip(SIDES, counts, strict=True) if not count]
    if not empty:
        return
    found = ", ".join(f"{side} {count:,}" for side, count in zip(SIDES, counts, strict=True))
    total = len(rows.places)
    why = ""
    if config.grouped and total:
        group, size = _largest_group(rows, ~rows.held_out)
        groups = len(np.unique(rows.groups[~rows.held_out]))
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
    classes = len(rows.label_names)
    learned = np.bincount(rows.labels[rows.places == _TRAIN], minlength=classes)
    elsewhere = np.bincount(rows.labels[rows.places > _TRAIN], minlength=classes)
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


def _refuse_shared_groups(path: Path, rows: _Rows) -> None:
    # Texts that stand on both sides of a fixed test set are leaks: they are found, counted and
    # dropped by `remove_leaks`. A database or document on both sides is a wrong recipe.
    real = ~rows.text_group & (rows.places != _NOWHERE)
    shared = np.intersect1d(rows.groups[real & rows.held_out], rows.groups[real & ~rows.held_out])
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


def _largest_group(rows: _Rows, among: npt.NDArray[np.bool_]) -> tuple[int, int]:
    groups, counts = np.unique(rows.groups[among], return_counts=True)
    return (int(groups[np.argmax(counts)]), int(counts.max())) if len(groups) else (0, 0)


def _name_of(path: Path, group: int) -> str:
    return next(iter(_names_of(path, {group})), "")


def _names_of(path: Path, groups: set[int]) -> list[str]:
    """Look the names of some groups up, which are not kept: there may be as many as rows."""
    names = (row["group"] for row in iterate_rows(path, ("group",)))
    return sorted({name[:_SHOWN_CHARS] for name in names if hash_name(name) in groups})
