"""Telling the layout of rows from one of them.

The first line that fits decides. "Has" means: under the key that the recipe states for the role,
else under one of the layout's own names (`NAMES`).

| layout            | a row that                                                                   |
|-------------------|------------------------------------------------------------------------------|
| messages          | has a list of turns with `role` (not under `conversations`)                  |
| conversations     | has a list of turns with `from`, or under `conversations` with `role`        |
| harmony           | has a text with `<|start|>` and `<|message|>` as `text` or answer            |
| text_to_sql       | has question and answer, and one of: a database's name (`db_id`) with        |
|                   | `data.databases` or SQL names (`sql`, `query`); a context with CREATE TABLE  |
| text_label        | has text and label, under names that these have (or `data.labels` is given), |
|                   | the labels are short, and no other key is an answer's; or question and       |
|                   | answer, and every answer is true or false                                    |
| prompt_completion | has `prompt` and `completion`                                                |
| instruction       | has question and answer                                                      |
| text              | has `text`, or the recipe states an answer alone                             |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from retune.data.formats.cells import Cells, Row, as_list, is_blank, name_some
from retune.data.formats.names import ANSWER_NAMES, CLASS_NAMES, LABEL_NAMES, NAMES, fold_name
from retune.data.formats.turn import CONTENT_KEYS, ROLE_KEYS
from retune.recipe.sections.data import ColumnsConfig, FormatName

FORMATS: tuple[FormatName, ...] = get_args(FormatName)
_LONGEST_LABEL = 60
_ROLES = ("question", "answer", "messages")


@dataclass(frozen=True)
class Look:
    """A row, and what the recipe says of its source.

    Attributes:
        row: The row as it stands in the source.
        columns: Keys that the recipe states.
        labels: Whether `data.labels` is given.
        databases: Whether `data.databases` is given.
        rows: The first rows of the source, this one among them; none: this one alone.
    """

    row: Row
    columns: ColumnsConfig
    labels: bool = False
    databases: bool = False
    rows: tuple[Row, ...] = ()

    def key(self, layout: FormatName, role: str) -> str | None:
        """Return the key that holds a role in the row, if the rows had that layout."""
        return Cells(layout, self.columns).key(self.row, role)

    def value(self, layout: FormatName, role: str) -> Any:
        """Return what stands there; None for nothing."""
        key = self.key(layout, role)
        return None if key is None else self.row[key]

    def has(self, layout: FormatName, *roles: str) -> bool:
        """Say whether all of these roles are there."""
        return all(self.key(layout, role) is not None for role in roles)


def detect_format(look: Look) -> FormatName | None:
    """Tell the layout of a row by the table above.

    Args:
        look: The row.

    Returns:
        The layout; None where no line fits.
    """
    return next((layout for layout, fits in _RULES.items() if fits(look)), None)


def missing_columns(look: Look, layout: FormatName) -> list[str]:
    """List what a row lacks of a layout.

    Args:
        look: The row.
        layout: The layout that the recipe states, or that was detected.

    Returns:
        For each missing role what would have been read, such as ``answer ('output')``.
    """
    missing = (role for role in _required(look, layout) if not look.has(layout, role))
    return [_wanted(look, layout, role) for role in missing]


def fill_columns(look: Look, layout: FormatName) -> ColumnsConfig:
    """State the keys of question, answer and turns as they were found in a row.

    Later rows are then read under the same keys, and one with others is named as bad.

    Args:
        look: A row of the layout.
        layout: The layout.

    Returns:
        The columns that the recipe states, completed.
    """
    found = {role: look.key(layout, role) for role in _ROLES if role in NAMES[layout]}
    return look.columns.model_copy(update={k: v for k, v in found.items() if v is not None})


def _required(look: Look, layout: FormatName) -> list[str]:
    roles = [role for role in NAMES[layout] if role in _ROLES]
    if layout == "text_to_sql":
        names = look.databases and (look.has(layout, "database") or not look.has(layout, "context"))
        roles.append("database" if names else "context")
    return roles


def _wanted(look: Look, layout: FormatName, role: str) -> str:
    stated = getattr(look.columns, role)
    names = repr(stated) if stated else name_some(NAMES[layout].get(role, ()))
    other = " or data.databases" if role == "context" else ""
    return f"{role} ({names}{other})"


def _turns_with(look: Look, layout: FormatName, *keys: str) -> bool:
    turns = as_list(look.value(layout, "messages"))
    first = turns[0] if isinstance(turns, list) and turns else None
    return isinstance(first, dict) and any(first.get(key) is not None for key in keys)


def _is_messages(look: Look) -> bool:
    # A list that is no JSON, or has no roles, is told of row by row, with what is there.
    text = look.value("messages", "messages")
    if look.key("messages", "messages") == "messages" and isinstance(text, str):
        return text.lstrip().startswith("[")
    if _turns_with(look, "messages", "role"):
        return True
    return _turns_with(look, "messages", *CONTENT_KEYS) and not _is_conversation(look)


def _is_conversation(look: Look) -> bool:
    others = [key for key in ROLE_KEYS if key != "role"]
    stated = look.columns.messages is not None
    return _turns_with(look, "conversations", *(others if stated else (*others, "role")))


def _is_harmony(look: Look) -> bool:
    text = look.value("harmony", "answer")
    return isinstance(text, str) and "<|start|>" in text and "<|message|>" in text


def _is_query(look: Look) -> bool:
    if not look.has("text_to_sql", "question", "answer"):
        return False
    own_names = look.key("text_to_sql", "answer") in NAMES["text_to_sql"]["answer"]
    if look.has("text_to_sql", "database") and (look.databases or own_names):
        return True
    context = look.value("text_to_sql", "context")
    return isinstance(context, str) and "create table" in " ".join(context.lower().split())


def _is_labelled(look: Look) -> bool:
    question, answer = look.key("text_label", "question"), look.key("text_label", "answer")
    if question is None or answer is None:
        return False
    if look.labels or _are_truths(look, answer):
        return True
    name = fold_name(answer)
    values = [row.get(answer) for row in look.rows or (look.row,)]
    if not all(map(may_be_label, values)):
        return False
    if look.columns.answer is None and name not in LABEL_NAMES:
        # A note that nobody made, such as a topic, or one on a scale, such as how toxic it is.
        noted = all(map(is_blank, values)) or any(map(_is_fraction, values))
        if noted or other_answers(look.row):
            return False
    known = fold_name(question) in NAMES["text_label"]["question"]
    return known or name in LABEL_NAMES or name in CLASS_NAMES


def _is_fraction(value: Any) -> bool:
    return isinstance(value, float) and not is_blank(value) and not value.is_integer()


def _are_truths(look: Look, answer: str) -> bool:
    return all(isinstance(row.get(answer), bool) for row in look.rows or (look.row,))


def may_be_label(value: Any) -> bool:
    """Say whether a value is short enough for the name of a class."""
    if isinstance(value, str):
        return len(value) <= _LONGEST_LABEL and "\n" not in value.strip()
    return not isinstance(value, dict)


def other_answers(row: Row) -> list[str]:
    """Return the filled keys of a row that are called as answers are."""
    return [key for key in row if fold_name(key) in ANSWER_NAMES and not is_blank(row[key])]


def _is_completion(look: Look) -> bool:
    keys = [look.key("prompt_completion", role) for role in ("question", "answer")]
    if [fold_name(key) for key in keys if key] == ["prompt", "completion"]:
        return True
    return None not in keys and isinstance(look.value("prompt_completion", "answer"), list)


def _is_text(look: Look) -> bool:
    stated = look.columns
    asks = stated.question or stated.messages
    return not asks and look.has("text", "answer")


_RULES: dict[FormatName, Callable[[Look], bool]] = {
    "messages": _is_messages,
    "conversations": _is_conversation,
    "harmony": _is_harmony,
    "text_to_sql": _is_query,
    "text_label": _is_labelled,
    "prompt_completion": _is_completion,
    "instruction": lambda look: look.has("instruction", "question", "answer"),
    "text": _is_text,
}
