"""Text-to-SQL scores: canonical exact match and execution match over rows.

`sql_exact_match`: share of rows whose canonical text (`canonical`) equals the gold's; unscored
where the gold has none. `sql_execution_match`: share of rows where both queries give the same
result on the row's own database (`execution`, `compare`); unscored where the gold or the database
cannot say. Both in [0, 1], higher is better; a prediction that cannot run is wrong, not left out.
Execution match agrees with `exec_match_keep_distinct` of taoyds/test-suite-sql-eval on one
database. Intervals: Wilson; where rows share a group (a database), widened to the bootstrap over
groups (`uncertainty.estimate_rate`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from retune.errors import ScoringError
from retune.scoring.sql.canonical import Canonical, canonicalize_sql
from retune.scoring.sql.execution import ExecutionJudge, database_key
from retune.scoring.sql.records import SqlLimits, SqlOutcome, SqlRow, SqlScores
from retune.scoring.sql.sandbox import SqlSandbox
from retune.scoring.uncertainty import Estimate, estimate_rate

_FENCE = re.compile(r"```[ \t]*(?:sql|sqlite)?[ \t]*\r?\n(.*?)\r?\n?[ \t]*```\Z", re.I | re.S)
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
    """
    text = generated.strip()
    fenced = _FENCE.match(text)
    if fenced and "```" not in fenced.group(1):
        text = fenced.group(1).strip()
    label = _LABEL.match(text)
    if label:
        text = text[label.end() :]
    # In a loop over characters, not a pattern: `;\s;\s;...` of a megabyte stays linear.
    return text.strip().rstrip("; \t\r\n")


def score_sql(
    rows: Sequence[SqlRow],
    predictions: Sequence[str],
    *,
    dialect: str = "sqlite",
    limits: SqlLimits = SqlLimits(),  # noqa: B008 - frozen
    report_progress: Callable[[int, int], None] | None = None,
) -> SqlScores:
    """Score predicted queries against gold queries.

    Args:
        rows: Gold queries and where to run them.
        predictions: One query per row, after `extract_sql`; taken as it is here.
        dialect: What golds, predictions, schemas and contexts are written in, as sqlglot names
            it. Execution is always by SQLite; other dialects are translated first.
        limits: What one statement may cost.
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
    # Rows of one database one after the other: it is opened or built once.
    order = sorted(range(len(rows)), key=lambda at: database_key(rows[at]))
    with SqlSandbox(limits) as sandbox:
        judge = ExecutionJudge(sandbox, limits, dialect)
        for done, at in enumerate(order, 1):
            exact = compare_canonically(rows[at], predictions[at], dialect=dialect)
            verdict = judge.judge(rows[at], predictions[at])
            outcomes[at] = SqlOutcome(row_id=rows[at].row_id, **exact, **verdict)
            if report_progress is not None:
                report_progress(done, len(rows))
    return summarize_sql(rows, [outcomes[at] for at in range(len(rows))])


def compare_canonically(row: SqlRow, prediction: str, *, dialect: str) -> dict[str, Any]:
    """Judge the exact match of one row.

    Args:
        row: Gold query and schema.
        prediction: The predicted query.
        dialect: What all are written in.

    Returns:
        `exact_match`, and `exact_unscored_reason` when the gold has no canonical form.
    """
    gold = _canonical(row, row.gold, dialect)
    if gold.text is None:
        reason = gold.reason if gold.reason == "schema_unreadable" else f"gold_{gold.reason}"
        return {"exact_match": None, "exact_unscored_reason": reason}
    return {"exact_match": _canonical(row, prediction, dialect).text == gold.text}


def _canonical(row: SqlRow, sql: str, dialect: str) -> Canonical:
    return canonicalize_sql(sql, row.schema, dialect=dialect)


def summarize_sql(rows: Sequence[SqlRow], outcomes: Sequence[SqlOutcome]) -> SqlScores:
    """Sum up outcomes.

    Args:
        rows: The rows, for their groups.
        outcomes: One per row, in the same order.

    Returns:
        Rates with intervals and counts by reason.
    """
    groups = [row.group for row in rows]

    def rate(values: Iterable[bool | None]) -> Estimate:
        return estimate_rate(list(values), groups=groups)

    return SqlScores(
        outcomes=tuple(outcomes),
        estimates={
            "sql_exact_match": rate(o.exact_match for o in outcomes),
            "sql_execution_match": rate(o.execution_match for o in outcomes),
        },
        unscored_by_reason=_count(o.unscored_reason for o in outcomes),
        exact_unscored_by_reason=_count(o.exact_unscored_reason for o in outcomes),
        wrong_by_reason=_count(o.wrong_reason for o in outcomes),
        executable_rate=rate(o.executable for o in outcomes),
        empty_result_rate=rate(o.empty_result for o in outcomes),
        nothing_floor=rate(o.gold_empty for o in outcomes),
    )


def _count(reasons: Iterable[str | None]) -> dict[str, int]:
    counted = Counter(reason for reason in reasons if reason is not None)
    return dict(sorted(counted.items()))
