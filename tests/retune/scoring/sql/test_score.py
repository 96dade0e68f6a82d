"""What counts as right, wrong and unscored, row by row."""

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from retune.errors import ScoringError
from retune.scoring.sql.score import extract_sql, score_queries
from retune.sql.records import SqlLimits, SqlOutcome, SqlRow

SCHEMA = "CREATE TABLE t (a INTEGER, b TEXT); CREATE TABLE empty (a INTEGER);"
CONTEXT = SCHEMA + "INSERT INTO t VALUES (1, 'x'), (2, 'y'), (2, 'z');"
LIMITS = SqlLimits(deadline_s=0.5, context_deadline_s=0.5, grace_s=0.3, max_rows=1000)
FOREVER = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


def judge(gold: str, prediction: str, *, dialect: str = "sqlite", **row: object) -> SqlOutcome:
    fields: dict[str, Any] = {"schema": SCHEMA, "context": CONTEXT, **row}
    question = SqlRow(row_id="r", gold=gold, **fields)
    return score_queries([question], [prediction], dialect=dialect, limits=LIMITS).outcomes[0]


@pytest.mark.parametrize(
    ("gold", "prediction", "matches"),
    [
        ("SELECT a FROM t", "SELECT a FROM t ORDER BY b DESC", True),
        ("SELECT a FROM t ORDER BY b", "SELECT a FROM t ORDER BY b DESC", False),
        ("SELECT a FROM t", "SELECT DISTINCT a FROM t", False),
        ("SELECT a, b FROM t", "SELECT b, a FROM t", True),
        ("SELECT a FROM t WHERE b = 'x'", "SELECT '1'", False),
        ("SELECT avg(a) FROM t", "SELECT 5 / 3.0", True),
        ("SELECT a FROM t WHERE b = 'x'", 'SELECT a FROM t WHERE b = "x"', True),
        ("SELECT count(*) FROM t", 'SELECT count("colunm") FROM t', False),
        ("SELECT count(*) FROM t", 'SELECT count("b") FROM t', True),
        ("SELECT a FROM t ORDER BY a", 'SELECT a FROM t ORDER BY "colunm"', False),
        ("SELECT count(*) FROM t", "WITH c AS (SELECT a FROM t) SELECT count(*) FROM c", True),
        ("SELECT max(a) FROM t", "WITH c AS (SELECT a FROM t) SELECT max(a) FROM c", True),
        ("SELECT 1", "SELECT 1 FROM (SELECT a FROM t LIMIT 1) AS s", True),
        ("SELECT count(*) FROM t", "SELECT count(*) FROM t AS T1 JOIN t AS T2 USING (b)", True),
        (
            "SELECT sum(x) FROM (SELECT 1 AS x UNION SELECT 2)",
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION SELECT x + 1 FROM c WHERE x < 2) "
            "SELECT sum(x) FROM c",
            True,
        ),
        ("SELECT a FROM empty", "SELECT a, b FROM t WHERE a > 5", True),
    ],
)
def test_results_decide(gold: str, prediction: str, matches: bool) -> None:
    assert judge(gold, prediction).execution_match is matches


@pytest.mark.parametrize(
    ("prediction", "reason"),
    [
        ("", "empty"),
        (" ;\n", "empty"),
        ("SELECT a FROM t; SELECT a FROM t", "several_statements"),
        ("SELECT a FROM t; DROP TABLE t", "several_statements"),
        ("DROP TABLE t", "unsafe"),
        ("```sql\nSELECT a FROM t\n```", "not_a_query"),
        ("Não sei.", "not_a_query"),
        ("SELECT colunm FROM t", "failed"),
        (FOREVER, "timeout"),
        ("SELECT a FROM t ORDER BY random()", "not_deterministic"),
        ("SELECT a FROM t WHERE b < date('now')", "not_deterministic"),
        ("SELECT '" + "x" * 1_000_000 + "'", "too_long"),
        ("SELECT b FROM t", "other_result"),
        ("SELECT t.a, t.a FROM t, t AS u, t AS v", "other_result"),
    ],
)
def test_a_wrong_prediction_says_why(prediction: str, reason: str) -> None:
    outcome = judge("SELECT a FROM t", prediction)
    assert (outcome.execution_match, outcome.wrong_reason) == (False, reason)
    assert outcome.executable is (reason == "other_result")


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        ("SELECT colunm FROM t", "gold_failed"),
        ("", "gold_empty"),
        (FOREVER, "gold_timeout"),
        ("SELECT a FROM t WHERE b < current_date", "gold_not_deterministic"),
        ("SELECT random()", "gold_not_deterministic"),
        ("SELECT strftime('%Y', 'now')", "gold_not_deterministic"),
        ("DELETE FROM t", "gold_unsafe"),
        ("SELECT a FROM t; SELECT 1", "gold_several_statements"),
        ("SELECT 1 FROM t a, t b, t c, t d, t e, t f, t g", "gold_too_many_rows"),
    ],
)
def test_a_gold_that_cannot_say_leaves_the_row_unscored(gold: str, reason: str) -> None:
    outcome = judge(gold, "SELECT a FROM t")
    assert (outcome.execution_match, outcome.unscored_reason) == (None, reason)
    assert outcome.wrong_reason is None


def test_databases_that_cannot_be_used_leave_their_rows_unscored(tmp_path: Path) -> None:
    (tmp_path / "text.sqlite").write_text("this is no database " * 100)
    (tmp_path / "nothing.sqlite").touch()
    os.mkfifo(tmp_path / "pipe.sqlite")
    reasons = {
        name: judge("SELECT 1", "SELECT 1", database=tmp_path / f"{name}.sqlite").unscored_reason
        for name in ("absent", "text", "nothing", "pipe")
    }
    assert reasons == {
        "absent": "database_missing",
        "text": "database_unreadable",
        "nothing": "database_without_rows",
        "pipe": "database_missing",
    }


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (None, "database_missing"),
        ("  ", "database_missing"),
        (SCHEMA, "database_without_rows"),
        ("CREATE TABLE t (", "database_failed"),
        (CONTEXT + "ATTACH 'x' AS y;", "database_unsafe"),
        (
            CONTEXT + "INSERT INTO t (a) WITH RECURSIVE c(x) AS "
            "(SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c;",
            "database_timeout",
        ),
    ],
)
def test_contexts_that_cannot_be_used_leave_their_rows_unscored(
    context: str | None, reason: str
) -> None:
    assert judge("SELECT a FROM t", "SELECT a FROM t", context=context).unscored_reason == reason


def test_a_context_that_loops_costs_its_deadline_once() -> None:
    context = CONTEXT + f"INSERT INTO t (a) {FOREVER};"
    rows = [
        SqlRow(row_id=str(n), schema=SCHEMA, gold="SELECT a FROM t", context=context)
        for n in range(20)
    ]
    progress: list[tuple[int, int]] = []
    scores = score_queries(
        rows,
        ["SELECT a FROM t"] * 20,
        limits=LIMITS,
        report_progress=lambda done, total: progress.append((done, total)),
    )
    assert scores.unscored_by_reason == {"database_timeout": 20}
    assert scores.estimates["sql_execution_match"].value is None
    assert scores.estimates["sql_exact_match"].value == 1.0
    assert progress == [(n, 20) for n in range(1, 21)]


def test_rates_have_their_own_rows() -> None:
    golds = ["SELECT a FROM t", "SELECT a FROM t", "SELECT a FROM empty", "SELECT colunm FROM t"]
    texts = ["SELECT t.a FROM t", "DROP TABLE t", "SELECT a FROM t", "SELECT a FROM t"]
    rows = [
        SqlRow(row_id=str(n), schema=SCHEMA, gold=gold, context=CONTEXT)
        for n, gold in enumerate(golds)
    ]
    scores = score_queries(rows, texts, limits=LIMITS)
    match, exact = scores.estimates["sql_execution_match"], scores.estimates["sql_exact_match"]
    assert (match.value, match.n) == (1 / 3, 3)
    assert (exact.value, exact.n) == (1 / 3, 3)
    assert (scores.executable_rate.value, scores.executable_rate.n) == (2 / 3, 3)
    assert (scores.empty_result_rate.value, scores.empty_result_rate.n) == (0.0, 2)
    assert (scores.nothing_floor.value, scores.nothing_floor.n) == (1 / 3, 3)
    assert scores.unscored_by_reason == {"gold_failed": 1}
    assert scores.exact_unscored_by_reason == {"gold_unknown_name": 1}
    assert scores.wrong_by_reason == {"other_result": 1, "unsafe": 1}


def test_another_dialect_is_translated_before_it_runs() -> None:
    # `::` is PostgreSQL's cast; SQLite cannot read it.
    gold, same = "SELECT a::text FROM t", "SELECT CAST(a AS text) FROM t"
    assert judge(gold, same).unscored_reason == "gold_failed"
    assert judge(gold, same, dialect="postgres").execution_match is True
    assert judge(same, "SELECT ((", dialect="postgres").wrong_reason == "not_in_dialect"


def test_a_database_file_may_have_an_odd_name(tmp_path: Path) -> None:
    path = tmp_path / "a?b#c%20 é.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(CONTEXT)
    connection.close()
    assert judge("SELECT a FROM t", "SELECT a FROM t", database=path).execution_match is True


def test_a_view_is_read_like_a_table() -> None:
    context = CONTEXT + "CREATE VIEW v AS SELECT a FROM t;"
    outcome = judge("SELECT a FROM t", "SELECT a FROM v", context=context)
    assert outcome.execution_match is True


def test_one_prediction_for_each_row_is_expected() -> None:
    with pytest.raises(ScoringError, match="0 rows and 0 predictions"):
        score_queries([], [])
    with pytest.raises(ScoringError, match="0 rows and 1 predictions"):
        score_queries([], ["SELECT 1"])


@pytest.mark.parametrize(
    ("generated", "sql"),
    [
        ("SELECT 1", "SELECT 1"),
        ("  SELECT 1 ;\n", "SELECT 1"),
        ("SELECT 1;;", "SELECT 1"),
        ("```sql\nSELECT 1;\n```", "SELECT 1"),
        ("```\nSELECT 1\n```\n", "SELECT 1"),
        ("```SQLite\nSELECT 1```", "SELECT 1"),
        ("SQL: SELECT 1", "SELECT 1"),
        ("```\nsql: SELECT 1;\n```", "SELECT 1"),
        ("", ""),
        (" ; ", ""),
        ("SELECT ';'", "SELECT ';'"),
        # Strict: prose, other languages and unfinished fences stay.
        ("Here: SELECT 1", "Here: SELECT 1"),
        ("Claro!\n```sql\nSELECT 1\n```", "Claro!\n```sql\nSELECT 1\n```"),
        ("```python\nSELECT 1\n```", "```python\nSELECT 1\n```"),
        ("```sql\nSELECT 1", "```sql\nSELECT 1"),
        ("```sql\nSELECT 1\n```\nou\n```sql\nSELECT 2\n```",) * 2,
        ("SQL: SQL: SELECT 1", "SQL: SELECT 1"),
    ],
)
def test_sql_is_extracted_strictly(generated: str, sql: str) -> None:
    assert extract_sql(generated) == sql


@pytest.mark.parametrize("piece", ["; ", "```sql\n", "SQL:", " ", "```"])
def test_a_megabyte_is_extracted_in_no_time(piece: str) -> None:
    assert isinstance(extract_sql(piece * (1_000_000 // len(piece)) + "x"), str)


def test_a_megabyte_of_white_space_in_a_fence_is_read_at_once() -> None:
    """A lazy pattern for both ends of the fence took minutes: it is quadratic."""
    text = "```sql\n" + " " * 1_000_000 + "x"
    start = time.process_time()
    assert extract_sql(text) == text
    assert extract_sql(text + "\n```") == "x"
    assert time.process_time() - start < 1.0


def test_a_view_that_reads_the_clock_leaves_its_row_unscored() -> None:
    """Neither query says `now`, and yet tomorrow both may have another result."""
    tables = (
        "CREATE TABLE t (a INTEGER, day TEXT DEFAULT CURRENT_DATE); INSERT INTO t (a) VALUES (1);"
    )
    fixed = tables + "CREATE VIEW v AS SELECT date(day) FROM t;"
    moving = tables + "CREATE VIEW v AS SELECT a FROM t WHERE day < date('now');"
    for context, reason in ((fixed, None), (moving, "database_not_deterministic")):
        row = SqlRow(row_id="r", gold="SELECT * FROM v", context=context)
        [outcome] = score_queries([row], ["SELECT * FROM v"]).outcomes
        assert (outcome.execution_match, outcome.unscored_reason) == (not reason or None, reason)
