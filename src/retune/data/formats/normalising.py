"""Rows of any layout, brought to `ROW_SCHEMA`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from retune.data.formats.cells import Cells, Row
from retune.data.formats.marks import check_row
from retune.data.formats.meanings import meanings_of_row
from retune.data.formats.names import NAMES, fold_name
from retune.data.formats.pairs import (
    read_instruction,
    read_text,
    read_text_label,
    read_text_to_sql,
)
from retune.data.formats.references import read_references
from retune.data.formats.turns import (
    read_harmony,
    read_messages,
    read_prompt_completion,
)
from retune.recipe.sections.data import ColumnsConfig, FormatName

_READERS: dict[FormatName, Callable[[Row, Cells], dict[str, Any]]] = {
    "messages": read_messages,
    "conversations": read_messages,
    "instruction": read_instruction,
    "prompt_completion": read_prompt_completion,
    "text": read_text,
    "harmony": read_harmony,
}


class Normal(NamedTuple):
    """A row in the one layout, and the SQL of the database that it brought along."""

    fields: dict[str, Any]
    context: str | None


@dataclass(frozen=True)
class Layout:
    """How rows of a source are read.

    Attributes:
        format: Their layout.
        columns: Which key holds what.
        labels: Names of the classes, for text_label.
        databases: Names that rows may ask about, for text_to_sql; None where rows bring their own.
        ignore: Keys that are passed over, whatever they mean.
    """

    format: FormatName
    columns: ColumnsConfig
    labels: tuple[str, ...] | None = None
    databases: frozenset[str] | None = None
    ignore: frozenset[str] = frozenset()

    @cached_property
    def cells(self) -> Cells:
        """The reader of its texts."""
        return Cells(self.format, self.columns, self.ignore)

    @cached_property
    def stated(self) -> frozenset[str]:
        """Keys that the recipe gives a role, whatever else they would mean."""
        return frozenset(key for _, key in self.columns if key)

    def seen(self, row: Row) -> Row:
        """Return a row without what the recipe passes over."""
        return without(row, self.ignore)

    def uses(self, key: str) -> str | None:
        """Return what a key is used as: a role, or a mark of the row; None where it is not used."""
        for role, stated in self.columns:
            names = () if stated else NAMES[self.format].get(role, ())
            if key == stated or fold_name(key) in names:
                return role
        marks = (meaning for _, meaning in meanings_of_row((key,), self.format))
        return "mark" if any(mark.reading != "refused" for mark in marks) else None

    def normalise(self, row: Row) -> Normal:
        """Bring a row to the one layout.

        Args:
            row: The row as it stands in its source.

        Returns:
            Its fields but for file and line.

        Raises:
            DataError: The row is not what the layout says; the message is the reason alone.
        """
        row = self.seen(row)
        check_row(row, self.format, self.stated)
        fields, context = self._read(row)
        named = {
            role: self.cells.text(row, role) if getattr(self.columns, role) else None
            for role in ("row_id", "group")
        }
        fields["references"] = read_references(row, self.cells, fields)
        empty: dict[str, Any] = {
            "history": [],
            "context": "",
            "steps": [],
            "thinking": None,
            "calls": None,
            "learned": None,
            "tools": None,
            "repaired": False,
            "label": None,
            "db_id": None,
        }
        return Normal({**named, **empty, **fields}, context)

    def _read(self, row: Row) -> tuple[dict[str, Any], str | None]:
        if self.format == "text_to_sql":
            return read_text_to_sql(row, self.cells, self.databases)
        if self.format == "text_label":
            return read_text_label(row, self.cells, self.labels), None
        return _READERS[self.format](row, self.cells), None


def without(row: Row, ignore: frozenset[str]) -> Row:
    """Return a row without the keys that are passed over."""
    return {key: value for key, value in row.items() if key not in ignore} if ignore else row
