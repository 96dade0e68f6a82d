"""Golds whose LIMIT cuts a tie: which rows they return is SQLite's choice, not the question's.

A LIMIT cuts a tie when the last row that it keeps and the first that it drops have equal ORDER BY
keys. Looked at are the outermost query and its subqueries that can run alone. Asked by a query of
our own per LIMIT, run where the gold runs; a LIMIT without ORDER BY is no tie, it is no order.
"""

from __future__ import annotations

from functools import lru_cache

from sqlglot import exp

from retune.sql.parsing import UnreadableError, library_errors, parse_query


@lru_cache(maxsize=8192)  # the golds of one side are asked for once per model
def tie_probes(sql: str) -> tuple[str, ...]:
    """Write the queries that tell whether a gold's LIMITs cut ties.

    Args:
        sql: A gold in SQLite's dialect.

    Returns:
        One query per ORDER BY with LIMIT; it returns a row if that LIMIT cuts a tie, and fails for
        a subquery that needs its outer query.
    """
    if "limit" not in sql.lower():
        return ()
    try:
        query = parse_query(sql, "sqlite")
        with library_errors("no_probe"):
            found = [_probe(node) for node in query.find_all(exp.Query) if _is_cut(node)]
            return tuple(probe.sql(dialect="sqlite") for probe in found)
    except UnreadableError:
        return ()


def _is_cut(query: exp.Expr) -> bool:
    return bool(query.args.get("order")) and _number(query.args.get("limit")) > 0


def _number(clause: exp.Expr | None) -> int:
    value = clause.expression if clause else None
    return int(value.name) if isinstance(value, exp.Literal) and value.is_int else 0


def _probe(query: exp.Expr) -> exp.Expr:
    """SELECT the keys of the two rows at the cut, and group them: one group of two is a tie."""
    kept = _number(query.args.get("limit"))
    skipped = _number(query.args.get("offset"))
    edge = query.copy() if isinstance(query, exp.Select) else _wrap(query)
    names = []
    for number, ordered in enumerate(edge.args["order"].expressions):
        names.append(f"_key{number}")
        key = _resolve(ordered.this, edge.expressions)
        edge.append("expressions", exp.alias_(key, names[-1]))
    edge.set("limit", exp.Limit(expression=exp.Literal.number(2)))
    edge.set("offset", exp.Offset(expression=exp.Literal.number(skipped + kept - 1)))
    # A row number as third column would do without GROUP BY, but NULL keys would not be equal.
    return exp.select("1").from_(edge.subquery("_edge")).group_by(*names).having("COUNT(*) = 2")


def _wrap(query: exp.Expr) -> exp.Select:
    """Put a set operation into FROM, so that its order can be asked for beside its columns."""
    inner = query.copy()
    order = inner.args["order"].copy()
    for name in ("order", "limit", "offset"):
        inner.set(name, None)
    outer = exp.select("*").from_(exp.Subquery(this=inner, alias=exp.to_identifier("_all")))
    outer.set("order", order)
    return outer


def _resolve(key: exp.Expr, outputs: list[exp.Expr]) -> exp.Expr:
    """Return what a key stands for: `2` the second column, `n` the column that is called so."""
    if isinstance(key, exp.Literal) and key.is_int and 0 < int(key.name) <= len(outputs):
        return outputs[int(key.name) - 1].unalias().copy()
    if isinstance(key, exp.Column) and not key.table:
        for output in outputs:
            if isinstance(output, exp.Alias) and output.alias.lower() == key.name.lower():
                return output.this.copy()
    return key.copy()
