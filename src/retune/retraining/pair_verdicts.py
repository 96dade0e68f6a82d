"""Champion and challenger on served requests: how often they say the same, and who is right.

Right is known where a person called the champion's answer good, or said what it should have been.
A query is held against that by its result, a class by its name. Of a text only what is equal is
known: to the right answer, or to one that was called bad. What is not known for both decides
nothing, and is counted.

People judge what strikes them, so that these requests are no sample of all. On answers that were
corrected the champion is wrong by choice, and on those that were called good it is right by choice:
a verdict takes some of either kind, and speaks of judged requests alone. Differences are those of
the gate (`scoring.uncertainty.paired`): paired, requests that ask the same in one group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from retune.records import Record
from retune.retraining.served_pairs import Said, ServedPair
from retune.score_records import FigureDifference, Metric
from retune.scoring.sql.score import extract_sql, score_queries
from retune.scoring.uncertainty.estimates import estimate_rate
from retune.scoring.uncertainty.paired import paired_difference
from retune.sql.records import SqlLimits, SqlRow

FIGURE = "accuracy"
"""Under which the difference is shown: the share of judged requests that are answered right."""

Outcome = tuple[bool | None, bool | None]
"""Whether champion and challenger are right; None where that is not known."""


class PairFigures(Record):
    """Two versions on the requests that both answered."""

    champion: str
    challenger: str
    pairs: int
    same: Metric
    """Share of all pairs whose answers are equal."""
    good: int
    """Judged answers of the champion that were called good."""
    bad: int
    """Those that were called bad, or corrected."""
    unknown: int
    """Of both kinds, those on which it is not known who is right."""
    champion_right: int
    challenger_right: int
    """Of the judged requests where it is known of both."""
    difference: FigureDifference
    """Challenger minus champion, over these."""
    verdict: Literal["better", "worse", "undecided"]
    """`undecided` too where all of them are of one kind."""


def compare_pairs(
    pairs: Sequence[ServedPair],
    said: Mapping[str, Said],
    *,
    dialect: str,
    limits: SqlLimits,
    resamples: int,
) -> list[PairFigures]:
    """Compare the versions of each two that were served beside each other.

    Args:
        pairs: The oldest first.
        said: What people said of the champion's answers, by the request's id.
        dialect: What queries are written in.
        limits: What one of them may cost.
        resamples: Bootstrap draws.

    Returns:
        Figures by two versions; those that answered last come last.

    Raises:
        ScoringError: No process can be started that queries run in.
    """
    outcomes = _judge_all(pairs, said, dialect, limits)
    last = {pair.models: at for at, pair in enumerate(pairs)}
    return [
        _compare(
            [
                (pair, said.get(pair.request), outcomes.get(pair.request))
                for pair in pairs
                if pair.models == models
            ],
            resamples,
        )
        for models in sorted(last, key=lambda each: last[each])
    ]


def _judge_all(
    pairs: Sequence[ServedPair], said: Mapping[str, Said], dialect: str, limits: SqlLimits
) -> dict[str, Outcome]:
    judged = [(pair, said[pair.request]) for pair in pairs if pair.request in said]
    found = {pair.request: _judge_text(pair, each) for pair, each in judged if not _runs(pair)}
    queries = [(pair, gold) for pair, each in judged if _runs(pair) and (gold := _gold(pair, each))]
    rows = [
        SqlRow(row_id=pair.request, gold=extract_sql(gold), context=pair.script)
        for pair, gold in queries
        for _ in pair.answers
    ]
    answers = [extract_sql(answer) for pair, _ in queries for answer in pair.answers]
    if rows:
        scores = score_queries(rows, answers, dialect=dialect, limits=limits)
        right = iter([each.execution_match for each in scores.outcomes])
        found |= {pair.request: (next(right), next(right)) for pair, _ in queries}
    return found


def _runs(pair: ServedPair) -> bool:
    return pair.kind == "query"


def _gold(pair: ServedPair, said: Said) -> str:
    return said.correction or (pair.answers[0] if said.good else "")


def _judge_text(pair: ServedPair, said: Said) -> Outcome:
    champion, challenger = (answer.strip() for answer in pair.answers)
    gold = _gold(pair, said).strip()
    if pair.kind == "class" and gold:
        return champion == gold, challenger == gold
    right = bool(gold) and champion == gold
    if challenger == champion:
        return right, right
    return right, True if gold and challenger == gold else None


def _compare(
    judged: Sequence[tuple[ServedPair, Said | None, Outcome | None]], resamples: int
) -> PairFigures:
    pairs = [pair for pair, _, _ in judged]
    same = estimate_rate(
        [pair.answers[0] == pair.answers[1] for pair in pairs],
        groups=[pair.question for pair in pairs],
        resamples=resamples,
    )
    known = [
        (pair, said, outcome)
        for pair, said, outcome in judged
        if said is not None and outcome is not None and None not in outcome
    ]
    kinds = [said.good for _, said, _ in judged if said is not None]
    champion, challenger = ([float(bool(each[side])) for _, _, each in known] for side in (0, 1))
    found = paired_difference(
        challenger,
        champion,
        direction="higher_is_better",
        groups=[pair.question for pair, _, _ in known],
        resamples=resamples,
    )
    difference = FigureDifference(metric=FIGURE, **found.model_dump())
    both = len({said.good for _, said, _ in known}) == 2
    return PairFigures(
        champion=pairs[0].models[0],
        challenger=pairs[0].models[1],
        pairs=len(pairs),
        same=same,
        good=sum(kinds),
        bad=len(kinds) - sum(kinds),
        unknown=len(kinds) - len(known),
        champion_right=int(sum(champion)),
        challenger_right=int(sum(challenger)),
        difference=difference,
        verdict=difference.verdict if both else "undecided",
    )
