"""Figures as text for people: percentages for rates, plain numbers for perplexity.

Rounding happens here and nowhere earlier.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from retune.model_records import Role
from retune.pages.numbers import ABSENT
from retune.recipe.sections.scoring import SamplingConfig
from retune.score_records import FigureDifference, GuardFinding, Metric, SmallSlice
from retune.scoring.figures import FIGURES, figure_of, is_own
from retune.scoring.uncertainty.exchanging import FEWEST_UNITS

_MOST_NAMED = 8
FEW_GROUPS = 10
"""Below so many groups an interval is said to be too narrow."""
CLASSIFIERS = {
    "tfidf_logistic_regression": "TF-IDF and logistic regression",
    "majority": "Largest class",
}
"""The plain classifiers of `score_baselines`, for people."""
ROLE_LABELS: dict[Role, str] = {
    "base": "Base",
    "adapter": "Adapter",
    "merged": "Released",
    "champion": "Champion",
}


def label_of(name: str) -> str:
    """Return the name of a figure, or of a plain classifier, for people.

    Args:
        name: Such as ``perplexity``, ``probe_pass_rate.refusals`` for a part of its rows, or
            ``majority``.
    """
    whole, _, part = name.partition(".")
    if part and whole in FIGURES:
        return f"{FIGURES[whole].label} ({part})"
    return CLASSIFIERS.get(name) or figure_of(name).label


def direction_of(metric: str) -> str:
    """Say which way is good."""
    return figure_of(metric).direction.replace("_", " ")


def explanation_of(metric: str) -> str:
    """Say in one line what a figure is; empty where there is nothing to say."""
    return figure_of(metric).explanation


def is_rate(metric: str) -> bool:
    """Tell whether a metric is a part of rows, 0 to 1."""
    return figure_of(metric if is_own(metric) else metric.rpartition(".")[2]).unit == "rate"


def bar_end(metric: str, models: Iterable[Mapping[str, Metric]]) -> float:
    """Return the value at the right end of a metric's bars.

    Args:
        metric: Name of the figure.
        models: The figures of each model beside each other; some may lack this one.
    """
    if is_rate(metric):
        return 1.0
    figures = (each[metric] for each in models if metric in each)
    ends = (each.high or each.value or 0.0 for each in figures)
    return max(ends, default=1.0) or 1.0


def show_value(metric: str, value: float | None) -> str:
    """Write one value: ``86.2 %`` of a rate, ``1.234`` of perplexity."""
    if value is None:
        return ABSENT
    return f"{100 * value:.1f} %" if is_rate(metric) else _short(value)


def show_interval(metric: str, low: float | None, high: float | None) -> str:
    """Write an interval in brackets, empty where there is none."""
    if low is None or high is None:
        return ""
    return f"[{show_value(metric, low)}, {show_value(metric, high)}]"


def show_metric(metric: str, figure: Metric | None) -> str:
    """Write a figure with interval and rows: ``86.2 % [82.0 %, 89.7 %], n = 348``."""
    if figure is None:
        return ABSENT
    if figure.value is None:
        return f"not scored, n = {figure.n}"
    interval = show_interval(metric, figure.low, figure.high)
    parts = f"{show_value(metric, figure.value)} {interval}".strip()
    return f"{parts}, n = {show_rows(figure.n, figure.groups)}"


def show_change(metric: str, change: float) -> str:
    """Write a difference without an interval: ``+47.2 points`` of a rate, ``-0.012``."""
    return f"{_signed(metric, change)}{' points' if is_rate(metric) else ''}"


def show_difference(comparison: FigureDifference) -> str:
    """Write a paired difference: ``+83.0 points [78.9, 86.7]``; points are percentage points."""
    if comparison.difference is None:
        return "not compared"
    interval = ""
    if comparison.low is not None and comparison.high is not None:
        bounds = (_signed(comparison.metric, each) for each in (comparison.low, comparison.high))
        interval = f" [{', '.join(bounds)}]"
    return f"{show_change(comparison.metric, comparison.difference)}{interval}"


def show_margin(guard: GuardFinding) -> str:
    """Write the largest loss that a guard accepts: ``5.0 points``, ``0.05``, ``2,000,000``."""
    if is_rate(guard.metric):
        return f"{100 * guard.margin:.1f} points"
    return f"{guard.margin:,.0f}" if guard.margin >= 1000 else f"{guard.margin:g}"


def list_small_slices(small: Iterable[SmallSlice]) -> str:
    """Name the parts of the rows that are too small to refuse; empty where there are none."""
    found = list(small)
    named = ", ".join(f"{each.by} {each.part} ({each.rows})" for each in found[:_MOST_NAMED])
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return f"Too few rows to refuse: {named}{more}." if found else ""


def show_rows(rows: int, groups: int | None) -> str:
    """Write a number of rows, and of the groups that they fall into where those are few."""
    if groups is None or groups >= FEW_GROUPS:
        return str(rows)
    return f"{rows} in {groups} group{'s' if groups > 1 else ''}"


def describe_sampling(sampling: SamplingConfig | None) -> str:
    """Say how shown answers were drawn beside the greedy ones."""
    if sampling is None:
        return "Answers are greedy."
    penalty = sampling.repetition_penalty
    return (
        f"Greedy, and drawn with temperature {sampling.temperature:g}, top_p {sampling.top_p:g}, "
        f"repetition penalty {penalty:g}, seed {sampling.seed}."
    )


def warn_of_few_groups(groups: Iterable[int | None]) -> str:
    """Say what intervals over few groups are worth, for under a table.

    Args:
        groups: Independent groups of each figure's rows, as in `Metric`.

    Returns:
        Whole sentences; empty where no figure is over few groups.
    """
    few = sorted({each for each in groups if each is not None and each < FEW_GROUPS})
    if not few:
        return ""
    if few == [1]:
        return (
            "All rows share one group (a database, a document): intervals and verdicts speak of "
            "that group alone."
        )
    counts = str(few[-1]) if len(few) == 1 else f"{few[0]} to {few[-1]}"
    nothing = f" Fewer than {FEWEST_UNITS} decide nothing." if few[0] < FEWEST_UNITS else ""
    return (
        f"Rows fall into {counts} groups (databases, documents): intervals over fewer than "
        f"{FEW_GROUPS} are too narrow.{nothing} Hold out rows of more groups."
    )


def show_p_value(p_value: float | None) -> str:
    """Write a p-value; under one in ten thousand only the bound says anything."""
    if p_value is None:
        return ABSENT
    return "< 0.0001" if p_value < 0.0001 else f"{p_value:.4f}"


def _signed(metric: str, value: float) -> str:
    # A true minus sign, so that columns of + and − line up.
    text = f"{100 * value:+.1f}" if is_rate(metric) else f"{value:+.3g}"
    return text.replace("-", "−")


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.3f}"
