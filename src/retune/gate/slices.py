"""The slice veto: a part of the held-out rows that is shown to be worse refuses on its own.

Each part with at least `gate.min_slice_rows` rows that both models scored is compared on the figure
that decides, by the same paired interval and test, with the champion, or with the base where there
is none. The level is 0.05 divided by the number of parts that are tested, over all of
`gate.slices` (Bonferroni): of a challenger that is nowhere worse, at most one in twenty is refused
by any of them. Where macro F1 decides, parts are compared on accuracy: a part of one class has no
F1 that says anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from retune.gate.describing import describe
from retune.gate.pairing import compare_rows, gain_by_row, pair_rows
from retune.gate.parts import part_rows
from retune.gate.stages import DecideInputs, DecideSettings
from retune.recipe.sections import GateConfig
from retune.score_records import PairedDifference, SliceFinding, SmallSlice
from retune.scoring.figures import figure_of
from retune.scoring.showing import label_of
from retune.scoring.uncertainty.resampling import ALPHA

_FIRST = 5


@dataclass(frozen=True)
class SliceVerdicts:
    """What the parts of the rows say.

    Attributes:
        tested: Parts with rows enough.
        small: The others.
        refusals: Why they forbid promotion.
    """

    tested: tuple[SliceFinding, ...] = ()
    small: tuple[SmallSlice, ...] = ()
    refusals: tuple[str, ...] = ()


class _Part(NamedTuple):
    by: str
    name: str
    ids: frozenset[str]


def judge_slices(
    inputs: DecideInputs, gate: GateConfig, settings: DecideSettings, seed: int
) -> SliceVerdicts:
    """Compare every part of the rows that is large enough.

    Args:
        inputs: Scores and rows.
        gate: Says how rows are parted; its metric is named.
        settings: Bootstrap draws, and the dialect of queries.
        seed: Of the draws.

    Returns:
        What was tested, what was too small, and why it refuses.

    Raises:
        ScoringError: Two reports are not over the same rows.
    """
    if not gate.slices:
        return SliceVerdicts()
    against: Literal["base", "champion"] = "base" if inputs.champion is None else "champion"
    opponent = inputs.champion or inputs.base
    metric = figure_of_parts(str(gate.metric))
    ours, theirs = inputs.challenger.report_of(metric), opponent.report_of(metric)
    if inputs.rows is None or ours is None or theirs is None:
        told = label_of(metric)
        why = f"gate.slices: {told} could not be compared with the {against} by parts"
        return SliceVerdicts(refusals=(why,))
    by_slice = part_rows(inputs.rows, gate.slices, settings.sql_dialect)
    # Read once: there may be as many parts as databases.
    rows = pair_rows(metric, ours, theirs)
    gains = gain_by_row(metric, rows)
    parts = [
        _Part(by, name, ids & gains.keys())
        for by, found in by_slice.items()
        for name, ids in found.items()
    ]
    large = [part for part in parts if len(part.ids) >= gate.min_slice_rows]
    tested = []
    for part in large:
        paired = compare_rows(
            metric,
            rows,
            settings.resamples,
            ALPHA / len(large),
            only=part.ids,
            seed=seed,
        )
        tested.append(_describe_part(part, metric, against, paired, gains))
    absent = [f"gate.slices: no held-out row has a {by}" for by in gate.slices if not by_slice[by]]
    return SliceVerdicts(
        tested=tuple(tested),
        small=tuple(
            SmallSlice(by=part.by, part=part.name, rows=len(part.ids))
            for part in parts
            if len(part.ids) < gate.min_slice_rows
        ),
        refusals=(*absent, *(_refusal_of(each) for each in tested if each.refuses)),
    )


def figure_of_parts(metric: str) -> str:
    """Return what parts of the rows are compared on where a figure decides.

    Args:
        metric: What decides.
    """
    return "accuracy" if figure_of(metric).statistic == "macro_f1" else metric


def _describe_part(
    part: _Part,
    metric: str,
    against: Literal["base", "champion"],
    paired: PairedDifference,
    gains: Mapping[str, float],
) -> SliceFinding:
    lost = [row for row, gain in gains.items() if row in part.ids and gain < 0]
    return SliceFinding(
        **paired.model_dump(),
        metric=metric,
        by=part.by,
        part=part.name,
        against=against,
        rows=len(part.ids),
        # So few groups show nothing, but a loss on the very rows at hand shall not go unseen.
        refuses=paired.verdict == "worse" or paired.worse_on_rows,
        lost=len(lost),
        first=tuple(lost[:_FIRST]),
    )


def _refusal_of(found: SliceFinding) -> str:
    more = " ..." if found.lost > len(found.first) else ""
    return (
        f"{found.by} {found.part}: worse than the {found.against}: "
        f"{describe(found, found.against)} (level {found.alpha:.2g}); worse on {found.lost} of "
        f"them: {', '.join(found.first)}{more}"
    )
