"""Bounds on the challenger alone: whatever it is compared with, it has to keep to them."""

from __future__ import annotations

from retune.recipe.sections import GateConfig
from retune.score_records import Metric, ModelScores
from retune.scoring.figures import figure_of
from retune.scoring.showing import label_of, show_value


def list_unmet_bounds(challenger: ModelScores, gate: GateConfig) -> list[str]:
    """Say which bounds of the gate the challenger breaks.

    Args:
        challenger: Its scores.
        gate: The bounds; its metric is named.

    Returns:
        A reason each; a figure that was not scored breaks its bound.
    """
    name = str(gate.metric)
    label = label_of(name)
    report = challenger.report_of(name)
    if report is None:
        return [f"{label} was not scored: the rows are of another kind. Choose another gate.metric"]
    metric = report.metrics[name]
    # Not `report.unscored`, which counts by reason: a row may have one metric and lack another.
    unscored = 1 - metric.n / report.rows if report.rows else 1.0
    unmet: list[str] = []
    if unscored > gate.max_unscored_fraction:
        unmet.append(
            f"{unscored:.1%} of the rows have no {label}; "
            f"gate.max_unscored_fraction allows {gate.max_unscored_fraction:.1%}"
        )
    unmet += [*_under_floor(name, metric, gate), *_failed_probes(challenger, gate)]
    return unmet


def _under_floor(name: str, metric: Metric, gate: GateConfig) -> list[str]:
    if metric.value is None:
        return [f"{label_of(name)} could not be scored on any row"]
    if gate.min_value is None:
        return []
    if figure_of(name).lower_is_better:
        # The recipe refuses this where it names the metric; here the rows chose it.
        return [
            f"gate.min_value {gate.min_value} cannot bound {label_of(name)}, which is better when "
            "lower; remove it, or name another gate.metric"
        ]
    under = metric.value < gate.min_value
    told = f"{label_of(name)} {show_value(name, metric.value)}"
    return [f"{told} is under gate.min_value {gate.min_value}"] if under else []


def _failed_probes(challenger: ModelScores, gate: GateConfig) -> list[str]:
    bound = gate.min_probe_pass_rate
    if bound is None:
        return []
    probes = challenger.metrics().get("probe_pass_rate")
    passed = None if probes is None else probes.value
    if passed is not None and passed >= bound:
        return []
    found = "unscored" if passed is None else show_value("probe_pass_rate", passed)
    return [f"{label_of('probe_pass_rate')} is {found}, under gate.min_probe_pass_rate {bound}"]
