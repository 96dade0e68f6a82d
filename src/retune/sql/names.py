"""What the names in a query mean, by SQLite's own rules.

A column of the innermost SELECT that has one of that name; else the SELECT's output of that name;
else a column further out; else, for a word in double quotes, the text itself. A bare ORDER BY term
is an output before it is a column. In ORDER BY and GROUP BY a whole number is the output in that
place, and the ORDER BY of UNION and its like knows outputs alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple

from sqlglot import exp

from retune.sql.lexing import Token, find_texts

_TABLE_FUNCTIONS = frozenset(
    {"key", "value", "type", "atom", "id", "parent", "fullkey", "path"}  # json_each, json_tree
)
_WITHOUT_OUTPUTS = frozenset({"from_", "with_"})


class _Meaning(Enum):
    COLUMN = auto()
    TEXT = auto()
    UNKNOWN = auto()


class _Seen(NamedTuple):
    """A SELECT from inside of which a name is seen, and by which of its clauses."""

    select: exp.Select
    clause: str


class Scopes:
    """Says what each SELECT of a query can see.

    Args:
        query: The query; names of one meaning are spelt alike in it.
        tables: Columns by table; a table that is not in it has unknown ones.
    """

    def __init__(self, query: exp.Expr, tables: Mapping[str, Collection[str]]) -> None:
        self._tables = tables
        self._named = {each.alias: each for each in query.find_all(exp.CTE)}
        self._known: dict[int, frozenset[str] | None] = {}
        self._asked: set[str] = set()

    def columns_of(self, select: exp.Select) -> frozenset[str] | None:
        """Return the names of the columns that a SELECT's sources have; None if unknown."""
        if id(select) not in self._known:
            found = [self._columns(source) for source in list_sources(select)]
            known = [each for each in found if each is not None]
            complete = len(known) == len(found)
            self._known[id(select)] = frozenset().union(*known) if complete else None
        return self._known[id(select)]

    def owner_of(self, select: exp.Select, column: str) -> str:
        """Return the one source of a SELECT that has a column; empty if unknown or several.

        A lone source of unknown columns has all: were it another's, its table's name before it
        could not run.
        """
        sources = list_sources(select)
        if self.columns_of(select) is None:
            return sources[0].alias_or_name if len(sources) == 1 else ""
        owners = [each for each in sources if column in (self._columns(each) or ())]
        return owners[0].alias_or_name if len(owners) == 1 else ""

    def outputs_of(self, query: exp.Expr) -> frozenset[str] | None:
        """Return the names of a query's outputs; None if a star stands for unknown ones."""
        query = _innermost(query)
        if isinstance(query, exp.Values):
            first = query.expressions[0] if query.expressions else None
            width = len(first.expressions) if isinstance(first, exp.Tuple) else 1
            return frozenset(f"column{number}" for number in range(1, width + 1))
        if not isinstance(query, exp.Select):
            return None
        names: set[str] = set()
        for item in query.expressions:
            found = self._columns_of_star(query, item) if item.is_star else {item.alias_or_name}
            if found is None:
                return None
            names |= found
        return frozenset(names)

    def _columns_of_star(self, select: exp.Select, star: exp.Expr) -> frozenset[str] | None:
        table = star.table if isinstance(star, exp.Column) else ""
        if not table:
            return self.columns_of(select)
        for source in list_sources(select):
            if source.alias_or_name == table:
                return self._columns(source)
        return None

    def _columns(self, source: exp.Expr) -> frozenset[str] | None:
        renamed = source.args.get("alias")
        if isinstance(renamed, exp.TableAlias) and renamed.columns:
            return frozenset(column.name for column in renamed.columns)
        if not isinstance(source, exp.Table):
            return self.outputs_of(source)
        if isinstance(source.this, exp.Anonymous):
            return _TABLE_FUNCTIONS
        if source.name in self._named and not source.db:
            return self._columns_of_named(source.name)
        columns = self._tables.get(source.name)
        return None if columns is None else frozenset(columns)

    def _columns_of_named(self, name: str) -> frozenset[str] | None:
        if name in self._asked:  # it reads itself, and its first SELECT has said what it can
            return frozenset()
        self._asked.add(name)
        try:
            named = self._named[name]
            columns = named.args["alias"].columns if named.args.get("alias") else []
            if columns:
                return frozenset(column.name for column in columns)
            return self.outputs_of(named.this)
        finally:
            self._asked.discard(name)


def list_sources(select: exp.Select) -> list[exp.Expr]:
    """List what a SELECT reads from, in the order of its text."""
    first = [select.args["from_"].this] if select.args.get("from_") else []
    joined = [join.this for join in select.args.get("joins") or []]
    inner = [join.this for source in [*first, *joined] for join in source.args.get("joins") or []]
    return [*first, *joined, *inner]


def resolve_names(
    query: exp.Expr,
    tables: Mapping[str, Collection[str]],
    *,
    sql: str,
    tokens: Sequence[Token],
    texts_in_quotes: bool,
) -> None:
    """Replace outputs by what they stand for, places by outputs, and quoted words by texts.

    Args:
        query: Changed in place. What an output's place cannot be resolved to (a star stands before
            it, or UNION) becomes a call that says the place.
        tables: Columns by table.
        sql: What the query was parsed from.
        tokens: Of that text.
        texts_in_quotes: Whether a word in double quotes may be a text.
    """
    for united in list(query.find_all(exp.SetOperation)):
        _resolve_places(united)
    scopes = Scopes(query, tables)
    if texts_in_quotes:
        _read_texts(query, scopes, sql, find_texts(tokens))
    # All are found before the first is replaced: what is copied must not be looked at again.
    found = [(column, _mean(column, scopes)) for column in _bare_columns(query)]
    for column, meaning in found:
        if meaning is _Meaning.COLUMN or (meaning is _Meaning.UNKNOWN and not tables):
            _name_owner(column, scopes)
    for column, meaning in found:
        if isinstance(meaning, exp.Expr):
            column.replace(_inside(meaning.copy(), column.parent))
    for select in list(query.find_all(exp.Select)):
        _resolve_places(select)


def _name_owner(column: exp.Column, scopes: Scopes) -> None:
    """Write a column's table where an output of its SELECT is called the same.

    `SELECT a AS b, b AS a FROM t ORDER BY b + 0`: left bare it would be taken for the output.
    """
    innermost = next(_enclosing(column), None)
    if innermost is not None and (owner := scopes.owner_of(innermost.select, column.name)):
        column.set("table", exp.to_identifier(owner))


def _bare_columns(query: exp.Expr) -> list[exp.Column]:
    return [
        column
        for column in query.find_all(exp.Column)
        if not column.table and not isinstance(column.this, exp.Star)
    ]


def _read_texts(query: exp.Expr, scopes: Scopes, sql: str, by_place: Collection[int]) -> None:
    for column in _bare_columns(query):
        start, end = (column.this.meta.get(edge, -1) for edge in ("start", "end"))
        if not 0 <= start < end < len(sql) or sql[start] != '"':
            continue
        meaning = _mean(column, scopes)
        if meaning is _Meaning.TEXT or (meaning is _Meaning.UNKNOWN and start in by_place):
            text = sql[start + 1 : end].replace('""', '"')
            column.replace(exp.Literal.string(text))


def _mean(column: exp.Column, scopes: Scopes) -> exp.Expr | _Meaning:
    name = column.name
    for number, (select, clause) in enumerate(_enclosing(column)):
        output = _output_named(select, name) if number == 0 and clause != "expressions" else None
        if output is not None and clause == "order" and _is_term(column):
            return output
        columns = scopes.columns_of(select)
        if columns is not None and name in columns:
            return _Meaning.COLUMN
        if output is not None:
            return output
        if columns is None:
            return _Meaning.UNKNOWN
    return _Meaning.TEXT


def _enclosing(node: exp.Expr) -> Iterator[_Seen]:
    """Yield the SELECTs whose sources a node can name, the innermost first."""
    at: exp.Expr = node
    from_source = False
    while at.parent is not None:
        parent = at.parent
        clause = str(at.arg_key or "")
        if isinstance(parent, exp.Join):
            from_source = clause == "this"
        if isinstance(parent, exp.Select):
            hidden = clause in _WITHOUT_OUTPUTS or (clause == "joins" and from_source)
            if not hidden:
                yield _Seen(parent, clause)
            from_source = False
        at = parent


def _output_named(select: exp.Select, name: str) -> exp.Expr | None:
    for item in select.expressions:
        if isinstance(item, exp.Alias) and item.alias == name:
            return item.this
    return None


def _is_term(node: exp.Expr) -> bool:
    parent = node.parent
    while isinstance(parent, exp.Collate):
        parent = parent.parent
    return isinstance(parent, exp.Ordered)


def _inside(meaning: exp.Expr, parent: exp.Expr | None) -> exp.Expr:
    """Keep what an output stands for together where it becomes part of something larger."""
    alone = isinstance(parent, exp.Ordered | exp.Group | exp.Where | exp.Having)
    loose = isinstance(meaning, exp.Binary | exp.Unary | exp.Predicate | exp.Case)
    return exp.Paren(this=meaning) if loose and not alone else meaning


def _resolve_places(query: exp.Expr) -> None:
    outputs: list[exp.Expr] = next((select.expressions for select in _selects(query)), [])
    united = isinstance(query, exp.SetOperation)
    clauses = ("order",) if united else ("order", "group")
    for clause in (query.args.get(name) for name in clauses):
        for term in clause.expressions if clause else []:
            key = term.this if isinstance(term, exp.Ordered) else term
            while isinstance(key, exp.Collate):
                key = key.this
            if isinstance(key, exp.Literal) and key.is_int:
                key.replace(_output_at(int(key.this), outputs, united=united))
            elif united and isinstance(key, exp.Column) and not key.table:
                key.replace(_place_of(key, query))


def _output_at(place: int, outputs: list[exp.Expr], *, united: bool) -> exp.Expr:
    before = outputs[:place]
    if united or not 0 < place <= len(outputs) or any(item.is_star for item in before):
        return _call("output_column", place)
    found = outputs[place - 1].unalias()
    return _call("output_column", place) if isinstance(found, exp.Literal) else found.copy()


def _place_of(column: exp.Column, query: exp.Expr) -> exp.Expr:
    """Write an output of UNION as its place in the first SELECT that has one of that name."""
    for select in _selects(query):
        for place, item in enumerate(select.expressions, 1):
            if item.alias_or_name == column.name and not item.is_star:
                star = any(each.is_star for each in select.expressions[:place])
                return _call("output_item" if star else "output_column", place)
    return column


def _selects(query: exp.Expr) -> Iterator[exp.Select]:
    query = query.unnest() if isinstance(query, exp.Subquery) else query
    if isinstance(query, exp.SetOperation):
        yield from _selects(query.this)
        yield from _selects(query.expression)
    elif isinstance(query, exp.Select):
        yield query


def _innermost(query: exp.Expr) -> exp.Expr:
    while isinstance(query, exp.SetOperation | exp.Subquery | exp.Paren):
        query = query.this
    return query


def _call(name: str, place: int) -> exp.Expr:
    return exp.Anonymous(this=name, expressions=[exp.Literal.string(str(place))])
