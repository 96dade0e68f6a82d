"""Guards: figures that must be shown not to have become worse by more than a margin.

Non-inferiority: of the paired interval, the end that is bad for the challenger has to lie within
the margin. That no difference was found is not enough, since a small test never finds one; so few
rows or groups that no test could decide anything show nothing either. Of a rate over rows in
groups the interval knows that a group nobody saw may be lost as a whole. A guard compares with the
champion, or with the base where there is none, at the level of the decision.

Figures that only guards use:

- `flip_rate`: paired over the changes of questions; those of one row (or group) stand together.
- `unscored_rate`: rows without the figure that decides, paired over rows.
- `seconds_per_answer`: a row's share of the time of its batches, where both models wrote on the
  same device in batches of the same size; its interval is over the batches of either, whichever
  is worse. A machine that was busy
  during all of one scoring shows in it as a slower model.
- `release_bytes`: counted, no sample; its interval has no width.
- `probe_pass_rate.CATEGORY`: over the cases of that category.
"""

from __future__ import annotations

import math
from typing import Any

from retune.gate.describing import describe
from retune.gate.pairing import count_same_tokens, pair_metric, pair_rows
from retune.gate.stages import DecideInputs
from retune.recipe.sections import GateConfig
from retune.score_records import GuardFinding, ModelScores, PairedDifference, ScoreReport
from retune.scoring.figures import column_of, figure_behind
from retune.scoring.outcomes import read_latency
from retune.scoring.uncertainty.exchanging import fewest_units
from retune.scoring.uncertainty.paired import NOT_COMPARED, paired_difference
from retune.scoring.uncertainty.resampling import count_units

SIZE = "release_bytes"
LATENCY = "seconds_per_answer"
UNSCORED = "unscored_rate"


def check_guards(
    inputs: DecideInputs, gate: GateConfig, resamples: int, seed: int
) -> tuple[GuardFinding, ...]:
    """Compare every guarded figure with its margin.

    Args:
        inputs: Scores, sizes, and the level of the decision.
        gate: Names the guards, and the figure that decides.
        resamples: Bootstrap draws.
        seed: Of the draws.

    Returns:
        One finding per guard; one that could not be compared does not hold.

    Raises:
        ScoringError: Two reports are not over the same rows.
    """
    opponent = inputs.champion or inputs.base
    found = []
    for name, margin in gate.guards.items():
        if name == SIZE:
            paired = _compare_sizes(inputs)
        else:
            shared: dict[str, Any] = {"alpha": inputs.alpha, "resamples": resamples, "seed": seed}
            shared["against_margin"] = True
            metric = str(gate.metric)
            paired = _compare_scores(name, metric, inputs.challenger, opponent, shared)
        found.append(
            GuardFinding(
                **paired.model_copy(update={"alpha": inputs.alpha}).model_dump(),
                metric=name,
                against="base" if inputs.champion is None else "champion",
                margin=margin,
                holds=_is_within(name, paired, margin),
            )
        )
    return tuple(found)


def refusal_of_guard(guard: GuardFinding) -> str | None:
    """Say why a guard forbids promotion; None where it holds."""
    if guard.holds:
        return None
    return (
        f"not shown to be within gate.guards.{guard.metric} {guard.margin:g} of the "
        f"{guard.against}: {describe(guard, guard.against)}"
    )


def _is_within(name: str, paired: PairedDifference, margin: float) -> bool:
    if paired.low is None or paired.high is None:
        return False
    loss = paired.high if figure_behind(name).lower_is_better else -paired.low
    counted = name == SIZE
    enough = count_units(paired.n, paired.groups) >= fewest_units(paired.alpha)
    return loss <= margin and (counted or enough)


def _compare_sizes(inputs: DecideInputs) -> PairedDifference:
    sizes = inputs.release_bytes
    ours = sizes.get("challenger")
    theirs = sizes.get("base" if inputs.champion is None else "champion")
    if not ours or not theirs:
        return NOT_COMPARED
    more = float(ours - theirs)
    verdict = "undecided" if more == 0 else "worse" if more > 0 else "better"
    update = {"difference": more, "low": more, "high": more, "n": 1, "verdict": verdict}
    return NOT_COMPARED.model_copy(update=update)


def _compare_scores(
    name: str, metric: str, challenger: ModelScores, opponent: ModelScores, shared: dict[str, Any]
) -> PairedDifference:
    if name == LATENCY:
        return _compare_latency(challenger, opponent, shared)
    figure = figure_behind(name)
    if figure.per_token and not count_same_tokens(challenger, opponent):
        return NOT_COMPARED
    looked_at = metric if name == UNSCORED else name
    ours, theirs = challenger.report_of(looked_at), opponent.report_of(looked_at)
    if ours is None or theirs is None:
        return NOT_COMPARED
    if name == UNSCORED:
        return _compare_unscored(metric, ours, theirs, shared)
    return pair_metric(name, ours, theirs, **shared)


def _compare_unscored(
    metric: str, ours: ScoreReport, theirs: ScoreReport, shared: dict[str, Any]
) -> PairedDifference:
    rows = pair_rows(metric, ours, theirs)
    figure = figure_behind(metric)
    field = column_of(figure)
    values = [[float(row[field] is None) for row in side] for side in rows]
    groups = None if figure.over == "cases" else [row["group"] for row in rows[0]]
    return paired_difference(*values, direction="lower_is_better", groups=groups, **shared)


def _compare_latency(
    challenger: ModelScores, opponent: ModelScores, shared: dict[str, Any]
) -> PairedDifference:
    ours, theirs = read_latency(challenger), read_latency(opponent)
    if ours is None or theirs is None or _measured_as(ours) != _measured_as(theirs):
        return NOT_COMPARED
    ids = [row for row in ours["rows"] if row in theirs["rows"]]
    pairs = [(ours["rows"][row], theirs["rows"][row]) for row in ids]
    batches = [[str(row["batch"]) for row in side] for side in zip(*pairs, strict=True)]
    if not batches or any(len(set(each)) < 2 for each in batches):
        # One batch is one time, however many rows it has.
        return NOT_COMPARED
    sides = [[row["seconds"] for row in side] for side in zip(*pairs, strict=True)]
    # Models with other tokens batch rows otherwise: then rows hang together in two ways, and pairs
    # of batches would be many more units than there are times. The worse of the two is told.
    found = [
        paired_difference(*sides, direction="lower_is_better", groups=each, **shared)
        for each in batches
    ]
    return max(found, key=_high)


def _measured_as(latency: dict[str, Any]) -> dict[str, Any]:
    """Return how times were measured; older files were written where there was one way alone."""
    return {"placement": "device", "devices": 1, **latency["measured"]}


def _high(found: PairedDifference) -> float:
    return math.inf if found.high is None else found.high
