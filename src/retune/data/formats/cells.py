"""Texts of a row by the role that they have, whatever their keys are called."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from retune.data.formats.names import NAMES, keys_for
from retune.errors import DataError
from retune.recipe.sections.data import ColumnsConfig, FormatName

Row = Mapping[str, Any]

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
_SHOWN_NAMES = 4
TEXT_ROLES = (
    *("question", "context", "answer", "references", "messages", "system", "history"),
    *("thinking", "tools"),
)
"""Roles of what a model reads or writes: no key has two of them."""
_BESIDE_ROLES = ("system", "history", "thinking", "tools", "references")
_NOTHING = frozenset({"[]", "{}", "null", "none", "nan"})
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
        ignore: Keys that are passed over in turns; of rows they are taken out before.
    """

    format: FormatName
    columns: ColumnsConfig
    ignore: frozenset[str] = frozenset()

    def key(self, row: Row, role: str) -> str | None:
        """Return the key that holds a role in a row.

        Args:
            row: The row.
            role: Field of `ColumnsConfig`.

        Returns:
            The key that the recipe states, else the first known one that is filled, else the first
            known one; None where the row has none of them.
        """
        stated: str | None = getattr(self.columns, role, None)
        if stated is not None:
            return stated if stated in row else None
        keys = self._known_keys(row, role)
        return next((key for key in keys if _is_usable(row[key])), keys[0] if keys else None)

    def rivals(self, row: Row, role: str) -> tuple[str, ...]:
        """Return the keys that could all hold a role, where a row has several that differ.

        Args:
            row: The row.
            role: Field of `ColumnsConfig`.

        Returns:
            Two keys or more; none where the recipe states the key, or one can be meant only.
        """
        if getattr(self.columns, role, None) is not None:
            return ()
        keys = self._known_keys(row, role)
        if len(keys) < 2:
            return ()
        filled = [key for key in keys if _is_usable(row[key])]
        if role in _BESIDE_ROLES:
            filled = [key for key in filled if not says_nothing(row[key])]
        if not filled:
            return ()
        differ = [key for key in filled[1:] if row[key] != row[filled[0]]]
        return (filled[0], *differ) if differ else ()

    def _known_keys(self, row: Row, role: str) -> tuple[str, ...]:
        keys = keys_for(NAMES[self.format].get(role, ()), tuple(row))
        if not keys:
            return keys
        return tuple(key for key in keys if key not in self._taken)

    @cached_property
    def _taken(self) -> frozenset[str | None]:
        return frozenset(getattr(self.columns, role) for role in TEXT_ROLES)

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
        wanted = getattr(self.columns, role)
        raise DataError(
            f"no column {repr(wanted) if wanted else name_some(NAMES[self.format].get(role, ()))}; "
            f"the row has {name_keys(row)}. "
            f"Set data.columns.{role} to the key that holds the {role.replace('_', ' ')}"
        )

    def value_or_none(self, row: Row, role: str) -> tuple[str, Any] | None:
        """Return key and value of a role that a row may lack.

        Args:
            row: The row.
            role: Field of `ColumnsConfig`.

        Returns:
            The key and what stands there; None where nothing does.

        Raises:
            DataError: Several keys could hold it, and differ.
        """
        key = self.key(row, role)
        if key is None or is_blank(row[key]) or (role in _BESIDE_ROLES and says_nothing(row[key])):
            return None
        refuse_rivals(role, self.rivals(row, role))
        return key, row[key]

    def has(self, row: Row, role: str) -> bool:
        """Say whether a row has something in a role."""
        key = self.key(row, role)
        return key is not None and not is_blank(row[key])

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
        found = self.value_or_none(row, role)
        return "" if found is None else as_text(*found)


def is_blank(value: Any) -> bool:
    """Say whether a value holds nothing: null, no number, a blank text, an empty list or object."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, float):
        return value != value  # pandas writes what is missing as "not a number".
    return value is None or (isinstance(value, list | dict) and not value)


def says_nothing(value: Any) -> bool:
    """Say whether a value holds nothing, or is the word that a table writes for it."""
    # CSV files have an empty list as its JSON, and nothing as one of these words.
    return is_blank(value) or (isinstance(value, str) and value.strip().lower() in _NOTHING)


def _is_usable(value: Any) -> bool:
    # Sets of queries keep the parsed query, an object, beside its text.
    return not is_blank(value) and not isinstance(value, dict)


def refuse_rivals(role: str, keys: tuple[str, ...]) -> None:
    """Refuse a row of which several keys could hold a role.

    Args:
        role: Field of `ColumnsConfig`.
        keys: What `Cells.rivals` found.

    Raises:
        DataError: There are some.
    """
    if keys:
        listed = " and ".join(map(ascii_of, keys))
        raise DataError(
            f"{listed} could each be the {role} of the row, and differ: name the right one in "
            f"data.columns.{role}, and put the other in data.ignore"
        )


def name_some(names: tuple[str, ...]) -> str:
    """List names that are looked for, the first ones of many."""
    more = " or another name of docs/data.md" if len(names) > _SHOWN_NAMES else ""
    return " or ".join(map(repr, names[:_SHOWN_NAMES])) + more


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
        said = f"{ascii_of(key)} holds mixed types: expected text, found {kind_of(value)}"
        if isinstance(value, bool):
            said += (
                ". Write it as a word; a column of true and false that is the class of its rows is "
                "read with format: text_label, the columns named under data.columns"
            )
        raise DataError(said)
    if "\0" in value:
        raise DataError(f"{ascii_of(key)} holds a NUL character, not text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{ascii_of(key)} holds a lone surrogate ({ascii_of(value[error.start])}), not text"
        ) from error
    return value


def answers_of(value: Any) -> Any:
    """Return an answer, or the list of several that are right, also as SQuAD keeps them.

    Args:
        value: A text; a list; ``{"text": [...], "answer_start": [...]}``, also in a
            text; or anything else.

    Returns:
        The list; what is none, as it stands.
    """
    if isinstance(value, str) and value.lstrip().startswith("{") and "answer_start" in value:
        value = python_value(value.strip()) or value
    if isinstance(value, Mapping) and "answer_start" in value:
        texts = value.get("text")
        return texts if isinstance(texts, list) else value
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
        found = python_value(value.strip())
        return found if isinstance(found, list) else value


def python_value(text: str) -> list[Any] | dict[Any, Any] | None:
    """Read a list or an object of plain values as Python prints it; None where it is none.

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
    return found if isinstance(found, list | dict) else None


def as_json(what: str, value: Any) -> str:
    """Write a value as JSON text.

    Args:
        what: What it is, for messages.
        value: Anything that was read from JSON or Parquet.

    Returns:
        The JSON, on one line.

    Raises:
        DataError: It cannot be written: no JSON, too deep, or not printable as UTF-8.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{what} cannot be written as JSON ({error})") from error
    return as_text(what, text)
