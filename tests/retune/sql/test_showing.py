"""What a query answers, shown: columns and first rows, and nothing that it could do besides."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from retune.sql.records import SqlLimits
from retune.sql.sandbox import SqlSandbox
from retune.sql.showing import ShownQuery, Tables, show_query

LIMITS = SqlLimits(deadline_s=1.0, context_deadline_s=1.0, grace_s=0.2)
SHOP = (
    "CREATE TABLE sales (id INTEGER, item TEXT); INSERT INTO sales VALUES (1, 'tea'), (2, 'mug');"
)


@pytest.fixture(scope="module")
def box() -> Iterator[SqlSandbox]:
    with SqlSandbox(LIMITS) as found:
        yield found


def show(box: SqlSandbox, query: str, script: str = SHOP) -> ShownQuery:
    return show_query(box, LIMITS, Tables(script=script), query)


def test_a_query_is_shown_with_its_columns_and_rows(box: SqlSandbox) -> None:
    found = show(box, "SELECT item, id AS n FROM sales ORDER BY id")

    assert (found.runs, found.columns, found.more) == (True, ("item", "n"), False)
    assert found.rows == (("tea", 1), ("mug", 2))


def test_the_first_ten_rows_are_shown_and_that_there_are_more(box: SqlSandbox) -> None:
    """Of ten there are no more, of eleven there are."""
    count = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {}) SELECT i FROM n"
    )

    ten, eleven = (show(box, count.format(rows)) for rows in (10, 11))
    assert (len(ten.rows), ten.more) == (10, False)
    assert (len(eleven.rows), eleven.more) == (10, True)
    assert eleven.rows[-1] == (10,)


def test_a_schema_without_rows_shows_the_columns(box: SqlSandbox) -> None:
    found = show(box, "SELECT COUNT(*), item FROM t GROUP BY item", "CREATE TABLE t (item TEXT)")

    assert (found.runs, found.columns, found.rows) == (True, ("COUNT(*)", "item"), ())


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", "empty"),
        ("SELECT price FROM sales", "failed"),
        ('SELECT "price" FROM sales', "failed"),
        ("Here you are: SELECT 1", "not_a_query"),
        ("SELECT 1; DROP TABLE sales", "several_statements"),
        ("DELETE FROM sales", "unsafe"),
        ("PRAGMA writable_schema = 1", "unsafe"),
        ("ATTACH '/tmp/x' AS x", "unsafe"),
        ("SELECT load_extension('x')", "unsafe"),
        ("SELECT random()", "not_deterministic"),
        ("WITH x AS (SELECT 1) DELETE FROM sales", "unsafe"),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT COUNT(*) FROM n",
            "timeout",
        ),
    ],
)
def test_what_does_not_run_says_why(box: SqlSandbox, query: str, reason: str) -> None:
    found = show(box, query)

    assert (found.runs, found.reason, found.rows) == (False, reason, ())


def test_a_query_may_read_the_clock(box: SqlSandbox) -> None:
    """One that is scored may not; here it says what it answers now."""
    assert show(box, "SELECT COUNT(*) FROM sales WHERE date('now') > '2020-01-01'").rows == ((2,),)


def test_a_schema_that_is_none_is_told_apart_from_the_query(box: SqlSandbox) -> None:
    found = show(box, "SELECT 1", "CREATE TABEL t (a)")

    assert (found.runs, found.reason) == (False, "schema_failed")
    assert "TABEL" in found.detail


def test_every_value_can_be_sent_as_json(box: SqlSandbox) -> None:
    """No infinity, no bytes, no half of a character, no text of a megabyte."""
    query = "SELECT 9e999, x'00ff', CAST(x'ff' AS TEXT), printf('%.*c', 1000, 'x'), NULL, 1.5"

    found = show(box, query)

    assert found.runs
    [row] = json.loads(json.dumps(found.rows, allow_nan=False))
    assert row == ["inf", "x'00ff'", "?", "x" * 200 + "...", None, 1.5]


def test_one_script_does_not_see_what_another_made(box: SqlSandbox) -> None:
    show(box, "SELECT 1", "CREATE TABLE secret (a); INSERT INTO secret VALUES (1)")

    assert show(box, "SELECT a FROM secret").reason == "failed"


def test_a_database_is_read_and_stays_byte_for_byte(box: SqlSandbox, tmp_path: Path) -> None:
    """Though its file is writable, and nothing appears beside it."""
    path = tmp_path / "shop.sqlite"
    with closing(sqlite3.connect(path)) as made:
        made.executescript(SHOP)
    before = path.read_bytes()

    queries = ("SELECT item FROM sales", "WITH x AS (SELECT 1) UPDATE sales SET item = 'gone'")
    read, written = (show_query(box, LIMITS, Tables(database=path), each) for each in queries)

    assert read.rows == (("tea",), ("mug",))
    assert (written.runs, written.reason) == (False, "unsafe")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_database_that_is_gone_is_told_without_its_path(box: SqlSandbox, tmp_path: Path) -> None:
    found = show_query(box, LIMITS, Tables(database=tmp_path / "no.sqlite"), "SELECT 1")

    assert (found.reason, found.detail) == ("database_missing", "the file is gone")
