"""How hard a gold query is: the four classes of Spider (Yu et al., 2018).

Counted on the query's outermost SELECT, of a set operation on the first one:

- clauses: WHERE, GROUP BY, ORDER BY, LIMIT, each further table of FROM, each OR, each LIKE;
- nested: subqueries that a condition compares with, and UNION, INTERSECT or EXCEPT;
- others: more than one aggregate, more than one output column, more than one WHERE condition, more
  than one GROUP BY expression, each counting once.

easy: at most one clause, no other, no nested. medium: as easy with up to two others, or two
clauses and at most one other. hard: at most two clauses and more than two others, or three clauses
and at most two others, or at most one clause, no other and one nested. extra: all the rest.

Written from these published rules over sqlglot's tree; the public program counts on its own parse,
whose quirks are kept where they decide: a condition under NOT counts as an aggregate, and so does
each AND and OR of HAVING. What the public parser cannot read at all has a class here too: EXISTS
counts as nested, a subquery in FROM as a table.
Agrees with the classes that taoyds/spider's evaluation.py (`eval_hardness`) gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

from sqlglot import exp

from retune.sql.parsing import UnreadableError, library_errors, parse_query

Hardness = Literal["easy", "medium", "hard", "extra"]
HARDNESS: tuple[Hardness, ...] = ("easy", "medium", "hard", "extra")

_LIKES = (exp.Like, exp.ILike)


@lru_cache(maxsize=8192)  # the golds of one side are asked for once per model
def rate_hardness(sql: str, *, dialect: str = "sqlite") -> Hardness | None:
    """Return the class of a query.

    Args:
        sql: One query.
        dialect: What it is written in, as sqlglot names it.

    Returns:
        The class; None when it cannot be parsed, is too long to be, or is no query.

    Example:
        >>> rate_hardness("SELECT name FROM singer WHERE age > 20")
        'easy'
        >>> rate_hardness("SELECT name FROM singer WHERE age > 20 ORDER BY age")
        'medium'
    """
    try:
        query = parse_query(sql, dialect)
        with library_errors("not_rated"):
            return _rate(query)
    except UnreadableError:
        return None


def _rate(query: exp.Expr) -> Hardness | None:
    nested = 0
    while isinstance(query, exp.SetOperation | exp.Subquery):
        nested = max(nested, int(isinstance(query, exp.SetOperation)))
        query = query.this
    if not isinstance(query, exp.Select):
        return None
    conditions = _Conditions(query)
    return _classify(
        clauses=_count_clauses(query, conditions),
        nested=nested + conditions.nested,
        others=_count_others(query, conditions),
    )


def _classify(*, clauses: int, nested: int, others: int) -> Hardness:
    if not nested and clauses <= 1 and not others:
        return "easy"
    if not nested and ((clauses <= 1 and others <= 2) or (clauses <= 2 and others < 2)):
        return "medium"
    many_others = not nested and clauses <= 2 and others > 2
    three_clauses = not nested and clauses == 3 and others <= 2
    if many_others or three_clauses or (clauses <= 1 and not others and nested <= 1):
        return "hard"
    return "extra"


class _Conditions:
    """The conditions of one SELECT, taken apart at AND and OR."""

    def __init__(self, query: exp.Select) -> None:
        joins = [join.args.get("on") for join in query.args.get("joins") or []]
        where, having = query.args.get("where"), query.args.get("having")
        self.where = list(_leaves(where.this if where else None))
        self.having = list(_leaves(having.this if having else None))
        self.all = [*self.where, *self.having, *(leaf for on in joins for leaf in _leaves(on))]
        roots = [where and where.this, having and having.this, *joins]
        self.ors = sum(_count_ors(root) for root in roots if root)
        self.likes = sum(isinstance(_bare(leaf), _LIKES) for leaf in self.all)
        self.nested = sum(_count_nested(_bare(leaf)) for leaf in self.all)


def _leaves(condition: exp.Expr | None) -> Iterator[exp.Expr]:
    if condition is None:
        return
    inner = condition.unnest()
    if isinstance(inner, exp.And | exp.Or):
        yield from _leaves(inner.left)
        yield from _leaves(inner.right)
    else:
        yield inner


def _count_ors(condition: exp.Expr) -> int:
    inner = condition.unnest()
    if not isinstance(inner, exp.And | exp.Or):
        return 0
    return isinstance(inner, exp.Or) + _count_ors(inner.left) + _count_ors(inner.right)


def _bare(leaf: exp.Expr) -> exp.Expr:
    return leaf.this.unnest() if isinstance(leaf, exp.Not) else leaf


def _count_nested(leaf: exp.Expr) -> int:
    """Count the subqueries that one condition compares with, not those inside of them."""
    found = leaf.walk(prune=lambda node: isinstance(node, exp.Query))
    return sum(isinstance(node, exp.Query) for node in found)


def _count_clauses(query: exp.Select, conditions: _Conditions) -> int:
    clauses = sum(bool(query.args.get(name)) for name in ("where", "group", "order", "limit"))
    joins = query.args.get("joins") or []
    return clauses + len(joins) + conditions.ors + conditions.likes


def _count_others(query: exp.Select, conditions: _Conditions) -> int:
    order, group = query.args.get("order"), query.args.get("group")
    aggregates = sum(
        1
        for part in [*query.expressions, *(order.expressions if order else [])]
        for node in part.walk(prune=lambda node: isinstance(node, exp.Query))
        if isinstance(node, exp.AggFunc)
    )
    negated = sum(isinstance(leaf, exp.Not) for leaf in [*conditions.where, *conditions.having])
    between_having = max(0, len(conditions.having) - 1)
    return (
        (aggregates + negated + between_having > 1)
        + (len(query.expressions) > 1)
        + (len(conditions.where) > 1)
        + (len(group.expressions if group else []) > 1)
    )
