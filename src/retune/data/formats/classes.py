"""Which column holds what, looked for in the first rows; what two could hold is refused.

A text beside classes must not be learned as plain text only because its labels have another name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from retune.data.formats.cells import TEXT_ROLES, Cells, Row, ascii_of, is_blank, refuse_rivals
from retune.data.formats.detecting import Look, other_answers
from retune.data.formats.names import CLASS_NAMES, LABEL_NAMES, NAMES, fold_name, keys_for
from retune.errors import DataError
from retune.recipe.sections.data import ColumnsConfig, FormatName

_LONGEST_CLASS = 40
_LEAST_ROWS = 4
_FEW = 3
"""A column looks like classes where each of its values stands in this many rows on average."""
_ABOUT_THE_TEXT = frozenset({
    "id", "source", "url", "uri", "link", "date", "year", "month", "language", "lang",
    "dataset", "subset", "split", "doc", "document_id", "page", "title", "author", "license",
    "group", "domain", "site", "host", "file", "filename", "path", "section", "heading",
    "chapter", "timestamp", "time", "created", "created_at", "updated_at", "crawl", "dump",
    "version", "length", "tokens", "token_count", "n_tokens", "word_count", "num_words",
    "char_count", "score", "language_score", "int_score", "perplexity", "meta", "metadata",
    "user", "fonte", "ano", "data", "idioma", "autor", "titulo", "licenca", "pagina", "secao",
    "duplicate", "dedup", "redacted", "truncated", "synthetic", "train", "valid", "idx", "index",
    "count", "confidence", "name",
})  # fmt: skip
"""Names of what is noted beside a plain text: where it comes from, not what it is.
`red_pajama_subset` and `source_url` are such by one of their words."""
_NUMBERING = frozenset({"id", "idx", "index", "name"})
_OF_CLASSES = frozenset({
    name for name in (*LABEL_NAMES, *CLASS_NAMES, "judgment", "judgement") if "_" not in name
})  # fmt: skip
"""Words that make a longer name the class's: `airline_sentiment`, `label_final`, `is_offensive`."""
_ASKING = ("prompt", "instruction", "question", "pergunta", "instrucao")


def find_labels(
    rows: Sequence[Row], columns: ColumnsConfig, labels: tuple[str, ...] | None
) -> ColumnsConfig:
    """State the key of the class where its values tell it, and the recipe does not state it.

    That is the one key whose values are all names of `data.labels`; else the answer to a question,
    where every one is true or false.

    Args:
        rows: The first rows.
        columns: What the recipe states.
        labels: `data.labels`.

    Returns:
        The columns; as they are where no key, or more than one, fits.
    """
    if columns.answer is not None or not rows:
        return columns
    truths = _find_truths(rows, columns)
    if truths is not None:
        return truths
    if not labels or keys_for(LABEL_NAMES, tuple(rows[0])):
        return columns
    taken = {key for _, key in columns if key}
    fitting = [
        key
        for key in rows[0]
        if key not in taken and all(_is_among(row.get(key), labels) for row in rows)
    ]
    return columns.model_copy(update={"answer": fitting[0]}) if len(fitting) == 1 else columns


def _find_truths(rows: Sequence[Row], columns: ColumnsConfig) -> ColumnsConfig | None:
    cells = Cells("instruction", columns)
    question, answer = (cells.key(rows[0], role) for role in ("question", "answer"))
    if question is None or answer is None:
        return None
    if not all(isinstance(row.get(answer), bool) for row in rows):
        return None
    context = next((key for key in (cells.key(row, "context") for row in rows) if key), None)
    return columns.model_copy(
        update={"question": question, "answer": answer, "context": context or columns.context}
    )


def refuse_doubt(look: Look, layout: FormatName, *, stated: bool) -> None:
    """Refuse rows in which another column could be meant than would be read.

    Args:
        look: The row that the layout was told from, with the first rows.
        layout: The layout.
        stated: Whether the recipe states it.

    Raises:
        DataError: A stated key would not be read; two columns could be question, answer or label;
            or a text would be learned as plain text beside what looks like its label or answer.
            The message begins with what was found.
    """
    _refuse_unread(look, layout)
    cells = Cells(layout, look.columns)
    for row in look.rows or (look.row,):
        roles = ("question",) if layout == "text_label" else ("question", "answer")
        for role in roles:
            refuse_rivals(role, cells.rivals(row, role))
    if stated:
        return
    if layout == "text_label":
        _refuse_labels(look)
    if layout == "text":
        _refuse_plain(look)


def _refuse_unread(look: Look, layout: FormatName) -> None:
    for role in TEXT_ROLES:
        key = getattr(look.columns, role)
        if key is not None and key in look.row and role not in NAMES[layout]:
            raise DataError(
                f"data.columns.{role} names {ascii_of(key)}, but rows of the format {layout} have "
                f"no {role}: state another format, or leave it out"
            )


def _refuse_labels(look: Look) -> None:
    """Refuse a label that is one of several."""
    answer = look.key("text_label", "answer")
    if answer is None or look.columns.answer is not None or fold_name(answer) in LABEL_NAMES:
        return
    rows, taken = look.rows or (look.row,), _taken(look, "text_label")
    named = [key for key in keys_for(CLASS_NAMES, tuple(look.row)) if _is_filled(rows, key)]
    flags = [key for key in look.row if _are_flags(rows, key)]
    found = dict.fromkeys([answer, *named, *(flags if answer in flags else ())])
    rivals = [key for key in found if key == answer or key not in taken]
    if len(rivals) < 2:
        return
    listed = ", ".join(map(ascii_of, rivals))
    if set(rivals) <= set(flags):
        raise DataError(
            f"{listed} each say yes or no: several labels per row (multi-label) are not supported. "
            "Name one of them in data.columns.answer"
        )
    raise DataError(
        f"{listed} could each be the label: name the right one in data.columns.answer, and put the "
        "others in data.ignore"
    )


def _refuse_plain(look: Look) -> None:
    """Refuse to learn a text as plain text where a label or an answer stands beside it."""
    if look.labels:
        raise DataError(
            f"data.labels names classes, but no column is known to hold them (found "
            f"{', '.join(map(ascii_of, look.row)):.300}): name it in data.columns.answer, or "
            "state format: text for a source of plain text"
        )
    if look.columns.answer is not None:
        return
    rows, taken = look.rows or (look.row,), _taken(look, "text")
    # A column may be empty, or not there, in the first row.
    keys = tuple(dict.fromkeys(key for row in (look.row, *rows) for key in row))
    filled = {key: [row[key] for row in rows if not is_blank(row.get(key))] for key in keys}
    first = {key: values[0] if values else None for key, values in filled.items()}
    answers = [key for key in other_answers(first) if key not in taken]
    asking = [key for key in keys_for(_ASKING, keys) if first[key] is not None and key not in taken]
    if asking and not answers:
        raise DataError(
            f"{ascii_of(asking[0])} beside the text looks like what is asked, and would not be "
            "learned: name the two in data.columns.question and data.columns.answer. To learn the "
            f"text alone, write data.ignore: [{', '.join(asking)}], or state format: text"
        )
    named = keys_for((*LABEL_NAMES, *CLASS_NAMES), keys)
    classes = [key for key in keys if key in named and first[key] is not None]
    classes += [key for key in keys if key not in named and _look_like_classes(rows, key)]
    found = [key for key in (*answers, *classes) if key not in taken]
    if not found:
        return
    listed, one = ", ".join(map(ascii_of, found)), len(found) == 1
    what = "an answer or a label" if answers else "the label"
    raise DataError(
        f"{listed} beside the text {'looks' if one else 'look'} like {what}, and would not be "
        "learned: name it in data.columns.answer (and the text in data.columns.question). To learn "
        f"the text alone, write data.ignore: [{', '.join(found)}], or state format: text"
    )


def _taken(look: Look, layout: FormatName) -> set[str | None]:
    roles = [role for role in NAMES[layout] if role != "answer" or layout == "text"]
    return {*(look.key(layout, role) for role in roles), *(key for _, key in look.columns if key)}


def _is_among(value: Any, labels: tuple[str, ...]) -> bool:
    return isinstance(value, str) and value.strip() in labels


def _is_filled(rows: Iterable[Row], key: str) -> bool:
    return any(not is_blank(row.get(key)) for row in rows)


def _are_flags(rows: Iterable[Row], key: str) -> bool:
    return all(
        isinstance(row.get(key), str | int | float) and str(row[key]).lower() in _FLAGS
        for row in rows
    )


_FLAGS = frozenset({"0", "1", "0.0", "1.0", "true", "false"})


def _look_like_classes(rows: Sequence[Row], key: str) -> bool:
    words = {fold_name(key), *fold_name(key).split("_")}
    of_classes = bool(words & _OF_CLASSES)
    if words & (_ABOUT_THE_TEXT - _NUMBERING if of_classes else _ABOUT_THE_TEXT):
        return False
    values = [row[key] for row in rows if not is_blank(row.get(key))]
    if len(values) < _LEAST_ROWS or not all(isinstance(each, str | bool | int) for each in values):
        return False
    texts = {str(each).strip() for each in values}
    short = all(len(text) <= _LONGEST_CLASS and "\n" not in text for text in texts)
    if of_classes or {text.lower() for text in texts} <= _FLAGS:
        # Also one value alone: files are often sorted by class.
        return short and len(texts) < len(values)
    return short and 2 <= len(texts) <= max(2, len(values) // _FEW)
