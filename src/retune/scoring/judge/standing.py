"""What a judge is worth: whether its figure may decide, and what people have to know of it."""

from __future__ import annotations

from collections.abc import Mapping

from retune.recipe.sections.judge import JudgeConfig
from retune.score_records import (
    JudgeAgreement,
    JudgedAnswers,
    JudgeSpending,
    JudgeStanding,
    Metric,
)
from retune.scoring.judge.kept_answers import BUDGET_SPENT

_MOST_UNREAD = 0.1
"""Share of people's pairs that a judge may refuse, or that may be too long for it: what it agrees
with on the others says nothing of these."""


def doubt_judge(config: JudgeConfig, found: JudgeAgreement | None) -> tuple[str, ...]:
    """Say why a judge's figure may decide nothing.

    Args:
        config: What it has to show.
        found: How it agrees with people; None where it was not held against any.

    Returns:
        The reasons; empty where it may decide.
    """
    if found is None:
        return ("nobody has judged pairs that it could be held against (judge.human_verdicts)",)
    doubts = []
    low = found.kappa.low
    if low is None or low < config.min_agreement:
        doubts.append(
            f"it is not shown to agree with people: kappa {_show(found.kappa)} over "
            f"{found.kappa.n:,} pairs, and the lower end has to reach judge.min_agreement "
            f"{config.min_agreement:g}{_why(found)}"
        )
    unread = found.pairs - found.kappa.n - found.unscored.get(BUDGET_SPENT, 0)
    if unread > _MOST_UNREAD * found.pairs:
        doubts.append(
            f"it was not able to read {unread:,} of the {found.pairs:,} pairs that people have "
            f"judged ({_count(found.unscored).removeprefix('; ')}), and would leave out such rows"
        )
    bias = found.length_bias
    if bias.verdict == "worse" and (bias.difference or 0.0) > config.max_length_bias:
        doubts.append(
            f"it chooses the longer answer {bias.difference:+.1%} more often than people, over "
            f"{bias.n:,} pairs; judge.max_length_bias allows {config.max_length_bias:.0%}"
        )
    return tuple(doubts)


def _why(found: JudgeAgreement) -> str:
    """Name what stands out, where agreement is low."""
    said = []
    low, high = found.first_preferred.low, found.first_preferred.high
    if low is not None and high is not None and not low <= 0.5 <= high:
        said.append(f"it prefers what is shown first in {_show_share(found.first_preferred)}")
    if found.length_bias.verdict == "worse":
        said.append(f"it prefers the longer answer in {_show_share(found.longer_preferred)}")
    missing = sum(found.unscored.values())
    if missing:
        said.append(f"{missing:,} of {found.pairs:,} pairs have no verdict")
    return f"; {', '.join(said)}" if said else ""


def stand(
    config: JudgeConfig, agreement: JudgeAgreement | None, judged: JudgedAnswers
) -> JudgeStanding:
    """Put together what the gate and its readers have to know.

    Args:
        config: What the judge is, and what it has to show.
        agreement: How it agrees with people; None where it was not held against any.
        judged: What it said of the answers.

    Returns:
        Doubts and notes.
    """
    doubts = doubt_judge(config, agreement)
    notes = [*(describe_agreement(config, agreement) if agreement else ())]
    notes += describe_answers(config, judged)
    if doubts:
        notes.append(f"judge {config.name}: its figure is shown and decides nothing: {doubts[0]}")
    return JudgeStanding(
        doubts=doubts, notes=tuple(notes), figures=_list_figures(agreement, judged)
    )


def _list_figures(agreement: JudgeAgreement | None, judged: JudgedAnswers) -> dict[str, float]:
    spent = [judged.spent, *([agreement.spent] if agreement else [])]
    costs = [each.cost for each in spent if each.cost is not None]
    kappa = agreement.kappa if agreement else None
    found = {
        "kappa": kappa.value if kappa else None,
        "kappa.low": kappa.low if kappa else None,
        "length_bias": agreement.length_bias.difference if agreement else None,
        "first_preferred": judged.first_preferred.value,
        "turned": judged.turned,
        "unscored": sum(judged.unscored.values()),
        "requests": sum(each.requests for each in spent),
        "tokens": sum(each.input_tokens + each.output_tokens for each in spent),
        "cost": sum(costs) if costs else None,
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def describe_agreement(config: JudgeConfig, found: JudgeAgreement) -> list[str]:
    """Write how a judge agrees with people.

    Args:
        config: Names it.
        found: What was measured.
    """
    return [
        f"judge {config.name} and people: kappa {_show(found.kappa)} over {found.kappa.n:,} pairs, "
        f"the same verdict in {_show_share(found.agreement)}; {found.turned:,} verdicts changed "
        f"with the order; what is shown first is preferred in "
        f"{_show_share(found.first_preferred)}, the longer answer in "
        f"{_show_share(found.longer_preferred)} (people: "
        f"{_show_share(found.people_longer_preferred)}){_count(found.unscored)}; "
        f"{_describe_spending(found.spent)}"
    ]


def describe_answers(config: JudgeConfig, judged: JudgedAnswers) -> list[str]:
    """Write what a judge said of two models' answers.

    Args:
        config: Names it.
        judged: What it said.
    """
    notes = [
        f"judge {config.name}: {judged.wins:,} answers better, {judged.losses:,} worse, "
        f"{judged.ties:,} alike ({judged.equal:,} the same text, {judged.turned:,} by an order "
        f"that changed the verdict); what is shown first is preferred in "
        f"{_show_share(judged.first_preferred)}{_count(judged.unscored)}; "
        f"{_describe_spending(judged.spent)}"
    ]
    if judged.itself:
        notes.append(
            f"judge {config.name} judges itself, or what was trained from it: "
            f"{', '.join(judged.itself)}. Models prefer what they would have written"
        )
    return notes


def _describe_spending(spent: JudgeSpending) -> str:
    cost = "" if spent.cost is None else f", cost {spent.cost:.2f}"
    return (
        f"{spent.asked:,} questions asked and {spent.reused:,} kept ones reused, in "
        f"{spent.requests:,} requests, {spent.input_tokens:,} tokens read and "
        f"{spent.output_tokens:,} written{cost}"
    )


def _count(unscored: Mapping[str, int]) -> str:
    listed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(unscored.items()))
    return f"; without a verdict: {listed}" if listed else ""


def _show(metric: Metric) -> str:
    if metric.value is None or metric.low is None or metric.high is None:
        return "unknown"
    return f"{metric.value:.2f} [{metric.low:.2f}, {metric.high:.2f}]"


def _show_share(metric: Metric) -> str:
    if metric.value is None or metric.low is None or metric.high is None:
        return "no share"
    return f"{metric.value:.0%} [{metric.low:.0%}, {metric.high:.0%}]"
