"""Which queries are worth asking of a database."""

from contextlib import closing

import pytest

from generator.executing import BuiltDatabase
from generator.queries import Condition, Query, render_sql
from generator.schemas import Column, Schema, Table
from generator.words import ColumnType, Noun

NAME = Column("name", Noun("name", "names"), ColumnType.TEXT, ("Ann", "Bob", "Cid"), True)
COLOR = Column("color", Noun("color", "colors"), ColumnType.TEXT, ("red", "red", "blue"))
PRICE = Column("price", Noun("price", "prices"), ColumnType.INTEGER, (5, 7, 7))
TABLE = Table("toys", Noun("toy", "toys"), (NAME, COLOR, PRICE))
SCHEMA = Schema((TABLE,), TABLE)


def _is_worth_asking(query: Query) -> bool:
    with closing(BuiltDatabase(SCHEMA)) as database:
        return database.is_worth_asking(query)


def test_a_query_is_written_in_one_style() -> None:
    tests = (Condition(COLOR, "=", ("red",)), Condition(PRICE, ">", (5,)))
    query = Query("filter_and", TABLE, (NAME,), conditions=tests)
    assert render_sql(query, SCHEMA) == "SELECT name FROM toys WHERE color = 'red' AND price > 5"


@pytest.mark.parametrize(
    ("query", "worth"),
    [
        # One of three rows is blue.
        (
            Query("filter_equal", TABLE, (NAME,), conditions=(Condition(COLOR, "=", ("blue",)),)),
            True,
        ),
        # No price is over 7: an empty answer.
        (Query("filter_compare", TABLE, (NAME,), conditions=(Condition(PRICE, ">", (7,)),)), False),
        # Every price is at least 5: the condition tests nothing.
        (
            Query("filter_compare", TABLE, (NAME,), conditions=(Condition(PRICE, ">=", (5,)),)),
            False,
        ),
        # The count is 0.
        (Query("count_where", TABLE, conditions=(Condition(PRICE, "<", (5,)),)), False),
        # Two rows share the highest price.
        (Query("extreme", TABLE, (NAME,), order=PRICE, descending=True, limit=1), False),
        # The names are all different: DISTINCT changes nothing.
        (Query("distinct", TABLE, (NAME,)), False),
        (Query("distinct", TABLE, (COLOR,)), True),
        # Red comes twice, blue once.
        (Query("most_common", TABLE, group=COLOR, limit=1), True),
    ],
)
def test_a_query_is_worth_asking_when_its_answer_means_something(query: Query, worth: bool) -> None:
    assert _is_worth_asking(query) is worth
