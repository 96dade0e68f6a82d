"""Parts of the held-out rows, by what the rows say of themselves.

- `group`: what rows share (a database, a document); rows without one are by themselves.
- `kind`: `query` (asks a database), `class` (has a label), `answer` (has a question), `text`.
- `hardness`: of the reference query, as `retune.sql.hardness` rates it.
- `language`: of the question, or of the answer where there is none, as the report on the rows finds
  it; short texts have none.
- `label`: the row's class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from retune.data.tables import iterate_rows
from retune.recipe.sections.release import SliceName
from retune.records import SideRef

_COLUMNS = ("row_id", "group", "db_id", "label", "question", "answer")

Row = dict[str, Any]
Parts = dict[str, frozenset[str]]
"""Ids of the rows of each part, by its name, sorted."""


def part_rows(side: SideRef, slices: Sequence[SliceName], dialect: str) -> dict[str, Parts]:
    """Part held-out rows by each of some properties.

    Args:
        side: The rows.
        slices: The properties.
        dialect: Of the reference queries.

    Returns:
        The parts by property; none where no row has it.
    """
    rows = list(read_parted_rows(side)) if slices else []
    return {name: _part(rows, _reader(name, dialect)) for name in slices}


def read_parted_rows(side: SideRef) -> Iterator[Row]:
    """Yield held-out rows with what they can be parted by."""
    return iterate_rows(side.folder / "rows.parquet", _COLUMNS)


def _part(rows: Sequence[Row], read: Callable[[Row], str | None]) -> Parts:
    found: dict[str, set[str]] = {}
    for row in rows:
        name = read(row)
        if name is not None:
            found.setdefault(name, set()).add(row["row_id"])
    return {name: frozenset(found[name]) for name in sorted(found)}


def _reader(name: SliceName, dialect: str) -> Callable[[Row], str | None]:
    if name == "hardness":
        from retune.sql.hardness import rate_hardness

        return lambda row: (
            None if row["db_id"] is None else rate_hardness(row["answer"], dialect=dialect)
        )
    if name == "language":
        from retune.data.quality.languages import UNDETERMINED, LanguageFinder

        finder = LanguageFinder()

        def find_language(row: Row) -> str | None:
            code = finder.find(row["question"] or row["answer"] or "")
            return None if code == UNDETERMINED else code

        return find_language
    if name == "kind":
        return _kind_of
    return lambda row: row[name]


def is_answered(row: Row) -> bool:
    """Say whether a row is answered in free text."""
    return _kind_of(row) == "answer"


def _kind_of(row: Row) -> str:
    if row["db_id"] is not None:
        return "query"
    if row["label"] is not None:
        return "class"
    return "answer" if row["question"] else "text"
