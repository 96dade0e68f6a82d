"""What is asked, without words: a query of one of two dozen kinds over a schema, and its SQL."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from generator.schemas import Column, Schema, Table, sql_literal
from generator.words import ColumnType, Value


@dataclass(frozen=True)
class Condition:
    """A test of one column: ``operator`` is a SQL operator, BETWEEN or LIKE (a first letter)."""

    column: Column
    operator: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Query:
    """One question to a database, not yet in any language.

    Attributes:
        kind: A name of ``KINDS``.
        table: Where the rows come from.
        columns: What to show, or the one column that a function is applied to.
        function: AVG, SUM, MIN, MAX, or empty.
        conditions: Tests on rows, joined by ``connective``.
        connective: AND or OR.
        group: Column to group by.
        order: Column to sort by.
        descending: Whether the largest comes first.
        limit: Number of rows to keep, 0 for all.
        beside: A column of ``parent`` to show after ``columns``.
        threshold: What HAVING compares COUNT(*) or the mean with, by ``>``.
        parent: The joined table, for joins: conditions and group are then on its columns.
    """

    kind: str
    table: Table
    columns: tuple[Column, ...] = ()
    function: str = ""
    conditions: tuple[Condition, ...] = ()
    connective: str = "AND"
    group: Column | None = None
    order: Column | None = None
    descending: bool = False
    limit: int = 0
    threshold: int = 0
    parent: Table | None = None
    beside: Column | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of query: how hard it is, how often it is drawn, and who draws it.

    ``draw`` returns None when the schema cannot carry the kind.
    """

    level: int
    weight: float
    draw: Callable[[random.Random, str, Schema], Query | None]


def draw_query(rng: random.Random, schema: Schema, levels: tuple[float, float, float]) -> Query:
    """Draw a query that the schema can carry.

    Args:
        rng: Source of chance.
        schema: The database.
        levels: Weight of each level, easiest first.

    Returns:
        The query. Its result may be empty; nothing is executed here.
    """
    names = list(KINDS)
    weights = [KINDS[name].weight * levels[KINDS[name].level - 1] for name in names]
    while True:
        name = rng.choices(names, weights)[0]
        query = KINDS[name].draw(rng, name, schema)
        if query is not None:
            return query


def render_sql(query: Query, schema: Schema) -> str:
    """Write the query as SQL, always in the same style.

    Args:
        query: What is asked.
        schema: The database it was drawn from.

    Returns:
        One line without a semicolon; names are qualified in joins only.
    """
    parts = [f"SELECT {_selected(query)} FROM {query.table.identifier}"]
    if query.parent:
        child, parent = schema.child, query.parent.identifier
        parts.append(f"JOIN {parent} ON {child.identifier}.{child.foreign_key} = {parent}.id")
    if query.conditions:
        tests = (_test(condition, query.parent) for condition in query.conditions)
        parts.append("WHERE " + f" {query.connective} ".join(tests))
    if query.kind == "above_average":
        name, table = query.columns[-1].identifier, query.table.identifier
        parts.append(f"WHERE {name} > (SELECT AVG({name}) FROM {table})")
    parts.extend(_tail(query))
    return " ".join(parts)


def _tail(query: Query) -> list[str]:
    parts = []
    if query.group:
        parts.append(f"GROUP BY {_name(query.group, query.parent)}")
    if query.kind in ("having_count", "having_average"):
        measure = "COUNT(*)" if query.kind == "having_count" else _function(query)
        parts.append(f"HAVING {measure} > {query.threshold}")
    if query.kind == "most_common":
        parts.append("ORDER BY COUNT(*) DESC")
    if query.order:
        parts.append(f"ORDER BY {query.order.identifier}" + " DESC" * query.descending)
    if query.limit:
        parts.append(f"LIMIT {query.limit}")
    return parts


def _name(column: Column, table: Table | None) -> str:
    return f"{table.identifier}.{column.identifier}" if table else column.identifier


def _function(query: Query) -> str:
    return f"{query.function}({_name(query.columns[0], query.parent and query.table)})"


def _selected(query: Query) -> str:
    own = query.table if query.parent else None
    group = [_name(query.group, query.parent)] if query.group else []
    if query.kind in ("having_count", "having_average", "most_common"):
        return group[0]
    if query.kind == "distinct":
        return f"DISTINCT {query.columns[0].identifier}"
    if query.kind == "count_distinct":
        return f"COUNT(DISTINCT {query.columns[0].identifier})"
    if query.function:
        return ", ".join([*group, _function(query)])
    if query.kind in _COUNTING:
        return ", ".join([*group, "COUNT(*)"])
    if query.kind == "list_all":
        return "*"
    if query.kind == "above_average":
        return query.columns[0].identifier
    names = [_name(column, own) for column in query.columns]
    beside = [_name(query.beside, query.parent)] if query.beside else []
    return ", ".join([*names, *beside])


def _test(condition: Condition, table: Table | None) -> str:
    name = _name(condition.column, table)
    if condition.operator == "LIKE":
        return f"{name} LIKE '{condition.values[0]}%'"
    if condition.operator == "BETWEEN":
        low, high = map(sql_literal, condition.values)
        return f"{name} BETWEEN {low} AND {high}"
    return f"{name} {condition.operator} {sql_literal(condition.values[0])}"


# Drawing. Each function stands for one shape of query; None says that the schema does not fit.


def _any_table(rng: random.Random, schema: Schema) -> Table:
    return rng.choice(schema.tables)


def _numbers(table: Table) -> list[Column]:
    return [column for column in table.columns if column.type.is_number]


def _sortable(table: Table) -> list[Column]:
    return [column for column in table.columns if column.type is not ColumnType.TEXT]


def _categories(table: Table) -> list[Column]:
    texts = [column for column in table.columns if column.type is ColumnType.TEXT]
    return [column for column in texts if not column.is_label]


def _texts(table: Table) -> list[Column]:
    return [column for column in table.columns if column.type is ColumnType.TEXT]


def _shown(
    rng: random.Random, table: Table, without: tuple[Column, ...] = ()
) -> tuple[Column, ...]:
    rest = [column for column in table.columns if column not in without]
    count = rng.choice([1, 1, 1, 2]) if len(rest) > 1 else 1
    return tuple(rng.sample(rest, count))


def _condition(rng: random.Random, column: Column, *, equal: bool = False) -> Condition:
    value = rng.choice(column.values)
    if column.type is ColumnType.TEXT:
        return Condition(column, "=", (value,))
    operators = ["="] if equal and column.type is ColumnType.INTEGER else [">", "<", ">=", "<="]
    return Condition(column, rng.choice(operators), (value,))


def _any_condition(rng: random.Random, table: Table) -> Condition:
    return _condition(rng, rng.choice(table.columns), equal=rng.random() < 0.15)


def _list_columns(rng: random.Random, kind: str, schema: Schema) -> Query:
    table = _any_table(rng, schema)
    count = rng.randint(1, min(3, len(table.columns)))
    return Query(kind, table, tuple(rng.sample(table.columns, count)))


def _whole_table(rng: random.Random, kind: str, schema: Schema) -> Query:
    return Query(kind, _any_table(rng, schema))


def _filter_equal(rng: random.Random, kind: str, schema: Schema) -> Query | None:
    table = _any_table(rng, schema)
    tested = _condition(rng, rng.choice(_texts(table)))
    return Query(kind, table, _shown(rng, table, (tested.column,)), conditions=(tested,))


def _filter_compare(rng: random.Random, kind: str, schema: Schema) -> Query | None:
    table = _any_table(rng, schema)
    tested = _condition(rng, rng.choice(_sortable(table)))
    return Query(kind, table, _shown(rng, table, (tested.column,)), conditions=(tested,))


def _filter_not_equal(rng: random.Random, kind: str, schema: Schema) -> Query | None:
    table = _any_table(rng, schema)
    if not _categories(table):
        return None
    column = rng.choice(_categories(table))
    tested = Condition(column, "!=", (rng.choice(column.values),))
    return Query(kind, table, _shown(rng, table, (column,)), conditions=(tested,))


def _filter_between(rng: random.Random, kind: str, schema: Schema) -> Query | None:
    table = _any_table(rng, schema)
    column = rng.choice(_sortable(table))
    low, high = sorted(rng.sample(column.values, 2), key=lambda value: (str(type(value)), value))
    if low == high:
        return None
    tested = Condition(column, "BETWEEN", (low, high))
    return Query(kind, table, _shown(rng, table, (column,)), conditions=(tested,))


def _filter_starts(rng: random.Random, kind: str, schema: Schema) -> Query | None:
    table = _any_table(rng, schema)
    column = rng.choice(_texts(table))
    tested = Condition(column, "LIKE", (str(rng.choice(column.values))[0],))
    return Query(kind, table, _shown(rng, table), conditions=(tested,))


def _filter_two(rng: random.Random, kind: str, schema: Schema) -> Query | None:
    table = _any_table(rng, schema)
    if len(table.columns) < 3:
        return None
    first, second = rng.sample(table.columns, 2)
    tests = (_condition(rng, first), _condition(rng, second))
    shown = _shown(rng, table, (first, second))
    connective = kind.removeprefix("filter_").upper()
    return Query(kind, table, shown, conditions=tests, connective=connective)


def _count_where(rng: random.Random, kind: str, schema: Schema) -> Query | None:
    table = _any_table(rng, schema)
    return Query(kind, table, conditions=(_any_condition(rng, table),))


def _aggregate(rng: random.Random, kind: str, schema: Schema) -> Query | None:
    table = _any_table(rng, schema)
    column = rng.choice(_numbers(table))
    function = rng.choice(["AVG", "SUM", "MIN", "MAX"])
    rest = [other for other in table.columns if other is not column]
    tests: tuple[Condition, ...] = ()
    if kind == "aggregate_where":
        tests = (_condition(rng, rng.choice(rest), equal=rng.random() < 0.15),)
    return Query(kind, table, (column,), function, tests)


def _one_category(rng: random.Random, kind: str, schema: Schema) -> Query | None:
    table = _any_table(rng, schema)
    return Query(kind, table, (rng.choice(_categories(table)),)) if _categories(table) else None


def _ordered(rng: random.Random, kind: str, schema: Schema) -> Query | None:
    table = _any_table(rng, schema)
    # Sorting everything may go by name; a first or a top is only asked of what has a size.
    columns = table.columns if kind == "ordered" else tuple(_numbers(table))
    order = rng.choice(columns)
    limit = {"ordered": 0, "extreme": 1, "top": rng.randint(2, 5)}[kind]
    shown = _shown(rng, table, (order,))
    return Query(kind, table, shown, order=order, descending=rng.random() < 0.5, limit=limit)


def _grouped(rng: random.Random, kind: str, schema: Schema) -> Query | None:
    table = _any_table(rng, schema)
    if not _categories(table):
        return None
    group = rng.choice(_categories(table))
    if kind == "most_common":
        return Query(kind, table, group=group, limit=1)
    if kind == "having_count":
        return Query(kind, table, group=group, threshold=rng.randint(2, 4))
    if kind == "group_count":
        return Query(kind, table, group=group)
    column = rng.choice(_numbers(table))
    if kind == "having_average":
        middle = sum(float(value) for value in column.values) / table.row_count
        threshold = max(2, round(middle * rng.uniform(0.6, 1.1)))
        return Query(kind, table, (column,), "AVG", group=group, threshold=threshold)
    function = rng.choice(["AVG", "SUM", "MIN", "MAX"])
    return Query(kind, table, (column,), function, group=group)


def _above_average(rng: random.Random, kind: str, schema: Schema) -> Query | None:
    table = _any_table(rng, schema)
    column = rng.choice(_numbers(table))
    return Query(kind, table, (*_shown(rng, table, (column,))[:1], column))


def _joined(rng: random.Random, kind: str, schema: Schema) -> Query | None:
    if schema.parent is None:
        return None
    child, parent = schema.child, schema.parent
    if kind == "join_list":
        beside = rng.choice(parent.columns)
        return Query(kind, child, (rng.choice(child.columns),), parent=parent, beside=beside)
    if kind == "join_group":
        return Query(kind, child, group=rng.choice(_texts(parent)), parent=parent)
    tested = (_any_condition(rng, parent),)
    if kind == "join_count":
        return Query(kind, child, conditions=tested, parent=parent)
    if kind == "join_aggregate":
        function = rng.choice(["AVG", "SUM", "MIN", "MAX"])
        column = rng.choice(_numbers(child))
        return Query(kind, child, (column,), function, tested, parent=parent)
    return Query(kind, child, _shown(rng, child), conditions=tested, parent=parent)


_COUNTING = ("count_all", "count_where", "group_count", "join_count", "join_group")

KINDS = {
    "list_columns": Kind(1, 1.0, _list_columns),
    "list_all": Kind(1, 0.4, _whole_table),
    "count_all": Kind(1, 0.5, _whole_table),
    "filter_equal": Kind(1, 1.5, _filter_equal),
    "filter_compare": Kind(1, 1.5, _filter_compare),
    "aggregate": Kind(1, 1.0, _aggregate),
    "distinct": Kind(1, 0.6, _one_category),
    "count_where": Kind(2, 1.2, _count_where),
    "count_distinct": Kind(2, 0.6, _one_category),
    "aggregate_where": Kind(2, 1.2, _aggregate),
    "ordered": Kind(2, 1.0, _ordered),
    "extreme": Kind(2, 1.0, _ordered),
    "top": Kind(2, 1.0, _ordered),
    "group_count": Kind(2, 0.8, _grouped),
    "group_aggregate": Kind(2, 1.0, _grouped),
    "filter_and": Kind(2, 1.0, _filter_two),
    "filter_or": Kind(2, 0.8, _filter_two),
    "filter_between": Kind(2, 1.0, _filter_between),
    "filter_not_equal": Kind(2, 0.8, _filter_not_equal),
    "filter_starts": Kind(2, 0.6, _filter_starts),
    "most_common": Kind(3, 0.8, _grouped),
    "having_count": Kind(3, 0.8, _grouped),
    "having_average": Kind(3, 0.7, _grouped),
    "above_average": Kind(3, 0.8, _above_average),
    "join_filter": Kind(3, 1.4, _joined),
    "join_list": Kind(3, 0.8, _joined),
    "join_count": Kind(3, 1.0, _joined),
    "join_group": Kind(3, 0.9, _joined),
    "join_aggregate": Kind(3, 1.0, _joined),
}
