"""From the trials' results to what the pages show: order, Pareto set, paired comparisons, notes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from retune import errors
from retune.gate.deciding import deciding_metric
from retune.recipe.recipe import Recipe
from retune.release.report import describe_environment
from retune.release.side_by_side import PairedComparison
from retune.release.summary import headline
from retune.score_records import Metric
from retune.scoring.showing import warn_of_few_groups
from retune.trials.choosing import choosing_gate
from retune.trials.results import (
    ComparedTrial,
    TrialComparison,
    TrialResult,
    find_pareto,
    order_results,
    pair_with_best,
    value_of,
)

_SECONDS_PER_HOUR = 3600.0
_MANY_TRIALS = 3


def gather_comparison(
    recipe: Recipe,
    results: Sequence[TrialResult],
    *,
    kind: Literal["comparison", "sweep"],
    folder: Path,
) -> TrialComparison:
    """Put trials side by side.

    Args:
        recipe: Says which figure decides, and what an hour of the device costs.
        results: One line per trial.
        kind: Of methods, or a sweep.
        folder: Where the pages will lie.

    Returns:
        What the pages show.

    Raises:
        RetuneError: No trial finished; the message says why each did not. Where all failed for one
            reason, it is that error itself.
    """
    _refuse_failure(results)
    first = next(each.scores for each in results if each.scores is not None)
    metric = deciding_metric(choosing_gate(recipe.gate), first)
    ordered = order_results(metric, results)
    pareto, counts = find_pareto(metric, ordered)
    paired = pair_with_best(metric, ordered, recipe.scoring.resamples)
    price = recipe.device.price_per_hour
    return TrialComparison(
        recipe=recipe.name,
        kind=kind,
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        metric=metric,
        rows=_count_rows(metric, ordered),
        currency=recipe.device.currency,
        counts=counts,
        trials=tuple(
            ComparedTrial(
                result=each,
                metrics=_headline(each),
                price=_price(each, price),
                pareto=each.name in pareto,
                against_best=paired.get(each.name),
            )
            for each in ordered
        ),
        notes=tuple(_notes(ordered, paired, kind)),
        environment=describe_environment(),
        folder=folder,
    )


def _refuse_failure(results: Sequence[TrialResult]) -> None:
    if any(each.state == "finished" for each in results):
        return
    reasons: dict[str, list[str]] = {}
    for each in results:
        reasons.setdefault(each.reason, []).append(each.name)
    kinds = {each.error for each in results}
    if len(reasons) == 1 and results[0].error:
        raise getattr(errors, results[0].error)(results[0].reason)
    told = "\n".join(f"  {', '.join(names)}: {reason}" for reason, names in reasons.items())
    # None was begun: the recipe is wrong, as for a run of it.
    error = errors.DoesNotFit if kinds == {errors.DoesNotFit.__name__} else errors.StageError
    raise error(f"All {len(results)} trials failed:\n{told}")


def _count_rows(metric: str, ordered: Sequence[TrialResult]) -> int:
    scores = ordered[0].scores
    report = scores.report_of(metric) if scores else None
    return report.rows if report else 0


def _headline(result: TrialResult) -> dict[str, Metric]:
    return headline(result.scores) if result.scores else {}


def _price(result: TrialResult, per_hour: float | None) -> float | None:
    if per_hour is None or result.cost is None:
        return None
    return per_hour * result.cost.seconds / _SECONDS_PER_HOUR


def _notes(
    ordered: Sequence[TrialResult], paired: dict[str, PairedComparison], kind: str
) -> list[str]:
    finished = [each for each in ordered if each.state == "finished"]
    notes = []
    if any(each.reused for each in finished):
        notes.append(
            "Trials marked as reused were trained by an earlier run: their time and memory are of "
            "then, perhaps beside other work or on another machine."
        )
    devices = {each.cost.device for each in finished if each.cost and each.cost.device}
    if len(devices) > 1:
        found = " and ".join(sorted(devices))
        notes.append(f"Trained on {found}: their time and memory cannot be compared.")
    if any(each.cost and each.cost.estimated for each in finished):
        notes.append(
            "A time with ~ is of a training that was resumed: steps before that are counted at the "
            "pace of those after."
        )
    rates = {each.learning_rate for each in finished}
    methods = {each.method.partition(",")[0] for each in finished}
    if kind == "comparison" and len(methods) > 1 and len(rates) == 1:
        notes.append(
            f"All methods were trained with the learning rate {finished[0].learning_rate:g}. They "
            "need different ones (prompt and prefix tuning about a hundred times that of LoRA, "
            "full fine-tuning less): a variant of the recipe called like the method sets it."
        )
    undecided = [name for name, each in paired.items() if each.verdict == "undecided"]
    if undecided:
        notes.append(
            f"Not shown to be worse than {ordered[0].name}, by the paired difference on the same "
            f"rows: {', '.join(undecided)}."
        )
    few = warn_of_few_groups(each.groups for each in paired.values())
    if few:
        notes.append(few)
    if len(finished) > _MANY_TRIALS:
        notes.append(
            f"The best of {len(finished)} trials was chosen on the validation rows that it is "
            "measured on, which flatters it a little. The test rows, which no trial was scored on, "
            "tell what it is worth: train it with `retune run`."
        )
    if any(value_of(name, each) is None for each in finished for name in _headline(each)):
        notes.append("A figure that could not be scored is left empty.")
    return notes
