"""Schemas with rows: one or two tables out of a lexicon, and the SQLite text that builds them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from generator.words import (
    Attribute,
    ColumnType,
    Entity,
    Lexicon,
    Noun,
    Value,
    as_identifier,
)

_PARENT_DOMAINS = "pl"


@dataclass(frozen=True)
class Column:
    """A column with the word for it and the values of every row, in row order."""

    identifier: str
    noun: Noun
    type: ColumnType
    values: tuple[Value, ...]
    is_label: bool = False


@dataclass(frozen=True)
class Table:
    """A table of one entity.

    Attributes:
        identifier: Its name in SQL.
        noun: The word for one of its rows.
        columns: What a question may ask for; ``id`` and the foreign key stand apart.
        foreign_key: Name of the column that points to the parent's ``id``, or empty.
        parent_ids: The foreign key's values, in row order.
    """

    identifier: str
    noun: Noun
    columns: tuple[Column, ...]
    foreign_key: str = ""
    parent_ids: tuple[int, ...] = ()

    @property
    def row_count(self) -> int:
        """Return the number of rows."""
        return len(self.columns[0].values)


@dataclass(frozen=True)
class Schema:
    """Table ``child`` and perhaps the table ``parent`` that its foreign key points to.

    Attributes:
        tables: In the order in which the prompt shows them.
        child: The table with the foreign key, or the only table.
        parent: The other table.
    """

    tables: tuple[Table, ...]
    child: Table
    parent: Table | None = None

    @property
    def prompt(self) -> str:
        """Return the compact definition that a prompt shows, one table a line."""
        return "\n".join(self._definition(table) for table in self.tables)

    @property
    def context(self) -> str:
        """Return the statements that build the database with its rows."""
        # The parent first, so that the references hold when SQLite checks them.
        ordered = [table for table in (self.parent, self.child) if table]
        parts = [f"{self._definition(table)}\n{_insert(table)}" for table in ordered]
        return "\n".join(parts)

    def _definition(self, table: Table) -> str:
        fields = ["id INTEGER", *(f"{c.identifier} {c.type.sql}" for c in table.columns)]
        if self.parent and table.foreign_key:
            fields.append(f"{table.foreign_key} INTEGER REFERENCES {self.parent.identifier}(id)")
        return f"CREATE TABLE {table.identifier} ({', '.join(fields)});"


@dataclass(frozen=True)
class Shape:
    """How large a schema may be: inclusive ranges, and how often there are two tables."""

    columns: tuple[int, int] = (3, 5)
    rows: tuple[int, int] = (8, 14)
    two_tables: float = 0.5


def sql_literal(value: Value) -> str:
    """Write a value as SQL: text in single quotes, numbers as they are."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value)


def draw_schema(rng: random.Random, lexicon: Lexicon, shape: Shape, *, key_first: bool) -> Schema:
    """Draw a schema with rows.

    Args:
        rng: Source of chance.
        lexicon: Words to take entities and attributes from.
        shape: Its size.
        key_first: Whether a foreign key reads ``id_autor`` rather than ``autor_id``.

    Returns:
        The schema; with two tables, both may have a column of the same name.
    """
    if rng.random() >= shape.two_tables:
        only = _draw_table(rng, rng.choice(lexicon.entities), lexicon.attributes, shape)
        return Schema((only,), only)
    return _draw_pair(rng, lexicon, shape, key_first)


def _draw_pair(rng: random.Random, lexicon: Lexicon, shape: Shape, key_first: bool) -> Schema:
    parents = [entity for entity in lexicon.entities if entity.domain in _PARENT_DOMAINS]
    one = rng.choice(parents)
    # A row of a child belongs to a parent of another domain: an order to a client, not to an order.
    other = rng.choice([entity for entity in lexicon.entities if entity.domain != one.domain])
    smaller = Shape((2, shape.columns[1] - 1), shape.rows, 0.0)
    parent = _draw_table(rng, one, lexicon.attributes, smaller)
    child = _draw_table(rng, other, lexicon.attributes, smaller)
    target = as_identifier(one.noun.singular)
    name = f"id_{target}" if key_first else f"{target}_id"
    ids = tuple(rng.randint(1, parent.row_count) for _ in range(child.row_count))
    child = Table(child.identifier, child.noun, child.columns, name, ids)
    tables = (parent, child) if rng.random() < 0.5 else (child, parent)
    return Schema(tables, child, parent)


def _draw_table(
    rng: random.Random, entity: Entity, attributes: Sequence[Attribute], shape: Shape
) -> Table:
    fitting = [attribute for attribute in attributes if entity.domain in attribute.domains]
    chosen = _draw_attributes(rng, fitting, rng.randint(*shape.columns))
    count = rng.randint(*shape.rows)
    columns = tuple(_draw_column(rng, attribute, count) for attribute in chosen)
    return Table(as_identifier(entity.noun.plural), entity.noun, columns)


def _draw_attributes(
    rng: random.Random, fitting: Sequence[Attribute], count: int
) -> list[Attribute]:
    labels = [attribute for attribute in fitting if attribute.is_label]
    numbers = [attribute for attribute in fitting if attribute.type.is_number]
    # Nearly every kind of query needs a name to show and a number to compare.
    chosen = [rng.choice(labels or list(fitting)), rng.choice(numbers)]
    rest = rng.sample(list(fitting), len(fitting))
    taken = {attribute.noun.singular for attribute in chosen}
    for attribute in rest:
        if len(chosen) < count and attribute.noun.singular not in taken and not attribute.is_label:
            chosen.append(attribute)
            taken.add(attribute.noun.singular)
    return [chosen[0], *rng.sample(chosen[1:], len(chosen) - 1)]


def _draw_column(rng: random.Random, attribute: Attribute, count: int) -> Column:
    values = tuple(_draw_values(rng, attribute, count))
    identifier = as_identifier(attribute.noun.singular)
    return Column(identifier, attribute.noun, attribute.type, values, attribute.is_label)


def _draw_values(rng: random.Random, attribute: Attribute, count: int) -> list[Value]:
    low, high = attribute.low, attribute.high
    if attribute.type is ColumnType.TEXT:
        if attribute.is_label and len(attribute.pool) >= count:
            return list(rng.sample(attribute.pool, count))
        # Few different values, so that grouping groups.
        few = rng.sample(attribute.pool, min(len(attribute.pool), rng.randint(3, 5)))
        return [rng.choice(few) for _ in range(count)]
    if attribute.type is ColumnType.INTEGER:
        return [rng.randint(low, high) for _ in range(count)]
    if attribute.type is ColumnType.REAL:
        # Tenths are exact in decimal text; whole reals would read as integers in the question.
        tenths = (rng.randint(low * 10, high * 10) for _ in range(count))
        return [(t + 1 if t % 10 == 0 else t) / 10 for t in tenths]
    return [_draw_date(rng, low, high) for _ in range(count)]


def _draw_date(rng: random.Random, first_year: int, last_year: int) -> str:
    year = rng.randint(first_year, last_year)
    return f"{year}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"


def _insert(table: Table) -> str:
    lists: list[Sequence[Value]] = [range(1, table.row_count + 1)]
    lists.extend(column.values for column in table.columns)
    if table.foreign_key:
        lists.append(table.parent_ids)
    rows = (", ".join(map(sql_literal, row)) for row in zip(*lists, strict=True))
    return f"INSERT INTO {table.identifier} VALUES {', '.join(f'({row})' for row in rows)};"
