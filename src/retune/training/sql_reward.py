"""The reward of an answer to a text-to-SQL prompt: execution match, as the scorer has it.

1 where the answer's query gives the reference's result on the row's database, else 0: also where it
is empty, broken, unsafe or too slow (`sql.execution`). What the scorer could not score has
no reward, and such rows are left out before training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from retune.scoring.sql.score import extract_sql
from retune.sql.execution import ExecutionJudge, database_key
from retune.sql.records import SqlLimits, SqlRow
from retune.sql.sandbox import SqlSandbox

_KEPT_VERDICTS = 100_000
"""Most verdicts that are kept; models repeat themselves, also from epoch to epoch."""


class SqlReward:
    """Rewards answers, and runs no query twice for one row.

    Args:
        sandbox: Where queries run.
        rows: What answers are compared with, by the places that `rewards` is given.
        dialect: What golds and answers are written in.
        limits: What a query may cost.
    """

    def __init__(
        self, sandbox: SqlSandbox, rows: Sequence[SqlRow], *, dialect: str, limits: SqlLimits
    ) -> None:
        self._judge = ExecutionJudge(sandbox, limits, dialect)
        self._rows = rows
        self._known: dict[tuple[int, str], float | None] = {}

    def rewards(self, places: Sequence[int], answers: Sequence[str]) -> list[float | None]:
        """Reward answers.

        Args:
            places: Which row each answer is to.
            answers: What the model wrote, without the end token.

        Returns:
            1.0, 0.0, or None where the row cannot be scored.
        """
        asked = [
            (place, extract_sql(answer)) for place, answer in zip(places, answers, strict=True)
        ]
        for place in self._in_order({place for place, _ in asked}):
            self._learn(place, [sql for at, sql in asked if at == place])
        rewards = [self._known[each] for each in asked]
        if len(self._known) > _KEPT_VERDICTS:
            self._known.clear()
        return rewards

    def _in_order(self, places: Iterable[int]) -> list[int]:
        # By database: each is opened once.
        return sorted(places, key=lambda place: (database_key(self._rows[place]), place))

    def _learn(self, place: int, queries: Sequence[str]) -> None:
        new = [sql for sql in dict.fromkeys(queries) if (place, sql) not in self._known]
        if not new:
            return
        for sql, verdict in zip(new, self._judge.judge_all(self._rows[place], new), strict=True):
            match = verdict["execution_match"]
            self._known[place, sql] = None if match is None else float(match)

    def unscorable(self) -> list[int]:
        """Return the places of rows whose gold or database cannot say whether an answer is right.

        The gold as its own answer is right wherever anything can be said.
        """
        places = self._in_order(range(len(self._rows)))
        golds = self.rewards(places, [self._rows[place].gold for place in places])
        return sorted(place for place, reward in zip(places, golds, strict=True) if not reward)
