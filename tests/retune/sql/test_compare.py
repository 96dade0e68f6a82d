"""When two results are the same."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retune.sql.compare import Row, results_match


@pytest.mark.parametrize(
    ("gold", "predicted", "ordered", "same", "why"),
    [
        ([(1,), (2,)], [(2,), (1,)], False, True, "rows in any order"),
        ([(1,), (2,)], [(2,), (1,)], True, False, "unless the gold orders them"),
        ([(1, "a"), (2, "b")], [("a", 1), ("b", 2)], False, True, "columns in any order"),
        ([(1, "a"), (2, "b")], [("a", 1), ("b", 2)], True, True, "also when rows are ordered"),
        ([(1, "a"), (2, "b")], [("b", 1), ("a", 2)], False, False, "cells stay with their row"),
        ([(1,), (1,), (2,)], [(1,), (2,), (2,)], False, False, "a bag counts duplicates"),
        ([(1,), (1,)], [(1,)], False, False, "DISTINCT matters"),
        ([(1, 1)], [(1,)], False, False, "a column less"),
        ([], [], False, True, "both empty"),
        ([], [(1,)], False, False, "one empty"),
        ([(1,)], [("1",)], False, False, "a text is no number"),
        ([(1,)], [(1.0,)], False, True, "an integer is a number like any other"),
        ([(None,)], [(None,)], False, True, "NULL agrees with NULL"),
        ([(None,)], [(0,)], False, False, "NULL is not zero"),
        ([(None,)], [("",)], False, False, "NULL is not the empty text"),
        ([(b"a",)], [("a",)], False, False, "a blob is no text"),
        ([("A",)], [("a",)], False, False, "case of texts matters"),
        ([(100.0,)], [(100.00009,)], False, True, "9e-7 of it away"),
        ([(100.5,)], [(100.5003,)], False, False, "3e-6 of it away"),
        ([(0.1 + 0.2,), (5,)], [(5,), (0.3,)], False, True, "rounding noise, rows swapped"),
        ([(10_000_000,)], [(10_000_001,)], False, False, "whole numbers agree exactly"),
        ([(1e-9,)], [(0.0,)], False, False, "the tolerance is relative"),
        ([(float("inf"),)], [(1.5,)], False, False, "infinity is far from everything"),
    ],
)
def test_results_are_compared_as_defined(
    gold: list[Row], predicted: list[Row], ordered: bool, same: bool, why: str
) -> None:
    assert results_match(gold, predicted, ordered=ordered) is same, why


def test_columns_with_equal_cells_are_told_apart_by_their_rows() -> None:
    # Both columns hold {1, 2}; only crossing them over makes the rows agree.
    gold = [(1, 2, "x"), (2, 1, "y")]
    assert results_match(gold, [(2, 1, "x"), (1, 2, "y")], ordered=False)
    assert not results_match(gold, [(2, 2, "x"), (1, 1, "y")], ordered=False)


def test_many_equal_columns_do_not_take_factorial_time() -> None:
    # Forty equal columns have 40! orders; the last cell makes every one of them fail.
    gold = [tuple([1] * 40), tuple([2] * 39 + [3])]
    predicted = [tuple([2] * 40), tuple([1] * 39 + [3])]
    assert not results_match(gold, predicted, ordered=False)


def test_a_result_may_have_more_columns_than_the_stack_has_room_for() -> None:
    """SQLite's own limit is 2,000; a recursion over columns ended at 1,000."""
    wide = [tuple(range(1_500)), tuple(range(1_500))]
    assert results_match(wide, [row[::-1] for row in wide], ordered=False)
    assert not results_match(wide, [wide[0], (*wide[1][:-1], 0)], ordered=False)


cells = st.one_of(st.none(), st.integers(-3, 3), st.sampled_from(["a", "b"]), st.just(0.5))
tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.tuples(*[cells] * width), min_size=1, max_size=8)
)


@settings(deadline=None, max_examples=80)
@given(table=tables, seed=st.integers(0, 10_000))
def test_shuffling_rows_and_columns_changes_nothing(table: list[Row], seed: int) -> None:
    chance = random.Random(seed)
    rows = chance.sample(table, len(table))
    columns = chance.sample(range(len(table[0])), len(table[0]))
    shuffled = [tuple(row[at] for at in columns) for row in rows]
    assert results_match(table, shuffled, ordered=False)
    assert results_match(shuffled, table, ordered=False)


@settings(deadline=None, max_examples=80)
@given(table=tables)
def test_a_changed_cell_is_seen(table: list[Row]) -> None:
    changed = [*table[:-1], ("other", *table[-1][1:])]
    assert not results_match(table, changed, ordered=False)
