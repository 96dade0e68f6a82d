"""Counting flips on the same rows; the package says what is computed."""

from __future__ import annotations

from collections.abc import Sequence

from retune.errors import ScoringError
from retune.records import Record
from retune.score_records import Metric
from retune.scoring.uncertainty.estimates import estimate_rate
from retune.scoring.uncertainty.resampling import RESAMPLES

Outcome = bool | str | None
"""Passed or not, or what was answered (a label, a result); None where it could not be scored."""


class Trial(Record):
    """One row before and after one change."""

    row_id: str
    group: str | None = None
    """What the row shares with others; None stands for itself."""

    kind: str
    text: str
    perturbed: str
    before: Outcome
    after: Outcome

    @property
    def changed(self) -> bool:
        """Whether the text became another one."""
        return self.text != self.perturbed


class KindFlips(Record):
    """What one kind of change did."""

    flip_rate: Metric
    broke: int
    """Yes/no outcomes that were yes before and no after."""

    mended: int
    """Yes/no outcomes that were no before and yes after."""

    unchanged: int
    """Rows that the change left as they were; not in the rate."""

    unscored: int
    """Changed rows without an outcome before or after; not in the rate."""


class FlipScores(Record):
    """Flips over all and by kind."""

    estimates: dict[str, Metric]
    """`flip_rate` over all kinds, clustered by group, or by row where it has none."""

    by_kind: dict[str, KindFlips]


def score_flips(
    trials: Sequence[Trial],
    *,
    kinds: Sequence[str] = (),
    resamples: int = RESAMPLES,
) -> FlipScores:
    """Count how often a change of the text turned the outcome.

    Args:
        trials: Rows before and after, each row at most once for each kind.
        kinds: Kinds that are reported even when no trial has them.
        resamples: Bootstrap draws.

    Returns:
        Flip rates, None where no changed row was scored.

    Raises:
        ScoringError: A row occurs twice for a kind, or its outcomes are of two types.
    """
    _check(trials)
    by_kind = {
        kind: _count([trial for trial in trials if trial.kind == kind], resamples)
        for kind in dict.fromkeys([*kinds, *(trial.kind for trial in trials)])
    }
    overall = estimate_rate(
        [_flipped(trial) for trial in trials],
        groups=_name_units(trials),
        resamples=resamples,
    )
    return FlipScores(estimates={"flip_rate": overall}, by_kind=by_kind)


def _name_units(trials: Sequence[Trial]) -> list[str]:
    """Name what is independent: a group, or a row of its own with all kinds of change.

    Where all rows share one group, rows are: the figure speaks of that group alone.
    """
    alone = len({trial.group for trial in trials}) == 1
    return [
        f"row {trial.row_id}" if alone or trial.group is None else f"group {trial.group}"
        for trial in trials
    ]


def _count(trials: Sequence[Trial], resamples: int) -> KindFlips:
    changed = [trial for trial in trials if trial.changed]
    flips = [_flipped(trial) for trial in changed]
    turns = [(trial.before, trial.after) for trial in changed]
    return KindFlips(
        flip_rate=estimate_rate(flips, groups=_name_units(changed), resamples=resamples),
        broke=turns.count((True, False)),
        mended=turns.count((False, True)),
        unchanged=len(trials) - len(changed),
        unscored=flips.count(None),
    )


def _flipped(trial: Trial) -> bool | None:
    if not trial.changed or trial.before is None or trial.after is None:
        return None
    return trial.before != trial.after


def _check(trials: Sequence[Trial]) -> None:
    seen: set[tuple[str, str]] = set()
    for trial in trials:
        key = (trial.row_id, trial.kind)
        outcomes = (trial.before, trial.after)
        if key in seen:
            raise ScoringError(
                f"Found the row {trial.row_id!r} twice for {trial.kind!r}; expected each row once "
                "for each kind of change."
            )
        if None not in outcomes and type(outcomes[0]) is not type(outcomes[1]):
            raise ScoringError(
                f"Found the outcomes {outcomes!r} of row {trial.row_id!r}; expected two of one "
                "type (both yes/no, or both text)."
            )
        seen.add(key)
