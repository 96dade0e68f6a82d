"""What part each row had in a version of a model, and in the versions before it.

A row is known by what it asks, folded, together with its database, and by its group: not by its
name or its place, which change with files.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from retune.data.parts.splitting import SIDES, hash_name
from retune.data.quality.texts import write_hash
from retune.data.schemas import HISTORY_SCHEMA
from retune.data.tables import iterate_rows, write_table
from retune.errors import ArtifactError
from retune.records import CleanRef, SplitRef

Part = Literal["train", "validation", "test", "left_out", "held_out", "learned"]

LEARNED: tuple[Part, ...] = ("train", "learned")
HELD_OUT: tuple[Part, ...] = ("test", "held_out")
_CARRIED: dict[Part, tuple[Part, ...]] = {"held_out": HELD_OUT, "learned": LEARNED}
_PLACE = ("source", "row")


@dataclass
class RowHistory:
    """Contents and groups of rows by the part that they had."""

    contents: defaultdict[Part, set[str]] = field(default_factory=lambda: defaultdict(set))
    groups: defaultdict[Part, set[str]] = field(default_factory=lambda: defaultdict(set))


def read_row_history(path: Path) -> RowHistory:
    """Read which rows had which part.

    Args:
        path: A file with the columns of `HISTORY_SCHEMA`.
    """
    history = RowHistory()
    for row in iterate_rows(path, ("side", "content", "group")):
        history.contents[row["side"]].add(row["content"])
        history.groups[row["side"]].add(row["group"])
    return history


def write_row_history(path: Path, clean: CleanRef, split: SplitRef, earlier: Path | None) -> None:
    """Write which part every row has, and which the rows of earlier versions had.

    Args:
        path: The file to write, with the columns of `HISTORY_SCHEMA`.
        clean: The kept rows.
        split: Their sides.
        earlier: The same file of the version before; None where there is none.

    Raises:
        ArtifactError: A side holds rows that are not among the kept ones.
    """
    write_table(path, _history_rows(clean, split, earlier), HISTORY_SCHEMA)


def digest_row_history(path: Path) -> tuple[str, dict[Part, tuple[int, str]]]:
    """Return digests of rows, which do not depend on how the file was written.

    Args:
        path: A file with the columns of `HISTORY_SCHEMA`.

    Returns:
        sha256 (hex) of all of it, and of each part how many rows it has and theirs.
    """
    whole = hashlib.sha256()
    parts: dict[Part, Any] = {}
    rows: dict[Part, int] = defaultdict(int)
    for row in iterate_rows(path):
        line = "\t".join(row[name] for name in HISTORY_SCHEMA.names).encode() + b"\n"
        whole.update(line)
        parts.setdefault(row["side"], hashlib.sha256()).update(line)
        rows[row["side"]] += 1
    return whole.hexdigest(), {part: (rows[part], each.hexdigest()) for part, each in parts.items()}


def _history_rows(
    clean: CleanRef, split: SplitRef, earlier: Path | None
) -> Iterator[dict[str, str]]:
    # Sides are in the order of the index: the next row of each is all that has to be known.
    sides = {side: _places_of(split.folder / f"{side}.parquet") for side in SIDES}
    heads = {side: next(places, None) for side, places in sides.items()}
    present: dict[str, set[str]] = {"test": set(), "train": set()}
    columns = (*_PLACE, "row_id", "group", "folded")
    for row in iterate_rows(clean.folder / "index.parquet", columns):
        place = (row["source"], row["row"])
        side = next((each for each, head in heads.items() if head == place), "left_out")
        if side in sides:
            heads[side] = next(sides[side], None)
        content = write_hash(row["folded"])
        if earlier is not None:
            present.setdefault(side, set()).add(content)
        group = write_hash(hash_name(row["group"]))
        yield {"side": side, "row_id": row["row_id"], "content": content, "group": group}
    left = [side for side, head in heads.items() if head is not None]
    if left:
        raise ArtifactError(
            f"{split.folder}: rows of {' and '.join(left)} are not in "
            f"{clean.folder}/index.parquet, or stand in another order there. Delete both folders "
            "and run the recipe again."
        )
    if earlier is None:
        return
    for carried, parts in _CARRIED.items():
        there = present[parts[0]]
        for row in iterate_rows(earlier):
            if row["side"] in parts and row["content"] not in there:
                yield {**row, "side": carried}


def _places_of(path: Path) -> Iterator[tuple[int, int]]:
    for row in iterate_rows(path, _PLACE):
        yield row["source"], row["row"]
