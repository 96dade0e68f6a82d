"""What is known of SQL text before it runs."""

import time

import pytest

from retune.sql.lexing import (
    is_deterministic,
    name_double_quoted,
    orders_rows,
    read_tokens,
    split_statements,
)


@pytest.mark.parametrize(
    ("sql", "statements"),
    [
        ("SELECT 1", 1),
        ("SELECT 1;", 1),
        ("SELECT 1; -- done", 1),
        ("SELECT 1; SELECT 2", 2),
        ("SELECT ';'", 1),
        ('SELECT ";" FROM [a;b]', 1),
        ("SELECT 1 /* ; */", 1),
        ("-- only a comment", 0),
        (";;;", 0),
        ("SELECT 'it''s; fine'", 1),
        ("SELECT 'never closed; SELECT 2", 1),
    ],
)
def test_statements_are_counted_outside_texts_and_comments(sql: str, statements: int) -> None:
    assert len(split_statements(read_tokens(sql))) == statements


@pytest.mark.parametrize(
    ("sql", "ordered"),
    [
        ("SELECT a FROM t ORDER BY a", True),
        ("SELECT a FROM t order\nby a LIMIT 3", True),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a)", False),
        ("WITH c AS (SELECT a FROM t ORDER BY a) SELECT a FROM c", False),
        ("SELECT rank() OVER (ORDER BY a) FROM t", False),
        ("SELECT 'ORDER BY a' FROM t", False),
        ('SELECT a FROM "order by"', False),
        ("SELECT a FROM t UNION SELECT b FROM u ORDER BY 1", True),
    ],
)
def test_only_the_outermost_order_by_orders_rows(sql: str, ordered: bool) -> None:
    assert orders_rows(read_tokens(sql)) is ordered


@pytest.mark.parametrize(
    ("sql", "deterministic"),
    [
        ("SELECT CURRENT_DATE", False),
        ("SELECT date('now')", False),
        ("SELECT date(a, lower('NOW'))", False),
        ("SELECT date(a, (SELECT 'now'", False),
        ("SELECT timediff('now', day) FROM t", False),
        ("SELECT date((day)) FROM t WHERE a = 'now'", True),
        ("SELECT strftime('%Y', 'NOW')", False),
        ("SELECT julianday()", False),
        ("SELECT strftime('%Y')", False),
        ("SELECT a FROM t ORDER BY random()", False),
        ("SELECT a FROM t WHERE day = datetime(  'now', '-1 day')", False),
        ("SELECT date('2020-01-01')", True),
        ("SELECT strftime('%Y', day) FROM t", True),
        ("SELECT a FROM t WHERE status = 'now'", True),
        ("SELECT 'current_date', date(day) FROM t", True),
        ("SELECT date FROM t", True),
        ("SELECT t.current_date FROM t", True),
    ],
)
def test_reading_the_clock_is_seen(sql: str, deterministic: bool) -> None:
    assert is_deterministic(read_tokens(sql)) is deterministic


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ('SELECT count("colunm") FROM t', "SELECT count(`colunm`) FROM t"),
        ('SELECT "a" FROM "t"', "SELECT `a` FROM `t`"),
        ('SELECT a FROM t WHERE b = "Ben Jones"', 'SELECT a FROM t WHERE b = "Ben Jones"'),
        ('SELECT a FROM t WHERE "b" > 3', "SELECT a FROM t WHERE `b` > 3"),
        ('SELECT a FROM t WHERE b IN ("x", "y")', 'SELECT a FROM t WHERE b IN ("x", "y")'),
        ('SELECT a FROM t WHERE b LIKE "%x%"', 'SELECT a FROM t WHERE b LIKE "%x%"'),
        (
            'SELECT a FROM t WHERE b BETWEEN "x" AND "y"',
            'SELECT a FROM t WHERE b BETWEEN "x" AND "y"',
        ),
        ('SELECT strftime("%Y", "day") FROM t', 'SELECT strftime("%Y", `day`) FROM t'),
        ('SELECT a FROM t ORDER BY "colunm"', "SELECT a FROM t ORDER BY `colunm`"),
        ('SELECT a AS "x ""y` z" FROM t', 'SELECT a AS `x "y`` z` FROM t'),
        ("SELECT '\"colunm\"' FROM t", "SELECT '\"colunm\"' FROM t"),
        *[
            (sql, sql)
            for sql in (
                'SELECT a FROM t WHERE lower(b) = lower("France")',
                'SELECT CASE b WHEN "x" THEN 1 END FROM t',
                'SELECT a FROM t WHERE b = ("x")',
                'SELECT a FROM t WHERE (a, b) = (1, "x")',
                'SELECT a FROM t WHERE (a, b) IN ((1, "x"), (2, "y"))',
                'VALUES ("x"), ("y")',
                'SELECT group_concat(b, "and") FROM t',
            )
        ],
        (
            'SELECT a FROM t WHERE a IN (SELECT "a", "b" FROM t)',
            "SELECT a FROM t WHERE a IN (SELECT `a`, `b` FROM t)",
        ),
    ],
)
def test_double_quotes_stay_only_where_a_text_is_meant(sql: str, expected: str) -> None:
    assert name_double_quoted(sql, read_tokens(sql)) == expected


@pytest.mark.parametrize("piece", ["'", '"', "`", "[", "(", "/*", "--", ";", "\0", "é", "\ud800"])
def test_any_text_can_be_read_in_linear_time(piece: str) -> None:
    assert isinstance(read_tokens(piece * 20_000), list)


def test_nested_calls_are_read_once() -> None:
    """Reading each call to its end took seconds: it is quadratic, and in the scoring process."""
    tokens = read_tokens("SELECT " + "date(a," * 7_000)
    start = time.process_time()
    assert is_deterministic(tokens)
    assert time.process_time() - start < 1.0
