"""Canonical exact match: two queries are written alike up to what SQL says means the same.

Parsed by sqlglot in the declared dialect, exactly one statement, names resolved with the schema.
Then: names in lower case, every column with its table, table aliases replaced by their tables,
output names dropped, inner joins (also comma joins) as a sorted list of tables with their ON
conditions among the WHERE conditions, AND and OR operands sorted, `a > b` as `b < a`, operands of
= and <> sorted, explicit ASC dropped. Literals, the order of columns, DISTINCT, outer joins and
everything else stay as written. Every step is an identity of SQL, so that a yes is never false; a
no is common (972 real predictions on spider_dev: 61.7 % yes against 80.0 % execution matches).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice, pairwise, permutations, product
from typing import NamedTuple

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.schema import MappingSchema

from retune.scoring.sql.lexing import read_tokens

_MAX_CHARS = 20_000
_MAX_TOKENS = 3_000  # parsed in some 0.3 s; this runs in the scoring process
_MAX_DEPTH = 100
_MAX_NAMINGS = 24  # four copies of one table
_MIRRORED: dict[type[exp.Expr], type[exp.Expr]] = {exp.GT: exp.LT, exp.GTE: exp.LTE}
_Source = tuple[int, str]  # number of a SELECT, and the name of one of its sources


class Canonical(NamedTuple):
    """A canonical text, or the reason why there is none."""

    text: str | None
    reason: str | None = None
    detail: str = ""


def canonicalize_sql(sql: str, schema: str, *, dialect: str = "sqlite") -> Canonical:
    """Write a query in its canonical form.

    Args:
        sql: One query.
        schema: CREATE TABLE statements of its database.
        dialect: What both are written in, as sqlglot names it.

    Returns:
        The text, or one of the reasons `empty`, `too_long`, `not_parsed`, `several_statements`,
        `not_a_query`, `unknown_name`, `schema_unreadable`.
    """
    if not sql.strip():
        return Canonical(None, "empty")
    tokens = read_tokens(sql[: _MAX_CHARS + 1])
    too_deep = any(token.depth > _MAX_DEPTH for token in tokens)
    if len(sql) > _MAX_CHARS or len(tokens) > _MAX_TOKENS or too_deep:
        return Canonical(None, "too_long", f"{len(sql)} characters, {len(tokens)} tokens")
    if tokens and tokens[0].folded.strip(";(") not in ("", "select", "with", "values"):
        # sqlglot would log a warning for each command that it does not know.
        return Canonical(None, "not_a_query", f"starts with {tokens[0].text[:40]!r}")
    try:
        columns = read_schema(schema, dialect)
    except (SqlglotError, RecursionError, ValueError) as error:
        return Canonical(None, "schema_unreadable", str(error)[:300])
    try:
        parsed = [statement for statement in sqlglot.parse(sql, read=dialect) if statement]
    except (SqlglotError, RecursionError, ValueError) as error:
        return Canonical(None, "not_parsed", str(error)[:300])
    if len(parsed) != 1:
        return Canonical(None, "several_statements" if parsed else "empty")
    if not isinstance(parsed[0], exp.Query):
        return Canonical(None, "not_a_query", type(parsed[0]).__name__)
    try:
        return Canonical(_canonical_text(parsed[0], columns, dialect))
    except (SqlglotError, RecursionError, ValueError) as error:
        return Canonical(None, "unknown_name", str(error)[:300])


@lru_cache(maxsize=256)
def read_schema(schema: str, dialect: str) -> dict[str, dict[str, str]]:
    """Read the tables and columns of CREATE TABLE statements, in lower case.

    Args:
        schema: The statements; others among them are passed over.
        dialect: What they are written in.

    Returns:
        Column types by table and column.

    Raises:
        ParseError: sqlglot cannot read the statements.
    """
    try:
        statements = sqlglot.parse(schema, read=dialect)
    except SqlglotError:
        # SQLite does without a comma before a table's constraint, and real schemas leave it out.
        statements = sqlglot.parse(_separate_constraints(schema), read=dialect)
    tables = {}
    for statement in statements:
        if not isinstance(statement, exp.Create) or not isinstance(statement.this, exp.Schema):
            continue
        defined = statement.this.find_all(exp.ColumnDef)
        tables[statement.this.this.name.lower()] = {
            column.name.lower(): column.kind.sql() if column.kind else "TEXT" for column in defined
        }
    return tables


def _separate_constraints(schema: str) -> str:
    pieces, done = [], 0
    tokens = read_tokens(schema)
    for before, token in pairwise(tokens):
        if token.folded == "foreign" and before.text not in (",", "("):
            pieces += [schema[done : token.start], ", "]
            done = token.start
    return "".join([*pieces, schema[done:]])


def _canonical_text(query: exp.Query, columns: dict[str, dict[str, str]], dialect: str) -> str:
    if dialect == "sqlite":
        _read_texts(query, columns)
    for name in query.find_all(exp.Identifier):
        name.set("this", name.name.lower())
        name.set("quoted", False)
    known = {column for table in columns.values() for column in table}
    _expand_output_names(query, known)
    qualified = qualify(
        query,
        schema=MappingSchema(dict(columns), dialect=dialect, normalize=False),
        dialect=dialect,
        quote_identifiers=False,
        identify=False,
        validate_qualify_columns=bool(columns),
        expand_stars=False,
    )
    _expand_output_names(qualified, known)  # qualify puts output names into ORDER BY
    _drop_outer_names(qualified)
    texts = (
        _normalize(renamed).sql(dialect=dialect, comments=False)
        for renamed in islice(_namings(qualified), _MAX_NAMINGS)
    )
    # A table joined with itself has no first copy: of all ways to number them the least text.
    return str(min(texts))


def _read_texts(query: exp.Query, columns: dict[str, dict[str, str]]) -> None:
    """Make literals of double-quoted words that name nothing, as SQLite does."""
    known = {column for table in columns.values() for column in table} | set(columns)
    known |= {alias.alias.lower() for alias in query.find_all(exp.Alias, exp.TableAlias)}
    for column in list(query.find_all(exp.Column)):
        name = column.this
        plain = isinstance(name, exp.Identifier) and name.quoted and not column.table
        if plain and name.name.lower() not in known:
            column.replace(exp.Literal.string(name.name))


def _expand_output_names(query: exp.Query, known: set[str]) -> None:
    """Replace an output name in ORDER BY, GROUP BY and HAVING by what it stands for.

    A bare ORDER BY term is an output name before it is a column; everywhere else the column wins.
    """
    for select in query.find_all(exp.Select):
        named = {
            item.alias: item.this for item in select.expressions if isinstance(item, exp.Alias)
        }
        for clause in (select.args.get(part) for part in ("order", "group", "having")):
            for column in list(clause.find_all(exp.Column)) if clause else []:
                wins = isinstance(column.parent, exp.Ordered) or column.name not in known
                own = not column.table and column.parent_select is select
                if own and wins and column.name in named:
                    column.replace(named[column.name].copy())


def _drop_outer_names(query: exp.Expr) -> None:
    """Drop the names of the result's columns; a subquery's names are needed outside it."""
    if isinstance(query, exp.SetOperation):
        for side in (query.this, query.expression):
            _drop_outer_names(side)
    elif isinstance(query, exp.Select):
        query.set("expressions", [item.unalias() for item in query.expressions])


def _namings(query: exp.Expr) -> Iterator[exp.Expr]:
    """Yield the query with aliases replaced, once per way to number repeated tables.

    A table is called by its name and how deep its SELECT lies, so that a name in a correlated
    subquery can only mean one table: `dogs`, in a subquery `dogs__1`.
    """
    selects = list(query.find_all(exp.Select))
    groups = [group for at, select in enumerate(selects) for group in _repeated(at, select)]
    fixed = {aliases[0]: (base,) for base, aliases in groups if len(aliases) == 1}
    several = [(base, aliases) for base, aliases in groups if len(aliases) > 1]
    # Cut here: `product` keeps all it is given, and forty copies of a table have 40! orders.
    numberings = (islice(permutations(aliases), _MAX_NAMINGS) for _, aliases in several)
    for orders in product(*numberings):
        names = {key: base for key, (base,) in fixed.items()}
        for (base, _), order in zip(several, orders, strict=True):
            names |= {alias: f"{base}_{number}" for number, alias in enumerate(order, 1)}
        yield _renamed(query, names)


def _repeated(number: int, select: exp.Select) -> list[tuple[str, list[_Source]]]:
    """Group a SELECT's sources by their new name; more than one means that it must be numbered."""
    depth = sum(isinstance(parent, exp.Select) for parent in _ancestors(select))
    groups: dict[str, list[_Source]] = {}
    for source in _sources(select):
        base = source.name if isinstance(source, exp.Table) else "derived"
        name = f"{base}__{depth}" if depth else base
        groups.setdefault(name, []).append((number, source.alias_or_name))
    return list(groups.items())


def _ancestors(node: exp.Expr) -> Iterator[exp.Expr]:
    parent = node.parent
    while parent is not None:
        yield parent
        parent = parent.parent


def _sources(select: exp.Select) -> list[exp.Expr]:
    first = [select.args["from_"].this] if select.args.get("from_") else []
    joined = [join.this for join in select.args.get("joins") or []]
    return [source for source in first + joined if source.alias_or_name]


def _renamed(original: exp.Expr, names: dict[_Source, str]) -> exp.Expr:
    query = original.copy()
    number_of = {id(select): at for at, select in enumerate(query.find_all(exp.Select))}
    for column in query.find_all(exp.Column):
        # The innermost SELECT around it that has a source of that name is the one it means.
        for around in _ancestors(column):
            name = names.get((number_of.get(id(around), -1), column.table))
            if name is not None:
                column.set("table", exp.to_identifier(name))
                break
    for select in query.find_all(exp.Select):
        for source in _sources(select):
            new = names[(number_of[id(select)], source.alias_or_name)]
            source.set("alias", exp.TableAlias(this=exp.to_identifier(new)))
    return query


def _normalize(query: exp.Expr) -> exp.Expr:
    for ordered in query.find_all(exp.Ordered):
        if not ordered.args.get("desc"):
            ordered.set("desc", None)
    # Innermost first, so that what is sorted by its text has its final text.
    for node in reversed(list(query.walk(bfs=True))):
        if isinstance(node, exp.Select):
            _sort_joins(node)
        for part in ("where", "having"):
            clause = node.args.get(part)
            if isinstance(node, exp.Select) and clause:
                clause.set("this", _sort_operands(clause.this))
    return query


def _sort_joins(select: exp.Select) -> None:
    """Write inner joins as a sorted list of tables, their conditions among WHERE's."""
    joins: list[exp.Join] = select.args.get("joins") or []
    if not joins or any(not _is_inner(join) for join in joins):
        for join in joins:
            if join.args.get("on"):
                join.set("on", _sort_operands(join.args["on"]))
        return
    sources = [select.args["from_"].this, *(join.this for join in joins)]
    conditions = [join.args["on"] for join in joins if join.args.get("on")]
    if select.args.get("where"):
        conditions.append(select.args["where"].this)
    sources.sort(key=lambda source: str(source.sql(comments=False)))
    select.set("from_", exp.From(this=sources[0]))
    select.set("joins", [exp.Join(this=source) for source in sources[1:]])
    if conditions:
        select.set("where", exp.Where(this=exp.and_(*conditions)))


def _is_inner(join: exp.Join) -> bool:
    outer = ("side", "method", "using", "global_", "match_condition")
    return not any(join.args.get(part) for part in outer) and join.kind in ("", "INNER", "CROSS")


def _sort_operands(condition: exp.Expr) -> exp.Expr:
    """Sort AND and OR operands and the sides of comparisons, at every level of a condition."""
    condition = condition.unnest()
    if isinstance(condition, exp.And | exp.Or):
        kind = exp.And if isinstance(condition, exp.And) else exp.Or
        parts = [_sort_operands(part) for part in _flatten(condition, kind)]
        parts.sort(key=lambda part: str(part.sql(comments=False)))
        return exp.and_(*parts) if kind is exp.And else exp.or_(*parts)
    if isinstance(condition, exp.Not):
        inner = _sort_operands(condition.this)
        wrap = isinstance(inner, exp.Connector | exp.Predicate)
        return exp.Not(this=exp.Paren(this=inner) if wrap else inner)
    mirrored = _MIRRORED.get(type(condition))
    if mirrored is not None:
        return mirrored(this=condition.expression.copy(), expression=condition.this.copy())
    if isinstance(condition, exp.EQ | exp.NEQ):
        sides = sorted(
            (condition.this.copy(), condition.expression.copy()),
            key=lambda side: str(side.sql(comments=False)),
        )
        return type(condition)(this=sides[0], expression=sides[1])
    return condition.copy()


def _flatten(condition: exp.Expr, kind: type[exp.And] | type[exp.Or]) -> Iterator[exp.Expr]:
    condition = condition.unnest()
    if isinstance(condition, kind):
        yield from _flatten(condition.left, kind)
        yield from _flatten(condition.right, kind)
    else:
        yield condition
