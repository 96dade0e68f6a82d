"""The stage that decides: what it is given, what it reads of the recipe, and its version."""

from __future__ import annotations

from typing import Annotated

from retune.recipe.sections import GateConfig
from retune.records import GateDecision, ModelScores, Record
from retune.spine.stage import Settings, Workdir, reads, stage


class DecideInputs(Record):
    """Scores on the same rows: challenger, base, and the champion where there is one."""

    challenger: ModelScores
    base: ModelScores
    champion: ModelScores | None = None


class DecideSettings(Settings):
    """What a model has to show, and the draws behind its intervals."""

    gate: GateConfig
    resamples: Annotated[int, reads("scoring.resamples")]


@stage(DecideInputs, version=4, libraries=("numpy", "scipy"))
def decide(inputs: DecideInputs, settings: DecideSettings, work: Workdir) -> GateDecision:
    """Say whether the challenger may become champion, and why."""
    from retune.release.gate import decide

    return decide(inputs, settings, work)
