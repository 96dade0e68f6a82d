"""Which tables and columns a schema makes."""

import sqlite3

import pytest

from retune.sql.catalogue import read_schema, write_schema
from retune.sql.parsing import UnreadableError


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ("CREATE TABLE t (a, b INT)", {"t": ["a", "b"]}),
        ("CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT, b)", {"t": ["a", "b"]}),
        ('CREATE TABLE "my t" ("Col 1", `c2`, [c3] INT)', {"my t": ["col 1", "c2", "c3"]}),
        ("CREATE TABLE t (a PRIMARY KEY, b) WITHOUT ROWID", {"t": ["a", "b"]}),
        ("CREATE TABLE t (a INT, b AS (a + 1), c INT AS (a) STORED)", {"t": ["a", "b", "c"]}),
        ("CREATE TABLE t (a /* b, */ INT, -- c,\n d)", {"t": ["a", "d"]}),
        (
            "CREATE TABLE t (a CHECK (a IN (1, 2)), UNIQUE (a), CONSTRAINT z CHECK (a))",
            {"t": ["a"]},
        ),
        ("CREATE TABLE t (a INT, PRIMARY KEY (a) FOREIGN KEY (a) REFERENCES b(x))", {"t": ["a"]}),
        ("CREATE TEMP TABLE IF NOT EXISTS t (a)", {"t": ["a"]}),
        ("CREATE TABLE x AS SELECT 1 AS one, 'a' two", {"x": ["one", "two"]}),
        (
            "CREATE TABLE t (a, b); CREATE VIEW v AS SELECT * FROM t",
            {"t": ["a", "b"], "v": ["a", "b"]},
        ),
        ("CREATE VIEW v (x) AS SELECT a FROM t; CREATE TABLE t (a)", {"t": ["a"], "v": ["x"]}),
        (
            "CREATE VIRTUAL TABLE d USING fts5(title, body UNINDEXED, tokenize = 'porter')",
            {"d": ["title", "body", "d"]},
        ),
        # No semicolon between statements, as schemas in prompts have it.
        (
            "CREATE TABLE t (a INT)\n\nCREATE VIEW v AS SELECT a FROM t\nCREATE TABLE u (b)",
            {"t": ["a"], "u": ["b"], "v": ["a"]},
        ),
        ("CREATE TABLE t (a INT), CREATE TABLE u (b INT)", {"t": ["a"], "u": ["b"]}),
        ("\ufeffCREATE TABLE t (a INT)", {"t": ["a"]}),
        # Indexes of MySQL are no columns; a column may be called so.
        ("CREATE TABLE t (a INT, KEY `k` (`a`)) ENGINE=InnoDB", {"t": ["a"]}),
        ("CREATE TABLE t (a INT, INDEX i (a), FULLTEXT KEY f (a))", {"t": ["a"]}),
        ("CREATE TABLE t (key VARCHAR(20), `index` INT)", {"t": ["key", "index"]}),
        # What neither SQLite nor sqlglot reads.
        ("CREATE TABLE t (a UUID DEFAULT make(), b TEXT[], UNIQUE (a))", {"t": ["a", "b"]}),
        ("CREATE TABLE t (a INT, b INT UNSIGNED ZEROFILL", {"t": ["a", "b"]}),
        ("CREATE FOREIGN TABLE t (a INT, b INT) SERVER s", {"t": ["a", "b"]}),
        # What SQLite refuses and sqlglot reads, and a view of it.
        (
            "CREATE TABLE t (a ENUM('x', 'y'), b INT); CREATE VIEW v AS SELECT b FROM t",
            {"t": ["a", "b"], "v": ["b"]},
        ),
        ("CREATE TABLE t (a); CREATE TABLE broken (", {"t": ["a"]}),
        ("CREATE VIEW v AS SELECT * FROM nowhere; CREATE TABLE É (É)", {"É": ["É"]}),
        ("INSERT INTO t VALUES (1)", {}),
    ],
)
def test_tables_and_columns_are_those_that_sqlite_makes(
    schema: str, expected: dict[str, list[str]]
) -> None:
    """Derived by hand; names fold as SQLite folds them, ASCII letters alone."""
    found = read_schema(schema, "sqlite")
    assert {table: sorted(columns) for table, columns in found.items()} == {
        table: sorted(columns) for table, columns in expected.items()
    }


def test_another_dialect_has_untyped_columns_views_and_tables_from_queries() -> None:
    """What SQLite is not asked about, sqlglot reads with the same result."""
    schema = (
        "CREATE TABLE t (a, b TEXT); CREATE VIEW v AS SELECT a AS x, t.* FROM t; "
        "CREATE TABLE z AS SELECT b FROM t"
    )
    found = {table: set(columns) for table, columns in read_schema(schema, "mysql").items()}
    assert found == {"t": {"a", "b"}, "v": {"x", "a", "b"}, "z": {"b"}}


def test_nothing_of_a_schema_is_run() -> None:
    """An endless query, an extension, and views whose rows double forty times over."""
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c"
    doubling = "CREATE TABLE v0 (a);" + "".join(
        f"CREATE VIEW v{n} AS SELECT a FROM v{n - 1} UNION ALL SELECT a FROM v{n - 1};"
        for n in range(1, 41)
    )
    assert read_schema(f"CREATE TABLE x AS {endless}", "sqlite") == {"x": {"x": "TEXT"}}
    assert len(read_schema(doubling, "sqlite")) == 41
    assert set(read_schema("CREATE VIEW v AS SELECT load_extension('x') AS y", "sqlite")) == {"v"}


@pytest.mark.parametrize("schema", ["CREATE TABLE t (", "CREATE TABLE t (a" + " " * 2_000_000])
def test_a_schema_that_cannot_be_read_says_so(schema: str) -> None:
    """One error, whichever library refused it."""
    with pytest.raises(UnreadableError) as raised:
        read_schema(schema, "sqlite")
    assert raised.value.reason == "schema_unreadable"
    assert raised.value.detail


def test_what_is_written_of_a_schema_sqlite_accepts() -> None:
    """Odd names are quoted."""
    columns = read_schema('CREATE TABLE "a ""b" ("select", "x y" INT)', "sqlite")
    connection = sqlite3.connect(":memory:")
    connection.executescript(write_schema(columns))
    assert connection.execute('SELECT "select", "x y" FROM "a ""b"').fetchall() == []
    connection.close()
