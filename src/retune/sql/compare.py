"""When two query results are the same: the execution-match relation.

Agrees with `exec_match_keep_distinct` of taoyds/test-suite-sql-eval on one database: bags of rows
(duplicates count), columns in any order, rows in order only where asked, two empty results equal.
Numbers that are floats agree at relative 1e-6; a text never equals a number, NULL equals NULL.

Standard library only: the sandbox's worker imports this module.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

RELATIVE_TOLERANCE = 1e-6

Row = Sequence[Any]
_Column = tuple[Hashable, ...]


def results_match(gold: Sequence[Row], predicted: Sequence[Row], *, ordered: bool) -> bool:
    """Compare two query results.

    Args:
        gold: Rows of the gold query, cells None, int, float, str or bytes.
        predicted: Rows of the predicted query.
        ordered: Rows must come in the same order.

    Returns:
        True when some order of the predicted columns makes the results equal.

    Example:
        >>> results_match([(1, "a"), (2, "b")], [("b", 2), ("a", 1)], ordered=False)
        True
        >>> results_match([(1,), (1,)], [(1,)], ordered=False)
        False
    """
    if len(gold) != len(predicted):
        return False
    if not gold:
        return True  # as the reference: how many columns an empty result has does not count
    if len(gold[0]) != len(predicted[0]):
        return False
    numbers = _Numbers(cell for rows in (gold, predicted) for row in rows for cell in row)
    left, right = numbers.columns(gold), numbers.columns(predicted)
    if ordered:
        return Counter(left) == Counter(right)
    return _bags_match(left, right)


class _Numbers:
    """Gives cells that count as equal the same hashable stand-in.

    Floats are not hashable up to a tolerance, so all numbers of both results are sorted, and
    neighbours within the tolerance share a stand-in as long as they are within it of the run's
    first number. Without floats (the usual case) numbers stand for themselves.
    """

    def __init__(self, cells: Iterable[Any]) -> None:
        found = {cell for cell in cells if isinstance(cell, int | float)}
        self._stand_in: dict[int | float, int | float] = {}
        if not any(isinstance(number, float) and not number.is_integer() for number in found):
            return  # 3 and 3.0 are equal and hash alike
        ranked = sorted(found)
        anchor = ranked[0]
        self._stand_in[anchor] = anchor
        for before, number in pairwise(ranked):
            both_whole = float(before).is_integer() and float(number).is_integer()
            if both_whole or not math.isclose(anchor, number, rel_tol=RELATIVE_TOLERANCE):
                anchor = number
            self._stand_in[number] = anchor

    def columns(self, rows: Sequence[Row]) -> list[_Column]:
        return [tuple(map(self._key, column)) for column in zip(*rows, strict=True)]

    def _key(self, cell: Any) -> Hashable:
        if isinstance(cell, int | float):
            return ("number", self._stand_in.get(cell, cell))
        return (type(cell).__name__, cell)


def _bags_match(left: list[_Column], right: list[_Column]) -> bool:
    """Find an order of the right columns under which both are the same bag of rows.

    Columns can only be exchanged for columns with the same bag of cells, and each choice is
    checked on the rows so far, so that the search seldom has to go back.
    """
    right_bags = [frozenset(Counter(column).items()) for column in right]
    candidates = []
    for column in left:
        bag = frozenset(Counter(column).items())
        candidates.append([at for at, other in enumerate(right_bags) if other == bag])
    # Columns with few partners first; equal partners are tried once.
    order = sorted(range(len(left)), key=lambda at: len(candidates[at]))
    start = [0] * len(left[0])
    levels = [_Level(iter(candidates[order[0]]), set(), start, start)]
    taken: dict[int, None] = {}  # the right column that each level but the last has, in order
    # A loop, not a recursion: a result may have more columns than Python's stack has room for.
    while levels:
        level, place = levels[-1], order[len(levels) - 1]
        at = next((at for at in level.candidates if right[at] not in level.tried), None)
        if at is None:
            levels.pop()
            if taken:
                taken.popitem()
            continue
        if at in taken:
            continue
        level.tried.add(right[at])
        numbered: dict[Hashable, int] = {}
        new_left = _number(level.left_rows, left[place], numbered)
        new_right = _number(level.right_rows, right[at], numbered)
        if Counter(new_left) != Counter(new_right):
            continue
        if len(levels) == len(order):
            return True
        taken[at] = None
        following = candidates[order[len(levels)]]
        levels.append(_Level(iter(following), set(), new_left, new_right))
    return False


class _Level(NamedTuple):
    """One left column: which right ones are still to try, and the rows up to it."""

    candidates: Iterator[int]
    tried: set[_Column]
    left_rows: list[int]
    right_rows: list[int]


def _number(rows: list[int], column: _Column, numbered: dict[Hashable, int]) -> list[int]:
    """Number each distinct (row so far, next cell), so that long rows stay one integer."""
    return [numbered.setdefault(key, len(numbered)) for key in zip(rows, column, strict=True)]
