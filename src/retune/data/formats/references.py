"""Several right answers of one row: the one that is learned, and others that are accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retune.data.formats.cells import Cells, Row, as_list, as_text, ascii_of, kind_of
from retune.errors import DataError


def read_references(row: Row, cells: Cells, fields: Mapping[str, Any]) -> list[str] | None:
    """Return all that a row accepts as its answer.

    Args:
        row: The row.
        cells: Its keys.
        fields: What was read of it: `answer`, and `references` where the answer itself is a list.

    Returns:
        The answer that is learned, then the others; None where it is the only one.

    Raises:
        DataError: The key of references holds no list of texts.

    Example:
        `{"question": "Capital do Brasil?", "answer": "Brasília", "reference_answers": ["Brasília",
        "Brasília, DF"]}` accepts `Brasília` and `Brasília, DF`.
    """
    found = list(fields.get("references") or ())
    beside = cells.value_or_none(row, "references")
    if beside is not None:
        found += texts_of(*beside)
    if not found or not fields["answer"]:
        return None
    accepted = list(dict.fromkeys((fields["answer"], *found)))
    return accepted if len(accepted) > 1 else None


def texts_of(key: str, value: Any) -> list[str]:
    """Return a list of texts, also one that stands in a text.

    Args:
        key: Where it stands, for messages.
        value: The list.

    Raises:
        DataError: It is no list, or holds anything but texts.
    """
    listed = as_list(value)
    if not isinstance(listed, list):
        raise DataError(
            f"{ascii_of(key)} is {kind_of(listed)}: expected a list of texts, each of which is a "
            f"right answer, or write data.ignore: [{ascii_of(key)[1:-1]}] to pass over it"
        )
    kinds = sorted({kind_of(each) for each in listed} - {"text"})
    if kinds:
        raise DataError(
            f"{ascii_of(key)} mixes kinds: expected texts alone, each of which is a right answer, "
            f"found also {', '.join(kinds)}"
        )
    return [as_text(key, each) for each in listed]
