"""Loading databases: from lines, a mapping, or SQLite files."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from retune.data import databases
from retune.data.databases import load_databases
from retune.data.sources import locate_databases
from retune.data.stages import DatabasesInputs
from retune.data.tables import read_rows
from retune.errors import DataError
from retune.spine.stage import Workdir

MADE = "CREATE TABLE t (a);"
FILLED = f"{MADE}\nINSERT INTO t VALUES (1);"


def load(work: Workdir, path: Path) -> list[dict[str, Any]]:
    inputs = DatabasesInputs(source=locate_databases(path))
    found = load_databases(inputs, work)
    rows = read_rows(found.folder / "databases.parquet")
    assert found.databases == len(rows)
    return rows


def write_lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_lines_name_schema_and_context(tmp_path: Path, work: Workdir) -> None:
    """Without a context the database is there but empty."""
    path = write_lines(
        tmp_path / "a.jsonl",
        {"db_id": "d", "schema": MADE, "context": FILLED},
        {"db_id": "e", "schema": MADE},
    )
    assert load(work, path) == [
        {"db_id": "d", "schema": MADE, "context": FILLED},
        {"db_id": "e", "schema": MADE, "context": MADE},
    ]


def test_a_mapping_gives_names_to_scripts(tmp_path: Path, work: Workdir) -> None:
    """One text, or a list of statements; the prompt shows what is created alone."""
    path = tmp_path / "schemas.json"
    path.write_text(json.dumps({"d": FILLED, "e": [MADE, "CREATE TABLE u (b);"]}), "utf-8")
    assert load(work, path) == [
        {"db_id": "d", "schema": MADE, "context": FILLED},
        {
            "db_id": "e",
            "schema": f"{MADE}\nCREATE TABLE u (b);",
            "context": f"{MADE}\nCREATE TABLE u (b);",
        },
    ]


def test_sqlite_files_become_scripts_that_make_them_again(tmp_path: Path, work: Workdir) -> None:
    """With their rows and views, a counter of AUTOINCREMENT and a text that is not UTF-8."""
    folder = tmp_path / "databases"
    folder.mkdir()
    opened = sqlite3.connect(folder / "d.sqlite")
    opened.executescript(
        "CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT, b TEXT);"
        "INSERT INTO t (b) VALUES ('é; x'), (CAST(x'e9' AS TEXT)), ('INSERT\nCREATE TABLE no (a)');"
        "CREATE VIEW v AS SELECT b FROM t WHERE a = 1;"
    )
    opened.close()
    (found,) = load(work, folder)
    assert found["db_id"] == "d"
    assert found["schema"] == (
        "CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT, b TEXT);\n"
        "CREATE VIEW v AS SELECT b FROM t WHERE a = 1;"
    )
    again = sqlite3.connect(":memory:")
    again.executescript(found["context"])
    assert again.execute("SELECT b FROM v").fetchall() == [("é; x",)]
    assert again.execute("SELECT count(*), max(b) FROM t").fetchone() == (3, "\ufffd")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"db_id": "d"}], r"a\.jsonl:1: no column 'schema'; the row has 'db_id'"),
        ([{"db_id": "d", "schema": 1.5}], r"a\.jsonl:1: 'schema' holds mixed types"),
        (
            [{"db_id": "d", "schema": MADE}] * 2,
            r"a\.jsonl:2: db_id 'd' was already listed at .*a\.jsonl:1",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, work: Workdir, rows: Any, reason: str) -> None:
    """A database that is left out would take rows with it, so it stops the stage."""
    with pytest.raises(DataError, match=reason):
        load(work, write_lines(tmp_path / "a.jsonl", *rows))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.json", b"[1]", "expected an object that maps"),
        ("a.json", b'{"d": ""}', "'d': 'its script' is empty"),
        ("a.json", b'{"d": "SELECT 1"}', "no CREATE TABLE"),
        ("a.json", b"{", "not JSON"),
        ("a.json", b"{}", "holds no databases"),
        ("a.sqlite", b"no database at all", "not readable as SQLite"),
    ],
)
def test_a_file_without_databases_is_refused(
    tmp_path: Path, work: Workdir, name: str, content: bytes, reason: str
) -> None:
    """With what was found."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason):
        load(work, tmp_path / name)


def test_databases_that_changed_meanwhile_are_refused(tmp_path: Path, work: Workdir) -> None:
    """The stage key stands for the bytes that were there when the run began."""
    path = write_lines(tmp_path / "a.jsonl", {"db_id": "d", "schema": MADE})
    inputs = DatabasesInputs(source=locate_databases(path))
    write_lines(path, {"db_id": "e", "schema": MADE})
    with pytest.raises(DataError, match="changed since the run began"):
        load_databases(inputs, work)


def test_databases_that_change_while_they_are_read_are_refused(
    tmp_path: Path, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is added in the middle would stand under the key of the file without it."""
    path = write_lines(tmp_path / "a.jsonl", {"db_id": "d", "schema": MADE})
    inputs, read = DatabasesInputs(source=locate_databases(path)), databases._read

    def add_first(path: Path) -> Any:
        write_lines(path, {"db_id": "d", "schema": MADE}, {"db_id": "e", "schema": MADE})
        return read(path)

    monkeypatch.setattr(databases, "_read", add_first)
    with pytest.raises(DataError, match="changed since the run began"):
        load_databases(inputs, work)
