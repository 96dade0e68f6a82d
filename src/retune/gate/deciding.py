"""The gate: a challenger becomes champion only when it is shown to be better, and nothing worse.

It is compared with the base and, where there is one, with the champion, on the same rows, by the
paired interval of the gain and the paired test (`retune.scoring.uncertainty`). One figure has to
gain, at the level of this decision; guards have to be shown to hold, at the same level; no other
figure, and no part of the rows, may be shown to be worse, at the usual 0.05, which a smaller level
would only make more lenient. "Undecided" is an answer, and not a yes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from retune.digests import digest_json
from retune.gate.bounds import list_unmet_bounds
from retune.gate.describing import describe
from retune.gate.guards import check_guards, refusal_of_guard
from retune.gate.judges import doubt_figures, list_believed
from retune.gate.pairing import count_same_tokens, pair_metric
from retune.gate.slices import judge_slices
from retune.gate.stages import DecideInputs, DecideSettings
from retune.recipe.sections import GateConfig
from retune.score_records import Comparison, GateDecision, ModelScores
from retune.scoring.figures import all_figures, figure_of, figure_that_decides
from retune.scoring.showing import label_of
from retune.scoring.uncertainty.exchanging import fewest_units
from retune.scoring.uncertainty.resampling import ALPHA, SEED, count_units
from retune.spine.stage import Workdir

Opponent = Literal["base", "champion"]

FORGETTING = "general_text_bits_per_byte"
"""Fine-tuning nearly always costs some of it, so it is bounded by a setting and not by zero."""
WORN = (
    "the held-out rows are worn out: their decisions have spent gate.error. `retune check` says "
    "how many fresh rows to hold out (data.test, or split.test_fraction and split.max_test_rows), "
    "or cases to write where a figure over probes decides"
)
PER_TEXT = "bits_per_byte"
"""What decides in place of perplexity between models with other tokens."""


def decide(
    inputs: DecideInputs, settings: DecideSettings, work: Workdir, *, seed: int = SEED
) -> GateDecision:
    """Say whether the challenger may become champion, and why.

    Args:
        inputs: Scores, rows, and the level of the decision: 0 where the rows are worn out, so that
            nothing can be promoted; figures are then compared at 0.05 to be told.
        settings: What has to be shown.
        work: Unused; the decision is its record.
        seed: Of all draws.

    Returns:
        The decision with every comparison and all reasons.

    Raises:
        ScoringError: Two reports are not over the same rows.
    """
    inputs, other_forms = _without_other_forms(inputs)
    spent_level, worn = inputs.alpha, inputs.alpha <= 0
    if worn:
        inputs = inputs.model_copy(update={"alpha": ALPHA})
    metric, notes = choose_metric(settings.gate, inputs)
    gate = settings.gate.model_copy(update={"metric": metric})
    levels = {metric: inputs.alpha}
    comparisons = [
        each
        for against, opponent in list_opponents(inputs).items()
        for each in compare(
            inputs.challenger,
            opponent,
            against,
            settings.resamples,
            levels=levels,
            loss_accepted=gate.min_gain < 0,
            seed=seed,
        )
    ]
    guards = check_guards(inputs, gate, settings.resamples, seed)
    parts = judge_slices(inputs, gate, settings, seed)
    doubted = doubt_figures(inputs.challenger.judge, gate)
    refusals = [
        *([WORN] if worn else []),
        *doubted,
        *list_unmet_bounds(inputs.challenger, gate),
        *_uncompared(comparisons, inputs, gate, other_forms),
        *_left_unscored([*comparisons, *guards], inputs, gate),
        *(
            r
            for c in list_believed(comparisons, inputs.challenger.judge, gate)
            if (r := refusal_of(c, gate)) is not None
        ),
        *(r for g in guards if (r := refusal_of_guard(g)) is not None),
        *parts.refusals,
    ]
    gains = [describe(c, c.against) for c in comparisons if c.metric == gate.metric]
    body: dict[str, Any] = {
        "promote": not refusals,
        "reasons": tuple(refusals or gains),
        "comparisons": tuple(comparisons),
        "metric": metric,
        "alpha": spent_level,
        "guards": guards,
        "slices": parts.tested,
        "small_slices": parts.small,
        "notes": (*notes, *(judge.notes if (judge := inputs.challenger.judge) else ())),
    }
    plain = GateDecision(digest="", **body).model_dump(mode="json")
    return GateDecision(digest=digest_json(plain), **body)


def compare(
    challenger: ModelScores,
    opponent: ModelScores,
    against: Opponent,
    resamples: int,
    *,
    levels: Mapping[str, float] | None = None,
    loss_accepted: bool = False,
    seed: int = SEED,
) -> list[Comparison]:
    """Compare two models metric by metric on the rows that both scored.

    Figures per token are left out where the two part texts into other tokens.

    Args:
        challenger: The tuned model's scores.
        opponent: The other's, on the same rows.
        against: Who the other is.
        resamples: Bootstrap draws.
        levels: Figures that are compared at another level than 0.05.
        loss_accepted: Whether the intervals of these are held against a loss that is accepted.
        seed: Of the draws.

    Returns:
        One comparison per figure that is compared; differences are challenger minus opponent.

    Raises:
        ScoringError: The reports are not over the same rows.
    """
    found = []
    same_tokens = count_same_tokens(challenger, opponent)
    for figure in all_figures(challenger.metrics()):
        if not figure.over or figure.guards_only or (figure.per_token and not same_tokens):
            continue
        ours, theirs = challenger.report_of(figure.name), opponent.report_of(figure.name)
        if ours is not None and theirs is not None:
            paired = pair_metric(
                figure.name,
                ours,
                theirs,
                resamples,
                (levels or {}).get(figure.name, ALPHA),
                against_margin=loss_accepted and figure.name in (levels or {}),
                seed=seed,
            )
            found.append(Comparison(metric=figure.name, against=against, **paired.model_dump()))
    return found


def list_opponents(inputs: DecideInputs) -> dict[Opponent, ModelScores]:
    """Return whom the challenger has to beat: the base, and the champion where there is one."""
    found: dict[Opponent, ModelScores] = {"base": inputs.base}
    if inputs.champion is not None:
        found["champion"] = inputs.champion
    return found


def choose_metric(gate: GateConfig, inputs: DecideInputs) -> tuple[str, tuple[str, ...]]:
    """Name the figure that decides, and say so where it is another than usual.

    Args:
        gate: May name it.
        inputs: The scores.

    Returns:
        The figure, and what has to be known of that choice.

    Raises:
        ScoringError: The reports are not over the same rows.
    """
    metric = deciding_metric(gate, inputs.challenger)
    champion = inputs.champion
    if champion is None or count_same_tokens(inputs.challenger, champion):
        return metric, ()
    said = "the champion reads other tokens, so that perplexity cannot be compared with it"
    if not figure_of(metric).per_token:
        return metric, (said,)
    if gate.metric is not None:
        return metric, (f"{said}; name gate.metric: {PER_TEXT}",)
    return PER_TEXT, (f"{said}: {PER_TEXT} decides",)


def deciding_metric(gate: GateConfig, scores: ModelScores) -> str:
    """Name the figure that decides: that of the recipe, or the first that the rows have.

    Args:
        gate: May name it.
        scores: Of a model on the rows.
    """
    return gate.metric or figure_that_decides(lambda each: scores.report_of(each.name) is not None)


def _without_other_forms(inputs: DecideInputs) -> tuple[DecideInputs, dict[str, str]]:
    """Take out the figures of opponents that were scored in another form than the challenger.

    Returns:
        The inputs, and what is said of those opponents.
    """
    own = inputs.challenger.form
    empty: dict[str, Any] = {}
    said: dict[str, str] = {}
    for name, each in list_opponents(inputs).items():
        if each.form != own:
            empty[name] = each.model_copy(update={"reports": {}})
            said[name] = f"which was scored as {each.form}, and the challenger as {own}"
    return inputs.model_copy(update=empty), said


def _uncompared(
    comparisons: Sequence[Comparison],
    inputs: DecideInputs,
    gate: GateConfig,
    other_forms: Mapping[str, str],
) -> list[str]:
    """Name the opponents that lack the gate's metric: nothing is shown against them."""
    compared = {c.against for c in comparisons if c.metric == gate.metric}
    label = label_of(str(gate.metric))
    opponents = list(list_opponents(inputs))
    if figure_of(str(gate.metric)).of_pairs:
        # Answers are compared with those of what stands alone.
        opponents = opponents[-1:]
    return [
        f"{label} could not be compared with the {name}, "
        f"{other_forms.get(name, 'which has no such score')}"
        for name in opponents
        if name not in compared
    ]


def _left_unscored(
    compared: Sequence[Comparison], inputs: DecideInputs, gate: GateConfig
) -> list[str]:
    """Name other figures that the challenger lacks where the opponent has them.

    What it could not be scored on is in no comparison: a model that fails at nearly all cases
    because they do not fit into its context would be compared on the few that do.
    """
    ours, opponents = inputs.challenger.metrics(), list_opponents(inputs)
    found = {}
    for each in compared:
        theirs = opponents[each.against].metrics()
        if each.metric == gate.metric or each.metric not in ours or each.metric not in theirs:
            continue
        scored, wanted = ours[each.metric].n, theirs[each.metric].n
        if scored < (1 - gate.max_unscored_fraction) * wanted:
            found[each.metric, each.against] = (
                f"{label_of(each.metric)} was scored {scored} times, and {wanted} times of the "
                f"{each.against}; gate.max_unscored_fraction allows "
                f"{gate.max_unscored_fraction:.1%} fewer"
            )
    return list(found.values())


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
    against, said = comparison.against, describe(comparison, comparison.against)
    if comparison.metric == FORGETTING:
        return _forgot_too_much(comparison, gate.max_forgetting_bits)
    if comparison.metric != gate.metric:
        if comparison.verdict == "worse":
            return f"worse than the {against}: {said}"
        if comparison.worse_on_rows:
            return (
                f"worse than the {against} on the rows at hand, whose groups are too few to say "
                f"more: {said}"
            )
        return None
    if comparison.difference is not None and comparison.n < gate.min_rows:
        return (
            f"only {comparison.n} rows compare {label_of(comparison.metric)} with the {against}, "
            f"under gate.min_rows {gate.min_rows}"
        )
    gain = _smallest_gain(comparison)
    shown = _is_enough(comparison) if gate.min_gain < 0 else comparison.verdict == "better"
    if gain is not None and gain > gate.min_gain and shown:
        return None
    return (
        f"not shown to be better than the {against} by more than gate.min_gain "
        f"{gate.min_gain:g}: {said}"
    )


def _is_enough(comparison: Comparison) -> bool:
    """Tell whether there are as many rows or groups as any test needs to decide at all."""
    return count_units(comparison.n, comparison.groups) >= fewest_units(comparison.alpha)


def _forgot_too_much(comparison: Comparison, bound: float | None) -> str | None:
    if bound is None or comparison.against != "base":
        return None
    if comparison.high is not None and comparison.high <= bound and _is_enough(comparison):
        return None
    return (
        f"not shown to have kept general text within gate.max_forgetting_bits {bound:g} bits per "
        f"byte: {describe(comparison, comparison.against)}"
    )


def _smallest_gain(comparison: Comparison) -> float | None:
    """Return the end of the interval that is worst for the challenger, as a gain."""
    if not figure_of(comparison.metric).lower_is_better:
        return comparison.low
    return None if comparison.high is None else -comparison.high
