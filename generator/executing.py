"""Which queries are worth asking of a database: those whose answer a wrong query does not give."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

from generator.queries import Query, render_sql
from generator.schemas import Schema

ResultRow = tuple[object, ...]

_NO_THRESHOLD = -1


class BuiltDatabase:
    """A schema with its rows in memory, ready to be asked."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._connection = sqlite3.connect(":memory:")
        self._connection.executescript(schema.context)

    def close(self) -> None:
        """Free the memory."""
        self._connection.close()

    def is_worth_asking(self, query: Query) -> bool:
        """Say whether the answer to a query means something.

        It must not be empty nor zero, it must differ from the answers to the same query with a
        part left out, and its order and its cut must not depend on a tie.

        Args:
            query: A query over this schema.

        Returns:
            Whether to ask it.
        """
        rows = self._answer(query)
        if not rows or rows in ([(0,)], [(None,)]):
            return False
        if any(Counter(rows) == Counter(self._answer(other)) for other in _with_less(query)):
            return False
        return not self._has_tie(query)

    def _answer(self, query: Query) -> list[ResultRow]:
        with closing(self._connection.execute(render_sql(query, self._schema))) as cursor:
            return list(cursor.fetchall())

    def _has_tie(self, query: Query) -> bool:
        if query.order:
            return len(set(query.order.values)) < len(query.order.values)
        if query.kind == "most_common" and query.group:
            counts = Counter(query.group.values).most_common(2)
            return len(counts) == 2 and counts[0][1] == counts[1][1]
        return False


def _with_less(query: Query) -> Iterator[Query]:
    for index in range(len(query.conditions)):
        rest = query.conditions[:index] + query.conditions[index + 1 :]
        yield replace(query, conditions=rest)
    if query.kind == "distinct":
        yield replace(query, kind="list_columns")
    if query.kind.startswith("having"):
        yield replace(query, threshold=_NO_THRESHOLD)
