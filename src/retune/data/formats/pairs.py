"""Rows that are one question and one answer: instructions, plain text, labels, queries."""

from __future__ import annotations

import difflib
import hashlib
from typing import Any

from retune.data.formats.beside import read_beside
from retune.data.formats.cells import Cells, Row, answers_of, as_text, ascii_of, is_blank
from retune.data.formats.labels import label_name
from retune.data.formats.references import texts_of
from retune.data.formats.tool_calls import are_calls, read_calls, write_calls
from retune.errors import DataError

Fields = dict[str, Any]


def read_instruction(row: Row, cells: Cells) -> Fields:
    """Read an instruction, its input where there is one, and the response.

    Example:
        `{"instruction": "Translate.", "input": "bom dia", "output": "good morning"}` has the
        question `Translate.`, the context `bom dia` and the answer `good morning`. Of a list of
        answers the first one is learned, and all are right.
    """
    beside = read_beside(row, cells)
    asked = {
        **beside.fields(),
        "question": cells.text(row, "question"),
        "context": cells.text_or_empty(row, "context"),
    }
    key, value = cells.value(row, "answer")
    if beside.tools is not None and are_calls(value):
        # Rows of one question, its tools and the calls that answer it (xLAM) have no words.
        return {**asked, "answer": "", "calls": write_calls(read_calls(value, 2), 2)}
    right = answers_of(value)
    if isinstance(right, list):
        texts = texts_of(key, [each for each in right if not is_blank(each)])
        return {**asked, "answer": as_text(key, texts[0] if texts else None), "references": texts}
    return {**asked, "answer": as_text(key, right)}


def read_text(row: Row, cells: Cells) -> Fields:
    """Read plain text, all of which is learned.

    Example:
        `{"text": "Era uma vez."}` has no question, and the answer `Era uma vez.`
    """
    return {"question": "", "answer": cells.text(row, "answer")}


def read_text_label(row: Row, cells: Cells, labels: tuple[str, ...] | None) -> Fields:
    """Read a text and its class, a name or (with `labels`) the number of one.

    Example:
        `{"text": "Que filme!", "label": 1}` with the labels `negativo`, `positivo` has the question
        `Que filme!`, and answer and label `positivo`.
    """
    label = label_name(*cells.value(row, "answer"), labels)
    return {
        **read_beside(row, cells).fields(),
        "question": cells.text(row, "question"),
        "context": cells.text_or_empty(row, "context"),
        "answer": label,
        "label": label,
    }


def read_text_to_sql(
    row: Row, cells: Cells, databases: frozenset[str] | None
) -> tuple[Fields, str | None]:
    """Read a question and its query.

    Args:
        row: The row.
        cells: Its keys.
        databases: Names that the row may ask about; None where rows bring their own database. A
            row that names none may bring one all the same.

    Returns:
        The fields, and the SQL that makes the row's own database.

    Raises:
        DataError: A text is missing, or the database is not known.

    Example:
        `{"question": "How many?", "query": "SELECT count(*) FROM t", "db_id": "shop"}`; or, with
        its own database, `{"sql_prompt": "How many?", "sql_context": "CREATE TABLE t (a);",
        "sql": "SELECT count(*) FROM t"}`.
    """
    fields = {
        **read_beside(row, cells).fields(),
        "question": cells.text(row, "question"),
        "answer": cells.text(row, "answer"),
    }
    brings = not cells.has(row, "database") and cells.has(row, "context")
    if databases is None or brings:
        context = cells.text(row, "context")
        # Enough digits that two databases of one set are never taken for each other.
        name = hashlib.sha256(context.encode("utf-8")).hexdigest()[:16]
        return {**fields, "db_id": name}, context
    name = cells.text(row, "database")
    if name not in databases:
        near = difflib.get_close_matches(name, databases, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise DataError(
            f"asks about the database {ascii_of(name):.80}, which data.databases does not hold"
            f"{hint}; add it there or correct the row"
        )
    return {**fields, "db_id": name}, None
