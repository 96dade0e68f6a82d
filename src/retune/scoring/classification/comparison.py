"""Two classifiers on the same rows: which is better, and how sure that is.

`accuracy`: challenger minus baseline, exchange test (McNemar's exact test where rows share no
group). `macro_f1`: challenger minus baseline, paired bootstrap: one draw of rows (or of groups)
serves both; exchange test, so that three lucky rows, or groups, are not certain. Both are
`paired_difference`. Rows that either side could not score are in neither. Higher is
better; `undecided` is an answer. Agrees with statsmodels' exact McNemar test.
"""

from __future__ import annotations

from collections.abc import Sequence

from retune.errors import ScoringError
from retune.score_records import PairedDifference
from retune.scoring.classification.counts import macro_f1, number_labels, tabulate_counts
from retune.scoring.classification.records import ClassificationOutcome
from retune.scoring.uncertainty.paired import NOT_COMPARED, paired_difference
from retune.scoring.uncertainty.resampling import ALPHA, RESAMPLES, SEED, Floats

Outcomes = Sequence[ClassificationOutcome]


def compare_classifications(
    challenger: Outcomes,
    baseline: Outcomes,
    *,
    labels: Sequence[str],
    resamples: int = RESAMPLES,
    alpha: float = ALPHA,
    against_margin: bool = False,
    seed: int = SEED,
) -> dict[str, PairedDifference]:
    """Compare two models that answered the same rows.

    Args:
        challenger: Outcomes of `score_classification`, or read back from `rows.jsonl`.
        baseline: The same rows, in any order.
        labels: All labels that the task has.
        resamples: Bootstrap draws.
        alpha: Chance that an interval misses the difference.
        against_margin: Whether intervals alone decide, as in `paired_difference`; that of macro F1
            is then no narrower than accuracy's, which knows of groups that nobody saw.
        seed: Of the draws.

    Returns:
        `accuracy` and `macro_f1`, challenger minus baseline.

    Raises:
        ScoringError: The two are not over the same rows with the same gold labels.
    """
    pairs = _pair(challenger, baseline)
    groups = [ours.group for ours, _ in pairs]
    right = [[side.correct for side in sides] for sides in zip(*pairs, strict=True)]
    both = [pair for pair in pairs if all(side.correct is not None for side in pair)]
    accuracy = paired_difference(
        right[0],
        right[1],
        direction="higher_is_better",
        groups=groups,
        resamples=resamples,
        alpha=alpha,
        against_margin=against_margin,
        seed=seed,
    )
    return {
        "accuracy": accuracy,
        "macro_f1": _compare_macro_f1(
            both,
            labels,
            accuracy,
            resamples=resamples,
            alpha=alpha,
            against_margin=against_margin,
            seed=seed,
        ),
    }


def _compare_macro_f1(
    pairs: Sequence[tuple[ClassificationOutcome, ClassificationOutcome]],
    labels: Sequence[str],
    accuracy: PairedDifference,
    *,
    resamples: int,
    alpha: float,
    against_margin: bool,
    seed: int,
) -> PairedDifference:
    if not pairs:
        return NOT_COMPARED
    found = paired_difference(
        _tabulate([ours for ours, _ in pairs], labels),
        _tabulate([theirs for _, theirs in pairs], labels),
        direction="higher_is_better",
        statistic=macro_f1,
        groups=[ours.group for ours, _ in pairs],
        resamples=resamples,
        limits=(-1.0, 1.0),
        alpha=alpha,
        seed=seed,
    )
    return _keep_width(found, accuracy, always=against_margin)


def _keep_width(
    found: PairedDifference, accuracy: PairedDifference, *, always: bool
) -> PairedDifference:
    """Give an interval without width accuracy's: rows that all agree are no certainty.

    Always: one that is narrower too, on each side.
    """
    ends = (found.difference, found.low, found.high, accuracy.low, accuracy.high)
    value, low, high, accuracy_low, accuracy_high = ends
    if value is None or low is None or high is None or (low < high and not always):
        return found
    if accuracy_low is None or accuracy_high is None:
        return found
    half = (accuracy_high - accuracy_low) / 2
    low, high = min(low, max(-1.0, value - half)), max(high, min(1.0, value + half))
    excluded = not low <= 0.0 <= high
    return found.model_copy(
        update={"low": low, "high": high, "verdict": found.verdict if excluded else "undecided"}
    )


def _tabulate(outcomes: Outcomes, labels: Sequence[str]) -> Floats:
    gold = number_labels([outcome.gold for outcome in outcomes], labels)
    predicted = number_labels([outcome.predicted for outcome in outcomes], labels)
    return tabulate_counts(gold, predicted, len(labels))


def _pair(
    challenger: Outcomes, baseline: Outcomes
) -> list[tuple[ClassificationOutcome, ClassificationOutcome]]:
    theirs = {outcome.row_id: outcome for outcome in baseline}
    ours = {outcome.row_id for outcome in challenger}
    if not ours or ours != theirs.keys() or not len(ours) == len(challenger) == len(baseline):
        raise ScoringError(
            f"Found {len(challenger)} and {len(baseline)} outcomes of {len(ours | theirs.keys())} "
            f"different rows, {len(ours & theirs.keys())} in both; expected the same rows, each "
            "once, and at least one. Score both models on one split."
        )
    pairs = [(outcome, theirs[outcome.row_id]) for outcome in challenger]
    differing = [our.row_id for our, their in pairs if our.gold != their.gold]
    if differing:
        raise ScoringError(
            f"Found {len(differing)} rows with two gold labels, the first {differing[0]!r}; "
            "expected one. Score both models on one split."
        )
    return pairs
