"""The gate: a challenger becomes champion only when it is shown to be better, and nothing worse.

It is compared with the base and, where there is one, with the champion, on the same rows, by the
paired interval of the gain and the paired test (`retune.scoring.uncertainty`). "Undecided" is an
answer, and not a yes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from retune.digests import digest_json
from retune.recipe.sections import GateConfig
from retune.records import Comparison, GateDecision, ModelScores
from retune.release.pairing import pair_metric
from retune.release.showing import note_groups
from retune.release.stages import DecideInputs, DecideSettings
from retune.scoring.exchanging import FEWEST_UNITS
from retune.scoring.figures import FIGURES, figure_that_decides
from retune.scoring.resampling import count_units
from retune.spine.stage import Workdir

Opponent = Literal["base", "champion"]

FORGETTING = "general_text_bits_per_byte"
"""Fine-tuning nearly always costs some of it, so it is bounded by a setting and not by zero."""


def decide(inputs: DecideInputs, settings: DecideSettings, work: Workdir) -> GateDecision:
    """Say whether the challenger may become champion, and why.

    Args:
        inputs: Scores.
        settings: What has to be shown.
        work: Unused; the decision is its record.

    Returns:
        The decision with every comparison and all reasons.

    Raises:
        ScoringError: Two reports are not over the same rows.
    """
    metric = deciding_metric(settings.gate, inputs.challenger)
    gate = settings.gate.model_copy(update={"metric": metric})
    comparisons = compare(inputs.challenger, inputs.base, "base", settings.resamples)
    if inputs.champion is not None:
        comparisons += compare(inputs.challenger, inputs.champion, "champion", settings.resamples)
    refusals = [
        *_unmet_bounds(inputs.challenger, gate),
        *_uncompared(comparisons, inputs, gate),
        *(r for c in comparisons if (r := refusal_of(c, gate)) is not None),
    ]
    gains = [describe(c) for c in comparisons if c.metric == gate.metric]
    body: dict[str, Any] = {
        "promote": not refusals,
        "reasons": tuple(refusals or gains),
        "comparisons": tuple(comparisons),
    }
    plain = GateDecision(digest="", **body).model_dump(mode="json")
    return GateDecision(digest=digest_json(plain), **body)


def compare(
    challenger: ModelScores, opponent: ModelScores, against: Opponent, resamples: int
) -> list[Comparison]:
    """Compare two models metric by metric on the rows that both scored.

    Args:
        challenger: The tuned model's scores.
        opponent: The other's, on the same rows.
        against: Who the other is.
        resamples: Bootstrap draws.

    Returns:
        One comparison per figure that is compared; differences are challenger minus opponent.

    Raises:
        ScoringError: The reports are not over the same rows.
    """
    found = []
    for metric in (name for name, figure in FIGURES.items() if figure.over):
        ours, theirs = challenger.report_of(metric), opponent.report_of(metric)
        if ours is not None and theirs is not None:
            paired = pair_metric(metric, ours, theirs, resamples)
            found.append(Comparison(metric=metric, against=against, **paired.model_dump()))
    return found


def deciding_metric(gate: GateConfig, scores: ModelScores) -> str:
    """Name the figure that decides: that of the recipe, or the first that the rows have.

    Args:
        gate: May name it.
        scores: Of a model on the rows.
    """
    return gate.metric or figure_that_decides(lambda each: scores.report_of(each.name) is not None)


def _unmet_bounds(challenger: ModelScores, gate: GateConfig) -> list[str]:
    unmet: list[str] = []
    name = str(gate.metric)
    report = challenger.report_of(name)
    if report is None:
        return [f"{name} was not scored: the rows are of another kind. Choose another gate.metric"]
    metric = report.metrics[name]
    # Not `report.unscored`, which counts by reason: a row may have one metric and lack another.
    unscored = 1 - metric.n / report.rows if report.rows else 1.0
    if unscored > gate.max_unscored_fraction:
        unmet.append(
            f"{unscored:.1%} of the rows have no {gate.metric}; "
            f"gate.max_unscored_fraction allows {gate.max_unscored_fraction:.1%}"
        )
    if metric.value is None:
        unmet.append(f"{gate.metric} could not be scored on any row")
    elif gate.min_value is not None and FIGURES[name].lower_is_better:
        # The recipe refuses this where it names the metric; here the rows chose it.
        unmet.append(
            f"gate.min_value {gate.min_value} cannot bound {name}, which is better when lower; "
            "remove it, or name another gate.metric"
        )
    elif gate.min_value is not None and metric.value < gate.min_value:
        unmet.append(f"{gate.metric} {metric.value:.3f} is under gate.min_value {gate.min_value}")
    if gate.min_probe_pass_rate is not None:
        probes = challenger.metrics().get("probe_pass_rate")
        passed = None if probes is None else probes.value
        if passed is None or passed < gate.min_probe_pass_rate:
            found = "unscored" if passed is None else f"{passed:.3f}"
            unmet.append(
                f"probe_pass_rate is {found}, under gate.min_probe_pass_rate "
                f"{gate.min_probe_pass_rate}"
            )
    return unmet


def _uncompared(
    comparisons: Sequence[Comparison], inputs: DecideInputs, gate: GateConfig
) -> list[str]:
    """Name the opponents that lack the gate's metric: nothing is shown against them."""
    opponents = ["base"] if inputs.champion is None else ["base", "champion"]
    compared = {c.against for c in comparisons if c.metric == gate.metric}
    return [
        f"{gate.metric} could not be compared with the {name}, which has no such score"
        for name in opponents
        if name not in compared
    ]


def refusal_of(comparison: Comparison, gate: GateConfig) -> str | None:
    """Say why a comparison forbids promotion.

    The gate's own metric must be shown to be better by `min_gain`: by the interval and, unless a
    loss is accepted, by the paired test, whose p-value can be large where the interval is clear of
    zero. Every other one must not be shown to be worse, but for general text, which has a bound of
    its own. Where a loss is accepted the interval alone decides, so that there have to be as many
    rows or groups as a test would need.

    Args:
        comparison: With the base or the champion.
        gate: What has to be shown; its metric is named.

    Returns:
        The reason, or None where nothing is against it.
    """
    if comparison.metric == FORGETTING:
        return _forgot_too_much(comparison, gate.max_forgetting_bits)
    if comparison.metric != gate.metric:
        if comparison.verdict == "worse":
            return f"worse than the {comparison.against}: {describe(comparison)}"
        if comparison.worse_on_rows:
            return (
                f"worse than the {comparison.against} on the rows at hand, whose groups are too "
                f"few to say more: {describe(comparison)}"
            )
        return None
    gain = _smallest_gain(comparison)
    shown = _is_enough(comparison) if gate.min_gain < 0 else comparison.verdict == "better"
    if gain is not None and gain > gate.min_gain and shown:
        return None
    return (
        f"not shown to be better than the {comparison.against} by more than gate.min_gain "
        f"{gate.min_gain:g}: {describe(comparison)}"
    )


def _is_enough(comparison: Comparison) -> bool:
    """Tell whether there are as many rows or groups as any test needs to decide at all."""
    return count_units(comparison.n, comparison.groups) >= FEWEST_UNITS


def _forgot_too_much(comparison: Comparison, bound: float | None) -> str | None:
    if bound is None or comparison.against != "base":
        return None
    if comparison.high is not None and comparison.high <= bound and _is_enough(comparison):
        return None
    return (
        f"not shown to have kept general text within gate.max_forgetting_bits {bound:g} bits per "
        f"byte: {describe(comparison)}"
    )


def _smallest_gain(comparison: Comparison) -> float | None:
    """Return the end of the interval that is worst for the challenger, as a gain."""
    if not FIGURES[comparison.metric].lower_is_better:
        return comparison.low
    return None if comparison.high is None else -comparison.high


def describe(comparison: Comparison) -> str:
    """Write a comparison in one line, with what its interval rests on where that is little.

    Args:
        comparison: With the base or the champion.

    Returns:
        The line.
    """
    c = comparison
    if c.difference is None or c.low is None or c.high is None:
        return f"{c.metric} could not be compared with the {c.against}"
    line = (
        f"{c.metric} {c.difference:+.3f} [{c.low:+.3f}, {c.high:+.3f}] against the {c.against} "
        f"on {c.n} rows"
    )
    note = note_groups(c.groups)
    return f"{line} {note}" if note else line
