"""Rows of any keys and types: reading them ends in a row or in a `DataError`, never otherwise."""

from __future__ import annotations

import random
from typing import Any

from retune.data.formats.classes import find_labels, refuse_doubt
from retune.data.formats.detecting import FORMATS, Look, detect_format, fill_columns
from retune.data.formats.meanings import MEANINGS
from retune.data.formats.names import NAMES
from retune.data.formats.normalising import Layout
from retune.data.formats.preferences import read_pair
from retune.data.formats.turn import CONTENT_KEYS, ROLE_KEYS, ROLES
from retune.errors import DataError
from retune.recipe.sections.data import ColumnsConfig

_ROWS = 8200
_KEYS = sorted(
    {name for names in NAMES.values() for known in names.values() for name in known}
    | {name for meaning in MEANINGS for name in meaning.names}
    | {"tool_calls", "function_call", "tool_call_id", "name", "channel", "kind", "Rótulo", "", "é"}
)
_TEXTS = (
    "Quantos?", "", " ", "\0", "a\ud800", "{", "[", "[]", "[1, 2]", '[{"role": "user"}]', "true",
    "1.0", "<image>", "<tool_call>{}</tool_call>", '{"name": "f", "arguments": {"x": 1}}',
    "<|start|>user<|message|>q<|end|>", "x" * 5000, "CREATE TABLE t (a)", "\n\nHuman: a", "bom",
    "[" * 3000,
)  # fmt: skip


def _scalar(draw: random.Random) -> Any:
    numbers = (0, 1, -1, 0.5, 1.0, 10**300, float("nan"), float("inf"), True, False, None)
    return draw.choice(_TEXTS) if draw.random() < 0.6 else draw.choice(numbers)


def _value(draw: random.Random, depth: int = 0) -> Any:
    kind = draw.random()
    if depth > 3 or kind < 0.5:
        return _scalar(draw)
    if kind < 0.75:
        return [_value(draw, depth + 1) for _ in range(draw.randint(0, 3))]
    return {draw.choice(_KEYS): _value(draw, depth + 1) for _ in range(draw.randint(0, 3))}


def _turn(draw: random.Random) -> Any:
    if draw.random() < 0.05:
        return _value(draw)
    turn = {
        draw.choice(ROLE_KEYS): draw.choice([*ROLES, "User", "elf", None]),
        draw.choice(CONTENT_KEYS): _scalar(draw) if draw.random() < 0.8 else _value(draw),
    }
    if draw.random() < 0.3:
        turn[draw.choice(_KEYS)] = _value(draw)
    if draw.random() < 0.1:
        turn["tool_calls"] = [{"id": "1", "function": {"name": "f", "arguments": _value(draw)}}]
    return turn


def _row(draw: random.Random) -> dict[str, Any]:
    row: dict[str, Any] = {}
    layout = draw.choice(FORMATS)
    for role, names in NAMES[layout].items():
        if role == "messages" or draw.random() < 0.05:
            row[draw.choice(names)] = [_turn(draw) for _ in range(draw.randint(0, 6))]
        elif draw.random() < 0.8:
            row[draw.choice(names)] = _scalar(draw)
    for _ in range(draw.randint(0, 3)):
        row[draw.choice(_KEYS)] = _value(draw)
    if draw.random() < 0.2:
        row |= {key: _scalar(draw) for key in ("prompt", "chosen", "rejected")}
    if draw.random() < 0.2:
        row |= {key: [_turn(draw) for _ in range(3)] for key in ("chosen", "rejected")}
    return row


def test_no_row_ends_a_reading() -> None:
    """Mixtures of every known key with every type, read by their own and by any other layout.

    More than 100 of them come out as rows and as pairs, so that the draw is no heap of refusals.
    """
    draw = random.Random(20)
    labels = ("bom", "ruim")
    read = pairs = 0
    for _ in range(_ROWS):
        row = _row(draw)
        stated = draw.choice([None, None, *FORMATS])
        try:
            columns = find_labels((row,), ColumnsConfig(), labels)
            look = Look(row, columns, labels=draw.random() < 0.2, rows=(row,))
            layout = stated or detect_format(look)
            if layout is not None:
                columns = fill_columns(look, layout)
                fields = Layout(layout, columns, draw.choice([labels, None])).normalise(row).fields
                assert isinstance(fields["question"] + fields["answer"], str)
                read += 1
                refuse_doubt(look, layout, stated=stated is not None)
        except DataError as error:
            error.message.encode("utf-8")
        try:
            read_pair(row)
            pairs += 1
        except DataError as error:
            error.message.encode("utf-8")
    assert read > 100
    assert pairs > 10
