"""Splitting rows: seeded, stable when rows are added, and by group where groups must not leak.

A row's side depends on the seed and its own group (or id) alone, by a hash, so no other row can
move it. Shares are therefore met on average, not exactly.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Any

from retune.data.rows import ROW_SCHEMA
from retune.data.tables import read_rows, write_table
from retune.digests import digest_folder
from retune.errors import DataError
from retune.records import Side, SplitRef
from retune.requests import SplitInputs, SplitSection
from retune.stage import Workdir

_GROUPS_SHOWN = 5
SIDES: tuple[Side, ...] = ("train", "validation", "test")


def choose_side(name: str, *, seed: int, validation_fraction: float, test_fraction: float) -> Side:
    """Return the side of a group, from its name and the seed alone.

    Args:
        name: Group name or row id.
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


def split_rows(inputs: SplitInputs, section: SplitSection, work: Workdir) -> SplitRef:
    """Put each row on one side.

    Args:
        inputs: The loaded rows.
        section: Shares and seed; rows of a fixed test file always are on the test side.
        work: `<side>.parquet` goes to its artifact folder.

    Returns:
        Counts per side.

    Raises:
        DataError: A side is empty, or a fixed test file shares a group with the training file.
    """
    config = section.split
    rows = read_rows(inputs.rows.folder / "rows.parquet")
    test_fraction = 0.0 if inputs.rows.test_rows else config.test_fraction
    sides: dict[Side, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for row in rows:
        side: Side = "test"
        if not row["fixed_test"]:
            side = choose_side(
                row["group"] if config.grouped else row["row_id"],
                seed=config.seed,
                validation_fraction=config.validation_fraction,
                test_fraction=test_fraction,
            )
        sides[side].append(row)
    if config.max_test_rows is not None:
        sides["test"] = _first_by_hash(sides["test"], config.seed, config.max_test_rows)
    _refuse_empty_side(sides, len(rows))
    shared = _shared_groups(sides)
    if config.grouped and shared:
        raise DataError(
            f"split: {len(shared)} groups stand in data.test and in data.train, the first: "
            f"{', '.join(shared[:_GROUPS_SHOWN])}. Held-out rows must not share a group with "
            "training rows: take them out of one file, or set split.grouped to false."
        )
    for side in SIDES:
        write_table(work.artifact / f"{side}.parquet", sides[side], ROW_SCHEMA)
    return SplitRef(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        **{side: len(sides[side]) for side in SIDES},
        groups_shared=len(shared),
    )


def _first_by_hash(rows: list[dict[str, Any]], seed: int, count: int) -> list[dict[str, Any]]:
    # Not the first of the file: files are often sorted by difficulty or by source.
    def place(row: dict[str, Any]) -> bytes:
        return hashlib.sha256(f"{seed}\x00subset\x00{row['row_id']}".encode()).digest()

    chosen = {row["row_id"] for row in sorted(rows, key=place)[:count]}
    return [row for row in rows if row["row_id"] in chosen]


def _refuse_empty_side(sides: dict[Side, list[dict[str, Any]]], total: int) -> None:
    empty = [side for side in SIDES if not sides[side]]
    if empty:
        counts = ", ".join(f"{side} {len(sides[side])}" for side in SIDES)
        raise DataError(
            f"split: the {' and '.join(empty)} side has no rows ({total} rows in all: {counts}). "
            "Raise split.validation_fraction or split.test_fraction, add rows, or, where few "
            "groups are large, set split.grouped to false."
        )


def _shared_groups(sides: dict[Side, list[dict[str, Any]]]) -> list[str]:
    seen: defaultdict[str, set[str]] = defaultdict(set)
    for side, rows in sides.items():
        for row in rows:
            seen[row["group"]].add(side)
    return sorted(group for group, on_sides in seen.items() if len(on_sides) > 1)
