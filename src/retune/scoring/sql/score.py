"""Text-to-SQL scores: canonical exact match and execution match over rows.

`sql_exact_match`: share of rows whose canonical text (`canonical`) equals the gold's and whose
query runs (`exact`); unscored where the gold has none or does not run. `sql_execution_match`: share
of rows where both queries give the same result on the row's own database (`execution`, `compare`);
unscored where the gold or the database cannot say. Both in [0, 1], higher is better; a prediction
that cannot run is wrong, not left out.
Execution match agrees with `exec_match_keep_distinct` of taoyds/test-suite-sql-eval on one
database. Intervals: Wilson; where rows share a group (a database), widened to the bootstrap over
groups (`uncertainty.estimates`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from retune.errors import ScoringError
from retune.scoring.sql.summary import SqlScores, summarize_sql
from retune.sql.exact import ExactJudge
from retune.sql.execution import ExecutionJudge, database_key
from retune.sql.hardness import rate_hardness
from retune.sql.records import SqlLimits, SqlOutcome, SqlRow
from retune.sql.sandbox import SqlSandbox

Progress = Callable[[int, int], None]

_FENCE = re.compile(r"```[ \t]*(?:sql|sqlite)?[ \t]*\r?\n", re.I)
_LABEL = re.compile(r"SQL[ \t]*:", re.I)


def extract_sql(generated: str) -> str:
    """Take the SQL out of what a model wrote, strictly.

    Exactly this, in this order, and nothing else: white space around is stripped; if the whole
    text is one Markdown fence (```` ``` ````, with nothing, `sql` or `sqlite` behind it), its
    content is taken; one leading `SQL:` is stripped; semicolons at the end are stripped. Prose
    around the query stays, and makes the prediction fail: a user of the model would have to cut it
    out too.

    Args:
        generated: The newly generated text.

    Returns:
        The SQL; empty when there is none.

    Example:
        >>> extract_sql("SQL: SELECT 1;")
        'SELECT 1'
    """
    text = generated.strip()
    fence = _FENCE.match(text)
    # Not one pattern for both ends: a megabyte of spaces between them stays linear.
    if fence and text.endswith("```") and text.count("```") == 2 and len(text) >= fence.end() + 3:
        text = text[fence.end() : -3].strip()
    label = _LABEL.match(text)
    if label:
        text = text[label.end() :]
    # In a loop over characters, not a pattern: `;\s;\s;...` of a megabyte stays linear.
    return text.strip().rstrip("; \t\r\n")


def score_queries(
    rows: Sequence[SqlRow],
    predictions: Sequence[str],
    *,
    dialect: str = "sqlite",
    limits: SqlLimits = SqlLimits(),  # noqa: B008 - frozen
    workers: int = 1,
    report_progress: Progress | None = None,
) -> SqlScores:
    """Score predicted queries against gold queries.

    Args:
        rows: Gold queries and where to run them.
        predictions: One query per row, after `extract_sql`; taken as it is here.
        dialect: What golds, predictions, schemas and contexts are written in, as sqlglot names
            it. Execution is always by SQLite; other dialects are translated first.
        limits: What one statement may cost.
        workers: Sandbox processes at a time; changes no figure as long as there are as many
            cores, since a deadline is wall-clock time.
        report_progress: Called with rows done and rows in all after each row.

    Returns:
        Outcomes in the rows' order, estimates, and counts by reason.

    Raises:
        ScoringError: There are no rows, not one prediction per row, or no worker can start.
    """
    if not rows or len(rows) != len(predictions):
        raise ScoringError(
            f"Found {len(rows)} rows and {len(predictions)} predictions; expected at least one row "
            "and one prediction for each."
        )
    outcomes: dict[int, SqlOutcome] = {}
    lock = Lock()

    def judge_share(share: Sequence[int]) -> None:
        # The sandbox lives in the thread that started it: its workers end with that thread.
        with SqlSandbox(limits) as sandbox:
            judge = ExecutionJudge(sandbox, limits, dialect)
            exact = ExactJudge(sandbox, limits, dialect)
            for at in share:
                outcome = _judge_row(judge, exact, rows[at], predictions[at], dialect)
                with lock:
                    outcomes[at] = outcome
                    if report_progress is not None:
                        report_progress(len(outcomes), len(rows))

    shares = _share_rows(rows, workers)
    if len(shares) == 1:
        judge_share(shares[0])
    else:
        with ThreadPoolExecutor(len(shares)) as pool:
            list(pool.map(judge_share, shares))
    return summarize_sql(rows, [outcomes[at] for at in range(len(rows))])


def _share_rows(rows: Sequence[SqlRow], workers: int) -> list[list[int]]:
    """Deal out whole databases, the largest first: each is opened or built once."""
    by_database: dict[str, list[int]] = {}
    for at in sorted(range(len(rows)), key=lambda at: database_key(rows[at])):
        by_database.setdefault(database_key(rows[at]), []).append(at)
    shares: list[list[int]] = [[] for _ in range(max(1, min(workers, len(by_database))))]
    for members in sorted(by_database.values(), key=len, reverse=True):
        min(shares, key=len).extend(members)
    return shares


def _judge_row(
    judge: ExecutionJudge, exact: ExactJudge, row: SqlRow, prediction: str, dialect: str
) -> SqlOutcome:
    verdict = judge.judge(row, prediction)
    matched = exact.judge(row, prediction, verdict)
    hardness = rate_hardness(row.gold, dialect=dialect)
    return SqlOutcome(row_id=row.row_id, hardness=hardness, **matched, **verdict)
