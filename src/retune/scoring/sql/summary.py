"""Rates with intervals, counts by reason and the table by hardness, from outcomes row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from retune.scoring.uncertainty.estimates import Estimate, estimate_rate
from retune.sql.hardness import HARDNESS
from retune.sql.records import SqlOutcome, SqlRecord, SqlRow


class HardnessScores(SqlRecord):
    """The figures over the golds of one class."""

    rows: int
    exact_match: Estimate
    execution_match: Estimate


class SqlScores(SqlRecord):
    """All rows' outcomes and the figures over them.

    Every rate has its own n; an unscored row is in none of them.
    """

    outcomes: tuple[SqlOutcome, ...]
    estimates: dict[str, Estimate]
    """`sql_exact_match`, `sql_execution_match`."""

    unscored_by_reason: dict[str, int]
    exact_unscored_by_reason: dict[str, int]
    wrong_by_reason: dict[str, int]
    executable_rate: Estimate
    empty_result_rate: Estimate
    """Share of the predictions that ran and returned no rows."""

    nothing_floor: Estimate
    """Execution match of a query that returns nothing: the share of empty golds."""

    cut_tie_rate: Estimate
    """Share of the golds whose LIMIT cuts a tie: there a no may be the gold's fault."""

    by_hardness: dict[str, HardnessScores]
    """By Spider's class, easy first; `unknown` for golds that cannot be parsed. Classes without
    golds are left out."""


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
        cut_tie_rate=rate(o.gold_cuts_tie for o in outcomes),
        by_hardness=_by_hardness(groups, outcomes),
    )


def _by_hardness(
    groups: Sequence[str | None], outcomes: Sequence[SqlOutcome]
) -> dict[str, HardnessScores]:
    found: dict[str, HardnessScores] = {}
    for name in (*HARDNESS, None):
        rows = [at for at, outcome in enumerate(outcomes) if outcome.hardness == name]
        shared = [groups[at] for at in rows]
        if rows:
            found[name or "unknown"] = HardnessScores(
                rows=len(rows),
                exact_match=estimate_rate([outcomes[at].exact_match for at in rows], groups=shared),
                execution_match=estimate_rate(
                    [outcomes[at].execution_match for at in rows], groups=shared
                ),
            )
    return found


def _count(reasons: Iterable[str | None]) -> dict[str, int]:
    counted = Counter(reason for reason in reasons if reason is not None)
    return dict(sorted(counted.items()))
