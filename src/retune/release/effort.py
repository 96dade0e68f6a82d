"""What it costs a model to think: tokens of thoughts and answers, and seconds, per answer."""

from __future__ import annotations

from statistics import fmean

from retune.score_records import Metric, ModelScores
from retune.scoring.outcomes import read_latency, read_outcomes
from retune.scoring.uncertainty.estimates import estimate_ratio


def measure_effort(scores: ModelScores, resamples: int) -> dict[str, Metric]:
    """Measure what a model wrote and how long that took, beside its scores.

    Args:
        scores: Its reports.
        resamples: Bootstrap draws.

    Returns:
        `thinking_tokens` and `answer_tokens` with their intervals, and `seconds_per_answer`, whose
        rows share the time of their batch, without one; none where no answer was timed, no tokens
        where the answers are of a version that did not count them.
    """
    latency = read_latency(scores)
    rows = latency["rows"] if latency else {}
    if not rows:
        return {}
    seconds = fmean(row["seconds"] for row in rows.values())
    found = {"seconds_per_answer": Metric(value=seconds, low=None, high=None, n=len(rows))}
    if any("thinking_tokens" not in row for row in rows.values()):
        return found
    of = {row["row_id"]: row["group"] for row in read_outcomes(scores.over_rows())}
    groups = [of.get(row_id) for row_id in rows]
    thinking = [row["thinking_tokens"] for row in rows.values()]
    answers = [row["tokens"] - row["thinking_tokens"] for row in rows.values()]
    tokens = {"thinking_tokens": thinking, "answer_tokens": answers}
    return found | {
        name: estimate_ratio(values, groups=groups, resamples=resamples)
        for name, values in tokens.items()
    }
