"""The class of a row: a name, the number of one, a truth value, or a list of one of them."""

from __future__ import annotations

import re
from typing import Any

from retune.data.formats.cells import as_list, as_text, ascii_of, is_blank, kind_of
from retune.errors import DataError

_SHOWN_LABELS = 20
_TRUTH = ("false", "true")
_WHOLE = re.compile(r"(\d+)\.0+")


def label_name(key: str, value: Any, labels: tuple[str, ...] | None) -> str:
    """Return the name of a row's class.

    Args:
        key: Where it stands, for messages.
        value: What stands there.
        labels: Names of the classes (`data.labels`); None for the labels as they stand.

    Returns:
        The name. Without `labels` a number is its digits (1.0, as pandas writes whole numbers, is
        1), and a truth value is `true` or `false`. With two `labels` false is the first one.

    Raises:
        DataError: There is none, there are several, or it is none of `labels`.

    Example:
        >>> label_name("label", "1.0", None), label_name("label", 1, ("negativo", "positivo"))
        ('1', 'positivo')
    """
    written = _written(key, value)
    if labels is not None and written in labels:
        return written
    whole = _WHOLE.fullmatch(written)
    number = whole.group(1) if whole else written
    if labels is None:
        return number
    if number.isascii() and number.isdecimal() and len(number) < 10 and int(number) < len(labels):
        return labels[int(number)]
    if written.lower() in _TRUTH and len(labels) == len(_TRUTH):
        return labels[_TRUTH.index(written.lower())]
    more = ", ..." if len(labels) > _SHOWN_LABELS else ""
    known = ", ".join(map(repr, labels[:_SHOWN_LABELS])) + more
    raise DataError(f"the label {ascii_of(written):.60} is none of data.labels ({known})")


def _written(key: str, value: Any) -> str:
    value = as_list(value)
    if isinstance(value, list):
        if len(value) != 1:
            raise DataError(
                f"{ascii_of(key)} holds {len(value)} labels: expected one class per row (several, "
                "or none, are not supported)"
            )
        value = value[0]
    if isinstance(value, bool):
        return _TRUTH[value]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, float) and not is_blank(value):
        raise DataError(
            f"{ascii_of(key)} is no class: expected a name or a whole number, found number {value} "
            "(what is measured on a scale is not supported)"
        )
    if isinstance(value, float):
        value = None
    if not isinstance(value, int | str | None):
        raise DataError(
            f"{ascii_of(key)} holds mixed types: expected a label's name or number, found "
            f"{kind_of(value)}"
        )
    return as_text(key, value).strip()
