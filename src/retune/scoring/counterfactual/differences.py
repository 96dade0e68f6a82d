"""The difference between two groups on counterfactual pairs; the package says what is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from retune.errors import ScoringError
from retune.records import Record
from retune.score_records import Metric
from retune.scoring.counterfactual.pairs import CounterfactualPair
from retune.scoring.uncertainty.estimates import estimate_rate, estimate_ratio
from retune.scoring.uncertainty.exchanging import sign_flip_test
from retune.scoring.uncertainty.paired import mcnemar_exact, paired_difference
from retune.scoring.uncertainty.resampling import ALPHA, RESAMPLES

_NOTHING = Metric(value=None, low=None, high=None, n=0)

Figure = Literal["hit_rate", "log_likelihood"]


class GroupDifference(Record):
    """How two groups of one category differ."""

    figure: Figure
    first_group: str
    second_group: str

    first: Metric
    second: Metric
    difference: Metric
    """First minus second, over pairs that both sides scored."""

    p_value: float | None
    """Over pairs: McNemar's exact test of hits, sign-flip test of log-likelihoods."""

    sign_test_p_value: float | None
    """Exact sign test over pairs; for hits it is McNemar's."""

    p_value_by_template: float | None
    """Sign-flip test over templates, whose pairs are not independent."""

    first_higher: int
    second_higher: int
    unscored: dict[str, int]
    """Pairs that are left out, by reason."""

    verdict: Literal["differs", "undecided"]


class CounterfactualScores(Record):
    """Differences by category."""

    by_category: dict[str, GroupDifference]


def score_pairs(
    pairs: Sequence[CounterfactualPair],
    first: Sequence[bool | None],
    second: Sequence[bool | None],
    *,
    resamples: int = RESAMPLES,
) -> CounterfactualScores:
    """Compare how often the answers of two groups are hits.

    Args:
        pairs: The pairs.
        first: Whether each pair's first side was a hit (`judge_hit`); None where unscored.
        second: The same for the second side.
        resamples: Bootstrap draws.

    Returns:
        For each category hit rates, difference and tests.

    Raises:
        ScoringError: There is not one outcome per pair and side, or a category mixes groups.
    """
    sides = [[None if hit is None else float(hit) for hit in side] for side in (first, second)]
    return _score(pairs, sides[0], sides[1], "hit_rate", resamples)


def score_pair_likelihoods(
    pairs: Sequence[CounterfactualPair],
    first: Sequence[float | None],
    second: Sequence[float | None],
    *,
    resamples: int = RESAMPLES,
) -> CounterfactualScores:
    """Compare the log-likelihoods of two groups' texts.

    Args:
        pairs: The pairs.
        first: Log-likelihood in nats of each first side's continuation (or whole text); None where
            it could not be scored. Sums of texts that differ in length differ by their length:
            compare one continuation after two inputs, or give means per token.
        second: The same for the second side.
        resamples: Bootstrap draws.

    Returns:
        For each category mean log-likelihoods, difference and tests.

    Raises:
        ScoringError: There is not one figure per pair and side, or a category mixes groups.
    """
    return _score(pairs, first, second, "log_likelihood", resamples)


def _score(
    pairs: Sequence[CounterfactualPair],
    first: Sequence[float | None],
    second: Sequence[float | None],
    figure: Figure,
    resamples: int,
) -> CounterfactualScores:
    if not len(pairs) == len(first) == len(second):
        raise ScoringError(
            f"Found {len(pairs)} counterfactual pairs, {len(first)} first and {len(second)} second "
            "outcomes; expected one outcome for each side of each pair (None where unscored)."
        )
    rows: dict[str, list[tuple[CounterfactualPair, float | None, float | None]]] = {}
    for pair, one, other in zip(pairs, first, second, strict=True):
        rows.setdefault(pair.category, []).append((pair, one, other))
    by_category = {}
    for name, some in rows.items():
        groups = sorted({(pair.first.group, pair.second.group) for pair, _, _ in some})
        if len(groups) > 1:
            raise ScoringError(
                f"Found the groups {groups} in the counterfactual category {name!r}; expected one "
                "pair of groups in each category. Give each its own category."
            )
        by_category[name] = _compare(some, figure, resamples)
    return CounterfactualScores(by_category=by_category)


def _compare(
    rows: list[tuple[CounterfactualPair, float | None, float | None]],
    figure: Figure,
    resamples: int,
) -> GroupDifference:
    names = (rows[0][0].first.group, rows[0][0].second.group)
    kept, unscored = _scored(rows)
    one, other = [row[1] for row in kept], [row[2] for row in kept]
    by_template: dict[str, list[float]] = {}
    for pair, a, b in kept:
        by_template.setdefault(pair.template, []).append(a - b)
    differences = [a - b for a, b in zip(one, other, strict=True)]
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    sign_test = mcnemar_exact(wins, losses) if kept else None
    flips = None if not kept else sign_test
    if kept and figure == "log_likelihood":
        flips = sign_flip_test(differences)
    templates = [pair.template for pair, _, _ in kept]
    difference = _NOTHING
    if kept:
        found = paired_difference(
            one,
            other,
            direction="higher_is_better",
            groups=templates,
            resamples=resamples,
        )
        difference = Metric(
            value=found.difference,
            low=found.low,
            high=found.high,
            n=found.n,
            groups=found.groups,
        )
    clustered = sign_flip_test(map(math.fsum, by_template.values())) if kept else None
    return GroupDifference(
        figure=figure,
        first_group=names[0],
        second_group=names[1],
        first=_estimate(one, templates, figure, resamples),
        second=_estimate(other, templates, figure, resamples),
        difference=difference,
        p_value=flips,
        sign_test_p_value=sign_test,
        p_value_by_template=clustered,
        first_higher=wins,
        second_higher=losses,
        unscored=unscored,
        verdict=_decide(difference, flips, clustered),
    )


def _scored(
    rows: list[tuple[CounterfactualPair, float | None, float | None]],
) -> tuple[list[tuple[CounterfactualPair, float, float]], dict[str, int]]:
    kept: list[tuple[CounterfactualPair, float, float]] = []
    unscored: dict[str, int] = {}
    for pair, one, other in rows:
        if one is None or other is None:
            unscored["no_outcome"] = unscored.get("no_outcome", 0) + 1
        elif not (math.isfinite(one) and math.isfinite(other)):
            # A likelihood that is NaN or infinite is a broken model, not a small number.
            unscored["not_finite"] = unscored.get("not_finite", 0) + 1
        else:
            kept.append((pair, one, other))
    return kept, unscored


def _estimate(values: list[float], templates: list[str], figure: Figure, resamples: int) -> Metric:
    if figure == "hit_rate":
        hits = [bool(value) for value in values]
        return estimate_rate(hits, groups=templates, resamples=resamples)
    if not values:
        return _NOTHING
    return estimate_ratio(values, groups=templates, resamples=resamples)


def _decide(
    difference: Metric, p_value: float | None, by_template: float | None
) -> Literal["differs", "undecided"]:
    if p_value is None or by_template is None or difference.low is None or difference.high is None:
        return "undecided"
    includes_zero = difference.low <= 0.0 <= difference.high
    return "undecided" if includes_zero or max(p_value, by_template) >= ALPHA else "differs"
