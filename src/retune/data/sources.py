"""What a recipe names outside of the store, with the digest of what it holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from retune.data.formats.cells import Row, as_list, ascii_of, is_blank, kind_of, name_keys
from retune.data.formats.classes import find_labels, refuse_doubt
from retune.data.formats.detecting import (
    FORMATS,
    Look,
    detect_format,
    fill_columns,
    missing_columns,
)
from retune.data.formats.meanings import PAIRS, meanings_of_row
from retune.data.formats.names import NAMES, keys_for
from retune.data.formats.normalising import without
from retune.data.reading.files import RawRow, read_files
from retune.data.reading.hub import first_hub_rows
from retune.data.reading.locating import (
    DATABASE_ENDINGS,
    databases_digest,
    locate_files,
    locate_hub,
    locate_source,
    nothing_readable,
    place_of,
)
from retune.errors import DataError
from retune.recipe.sections.data import ColumnsConfig, DataConfig, FormatName, SourceConfig
from retune.records import RowSource

_ROWS_LOOKED_AT = 20
_ROWS_TRIED = 1000
_SEEN_OF_TEXT = 200
_LISTED = re.compile(r"\s*\[\s*\{")
_NO_HEADER = (
    " A table needs the names of its columns in the first line: where that is a row, write them "
    "above it."
)


@dataclass(frozen=True)
class LocatedRows:
    """A source of rows that was found, and how it will be read.

    Attributes:
        source: Where the rows are, and the digest of what they are.
        format: Their layout.
        columns: Which key holds what; question, answer and turns are always stated.
        detected: Whether the layout was detected, not stated.
        labels: Names of the classes, for text_label.
        encoding: What text files are in; None for UTF-8.
        max_row_bytes: Longest row that is read.
        max_rows: Most rows that are read.
        ignore: Keys that are passed over.
    """

    source: RowSource
    format: FormatName
    columns: ColumnsConfig
    detected: bool
    labels: tuple[str, ...] | None
    encoding: str | None
    max_row_bytes: int
    max_rows: int | None
    ignore: tuple[str, ...] = ()


def locate_rows(
    source: SourceConfig, data: DataConfig, resolve: Callable[[Path], Path], name: str
) -> LocatedRows:
    """Find a source of rows, take its digest, and tell its layout from its first rows.

    Args:
        source: The recipe's section on it.
        data: The section around it.
        resolve: Makes the recipe's relative paths absolute.
        name: The recipe's key of the source, such as ``data.train.0``, for messages.

    Returns:
        The source and how it is read.

    Raises:
        ConfigError: The hub has no such dataset, revision, configuration or split.
        DataError: A file is missing, empty or of an unknown kind, the hub does not answer, or the
            layout cannot be told.
    """
    encoding = (source.encoding or data.encoding) if source.path is not None else None
    if source.path is not None:
        found = locate_files(source.path, resolve(source.path), name)
        rows = _first_rows(found.files, data.max_row_bytes, encoding)
    else:
        found = locate_hub(source, resolve, name)
        rows = first_hub_rows(found.hub, name, _ROWS_LOOKED_AT) if found.hub else []
    columns = source.columns or data.columns
    look, layout = _tell_layout(source, data, columns, found, rows, name)
    return LocatedRows(
        source=found,
        format=layout,
        columns=fill_columns(look, layout),
        detected=source.format is None,
        labels=data.labels if layout == "text_label" else None,
        encoding=encoding,
        max_row_bytes=data.max_row_bytes,
        max_rows=source.max_rows,
        ignore=data.ignore,
    )


def locate_databases(path: Path) -> RowSource:
    """Find the databases of a recipe: a file, or a folder of SQLite files.

    Args:
        path: The file or folder, absolute.

    Returns:
        The files and their digest; of SQLite files their names count.

    Raises:
        DataError: There is nothing, or nothing that holds databases.
    """
    if not path.is_dir():
        locate_source(path, "data.databases")
        if path.suffix.lower() not in (".jsonl", ".json", *DATABASE_ENDINGS):
            raise DataError(
                f"data.databases: {path} has an ending that is not known; expected .jsonl, .json, "
                "or a folder of .sqlite files."
            )
        return RowSource(digest=databases_digest([path]), name=path.as_posix(), files=(path,))
    files = [
        file
        for file in sorted([*path.glob("*"), *path.glob("*/*")])
        if file.suffix.lower() in DATABASE_ENDINGS and file.parent in (path, path / file.stem)
    ]
    if not files:
        raise DataError(f"data.databases: {path} holds no NAME.sqlite and no NAME/NAME.sqlite.")
    return RowSource(digest=databases_digest(files), name=path.as_posix(), files=tuple(files))


def _first_rows(files: Sequence[Path], limit: int, encoding: str | None) -> list[RawRow]:
    """Return rows until enough can be read; a row may be large, so no more of them are held."""
    rows: list[RawRow] = []
    readable = 0
    for row in islice(read_files(files, limit, encoding), _ROWS_TRIED):
        rows.append(row)
        readable += row.value is not None
        if readable == _ROWS_LOOKED_AT:
            break
    return rows


def _later_rows(found: RowSource, data: DataConfig, source: SourceConfig) -> list[Row]:
    """Return rows after the first ones, long texts cut: a label may only come there."""
    if not found.files:
        return []
    ignore, encoding = frozenset(data.ignore), source.encoding or data.encoding
    rows = islice(read_files(found.files, data.max_row_bytes, encoding), _ROWS_TRIED)
    return [
        {
            key: value[:_SEEN_OF_TEXT] if isinstance(value, str) else value
            for key, value in without(row.value, ignore).items()
            if isinstance(value, str | int | float | bool)
        }
        for row in rows
        if row.value is not None
    ]


def _tell_layout(
    source: SourceConfig,
    data: DataConfig,
    columns: ColumnsConfig,
    found: RowSource,
    rows: list[RawRow],
    name: str,
) -> tuple[Look, FormatName]:
    ignore = frozenset(data.ignore)
    values = tuple(without(row.value, ignore) for row in rows if row.value is not None)
    if not values:
        raise DataError(nothing_readable(found, rows, name, len(rows)))
    labelled = find_labels(values, columns, data.labels)
    looks = _looks(values, labelled, data)
    if not any(detect_format(look) == "text_label" for look in looks):
        looks = _looks(values, columns, data)
    first = next(row for row in rows if row.value is not None)
    where = f"{name}: the row at {place_of(found, first.file, first.line)}"
    for look in looks:
        layout = source.format or detect_format(look)
        if layout is not None and not missing_columns(look, layout):
            if layout == "text" and source.format is None:
                look = replace(look, rows=(*values, *_later_rows(found, data, source)))
            try:
                refuse_doubt(look, layout, stated=source.format is not None)
            except DataError as error:
                raise DataError(
                    f"{where} has the columns {name_keys(look.row)}: {error.message}."
                ) from error
            return look, layout
    raise DataError(f"{where} {_misfit(source, looks[0], name)}")


def _looks(values: tuple[Row, ...], columns: ColumnsConfig, data: DataConfig) -> list[Look]:
    labels, databases = data.labels is not None, bool(data.databases)
    return [Look(value, columns, labels, databases, values) for value in values]


def _no_turns(look: Look) -> str | None:
    """Say what stands where turns are looked for, if that is no list of them."""
    names = NAMES["conversations"]["messages"]
    stated = look.columns.messages
    if look.columns.question or look.columns.answer:
        return None
    known = keys_for(names, tuple(look.row)) if stated is None else (stated,)
    key = next((key for key in known if not is_blank(look.row.get(key))), None)
    if key is None:
        return None
    value = as_list(look.row[key])
    found = f"{ascii_of(key)} holds {kind_of(value)}"
    if isinstance(value, list):
        first = value[0] if value else None
        has = f"an object with {name_keys(first)}" if isinstance(first, dict) else kind_of(first)
        found = f"the first turn of {ascii_of(key)} is {has}"
    return (
        f"{found}, expected a list of turns such as "
        '{"role": "user", "content": "..."}, with question and answer in turns of their own. Write '
        "it so, or say under data.columns which other keys hold question and answer."
    )


def _misfit(source: SourceConfig, look: Look, name: str) -> str:
    keys = f"has the columns {name_keys(look.row)}"
    for key, value in look.row.items():
        if isinstance(as_list(value), str) and _LISTED.match(value):
            return (
                f"{keys}, and {key!r} holds a list of objects as text that is neither JSON nor what"
                f" Python prints of a list: {value[:60]!r}. Write it as JSON (json.dumps)."
            )
    no_turns = _no_turns(look)
    if no_turns is not None and source.format is None:
        return f"{keys}: {no_turns}"
    absent = [f"{role} ({key!r})" for role, key in look.columns if key and key not in look.row]
    if absent:
        stated = f"{name}.columns" if source.columns else "data.columns"
        return f"{keys}, and not what {stated} names: {', '.join(absent)}. Correct it there" + (
            "." if source.columns else f", or state {name}.columns for this source alone."
        )
    layout = source.format or detect_format(look)
    if layout is None:
        pairs = [
            ascii_of(key)
            for key, meaning in meanings_of_row(look.row, "instruction")
            if meaning.instead == PAIRS
        ]
        if len(pairs) > 1:
            return (
                f"{keys}: {' and '.join(pairs)} make it a pair of preferences, which is no row to "
                "learn from. Name the file under dpo.pairs."
            )
        return (
            f"{keys}: that is none of the known layouts ({', '.join(FORMATS)}). Say under "
            "data.columns which key holds question and answer, or state the format."
            + (_NO_HEADER if all(isinstance(value, str) for value in look.row.values()) else "")
        )
    missing = missing_columns(look, layout)
    how = "stated" if source.format else "detected"
    return (
        f"{keys}. The format {layout} ({how}) also needs {', '.join(missing)}. Name the right keys "
        f"under data.columns, for example data.columns.{missing[0].split()[0]}, or state another "
        "format."
    )
