"""When an exact match is given: written alike, and a query that runs."""

from typing import Any

import pytest

from retune.scoring.sql.score import score_queries
from retune.sql.records import SqlOutcome, SqlRow

SCHEMA = "CREATE TABLE t (a INT, b TEXT, c INT); CREATE TABLE u (a INT, b TEXT, d INT);"
CONTEXT = (
    SCHEMA + "INSERT INTO t VALUES (1, 'x', 3), (2, 'y', 2), (3, 'x', 1);"
    "INSERT INTO u VALUES (1, 'y', 7), (2, 'x', 8);"
)


def judge(gold: str, prediction: str, *, dialect: str = "sqlite", **row: Any) -> SqlOutcome:
    question = SqlRow(row_id="r", gold=gold, **row)
    return score_queries([question], [prediction], dialect=dialect).outcomes[0]


# Each prediction cannot run in SQLite, or means something else there.
NOT_ALIKE = [
    ("SELECT a AS c, c AS a FROM t ORDER BY c", "SELECT a AS c, c AS a FROM t ORDER BY t.c"),
    ("SELECT a AS c FROM t ORDER BY c + 0", "SELECT a AS c FROM t ORDER BY t.a + 0"),
    ("SELECT (a OR c) AND a FROM t", "SELECT a OR c AND a FROM t"),
    ("SELECT (a + c) * 2 FROM t", "SELECT a + c * 2 FROM t"),
    ("SELECT count(*) FROM t", "SELECT count(*) ALL FROM t"),
    ("SELECT a FROM t WHERE b = 'x'", "SELECT a FROM t WHERE b = `x`"),
    ("SELECT a FROM t WHERE b = 'x'", "SELECT a FROM t WHERE b = [x]"),
    ("SELECT length(b) FROM t", "SELECT len(b) FROM t"),
    ("SELECT coalesce(a, 0) FROM t", "SELECT nvl(a, 0) FROM t"),
    ("SELECT iif(a, 1, 2) FROM t", "SELECT if(a, 1, 2) FROM t"),
    ("SELECT a % 2 FROM t", "SELECT mod(a, 2.5) FROM t"),
    ("SELECT CAST(a AS TEXT) FROM t", "SELECT CAST(a AS STRING) FROM t"),
    ("SELECT CAST(a AS REAL) / 2 FROM t", "SELECT CAST(a AS DECIMAL) / 2 FROM t"),
    ("SELECT date(b) FROM t", "SELECT CAST(b AS DATE) FROM t"),
    ("SELECT CAST(a AS TEXT) FROM t", "SELECT a::TEXT FROM t"),
    ("SELECT a FROM t", "SELECT a, FROM t"),
    ("SELECT a FROM t", "FROM t SELECT a"),
    ("SELECT a FROM t WHERE b = '1'", "SELECT a FROM t WHERE +b = '1'"),
    ("SELECT * FROM t JOIN u USING (a)", "SELECT * FROM t JOIN u USING (b)"),
    ("SELECT * FROM t JOIN u USING (a)", "SELECT * FROM t JOIN u ON t.a = u.a"),
    ("SELECT * FROM t JOIN u ON t.a = u.a", "SELECT * FROM u JOIN t ON t.a = u.a"),
    ("SELECT * FROM t NATURAL JOIN u", "SELECT * FROM t JOIN u USING (a)"),
    (
        "SELECT a AS x, c AS y FROM t UNION SELECT a, d FROM u ORDER BY x",
        "SELECT a AS y, c AS x FROM t UNION SELECT a, d FROM u ORDER BY x",
    ),
    ("SELECT a AS c, c AS a FROM t ORDER BY 1", "SELECT a AS c, c AS a FROM t ORDER BY a"),
    ("SELECT * FROM t ORDER BY 1", "SELECT * FROM t ORDER BY 3"),
    ("SELECT a FROM t WHERE b = 'X' COLLATE NOCASE", "SELECT a FROM t WHERE b = 'X'"),
    (
        "SELECT c AS a FROM t WHERE a = 1",  # a column goes before an output
        "SELECT c AS a FROM t WHERE c = 1",
    ),
    ("SELECT 'a' FROM t", 'SELECT "a" FROM t'),
    ("SELECT a FROM t LIMIT 1, 2", "SELECT a FROM t LIMIT 1 OFFSET 2"),
    ("SELECT a FROM t WHERE a = 1", "SELECT a FROM t WHERE a IS 1.0"),
    ("SELECT '{}' ->> '$.x' FROM t", "SELECT '{}' -> '$.x.y' FROM t"),
]

ALIKE = [
    ("SELECT * FROM t ORDER BY 1", "select * from T order by 1 asc;"),
    ("SELECT a, b FROM t ORDER BY 2, 1", "SELECT a, b FROM t ORDER BY b, a"),
    ("SELECT b, count(*) FROM t GROUP BY 1", "SELECT b, count(*) AS n FROM t GROUP BY b"),
    (
        "SELECT b FROM t GROUP BY b HAVING count(*) > 1",
        "SELECT b FROM t GROUP BY 1 HAVING count(*) > 1",
    ),
    (
        "SELECT a, b FROM t UNION SELECT a, b FROM u ORDER BY b",
        "SELECT a AS k, b AS n FROM t UNION SELECT a, b FROM u ORDER BY 2",
    ),
    ("SELECT a FROM t WHERE lower(b) = lower('X')", 'SELECT a FROM t WHERE lower(b) = lower("X")'),
    (
        "SELECT CASE b WHEN 'x' THEN 1 END FROM t",
        'SELECT CASE b WHEN "x" THEN 1 END FROM t',
    ),
    ("SELECT a FROM t WHERE (a, b) IN ((1, 'x'))", 'SELECT a FROM t WHERE (a, b) IN ((1, "x"))'),
    ("SELECT a FROM t WHERE (a, b) = (1, 'x')", 'SELECT a FROM t WHERE (a, b) = (1, "x")'),
    ("SELECT a FROM t LEFT JOIN u USING (a)", "SELECT a FROM t LEFT OUTER JOIN u USING (a)"),
    ("SELECT DISTINCT b FROM t", "SELECT DISTINCT(b) FROM t"),
    ("SELECT count(DISTINCT a), a + c FROM t", "SELECT count(DISTINCT (a)), (a + c) FROM t"),
    ("SELECT a, c FROM t ORDER BY 2", "SELECT a, (c) FROM t ORDER BY (2)"),
    ("SELECT a AS c, c AS a FROM t ORDER BY c", "SELECT a, c FROM t ORDER BY t.a"),
    ("SELECT a AS c FROM t ORDER BY c + 0", "SELECT a FROM t ORDER BY t.c + 0"),
    (
        "SELECT a FROM t WHERE b BETWEEN lower('W') AND 'z'",
        'SELECT a FROM t WHERE b BETWEEN lower("W") AND "z"',
    ),
    (
        "SELECT datetime(c, 'unixepoch') FROM t",
        'SELECT datetime(c, "unixepoch") FROM t',
    ),
    ("SELECT a FROM t WHERE b = ('x')", 'SELECT a FROM t WHERE b = ("x")'),
    # `d` is a column, but of no table that this query reads.
    ("SELECT a FROM t WHERE b = 'd'", 'SELECT a FROM t WHERE b = "d"'),
    ("SELECT a FROM t WHERE a <> 1 AND a == 2", "SELECT a FROM t WHERE 2 = a AND a != 1"),
    ("SELECT substr(b, 1) FROM t", "SELECT substring(b, 1) FROM t"),
    ("SELECT d FROM t JOIN u USING (a)", "SELECT u.d FROM u, t WHERE u.a = t.a"),
    (
        "SELECT max(a) OVER (PARTITION BY b) FROM t",
        "select max(t.a) over (partition by t.b) from t",
    ),
    ("VALUES (1), (2)", "values (1),(2)"),
    ("SELECT rowid FROM t", "SELECT t.ROWID FROM t"),
    ("SELECT b ->> '$.x', json_extract(b, '$.x') FROM (SELECT '{}' AS b)",) * 2,
]


@pytest.mark.parametrize("context", [CONTEXT, None])
@pytest.mark.parametrize(("gold", "prediction"), NOT_ALIKE)
def test_a_query_that_fails_or_means_something_else_is_no_match(
    gold: str, prediction: str, context: str | None
) -> None:
    """With a database and without one; the gold itself can always be matched."""
    assert judge(gold, prediction, schema=SCHEMA, context=context).exact_match is False
    assert judge(gold, gold, schema=SCHEMA, context=context).exact_match is True


@pytest.mark.parametrize("context", [CONTEXT, None])
@pytest.mark.parametrize(("gold", "prediction"), ALIKE)
def test_the_same_query_written_otherwise_is_a_match(
    gold: str, prediction: str, context: str | None
) -> None:
    """With a database and without one, and whichever of the two is the gold."""
    assert judge(gold, prediction, schema=SCHEMA, context=context).exact_match is True
    assert judge(prediction, gold, schema=SCHEMA, context=context).exact_match is True


@pytest.mark.parametrize(
    "prediction",
    ["SELECT count(*) ALL FROM t", "SELECT count(*) FROM t, ", "SELECT count(*) FROM t FETCH 1"],
)
def test_without_any_schema_the_syntax_is_still_sqlites(prediction: str) -> None:
    """Tables cannot be looked up; what SQLite cannot read is no match all the same."""
    gold = "SELECT count(*) FROM t"
    assert judge(gold, prediction).exact_match is False
    assert judge(gold, "select COUNT(*) from T").exact_match is True


@pytest.mark.parametrize("context", [CONTEXT, None])
def test_a_gold_that_does_not_run_leaves_the_row_unscored(context: str | None) -> None:
    """Nothing can match it, not even itself: None, not a yes and not a no."""
    outcome = judge("SELECT len(b) FROM t", "SELECT len(b) FROM t", schema=SCHEMA, context=context)
    assert (outcome.exact_match, outcome.exact_unscored_reason) == (None, "gold_failed")


def test_results_that_differ_refute_texts_that_are_alike() -> None:
    """The schema says that `w` has the column, the row's own database knows better."""
    schema = SCHEMA + "CREATE TABLE w (a);"
    outcome = judge("SELECT a FROM t", "SELECT a FROM w", schema=schema, context=CONTEXT)
    assert (outcome.exact_match, outcome.wrong_reason) == (False, "failed")


def test_a_gold_that_reads_the_clock_is_matched_by_what_can_be_prepared() -> None:
    """Its results say nothing, so SQLite is asked whether the prediction would run."""
    gold = "SELECT a FROM t WHERE b < date('now')"
    outcome = judge(gold, "SELECT t.a FROM t WHERE date('now') > b", schema=SCHEMA, context=CONTEXT)
    assert (outcome.exact_match, outcome.unscored_reason) == (True, "gold_not_deterministic")


def test_another_dialect_is_compared_in_its_own_words() -> None:
    """LEN is SQL Server's LENGTH, and TOP its LIMIT: translated, both run."""
    row = {"schema": SCHEMA, "context": CONTEXT, "dialect": "tsql"}
    gold = "SELECT LEN(b) FROM t"
    assert judge(gold, "select len(t.b) from t", **row).exact_match is True
    assert judge(gold, "SELECT LEN(b) FROM nowhere", **row).exact_match is False


def test_a_view_in_the_schema_is_known_to_both() -> None:
    """Its columns are those of its query."""
    schema = SCHEMA + "CREATE VIEW v AS SELECT a, b FROM t;"
    context = CONTEXT + "CREATE VIEW v AS SELECT a, b FROM t;"
    outcome = judge("SELECT * FROM v", "SELECT v.* FROM v", schema=schema, context=context)
    assert (outcome.exact_unscored_reason, outcome.execution_match) == (None, True)
    assert judge("SELECT b FROM v", "SELECT v.b FROM v", schema=schema).exact_match is True


@pytest.mark.parametrize(
    ("gold", "prediction"),
    [
        ("SELECT a FROM t", "SELECT t.a FROM t"),
        (
            "SELECT a FROM t WHERE a IN (SELECT a FROM u)",
            "SELECT a FROM t x WHERE a IN (SELECT u.a FROM u)",
        ),
    ],
)
def test_without_any_schema_a_lone_table_has_its_columns(gold: str, prediction: str) -> None:
    """A name before a column of the only table there is says nothing new."""
    assert judge(gold, prediction).exact_match is True
