"""Execution match of one row: both queries run on the row's own database, results compared.

Definition: `compare.results_match`. A gold that fails, is late, draws random numbers or reads the
clock leaves the row unscored (`gold_...`), and so does a database that is missing, is not one, or
holds no rows (`database_...`: on empty tables nearly any two queries agree), or has a view in its
context that reads the clock. A prediction that is empty, several statements, no query, unsafe,
late, failing, or whose result can change from run to run is wrong, with that reason.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from retune.sql.lexing import (
    is_deterministic,
    orders_rows,
    read_tokens,
    split_statements,
)
from retune.sql.parsing import UnreadableError, translate_sql
from retune.sql.queries import read_query
from retune.sql.records import SqlLimits, SqlRow
from retune.sql.sandbox import SqlSandbox
from retune.sql.ties import tie_probes

_CREATES_VIEW = re.compile(r"\bcreate\s+(?:temp\w*\s+)?view\b", re.IGNORECASE)

Verdict = dict[str, Any]
"""Fields of `SqlOutcome` that execution decides."""


class ExecutionJudge:
    """Judges rows one after the other, keeping the last database open.

    Args:
        sandbox: Where queries run.
        limits: What they may cost.
        dialect: What golds, predictions and contexts are written in; all but `sqlite` are
            translated by sqlglot first.
    """

    def __init__(self, sandbox: SqlSandbox, limits: SqlLimits, dialect: str) -> None:
        self._sandbox = sandbox
        self._limits = limits
        self._dialect = dialect
        self._key = ""
        self._worker_number = 0
        self._open_reply: dict[str, Any] = {}

    def judge(self, row: SqlRow, prediction: str) -> Verdict:
        """Run the gold, then the prediction, and compare.

        Args:
            row: Gold query and database.
            prediction: The text that a model wrote, after `extract_sql`.

        Returns:
            Fields of `SqlOutcome`; exactly one of `unscored_reason` and `execution_match` is set.
        """
        return self.judge_all(row, [prediction])[0]

    def judge_all(self, row: SqlRow, predictions: Sequence[str]) -> list[Verdict]:
        """Judge several predictions of one row; its gold runs once.

        Args:
            row: Gold query and database.
            predictions: Texts that models wrote, after `extract_sql`.

        Returns:
            One verdict each, as `judge` gives it.
        """
        problem = self._open(row)
        if problem is not None:
            return [problem] * len(predictions)
        try:
            gold = self._runnable(row.gold)
        except UnreadableError as refused:
            return [_unscored("gold_" + refused.reason, refused.detail)] * len(predictions)
        reply = self._ask("gold", sql=gold)
        if reply["status"] != "ok":
            return [_unscored("gold_" + reply["status"], reply["detail"])] * len(predictions)
        shared = {"gold_empty": reply["rows"] == 0, "gold_cuts_tie": self._cuts_tie(gold)}
        ordered = orders_rows(read_tokens(gold))
        verdicts = []
        for prediction in predictions:
            # Looking for ties, or the prediction before, was too much for the worker.
            if not self._sandbox.is_running:
                self._open(row)
                self._ask("gold", sql=gold)
            verdicts.append({**self._judge_prediction(prediction, ordered=ordered), **shared})
        return verdicts

    def _cuts_tie(self, gold: str) -> bool | None:
        """Say whether a LIMIT of the gold cuts a tie; None when a subquery cannot be asked."""
        found: bool | None = False
        for probe in tie_probes(gold):
            reply = self._ask("probe", sql=probe)
            if reply["status"] == "ok" and reply["rows"]:
                return True
            if reply["status"] != "ok":
                found = None
            if not self._sandbox.is_running:
                return found
        return found

    def _judge_prediction(self, prediction: str, *, ordered: bool) -> Verdict:
        try:
            sql = self._runnable(prediction)
        except UnreadableError as refused:
            return _wrong(refused.reason, refused.detail)
        reply = self._ask("prediction", sql=sql, ordered=ordered)
        if reply["status"] != "ok":
            return _wrong(reply["status"], reply["detail"])
        return {
            "execution_match": reply["match"],
            "wrong_reason": None if reply["match"] else "other_result",
            "executable": True,
            "empty_result": reply["rows"] == 0,
        }

    def _ask(self, op: str, **fields: Any) -> dict[str, Any]:
        return self._sandbox.ask(op, deadline_s=self._limits.deadline_s, **fields)

    def _open(self, row: SqlRow) -> Verdict | None:
        """Open the row's database unless it is; return what makes it useless, if anything."""
        key = database_key(row)
        # What could not be opened once is not tried again: a context that loops costs its
        # deadline once, not once a row.
        failed_before = key == self._key and self._open_reply["status"] != "ok"
        same_worker = self._worker_number == self._sandbox.starts and self._sandbox.is_running
        if not failed_before and (key != self._key or not same_worker):
            self._open_reply = self._open_anew(row)
            self._key, self._worker_number = key, self._sandbox.starts
        reply = self._open_reply
        if reply["status"] != "ok":
            return _unscored("database_" + reply["status"], reply["detail"])
        if not reply["has_rows"]:
            return _unscored("database_without_rows", "execution match means nothing here")
        return None

    def _open_anew(self, row: SqlRow) -> dict[str, Any]:
        where: dict[str, str] = {}
        if row.database is not None:
            # A pipe or device would block whoever opens it.
            if not row.database.is_file():
                return {"status": "missing", "detail": str(row.database)}
            where["path"] = str(row.database.resolve())
        elif row.context is not None and row.context.strip():
            if len(row.context) > self._limits.max_context_chars:
                return {"status": "too_long", "detail": f"{len(row.context)} characters"}
            try:
                where["context"] = translate_sql(row.context, self._dialect)
            except UnreadableError as refused:
                return {"status": refused.reason, "detail": refused.detail}
            if _has_view_of_clock(where["context"]):
                return {"status": "not_deterministic", "detail": "a view reads the clock"}
        else:
            return {"status": "missing", "detail": "the row has no database file and no context"}
        return self._sandbox.ask("open", deadline_s=self._limits.context_deadline_s, **where)

    def _runnable(self, sql: str) -> str:
        """Return the one query in a text as SQLite is to run it, or refuse it."""
        return read_query(sql, self._limits.max_sql_chars, self._dialect, repeatable=True)


def _has_view_of_clock(context: str) -> bool:
    """Say whether a view's rows change by themselves: the queries over it do not show that."""
    if not _CREATES_VIEW.search(context):
        return False
    statements = split_statements(read_tokens(context))
    return any(
        "view" in [token.folded for token in statement[:3]] and not is_deterministic(statement)
        for statement in statements
    )


def database_key(row: SqlRow) -> str:
    """Return what tells a row's database from others; rows are judged in its order."""
    if row.database is not None:
        return f"file {row.database}"
    return "context " + hashlib.sha256((row.context or "").encode("utf-8", "replace")).hexdigest()


def _unscored(reason: str, detail: str = "") -> Verdict:
    return {"execution_match": None, "unscored_reason": reason, "detail": detail}


def _wrong(reason: str, detail: str) -> Verdict:
    return {
        "execution_match": False,
        "wrong_reason": reason,
        "detail": detail,
        "executable": False,
    }
