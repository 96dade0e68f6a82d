"""Golds whose LIMIT cuts a tie."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retune.scoring.sql.score import score_queries
from retune.sql.records import SqlLimits, SqlRow
from retune.sql.ties import tie_probes

Read = Callable[[str], list[dict[str, Any]]]

CONTEXT = """
CREATE TABLE t (a INTEGER, b TEXT, c INTEGER);
INSERT INTO t VALUES (1, 'x', 5), (2, 'y', 5), (3, 'z', 7), (4, 'z', NULL), (5, 'w', NULL);
"""


def judge(gold: str, prediction: str = "SELECT 1") -> bool | None:
    row = SqlRow(row_id="r", gold=gold, context=CONTEXT)
    return score_queries([row], [prediction]).outcomes[0].gold_cuts_tie


@pytest.mark.parametrize(
    ("gold", "cuts", "why"),
    [
        ("SELECT b FROM t", False, "no LIMIT"),
        ("SELECT b FROM t LIMIT 1", False, "no ORDER BY"),
        ("SELECT b FROM t ORDER BY a LIMIT 1", False, "1 before 2"),
        ("SELECT b FROM t ORDER BY c DESC LIMIT 1", False, "7 before 5"),
        ("SELECT b FROM t ORDER BY c DESC LIMIT 2", True, "7, 5 | 5"),
        ("SELECT b FROM t ORDER BY c DESC LIMIT 3", False, "7, 5, 5 | NULL"),
        ("SELECT b FROM t ORDER BY c DESC LIMIT 4", True, "NULL | NULL"),
        ("SELECT b FROM t ORDER BY c DESC LIMIT 5", False, "nothing is cut"),
        ("SELECT b FROM t ORDER BY c DESC, a LIMIT 2", False, "a tells them apart"),
        ("SELECT b FROM t ORDER BY c DESC LIMIT 1 OFFSET 1", True, "the cut is behind row 2"),
        ("SELECT b, c FROM t ORDER BY 2 DESC LIMIT 2", True, "the second column"),
        ("SELECT b, c AS n FROM t ORDER BY n DESC LIMIT 2", True, "the column called n"),
        ("SELECT b FROM t GROUP BY b ORDER BY count(*) DESC LIMIT 1", False, "z twice"),
        ("SELECT b FROM t GROUP BY b ORDER BY count(*) LIMIT 1", True, "w, x, y once"),
        ("SELECT count(*) FROM t WHERE b = (SELECT b FROM t ORDER BY c LIMIT 1)", True, "inside"),
        ("SELECT a FROM t UNION SELECT c FROM t ORDER BY a DESC LIMIT 1", False, "7 once"),
        ("SELECT a, b FROM t UNION ALL SELECT a, b FROM t ORDER BY a LIMIT 1", True, "1 twice"),
        (
            "SELECT a FROM t AS o WHERE b = (SELECT b FROM t WHERE a = o.a ORDER BY c LIMIT 1)",
            None,
            "it needs the outer row",
        ),
    ],
)
def test_a_cut_tie_is_seen(gold: str, cuts: bool | None, why: str) -> None:
    """The last kept row and the first dropped one have equal keys."""
    assert judge(gold) is cuts, why


def test_looking_for_a_tie_leaves_the_golds_result_in_hand() -> None:
    """The prediction is still compared with the gold, not with the probe."""
    gold = "SELECT b FROM t ORDER BY c DESC LIMIT 2"
    row = SqlRow(row_id="r", gold=gold, context=CONTEXT)
    assert score_queries([row], [gold]).outcomes[0].execution_match is True


def test_a_probe_that_kills_the_worker_costs_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searching 4.5 million digits in 9 million is one step that cannot be interrupted."""
    from retune.sql import execution

    step = "SELECT instr(printf('%09000000d', 0), printf('%04500000d', 1))"
    monkeypatch.setattr(execution, "tie_probes", lambda _sql: (step,))
    row = SqlRow(row_id="r", gold="SELECT a FROM t", context=CONTEXT)
    limits = SqlLimits(deadline_s=0.4, grace_s=0.3)
    outcome = score_queries([row], ["SELECT a FROM t"], limits=limits).outcomes[0]
    assert (outcome.execution_match, outcome.gold_cuts_tie) == (True, None)


def test_hostile_text_has_no_probe() -> None:
    """Nothing is raised, whatever the gold is."""
    texts = ["limit", "SELECT limit", "(" * 5000 + "limit", "SELECT 1 LIMIT -1", "DROP limit"]
    assert [tie_probes(text) for text in texts] == [()] * len(texts)


def test_the_cut_ties_of_spider_dev_are_those_of_the_reference(
    read_jsonl: Read, shared_data: Path
) -> None:
    """46 of 972 golds, 4.7 %, the same ones."""
    text = (shared_data / "sql_verdicts/gold_row_order_dependent.json").read_text("utf-8")
    expected = set(json.loads(text)["spider_dev"]["limit_cuts_a_tie"])
    found = set()
    for row in read_jsonl("spider_dev/dev.jsonl"):
        path = shared_data / "spider_dev" / "databases" / f"{row['db_id']}.sqlite"
        connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
        if any(connection.execute(probe).fetchall() for probe in tie_probes(row["query"])):
            found.add(row["id"])
        connection.close()
    assert found == expected
    assert len(found) == 46
