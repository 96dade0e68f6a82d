"""The population stability index and its null, against figures by hand and scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import entropy

from retune.retraining.indices import Asked, Counts, count_all, count_numbers
from retune.retraining.stability import (
    DRAWS,
    ERROR,
    chance_of_index,
    chance_of_rise,
    choose_tokens,
    count_tokens,
    find_edges,
    place_numbers,
    share_of,
    stability_index,
)
from retune.scoring.uncertainty.resampling import ratio_of_sums

ROWS, REQUESTS, TRIALS = 600, 250, 1000


def test_the_index_of_counts_is_what_it_is_by_hand() -> None:
    """Half a count more in each of two bins: (3, 1) is 3.5/5 and 1.5/5, (1, 1) is 1/2 each.

    (0.5 - 0.7) ln(0.5 / 0.7) + (0.5 - 0.3) ln(0.5 / 0.3) = 0.0673 + 0.1022 = 0.1695.
    """
    assert share_of([3, 1]).tolist() == [0.7, 0.3]
    expected = -0.2 * math.log(5 / 7) + 0.2 * math.log(5 / 3)
    assert float(stability_index([3, 1], [1, 1])) == pytest.approx(expected, abs=1e-12)


def test_the_index_agrees_with_both_divergences_of_scipy() -> None:
    """It is the one plus the other, of shares; empty bins have theirs."""
    generator = np.random.default_rng(1)
    for _ in range(20):
        counts = generator.integers(0, 40, (2, 12))
        p, q = share_of(counts)
        assert float(stability_index(*counts)) == pytest.approx(entropy(p, q) + entropy(q, p))


def test_equal_shares_are_no_drift_and_sides_may_be_exchanged() -> None:
    """Ten times the rows is the same population, but for the half counts."""
    assert float(stability_index([5, 9, 0], [5, 9, 0])) == 0.0
    assert float(stability_index([500, 900, 0], [5000, 9000, 0])) < 1e-3
    assert float(stability_index([7, 1], [2, 6])) == float(stability_index([2, 6], [7, 1]))


@pytest.mark.parametrize(
    ("values", "edges", "asked", "bins"),
    [
        # Tenths of 1 to 10: one value a bin, and whatever is above 9 in the last.
        (range(1, 11), [*range(1, 10)], [0, 1, 2, 9, 10, 99], [0, 0, 1, 8, 9, 9]),
        # All alike: below, that value, above.
        ([5] * 30, [np.nextafter(5, 0), 5], [4, 5, 6], [0, 1, 2]),
    ],
)
def test_bins_of_numbers(
    values: list[int], edges: list[float], asked: list[int], bins: list[int]
) -> None:
    """Tenths; a value that many rows have is a bin by itself."""
    found = find_edges(values)
    assert found.tolist() == edges
    assert place_numbers(asked, found).tolist() == bins


def test_bins_are_named_by_what_is_in_them() -> None:
    """The largest value of each; one that is a bin by itself has its own name."""
    rows = [Asked(0, ())] * 10
    counts = count_numbers("n", "N", rows, [1, 2, 3, 4, 5, 5, 5, 5, 9, 9], [5])
    assert list(counts.bins) == [
        *("up to 1", "over 1 to 2", "over 2 to 3", "over 3 to 4", "over 4 and below 5", "5"),
        *("over 5 to 9", "over 9"),
    ]
    assert counts.requests.tolist() == [[0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]]


def test_a_token_counts_once_a_prompt() -> None:
    """The most frequent ones first, of equally frequent ones the lowest; all others together."""
    prompts = [[7, 7, 7, 3], [3, 9], [9, 3, 4]]
    assert choose_tokens(prompts) == [3, 9, 4, 7]
    assert count_tokens([[7, 7, 3, 100, 101, 101]], [3, 9]).tolist() == [[1.0, 0.0, 3.0]]


def draw_prompts(generator: np.random.Generator, count: int, *, shift: float = 0.0) -> list[Asked]:
    """Return prompts of one population: lengths, Zipf's tokens, one of three classes."""
    found = []
    for _ in range(count):
        size = int(generator.poisson(14 + 10 * shift)) + 1
        ids = np.minimum(generator.zipf(1.4, size), 4000) + int(40 * shift)
        label = "abc"[int(generator.choice(3, p=[0.5 - shift / 3, 0.3 + shift / 3, 0.2]))]
        found.append(Asked(int(4.2 * size) + int(generator.integers(0, 9)), ids.tolist(), label))
    return found


def counts_of(rows: list[Asked], requests: list[Asked]) -> list[Counts]:
    return count_all(rows, requests, least_labelled=1, show_token=str)


def test_a_thousand_draws_from_the_same_rows_are_above_chance_in_five_percent_at_most() -> None:
    """Any of four indices, whatever its size: `stability_index` is not asked at all here."""
    generator = np.random.default_rng(3)
    rows = draw_prompts(generator, ROWS)
    tables = counts_of(rows, rows)
    level = ERROR / len(tables)
    limits = [chance_of_index(t.rows, t.groups, REQUESTS, level, seed=7) for t in tables]
    above = 0
    for _ in range(TRIALS):
        drawn = generator.integers(0, ROWS, REQUESTS)
        above += any(
            float(stability_index(table.rows.sum(axis=0), table.rows[drawn].sum(axis=0))) > limit
            for table, limit in zip(tables, limits, strict=True)
        )
    assert above <= ERROR * TRIALS


def test_new_draws_from_the_same_population_are_above_chance_as_seldom() -> None:
    """Neither rows nor requests are the population: the null lets both vary.

    Were only the requests drawn, far more than 5 % would be above (with as many rows as requests,
    the index is twice as large).
    """
    generator = np.random.default_rng(4)
    above = 0
    for trial in range(100):
        sides = [generator.poisson(14, REQUESTS) for _ in range(2)]
        counts = count_numbers("n", "N", [Asked(0, ())] * REQUESTS, *(s.tolist() for s in sides))
        index = counts.as_index(ERROR, seed=trial)
        above += index.value > index.chance
    # 5 % of 100 is 5; 12 or more are seen in one of two hundred such trials.
    assert above < 12


def test_what_moved_is_above_chance_and_what_did_not_is_not() -> None:
    """Longer prompts of other words and another mix of classes show in all four indices."""
    generator = np.random.default_rng(5)
    rows = draw_prompts(generator, ROWS)
    moved = [
        each.as_index(ERROR / 4, seed=7)
        for each in counts_of(rows, draw_prompts(generator, REQUESTS, shift=1.0))
    ]
    assert [each.name for each in moved] == [
        *("prompt_characters", "prompt_tokens", "tokens", "classes"),
    ]
    assert all(each.value > max(0.2, each.chance) for each in moved)


def test_classes_are_compared_where_enough_requests_name_one() -> None:
    """Shares of those that do; a class that no row has is among the others.

    Rows: a 2, b 1 of 3, smoothed over a, b and others: 2.5, 1.5, 0.5 of 4.5.
    """
    rows = [Asked(1, (1,), label) for label in "aab"]
    requests = [Asked(1, (1,), label) for label in ("a", "new", "new", None)]
    classes = counts_of(rows, requests)[-1].as_index(ERROR, seed=7)
    assert classes.requests == 3
    assert [(each.label, each.rows, each.requests) for each in classes.bins] == [
        ("a", 2.5 / 4.5, 1.5 / 4.5),
        ("b", 1.5 / 4.5, 0.5 / 4.5),
        ("all others", 0.5 / 4.5, 2.5 / 4.5),
    ]
    few = count_all(rows, requests, least_labelled=4, show_token=str)
    assert [each.name for each in few] == ["prompt_characters", "prompt_tokens", "tokens"]


def test_rows_of_one_group_are_drawn_together() -> None:
    """Twelve databases of fifty rows, each of one length: a draw of few databases is another mix.

    By rows the chance is far smaller: (12 - 1) / 250 and as much again for the rows.
    """
    groups = [f"db{at // 50}" for at in range(ROWS)]
    lengths = [float(at // 50) for at in range(ROWS)]
    rows = [Asked(0, (), group=group) for group in groups]
    table = count_numbers("n", "N", rows, lengths, lengths[:1]).rows
    by_group = chance_of_index(table, groups, REQUESTS, ERROR, seed=7)
    by_row = chance_of_index(table, [None] * ROWS, REQUESTS, ERROR, seed=7)
    assert by_row < 0.15 < 1.0 < by_group


def test_one_group_for_all_is_no_group() -> None:
    """It can only be drawn as it is, which would look like certainty: rows are drawn."""
    table = np.eye(4)[np.arange(200) % 4]
    alone = chance_of_index(table, [None] * 200, 100, ERROR, seed=7)
    assert chance_of_index(table, ["all"] * 200, 100, ERROR, seed=7) == alone > 0.0


def test_the_chance_of_a_rise_is_the_quantile_of_a_normal_where_rows_are_many() -> None:
    """Losses of one token each: of 2,000 rows and 500 requests with a spread s of their own.

    sqrt(1/2000 + 1/500) s z with z = 1.645 for 5 %; a tenth for the draws.
    """
    losses = np.random.default_rng(6).gamma(4.0, 0.5, 2000)
    table = np.column_stack([losses, np.ones(2000)])
    found = chance_of_rise(table, [None] * 2000, 500, ERROR, 7, ratio_of_sums)
    expected = 1.645 * losses.std() * math.sqrt(1 / 2000 + 1 / 500)
    assert found == pytest.approx(expected, rel=0.1)


def test_the_null_is_drawn_by_seed() -> None:
    """The same figures for the same seed, and others for another."""
    table = np.eye(5)[np.arange(300) % 5]
    found = [chance_of_index(table, [None] * 300, 100, 0.5, seed) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert DRAWS >= 1 / (ERROR / 5)
