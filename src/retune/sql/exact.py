"""Exact match of one row: written alike, and a query that runs.

Canonical texts (`canonical`) that are equal say that two queries mean the same, if SQLite can run
both; they cannot say that it can. So a yes needs more. Where both ran, their results must be the
same (`execution`). Where the row could not be run (no database, tables without rows, a query that
reads the clock), SQLite must be able to prepare the prediction over the schema's tables, without
rows; where no schema is known either, its syntax must be SQLite's. A gold that does not run is
matched by nothing and leaves the row unscored (`gold_failed`).

Golds of another dialect that SQLite cannot prepare even translated are compared as texts alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from retune.sql.canonical import Canonical, canonicalize_sql
from retune.sql.catalogue import read_schema, write_schema
from retune.sql.parsing import UnreadableError, translate_sql
from retune.sql.records import SqlLimits, SqlRow
from retune.sql.sandbox import SqlSandbox

_GOLD_FAILED = "gold_failed"
_UNKNOWN_NAMES = ("no such table", "no such column", "ambiguous column name")
"""What SQLite says of a query whose syntax it has read and whose tables it does not have."""


class ExactJudge:
    """Judges the exact match of rows, after their execution match.

    Args:
        sandbox: Where queries are prepared.
        limits: How long that may take.
        dialect: What golds, predictions and schemas are written in.
    """

    def __init__(self, sandbox: SqlSandbox, limits: SqlLimits, dialect: str) -> None:
        self._sandbox = sandbox
        self._limits = limits
        self._dialect = dialect

    def judge(self, row: SqlRow, prediction: str, verdict: Mapping[str, Any]) -> dict[str, Any]:
        """Judge one row.

        Args:
            row: Gold query and schema.
            prediction: The text that a model wrote, after `extract_sql`.
            verdict: What the execution of both came to.

        Returns:
            `exact_match`, and `exact_unscored_reason` when the gold has no canonical form or does
            not run.
        """
        gold = _canonical_gold(row.gold, row.schema, self._dialect)
        if gold.text is None:
            reason = gold.reason if gold.reason == "schema_unreadable" else f"gold_{gold.reason}"
            return {"exact_match": None, "exact_unscored_reason": reason}
        if verdict.get("unscored_reason") == _GOLD_FAILED:
            return {"exact_match": None, "exact_unscored_reason": _GOLD_FAILED}
        ran = verdict["execution_match"]
        gold_runs = ran is not None or self._can_run(row, row.gold)
        if not gold_runs and self._dialect == "sqlite":
            return {"exact_match": None, "exact_unscored_reason": _GOLD_FAILED}
        if ran is False:  # a no of the database is one, however alike the texts are
            return {"exact_match": False}
        predicted = canonicalize_sql(prediction, row.schema, dialect=self._dialect)
        alike = predicted.text == gold.text
        if alike and ran is None and gold_runs:
            alike = self._can_run(row, prediction)
        return {"exact_match": alike}

    def _can_run(self, row: SqlRow, sql: str) -> bool:
        try:
            columns = read_schema(row.schema, self._dialect)
            query = translate_sql(sql, self._dialect)
        except UnreadableError:
            return False
        reply = self._sandbox.ask(
            "prepare",
            deadline_s=self._limits.deadline_s,
            context=write_schema(columns),
            sql=query,
        )
        if columns or reply["status"] != "failed":
            return bool(reply["status"] == "ok")
        return str(reply["detail"]).startswith(_UNKNOWN_NAMES)


@lru_cache(maxsize=8192)  # the golds of one side are asked for once per model
def _canonical_gold(gold: str, schema: str, dialect: str) -> Canonical:
    return canonicalize_sql(gold, schema, dialect=dialect)
