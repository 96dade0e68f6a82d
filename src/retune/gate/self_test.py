"""The gate against itself: a model and a second scoring of the same model must never be promoted.

The second scoring is of the same rows in another order and in batches of another size. A scorer, an
interval or a test that looks at either, or a bootstrap whose draws decide, would now and then find
a gain that is not there. A flip is a draw in which the deciding figure is accepted, whatever else
would have refused; a veto is one in which another figure, or a part of the rows, is called worse.

It is taken at the largest level that a decision can have, twice `gate.error` (the whole of it to
one side, as where `gate.decisions_per_test_set` is 1), and with no loss accepted: below a
`gate.min_gain` of 0 an equal model is promoted on purpose.
"""

from __future__ import annotations

import math

from retune.gate.deciding import choose_metric, compare, refusal_of
from retune.gate.pairing import Row, pair_rows
from retune.gate.slices import judge_slices
from retune.gate.stages import DecideInputs, DecideSettings
from retune.recipe.sections import GateConfig
from retune.records import Record, SideRef
from retune.score_records import ModelScores
from retune.scoring.figures import all_figures, figure_of
from retune.scoring.uncertainty.resampling import SEED

_SIDES = 2
_ROUNDING = 1e-4
"""Another batch adds floats in another order."""


class FlipCount(Record):
    """How often a gate that should do nothing did something."""

    against: str
    """`itself`, or `copy`."""
    draws: int
    flips: int
    """Draws in which the deciding figure was accepted."""
    vetoes: int
    """Draws in which something was called worse."""


class ScoringDifference(Record):
    """A figure of two scorings of one model."""

    metric: str
    first: float | None
    second: float | None
    rows: int
    """Rows whose outcomes differ, or whose losses by more than a ten-thousandth."""

    @property
    def apart(self) -> float | None:
        """How far the two are apart; None where one could not be scored."""
        if self.first is None or self.second is None:
            return None
        return abs(self.second - self.first)


class SelfTest(Record):
    """What became of a model against itself."""

    model: str
    metric: str
    alpha: float
    rows: int
    counts: tuple[FlipCount, ...]
    differences: tuple[ScoringDifference, ...]

    @property
    def flips(self) -> int:
        """Draws in which the same model would have been promoted."""
        return sum(each.flips for each in self.counts)


def run_self_test(
    model: str,
    first: ModelScores,
    second: ModelScores,
    rows: SideRef,
    settings: DecideSettings,
    draws: int,
) -> SelfTest:
    """Let the gate judge two scorings of one model, by many draws.

    Args:
        model: Which, for people.
        first: Its scores.
        second: The same, over the rows in another order and other batches.
        rows: The held-out rows.
        settings: The gate's.
        draws: Bootstrap seeds.

    Returns:
        How often it would have flipped, and how far the two scorings are apart.

    Raises:
        ScoringError: The two are not over the same rows.
    """
    gate = settings.gate
    if gate.metric is not None and figure_of(gate.metric).of_pairs:
        # A model is not shown beside itself: the rows choose what is tested.
        gate = gate.model_copy(update={"metric": None})
    metric, _ = choose_metric(gate, DecideInputs(challenger=first, base=first))
    gate = gate.model_copy(update={"metric": metric, "min_gain": max(0.0, gate.min_gain)})
    strict = settings.model_copy(update={"gate": gate})
    counts = [
        _count_flips(name, challenger, first, rows, strict, draws)
        for name, challenger in (("itself", first), ("copy", second))
    ]
    report = first.report_of(metric)
    return SelfTest(
        model=model,
        metric=metric,
        alpha=_SIDES * gate.error,
        rows=report.rows if report else 0,
        counts=tuple(counts),
        differences=tuple(_list_differences(first, second)),
    )


def _count_flips(
    name: str,
    challenger: ModelScores,
    opponent: ModelScores,
    rows: SideRef,
    settings: DecideSettings,
    draws: int,
) -> FlipCount:
    gate, flips, vetoes = settings.gate, 0, 0
    alpha = _SIDES * gate.error
    inputs = DecideInputs(challenger=challenger, base=opponent, rows=rows, alpha=alpha)
    for seed in range(SEED, SEED + draws):
        levels = {str(gate.metric): alpha}
        found = compare(challenger, opponent, "base", settings.resamples, levels=levels, seed=seed)
        deciding = [each for each in found if each.metric == gate.metric]
        others = [each for each in found if each.metric != gate.metric]
        flips += any(refusal_of(each, gate) is None for each in deciding)
        parts = judge_slices(inputs, gate, settings, seed)
        worse = any(_calls_worse(each.verdict, each.worse_on_rows) for each in others)
        vetoes += worse or any(each.refuses for each in parts.tested)
    return FlipCount(against=name, draws=draws, flips=flips, vetoes=vetoes)


def _calls_worse(verdict: str, worse_on_rows: bool) -> bool:
    return verdict == "worse" or worse_on_rows


def _list_differences(first: ModelScores, second: ModelScores) -> list[ScoringDifference]:
    found = []
    for figure in all_figures(first.metrics()):
        ours, theirs = first.report_of(figure.name), second.report_of(figure.name)
        if figure.over is None or ours is None or theirs is None:
            continue
        columns = [*figure.columns] or [figure.name]
        if figure.statistic == "macro_f1":
            columns = ["predicted"]
        pairs = zip(*pair_rows(figure.name, ours, theirs), strict=True)
        found.append(
            ScoringDifference(
                metric=figure.name,
                first=ours.metrics[figure.name].value,
                second=theirs.metrics[figure.name].value,
                rows=sum(_differ(one, other, columns) for one, other in pairs),
            )
        )
    return found


def _differ(one: Row, other: Row, columns: list[str]) -> bool:
    return any(not _alike(one[name], other[name]) for name in columns)


def _alike(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_ROUNDING)
    return one == other


def describe_gate(gate: GateConfig) -> str:
    """Say what a self-test is taken at, where that is not what the recipe says."""
    if gate.min_gain >= 0:
        return ""
    return (
        f"gate.min_gain is {gate.min_gain:g}, by which an equal model is promoted on purpose: "
        "tested with 0"
    )
