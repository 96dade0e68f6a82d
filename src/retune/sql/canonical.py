"""Canonical exact match: two queries are written alike up to what SQL says means the same.

Parsed by sqlglot in the declared dialect, exactly one statement, names resolved with the schema
(`names`). Then: names in lower case, every column with its table, table aliases replaced by their
tables, output names dropped, inner joins (also comma joins) as a sorted list of tables with their
ON conditions among the WHERE conditions, AND and OR operands sorted, `a > b` as `b < a`, operands
of = and <> sorted, explicit ASC and OUTER dropped, parentheses that group nothing dropped, an
output's place as the output. Literals, functions, the order of columns, DISTINCT, outer joins and
everything else stay as written. Every step is an identity of SQL, so that a yes is never false
where both queries run; whether they do `exact` asks SQLite. A no is common (972 real predictions
on spider_dev: 61.7 % yes against 80.0 % execution matches).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice, permutations, product
from typing import NamedTuple

from sqlglot import exp
from sqlglot.optimizer.qualify import qualify
from sqlglot.schema import MappingSchema

from retune.sql.catalogue import Columns, read_schema
from retune.sql.lexing import Token, read_tokens
from retune.sql.names import list_sources, resolve_names
from retune.sql.parsing import Dialect, ExactSQLite, UnreadableError, library_errors, parse_query

_MAX_NAMINGS = 24  # four copies of one table
_MAX_NAMED_TOKENS = 6_000  # written in some 0.5 s, over all namings
_MIRRORED: dict[type[exp.Expr], type[exp.Expr]] = {exp.GT: exp.LT, exp.GTE: exp.LTE}
_WHOLE = (exp.Select, exp.Alias, exp.Ordered, exp.Group, exp.Distinct)
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*\Z")
_ROW_NUMBERS = ("rowid", "oid", "_rowid_")
_SAME_FUNCTIONS = {
    "substring": "substr",
    "ifnull": "coalesce",
    "printf": "format",
    "ceiling": "ceil",
    "power": "pow",
    "string_agg": "group_concat",
}
"""Other names of the same function in SQLite."""

_CAPITALS = str.maketrans({chr(code): chr(code + 32) for code in range(65, 91)})
_Source = tuple[int, str]  # number of a SELECT, and the name of one of its sources


class Canonical(NamedTuple):
    """A canonical text, or the reason why there is none."""

    text: str | None
    reason: str | None = None
    detail: str = ""


def canonicalize_sql(sql: str, schema: str, *, dialect: str = "sqlite") -> Canonical:
    """Write a query in its canonical form; never fails, whatever the texts are.

    Args:
        sql: One query.
        schema: CREATE statements of its database.
        dialect: What both are written in, as sqlglot names it.

    Returns:
        The text, or one of the reasons `empty`, `too_long`, `not_parsed`, `several_statements`,
        `not_a_query`, `unknown_name`, `schema_unreadable`.

    Example:
        >>> schema = "CREATE TABLE singer (name TEXT, age INT);"
        >>> one = canonicalize_sql("SELECT T1.name FROM singer AS T1 WHERE T1.age > 3", schema)
        >>> one.text == canonicalize_sql("select name from singer where 3 < age", schema).text
        True
    """
    reader: Dialect = ExactSQLite if dialect == "sqlite" else dialect
    try:
        query = parse_query(sql, reader)
        columns = read_schema(schema, dialect)
        with library_errors("unknown_name"):
            return Canonical(_canonical_text(query, sql, columns, reader, _mirrors(sql, schema)))
    except UnreadableError as unreadable:
        return Canonical(None, unreadable.reason, unreadable.detail)


def _mirrors(sql: str, schema: str) -> bool:
    """Say whether a comparison may be turned round: with COLLATE the left side decides."""
    return "collate" not in sql.lower() and "collate" not in schema.lower()


def _canonical_text(
    query: exp.Query | exp.Values, sql: str, columns: Columns, dialect: Dialect, mirrors: bool
) -> str:
    sqlite = dialect is ExactSQLite
    if isinstance(query, exp.Values) and sqlite:
        return str(query.sql(dialect=dialect, comments=False))
    tokens = read_tokens(sql)
    columns = _with_row_numbers(columns, tokens) if sqlite else columns
    _fold_names(query)
    _drop_idle_words(query)
    resolve_names(query, columns, sql=sql, tokens=tokens, texts_in_quotes=sqlite)
    _mark_merged(query)
    qualified = qualify(
        query,
        schema=MappingSchema(dict(columns), dialect=dialect, normalize=False),
        dialect=dialect,
        quote_identifiers=False,
        identify=False,
        validate_qualify_columns=bool(columns),
        expand_alias_refs=False,
        expand_stars=False,
    )
    _expand_output_names(qualified)  # qualify puts output names into ORDER BY
    _drop_outer_names(qualified)
    most = max(1, min(_MAX_NAMINGS, _MAX_NAMED_TOKENS // max(1, len(tokens))))
    texts = (
        _normalize(renamed, mirrors).sql(dialect=dialect, comments=False)
        for renamed in islice(_namings(qualified), most)
    )
    # A table joined with itself has no first copy: of all ways to number them the least text.
    return str(min(texts))


def _with_row_numbers(columns: Columns, tokens: Sequence[Token]) -> Columns:
    asked = [name for name in _ROW_NUMBERS if any(token.folded == name for token in tokens)]
    if not asked:
        return columns
    numbers = dict.fromkeys(asked, "INTEGER")
    return {table: {**numbers, **found} for table, found in columns.items()}


def _fold_names(query: exp.Expr) -> None:
    """Fold names as SQLite does: only ASCII letters; what is no plain name stays quoted."""
    for name in query.find_all(exp.Identifier):
        name.set("this", name.name.translate(_CAPITALS))
        name.set("quoted", not _PLAIN_NAME.match(name.name))
    for call in query.find_all(exp.Anonymous):
        if isinstance(call.this, str):
            called = call.this.translate(_CAPITALS)
            call.set("this", _SAME_FUNCTIONS.get(called, called))


def _mark_merged(query: exp.Expr) -> None:
    """Keep the columns that USING and NATURAL merge where `*` shows them: qualify makes ONs."""
    for select in query.find_all(exp.Select):
        merged = [
            ", ".join(sorted(name.name for name in join.args.get("using") or []))
            or str(join.method)
            for join in select.args.get("joins") or []
            if join.args.get("using") or join.method
        ]
        if merged and _has_star(select):
            select.meta["merged"] = "; ".join(merged)


def _has_star(select: exp.Select) -> bool:
    """Say whether a SELECT shows all columns of all tables, in the tables' order."""
    return any(isinstance(item, exp.Star) for item in select.expressions)


def _expand_output_names(query: exp.Expr) -> None:
    for select in query.find_all(exp.Select):
        named = {
            item.alias: item.this for item in select.expressions if isinstance(item, exp.Alias)
        }
        for clause in (select.args.get(part) for part in ("order", "group", "having")):
            for column in list(clause.find_all(exp.Column)) if clause else []:
                own = not column.table and column.parent_select is select
                if own and column.name in named:
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
    return [source for source in list_sources(select) if source.alias_or_name]


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


def _drop_idle_words(query: exp.Expr) -> None:
    """Drop OUTER behind LEFT, RIGHT and FULL, and parentheses that group nothing.

    Before names are resolved: SQLite keeps no parentheses, so that `ORDER BY (n)` names an output,
    and `ORDER BY (1)` its place.
    """
    for join in query.find_all(exp.Join):
        if join.side and join.kind == "OUTER":
            join.set("kind", None)
    for around in list(query.find_all(exp.Paren)):
        inner = around.unnest()
        is_one = isinstance(inner, exp.Column | exp.Literal) or _is_call(inner)
        stands_alone = isinstance(around.parent, _WHOLE) or _is_call(around.parent)
        if is_one or stands_alone:
            around.replace(inner)


def _is_call(node: exp.Expr | None) -> bool:
    # AND, OR and JSON's arrows are functions to sqlglot.
    return isinstance(node, exp.Func) and not isinstance(node, exp.Binary)


def _normalize(query: exp.Expr, mirrors: bool) -> exp.Expr:
    for ordered in query.find_all(exp.Ordered):
        if not ordered.args.get("desc"):
            ordered.set("desc", None)
    # Innermost first, so that what is sorted by its text has its final text.
    for node in reversed(list(query.walk(bfs=True))):
        if isinstance(node, exp.Select):
            _sort_joins(node, mirrors)
            _show_merged(node)
        for part in ("where", "having"):
            clause = node.args.get(part)
            if isinstance(node, exp.Select) and clause:
                clause.set("this", _sort_operands(clause.this, mirrors))
    return query


def _show_merged(select: exp.Select) -> None:
    merged = select.meta.get("merged")
    if merged:
        stars = [item for item in select.expressions if isinstance(item, exp.Star)]
        for star in stars:
            columns = exp.Literal.string(str(merged))
            star.replace(exp.Anonymous(this="all_but_merged", expressions=[columns]))


def _sort_joins(select: exp.Select, mirrors: bool) -> None:
    """Write inner joins as a sorted list of tables, their conditions among WHERE's."""
    joins: list[exp.Join] = select.args.get("joins") or []
    if not joins or any(not _is_inner(join) for join in joins):
        for join in joins:
            if join.args.get("on"):
                join.set("on", _sort_operands(join.args["on"], mirrors))
        return
    sources = [select.args["from_"].this, *(join.this for join in joins)]
    conditions = [join.args["on"] for join in joins if join.args.get("on")]
    if select.args.get("where"):
        conditions.append(select.args["where"].this)
    if not _has_star(select):  # whose columns come in the order of the tables
        sources.sort(key=lambda source: str(source.sql(comments=False)))
    select.set("from_", exp.From(this=sources[0]))
    select.set("joins", [exp.Join(this=source) for source in sources[1:]])
    if conditions:
        select.set("where", exp.Where(this=exp.and_(*conditions)))


def _is_inner(join: exp.Join) -> bool:
    outer = ("side", "method", "using", "global_", "match_condition")
    return not any(join.args.get(part) for part in outer) and join.kind in ("", "INNER", "CROSS")


def _sort_operands(condition: exp.Expr, mirrors: bool) -> exp.Expr:
    """Sort AND and OR operands and the sides of comparisons, at every level of a condition."""
    condition = condition.unnest()
    if isinstance(condition, exp.And | exp.Or):
        kind = exp.And if isinstance(condition, exp.And) else exp.Or
        parts = [_sort_operands(part, mirrors) for part in _flatten(condition, kind)]
        parts.sort(key=lambda part: str(part.sql(comments=False)))
        return exp.and_(*parts) if kind is exp.And else exp.or_(*parts)
    if isinstance(condition, exp.Not):
        inner = _sort_operands(condition.this, mirrors)
        wrap = isinstance(inner, exp.Connector | exp.Predicate)
        return exp.Not(this=exp.Paren(this=inner) if wrap else inner)
    mirrored = _MIRRORED.get(type(condition))
    if mirrored is not None and mirrors:
        return mirrored(this=condition.expression.copy(), expression=condition.this.copy())
    if isinstance(condition, exp.EQ | exp.NEQ) and mirrors:
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
