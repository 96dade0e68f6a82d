"""The stages of the gate: what each is given, what it reads of the recipe, and its version."""

from __future__ import annotations

from pydantic import Field

from retune.data.stages import NoSettings
from retune.recipe.sections import GateConfig
from retune.records import ChatRef, Record, SideRef
from retune.score_records import GateDecision, ModelScores
from retune.scoring.stages import Resamples, SqlDialect
from retune.spine.stage import Settings, Workdir, stage


class DecideInputs(Record):
    """Scores on the same rows: challenger, base, and the champion where there is one."""

    challenger: ModelScores
    base: ModelScores
    champion: ModelScores | None = None
    rows: SideRef | None = None
    """The held-out rows, for `gate.slices`."""
    alpha: float = 0.05
    """Level of this decision, that of the two-sided interval; 0: nothing can be promoted."""
    release_bytes: dict[str, int] = Field(default_factory=dict)
    """Size of `challenger`, `base` and `champion`, where a guard asks for it."""


class DecideSettings(Settings):
    """What a model has to show, the draws behind its intervals, and how queries are read."""

    gate: GateConfig
    resamples: Resamples
    sql_dialect: SqlDialect


@stage(DecideInputs, version=7, libraries=("numpy", "py3langid", "scipy", "sqlglot"))
def decide(inputs: DecideInputs, settings: DecideSettings, work: Workdir) -> GateDecision:
    """Say whether the challenger may become champion, and why."""
    from retune.gate.deciding import decide

    return decide(inputs, settings, work)


class ShuffleInputs(Record):
    """Chats whose held-out rows are put in another order, and which order."""

    chat: ChatRef
    seed: int


@stage(ShuffleInputs, version=1, libraries=("numpy", "pyarrow"))
def shuffle_rows(inputs: ShuffleInputs, settings: NoSettings, work: Workdir) -> ChatRef:
    """Put held-out rows in another order, so that a scorer that looks at it is found out."""
    from retune.gate.shuffling import shuffle_rows

    return shuffle_rows(inputs, work)
