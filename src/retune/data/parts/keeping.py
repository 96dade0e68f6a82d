"""Rows keep the part that they had: held out stays held out, learned is never asked in the test.

Sides are drawn by a hash of a group's name and the seed, so a row moves only when settings, files
or names change. Of an earlier version it is known what each row was. A row whose content was held
out then, and was on no other side at the same time, is not learned now; a row that was learned, or
watched in validation, does not become one of the test. A new row goes with its group, where rows
are grouped and the group was known, and is drawn as always where it was not. What was held out goes
to the test side; where the recipe names the test rows itself (`data.test`), it is left out instead.

Only what would really move is told to the split: none, and the split is what it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from retune.data.parts.row_history import HELD_OUT, LEARNED, Part, RowHistory, read_row_history
from retune.data.parts.splitting import SIDES, draw_side, hash_name
from retune.data.quality.texts import write_hash
from retune.data.schemas import KEPT_SCHEMA
from retune.data.tables import iterate_rows, write_table
from retune.digests import digest_json
from retune.recipe.sections import SplitConfig
from retune.records import CleanRef, Side, Source

_COLUMNS = ("source", "row", "group", "key", "held_out", "folded")


class KeptRow(NamedTuple):
    """A row that goes elsewhere than its name says."""

    source: int
    row: int
    side: Side | None
    """None: on no side."""


class _Row(NamedTuple):
    source: int
    row: int
    content: str
    group: str
    drawn: Side
    named_test: bool


def keep_parts(
    clean: CleanRef, earlier: Path, folder: Path, split: SplitConfig, *, drop_leaked: bool
) -> Source | None:
    """Write down the rows that have to keep the part that they had in an earlier version.

    Args:
        clean: The kept rows.
        earlier: What the rows of that version were, with the columns of `HISTORY_SCHEMA`.
        folder: Where the file goes, under its own digest.
        split: Seed and shares of the sides.
        drop_leaked: Whether copies of test rows are dropped from the other sides anyway.

    Returns:
        The file, with the columns of `KEPT_SCHEMA`; None where no row would move.
    """
    found = find_kept(clean, read_row_history(earlier), split, drop_leaked=drop_leaked)
    if not found:
        return None
    digest = digest_json([list(each) for each in found])
    path = folder / f"{digest[:32]}.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    write_table(path, (each._asdict() for each in found), KEPT_SCHEMA)
    return Source(digest=digest, path=path)


def find_kept(
    clean: CleanRef, history: RowHistory, split: SplitConfig, *, drop_leaked: bool
) -> list[KeptRow]:
    """Return the rows that would move from the part that they had, in the order of the index.

    Args:
        clean: The kept rows.
        history: What rows of an earlier version were.
        split: Seed and shares of the sides.
        drop_leaked: Whether copies of test rows are dropped from the other sides anyway.
    """
    # Twice, since what is held of every row would be more than what is held of the earlier version.
    drawn = _draw_rows(clean, split) if drop_leaked else ()
    drawn_test = {each.content for each in drawn if each.drawn == "test"}
    contents, groups = _roles_of(history.contents), _roles_of(history.groups)
    kept = []
    for each in _draw_rows(clean, split):
        copied = drop_leaked and each.drawn != "test" and each.content in drawn_test
        if each.named_test or copied:
            continue
        by_group = groups.of(each.group) if split.grouped else None
        role = contents.of(each.content) or by_group
        if role == "test" and each.drawn != "test":
            kept.append(KeptRow(each.source, each.row, None if clean.test_rows else "test"))
        elif role in ("train", "validation") and each.drawn == "test":
            kept.append(KeptRow(each.source, each.row, role))
    return kept


class _Roles(NamedTuple):
    test: set[str]
    train: set[str]
    validation: set[str]

    def of(self, name: str) -> Side | None:
        return next((side for side in SIDES if name in getattr(self, side)), None)


def _roles_of(names: Mapping[Part, set[str]]) -> _Roles:
    def either(parts: Iterable[Part]) -> set[str]:
        return set().union(*(names.get(part, set()) for part in parts))

    # What a recipe had on two sides at once, it may have there again.
    test, train, validation = either(HELD_OUT), either(LEARNED), either(("validation",))
    return _Roles(test - train - validation, train - test, validation - test - train)


def _draw_rows(clean: CleanRef, split: SplitConfig) -> Iterator[_Row]:
    for row in iterate_rows(clean.folder / "index.parquet", _COLUMNS):
        named_test = bool(row["held_out"])
        yield _Row(
            source=row["source"],
            row=row["row"],
            content=write_hash(row["folded"]),
            group=write_hash(hash_name(row["group"])),
            drawn="test" if named_test else draw_side(row, split, fixed=clean.test_rows > 0),
            named_test=named_test,
        )
