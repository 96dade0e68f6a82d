"""Texts of a row by the role that they have, whatever their keys are called."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retune.errors import DataError
from retune.recipe.sections.data import ColumnsConfig, FormatName

Row = Mapping[str, Any]

NAMES: dict[FormatName, dict[str, tuple[str, ...]]] = {
    "messages": {"messages": ("messages",)},
    "conversations": {"messages": ("conversations", "conversation")},
    "instruction": {
        "question": ("instruction", "question"),
        "context": ("input", "context"),
        "answer": ("output", "response", "answer"),
    },
    "prompt_completion": {"question": ("prompt",), "answer": ("completion",)},
    "text": {"answer": ("text",)},
    "text_label": {"question": ("text", "sentence"), "answer": ("label",)},
    "text_to_sql": {
        "question": ("sql_prompt", "question"),
        "context": ("sql_context", "context"),
        "answer": ("sql", "query"),
        "database": ("db_id",),
    },
    "harmony": {"answer": ("text",)},
}
"""Keys by role that each layout looks for, the first one that a row has; a recipe may name others.
"""

_KINDS = {
    str: "text",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
    dict: "object",
    list: "list",
}
_SHOWN_KEYS = 20
_LONGEST_LITERAL = 1_000_000


def kind_of(value: Any) -> str:
    """Name the JSON type of a value."""
    return _KINDS.get(type(value), type(value).__name__)


def name_keys(row: Row) -> str:
    """List the keys of a row for a message that can be printed."""
    keys = sorted(map(ascii_of, row))
    more = f" and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
    return (", ".join(keys[:_SHOWN_KEYS]) or "none") + more


def ascii_of(text: Any) -> str:
    """Quote a text for a message; what cannot be printed is written as an escape."""
    return repr(text).encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True)
class Cells:
    """Reads a row's texts by role.

    Attributes:
        format: Layout of the rows.
        columns: What the recipe says of keys.
    """

    format: FormatName
    columns: ColumnsConfig

    def key(self, row: Row, role: str) -> str | None:
        """Return the key that holds a role in a row; None where the row has none of those known."""
        stated: str | None = getattr(self.columns, role, None)
        if stated is not None:
            return stated if stated in row else None
        names = NAMES[self.format].get(role, ())
        return next((name for name in names if name in row), None)

    def value(self, row: Row, role: str) -> tuple[str, Any]:
        """Return key and value of a role that the row must have.

        Args:
            row: The row.
            role: Field of `ColumnsConfig`.

        Returns:
            The key and what stands there.

        Raises:
            DataError: The row has no such key.
        """
        key = self.key(row, role)
        if key is not None:
            return key, row[key]
        names = NAMES[self.format].get(role, ())
        wanted = getattr(self.columns, role) or " or ".join(names)
        raise DataError(
            f"no column {wanted!r}; the row has {name_keys(row)}. "
            f"Set data.columns.{role} to the key that holds the {role.replace('_', ' ')}"
        )

    def text(self, row: Row, role: str) -> str:
        """Return a text that the row must have.

        Args:
            row: The row.
            role: Field of `ColumnsConfig`.

        Returns:
            The text; an integer becomes its digits.

        Raises:
            DataError: There is no such key, or no text in it.
        """
        return as_text(*self.value(row, role))

    def text_or_empty(self, row: Row, role: str) -> str:
        """Return a text that the row may lack; empty where it does.

        Args:
            row: The row.
            role: Field of `ColumnsConfig`.

        Returns:
            The text.

        Raises:
            DataError: What stands there is no text.
        """
        key = self.key(row, role)
        value = None if key is None else row[key]
        if key is None or value is None or (isinstance(value, str) and not value.strip()):
            return ""
        return as_text(key, value)


def as_text(key: str, value: Any) -> str:
    """Return a value as the text that it must be.

    Args:
        key: Where it stands, for messages.
        value: Text, or an integer.

    Returns:
        The text as it stands.

    Raises:
        DataError: It is empty, of another type, or not printable as UTF-8.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise DataError(f"{ascii_of(key)} is empty: expected text")
    if not isinstance(value, str):
        raise DataError(f"{ascii_of(key)} holds mixed types: expected text, found {kind_of(value)}")
    if "\0" in value:
        raise DataError(f"{ascii_of(key)} holds a NUL character, not text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{ascii_of(key)} holds a lone surrogate ({ascii_of(value[error.start])}), not text"
        ) from error
    return value


def as_list(value: Any) -> Any:
    """Return a list, also one that stands in a text, as tables have it.

    Args:
        value: A list; or a text that is one in JSON, or as Python prints it.

    Returns:
        The list; what is none, or cannot be read, as it stands.
    """
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        found = _python_list(value.strip())
        return value if found is None else found


def _python_list(text: str) -> list[Any] | None:
    """Read a list of plain values as Python prints it; None where it is none.

    Nothing is run: only texts, numbers, lists, objects, None, True and False are read.
    """
    if len(text) > _LONGEST_LITERAL:
        return None
    with warnings.catch_warnings():
        # A backslash that is meant as such is a warning of the parser.
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    return found if isinstance(found, list) else None
