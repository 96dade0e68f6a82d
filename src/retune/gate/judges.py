"""What a judge's figure may do at the gate: nothing, where it is not shown to agree with people.

A figure in doubt is compared and shown. Where the recipe lets it decide or guard, the gate says
that it cannot, and nothing is promoted; elsewhere it refuses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from retune.recipe.sections import GateConfig
from retune.recipe.sections.judge import JUDGED, list_judged_keys
from retune.score_records import Comparison, JudgeStanding


def doubt_figures(judge: JudgeStanding | None, gate: GateConfig) -> list[str]:
    """Say why what a judge was to decide is not decided.

    Args:
        judge: What is known of it; None where there is none.
        gate: May let its figure decide or guard.

    Returns:
        A reason per setting that names its figure; none where it is believed.
    """
    doubts = judge.doubts if judge else ()
    return [
        f"{key}: the judge's figure decides nothing: {doubt}"
        for key in list_judged_keys(gate)
        for doubt in doubts
    ]


def list_believed(
    comparisons: Sequence[Comparison], judge: JudgeStanding | None, gate: GateConfig
) -> list[Comparison]:
    """Return the comparisons that may refuse.

    Args:
        comparisons: All.
        judge: What is known of the judge; None where there is none.
        gate: Names the figure that decides, which has to be shown whoever made it.
    """
    doubted = JUDGED if judge and judge.doubts and gate.metric != JUDGED else None
    return [each for each in comparisons if each.metric != doubted]
